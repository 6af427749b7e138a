//! `warden render --adopt`, `rollback` and `revoke`: what an admin does around a rendering.

use super::support::{Folder, REFERENCE};

const INSTALL: &str = include_str!("../../../istio/reference/install.yaml");

fn folder() -> Folder {
    Folder::with(&[("install.yaml", INSTALL), ("policy.yaml", REFERENCE)])
}

const EXISTING: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: networking.istio.io/v1
  kind: ServiceEntry
  metadata: {name: github, namespace: shared}
  spec:
    hosts: [api.github.com]
    ports: [{number: 443, name: tls, protocol: TLS}]
- apiVersion: v1
  kind: Service
  metadata: {name: other, namespace: shared}
";

#[test]
fn adopt_says_what_collides() {
    let folder = folder();
    folder.write("mesh.yaml", EXISTING);
    let line = "render --install install.yaml --adopt mesh.yaml policy.yaml";
    let ran = folder.warden(line);
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert_eq!(
        ran.stdout,
        "ServiceEntry shared/github (outside_host)\n  sidecars in app1-ns, app2-ns go straight to \
         api.github.com instead of to the gateway\n  help: remove it, or leave the enforced \
         namespaces out of its exportTo: the gateway needs no object per host\n2 objects read, 1 \
         collisions\n"
    );
    let json = folder.warden(&format!("{line} --output json"));
    assert_eq!(json.exit, 3);
    assert_eq!(json.json()["collisions"][0]["code"], "outside_host");
    let apart = EXISTING.replace("    hosts:", "    exportTo: ['.']\n    hosts:");
    folder.write("mesh.yaml", &apart);
    assert_eq!(folder.warden(line).exit, 0);
    folder.write("mesh.yaml", "a: [");
    assert_eq!(folder.warden(line).exit, 1);
    // What is rendered does not collide with itself.
    let rendered = folder.warden("render --install install.yaml policy.yaml");
    let again = "render --install install.yaml --adopt - policy.yaml";
    let again = folder.warden_with(again, &rendered.stdout);
    assert_eq!(again.exit, 0, "{again:?}");
}

#[test]
fn a_rendering_in_json_says_what_there_is_and_how_large() {
    let folder = folder();
    let line = "render --install install.yaml policy.yaml";
    let (text, json) = (
        folder.warden(line),
        folder.warden(&format!("{line} --output json")),
    );
    assert_eq!((json.exit, json.stderr.as_str()), (0, ""), "{json:?}");
    let json = json.json();
    assert_eq!(json["yaml"], text.stdout);
    assert_eq!(json["policy"], hash(&text.stderr));
    assert_eq!(json["inImage"], false);
    let count = json["objects"].as_array().unwrap().len();
    assert!(
        text.stderr.starts_with(&format!("{count} objects, ")),
        "{text:?}"
    );
    let line = format!("{line} --output-dir rendered --output json");
    let there = folder.warden(&line).json();
    assert_eq!(there["yaml"], serde_json::Value::Null);
    assert_eq!(there["objects"], json["objects"]);
    let refused = "render --install install.yaml policy.yaml --prune-list --output json";
    assert_eq!(folder.warden(refused).exit, 1);
}

#[test]
fn the_node_guard_is_told_the_clusters_networks() {
    let folder = folder();
    let line = "render --install install.yaml --node-networks policy.yaml";
    assert_eq!(
        folder.warden(line).json(),
        serde_json::json!({
            "clusterNetworks": ["10.244.0.0/16", "172.18.0.0/16"],
            "serviceNetworks": ["10.96.0.0/12"],
        })
    );
    let install = |networks: &str| {
        let stated = "{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}";
        assert!(INSTALL.contains(stated));
        folder.write("install.yaml", &INSTALL.replace(stated, networks));
        folder.warden(line)
    };
    let nothing = install("{pods: registered, services: [10.96.0.0/12], nodes: []}");
    assert_eq!(nothing.exit, 3, "{nothing:?}");
    assert!(
        nothing.stderr.contains("knows pods by their networks"),
        "{nothing:?}"
    );
    let missing = install("null");
    assert_eq!(missing.exit, 3, "{missing:?}");
    assert!(
        missing
            .stderr
            .contains("the cluster's own networks are not stated"),
        "{missing:?}"
    );
}

#[test]
fn the_node_guard_is_told_the_udp_that_a_policy_opens() {
    let folder = folder();
    let line = "render --install install.yaml --udp-exceptions";
    let none = folder.warden(&format!("{line} policy.yaml"));
    assert_eq!((none.exit, none.stdout.as_str()), (0, "[]\n"), "{none:?}");
    let rule = "    - {name: ntp, from: [{namespaces: [app1-ns]}], action: Accept, \
                to: [{networks: [198.51.100.0/24], ports: [123], protocols: [UDP]}]}\n";
    let first = "  - name: apps\n    rules:\n";
    let with = |rule: &str| {
        folder
            .read("policy.yaml")
            .replacen(first, &format!("{first}{rule}"), 1)
    };
    folder.write("udp.yaml", &with(rule));
    let one = folder.warden(&format!("{line} udp.yaml")).json();
    assert_eq!(
        one[0]["networks"],
        serde_json::json!(["198.51.100.0/24"]),
        "{one}"
    );
    folder.write(
        "ends.yaml",
        &with(&rule.replace("ntp,", "ntp, expires: \"2030-01-01T00:00:00Z\",")),
    );
    for line in [
        format!("{line} ends.yaml"),
        "render --install install.yaml ends.yaml".to_owned(),
    ] {
        let refused = folder.warden(&line);
        assert_eq!(refused.exit, 3, "{refused:?}");
        assert!(
            refused
                .stderr
                .contains(".expires: a UDP rule cannot expire"),
            "{refused:?}"
        );
    }
}

fn hash(ran: &str) -> String {
    let line = ran.lines().find(|line| line.contains("objects, policy"));
    line.unwrap().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn rollback_puts_out_what_was_rendered_and_lists_what_came_since() {
    let folder = folder();
    let render = "render --install install.yaml --history renders policy.yaml";
    let first = folder.warden(render);
    assert_eq!(first.exit, 0, "{first:?}");
    // Rendered again, the same is not kept twice.
    assert_eq!(folder.warden(render).exit, 0);
    let more = INSTALL.replace("[app1-ns, app2-ns]", "[app1-ns, app2-ns, app3-ns]");
    folder.write("install.yaml", &more);
    let without_ssh = REFERENCE.replace("203.0.113.7/32", "203.0.113.9/32");
    folder.write("policy.yaml", &without_ssh);
    let second = folder.warden(render);
    let (old, new) = (hash(&first.stderr), hash(&second.stderr));
    assert_ne!(old, new);

    let back = folder.warden(&format!(
        "rollback {} --history renders",
        old.get(..8).unwrap()
    ));
    assert_eq!(back.exit, 0, "{back:?}");
    assert_eq!(back.stdout, first.stdout);
    assert!(
        back.stderr.contains(&old) && back.stderr.contains("(render 2)"),
        "{back:?}"
    );
    let prune = folder.warden(&format!("rollback {old} --history renders --prune-list"));
    assert_eq!(
        prune.stdout,
        "Sidecar.networking.istio.io app3-ns egress-warden\n\
         EnvoyFilter.networking.istio.io app3-ns egress-warden-tunnel\n\
         EnvoyFilter.networking.istio.io app3-ns egress-warden-inside\n\
         NetworkPolicy.networking.k8s.io app3-ns egress-warden\n"
    );
    let written = folder.warden(&format!(
        "rollback {old} --history renders --output-dir out"
    ));
    assert_eq!(written.exit, 0);
    assert_eq!(folder.read("out/rendered.yaml"), first.stdout);
    assert_eq!(folder.read("out/prune"), prune.stdout);
    // Nothing to go back from.
    let same = folder.warden(&format!("rollback {new} --history renders --prune-list"));
    assert_eq!((same.exit, same.stdout.as_str()), (0, ""));
}

/// What opens to whom the settings no longer name is taken out of the folder, and named for the
/// cluster: by the render before, and by what the cluster has.
#[test]
fn what_is_no_longer_rendered_goes_from_the_folder_and_the_cluster() {
    let folder = folder();
    let render = "render --install install.yaml policy.yaml --output-dir rendered";
    let keep = format!("{render} --history renders");
    folder.write("rendered/.gitkeep", "");
    let first = folder.warden(&keep);
    assert_eq!(first.exit, 0, "{first:?}");
    assert!(!first.stderr.contains("removed"), "{first:?}");
    let mut before = folder.names("rendered");
    before.sort_unstable();
    let two = "[app1-ns, app2-ns]";
    assert!(INSTALL.contains(two));
    folder.write("install.yaml", &INSTALL.replace(two, "[app1-ns]"));
    // What was not rendered is not removed, and nothing is written beside it.
    for (name, text) in [
        ("notes.txt", "read me"),
        (
            "app2-ns.pod.mine.yaml",
            "kind: Pod\nmetadata: {name: mine}\n",
        ),
        (
            "below/own.yaml",
            "labels:\n  app.kubernetes.io/part-of: other\n",
        ),
        (
            "node-guard.yaml",
            "metadata:\n  labels:\n    app.kubernetes.io/part-of: egress-warden\n",
        ),
    ] {
        let path = format!("rendered/{name}");
        folder.write(&path, text);
        let refused = folder.warden(render);
        assert_eq!(refused.exit, 1, "{name}: {refused:?}");
        assert!(refused.stderr.contains(&format!("`{name}`")), "{refused:?}");
        assert_eq!(folder.read(&path), text);
        assert!(
            folder.names("rendered").contains(&before[before.len() - 1]),
            "{name}"
        );
        folder.remove(&path);
    }
    let then = folder.warden(&format!("{render} --output json")).json();
    let removed: Vec<&str> = then["removed"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|name| name.as_str())
        .collect();
    assert!(!removed.is_empty());
    assert!(
        removed.iter().all(|name| name.starts_with("app2-ns.")),
        "{removed:?}"
    );
    let mut after = folder.names("rendered");
    after.extend(removed.iter().map(|name| (*name).to_owned()));
    after.sort_unstable();
    after.dedup();
    before.push("below".to_owned());
    before.sort_unstable();
    assert_eq!(after, before);
    // By the render before, also when the new one is kept already.
    let list = "render --install install.yaml policy.yaml --prune-list";
    let by_history = folder.warden(&format!("{list} --history renders"));
    assert_eq!(by_history.exit, 0, "{by_history:?}");
    let lines: Vec<&str> = by_history.stdout.lines().collect();
    assert_eq!(lines.len(), removed.len(), "{lines:?}");
    assert_eq!(
        lines[0],
        "Sidecar.networking.istio.io app2-ns egress-warden"
    );
    assert_eq!(
        lines[lines.len() - 1],
        "NetworkPolicy.networking.k8s.io app2-ns egress-warden"
    );
    folder.warden(&keep);
    let again = folder.warden(&format!("{list} --history renders"));
    assert_eq!(again.stdout, by_history.stdout);
    // By the cluster: what is not of the product, or made by another object, stays.
    let object = |kind: &str, name: &str, more: &str| {
        format!(
            r#"{{"apiVersion": "networking.k8s.io/v1", "kind": "{kind}", "metadata": {{"namespace": "app2-ns", "name": "{name}"{more}}}}}"#
        )
    };
    let label = r#", "labels": {"app.kubernetes.io/part-of": "egress-warden", "app.kubernetes.io/managed-by": "warden"}"#;
    let owned = format!("{label}, \"ownerReferences\": []");
    let of_a_file = label.replace(", \"app.kubernetes.io/managed-by\": \"warden\"", "");
    let revised = label.replace('}', ", \"istio.io/rev\": \"canary\"}");
    let objects = [
        object("NetworkPolicy", "egress-warden", label),
        object("NetworkPolicy", "egress-warden-udp-0", label),
        object("Ingress", "old", label),
        object("NetworkPolicy", "mine", ""),
        object("NetworkPolicy", "made", &owned),
        // The node guard's, which comes from files; a Service's, which Kubernetes makes with its labels.
        object("DaemonSet", "egress-warden-cni", &of_a_file),
        object("Endpoints", "egress-gateway", label),
        object("NetworkPolicy", "canary", &revised),
    ];
    let cluster = format!(
        r#"{{"apiVersion": "v1", "kind": "List", "items": [{}]}}"#,
        objects.join(",")
    );
    let by_cluster = folder.warden_with(&format!("{list} --cluster -"), &cluster);
    assert_eq!(
        (by_cluster.exit, by_cluster.stdout.as_str()),
        (
            0,
            "Ingress.networking.k8s.io app2-ns old\n\
             NetworkPolicy.networking.k8s.io app2-ns egress-warden\n\
             NetworkPolicy.networking.k8s.io app2-ns egress-warden-udp-0\n"
        )
    );
    assert_eq!(
        folder.warden_with(&format!("{list} --cluster -"), "").exit,
        1
    );
}

#[test]
fn rollback_refuses_what_is_not_there_or_not_whole() {
    let folder = folder();
    assert_eq!(folder.warden("rollback abc --history renders").exit, 1);
    let render = "render --install install.yaml --history renders policy.yaml";
    let hash = hash(&folder.warden(render).stderr);
    assert_eq!(folder.warden("rollback zzz --history renders").exit, 1);
    let file = format!("renders/000001.{hash}.yaml");
    let whole = folder.read(&file);
    let rollback = format!("rollback {hash} --history renders");
    assert_eq!(folder.warden(&rollback).exit, 0);
    let half = whole.get(..whole.len() / 2).unwrap();
    let one_less = whole.split_once("---\n").unwrap().1;
    let other = whole.replacen(&hash, &"0".repeat(64), 1);
    for broken in [half, one_less, &other, ""] {
        folder.write(&file, broken);
        assert_eq!(folder.warden(&rollback).exit, 1);
    }
}

fn revoke<'a>(workload: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec![
        "revoke",
        workload,
        "--owner",
        "soc",
        "--reason",
        "stolen key",
    ];
    line.extend(["--ticket", "INC-7", "policy.yaml"]);
    line.extend(more);
    line
}

#[test]
fn a_revoked_workload_reaches_nothing_and_the_rest_of_the_file_stays() {
    let folder = folder();
    let ask = |account: &str, to: &str| {
        folder
            .warden(&format!(
                "explain policy.yaml --from app1-ns/{account},label=egress-ruleset=app1 --to {to}"
            ))
            .exit
    };
    assert_eq!(ask("app1", "https://api.github.com"), 0);
    let printed = folder.run(&revoke("app1-ns/app1", &[]));
    assert_eq!(printed.exit, 0, "{printed:?}");
    // Streams are judged again where a policy revokes: by default nothing waits for their longest end.
    for words in [
        "three seconds",
        "recheckOnUpdate: false",
        "maxStreamSeconds",
    ] {
        assert!(printed.stderr.contains(words), "{words}: {printed:?}");
    }
    assert_eq!(folder.read("policy.yaml"), REFERENCE);
    let write = revoke("app1-ns/app1", &["--review", "2026-12-24", "--write"]);
    let ran = folder.run(&write);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let text = folder.read("policy.yaml");
    let added = "  - name: revoked\n    rules:\n    - name: app1-ns-app1\n      \
                 from: [{serviceAccounts: [\"app1-ns/app1\"]}]\n      action: Deny\n      \
                 owner: \"soc\"\n      reason: \"stolen key (review by 2026-12-24)\"\n      \
                 ticket: \"INC-7\"\n";
    assert!(text.contains(added), "{text}");
    assert_eq!(text.replace(added, ""), REFERENCE);
    assert_eq!(folder.warden("check policy.yaml").exit, 0);
    for to in [
        "https://api.github.com",
        "http://api.github.com",
        "tcp://203.0.113.7:22",
    ] {
        assert_eq!(ask("app1", to), 2, "{to}");
        assert_eq!(ask("other", to), 0, "{to}");
    }
    // A second one joins the first; the same again is said.
    assert_eq!(folder.run(&write).exit, 1);
    let second = revoke("app1-ns/other", &["--write"]);
    assert_eq!(folder.run(&second).exit, 0);
    assert_eq!(ask("other", "https://api.github.com"), 2);
    assert_eq!(ask("third", "https://api.github.com"), 0);
}

/// What `revoke` says of running streams is what is rendered: the module ends them unless the settings
/// say that it does not, and then they end after their longest duration.
#[test]
fn streams_of_a_revoked_workload_end_as_revoke_says() {
    for (revoked, setting, ends) in [
        (false, "", false),
        (true, "", true),
        (true, "recheckOnUpdate: true", true),
        (true, "recheckOnUpdate: false", false),
    ] {
        let folder = folder();
        let gateway = format!("  gateway:\n    maxStreamSeconds: 1234\n    {setting}\n");
        folder.write("install.yaml", &INSTALL.replace("  gateway:\n", &gateway));
        if revoked {
            let ran = folder.run(&revoke("app1-ns/app1", &["--write"]));
            assert_eq!(ran.exit, 0, "{ran:?}");
        }
        let ran = folder.warden("render --install install.yaml policy.yaml");
        assert_eq!(ran.exit, 0, "{ran:?}");
        let rechecks = ran.stdout.contains("recheckOnUpdate");
        assert_eq!(rechecks, ends, "revoked: {revoked}, {setting}");
        assert!(ran.stdout.contains("1234s"), "the longest duration");
    }
}

#[test]
fn what_cannot_be_revoked_is_left_alone() {
    let flow = "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {name: p}\n\
                spec: {identity: {trustDomains: [a]}, tiers: [{name: t, rules: [{name: r, action: Deny}]}]}\n";
    let json = "{\"apiVersion\": 1}";
    for (policy, workload, exit) in [
        (flow, "a/b", 1),
        (json, "a/b", 3),
        (REFERENCE, "app1", 1),
        (REFERENCE, "A B/c", 1),
    ] {
        let folder = Folder::with(&[("policy.yaml", policy)]);
        let ran = folder.run(&revoke(workload, &["--write"]));
        assert_eq!(ran.exit, exit, "{policy} {workload} {ran:?}");
        assert_eq!(folder.read("policy.yaml"), policy);
    }
}

#[test]
fn doctor_judges_each_revision_by_its_own_settings() {
    let folder = folder();
    let scope = "PILOT_SCOPE_GATEWAY_TO_NAMESPACE=true\n";
    let both = format!("{scope}PILOT_MX_ADDITIONAL_LABELS=egress-ruleset\n");
    folder.write("stable.env", &both);
    folder.write("canary.env", scope);
    let doctor = "doctor --install install.yaml policy.yaml";
    let good = folder.warden(&format!("{doctor} --istiod-env stable.env"));
    assert_eq!(good.exit, 0, "{good:?}");
    let line = format!("{doctor} --istiod-env stable=stable.env --istiod-env canary=canary.env");
    let ran = folder.warden(&line);
    assert_eq!(ran.exit, 3, "{ran:?}");
    let bad = "bad     canary: PILOT_MX_ADDITIONAL_LABELS = egress-ruleset (found: not set)";
    assert!(ran.stdout.contains(bad), "{ran:?}");
    assert!(!ran.stdout.contains("bad     stable"), "{ran:?}");
    let json = folder.warden(&format!("{line} --output json")).json();
    let findings = json["findings"].as_array().unwrap();
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| finding["health"] == "bad")
        .collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0]["revision"], "canary");
}

/// What was not asked, what is not there and what is wrong are three things.
#[test]
fn doctor_says_nothing_of_what_it_has_not_seen() {
    let folder = folder();
    for (name, text) in [
        ("empty", ""),
        ("braces", "{}"),
        ("pod.yaml", "kind: Pod\nmetadata: {name: a}\n"),
        ("mesh.yaml", "rootNamespace: istio-system\n"),
    ] {
        folder.write(name, text);
    }
    let doctor = "doctor --install install.yaml policy.yaml";
    let unasked = folder.warden(doctor);
    assert_eq!(unasked.exit, 0, "{unasked:?}");
    assert!(
        unasked
            .stdout
            .contains("not asked  trustDomain = cluster.local\n"),
        "{unasked:?}"
    );
    assert!(
        !unasked.stdout.contains("bad") && !unasked.stdout.contains("found:"),
        "{unasked:?}"
    );
    for file in ["empty", "braces", "pod.yaml", "install.yaml"] {
        let ran = folder.warden(&format!("{doctor} --mesh-config {file}"));
        assert_eq!(ran.exit, 1, "{file}: {ran:?}");
        assert!(
            ran.stderr.contains("no mesh configuration"),
            "{file}: {ran:?}"
        );
    }
    for file in ["empty", "braces", "pod.yaml"] {
        let ran = folder.warden(&format!("{doctor} --istiod-env {file}"));
        assert_eq!(ran.exit, 1, "{file}: {ran:?}");
        assert!(ran.stderr.contains("no environment"), "{file}: {ran:?}");
    }
    let real = folder.warden(&format!("{doctor} --mesh-config mesh.yaml"));
    assert!(real.stdout.contains("ok      trustDomain"), "{real:?}");
    // Of what was looked at what is not there is said; the other file was not given.
    for line in [
        "not asked  PILOT_SCOPE_GATEWAY_TO_NAMESPACE = true\n",
        "outboundTrafficPolicy.mode = REGISTRY_ONLY (found: not set)\n",
    ] {
        assert!(real.stdout.contains(line), "{line}: {real:?}");
    }
    folder.write("other.env", "PATH=/bin\nHOME=/root\n");
    let other = folder.warden(&format!("{doctor} --istiod-env other.env"));
    assert_eq!(other.exit, 1, "{other:?}");
    let info = folder.warden(&format!("{doctor} --server-info braces"));
    assert_eq!(info.exit, 1, "{info:?}");
    assert!(info.stderr.contains("no answer"), "{info:?}");
}

#[test]
fn doctor_compares_the_networks() {
    let folder = folder();
    let doctor = "doctor --install install.yaml policy.yaml --networks -";
    let cluster = |services: &[&str]| {
        serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
            {"kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": services}},
            {"kind": "Node", "metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.244.0.0/24"]},
             "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]}},
        ]})
        .to_string()
    };
    let good = folder.warden_with(doctor, &cluster(&["10.96.0.0/12"]));
    assert_eq!(good.exit, 0, "{good:?}");
    assert!(
        good.stdout
            .contains("ok      spec.cluster.networks.services"),
        "{good:?}"
    );
    let missing = folder.warden_with(doctor, &cluster(&["10.96.0.0/12", "fd00:10:96::/112"]));
    assert_eq!(missing.exit, 3, "{missing:?}");
    assert_eq!(
        missing.stdout.lines().next().unwrap(),
        "bad     spec.cluster.networks.services = fd00:10:96::/112 (ServiceCIDR kubernetes) \
         (found: 10.96.0.0/12)"
    );
    let wider = folder.warden_with(doctor, &cluster(&["10.96.0.0/16"]));
    assert_eq!(wider.exit, 0, "{wider:?}");
    assert!(
        wider
            .stdout
            .contains("advice  spec.cluster.networks.services"),
        "{wider:?}"
    );
    let other = folder.warden_with(doctor, r#"{"kind": "Pod", "metadata": {"name": "p"}}"#);
    assert_eq!(other.exit, 1, "{other:?}");
}

#[test]
fn doctor_lists_the_namespaces_and_pods_that_would_break() {
    const NAMESPACES: &str = "\
apiVersion: v1
kind: List
items:
- {kind: Namespace, metadata: {name: app1-ns, labels: {istio.io/dataplane-mode: ambient}}}
- {kind: Namespace, metadata: {name: app2-ns, labels: {istio-injection: enabled}}}
- {kind: Namespace, metadata: {name: elsewhere}}
";
    const PODS: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
{"kind": "Pod", "metadata": {"namespace": "app2-ns", "name": "bare"}, "spec": {"containers": [{"name": "app"}]}},
{"kind": "Pod", "metadata": {"namespace": "elsewhere", "name": "bare"}, "spec": {"containers": [{"name": "app"}]}}]}"#;
    let folder = folder();
    let doctor = "doctor --install install.yaml policy.yaml";
    let ran = folder.warden_with(&format!("{doctor} --namespaces -"), NAMESPACES);
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert_eq!(
        ran.stdout,
        "bad     Namespace app1-ns (ambient)\n        ambient mode has no way to the gateway: what \
         it sends outside is dropped\n        help: take the label istio.io/dataplane-mode away and \
         use sidecars, or take the namespace out of spec.workloads.namespaces\nbad     Namespace \
         app1-ns (not_injected)\n        its labels give new pods no sidecar, and a pod without one \
         has no way out\n        help: label it istio-injection=enabled, or istio.io/rev=REVISION\n2 \
         enforced namespaces looked at\n"
    );
    folder.write(
        "namespaces.yaml",
        &NAMESPACES.replacen(
            "istio.io/dataplane-mode: ambient",
            "istio-injection: enabled",
            1,
        ),
    );
    let good = folder.warden(&format!("{doctor} --namespaces namespaces.yaml"));
    assert_eq!(
        (good.exit, good.stdout.as_str()),
        (0, "2 enforced namespaces looked at\n")
    );
    let line = format!("{doctor} --namespaces namespaces.yaml --pods - --output json");
    let json = folder.warden_with(&line, PODS);
    assert_eq!(json.exit, 3, "{json:?}");
    let json = json.json();
    assert_eq!((&json["namespaces"], &json["pods"]), (&2.into(), &1.into()));
    assert_eq!(json["findings"].as_array().unwrap().len(), 0);
    let troubles = json["troubles"].as_array().unwrap();
    assert_eq!(troubles.len(), 1, "{json}");
    assert_eq!(
        (&troubles[0]["name"], &troubles[0]["code"]),
        (&"bare".into(), &"no_sidecar".into())
    );
    // docs/how-to/install.md has a row for each code.
    let page = include_str!("../../../docs/how-to/install.md");
    for code in egress_render::doctor::cluster::ClusterFindingCode::ALL {
        let row = format!("| `{}` |", code.word());
        assert!(page.contains(&row), "{row}");
    }
    // No pods are no trouble; what is no list of pods is no answer.
    for (text, exit) in [
        ("{\"kind\": \"List\", \"items\": []}", 0),
        ("", 1),
        ("kind: Deployment", 1),
        (NAMESPACES, 1),
        ("a: [", 1),
    ] {
        let ran = folder.warden_with(&format!("{doctor} --pods -"), text);
        assert_eq!(ran.exit, exit, "{text}: {ran:?}");
    }
    let twice = folder.warden_with(&format!("{doctor} --namespaces - --pods -"), NAMESPACES);
    assert_eq!(twice.exit, 1, "{twice:?}");
}

/// A gateway that says nothing has nothing, by its dump and by its statistics.
#[test]
fn verify_reads_a_gateways_dump_and_its_statistics() {
    let folder = folder();
    folder.write("dump.json", "{}");
    folder.write("stats.txt", "server.live: 1\n");
    let line = "verify --gateway dump.json --install install.yaml policy.yaml";
    let dump = folder.warden(line);
    let missing = "extensions: none that judges tunnels: refused, or not arrived";
    assert!(dump.stdout.contains(missing), "{dump:?}");
    let both = folder.warden(&format!("{line} --stats stats.txt"));
    let missing = "statistics of tunnels: no policies have loaded there";
    assert!(both.stdout.contains(missing), "{both:?}");
    assert_eq!((dump.exit, both.exit), (3, 3));
    let unread = folder.warden(&format!("{line} --stats nothing.txt"));
    assert_eq!(unread.exit, 1, "{unread:?}");
    let alone = "verify policy.yaml --from app1-ns/app1 --stats stats.txt";
    assert_eq!(folder.warden(alone).exit, 1);
    // An image of other policies than are given.
    let hash = "0".repeat(64);
    let other = INSTALL.replace("  module:\n", &format!("  module:\n    policy: {hash}\n"));
    folder.write("install.yaml", &other);
    let refused = folder.warden(line);
    assert!(
        refused.stderr.contains("the image carries the policies"),
        "{refused:?}"
    );
    assert_eq!(refused.exit, 3);
}

/// A new policy with other networks: the classes of the render before are there once more, and the
/// gateway that still has them is as it should be only with the history.
#[test]
fn a_history_keeps_the_classes_of_the_render_before() {
    let folder = folder();
    let denying = |network: &str| {
        let rules = "  - name: apps\n    rules:\n";
        let rule = format!("    - {{name: no, to: [{{networks: [{network}]}}], action: Deny}}\n");
        REFERENCE.replacen(rules, &format!("{rules}{rule}"), 1)
    };
    let render = |policy: &str, more: &str| {
        folder.write("policy.yaml", policy);
        let line = format!("render --install install.yaml --output json {more} policy.yaml");
        let ran = folder.warden(&line);
        assert_eq!(ran.exit, 0, "{ran:?}");
        let objects = ran.json()["objects"].as_array().unwrap().clone();
        let names = objects.iter().filter_map(|object| object["name"].as_str());
        let classes = names.filter(|name| name.starts_with("egress-warden-class-"));
        classes
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let (old, new) = (denying("198.51.100.0/24"), denying("203.0.113.0/24"));
    let (alone, then) = (render(&old, ""), render(&new, ""));
    assert_ne!(alone, then);
    let history = "--history renders";
    assert_eq!(render(&old, history), alone);
    assert_eq!(render(&new, history), &alone | &then);
    assert_eq!(render(&new, history), &alone | &then);
    folder.write("dump.json", "{\"configs\": []}");
    let verify = "verify --gateway dump.json --install install.yaml --history renders policy.yaml";
    assert_eq!(folder.warden(verify).exit, 3);
    folder.write("info.json", "{\"version\": \"a/1.38.3/Clean/RELEASE/B\"}");
    let verify =
        "verify --gateway dump.json --server-info info.json --install install.yaml policy.yaml";
    let found = folder.warden(verify);
    assert!(found.stdout.contains("Envoy: it is 1.38:"), "{found:?}");
    let doctor = "doctor --install install.yaml --server-info info.json policy.yaml";
    let found = folder.warden(doctor);
    assert_eq!(found.exit, 3, "{found:?}");
    assert!(
        found
            .stdout
            .starts_with("bad     the gateway's Envoy = 1.39 or later (found: a/1.38.3/"),
        "{found:?}"
    );
    folder.write("info.json", "{\"version\": \"a/1.39.0/Clean/RELEASE/B\"}");
    assert_eq!(folder.warden(doctor).exit, 0);
}
