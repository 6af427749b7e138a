//! The same rule for clusters whose network plugin cannot be chained to.
//!
//! These forms are weaker than the node's own guard, and each says in its header in what: they
//! select pods by namespace, know no source check and leave the node's own addresses to the
//! network plugin.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::config::{Gateway, NodeConfig};

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
         # pod labelled k8s-app=kube-dns, every port of the gateway is open, nothing is counted.\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: egress-warden, namespace: {namespace}}}\n\
         spec:\n  podSelector: {{}}\n  policyTypes: [Egress]\n  egress:\n"
    );
    for network in &config.cluster_networks {
        let _ = writeln!(text, "  - to: [{{ipBlock: {{cidr: \"{network}\"}}}}]");
        let _ = writeln!(text, "    ports:");
        // Everything but DNS to other resolvers; a NetworkPolicy has no deny.
        for (start, end) in [(1, 52), (54, 852), (854, 65535)] {
            for protocol in ["TCP", "UDP"] {
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

fn cilium(config: &NodeConfig) -> String {
    let exempt: Vec<String> = config
        .exempt_namespaces
        .iter()
        .chain(config.gateway.iter().map(|gateway| &gateway.namespace))
        .map(|name| format!("\"{name}\""))
        .collect();
    let mut text = format!(
        "# Weaker than the node's guard: the gateway's namespace is exempt as a whole and needs a\n\
         # policy of its own; identities follow labels, which tenants of a namespace choose.\n\
         apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: egress-warden}}\nspec:\n  \
         endpointSelector:\n    matchExpressions:\n    - {{key: k8s:io.kubernetes.pod.namespace, operator: NotIn, values: [{}]}}\n  egress:\n  \
         - toEndpoints: [{{matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}}}]\n    \
         toPorts: [{{ports: [{{port: \"53\", protocol: ANY}}]}}]\n  \
         - toEntities: [kube-apiserver]\n",
        exempt.join(", ")
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
    let _ = writeln!(
        text,
        "  - toEndpoints:\n    - matchExpressions:\n      - {{key: k8s:io.kubernetes.pod.namespace, operator: NotIn, values: [{}]}}\n  \
         egressDeny:\n  - toEntities: [all]\n    toPorts: [{{ports: [{{port: \"853\", protocol: ANY}}]}}]\n  \
         - toCIDR: [\"169.254.169.254/32\", \"169.254.170.2/32\", \"168.63.129.16/32\", \"100.100.100.200/32\", \"fd00:ec2::254/128\"]",
        config
            .gateway
            .iter()
            .map(|gateway| format!("\"{}\"", gateway.namespace))
            .collect::<Vec<_>>()
            .join(", ")
    );
    text
}

fn calico(config: &NodeConfig) -> String {
    let exempt: Vec<String> = config
        .exempt_namespaces
        .iter()
        .chain(config.gateway.iter().map(|gateway| &gateway.namespace))
        .map(|name| format!("'{name}'"))
        .collect();
    let mut text = format!(
        "# Weaker than the node's guard: the gateway's namespace is exempt as a whole and needs a\n\
         # policy of its own. Works with Calico's eBPF datapath, which the node's guard does not.\n\
         apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: egress-warden}}\nspec:\n  \
         order: 10\n  types: [Egress]\n  namespaceSelector: kubernetes.io/metadata.name not in {{ {} }}\n  egress:\n  \
         - {{action: Deny, destination: {{nets: [\"169.254.169.254/32\", \"169.254.170.2/32\", \"168.63.129.16/32\", \"100.100.100.200/32\"]}}}}\n  \
         - {{action: Deny, destination: {{nets: [\"fd00:ec2::254/128\"]}}}}\n",
        exempt.join(", ")
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
        let _ = writeln!(
            text,
            "  - {{action: Allow, protocol: {}, destination: {{nets: [{}], ports: [{}]}}}}",
            reach.protocol.nft().to_uppercase(),
            cidrs(&reach.networks),
            ports.join(", ")
        );
    }
    for v4 in [true, false] {
        let networks: Vec<IpNet> = config
            .cluster_networks
            .iter()
            .filter(|network| network.addr().is_ipv4() == v4)
            .copied()
            .collect();
        if !networks.is_empty() {
            let _ = writeln!(
                text,
                "  - {{action: Allow, destination: {{nets: [{}]}}}}",
                cidrs(&networks)
            );
        }
    }
    text.push_str("  - {action: Deny}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden files; `EGRESS_CNI_BLESS=1` rewrites them.
    #[test]
    fn every_form_of_one_configuration() {
        let config = NodeConfig::parse("test", crate::rules::EXAMPLE).unwrap();
        for (name, form) in [
            ("networkpolicy.yaml", Form::NetworkPolicy),
            ("cilium.yaml", Form::Cilium),
            ("calico.yaml", Form::Calico),
        ] {
            let actual = render(&config, form, &["app1-ns".to_owned(), "app2-ns".to_owned()]);
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/golden")
                .join(name);
            if std::env::var_os("EGRESS_CNI_BLESS").is_some() {
                std::fs::write(&path, &actual).unwrap();
            }
            assert!(
                std::fs::read_to_string(&path).unwrap_or_default() == actual,
                "{name} differs"
            );
        }
    }
}
