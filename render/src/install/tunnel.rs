//! The tunnels between sidecars and the gateway.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

/// How sidecars ask the gateway's tunnel port.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Tunnel {
    /// What tunnels are asked for by where no exception says otherwise.
    pub framing: Framing,
    /// Ports and networks with the other framing. The first that matches holds.
    pub exceptions: Vec<Exception>,
    /// MiB that a sidecar takes of one HTTP/2 tunnel ahead of its application; of all tunnels of a
    /// connection together four times as much. What of a download is still on its way when the
    /// server closes, and fits, arrives.
    #[serde(rename = "windowMiB")]
    pub window_mib: u32,
    /// How applications are told the addresses of names over opaque TCP. Left out, such names have
    /// none, and rules that take them match nothing that comes through a sidecar.
    pub names: Option<Names>,
    /// Where those addresses are. Nothing else may have them; Istio's own allocation takes
    /// 240.240.0.0/16 (`PILOT_IP_AUTOALLOCATE_IPV4_PREFIX`).
    pub name_range: Ipv4Net,
    /// Names that keep an address, whatever the others are. `--history` adds those of the newest
    /// render.
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

/// How an application that asks for a name over opaque TCP hears its address.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Names {
    /// From its sidecar's agent, which answers what it asks (Istio's `ISTIO_META_DNS_CAPTURE`).
    #[serde(rename = "DNSCapture")]
    DnsCapture,
    /// From the cluster's DNS, which is given `warden render --coredns-zone`.
    Zone,
}

/// How a tunnel is framed between sidecar and gateway. Each loses something: `docs/evidence/envoy.md`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Framing {
    /// A stream of an HTTP/2 connection that a sidecar's tunnels share (RFC 9113, section 8.5).
    #[default]
    #[serde(rename = "HTTP2")]
    Http2,
    /// A connection of its own (RFC 9110, section 9.3.6).
    #[serde(rename = "HTTP1")]
    Http1,
}

/// Destinations whose tunnels have a framing of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Exception {
    /// Their framing.
    pub framing: Framing,
    /// Ports; every port if left out.
    #[serde(default)]
    pub ports: Vec<Ports>,
    /// Dialled addresses; every address if left out.
    #[serde(default)]
    pub networks: Vec<IpNet>,
    /// Names over opaque TCP, instead of networks.
    #[serde(default)]
    pub domain_names: Vec<String>,
}

/// A port, or `FIRST-LAST`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
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

#[derive(Deserialize)]
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
