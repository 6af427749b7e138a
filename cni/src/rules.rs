//! The rule text: from configuration and pods to `nft -f -` transactions, as pure functions.
//!
//! The node guard is two tables that nobody else uses, both on the host side of the pod's veth:
//!
//! - `inet egress_warden` judges what is routed. `prerouting` refuses source addresses that
//!   are not the pod's own, `forward` and `input` judge the destination after DNAT.
//! - `bridge egress_warden` does the same for veths that are bridge ports, where the routed
//!   hooks see only the bridge's name (source check) and never see port-to-port frames
//!   (lateral check).
//!
//! Packets are attributed to a pod by set look-ups keyed by veth and by address, never by a
//! rule per pod, so a packet costs the same with one pod and with five thousand. Drop
//! counters and log limits are expressions inside set elements for the same reason.
//!
//! INVARIANT: after the source check an address in `pod4`/`pod6`/`gateway_pod*` proves which
//! pod sent the packet, which is what lets the routed hooks work behind a bridge.

mod chains;
mod destinations;
mod elements;
mod intervals;
mod listing;

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::attachment::{Attachment, GuardMode, UdpGrant};
use crate::config::NodeConfig;

pub(crate) use chains::{RATE_SETS, count_over};
pub use destinations::{Endpoint, GRANT_SETS, ServiceEndpoints, destination_sets};
pub use elements::{Element, ElementKey, Family, counted, elements};
pub(crate) use listing::parse_rate;
pub use listing::{Counted, own_table, parse_counters, parse_listing, set_elements};

/// The name of both tables.
pub const TABLE: &str = "egress_warden";

/// The nflog group that carries refused packets.
pub const NFLOG_GROUP: u16 = 4217;

/// Bytes of each refused packet that are logged: every header that is read, no payload worth
/// the name.
pub const NFLOG_SNAPLEN: u32 = 128;

/// A pod interface and how the rules treat it.
#[derive(Debug, Clone)]
pub struct GuardedInterface<'a> {
    /// The interface.
    pub attachment: &'a Attachment,
    /// How it is treated.
    pub mode: GuardMode,
}

/// One transaction that (re)writes all rules and all configured destinations and leaves the
/// elements of pods, and so their counters, as they are.
#[must_use]
pub fn refresh(config: &NodeConfig, followed: &ServiceEndpoints) -> String {
    let mut text = String::with_capacity(16 * 1024);
    chains::declare(&mut text, config.gateway_limits());
    for family in Family::ALL {
        let _ = writeln!(text, "flush table {family} {TABLE}");
    }
    chains::rules(&mut text, config.mode, config.gateway_limits());
    destinations::fill(&mut text, config, followed);
    text
}

/// One transaction that replaces both tables, pods included. Counters start again.
#[must_use]
pub fn rebuild(
    config: &NodeConfig,
    followed: &ServiceEndpoints,
    pods: &[GuardedInterface<'_>],
) -> String {
    let grants: Vec<(IpAddr, UdpGrant)> = pods
        .iter()
        .flat_map(|pod| grants_of(pod.attachment, &pod.mode))
        .collect();
    let mut text = String::with_capacity(16 * 1024 + pods.len() * 1024);
    for family in Family::ALL {
        let _ = writeln!(
            text,
            "add table {family} {TABLE}\ndelete table {family} {TABLE}"
        );
    }
    chains::declare(&mut text, config.gateway_limits());
    chains::rules(&mut text, config.mode, config.gateway_limits());
    destinations::fill(&mut text, config, followed);
    for pod in pods {
        add(&mut text, &elements(pod.attachment, &pod.mode));
    }
    destinations::fill_udp(&mut text, &grants);
    text
}

/// Whether the structure of both tables declares nothing but the node guard's own.
#[must_use]
pub fn only_ours(structure: &str) -> bool {
    chains::only_ours(structure)
}

/// Lines that write every set of destinations anew.
pub fn replace_destinations(text: &mut String, config: &NodeConfig, followed: &ServiceEndpoints) {
    destinations::fill(text, config, followed);
}

/// Lines that replace the UDP grants of all pods by `grants` (source address and grant).
pub fn replace_grants(text: &mut String, grants: &[(IpAddr, UdpGrant)]) {
    destinations::fill_udp(text, grants);
}

/// The UDP grants of one pod interface, for each of its addresses.
#[must_use]
pub fn grants_of(attachment: &Attachment, mode: &GuardMode) -> Vec<(IpAddr, UdpGrant)> {
    let GuardMode::Guarded { udp, .. } = mode else {
        return Vec::new();
    };
    let each = |address: &IpAddr| {
        udp.iter()
            .map(|grant| (*address, grant.clone()))
            .collect::<Vec<_>>()
    };
    attachment.addresses.iter().flat_map(each).collect()
}

/// Lines that add `elements`; adding what is already there changes nothing.
pub fn add(text: &mut String, elements: &[Element]) {
    for element in elements {
        let _ = writeln!(text, "add element {element}");
    }
}

/// Lines that delete `elements`; what is already gone is added first within the same
/// transaction, because nftables refuses to delete what is not there.
pub fn delete(text: &mut String, elements: &[Element]) {
    for element in elements {
        let _ = writeln!(text, "add element {element}\ndelete element {element}");
    }
}

/// A configuration with every field, for golden files.
#[cfg(test)]
pub(crate) const EXAMPLE: &str = r#"{
  "exemptNamespaces": ["kube-system"],
  "countOnlyNamespaces": ["rolling-out"],
  "clusterNetworks": ["10.244.0.0/16", "fd00:10:244::/56"],
  "serviceNetworks": ["10.96.0.0/12", "fd00:10:96::/112"],
  "dns": {"addresses": ["169.254.20.10"], "services": ["kube-system/kube-dns"]},
  "reach": [{"networks": ["203.0.113.100/32"], "protocol": "TCP", "ports": [6443]}],
  "gateway": {
    "namespace": "istio-egress", "serviceAccount": "egressgateway",
    "services": ["istio-egress/egressgateway"], "ports": [8443, "15443-15445"],
    "reach": [{"networks": ["10.20.0.0/16"], "protocol": "TCP", "ports": [443]}],
    "reachServices": ["istio-system/istiod"]
  },
  "udpExceptions": [{
    "name": "ntp", "namespaces": ["clock"], "matchLabels": {"app": "chrony"},
    "networks": ["192.0.2.123/32", "2001:db8::123/128"], "ports": [123]
  }]
}"#;

#[cfg(test)]
mod tests;
