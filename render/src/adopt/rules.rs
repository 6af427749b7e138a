//! What each kind of object can collide with.

use serde_json::Value;

use super::existing::Existing;
use super::{Collision, CollisionCode};
use crate::NAME;
use crate::install::Install;

/// Whether a name belongs to the mesh: a short name, one of a Service, or one in its own domains.
/// With more labels before its namespace a Service's is an outside name with an ending, and Istio
/// takes it for the outside name too (`guardrails/names.rs`).
fn in_mesh(install: &Install, host: &str) -> bool {
    let cluster = &install.spec.cluster;
    let service = |rest: &str| {
        let labels: Vec<_> = rest.split('.').collect();
        matches!(labels.as_slice(), [name, namespace, "svc", ""]
            if *name != "*" && !namespace.is_empty())
    };
    let below = |domain: &str| {
        let rest = host.strip_suffix(domain);
        rest.filter(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !host.contains('.')
        || below(&cluster.domain).is_some_and(service)
        || cluster
            .mesh_domains
            .iter()
            .any(|domain| below(domain).is_some())
}

/// The namespace of the Gateway that a `VirtualService` names, as Istio reads it
/// (`pilot/pkg/model/virtualservice.go`, `resolveGatewayName`): also by a Service's name.
fn namespace_of<'a>(gateway: &'a str, own: &'a str) -> &'a str {
    match (gateway.split_once('/'), gateway.split_once('.')) {
        (Some((".", _)), _) | (None, None) => own,
        (Some((namespace, _)), _) => namespace,
        (None, Some((_, rest))) => rest
            .split_once('.')
            .map_or(rest, |(namespace, _)| namespace),
    }
}

fn outside<'h>(install: &Install, hosts: &[&'h str]) -> Vec<&'h str> {
    let hosts = hosts.iter().copied();
    hosts
        .filter(|host| *host != "*" && !in_mesh(install, host))
        .collect()
}

/// Istio takes a Gateway to every pod whose labels include its selector's; a label that is not in
/// the settings may be on the pods all the same.
pub(super) fn gateway(install: &Install, object: &Existing<'_>, found: &mut Vec<Collision>) {
    let gateway = &install.spec.gateway;
    if !object
        .text("/apiVersion")
        .starts_with("networking.istio.io/")
    {
        return;
    }
    let selector = object.at("/spec/selector").and_then(Value::as_object);
    let differs = selector.into_iter().flatten().any(|(key, value)| {
        let own = gateway.selector.get(key).map(String::as_str);
        own.is_some_and(|own| value.as_str() != Some(own))
    });
    if differs {
        return;
    }
    let ports: Vec<_> = object
        .items("/spec/servers")
        .filter_map(|server| server.pointer("/port/number"))
        .map(ToString::to_string)
        .collect();
    found.push(object.collides(
        CollisionCode::GatewayPods,
        format!(
            "its selector can take the egress gateway's pods, and opens port {} there",
            ports.join(", ")
        ),
        "give it a selector that the egress gateway's pods do not have, and run istiod with \
         PILOT_SCOPE_GATEWAY_TO_NAMESPACE=true",
    ));
}

pub(super) fn routes(install: &Install, object: &Existing<'_>, found: &mut Vec<Collision>) {
    let gateway = &install.spec.gateway;
    let gateways = object.texts("/spec/gateways");
    let own = format!("{}/{NAME}", gateway.namespace);
    let binds = gateways
        .iter()
        .filter(|name| **name != "mesh")
        .any(|name| namespace_of(name, object.namespace()) == gateway.namespace);
    if binds {
        found.push(object.collides(
            CollisionCode::GatewayRoutes,
            format!("it binds routes to {own}, which has rendered routes only"),
            "remove it: the rendered routes reach every destination that the policy allows",
        ));
    }
    let sidecars = gateways.is_empty() || gateways.contains(&"mesh");
    let hosts = outside(install, &object.texts("/spec/hosts"));
    let seen = object.seen_in(install);
    if sidecars && !hosts.is_empty() && !seen.is_empty() {
        found.push(object.collides(
            CollisionCode::SidecarRoutes,
            format!(
                "sidecars in {} send {} where it says, not to the egress gateway's rendered ports",
                seen.join(", "),
                hosts.join(", ")
            ),
            "remove it, or leave the enforced namespaces out of its exportTo",
        ));
    }
}

pub(super) fn entry(install: &Install, object: &Existing<'_>, found: &mut Vec<Collision>) {
    let seen = object.seen_in(install);
    let hosts = outside(install, &object.texts("/spec/hosts"));
    if seen.is_empty() {
        return;
    }
    let remedy = "remove it, or leave the enforced namespaces out of its exportTo: the gateway needs \
                  no object per host";
    if !hosts.is_empty() {
        found.push(object.collides(
            CollisionCode::OutsideHost,
            format!(
                "sidecars in {} go straight to {} instead of to the gateway",
                seen.join(", "),
                hosts.join(", ")
            ),
            remedy,
        ));
    }
    let ports = whole_ports(object);
    if !ports.is_empty() {
        found.push(object.collides(
            CollisionCode::WholePort,
            format!(
                "without addresses it takes port {} of every outside address",
                ports.join(", ")
            ),
            remedy,
        ));
    }
}

/// Opaque ports of an entry without addresses: the sidecar can tell by nothing but the port.
fn whole_ports(object: &Existing<'_>) -> Vec<String> {
    if !object.texts("/spec/addresses").is_empty() {
        return Vec::new();
    }
    let opaque = |port: &&Value| {
        let protocol = port.get("protocol").and_then(Value::as_str);
        matches!(protocol, None | Some("TCP" | "MONGO" | "MYSQL" | "REDIS"))
    };
    let ports = object.items("/spec/ports").filter(opaque);
    ports
        .filter_map(|port| port.get("number"))
        .map(ToString::to_string)
        .collect()
}

pub(super) fn destination(install: &Install, object: &Existing<'_>, found: &mut Vec<Collision>) {
    let gateway = &install.spec.gateway;
    let host = object.text("/spec/host");
    let seen = object.seen_in(install);
    let own = install.gateway_host();
    let short = [
        gateway.service.clone(),
        format!("{}.{}", gateway.service, gateway.namespace),
        format!("{}.{}.svc", gateway.service, gateway.namespace),
    ];
    let names_gateway = host == own
        || short.iter().skip(1).any(|name| name == host)
        || (short.first().is_some_and(|name| name == host)
            && object.namespace() == gateway.namespace)
        || host
            .strip_prefix('*')
            .is_some_and(|suffix| own.ends_with(suffix));
    if names_gateway {
        found.push(object.collides(
            CollisionCode::ToGateway,
            "it competes with the rendered settings of the way to the gateway: its mTLS and its \
             HTTP version",
            "remove it, or narrow its host: the rendered DestinationRule has what the gateway needs",
        ));
    }
    let mode = object.text("/spec/trafficPolicy/tls/mode");
    let originates = matches!(mode, "SIMPLE" | "MUTUAL");
    if originates && !seen.is_empty() && !outside(install, &[host]).is_empty() {
        found.push(object.collides(
            CollisionCode::Origination,
            format!(
                "sidecars in {} would speak TLS to {host} themselves, so no method or path can be \
                 judged",
                seen.join(", ")
            ),
            "let the application speak TLS, or write `tls: {originate: true}` in the policy",
        ));
    }
}

/// Where a namespace has several `Sidecar`s for a workload Istio takes one that selects it, else
/// the oldest.
pub(super) fn sidecar(install: &Install, object: &Existing<'_>, found: &mut Vec<Collision>) {
    let namespaces = &install.spec.workloads.namespaces;
    if !namespaces.iter().any(|name| name == object.namespace()) {
        return;
    }
    let selects = object.at("/spec/workloadSelector").is_some();
    let message = if selects {
        "the workloads that it selects do not get the rendered one, so they do not send what is \
         outside to the gateway"
    } else {
        "a namespace has one Sidecar without a selector: the older of the two holds"
    };
    found.push(object.collides(
        CollisionCode::Sidecar,
        message,
        "remove it; if its list of hosts matters, render with it removed and narrow the mesh by \
         exportTo",
    ));
}

/// Network policies add up: one that opens is enough.
pub(super) fn network(install: &Install, object: &Existing<'_>, found: &mut Vec<Collision>) {
    let namespaces = &install.spec.workloads.namespaces;
    if !namespaces.iter().any(|name| name == object.namespace()) {
        return;
    }
    let mut ways = Vec::new();
    for rule in object.items("/spec/egress") {
        let to = rule.get("to").and_then(Value::as_array);
        match to {
            None => ways.push("everywhere".to_owned()),
            Some(peers) if peers.is_empty() => ways.push("everywhere".to_owned()),
            Some(peers) => {
                let blocks = peers
                    .iter()
                    .filter_map(|peer| peer.pointer("/ipBlock/cidr"));
                ways.extend(blocks.filter_map(Value::as_str).map(str::to_owned));
            }
        }
    }
    if !ways.is_empty() {
        found.push(object.collides(
            CollisionCode::NetworkPolicy,
            format!(
                "it lets pods out to {} by themselves: network policies add up",
                ways.join(", ")
            ),
            "remove the rule; what lies in the cluster is selected by namespaces and pods",
        ));
    }
}
