//! Network policies: only the gateway may leave the cluster.

mod calico;
mod cilium;
mod cluster;
mod node_guard;
mod udp;

use egress_policy::model::Policy;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::NAME;
use crate::error::RenderError;
use crate::gateway::metadata;
use crate::install::{AdminApi, AdminPolicies, Install};
use crate::object::{Object, Stage, namespaces, set};

pub(crate) use node_guard::udp_exceptions;

const API: (&str, &str) = ("networking.k8s.io/v1", "NetworkPolicy");

/// The network policies of the workloads' namespaces and of the gateway's.
pub(crate) fn objects(
    install: &Install,
    policies: &[Policy],
    problems: &mut Vec<RenderError>,
) -> Vec<Object> {
    let mut objects = vec![gateway(install)];
    objects.extend(beside_the_gateway(install));
    for namespace in &install.spec.workloads.namespaces {
        objects.push(workloads(install, namespace));
    }
    objects.extend(proxies(install));
    let exceptions = udp::exceptions(install, policies, problems);
    objects.extend(exceptions.iter().map(udp::Exception::object));
    if let Some(settings) = &install.spec.cluster.admin_policies {
        objects.extend(administrators(install, settings, &exceptions, problems));
    }
    objects
}

/// The policies that no namespace can override, in the language of the cluster's network.
fn administrators(
    install: &Install,
    settings: &AdminPolicies,
    exceptions: &[udp::Exception<'_>],
    problems: &mut Vec<RenderError>,
) -> Vec<Object> {
    use cluster::Version;
    let first = settings.priority;
    let standard =
        |version, problems| cluster::objects(install, (version, first), exceptions, problems);
    match settings.api {
        AdminApi::ClusterNetworkPolicy => standard(Version::ClusterNetworkPolicy, problems),
        AdminApi::AdminNetworkPolicy => standard(Version::AdminNetworkPolicy, problems),
        AdminApi::CiliumClusterwideNetworkPolicy => cilium::objects(install),
        AdminApi::GlobalNetworkPolicy => calico::objects(install, first, exceptions, problems),
    }
}

fn in_namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

fn tcp(ports: &[u16]) -> Vec<Value> {
    let ports = ports.iter();
    ports
        .map(|port| json!({"port": port, "protocol": "TCP"}))
        .collect()
}

fn dns(install: &Install) -> Value {
    json!({
        "to": [in_namespace(&install.spec.cluster.dns_namespace)],
        "ports": [
            {"port": 53, "protocol": "UDP"},
            {"port": 53, "protocol": "TCP"},
        ],
    })
}

fn workloads(install: &Install, namespace: &str) -> Object {
    let gateway = &install.spec.gateway;
    let mut to_gateway = in_namespace(&gateway.namespace);
    set(
        &mut to_gateway,
        "podSelector",
        json!({"matchLabels": gateway.selector}),
    );
    // Namespace selectors match pods, never outside addresses; the gateway's and the DNS's
    // namespaces have rules of their own, by port.
    let by_port = [&gateway.namespace, &install.spec.cluster.dns_namespace];
    let elsewhere = json!({"namespaceSelector": namespaces("NotIn", &by_port)});
    let mut egress = vec![
        dns(install),
        json!({"to": [to_gateway], "ports": tcp(&[gateway.ports.http, gateway.ports.tunnel])}),
        json!({"to": [elsewhere]}),
    ];
    let nodes = nodes(install);
    if !nodes.is_empty() {
        egress.push(json!({"to": blocks(nodes)}));
    }
    if let Some(rule) = api_server(install) {
        egress.push(rule);
    }
    Object::new(
        Stage::Guard,
        "Pods of this namespace reach pods, nodes, cluster DNS and the gateway's two ports; nothing
         outside. The node guard holds where network policies do not.",
        API,
        json!({"name": NAME, "namespace": namespace}),
        json!({"spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress}}),
    )
}

/// The networks of nodes, which no namespace selector matches: nor does one match the pods that
/// have their node's address.
fn nodes(install: &Install) -> &[IpNet] {
    let networks = install.spec.cluster.networks.as_ref();
    networks.map_or(&[], |networks| &networks.nodes)
}

fn blocks(networks: &[IpNet]) -> Vec<Value> {
    let networks = networks.iter();
    networks
        .map(|network| json!({"ipBlock": {"cidr": network.to_string()}}))
        .collect()
}

fn api_server(install: &Install) -> Option<Value> {
    let blocks = blocks(&install.spec.cluster.api_server);
    // Without `ports` it would be every port of every protocol.
    let ports = tcp(&install.spec.cluster.api_server_ports);
    (!blocks.is_empty()).then(|| json!({"to": blocks, "ports": ports}))
}

/// Where Istio's proxies serve metrics: the agent's merged ones, and Envoy's own (istio.io,
/// "Application Requirements", "Ports used by Istio").
const METRICS: [u16; 2] = [15020, 15090];

fn gateway(install: &Install) -> Object {
    let gateway = &install.spec.gateway;
    let from = |namespaces: &[String], ports: [u16; 2]| {
        let from: Vec<_> = namespaces.iter().map(|name| in_namespace(name)).collect();
        json!({"from": from, "ports": tcp(&ports)})
    };
    let workloads = &install.spec.workloads.namespaces;
    let mut ingress = vec![from(workloads, [gateway.ports.http, gateway.ports.tunnel])];
    let readers = &install.spec.cluster.metrics_namespaces;
    // Without `from` it would be everybody.
    if !readers.is_empty() {
        ingress.push(from(readers, METRICS));
    }
    Object::new(
        Stage::Guard,
        "The gateway's pods: in by the two rendered ports from the enforced namespaces, by the
         ports of metrics from where the settings say; out to anywhere, which is the module's
         decision.",
        API,
        metadata(install, NAME),
        json!({"spec": {
            "podSelector": {"matchLabels": gateway.selector},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": [{}],
        }}),
    )
}

/// Another pod in the gateway's namespace is a workload like any. One difference in labels is
/// enough to be another pod, so there is one policy per label.
fn beside_the_gateway(install: &Install) -> Vec<Object> {
    let labels = install.spec.gateway.selector.iter().enumerate();
    let policy = |(index, (key, value)): (usize, (&String, &String))| {
        Object::new(
            Stage::Guard,
            "Other pods in the gateway's namespace do not leave the cluster.",
            API,
            metadata(install, &format!("egress-warden-beside-{index}")),
            json!({"spec": {
                "podSelector": {"matchExpressions": [
                    {"key": key, "operator": "NotIn", "values": [value]},
                ]},
                "policyTypes": ["Egress"],
                "egress": [
                    dns(install),
                    {"to": [in_namespace(&install.spec.cluster.istio_namespace)]},
                ],
            }}),
        )
    };
    labels.map(policy).collect()
}

/// An inspection proxy that connects on for everybody would be a way around the gateway.
fn proxies(install: &Install) -> Vec<Object> {
    let gateway = &install.spec.gateway;
    let mut from = in_namespace(&gateway.namespace);
    set(
        &mut from,
        "podSelector",
        json!({"matchLabels": gateway.selector}),
    );
    let proxies = install.spec.inspection.iter();
    let closed = proxies.filter_map(|proxy| {
        let pods = proxy.pods.as_ref()?;
        Some(Object::new(
            Stage::Guard,
            "An inspection proxy connects on for whoever asks: only the gateway may.",
            API,
            json!({
                "name": format!("{NAME}-inspect-{}", proxy.name),
                "namespace": pods.namespace,
            }),
            json!({"spec": {
                "podSelector": {"matchLabels": pods.selector},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [from.clone()], "ports": tcp(&[proxy.port])}],
            }}),
        ))
    });
    closed.collect()
}

#[cfg(test)]
mod shape;
#[cfg(test)]
mod tests;
