//! The admission policies, evaluated: the rendered ones and the CNI plugin's, by an implementation
//! of CEL, against tables of objects. The API server's own evaluation is not run.

mod kinds;

use serde::Deserialize;
use serde_json::{Value, json};

use super::admission::Admission;
use crate::install::{Guardrails, Install};

const INSTALL: &str = include_str!("../../../istio/reference/install.yaml");
const POLICY: &str = include_str!("../../../cases/policies/reference.yaml");
const PODS: &[&str] = &[
    include_str!("tests/pods.yaml"),
    include_str!("tests/pods-node.yaml"),
];
const NAMES: &[&str] = &[
    include_str!("tests/names.yaml"),
    include_str!("tests/names-routes.yaml"),
];
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
    /// The node that the user's token is bound to.
    #[serde(default)]
    node: Option<String>,
    /// Whether the user may change the admission policies themselves.
    #[serde(default)]
    admin: bool,
    /// Messages in the order of the policy. One whose expression cannot be evaluated is refused
    /// too, and begins with `cannot be evaluated: `.
    #[serde(default)]
    refused: Vec<String>,
}

impl Row {
    fn request(&self) -> Value {
        let right = "admissionregistration.k8s.io/validatingadmissionpolicies/update";
        let may: Vec<_> = self.admin.then_some(right).into_iter().collect();
        let mut request = json!({"userInfo": {"username": self.user}, "may": may});
        if let Some(node) = &self.node {
            let extra = json!({"authentication.kubernetes.io/node-name": [node]});
            request["userInfo"]["extra"] = extra;
        }
        request
    }
}

/// The rows of tables, one after the other.
fn rows(tables: &[&str]) -> Vec<Row> {
    let read = |table: &&str| serde_saphyr::from_str::<Table>(table).unwrap().cases;
    tables.iter().flat_map(read).collect()
}

fn holds(policy: &Value, tables: &[&str]) {
    let admission = Admission::new(policy).unwrap();
    let mut alone = vec![false; admission.len()];
    let mut wrong = Vec::new();
    for case in &rows(tables) {
        let refusals = admission.judge(&case.object, &case.before, &case.request());
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
    holds(&policy, PODS);
}

/// Where Istio's CNI plugin redirects, nothing may be named `istio-init`.
#[test]
fn pods_that_the_cni_plugin_of_istio_passes_over_are_refused() {
    let policy = rendered("egress-warden-pods.istio-egress", |guardrails| {
        guardrails.istio_cni = true;
    });
    let rows = rows(PODS);
    let find = |name: &str| rows.iter().find(|case| case.case == name).unwrap();
    let admission = Admission::new(&policy).unwrap();
    let judge = |case: &Row| admission.judge(&case.object, &Value::Null, &json!({}));
    assert!(judge(find("injected, with Istio's CNI plugin")).is_empty());
    let refused = judge(find("injected, with istio-init"));
    assert!(refused[0].1.contains("named istio-init"), "{refused:?}");
}

#[test]
fn istio_objects_that_open_the_gateway_are_refused() {
    let policy = rendered("egress-warden-istio.istio-egress", |_| ());
    holds(&policy, &[include_str!("tests/istio.yaml")]);
}

#[test]
fn bindings_that_change_what_is_captured_are_refused() {
    let table = &[include_str!("tests/bindings.yaml")];
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
    holds(&names(), NAMES);
}

/// The reference case, with a policy that names a port for opaque TCP and a namespace that writes
/// endpoints.
fn services() -> Value {
    let mut install = Install::read(INSTALL).unwrap();
    install.spec.workloads.mesh_hosts = Some(vec!["app2-ns".to_owned(), "sales".to_owned()]);
    install.spec.guardrails.naming_namespaces = vec!["platform".to_owned()];
    install.spec.guardrails.endpoint_writers = vec!["patroni".to_owned()];
    install.spec.gateway.protocols.tcp = vec![5432];
    rendered_with("egress-warden-services.istio-egress", &install)
}

#[test]
fn services_and_endpoints_that_take_addresses_and_ports_are_refused() {
    holds(&services(), &[include_str!("tests/services.yaml")]);
}

fn sidecars() -> Value {
    rendered("egress-warden-sidecars.istio-egress", |guardrails| {
        guardrails.extension_namespaces = vec!["app2-ns".to_owned()];
        guardrails.jwks_uris = vec!["https://idp.bank.example/keys".to_owned()];
    })
}

#[test]
fn objects_by_which_others_connect_for_a_tenant_are_refused() {
    holds(&sidecars(), &[include_str!("tests/sidecars.yaml")]);
}

#[test]
fn namespaces_that_are_called_like_a_domain_are_refused() {
    let policy = rendered("egress-warden-namespaces.istio-egress", |guardrails| {
        guardrails.top_level_namespaces = vec!["bank".to_owned()];
    });
    holds(&policy, &[include_str!("tests/namespaces.yaml")]);
}

#[test]
fn images_from_elsewhere_are_refused_where_registries_are_listed() {
    let policy = rendered("egress-warden-pods.istio-egress", |guardrails| {
        guardrails.image_registries = vec!["registry.example".to_owned()];
    });
    let admission = Admission::new(&policy).unwrap();
    let judge = |image: &str, volume: &str| {
        let pod = json!({"metadata": {}, "spec": {
            "containers": [{"name": "app", "image": image}],
            "volumes": [{"name": "v", "image": {"reference": volume}}],
        }});
        admission.judge(&pod, &Value::Null, &json!({})).len()
    };
    let own = "registry.example/app:1";
    for (image, volume, refused) in [
        (own, own, 0),
        ("docker.io/istio/proxyv2:1.29.0", own, 0),
        ("docker.io/istio/proxyv2-not:1.29.0", own, 1),
        ("registry.example.evil.example/app:1", own, 1),
        ("nginx", own, 1),
        (own, "evil.example/data:1", 1),
    ] {
        assert_eq!(judge(image, volume), refused, "{image} {volume}");
    }
}

#[test]
fn pods_that_the_guard_cannot_hold_are_refused() {
    holds(
        &cni("egress-warden-cni-pods"),
        &[include_str!("tests/cni-pods.yaml")],
    );
}

#[test]
fn the_agent_changes_its_taint_and_nothing_else() {
    holds(
        &cni("egress-warden-cni-agent"),
        &[include_str!("tests/cni-agent.yaml")],
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
    let service =
        json!({"metadata": {"name": "s", "namespace": "sales"}, "kind": "Service", "spec": {}});
    let sidecar =
        json!({"metadata": {"name": "s"}, "kind": "ProxyConfig", "spec": {"concurrency": 7}});
    for (policy, tables, harmless) in [
        (
            rendered("egress-warden-pods.istio-egress", |_| ()),
            PODS,
            &pod,
        ),
        (
            rendered("egress-warden-istio.istio-egress", |_| ()),
            &[include_str!("tests/istio.yaml")],
            &istio,
        ),
        (names(), NAMES, &named),
        (services(), &[include_str!("tests/services.yaml")], &service),
        (sidecars(), &[include_str!("tests/sidecars.yaml")], &sidecar),
        (
            cni("egress-warden-cni-pods"),
            &[include_str!("tests/cni-pods.yaml")],
            &pod,
        ),
    ] {
        let admission = Admission::new(&policy).unwrap();
        let table = rows(tables);
        let judge = |row: &Row, object: &Value, before: &Value| {
            let refusals = admission.judge(object, before, &row.request());
            refusals.into_iter().map(|(_, message)| message).collect()
        };
        let made = table.iter().filter(|row| row.before.is_null());
        for row in made {
            let refusals: Vec<String> = judge(row, &row.object, harmless);
            assert_eq!(refusals, row.refused, "{}, by a change", row.case);
            let mut before = row.object.clone();
            if before["metadata"].is_null() {
                before["metadata"] = json!({});
            }
            before["metadata"]["finalizers"] = json!(["example/kept"]);
            before["metadata"]["deletionTimestamp"] = json!("2026-11-25T00:00:00Z");
            let mut object = before.clone();
            object["metadata"]["finalizers"] = json!([]);
            let refusals: Vec<String> = judge(row, &object, &before);
            assert!(refusals.is_empty(), "{}, let go: {refusals:?}", row.case);
            let mut harmless = harmless.clone();
            harmless["metadata"]["deletionTimestamp"] = json!("2026-11-25T00:00:00Z");
            let refusals: Vec<String> = judge(row, &before, &harmless);
            assert_eq!(refusals, row.refused, "{}, while it ends", row.case);
        }
    }
}

/// One would replace the other in a cluster that has both, whatever the gateway's namespace is
/// called.
#[test]
fn the_two_installations_share_no_name() {
    for name in [
        "pods",
        "istio",
        "names",
        "services",
        "sidecars",
        "namespaces",
    ] {
        let name = format!("name: egress-warden-{name}.");
        assert!(!CNI.contains(&name), "{name}");
    }
}

#[test]
fn what_goes_into_expressions_is_read_strictly() {
    let problems = |change: &dyn Fn(&mut Install)| {
        let mut install = Install::read(INSTALL).unwrap();
        change(&mut install);
        install.check().len()
    };
    let lists: [fn(&mut Guardrails) -> &mut Vec<String>; 6] = [
        |guardrails| &mut guardrails.csi_drivers,
        |guardrails| &mut guardrails.endpoint_writers,
        |guardrails| &mut guardrails.image_registries,
        |guardrails| &mut guardrails.jwks_uris,
        |guardrails| &mut guardrails.extension_namespaces,
        |guardrails| &mut guardrails.top_level_namespaces,
    ];
    for list in lists {
        for word in ["", "x'", "x\\", "x\"", "a b", "x/"] {
            let bad = problems(&|install| list(&mut install.spec.guardrails).push(word.to_owned()));
            assert!(bad > 0, "{word}");
        }
    }
    let uri =
        |uri: &str| problems(&|install| install.spec.guardrails.jwks_uris.push(uri.to_owned()));
    assert_eq!(uri("https://idp.example/keys"), 0);
    assert_eq!(uri("http://idp.example/keys"), 1);
    let hosts = |hosts: &[&str]| {
        problems(&|install| {
            let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
            install.spec.workloads.mesh_hosts = Some(hosts);
        })
    };
    for (list, wrong) in [
        (&[][..], 0),
        (
            &[
                "sales",
                "sales/reviews.sales.svc.cluster.local",
                "sales/*.cluster.local",
                "b/*",
            ],
            0,
        ),
        (&["*"], 1),
        (&["*/*"], 1),
        (&["*/reviews.sales.svc.cluster.local"], 1),
        (&["./*"], 1),
        (&["sales/"], 1),
        (&["Sales"], 1),
        (&["dev"], 1),
        (&["io/web.io.svc.cluster.local"], 1),
        (&["xn--p1ai"], 1),
        (&["dev-2", "web1", "a1"], 0),
    ] {
        assert_eq!(hosts(list), wrong, "{list:?}");
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
