//! The configured and followed destinations as set elements.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use egress_policy::address::{Environment, metadata};
use egress_policy::classes::AddressClass;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Family, TABLE, intervals};
use crate::attachment::UdpGrant;
use crate::config::{NodeConfig, PortRange, Protocol, Reach};

/// One endpoint of a followed Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The endpoint's own address, as packets carry it after DNAT.
    pub address: IpAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port the endpoint listens on.
    pub port: u16,
}

/// What the agent learns from `EndpointSlices`; kept on the node so that the plugin can
/// restore the rules while the agent is away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceEndpoints {
    /// Endpoints every guarded pod may reach: resolvers, API server.
    pub reach: BTreeSet<Endpoint>,
    /// Addresses of the gateway's pods.
    pub gateway: BTreeSet<IpAddr>,
    /// Endpoints the gateway's pods may reach.
    pub gateway_reach: BTreeSet<Endpoint>,
}

/// Where the gateway must not connect unless it is stated: what no name may lead to anyway.
fn private() -> Vec<IpNet> {
    AddressClass::default().refused_ranges(&Environment::default())
}

/// Names of sets of destinations that both tables have, and that only the routed one has.
const EVERYWHERE: [&str; 5] = ["cluster", "metadata", "gateway", "reach", "gateway_reach"];
const ROUTED: [&str; 2] = ["service", "private"];

/// The sets of destinations of a family.
#[must_use]
pub fn destination_sets(family: Family) -> Vec<String> {
    let routed = ROUTED.iter().filter(|_| family == Family::Inet);
    let names = EVERYWHERE.iter().chain(routed);
    names
        .flat_map(|name| ["4", "6"].map(|suffix| format!("{name}{suffix}")))
        .collect()
}

/// The sets of UDP grants, all in the routed table.
pub const GRANT_SETS: [&str; 2] = ["udp4", "udp6"];

/// Writes `flush set` and `add element` for every destination set of both tables.
pub(super) fn fill(text: &mut String, config: &NodeConfig, followed: &ServiceEndpoints) {
    let cluster = config.cluster_networks.clone();
    let metadata: Vec<IpNet> = metadata()
        .filter(|address| !config.allow_metadata.contains(address))
        .map(IpNet::from)
        .collect();
    let gateways: Vec<IpNet> = gateway_addresses(config, followed)
        .into_iter()
        .map(IpNet::from)
        .collect();
    let guarded_reach = guarded_reach(config, followed);
    let gateway_reach = gateway_reach(config, followed);
    for family in Family::ALL {
        networks(text, family, "cluster", &cluster);
        networks(text, family, "metadata", &metadata);
        networks(text, family, "gateway", &gateways);
        reach(text, family, "reach", &guarded_reach);
        reach(text, family, "gateway_reach", &gateway_reach);
    }
    networks(text, Family::Inet, "service", &config.service_networks);
    networks(text, Family::Inet, "private", &private());
}

/// Replaces the UDP grants of all pods. They are intervals, which nftables neither merges nor
/// deletes piecewise, and few: they are always written as a whole.
pub(super) fn fill_udp(text: &mut String, grants: &[(IpAddr, UdpGrant)]) {
    let of_the_source_family = grants
        .iter()
        .filter(|(source, grant)| source.is_ipv4() == grant.network.addr().is_ipv4())
        .map(|(source, grant)| (*source, grant.network, grant.ports));
    let list = intervals::disjoint(of_the_source_family);
    for (suffix, v4) in [("4", true), ("6", false)] {
        let keys: Vec<String> = list
            .iter()
            .filter(|(source, _, _)| source.is_ipv4() == v4)
            .map(|(source, network, ports)| format!("{source} . {network} . {ports}"))
            .collect();
        fill_set(text, Family::Inet, &format!("udp{suffix}"), &keys);
    }
}

type Triple = (Protocol, IpNet, PortRange);

fn gateway_addresses(config: &NodeConfig, followed: &ServiceEndpoints) -> BTreeSet<IpAddr> {
    let stated = config
        .gateway
        .iter()
        .flat_map(|gateway| gateway.addresses.iter().copied());
    stated.chain(followed.gateway.iter().copied()).collect()
}

fn guarded_reach(config: &NodeConfig, followed: &ServiceEndpoints) -> Vec<Triple> {
    let mut all = stated(&config.reach);
    all.extend(endpoints(&followed.reach));
    all.extend(resolvers(config));
    if let Some(gateway) = &config.gateway {
        for address in gateway_addresses(config, followed) {
            all.extend(
                gateway
                    .ports
                    .iter()
                    .map(|ports| (Protocol::Tcp, IpNet::from(address), *ports)),
            );
        }
    }
    all
}

fn gateway_reach(config: &NodeConfig, followed: &ServiceEndpoints) -> Vec<Triple> {
    let mut all = config
        .gateway
        .as_ref()
        .map(|gateway| stated(&gateway.reach))
        .unwrap_or_default();
    all.extend(endpoints(&followed.gateway_reach));
    all.extend(resolvers(config));
    all
}

fn resolvers(config: &NodeConfig) -> Vec<Triple> {
    let ask = |address: &IpAddr| {
        let address = IpNet::from(*address);
        let port = PortRange::single(53)?;
        Some([
            (Protocol::Udp, address, port),
            (Protocol::Tcp, address, port),
        ])
    };
    config
        .dns
        .addresses
        .iter()
        .filter_map(ask)
        .flatten()
        .collect()
}

fn stated(list: &[Reach]) -> Vec<Triple> {
    let mut all = Vec::new();
    for reach in list {
        for network in &reach.networks {
            all.extend(
                reach
                    .ports
                    .iter()
                    .map(|ports| (reach.protocol, *network, *ports)),
            );
        }
    }
    all
}

fn endpoints(list: &BTreeSet<Endpoint>) -> Vec<Triple> {
    let triple = |endpoint: &Endpoint| {
        Some((
            endpoint.protocol,
            IpNet::from(endpoint.address),
            PortRange::single(endpoint.port)?,
        ))
    };
    list.iter().filter_map(triple).collect()
}

/// Fills `{name}4` and `{name}6` with networks, overlaps merged.
fn networks(text: &mut String, family: Family, name: &str, list: &[IpNet]) {
    let list = IpNet::aggregate(&list.to_vec());
    for (suffix, v4) in [("4", true), ("6", false)] {
        let keys: Vec<String> = list
            .iter()
            .filter(|network| network.addr().is_ipv4() == v4)
            .map(ToString::to_string)
            .collect();
        fill_set(text, family, &format!("{name}{suffix}"), &keys);
    }
}

/// Fills `{name}4` and `{name}6` with destination, protocol and ports, overlaps removed.
fn reach(text: &mut String, family: Family, name: &str, list: &[Triple]) {
    let list = intervals::disjoint(list.iter().copied());
    for (suffix, v4) in [("4", true), ("6", false)] {
        let keys: Vec<String> = list
            .iter()
            .filter(|(_, network, _)| network.addr().is_ipv4() == v4)
            .map(|(protocol, network, ports)| format!("{network} . {} . {ports}", protocol.nft()))
            .collect();
        fill_set(text, family, &format!("{name}{suffix}"), &keys);
    }
}

fn fill_set(text: &mut String, family: Family, set: &str, keys: &[String]) {
    let _ = writeln!(text, "flush set {family} {TABLE} {set}");
    if !keys.is_empty() {
        let _ = writeln!(
            text,
            "add element {family} {TABLE} {set} {{ {} }}",
            keys.join(", ")
        );
    }
}
