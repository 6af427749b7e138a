//! The admission policies, evaluated: the rendered ones and the CNI plugin's, by an implementation
//! of CEL, against tables of objects. The tests on a cluster hand the same tables to an API server.

mod kinds;

use serde_json::{Value, json};

use super::admission::Admission;
use super::tables::{self, Row, Table};
use crate::install::{Guardrails, Install};

const INSTALL: &str = include_str!("../../../istio/reference/install.yaml");

const PODS: &str = "egress-warden-pods.istio-egress";
const ISTIO: &str = "egress-warden-istio.istio-egress";
const NAMES: &str = "egress-warden-names.istio-egress";
const SERVICES: &str = "egress-warden-services.istio-egress";
const SIDECARS: &str = "egress-warden-sidecars.istio-egress";
const NODE_GUARD: &str = "egress-warden-cni-pods";

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

/// The tables about a policy.
fn about(policy: &str) -> Vec<Table> {
    let mut tables = tables::all().unwrap();
    tables.retain(|table| table.policies.iter().any(|name| name == policy));
    assert!(!tables.is_empty(), "no table is about {policy}");
    tables
}

/// The rows about a policy, one table after the other.
fn rows(policy: &str) -> Vec<Row> {
    let tables = about(policy).into_iter();
    tables.flat_map(|table| table.cases).collect()
}

/// A policy with the settings of its tables.
fn of_tables(policy: &str) -> Value {
    let policies = about(policy).into_iter().map(|table| {
        let place = table.policies.iter().position(|name| name == policy);
        table.bound().unwrap()[place.unwrap()].policy.clone()
    });
    let policies: Vec<_> = policies.collect();
    assert!(
        policies.windows(2).all(|pair| pair[0] == pair[1]),
        "the tables about {policy} have other settings"
    );
    policies[0].clone()
}

fn holds(policy: &str) {
    let admission = Admission::new(&of_tables(policy)).unwrap();
    let mut alone = vec![false; admission.len()];
    let mut wrong = Vec::new();
    for case in &rows(policy) {
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

/// The policy about pods, with guardrails that no table has.
fn pods(change: impl FnOnce(&mut Guardrails)) -> Value {
    let mut install = Install::read(INSTALL).unwrap();
    change(&mut install.spec.guardrails);
    super::pods(&install).manifest().clone()
}

#[test]
fn pods_that_go_around_their_sidecar_are_refused() {
    holds(PODS);
}

/// Where Istio's CNI plugin redirects, nothing may be named `istio-init`.
#[test]
fn pods_that_the_cni_plugin_of_istio_passes_over_are_refused() {
    let policy = pods(|guardrails| guardrails.istio_cni = true);
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
    holds(ISTIO);
}

#[test]
fn bindings_that_change_what_is_captured_are_refused() {
    holds("egress-warden-bindings.istio-egress");
    holds("egress-warden-cni-bindings");
}

#[test]
fn istio_objects_that_give_outside_names_are_refused() {
    holds(NAMES);
}

#[test]
fn services_and_endpoints_that_take_addresses_and_ports_are_refused() {
    holds(SERVICES);
}

#[test]
fn objects_by_which_others_connect_for_a_tenant_are_refused() {
    holds(SIDECARS);
}

#[test]
fn namespaces_that_are_called_like_a_domain_are_refused() {
    holds("egress-warden-namespaces.istio-egress");
}

#[test]
fn images_from_elsewhere_are_refused_where_registries_are_listed() {
    let policy = pods(|guardrails| {
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
    holds(NODE_GUARD);
}

#[test]
fn the_agent_changes_its_taint_and_nothing_else() {
    holds("egress-warden-cni-agent");
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
    for (policy, harmless) in [
        (PODS, &pod),
        (ISTIO, &istio),
        (NAMES, &named),
        (SERVICES, &service),
        (SIDECARS, &sidecar),
        (NODE_GUARD, &pod),
    ] {
        let admission = Admission::new(&of_tables(policy)).unwrap();
        let table = rows(policy);
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
        assert!(!tables::NODE_GUARD.contains(&name), "{name}");
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
