use serde_json::{Value, json};

use super::networks;
use crate::doctor::Health;
use crate::install::Install;
use crate::sample;

fn install(own: &str) -> Install {
    sample::install(&format!("cluster: {{networks: {own}}}"))
}

fn services(cidrs: &[&str]) -> Value {
    json!({"kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}})
}

fn node(name: &str, pods: &[&str], address: &str) -> Value {
    json!({
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": pods.first(), "podCIDRs": pods},
        "status": {"addresses": [
            {"type": "Hostname", "address": name},
            {"type": "InternalIP", "address": address},
        ]},
    })
}

fn pool(cidr: &str, disabled: bool) -> Value {
    json!({"kind": "IPPool", "metadata": {"name": "default"},
           "spec": {"cidr": cidr, "disabled": disabled}})
}

fn cilium(cidr: &str) -> Value {
    json!({"kind": "CiliumNode", "metadata": {"name": "n1"},
           "spec": {"ipam": {"podCIDRs": [cidr]}}})
}

const OWN: &str = "{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}";

/// What is not good: how it stands, which setting, and what it should be.
fn judged(own: &str, objects: &[Value]) -> Vec<String> {
    let findings = networks(&install(own), objects);
    let found = findings
        .iter()
        .filter(|finding| finding.health != Health::Good);
    found
        .map(|finding| {
            let setting = finding.setting.rsplit('.').next().unwrap();
            format!("{:?} {setting}: {}", finding.health, finding.wanted)
        })
        .collect()
}

#[test]
fn the_stated_networks_are_compared_with_the_cluster() {
    let v6 = "{pods: [10.244.0.0/16, 'fd00:10:244::/48'], services: [10.96.0.0/12, \
              'fd00:10:96::/112'], nodes: [172.18.0.0/16]}";
    for (about, own, objects, wanted) in [
        ("nothing is known", OWN, vec![], vec![]),
        (
            "as stated",
            OWN,
            vec![
                services(&["10.96.0.0/12"]),
                node("n1", &["10.244.0.0/24"], "172.18.0.2"),
                node("n2", &["10.244.1.0/24"], "172.18.0.3"),
                pool("10.244.0.0/16", false),
                cilium("10.244.0.0/24"),
            ],
            vec![],
        ),
        (
            "Services elsewhere",
            OWN,
            vec![services(&["10.43.0.0/16"])],
            vec![
                "Bad services: 10.43.0.0/16 (ServiceCIDR kubernetes)",
                "Advice services: nothing",
            ],
        ),
        (
            "a second family of Services",
            OWN,
            vec![services(&["10.96.0.0/12", "fd00:10:96::/112"])],
            vec!["Bad services: fd00:10:96::/112 (ServiceCIDR kubernetes)"],
        ),
        (
            "narrower than the Services'",
            "{pods: [10.244.0.0/16], services: [10.96.0.0/16], nodes: []}",
            vec![services(&["10.96.0.0/12"])],
            vec!["Bad services: 10.96.0.0/12 (ServiceCIDR kubernetes)"],
        ),
        (
            "wider than the Services'",
            "{pods: [10.244.0.0/16], services: [10.96.0.0/11], nodes: []}",
            vec![services(&["10.96.0.0/12"])],
            vec!["Advice services: 10.96.0.0/12"],
        ),
        (
            "two that are one",
            "{pods: [10.244.0.0/17, 10.244.128.0/17], services: [10.96.0.0/12], nodes: []}",
            vec![pool("10.244.0.0/16", false)],
            vec![],
        ),
        (
            "a node's pods elsewhere",
            OWN,
            vec![node("n1", &["10.245.0.0/24"], "172.18.0.2")],
            vec!["Bad pods: 10.245.0.0/24 (Node n1)", "Advice pods: nothing"],
        ),
        (
            "room for more nodes is no fault",
            "{pods: [10.128.0.0/9], services: [10.96.0.0/12], nodes: []}",
            vec![node("n1", &["10.244.0.0/24"], "172.18.0.2")],
            vec![],
        ),
        (
            "a pool that is wider than stated",
            OWN,
            vec![pool("10.240.0.0/12", false)],
            vec!["Bad pods: 10.240.0.0/12 (IPPool default)"],
        ),
        (
            "a pool that is narrower",
            OWN,
            vec![pool("10.244.0.0/20", false)],
            vec!["Advice pods: 10.244.0.0/20"],
        ),
        (
            "a pool that is off",
            OWN,
            vec![pool("10.9.0.0/16", true)],
            vec![],
        ),
        (
            "Cilium's pods elsewhere",
            OWN,
            vec![cilium("10.0.1.0/24")],
            vec![
                "Bad pods: 10.0.1.0/24 (CiliumNode n1)",
                "Advice pods: nothing",
            ],
        ),
        (
            "a node elsewhere",
            OWN,
            vec![node("n1", &["10.244.0.0/24"], "192.168.7.2")],
            vec!["Bad nodes: 192.168.7.2 (Node n1)", "Advice nodes: nothing"],
        ),
        (
            "nodes are judged at the gateway",
            "{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: []}",
            vec![node("n1", &["10.244.0.0/24"], "192.168.7.2")],
            vec![],
        ),
        (
            "both families",
            v6,
            vec![
                services(&["10.96.0.0/12", "fd00:10:96::/112"]),
                node("n1", &["10.244.0.0/24", "fd00:10:244::/64"], "172.18.0.2"),
            ],
            vec![],
        ),
        (
            "the other family is missing",
            OWN,
            vec![node(
                "n1",
                &["10.244.0.0/24", "fd00:10:244::/64"],
                "172.18.0.2",
            )],
            vec!["Bad pods: fd00:10:244::/64 (Node n1)"],
        ),
        (
            "registered, though pods have networks",
            "{pods: registered, services: [10.96.0.0/12], nodes: []}",
            vec![
                node("n1", &["10.244.0.0/24"], "172.18.0.2"),
                node("n2", &["10.244.1.0/24"], "172.18.0.3"),
            ],
            vec!["Advice pods: 10.244.0.0/23"],
        ),
    ] {
        assert_eq!(judged(own, &objects), wanted, "{about}");
    }
}
