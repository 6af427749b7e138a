//! The steps of docs/how-to/install.md and roll-out.md, run in a shell against what is rendered: every rendered file is
//! applied by exactly one of them, whatever options are set.

use std::collections::{BTreeMap, BTreeSet};

use super::support::Folder;

const PAGES: [&str; 2] = [
    include_str!("../../../docs/how-to/install.md"),
    include_str!("../../../docs/how-to/roll-out.md"),
];

const POLICY: &str = r#"
apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: seed}
spec:
  identity: {trustDomains: [cluster.local]}
  tiers:
  - name: apps
    rules:
    - name: web
      from: [{namespaces: [app1-ns, app2-ns], matchLabels: {egress-ruleset: app1}}]
      to: [{domainNames: ["*.github.com"], ports: [80, 443]}]
      action: Accept
"#;

/// What only some policies have.
const FURTHER_RULES: &str = r#"
    - name: ntp
      from: [{namespaces: [app1-ns, app2-ns]}, {namespaces: [app1-ns], matchLabels: {clock: "yes"}}]
      to: [{networks: [198.51.100.0/24], ports: [123], protocols: [UDP]}]
      action: Accept
    - name: inspected
      from: [{namespaces: [app1-ns]}]
      to: [{domainNames: [a.example], ports: [443]}]
      action: Inspect
      inspection: dlp
    - name: https
      from: [{namespaces: [app1-ns]}]
      to: [{domainNames: [b.example], ports: [443], methods: [GET],
            tls: {originate: true, clientCertificate: b}}]
      action: Accept
    - name: database
      from: [{namespaces: [app1-ns]}, {namespaces: [app2-ns]}]
      to: [{domainNames: [db.example], ports: [5432], protocols: [TCP]}]
      action: Accept
"#;

const NAMES: &str = "
  tunnel: {names: DNSCapture, exceptions: [{framing: HTTP1, ports: [5432]}]}
";

const INSPECTION: &str = "
  inspection:
  - {name: dlp, address: 10.20.0.9, port: 3128, pods: {namespace: dlp, selector: {app: dlp}}}
  - {name: beside, address: 10.20.0.8, port: 3128, pods: {namespace: app1-ns, selector: {app: dlp}}}
";

fn install(istio: &str, gateway: &str, rest: &str) -> String {
    format!(
        r#"
apiVersion: egress-warden.io/v1alpha1
kind: EgressGateway
spec:
  istio: {{{istio}}}
  gateway:
    namespace: istio-egress
    service: egress-gateway
    serviceAccount: egress-gateway
    selector: {{istio: egressgateway, app: egress-gateway}}
    {gateway}
  module:
    url: oci://registry.example/egress-warden:0.1.0
    sha256: "{zeros}"
  workloads: {{namespaces: [NAMESPACES]}}
  cluster:
    networks: {{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}}
{rest}"#,
        zeros = "0".repeat(64)
    )
}

/// The numbered steps that apply something, each with its shell lines.
fn steps() -> BTreeMap<u32, String> {
    let mut steps: BTreeMap<u32, String> = BTreeMap::new();
    let mut step = None;
    let mut lines = PAGES.iter().flat_map(|page| page.lines());
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            step = title
                .split_once(". ")
                .and_then(|(number, _)| number.parse().ok());
        } else if let (Some(step), "```sh") = (step, line) {
            let text = steps.entry(step).or_default();
            for line in lines.by_ref().take_while(|line| *line != "```") {
                *text += line;
                *text += "\n";
            }
        }
    }
    steps.retain(|_, text| text.contains("kubectl apply"));
    steps
}

#[test]
fn every_rendered_file_is_applied_by_exactly_one_step() {
    assert_eq!(steps().into_keys().collect::<Vec<_>>(), [6, 7, 8]);
    let api = |api: &str| {
        format!("    adminPolicies: {{api: {api}}}\n    metricsNamespaces: [monitoring]")
    };
    for (about, install, rules) in [
        ("the least", install("version: \"1.31\"", "", ""), ""),
        (
            "everything",
            install(
                "version: \"1.32\", trafficExtension: true, revision: canary",
                "deployment: {}",
                &(api("ClusterNetworkPolicy") + INSPECTION + NAMES),
            ),
            FURTHER_RULES,
        ),
        (
            "the Gateway API",
            install(
                "version: \"1.32\"",
                "api: Kubernetes",
                &(api("AdminNetworkPolicy") + INSPECTION + NAMES),
            ),
            FURTHER_RULES,
        ),
    ] {
        one_namespace(about, &install, rules);
        two_namespaces(about, &install, rules);
    }
}

fn rendered(install: &str, namespaces: &str, rules: &str) -> (Folder, BTreeSet<String>) {
    let install = install.replace("NAMESPACES", namespaces);
    let folder = Folder::with(&[
        ("install.yaml", &install),
        ("policy.yaml", &(POLICY.trim_end().to_owned() + rules)),
    ]);
    let ran = folder.warden("render --install install.yaml --output-dir rendered policy.yaml");
    assert_eq!(ran.exit, 0, "{ran:?}");
    let names = folder.names("rendered").into_iter();
    let files = names.map(|name| format!("rendered/{name}")).collect();
    (folder, files)
}

fn one_namespace(about: &str, install: &str, rules: &str) {
    let (folder, files) = rendered(install, "app1-ns", rules);
    let mut by: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for (step, lines) in steps() {
        let applied = folder.applied_by(&lines);
        if step == 6 {
            changes_nothing_for_workloads(&folder, &applied);
        }
        let base = "rendered/app1-ns.networkpolicy.egress-warden.yaml";
        let udp = "rendered/app1-ns.networkpolicy.egress-warden-udp-";
        let position = |wanted: &str| applied.iter().position(|file| file.starts_with(wanted));
        // Alone an exception would close everything else.
        assert!(
            position(udp).is_none_or(|udp| position(base) < Some(udp)),
            "{applied:?}"
        );
        for file in applied {
            by.entry(file).or_default().insert(step);
        }
    }
    let applied: BTreeSet<_> = by.keys().cloned().collect();
    let missed: Vec<_> = files.difference(&applied).collect();
    assert!(missed.is_empty(), "{about}: no step applies {missed:?}");
    by.retain(|_, steps| steps.len() > 1);
    assert!(by.is_empty(), "{about}: by several steps: {by:?}");
}

/// "Repeat from step 7 for the next namespace."
fn two_namespaces(about: &str, install: &str, rules: &str) {
    let (folder, files) = rendered(install, "app1-ns, app2-ns", rules);
    let mut applied = BTreeSet::new();
    for (step, lines) in steps() {
        let first = folder.applied_by(&lines);
        let other = |file: &String| file.starts_with("rendered/app2-ns.");
        assert!(!first.iter().any(other), "{about}, step {step}");
        applied.extend(first);
        if step > 6 {
            applied.extend(folder.applied_by(&lines.replace("app1-ns", "app2-ns")));
        }
    }
    let missed: Vec<_> = files.difference(&applied).collect();
    assert!(missed.is_empty(), "{about}: no step applies {missed:?}");
}

/// "This step changes nothing for workloads": everything is the gateway's own, nothing tells sidecars
/// anything, and nothing closes.
fn changes_nothing_for_workloads(folder: &Folder, applied: &[String]) {
    for file in applied {
        let text = folder.read(file);
        let kind = text.lines().find_map(|line| line.strip_prefix("kind: "));
        let kind = kind.unwrap();
        assert!(text.contains("  namespace: istio-egress\n"), "{file}");
        assert!(!["NetworkPolicy", "ServiceEntry"].contains(&kind), "{file}");
    }
}
