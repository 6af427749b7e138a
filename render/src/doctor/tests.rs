use std::collections::BTreeSet;

use serde_json::json;

use super::{Finding, Health, Needs, istiod, mesh};
use crate::install::Install;
use egress_policy::ports::MeshPorts;

fn needs() -> Needs {
    Needs {
        traffic: MeshPorts {
            labels: BTreeSet::from(["egress-ruleset".to_owned(), "tier".to_owned()]),
            ..MeshPorts::default()
        },
        trust_domains: vec!["cluster.local".to_owned()],
        dns_capture: false,
    }
}

fn bad(findings: &[Finding]) -> Vec<&'static str> {
    let bad = findings
        .iter()
        .filter(|finding| finding.health == Health::Bad);
    bad.map(|finding| finding.setting).collect()
}

#[test]
fn istiods_environment_is_judged_setting_by_setting() {
    const SCOPE: &str = "PILOT_SCOPE_GATEWAY_TO_NAMESPACE";
    const LABELS: &str = "PILOT_MX_ADDITIONAL_LABELS";
    const EXCHANGE: &str = "PILOT_ENABLE_METADATA_EXCHANGE";
    let both = format!("{LABELS}=tier,egress-ruleset");
    for (environment, wanted) in [
        (String::new(), vec![SCOPE, LABELS]),
        (format!("{SCOPE}=true\n{both}"), vec![]),
        (format!("{SCOPE}=false\n{both}"), vec![SCOPE]),
        // The last one counts, as for a process.
        (format!("{SCOPE}=true\n{SCOPE}=false\n{both}"), vec![SCOPE]),
        (format!("{SCOPE}=true\n{LABELS}=tier"), vec![LABELS]),
        (
            format!("{SCOPE}=true\n{LABELS}=tier,egress-ruleset2"),
            vec![LABELS],
        ),
        (
            format!("{SCOPE}=true\n{both}\n{EXCHANGE}=false"),
            vec![EXCHANGE],
        ),
    ] {
        assert_eq!(
            bad(&istiod(&environment, &needs())),
            wanted,
            "{environment}"
        );
    }
}

#[test]
fn a_trust_domain_that_no_policy_names_is_bad() {
    assert!(bad(&mesh(&json!({}), &needs())).is_empty());
    assert!(bad(&mesh(&json!({"trustDomain": "cluster.local"}), &needs())).is_empty());
    assert_eq!(
        bad(&mesh(&json!({"trustDomain": "td.example"}), &needs())),
        ["trustDomain"]
    );
}

/// Without it nobody is told the addresses that stand for names.
#[test]
fn names_over_opaque_tcp_need_dns_capture() {
    const SETTING: &str = "defaultConfig.proxyMetadata.ISTIO_META_DNS_CAPTURE";
    for (settings, names, capture, wanted) in [
        ("names: DNSCapture", "domainNames: [a.example]", None, true),
        (
            "names: DNSCapture",
            "domainNames: [a.example]",
            Some("false"),
            true,
        ),
        (
            "names: DNSCapture",
            "domainNames: [a.example]",
            Some("true"),
            false,
        ),
        // Nothing has an address.
        (
            "names: DNSCapture",
            "domainNames: [\"*.db.example\"]",
            None,
            false,
        ),
        ("names: DNSCapture", "networks: [192.0.2.0/24]", None, false),
        ("names: Zone", "domainNames: [a.example]", None, false),
        ("windowMiB: 64", "domainNames: [a.example]", None, false),
    ] {
        let install = crate::sample::install(&format!("tunnel: {{{settings}}}"));
        let to: serde_json::Value =
            serde_saphyr::from_str(&format!("{{{names}, ports: [22], protocols: [TCP]}}")).unwrap();
        let rule = json!({"name": "r", "from": [{"namespaces": ["app1-ns"]}], "to": [to], "action": "Accept"});
        let policy = crate::sample::policy("p", &json!({"name": "t", "rules": [rule]}));
        let needs = Needs::of(&install, &[policy]).unwrap();
        let mut config = json!({});
        if let Some(capture) = capture {
            config =
                json!({"defaultConfig": {"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": capture}}});
        }
        let bad = bad(&mesh(&config, &needs));
        assert_eq!(
            bad.contains(&SETTING),
            wanted,
            "{settings} {names} {capture:?}"
        );
    }
}

/// The flags that make a cut download look whole (`docs/evidence/envoy.md`).
#[test]
fn flags_that_hide_a_loss_are_bad() {
    const HALF_CLOSE: &str = "envoy.reloadable_features.allow_multiplexed_upstream_half_close";
    const RESET: &str = "envoy.reloadable_features.map_http_stream_reset_to_tcp_rst";
    const TUNNELLED: &str =
        "envoy.reloadable_features.propagate_upstream_rst_through_tunneled_tcp_proxy";
    for (flag, value, is_bad) in [
        (HALF_CLOSE, json!("true"), true),
        (HALF_CLOSE, json!(true), true),
        (HALF_CLOSE, json!("1"), true),
        (HALF_CLOSE, json!("false"), false),
        (RESET, json!("false"), true),
        (RESET, json!("False"), true),
        (RESET, json!("true"), false),
        (TUNNELLED, json!("false"), true),
        (TUNNELLED, json!("0"), true),
        (TUNNELLED, json!("true"), false),
        ("envoy.reloadable_features.other", json!("false"), false),
    ] {
        let found = mesh(
            &json!({"defaultConfig": {"runtimeValues": {flag: value}}}),
            &needs(),
        );
        let bad = bad(&found);
        assert_eq!(bad.len(), usize::from(is_bad), "{flag} {value}: {bad:?}");
        assert!(bad.iter().all(|setting| setting.contains(flag)), "{bad:?}");
    }
}

/// What the kernel opens is for the pods of the mesh that the settings name.
#[test]
fn with_udp_rules_the_mesh_has_to_be_the_one_of_the_settings() {
    let install = Install::read(
        r#"
apiVersion: egress-warden.io/v1alpha1
kind: EgressGateway
spec:
  istio: {version: "1.31"}
  gateway: {namespace: g, service: g, serviceAccount: g, selector: {istio: g}}
  module: {url: "file:///module.wasm"}
  workloads: {namespaces: [a]}
  cluster:
    trustDomain: east.example
    networks: {pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}
"#,
    )
    .unwrap();
    let needs = |protocol: &str| {
        let policy = json!({
            "apiVersion": "egress-warden.io/v1alpha1",
            "kind": "ClusterEgressPolicy",
            "metadata": {"name": "p"},
            "spec": {
                "identity": {"trustDomains": ["east.example", "west.example"]},
                "tiers": [{"name": "t", "rules": [{
                    "name": "r",
                    "from": [{"namespaces": ["a"]}],
                    "to": [{"networks": ["192.0.2.0/24"], "ports": [123], "protocols": [protocol]}],
                    "action": "Accept",
                }]}],
            },
        });
        Needs::of(&install, &[policy]).unwrap()
    };
    let west = json!({"trustDomain": "west.example"});
    assert!(bad(&mesh(&west, &needs("TCP"))).is_empty());
    assert_eq!(bad(&mesh(&west, &needs("UDP"))), ["trustDomain"]);
    let east = json!({"trustDomain": "east.example"});
    assert!(bad(&mesh(&east, &needs("UDP"))).is_empty());
}

#[test]
fn an_old_envoy_at_the_gateway_is_bad() {
    for (version, health) in [
        ("abc/1.39.0/Clean/RELEASE/BoringSSL", super::Health::Good),
        ("abc/1.38.3/Clean/RELEASE/BoringSSL", super::Health::Bad),
        ("", super::Health::Bad),
    ] {
        let found = super::envoy(&serde_json::json!({"version": version}));
        assert_eq!(found.health, health, "{version}");
        assert_eq!(found.found.as_deref(), Some(version));
    }
}
