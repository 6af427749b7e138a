//! Policies of the cluster's administrator in Calico's language, `GlobalNetworkPolicy`.
//!
//! They come before the namespaces' own policies, which Calico takes at the order 1000, and the
//! first rule that matches decides. Calico has no word for going on to those, so what stays inside
//! the cluster is opened here. Their shape is compared with Calico's CRD and validators by tests;
//! no cluster ran them.

use egress_policy::address::metadata;
use egress_policy::contract::REVOKED;
use egress_policy::model::{LabelExpression, LabelOperator};
use egress_policy::port::OVERLAY_PORTS;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::cluster::subtract;
use super::udp::Exception;
use crate::NAME;
use crate::error::RenderError;
use crate::install::Install;
use crate::object::{Object, Stage, set};

const API: (&str, &str) = ("projectcalico.org/v3", "GlobalNetworkPolicy");

/// Most networks of one rule, and most ports, by Calico's CRD.
const MOST_NETWORKS: usize = 256;
const MOST_PORTS: usize = 50;

/// The order at which Calico takes the `NetworkPolicy` objects of namespaces.
const NAMESPACES_ORDER: u32 = 1000;

/// The objects, in the order in which Calico takes them.
pub(super) fn objects(
    install: &Install,
    first: u32,
    exceptions: &[Exception<'_>],
    problems: &mut Vec<RenderError>,
) -> Vec<Object> {
    let enforced = &install.spec.workloads.namespaces;
    let mut made = Vec::new();
    let mut order = first;
    let mut add =
        |stage, about, name: &str, namespaces: &[String], pods: &str, egress: Vec<Value>| {
            // A name with dots begins with its tier (`TieredPolicyName` in Calico's `names`), and a
            // cluster's objects have dots here.
            let metadata = json!({"name": format!("default.{name}")});
            let spec = json!({
                "order": order,
                "types": ["Egress"],
                "namespaceSelector": one_of("kubernetes.io/metadata.name", namespaces),
                "selector": pods,
                "egress": egress,
            });
            order = order.saturating_add(1);
            made.push(Object::new(
                stage,
                about,
                API,
                metadata,
                json!({"spec": spec}),
            ));
        };
    add(
        Stage::Guard,
        "Pods that the administrator has cut off, by a label, reach nothing.",
        &format!("{NAME}-revoked"),
        enforced,
        &equals(REVOKED, "true"),
        vec![json!({"action": "Deny"})],
    );
    for exception in exceptions {
        add(
            Stage::Workloads,
            "A UDP rule of the policy: straight out, for these pods and these networks only.",
            &format!("{}-{}", exception.namespace, exception.name),
            &[exception.namespace.to_owned()],
            &selector(&exception.pods),
            udp(exception),
        );
    }
    add(
        Stage::Guard,
        "Pods of the enforced namespaces do not leave the cluster, whatever NetworkPolicies their
         namespace has. Weaker than the node guard: nothing is counted, and Calico knows pods by
         labels, which tenants choose. What stays inside is open, also where a NetworkPolicy of the
         namespace would close it. Works with Calico's eBPF datapath, which the node guard does not.",
        NAME,
        enforced,
        "all()",
        workloads(install),
    );
    if order > NAMESPACES_ORDER {
        let message = format!(
            "{} orders are needed, and Calico takes the namespaces' own policies at {NAMESPACES_ORDER}",
            made.len()
        );
        problems.push(RenderError::new(
            "spec.cluster.adminPolicies.priority",
            message,
        ));
    }
    made
}

/// The same ways as the namespaces' `NetworkPolicy`: DNS, the gateway's two ports, other pods,
/// nodes, the API server. No other resolver and no overlay, wherever it is.
fn workloads(install: &Install) -> Vec<Value> {
    let (gateway, cluster) = (&install.spec.gateway, &install.spec.cluster);
    let metadata: Vec<IpNet> = metadata().map(IpNet::from).collect();
    let mut rules = Vec::new();
    for (_, networks) in by_family(&metadata) {
        rules.push(rule("Deny", None, &json!({"nets": texts(&networks)})));
    }
    let dns = in_namespace(&cluster.dns_namespace);
    for protocol in ["UDP", "TCP"] {
        rules.push(rule(
            "Allow",
            Some(protocol),
            &with_ports(dns.clone(), &[53]),
        ));
        rules.push(rule("Deny", Some(protocol), &json!({"ports": [53, 853]})));
    }
    rules.push(rule("Deny", None, &dns));
    let beside = in_namespace(&gateway.namespace);
    let mut pods = beside.clone();
    let labels = gateway.selector.iter();
    let labels: Vec<_> = labels.map(|(key, value)| equals(key, value)).collect();
    set(&mut pods, "selector", json!(labels.join(" && ")));
    let pods = with_ports(pods, &[gateway.ports.http, gateway.ports.tunnel]);
    rules.push(rule("Allow", Some("TCP"), &pods));
    rules.push(rule("Deny", None, &beside));
    for (_, networks) in by_family(&cluster.api_server) {
        for networks in networks.chunks(MOST_NETWORKS) {
            for ports in cluster.api_server_ports.chunks(MOST_PORTS) {
                let to = with_ports(json!({"nets": texts(networks)}), ports);
                rules.push(rule("Allow", Some("TCP"), &to));
            }
        }
    }
    rules.push(rule("Deny", Some("UDP"), &json!({"ports": OVERLAY_PORTS})));
    inside(&json!({"namespaceSelector": "all()"}), &[4, 6], &mut rules);
    for (version, networks) in by_family(super::nodes(install)) {
        for networks in networks.chunks(MOST_NETWORKS) {
            inside(&json!({"nets": texts(networks)}), &[version], &mut rules);
        }
    }
    rules.push(json!({"action": "Deny"}));
    rules
}

/// Everything but protocols that another node would unpack.
fn inside(to: &Value, versions: &[u8], rules: &mut Vec<Value>) {
    for version in versions {
        let icmp = if *version == 4 { "ICMP" } else { "ICMPv6" };
        for protocol in ["TCP", "UDP", "SCTP", icmp] {
            let mut rule = rule("Allow", Some(protocol), to);
            set(&mut rule, "ipVersion", json!(version));
            rules.push(rule);
        }
    }
}

fn udp(exception: &Exception<'_>) -> Vec<Value> {
    let mut rules = Vec::new();
    for (hosts, ports) in &exception.to {
        let mut left = Vec::new();
        for network in &hosts.networks {
            subtract(*network, &hosts.except, &mut left);
        }
        let ports: Vec<_> = ports
            .ranges()
            .map(|range| {
                if range.start() == range.end() {
                    json!(range.start())
                } else {
                    json!(format!("{}:{}", range.start(), range.end()))
                }
            })
            .collect();
        for (_, networks) in by_family(&left) {
            for networks in networks.chunks(MOST_NETWORKS) {
                for ports in ports.chunks(MOST_PORTS) {
                    let to = json!({"nets": texts(networks), "ports": ports});
                    rules.push(rule("Allow", Some("UDP"), &to));
                }
            }
        }
    }
    rules
}

fn rule(action: &str, protocol: Option<&str>, destination: &Value) -> Value {
    let mut rule = json!({"action": action, "destination": destination});
    if let Some(protocol) = protocol {
        set(&mut rule, "protocol", json!(protocol));
    }
    rule
}

fn with_ports(mut destination: Value, ports: &[u16]) -> Value {
    set(&mut destination, "ports", json!(ports));
    destination
}

fn in_namespace(name: &str) -> Value {
    json!({"namespaceSelector": equals("kubernetes.io/metadata.name", name)})
}

fn equals(key: &str, value: &str) -> String {
    format!("{key} == '{value}'")
}

fn one_of(key: &str, values: &[String]) -> String {
    format!("{key} in {{ '{}' }}", values.join("', '"))
}

/// Label conditions in Calico's language. `not in` holds without the label too, as `NotIn` does.
fn selector(pods: &[LabelExpression]) -> String {
    let term = |LabelExpression { key, operator }: &LabelExpression| match operator {
        LabelOperator::In(values) => one_of(key, values),
        LabelOperator::NotIn(values) => format!("{key} not in {{ '{}' }}", values.join("', '")),
        LabelOperator::Exists => format!("has({key})"),
        LabelOperator::DoesNotExist => format!("!has({key})"),
    };
    match pods {
        [] => "all()".to_owned(),
        pods => pods.iter().map(term).collect::<Vec<_>>().join(" && "),
    }
}

/// Calico refuses a rule that has networks of both families.
fn by_family(networks: &[IpNet]) -> Vec<(u8, Vec<IpNet>)> {
    let (v4, v6): (Vec<_>, Vec<_>) = networks.iter().partition(|net| net.addr().is_ipv4());
    let mut both = vec![(4, v4), (6, v6)];
    both.retain(|(_, networks)| !networks.is_empty());
    both
}

fn texts(networks: &[IpNet]) -> Vec<String> {
    networks.iter().map(IpNet::to_string).collect()
}

#[cfg(test)]
mod tests;
