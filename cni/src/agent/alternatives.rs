//! The same rule for clusters whose network plugin cannot be chained to.
//!
//! These forms are weaker than the node's own guard, and each says in its header in what: they
//! select pods by namespace, know no source check and leave the node's own addresses to the
//! network plugin. They were compared with what the APIs ask for, not run.

use std::fmt::Write as _;
use std::net::IpAddr;

use egress_policy::address::metadata;
use ipnet::IpNet;

use crate::config::{Gateway, NodeConfig};
use crate::rules::OVERLAY_PORTS;

/// A network plugin's policy language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `networking.k8s.io/v1` `NetworkPolicy`, one per namespace.
    NetworkPolicy,
    /// Cilium's `CiliumClusterwideNetworkPolicy`.
    Cilium,
    /// Calico's `GlobalNetworkPolicy`.
    Calico,
}

/// Renders `config` in `form`; `namespaces` are the namespaces to guard, needed by the
/// namespaced form only.
#[must_use]
pub fn render(config: &NodeConfig, form: Form, namespaces: &[String]) -> String {
    match form {
        Form::NetworkPolicy => namespaces
            .iter()
            .map(|namespace| network_policy(config, namespace))
            .collect(),
        Form::Cilium => cilium(config),
        Form::Calico => calico(config),
    }
}

fn cidrs(networks: &[IpNet]) -> String {
    networks
        .iter()
        .map(|network| format!("\"{network}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

fn gateway_ports(gateway: &Gateway) -> Vec<(u16, u16)> {
    gateway.ports.iter().map(|ports| ports.bounds()).collect()
}

fn network_policy(config: &NodeConfig, namespace: &str) -> String {
    let mut text = format!(
        "# Weaker than the node's guard: a pod's own node stays reachable, DNS is allowed to any\n\
         # pod labelled k8s-app=kube-dns, every port of the gateway is open, nothing is counted, and\n\
         # what becomes of other protocols than TCP, UDP and SCTP (IP in IP, GRE, ESP) is left to the\n\
         # network plugin. Policies add up: another one in the namespace opens what this one closes.\n\
         # UDP exceptions are not in it: they stay closed.\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: egress-warden, namespace: {namespace}}}\n\
         spec:\n  podSelector: {{}}\n  policyTypes: [Egress]\n  egress:\n"
    );
    for network in &config.cluster_networks {
        let _ = writeln!(text, "  - to: [{{ipBlock: {{cidr: \"{network}\"}}}}]");
        let _ = writeln!(text, "    ports:");
        // Everything but DNS to other resolvers and overlays; a NetworkPolicy has no deny.
        for (protocol, closed) in [("TCP", &[][..]), ("UDP", &OVERLAY_PORTS)] {
            for (start, end) in all_but([&[53, 853], closed].concat()) {
                let _ = writeln!(
                    text,
                    "    - {{protocol: {protocol}, port: {start}, endPort: {end}}}"
                );
            }
        }
    }
    text.push_str(
        "  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]\n    \
         ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]\n",
    );
    for reach in &config.reach {
        for network in &reach.networks {
            let _ = writeln!(
                text,
                "  - to: [{{ipBlock: {{cidr: \"{network}\"}}}}]\n    ports:"
            );
            for (start, end) in reach.ports.iter().map(|ports| ports.bounds()) {
                let protocol = reach.protocol.nft().to_uppercase();
                let _ = writeln!(
                    text,
                    "    - {{protocol: {protocol}, port: {start}, endPort: {end}}}"
                );
            }
        }
    }
    text.push_str("---\n");
    text
}

/// The ranges between `closed` ports.
fn all_but(mut closed: Vec<u16>) -> Vec<(u16, u16)> {
    closed.sort_unstable();
    let mut start = 1;
    let mut ranges = Vec::new();
    for port in closed {
        if start < port {
            ranges.push((start, port - 1));
        }
        start = port + 1;
    }
    ranges.push((start, u16::MAX));
    ranges
}

/// Pods outside of `namespaces`, as Cilium's expressions. `NotIn` alone also holds for what has
/// no namespace, the whole world among it: Cilium asks for a namespace itself only where a
/// selector does not name that label (`getEndpointSelector` in its `cilium.io/utils`).
fn pods_outside(namespaces: &[String]) -> String {
    const KEY: &str = "k8s:io.kubernetes.pod.namespace";
    let mut text = format!("[{{key: {KEY}, operator: Exists}}");
    // `NotIn` nothing is refused.
    if !namespaces.is_empty() {
        let _ = write!(
            text,
            ", {{key: {KEY}, operator: NotIn, values: [{}]}}",
            namespaces.join(", ")
        );
    }
    text + "]"
}

fn cilium(config: &NodeConfig) -> String {
    let exempt: Vec<String> = config
        .exempt_namespaces
        .iter()
        .chain(config.gateway.iter().map(|gateway| &gateway.namespace))
        .map(|name| format!("\"{name}\""))
        .collect();
    let mut text = format!(
        "# Weaker than the node's guard: the gateway's namespace is exempt as a whole and needs a\n\
         # policy of its own; identities follow labels, which tenants of a namespace choose; every\n\
         # port of other pods is open, so also a resolver or the end of a tunnel (VXLAN, Geneve) that\n\
         # a tenant runs there, and every port of the API server.\n\
         # `reach` and UDP exceptions are not in it: they stay closed.\n\
         apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: egress-warden}}\nspec:\n  \
         endpointSelector: {{matchExpressions: {}}}\n  egress:\n  \
         - toEndpoints: [{{matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}}}]\n    \
         toPorts: [{{ports: [{{port: \"53\", protocol: ANY}}]}}]\n  \
         - toEntities: [kube-apiserver]\n",
        pods_outside(&exempt)
    );
    if let Some(gateway) = &config.gateway {
        let ports: Vec<String> = gateway_ports(gateway)
            .iter()
            .map(|(start, end)| format!("{{port: \"{start}\", endPort: {end}, protocol: TCP}}"))
            .collect();
        let _ = writeln!(
            text,
            "  - toEndpoints: [{{matchLabels: {{k8s:io.kubernetes.pod.namespace: {}}}}}]\n    toPorts: [{{ports: [{}]}}]",
            gateway.namespace,
            ports.join(", ")
        );
    }
    let of_gateway: Vec<String> = config
        .gateway
        .iter()
        .map(|gateway| format!("\"{}\"", gateway.namespace))
        .collect();
    let _ = writeln!(
        text,
        "  - toEndpoints: [{{matchExpressions: {}}}]\n  \
         egressDeny:\n  - toEntities: [all]\n    toPorts: [{{ports: [{{port: \"853\", protocol: ANY}}]}}]\n  \
         - toCIDR: [{}]",
        pods_outside(&of_gateway),
        metadata_networks(|_| true)
    );
    text
}

/// Quoted, as a list's entries.
fn metadata_networks(wanted: impl Fn(&IpAddr) -> bool) -> String {
    let networks = metadata().filter(wanted).map(IpNet::from);
    let networks: Vec<String> = networks.map(|net| format!("\"{net}\"")).collect();
    networks.join(", ")
}

fn calico(config: &NodeConfig) -> String {
    let exempt: Vec<String> = config
        .exempt_namespaces
        .iter()
        .chain(config.gateway.iter().map(|gateway| &gateway.namespace))
        .map(|name| format!("'{name}'"))
        .collect();
    // `not in` alone also holds for what has no namespace: the nodes' own interfaces.
    let mut namespaces = "has(kubernetes.io/metadata.name)".to_owned();
    if !exempt.is_empty() {
        let _ = write!(
            namespaces,
            " && kubernetes.io/metadata.name not in {{ {} }}",
            exempt.join(", ")
        );
    }
    let mut text = format!(
        "# Weaker than the node's guard: the gateway's namespace is exempt as a whole and needs a\n\
         # policy of its own; identities follow labels, which tenants of a namespace choose. Works\n\
         # with Calico's eBPF datapath, which the node's guard does not.\n\
         # UDP exceptions are not in it: they stay closed.\n\
         apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: egress-warden}}\nspec:\n  \
         order: 10\n  types: [Egress]\n  namespaceSelector: {namespaces}\n  egress:\n  \
         - {{action: Deny, destination: {{nets: [{}]}}}}\n  \
         - {{action: Deny, destination: {{nets: [{}]}}}}\n",
        metadata_networks(IpAddr::is_ipv4),
        metadata_networks(IpAddr::is_ipv6)
    );
    for protocol in ["UDP", "TCP"] {
        let _ = writeln!(
            text,
            "  - {{action: Allow, protocol: {protocol}, destination: {{namespaceSelector: kubernetes.io/metadata.name == 'kube-system', selector: k8s-app == 'kube-dns', ports: [53]}}}}\n  \
             - {{action: Deny, protocol: {protocol}, destination: {{ports: [53, 853]}}}}"
        );
    }
    if let Some(gateway) = &config.gateway {
        let ports: Vec<String> = gateway_ports(gateway)
            .iter()
            .map(|(start, end)| {
                if start == end {
                    start.to_string()
                } else {
                    format!("'{start}:{end}'")
                }
            })
            .collect();
        let selector = format!("kubernetes.io/metadata.name == '{}'", gateway.namespace);
        let _ = writeln!(
            text,
            "  - {{action: Allow, protocol: TCP, destination: {{namespaceSelector: {selector}, ports: [{}]}}}}\n  \
             - {{action: Deny, destination: {{namespaceSelector: {selector}}}}}",
            ports.join(", ")
        );
    }
    for reach in &config.reach {
        let ports: Vec<String> = reach
            .ports
            .iter()
            .map(|ports| format!("'{}'", ports.to_string().replace('-', ":")))
            .collect();
        for (_, networks) in by_family(&reach.networks) {
            let _ = writeln!(
                text,
                "  - {{action: Allow, protocol: {}, destination: {{nets: [{}], ports: [{}]}}}}",
                reach.protocol.nft().to_uppercase(),
                cidrs(&networks),
                ports.join(", ")
            );
        }
    }
    let _ = writeln!(
        text,
        "  - {{action: Deny, protocol: UDP, destination: {{ports: [{}]}}}}",
        OVERLAY_PORTS.map(|port| port.to_string()).join(", ")
    );
    for (version, networks) in by_family(&config.cluster_networks) {
        let icmp = if version == 4 { "ICMP" } else { "ICMPv6" };
        // No protocol that another node would unpack.
        for protocol in ["TCP", "UDP", "SCTP", icmp] {
            let _ = writeln!(
                text,
                "  - {{action: Allow, ipVersion: {version}, protocol: {protocol}, destination: {{nets: [{}]}}}}",
                cidrs(&networks)
            );
        }
    }
    text.push_str("  - {action: Deny}\n");
    text
}

/// Calico refuses a rule that has networks of both families.
fn by_family(networks: &[IpNet]) -> Vec<(u8, Vec<IpNet>)> {
    let of = |version, v4| {
        let of: Vec<IpNet> = networks
            .iter()
            .filter(|network| network.addr().is_ipv4() == v4)
            .copied()
            .collect();
        (version, of)
    };
    let mut both = vec![of(4, true), of(6, false)];
    both.retain(|(_, networks)| !networks.is_empty());
    both
}

#[cfg(test)]
mod tests;
