//! Whether the networks that the settings state are those that the cluster has.

use std::net::IpAddr;

use egress_policy::address::parse_network;
use ipnet::IpNet;
use serde_json::Value;

use super::{Finding, Health};
use crate::install::{Install, Networks, PodNetworks};

/// Objects that say which networks a cluster has.
pub const KINDS: [&str; 4] = ["ServiceCIDR", "Node", "IPPool", "CiliumNode"];

/// What an object says.
struct Said {
    network: IpNet,
    /// `KIND NAME`.
    by: String,
    /// Whether it says all that there is, or what is in use so far.
    whole: bool,
}

/// Compares `spec.cluster.networks` with what these objects say: `ServiceCIDR`, `Node`, Calico's
/// `IPPool` and Cilium's `CiliumNode`. Other objects say nothing.
#[must_use]
pub fn networks(install: &Install, objects: &[Value]) -> Vec<Finding> {
    let Some(stated) = &install.spec.cluster.networks else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let services = said(objects, services_of);
    compare(SERVICES, &stated.services, &services, &mut findings);
    let pods = said(objects, pods_of);
    match &stated.pods {
        PodNetworks::Networks(networks) => compare(PODS, networks, &pods, &mut findings),
        PodNetworks::Registered => registered(&pods, &mut findings),
    }
    nodes(stated, objects, &mut findings);
    findings
}

const PODS: &str = "spec.cluster.networks.pods";
const SERVICES: &str = "spec.cluster.networks.services";
const NODES: &str = "spec.cluster.networks.nodes";

const LOST: &str = "what is missing is sent to the gateway instead of straight, and refused there";
const WIDER: &str = "what is not the cluster's goes past the gateway, judged by nobody: state what the \
                     cluster has";

/// What an object says of networks, if it is of the kind: whether they are all that the cluster has of
/// them and not one node's, and the CIDRs.
type Read = fn(&Value) -> Option<(bool, Vec<&Value>)>;

/// `KIND NAME` and a network, for each that the reader finds.
fn said(objects: &[Value], read: Read) -> Vec<Said> {
    let of = |object: &Value| {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").unwrap_or_default();
        let name = text("/metadata/name").unwrap_or_default();
        let (whole, cidrs) = read(object).unwrap_or_default();
        let networks = cidrs.into_iter().filter_map(Value::as_str);
        networks
            .filter_map(|cidr| parse_network(cidr).ok())
            .map(|network| Said {
                network,
                by: format!("{kind} {name}"),
                whole,
            })
            .collect::<Vec<_>>()
    };
    objects.iter().flat_map(of).collect()
}

fn services_of(object: &Value) -> Option<(bool, Vec<&Value>)> {
    (object["kind"] == "ServiceCIDR").then(|| (true, list(object, "/spec/cidrs")))
}

fn pods_of(object: &Value) -> Option<(bool, Vec<&Value>)> {
    match object["kind"].as_str()? {
        "Node" => {
            let several = list(object, "/spec/podCIDRs");
            let one = object.pointer("/spec/podCIDR").into_iter().collect();
            Some((false, if several.is_empty() { one } else { several }))
        }
        "IPPool" if object.pointer("/spec/disabled") != Some(&Value::Bool(true)) => {
            Some((true, object.pointer("/spec/cidr").into_iter().collect()))
        }
        "CiliumNode" => Some((false, list(object, "/spec/ipam/podCIDRs"))),
        _ => None,
    }
}

fn list<'v>(object: &'v Value, pointer: &str) -> Vec<&'v Value> {
    let found = object.pointer(pointer).and_then(Value::as_array);
    found.into_iter().flatten().collect()
}

fn compare(setting: &'static str, stated: &[IpNet], said: &[Said], findings: &mut Vec<Finding>) {
    if said.is_empty() {
        return;
    }
    let aggregated = IpNet::aggregate(&stated.to_vec());
    let found = Some(texts(stated));
    let mut good = true;
    for one in said {
        let holds = |network: &IpNet| network.contains(&one.network);
        if aggregated.iter().any(holds) {
            continue;
        }
        good = false;
        findings.push(Finding {
            setting,
            wanted: format!("{} ({})", one.network, one.by),
            found: found.clone(),
            why: LOST,
            health: Health::Bad,
        });
    }
    let whole: Vec<_> = said
        .iter()
        .filter(|one| one.whole)
        .map(|one| one.network)
        .collect();
    let whole = IpNet::aggregate(&whole);
    for network in stated {
        let held: Vec<_> = said
            .iter()
            .filter(|one| network.contains(&one.network))
            .collect();
        // Nodes get theirs out of a network that no object names.
        let is_wider = if held.iter().any(|one| !one.whole) {
            false
        } else {
            !whole.iter().any(|one| one.contains(network))
        };
        let is_part = said.iter().any(|one| one.network.contains(network));
        if is_wider && !is_part {
            good = false;
            let held: Vec<_> = held.iter().map(|one| one.network).collect();
            findings.push(Finding {
                setting,
                wanted: if held.is_empty() {
                    "nothing".to_owned()
                } else {
                    texts(&held)
                },
                found: Some(network.to_string()),
                why: WIDER,
                health: Health::Advice,
            });
        }
    }
    if good {
        findings.push(Finding {
            setting,
            wanted: texts(stated),
            found,
            why: LOST,
            health: Health::Good,
        });
    }
}

/// Where pods have networks of their own, they can be named.
fn registered(pods: &[Said], findings: &mut Vec<Finding>) {
    if pods.is_empty() {
        return;
    }
    let networks: Vec<_> = pods.iter().map(|one| one.network).collect();
    findings.push(Finding {
        setting: PODS,
        wanted: texts(&IpNet::aggregate(&networks)),
        found: Some("registered".to_owned()),
        why: "where pods have networks of their own, naming them reaches every pod straight",
        health: Health::Advice,
    });
}

fn nodes(stated: &Networks, objects: &[Value], findings: &mut Vec<Finding>) {
    // Stated so: they are judged at the gateway.
    if stated.nodes.is_empty() {
        return;
    }
    let nodes = objects.iter().filter(|object| object["kind"] == "Node");
    let mut known = Vec::new();
    for node in nodes {
        let addresses = list(node, "/status/addresses").into_iter();
        let own = addresses.filter(|one| one["type"] == "InternalIP");
        let own = own.filter_map(|one| one["address"].as_str()?.parse::<IpAddr>().ok());
        for address in own {
            known.push(address);
            if !stated
                .nodes
                .iter()
                .any(|network| network.contains(&address))
            {
                let name = node.pointer("/metadata/name").and_then(Value::as_str);
                findings.push(Finding {
                    setting: NODES,
                    wanted: format!("{address} (Node {})", name.unwrap_or_default()),
                    found: Some(texts(&stated.nodes)),
                    why: LOST,
                    health: Health::Bad,
                });
            }
        }
    }
    if known.is_empty() {
        return;
    }
    for network in &stated.nodes {
        if !known.iter().any(|address| network.contains(address)) {
            findings.push(Finding {
                setting: NODES,
                wanted: "nothing".to_owned(),
                found: Some(network.to_string()),
                why: WIDER,
                health: Health::Advice,
            });
        }
    }
}

fn texts(networks: &[IpNet]) -> String {
    let texts: Vec<_> = networks.iter().map(IpNet::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests;
