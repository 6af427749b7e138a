use serde_json::Value;

use super::{ClusterFindingCode, Looked, namespaces, pods, read};
use crate::install::Install;

const INSTALL: &str = include_str!("../../../../istio/reference/install.yaml");

fn install(revision: Option<&str>) -> Install {
    let mut install = Install::read(INSTALL).unwrap();
    install.spec.workloads.namespaces = vec!["app1-ns".to_owned()];
    install.spec.istio.revision = revision.map(str::to_owned);
    install
}

fn objects(text: &str) -> Vec<Value> {
    read(text).unwrap_or_else(|problem| panic!("{problem}: {text}"))
}

fn words(looked: &Looked) -> Vec<&'static str> {
    let troubles = looked.troubles.iter();
    troubles.map(|trouble| trouble.code.word()).collect()
}

/// Labels of the one enforced namespace, the install's revision, what is found.
#[test]
fn namespaces_are_judged_by_who_injects_them() {
    const TAG: &str = "---
kind: MutatingWebhookConfiguration
metadata: {name: istio-revision-tag-prod, labels: {istio.io/tag: prod, istio.io/rev: canary}}
---
kind: MutatingWebhookConfiguration
metadata: {name: istio-revision-tag-default, labels: {istio.io/tag: default, istio.io/rev: stable}}
---
kind: MutatingWebhookConfiguration
metadata: {name: another}
";
    for (labels, revision, tags, wanted) in [
        ("istio-injection: enabled", None, "", vec![]),
        ("istio.io/rev: any", None, "", vec![]),
        ("", None, "", vec!["not_injected"]),
        ("istio-injection: disabled", None, "", vec!["not_injected"]),
        // Set at all, it is what counts.
        (
            "istio-injection: disabled, istio.io/rev: canary",
            Some("canary"),
            "",
            vec!["not_injected"],
        ),
        (
            "istio-injection: enabled, istio.io/rev: canary",
            Some("canary"),
            "",
            vec!["revision"],
        ),
        (
            "istio.io/dataplane-mode: ambient",
            None,
            "",
            vec!["ambient", "not_injected"],
        ),
        (
            "istio.io/dataplane-mode: ambient, istio-injection: enabled",
            None,
            "",
            vec!["ambient"],
        ),
        (
            "istio.io/dataplane-mode: none, istio-injection: enabled",
            None,
            "",
            vec![],
        ),
        ("istio.io/rev: canary", Some("canary"), "", vec![]),
        ("istio.io/rev: stable", Some("canary"), "", vec!["revision"]),
        ("istio.io/rev: prod", Some("canary"), "", vec!["revision"]),
        ("istio.io/rev: prod", Some("canary"), TAG, vec![]),
        ("istio.io/rev: prod", Some("stable"), TAG, vec!["revision"]),
        ("istio-injection: enabled", Some("stable"), TAG, vec![]),
        (
            "istio-injection: enabled",
            Some("canary"),
            TAG,
            vec!["revision"],
        ),
        ("istio-injection: enabled", Some("default"), "", vec![]),
    ] {
        let text =
            format!("kind: Namespace\nmetadata: {{name: app1-ns, labels: {{{labels}}}}}\n{tags}");
        let looked = namespaces(&install(revision), &objects(&text));
        assert_eq!(words(&looked), wanted, "{labels} {revision:?}");
        assert_eq!(looked.count, 1);
    }
}

#[test]
fn every_enforced_namespace_is_looked_at() {
    let other = objects("kind: Namespace\nmetadata: {name: other}\n");
    let looked = namespaces(&install(None), &other);
    assert_eq!((words(&looked), looked.count), (vec!["no_namespace"], 0));
    assert_eq!(looked.troubles[0].object(), "Namespace app1-ns");
}

/// A namespace beside the enforced one, its labels, the settings, what is found of it.
#[test]
fn namespaces_beside_the_enforced_ones_are_seen_or_named_as_lost() {
    let injected = "istio-injection: enabled";
    let (out, like) = (vec!["out_of_scope"], vec!["like_a_domain"]);
    let default = "{}";
    for (name, labels, settings, wanted) in [
        ("sales", injected, default, out.clone()),
        ("sales", "istio.io/rev: canary", default, out.clone()),
        ("sales", "istio.io/dataplane-mode: ambient", default, out),
        (
            "sales",
            "istio-injection: disabled, istio.io/rev: canary",
            default,
            vec![],
        ),
        ("sales", "", default, vec![]),
        ("sales", injected, "{meshHosts: [sales]}", vec![]),
        (
            "sales",
            injected,
            "{meshHosts: [sales/orders.sales.svc.cluster.local]}",
            vec![],
        ),
        // What a stated list leaves out may be meant.
        ("sales", injected, "{meshHosts: []}", vec!["left_out"]),
        ("sales", injected, "{meshHosts: [orders]}", vec!["left_out"]),
        ("istio-egress", injected, default, vec![]),
        ("istio-system", injected, default, vec![]),
        ("kube-system", injected, default, vec![]),
        ("dev", "", default, like.clone()),
        ("io", "", "{meshHosts: []}", like.clone()),
        ("xn--p1ai", "", default, like),
        ("bank", "", default, vec![]),
    ] {
        let mut install = install(None);
        install.spec.guardrails.top_level_namespaces = vec!["bank".to_owned()];
        let settings: Value = serde_saphyr::from_str(settings).unwrap();
        install.spec.workloads.mesh_hosts = settings
            .get("meshHosts")
            .map(|hosts| serde_json::from_value(hosts.clone()).unwrap());
        let text = format!(
            "kind: Namespace\nmetadata: {{name: app1-ns, labels: {{{injected}}}}}\n---\n\
             kind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
        );
        let looked = namespaces(&install, &objects(&text));
        assert_eq!(words(&looked), wanted, "{name} {labels}");
        assert!(looked.troubles.iter().all(|one| one.name == name), "{name}");
    }
}

/// A pod's metadata beside its name, its specification, what is found.
const PODS: &str = r#"
- case: a native sidecar and init containers behind it
  spec: {initContainers: [&init {name: istio-init, image: &i "docker.io/istio/proxyv2:1.29.0", args: [istio-iptables]}, &native {name: istio-proxy, image: *i, args: [proxy, sidecar], restartPolicy: Always}, &own {name: migrate, image: a}], containers: [&app {name: app, image: a}]}
- case: an init container before a native sidecar
  spec: {initContainers: [*own, *native], containers: [*app]}
  wanted: ["init_before_sidecar: migrate run before the sidecar"]
- case: init containers before a classic sidecar
  spec: {initContainers: [*own, *init, {name: fetch, image: a}], containers: [*app, &classic {name: istio-proxy, image: *i, args: [proxy, sidecar]}]}
  wanted: ["init_before_sidecar: migrate, fetch run before the sidecar"]
- case: a classic sidecar and no init containers but Istio's
  spec: {initContainers: [*init, {name: istio-validation, image: *i, args: [istio-iptables]}], containers: [*app, *classic]}
- case: no sidecar
  spec: {containers: [*app]}
  wanted: ["no_sidecar: it has no sidecar"]
- case: an init container that has its name and ends
  spec: {initContainers: [*classic], containers: [*app]}
  wanted: ["no_sidecar: it has no sidecar"]
- case: on the host's network
  spec: {hostNetwork: true, containers: [*app]}
  wanted: ["no_sidecar: it is on the host's network", "refused: hostNetwork pods"]
- case: in an ambient mesh
  metadata: {labels: {istio.io/dataplane-mode: ambient}}
  spec: {containers: [*app]}
  wanted: ["ambient: ambient mode has no way", "no_sidecar: it has no sidecar"]
- case: captured by ztunnel
  metadata: {annotations: {ambient.istio.io/redirection: enabled}}
  spec: {containers: [*app]}
  wanted: ["ambient: ambient mode has no way", "no_sidecar: it has no sidecar"]
- case: excluded ports, user 1337 and NET_ADMIN
  metadata: {annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: "443"}}
  spec: {initContainers: [*native], containers: [{name: app, image: a, securityContext: {runAsUser: 1337, capabilities: {add: [NET_ADMIN]}}}]}
  wanted: ["refused: NET_ADMIN and NET_RAW", "refused: annotations that change", "refused: user and group 1337"]
- case: NET_RAW in an init container
  spec: {initContainers: [*native, {<<: *own, securityContext: {capabilities: {add: [NET_RAW]}}}], containers: [*app]}
  wanted: ["refused: NET_ADMIN and NET_RAW"]
- case: a container for debugging, which is not made again
  spec: {initContainers: [*native], containers: [*app], ephemeralContainers: [{name: debug, image: d, securityContext: {capabilities: {add: [SYS_PTRACE]}}}]}
- case: an annotation that is no text, which the policy cannot evaluate
  metadata: {annotations: {proxy.istio.io/config: 1}}
  spec: {initContainers: [*native], containers: [*app]}
  wanted: ["refused: cannot be evaluated: proxy.istio.io/config"]
- case: user 1337 for the pod and a container, said once
  spec: {securityContext: {runAsUser: 1337, fsGroup: 1337}, initContainers: [*native], containers: [{<<: *app, securityContext: {runAsUser: 1337}}]}
  wanted: ["refused: user and group 1337"]
- case: made under the revision of the objects
  metadata: {annotations: {sidecar.istio.io/status: '{"revision": "canary"}'}}
  spec: {initContainers: [*native], containers: [*app]}
- case: made under another revision
  metadata: {annotations: {sidecar.istio.io/status: '{"revision": "default"}'}}
  spec: {initContainers: [*native], containers: [*app]}
  wanted: ["revision: its sidecar is under revision `default`"]
"#;

#[test]
fn pods_are_judged_by_what_they_would_lose() {
    let install = install(Some("canary"));
    let cases: Vec<Value> = serde_saphyr::from_str(PODS).unwrap();
    for case in &cases {
        let mut pod = serde_json::json!({"kind": "Pod", "spec": case["spec"]});
        pod["metadata"] = case.get("metadata").cloned().unwrap_or_default();
        pod["metadata"]["name"] = "p".into();
        pod["metadata"]["namespace"] = "app1-ns".into();
        let looked = pods(&install, &[pod]).unwrap();
        let wanted = case["wanted"].as_array().cloned().unwrap_or_default();
        let found: Vec<_> = looked
            .troubles
            .iter()
            .map(|found| {
                let policy = "the admission policy refuses it when it is made again: ";
                format!(
                    "{}: {}",
                    found.code.word(),
                    found.message.replace(policy, "")
                )
            })
            .collect();
        let as_wanted = found
            .iter()
            .zip(&wanted)
            .all(|(found, wanted)| found.starts_with(wanted.as_str().unwrap()));
        assert!(
            as_wanted && found.len() == wanted.len(),
            "{}: {found:#?}",
            case["case"]
        );
        assert!(
            looked
                .troubles
                .iter()
                .all(|found| found.object() == "Pod app1-ns/p")
        );
    }
}

#[test]
fn pods_that_have_ended_or_are_elsewhere_are_passed_over() {
    let pod = |namespace: &str, phase: &str| {
        format!(
            "kind: Pod\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {{containers: []}}\nstatus: {{phase: {phase}}}\n"
        )
    };
    for (namespace, phase, count) in [
        ("app1-ns", "Running", 1),
        ("app1-ns", "Pending", 1),
        ("app1-ns", "Succeeded", 0),
        ("app1-ns", "Failed", 0),
        ("other", "Running", 0),
    ] {
        let looked = pods(&install(None), &objects(&pod(namespace, phase))).unwrap();
        assert_eq!(looked.count, count, "{namespace} {phase}");
        assert_eq!(looked.troubles.len(), count, "{namespace} {phase}");
    }
}

/// The admission policy does not hold where it is exempt; a sidecar is needed there all the same.
#[test]
fn exempt_namespaces_are_not_asked_for_admission() {
    let mut install = install(None);
    let text = "kind: Pod\nmetadata: {name: p, namespace: app1-ns}\nspec: {hostPID: true, containers: []}\n";
    let codes = |install: &Install| {
        let looked = pods(install, &objects(text)).unwrap();
        looked
            .troubles
            .iter()
            .map(|found| found.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        codes(&install),
        [ClusterFindingCode::NoSidecar, ClusterFindingCode::Refused]
    );
    install.spec.guardrails.exempt_namespaces = vec!["app1-ns".to_owned()];
    assert_eq!(codes(&install), [ClusterFindingCode::NoSidecar]);
}

/// The image of a gateway pod's proxy, and whether the pod has no listener.
#[test]
fn a_gateway_with_an_old_proxy_is_found() {
    let install = install(None);
    let pod = |image: &str, more: &str| {
        format!(
            "kind: Pod\nmetadata: {{name: g, namespace: istio-egress, labels: {{istio: egressgateway, {more}}}}}\n\
             spec: {{containers: [{{name: istio-proxy, image: \"{image}\"}}]}}\n"
        )
    };
    for (image, old) in [
        ("docker.io/istio/proxyv2:1.30.3", true),
        ("docker.io/istio/proxyv2:1.30.3-distroless", true),
        ("registry.example:5000/istio/proxyv2:1.9.0", true),
        ("registry.example:5000/proxyv2:1.30@sha256:00", true),
        ("docker.io/istio/proxyv2:1.31.0", false),
        ("docker.io/istio/proxyv2:1.32-dev", false),
        // They say no version.
        ("registry.example:5000/istio/proxyv2", false),
        ("docker.io/istio/proxyv2@sha256:00", false),
        ("docker.io/istio/proxyv2:latest", false),
        ("auto", false),
    ] {
        let looked = pods(&install, &objects(&pod(image, ""))).unwrap();
        let codes: Vec<_> = looked.troubles.iter().map(|found| found.code).collect();
        let wanted = if old {
            vec![ClusterFindingCode::OldProxy]
        } else {
            vec![]
        };
        assert_eq!(codes, wanted, "{image}");
    }
    let another = pod("docker.io/istio/proxyv2:1.30.3", "").replace("egressgateway", "ingress");
    let looked = pods(&install, &objects(&another)).unwrap();
    assert_eq!(looked.troubles, []);
}
