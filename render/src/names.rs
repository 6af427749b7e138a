//! Names over opaque TCP.
//!
//! A sidecar sees only the address that was dialled. So a name that a rule lets through over opaque
//! TCP gets one that is nobody else's: an application that asks for the name is told that address
//! (by Istio's DNS capture, or by a zone of the cluster's DNS), its sidecar has a listener for it, and
//! that listener asks the gateway's tunnel for the name. Which address it leads to the gateway finds
//! out, as for every other name. Wildcards cannot have an address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use egress_policy::canonical;
use egress_policy::model::Policy;
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value, json};

use crate::error::RenderError;
use crate::install::Install;
use crate::object::{Object, Stage};
use crate::proxies;
use crate::tunnel;
use crate::workloads;
use egress_policy::ports::{MeshPorts, Named};

/// What the names of rendered entries begin with.
const ENTRY: &str = "egress-warden-tcp-";
/// Of so many addresses at most one is given: what is full collides.
const SPARE: u32 = 2;

/// A name with its address, for the enforced namespaces that may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    name: String,
    address: Ipv4Addr,
    ports: BTreeSet<u16>,
    namespaces: Vec<String>,
}

/// Every name that the policies let an enforced workload use over opaque TCP, in order, with its
/// address. None if the settings do not say how applications are told.
pub(crate) fn assigned(
    install: &Install,
    traffic: &MeshPorts,
    policies: &[Policy],
    problems: &mut Vec<RenderError>,
) -> Vec<Assigned> {
    let settings = &install.spec.tunnel;
    if settings.names.is_none() {
        return Vec::new();
    }
    let enforced = &install.spec.workloads.namespaces;
    let used = |named: &Named| -> Vec<String> {
        let may = |namespace: &&String| {
            let known = named.namespaces.as_ref();
            known.is_none_or(|known| known.contains(*namespace))
        };
        enforced.iter().filter(may).cloned().collect()
    };
    let mut found: Vec<_> = traffic
        .named_tcp(policies)
        .into_iter()
        .map(|named| (used(&named), named))
        .collect();
    found.retain(|(namespaces, _)| !namespaces.is_empty());
    let names: BTreeSet<_> = found.iter().map(|(_, named)| named.name.clone()).collect();
    let addresses = match addresses(settings.name_range, &settings.name_addresses, &names) {
        Ok(addresses) => addresses,
        Err(problem) => {
            problems.push(problem);
            return Vec::new();
        }
    };
    let entries = found.into_iter().filter_map(|(namespaces, named)| {
        Some(Assigned {
            address: *addresses.get(&named.name)?,
            name: named.name,
            ports: named.ports,
            namespaces,
        })
    });
    entries.collect()
}

/// An address of the range for each name: the one that it has already, else the first free one of
/// those that its hash names. So a name keeps its address from render to render, whatever other
/// names come and go; only two names with the same hash can change places, and not where the
/// earlier render is known.
fn addresses(
    range: Ipv4Net,
    kept: &BTreeMap<String, Ipv4Addr>,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, Ipv4Addr>, RenderError> {
    let first = u32::from(range.network());
    let hosts = u32::from(range.broadcast())
        .saturating_sub(first)
        .saturating_sub(1);
    let most = hosts / SPARE;
    if u32::try_from(names.len()).map_or(true, |count| count > most) {
        let message = format!(
            "{} names over opaque TCP, and `{range}` has room for {most}: take a wider one",
            names.len()
        );
        return Err(RenderError::new("spec.tunnel.nameRange", message));
    }
    let mut assigned = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for name in names {
        if let Some(address) = kept.get(name)
            && inside(range, *address)
            && taken.insert(*address)
        {
            assigned.insert(name.clone(), *address);
        }
    }
    for name in names {
        if assigned.contains_key(name) {
            continue;
        }
        let mut candidates = (0_u32..).map(|attempt| {
            let hash = canonical::digest(format!("{name} {attempt}").as_bytes());
            let number = hash
                .get(..8)
                .and_then(|text| u32::from_str_radix(text, 16).ok());
            // The network's own address and its last stay free.
            Ipv4Addr::from(first + 1 + number.unwrap_or(attempt) % hosts.max(1))
        });
        // Half of the range is free, so this ends.
        let free = candidates.find(|address| taken.insert(*address));
        assigned.extend(free.map(|address| (name.clone(), address)));
    }
    Ok(assigned)
}

fn inside(range: Ipv4Net, address: Ipv4Addr) -> bool {
    range.contains(&address) && address != range.network() && address != range.broadcast()
}

/// The entries that register the names, and for each namespace what asks the tunnel for them.
pub(crate) fn objects(
    install: &Install,
    traffic: &MeshPorts,
    assigned: &[Assigned],
) -> Vec<Object> {
    let mut objects: Vec<_> = assigned.iter().map(|one| entry(install, one)).collect();
    for namespace in &install.spec.workloads.namespaces {
        let own = assigned
            .iter()
            .filter(|one| one.namespaces.contains(namespace));
        let patches: Vec<_> = own
            .flat_map(|one| one.ports.iter().map(move |port| (one, *port)))
            .map(|(one, port)| patch(install, traffic, one, port))
            .collect();
        if !patches.is_empty() {
            objects.push(Object::new(
                Stage::Workloads,
                "Opaque TCP by name: what is dialled at a name's address goes through a tunnel that
                 asks for the name. Without it the gateway is asked for an address that nobody may
                 reach.",
                ("networking.istio.io/v1alpha3", "EnvoyFilter"),
                json!({"name": "egress-warden-names", "namespace": namespace}),
                // Before the tunnel's own patches, which are for other chains.
                json!({"spec": {"priority": 5, "configPatches": patches}}),
            ));
        }
    }
    objects
}

fn entry(install: &Install, one: &Assigned) -> Object {
    let hash = canonical::digest(one.name.as_bytes());
    let short = hash.get(..10).unwrap_or(&hash);
    let ports: Vec<_> = one
        .ports
        .iter()
        .map(|port| json!({"name": format!("tcp-{port}"), "number": port, "protocol": "TCP"}))
        .collect();
    Object::new(
        Stage::Workloads,
        "A name that is let through over opaque TCP, and the address that stands for it in the
         sidecars of these namespaces. Nothing has this address.",
        ("networking.istio.io/v1", "ServiceEntry"),
        json!({
            "name": format!("{ENTRY}{short}"),
            "namespace": install.spec.gateway.namespace,
        }),
        json!({"spec": {
            "hosts": [one.name],
            "addresses": [one.address],
            "exportTo": one.namespaces,
            "location": "MESH_EXTERNAL",
            "resolution": "NONE",
            "ports": ports,
        }}),
    )
}

fn patch(install: &Install, traffic: &MeshPorts, one: &Assigned, port: u16) -> Value {
    let framing = tunnel::framing_of_name(&install.spec.tunnel, &one.name, port);
    let target = format!("{}:{port}", one.name);
    json!({
        "applyTo": "NETWORK_FILTER",
        "match": {
            "context": "SIDECAR_OUTBOUND",
            "proxy": {"proxyVersion": proxies::supported(install)},
            "listener": {
                "name": format!("{}_{port}", one.address),
                "filterChain": {"filter": {"name": workloads::TCP_PROXY}},
            },
        },
        "patch": {
            "operation": "MERGE",
            "value": workloads::tunnelling(install, traffic, framing, &target),
        },
    })
}

/// The names and their addresses as the plugin `hosts` of CoreDNS takes them, for clusters where
/// Istio's DNS capture is off.
pub(crate) fn zone(assigned: &[Assigned]) -> String {
    let mut text = "hosts {\n".to_owned();
    for one in assigned {
        // Writing to a String does not fail.
        let _ = writeln!(text, "    {} {}", one.address, one.name);
    }
    text + "    fallthrough\n}\n"
}

/// The addresses that an earlier render gave to names, read from its objects.
#[must_use]
pub fn earlier(objects: &[Value]) -> BTreeMap<String, Ipv4Addr> {
    let text = |object: &Value, pointer: &str| {
        let value = object.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let entries = objects.iter().filter(|object| {
        text(object, "/kind") == "ServiceEntry" && text(object, "/metadata/name").starts_with(ENTRY)
    });
    let entries = entries.filter_map(|object| {
        let address = text(object, "/spec/addresses/0").parse().ok()?;
        Some((text(object, "/spec/hosts/0"), address))
    });
    entries.collect()
}

/// What is wrong with the range.
pub(crate) fn check(install: &Install, problems: &mut Vec<RenderError>) {
    let settings = &install.spec.tunnel;
    if settings.names.is_none() {
        return;
    }
    let range = settings.name_range;
    let mut wrong =
        |message: &str| problems.push(RenderError::new("spec.tunnel.nameRange", message));
    if !(8..=24).contains(&range.prefix_len()) {
        wrong("expected a network between /8 and /24");
    }
    let networks = install.spec.cluster.networks.iter();
    let own = networks.flat_map(crate::install::Networks::all);
    let overlaps = |network: &IpNet| match network {
        IpNet::V4(network) => network.contains(&range) || range.contains(network),
        IpNet::V6(_) => false,
    };
    if let Some(network) = own.into_iter().find(overlaps) {
        let message = format!(
            "`{range}` and the cluster's network `{network}` (spec.cluster.networks) overlap: what \
             is dialled there would not be told from a name"
        );
        wrong(&message);
    }
    let places = settings.name_addresses.iter();
    for (name, address) in places.filter(|(_, address)| !inside(range, **address)) {
        let message = format!("`{name}`: {address} is not in `{range}`");
        problems.push(RenderError::new("spec.tunnel.nameAddresses", message));
    }
}

#[cfg(test)]
mod tests;
