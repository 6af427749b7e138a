//! The admission policies, evaluated: the rendered ones and the CNI plugin's, by an implementation
//! of CEL, against tables of objects. The API server's own evaluation is not run.

use serde::Deserialize;
use serde_json::{Value, json};

use super::admission::Admission;
use crate::install::{Guardrails, Install};

const INSTALL: &str = include_str!("../../../istio/reference/install.yaml");
const POLICY: &str = include_str!("../../../cases/policies/reference.yaml");
const CNI: &str = include_str!("../../../cni/deploy/admission.yaml");

/// A table: what is asked for, and why it is refused, if it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Parts that the rows name.
    #[serde(rename = "parts")]
    _parts: Value,
    cases: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    case: String,
    object: Value,
    #[serde(default)]
    before: Value,
    #[serde(default)]
    user: String,
    /// Messages in the order of the policy. One whose expression cannot be evaluated is refused
    /// too, and begins with `cannot be evaluated: `.
    #[serde(default)]
    refused: Vec<String>,
}

fn holds(policy: &Value, table: &str) {
    let admission = Admission::new(policy).unwrap();
    let table: Table = serde_saphyr::from_str(table).unwrap();
    let mut alone = vec![false; admission.len()];
    let mut wrong = Vec::new();
    for case in &table.cases {
        let request = json!({"userInfo": {"username": case.user}});
        let refusals = admission.judge(&case.object, &case.before, &request);
        let messages: Vec<_> = refusals.iter().map(|(_, message)| message).collect();
        if messages != case.refused.iter().collect::<Vec<_>>() {
            wrong.push(format!("{}: {messages:?}", case.case));
        }
        if let [(index, _)] = refusals[..]
            && let Some(alone) = alone.get_mut(index)
        {
            *alone = true;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let untested: Vec<_> = (0..alone.len()).filter(|&index| !alone[index]).collect();
    assert!(
        untested.is_empty(),
        "no case is refused by these alone: {untested:?}"
    );
}

fn rendered(name: &str, change: impl FnOnce(&mut Guardrails)) -> Value {
    let mut install = Install::read(INSTALL).unwrap();
    change(&mut install.spec.guardrails);
    rendered_with(name, &install)
}

fn rendered_with(name: &str, install: &Install) -> Value {
    let policy = serde_saphyr::from_str(POLICY).unwrap();
    let rendered = crate::render(install, &[policy]).unwrap();
    let found = rendered
        .objects()
        .iter()
        .find(|object| object.kind() == "ValidatingAdmissionPolicy" && object.name() == name);
    found.unwrap().manifest().clone()
}

fn cni(name: &str) -> Value {
    CNI.split("\n---\n")
        .map(|document| serde_saphyr::from_str::<Value>(document).unwrap())
        .find(|object| {
            object["kind"] == "ValidatingAdmissionPolicy" && object["metadata"]["name"] == name
        })
        .unwrap()
}

#[test]
fn pods_that_go_around_their_sidecar_are_refused() {
    let policy = rendered("egress-warden-pods.istio-egress", |_| ());
    holds(&policy, include_str!("tests/pods.yaml"));
}

/// Where Istio's CNI plugin redirects, nothing may be named `istio-init`.
#[test]
fn pods_that_the_cni_plugin_of_istio_passes_over_are_refused() {
    let policy = rendered("egress-warden-pods.istio-egress", |guardrails| {
        guardrails.istio_cni = true;
    });
    let table = include_str!("tests/pods.yaml");
    let table: Table = serde_saphyr::from_str(table).unwrap();
    let find = |name: &str| table.cases.iter().find(|case| case.case == name).unwrap();
    let admission = Admission::new(&policy).unwrap();
    let judge = |case: &Row| admission.judge(&case.object, &Value::Null, &json!({}));
    assert!(judge(find("injected, with Istio's CNI plugin")).is_empty());
    let refused = judge(find("injected, with istio-init"));
    assert!(refused[0].1.contains("named istio-init"), "{refused:?}");
}

#[test]
fn istio_objects_that_open_the_gateway_are_refused() {
    let policy = rendered("egress-warden-istio.istio-egress", |_| ());
    holds(&policy, include_str!("tests/istio.yaml"));
}

#[test]
fn bindings_that_change_what_is_captured_are_refused() {
    let table = include_str!("tests/bindings.yaml");
    holds(
        &rendered("egress-warden-bindings.istio-egress", |_| ()),
        table,
    );
    holds(&cni("egress-warden-cni-bindings"), table);
}

/// The reference case, in a mesh that has names of its own.
fn names() -> Value {
    let mut install = Install::read(INSTALL).unwrap();
    install.spec.cluster.mesh_domains = vec!["mesh.internal".to_owned()];
    rendered_with("egress-warden-names.istio-egress", &install)
}

#[test]
fn istio_objects_that_give_outside_names_are_refused() {
    holds(&names(), include_str!("tests/names.yaml"));
}

#[test]
fn pods_that_the_guard_cannot_hold_are_refused() {
    holds(
        &cni("egress-warden-cni-pods"),
        include_str!("tests/cni-pods.yaml"),
    );
}

#[test]
fn the_agent_changes_its_taint_and_nothing_else() {
    holds(
        &cni("egress-warden-cni-agent"),
        include_str!("tests/cni-agent.yaml"),
    );
}

/// What is refused when it is made is refused, in the same words, when something harmless is
/// changed into it, being deleted or not. Once it is there, no update but one of what is judged is
/// looked at.
#[test]
fn what_is_refused_to_be_made_is_refused_to_become() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app"}]}});
    let istio = json!({"metadata": {"name": "i"}, "spec": {"hosts": ["a.example"]}});
    let named = json!({"metadata": {"name": "n"}, "spec": {"hosts": ["a"]}});
    for (policy, table, harmless) in [
        (
            rendered("egress-warden-pods.istio-egress", |_| ()),
            include_str!("tests/pods.yaml"),
            &pod,
        ),
        (
            rendered("egress-warden-istio.istio-egress", |_| ()),
            include_str!("tests/istio.yaml"),
            &istio,
        ),
        (names(), include_str!("tests/names.yaml"), &named),
        (
            cni("egress-warden-cni-pods"),
            include_str!("tests/cni-pods.yaml"),
            &pod,
        ),
    ] {
        let admission = Admission::new(&policy).unwrap();
        let table: Table = serde_saphyr::from_str(table).unwrap();
        let judge = |object: &Value, before: &Value| {
            let refusals = admission.judge(object, before, &json!({}));
            refusals.into_iter().map(|(_, message)| message).collect()
        };
        let made = table.cases.iter().filter(|row| row.before.is_null());
        for row in made {
            let refusals: Vec<String> = judge(&row.object, harmless);
            assert_eq!(refusals, row.refused, "{}, by a change", row.case);
            let mut before = row.object.clone();
            if before["metadata"].is_null() {
                before["metadata"] = json!({});
            }
            before["metadata"]["finalizers"] = json!(["example/kept"]);
            before["metadata"]["deletionTimestamp"] = json!("2026-11-25T00:00:00Z");
            let mut object = before.clone();
            object["metadata"]["finalizers"] = json!([]);
            let refusals: Vec<String> = judge(&object, &before);
            assert!(refusals.is_empty(), "{}, let go: {refusals:?}", row.case);
            let mut harmless = harmless.clone();
            harmless["metadata"]["deletionTimestamp"] = json!("2026-11-25T00:00:00Z");
            let refusals: Vec<String> = judge(&before, &harmless);
            assert_eq!(refusals, row.refused, "{}, while it ends", row.case);
        }
    }
}

/// One would replace the other in a cluster that has both, whatever the gateway's namespace is
/// called.
#[test]
fn the_two_installations_share_no_name() {
    for name in ["pods", "istio", "names"] {
        let name = format!("name: egress-warden-{name}.");
        assert!(!CNI.contains(&name), "{name}");
    }
}

#[test]
fn images_of_the_proxy_are_read_strictly() {
    let accepts = |images: &[&str]| {
        let mut install = Install::read(INSTALL).unwrap();
        install.spec.guardrails.proxy_images = images.iter().map(|&image| image.into()).collect();
        install.check().is_empty()
    };
    for image in [
        "docker.io/istio/proxyv2",
        "registry.example:5000/mirror/istio/proxyv2",
        "localhost/proxyv2",
    ] {
        assert!(accepts(&[image]), "{image}");
    }
    for image in [
        "",
        "proxyv2",
        "istio/proxyv2",
        "docker.io/",
        "docker.io/istio/proxyv2:1.29.0",
        "docker.io/istio/proxyv2@sha256",
        "docker.io//proxyv2",
        "docker.io/istio/proxyv2/",
        "docker.io/istio/Proxyv2",
        "docker.io/istio/*",
        "docker.io/x') || c.image.startsWith('",
        "registry.example:port/proxyv2",
    ] {
        assert!(!accepts(&[image]), "{image}");
    }
    assert!(!accepts(&[]));
}
