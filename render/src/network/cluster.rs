//! Policies of the cluster's administrator: what no `NetworkPolicy` of a namespace can override.
//!
//! Two APIs of one meaning, by the CRDs of network-policy-api v0.2.0 (`ClusterNetworkPolicy`) and
//! v0.1.7 (`AdminNetworkPolicy`). They only take away: what stays inside the cluster passes on to
//! the namespaces' own policies, what leads outside is denied.

use egress_policy::contract::REVOKED;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::udp::Exception;
use crate::NAME;
use crate::error::RenderError;
use crate::install::Install;
use crate::object::{Object, Stage, namespaces, set};

/// The two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    AdminNetworkPolicy,
}

/// Most networks of one peer, by both CRDs.
const MOST_NETWORKS: usize = 25;
/// Most rules of one object, peers of one rule and protocols of one rule, by the narrower CRD.
const MOST: usize = 25;
/// Priorities go from 0 to this, by both CRDs.
const LAST_PRIORITY: u32 = 1000;

const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The objects, the most urgent first: two of one priority would be in no order.
pub(super) fn objects(
    install: &Install,
    (version, first): (Version, u32),
    exceptions: &[Exception<'_>],
    problems: &mut Vec<RenderError>,
) -> Vec<Object> {
    let mut objects = Objects {
        version,
        priority: first,
        made: Vec::new(),
    };
    objects.add(
        Stage::Guard,
        "Pods that the administrator has cut off, by a label, reach nothing.",
        &format!("{NAME}-revoked"),
        &revoked(install),
        vec![Rule::new("nothing", "Deny", vec![networks(&EVERYWHERE)])],
    );
    for exception in exceptions {
        let name = format!("{}-{}", exception.namespace, exception.name);
        let rules = udp(exception);
        if rules.len() > MOST {
            let message = format!(
                "{} rules of a {:?} are needed for it; at most {MOST} fit into one",
                rules.len(),
                version
            );
            problems.push(RenderError::new(&name, message));
            continue;
        }
        objects.add(
            Stage::Workloads,
            "A UDP rule of the policy passes on to the namespace's own policies.",
            &name,
            &json!({"pods": {
                "namespaceSelector": named(exception.namespace),
                "podSelector": exception.selector(),
            }}),
            rules,
        );
    }
    objects.add(
        Stage::Guard,
        "Pods of the enforced namespaces do not leave the cluster, whatever NetworkPolicies their
         namespace has. What stays inside passes on to those.",
        NAME,
        &json!({"namespaces": enforced(install)}),
        workloads(install),
    );
    if objects.priority > LAST_PRIORITY + 1 {
        let message = format!(
            "{} priorities are needed, and they end at {LAST_PRIORITY}",
            objects.made.len()
        );
        problems.push(RenderError::new(
            "spec.cluster.adminPolicies.priority",
            message,
        ));
    }
    objects.made
}

struct Objects {
    version: Version,
    priority: u32,
    made: Vec<Object>,
}

impl Objects {
    fn add(
        &mut self,
        stage: Stage,
        about: &'static str,
        name: &str,
        subject: &Value,
        rules: Vec<Rule>,
    ) {
        let rules: Vec<_> = rules
            .into_iter()
            .map(|rule| rule.of(self.version))
            .collect();
        let mut spec = json!({"priority": self.priority, "subject": subject, "egress": rules});
        let api = match self.version {
            Version::ClusterNetworkPolicy => {
                set(&mut spec, "tier", json!("Admin"));
                ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy")
            }
            Version::AdminNetworkPolicy => {
                ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy")
            }
        };
        self.priority = self.priority.saturating_add(1);
        let metadata = json!({"name": name});
        let body = json!({"spec": spec});
        self.made
            .push(Object::new(stage, about, api, metadata, body));
    }
}

/// A rule of either API.
struct Rule {
    name: String,
    action: &'static str,
    to: Vec<Value>,
    /// Protocol and ports; none is everything.
    ports: Vec<(&'static str, u16, u16)>,
}

impl Rule {
    fn new(name: &str, action: &'static str, to: Vec<Value>) -> Self {
        Self {
            name: name.to_owned(),
            action,
            to,
            ports: Vec::new(),
        }
    }

    fn ports(mut self, ports: impl IntoIterator<Item = (&'static str, u16, u16)>) -> Self {
        self.ports.extend(ports);
        self
    }

    fn of(self, version: Version) -> Value {
        let mut rule = json!({"name": self.name, "action": self.action, "to": self.to});
        if self.ports.is_empty() {
            return rule;
        }
        let ports = self.ports.iter();
        match version {
            Version::ClusterNetworkPolicy => {
                let protocols: Vec<_> = ports.map(|port| protocol(*port)).collect();
                set(&mut rule, "protocols", json!(protocols));
            }
            Version::AdminNetworkPolicy => {
                let ports: Vec<_> = ports.map(|port| numbered(*port)).collect();
                set(&mut rule, "ports", json!(ports));
            }
        }
        rule
    }
}

fn protocol((protocol, first, last): (&str, u16, u16)) -> Value {
    let port = if first == last {
        json!({"number": first})
    } else {
        json!({"range": {"start": first, "end": last}})
    };
    json!({protocol.to_ascii_lowercase(): {"destinationPort": port}})
}

fn numbered((protocol, first, last): (&str, u16, u16)) -> Value {
    if first == last {
        json!({"portNumber": {"protocol": protocol, "port": first}})
    } else {
        json!({"portRange": {"protocol": protocol, "start": first, "end": last}})
    }
}

fn named(namespace: &str) -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}})
}

fn enforced(install: &Install) -> Value {
    namespaces("In", &install.spec.workloads.namespaces)
}

/// Pods with this label reach nothing at all. The API server says it of a running pod, so it holds
/// where a label at the gateway would not.
fn revoked(install: &Install) -> Value {
    json!({"pods": {
        "namespaceSelector": enforced(install),
        "podSelector": {"matchLabels": {REVOKED: "true"}},
    }})
}

fn networks<T: ToString>(networks: &[T]) -> Value {
    let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
    json!({"networks": networks})
}

/// The same ways as the namespaces' `NetworkPolicy`: DNS, the gateway's two ports, other pods,
/// nodes, the API server.
fn workloads(install: &Install) -> Vec<Rule> {
    let (gateway, cluster) = (&install.spec.gateway, &install.spec.cluster);
    let dns = json!({"namespaces": named(&cluster.dns_namespace)});
    let pods = json!({"pods": {
        "namespaceSelector": named(&gateway.namespace),
        "podSelector": {"matchLabels": gateway.selector},
    }});
    let beside = json!({"namespaces": named(&gateway.namespace)});
    let mut rules = vec![
        Rule::new("dns", "Pass", vec![dns.clone()]).ports([("UDP", 53, 53), ("TCP", 53, 53)]),
        Rule::new("dns-else", "Deny", vec![dns]),
        Rule::new("gateway", "Pass", vec![pods])
            .ports([gateway.ports.http, gateway.ports.tunnel].map(|port| ("TCP", port, port))),
        Rule::new("gateway-else", "Deny", vec![beside]),
        Rule::new("cluster", "Pass", vec![json!({"namespaces": {}})]),
    ];
    let nodes: Vec<_> = super::nodes(install)
        .chunks(MOST_NETWORKS)
        .map(networks)
        .collect();
    if !nodes.is_empty() {
        rules.push(Rule::new("nodes", "Pass", nodes));
    }
    let servers = cluster.api_server.chunks(MOST_NETWORKS);
    let servers: Vec<_> = servers.map(networks).collect();
    if !servers.is_empty() {
        let ports = cluster.api_server_ports.iter();
        rules.push(
            Rule::new("api-server", "Pass", servers).ports(ports.map(|port| ("TCP", *port, *port))),
        );
    }
    rules.push(Rule::new("outside", "Deny", vec![networks(&EVERYWHERE)]));
    rules
}

/// The APIs have no `except`, and a Deny in its place would also close what another rule opens; so
/// the networks are written without what is taken out of them.
fn udp(exception: &Exception<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (place, ports) in &exception.to {
        let mut left = Vec::new();
        for network in &place.networks {
            subtract(*network, &place.except, &mut left);
        }
        let ports: Vec<_> = ports
            .ranges()
            .map(|range| ("UDP", *range.start(), *range.end()))
            .collect();
        let peers: Vec<_> = left.chunks(MOST_NETWORKS).map(networks).collect();
        for peers in peers.chunks(MOST) {
            for ports in ports.chunks(MOST) {
                let name = format!("udp-{}", rules.len());
                let rule = Rule::new(&name, "Pass", peers.to_vec());
                rules.push(rule.ports(ports.iter().copied()));
            }
        }
    }
    rules
}

/// What is left of a network, as the fewest networks.
pub(super) fn subtract(network: IpNet, except: &[IpNet], left: &mut Vec<IpNet>) {
    if except.iter().any(|out| out.contains(&network)) {
        return;
    }
    if !except.iter().any(|out| network.contains(out)) {
        left.push(network);
        return;
    }
    // An exception lies strictly inside, so the network has two halves.
    let halves = network.subnets(network.prefix_len().saturating_add(1));
    for half in halves.into_iter().flatten() {
        subtract(half, except, left);
    }
}

#[cfg(test)]
mod tests;
