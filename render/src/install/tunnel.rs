//! The tunnels between sidecars and the gateway.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How sidecars tunnel TCP and TLS to the gateway.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Tunnel {
    /// The HTTP version of tunnels without an exception.
    pub framing: Framing,
    /// Destinations whose tunnels use the other HTTP version. The first match applies.
    pub exceptions: Vec<Exception>,
    /// MiB that a sidecar buffers for one HTTP/2 tunnel, and a quarter of what it buffers for all
    /// tunnels of a connection. When a server closes, the rest of a download arrives only if it fits.
    #[serde(rename = "windowMiB")]
    pub window_mib: u32,
    /// How applications learn the addresses that stand for names over opaque TCP. By default such
    /// names have no address, and rules for them match nothing that comes through a sidecar.
    pub names: Option<Names>,
    /// The range of those addresses. Nothing else may use it. Istio's own allocation uses
    /// 240.240.0.0/16 (`PILOT_IP_AUTOALLOCATE_IPV4_PREFIX`).
    #[schemars(with = "String")]
    pub name_range: Ipv4Net,
    /// Fixed addresses for names. `warden render --history` adds those of the newest rendering.
    #[schemars(with = "BTreeMap<String, String>")]
    pub name_addresses: BTreeMap<String, Ipv4Addr>,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            framing: Framing::default(),
            exceptions: Vec::new(),
            window_mib: 64,
            names: None,
            name_range: Ipv4Net::new_assert(Ipv4Addr::new(240, 241, 0, 0), 16),
            name_addresses: BTreeMap::new(),
        }
    }
}

/// How an application that asks for a name over opaque TCP learns its address.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Names {
    /// From its sidecar's DNS proxy (Istio's `ISTIO_META_DNS_CAPTURE`).
    #[serde(rename = "DNSCapture")]
    DnsCapture,
    /// From the cluster's DNS, with the zone that `warden render --coredns-zone` prints.
    Zone,
}

/// The HTTP version of a tunnel between sidecar and gateway.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Framing {
    /// A stream of an HTTP/2 connection that tunnels share (RFC 9113, section 8.5).
    #[default]
    #[serde(rename = "HTTP2")]
    Http2,
    /// One HTTP/1.1 connection per tunnel (RFC 9110, section 9.3.6).
    #[serde(rename = "HTTP1")]
    Http1,
}

/// Destinations whose tunnels use another HTTP version.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Exception {
    /// Their HTTP version.
    pub framing: Framing,
    /// Ports. An empty list matches every port.
    #[serde(default)]
    pub ports: Vec<Ports>,
    /// Networks of dialled addresses. An empty list matches every address.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub networks: Vec<IpNet>,
    /// Names over opaque TCP, instead of networks.
    #[serde(default)]
    pub domain_names: Vec<String>,
}

/// A port, or `FIRST-LAST`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(try_from = "OneOrRange")]
pub struct Ports(RangeInclusive<u16>);

impl Ports {
    /// The first one.
    #[must_use]
    pub fn first(&self) -> u16 {
        *self.0.start()
    }

    /// The last one.
    #[must_use]
    pub fn last(&self) -> u16 {
        *self.0.end()
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrRange {
    One(u16),
    Range(String),
}

impl TryFrom<OneOrRange> for Ports {
    type Error = String;

    fn try_from(written: OneOrRange) -> Result<Self, Self::Error> {
        let range = match &written {
            OneOrRange::One(port) => Some((*port, *port)),
            OneOrRange::Range(text) => text.split_once('-').and_then(|(first, last)| {
                Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
            }),
        };
        match range {
            Some((first, last)) if first > 0 && first <= last => Ok(Self(first..=last)),
            _ => Err("expected a port from 1 to 65535, or \"FIRST-LAST\"".to_owned()),
        }
    }
}

impl Tunnel {
    /// Whether any tunnel has this framing.
    pub(crate) fn has(&self, framing: Framing) -> bool {
        let exceptions = self.exceptions.iter().map(|exception| exception.framing);
        exceptions
            .chain([self.framing])
            .any(|known| known == framing)
    }
}
