//! Several gateways in one cluster.

mod ports;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::guardrails::admission::Admission;
use crate::install::{GatewayApi, Install};
use crate::{Object, Rendered, render};

const INSTALL: &str = include_str!("../../istio/reference/install.yaml");
const POLICY: &str = include_str!("../../cases/policies/reference.yaml");

/// A team's own gateway, with everything that can be rendered.
fn team(name: &str, api: GatewayApi, priority: u32) -> Install {
    let mut install = Install::read(INSTALL).unwrap();
    let spec = &mut install.spec;
    spec.gateway.namespace = format!("egress-{name}");
    spec.gateway.selector = [("egress".to_owned(), name.to_owned())].into();
    spec.gateway.api = api;
    spec.gateway.deployment = Some(serde_json::from_value(json!({})).unwrap());
    spec.workloads.namespaces = vec![format!("{name}-ns")];
    let admin = json!({"api": "ClusterNetworkPolicy", "priority": priority});
    spec.cluster.admin_policies = Some(serde_json::from_value(admin).unwrap());
    install
}

fn rendered(install: &Install) -> Rendered {
    let mut policy: Value = serde_saphyr::from_str(POLICY).unwrap();
    let udp = json!({
        "name": "clock",
        "from": [{"namespaces": [install.spec.workloads.namespaces[0]]}],
        "to": [{"networks": ["198.51.100.0/24"], "ports": [123], "protocols": ["UDP"]}],
        "action": "Accept",
    });
    let rules = policy.pointer_mut("/spec/tiers/1/rules").unwrap();
    rules.as_array_mut().unwrap().push(udp);
    render(install, &[policy]).unwrap()
}

/// What the API server and kubectl know an object by.
fn keys(rendered: &Rendered) -> BTreeSet<String> {
    let objects = rendered.objects().iter();
    objects.map(Object::file_name).collect()
}

/// The Deployment's account is there, and the number of its pods is the autoscaler's alone.
#[test]
fn the_gateway_s_deployment_has_an_account_and_leaves_its_size_to_the_autoscaler() {
    let rendered = rendered(&team("a", GatewayApi::Istio, 100));
    let find = |kind: &str| {
        let mut objects = rendered.objects().iter().map(Object::manifest);
        objects.find(|object| object["kind"] == kind).unwrap()
    };
    let deployment = find("Deployment");
    let account = deployment.pointer("/spec/template/spec/serviceAccountName");
    assert_eq!(account, find("ServiceAccount").pointer("/metadata/name"));
    assert_eq!(deployment.pointer("/spec/replicas"), None);
    let fewest = find("HorizontalPodAutoscaler").pointer("/spec/minReplicas");
    assert_eq!(fewest, Some(&json!(2)));
}

#[test]
fn a_gateway_per_team_shares_no_object_with_another() {
    for api in [GatewayApi::Istio, GatewayApi::Kubernetes] {
        let a = rendered(&team("a", api, 100));
        let b = rendered(&team("b", api, 200));
        let (a, b) = (keys(&a), keys(&b));
        let common: Vec<_> = a.intersection(&b).collect();
        assert_eq!(common, Vec::<&String>::new(), "{api:?}");
        assert!(
            a.iter()
                .any(|key| key.starts_with("cluster.validatingadmissionpolicy."))
        );
        assert!(
            a.iter()
                .any(|key| key.starts_with("cluster.clusternetworkpolicy."))
        );
    }
}

#[test]
fn a_binding_names_its_own_policy() {
    let rendered = rendered(&team("a", GatewayApi::Istio, 100));
    let of = |kind: &str| {
        let objects = rendered.objects().iter();
        objects
            .filter(|object| object.kind() == kind)
            .collect::<Vec<_>>()
    };
    let policies: BTreeSet<_> = of("ValidatingAdmissionPolicy")
        .iter()
        .map(|one| one.name())
        .collect();
    let bindings = of("ValidatingAdmissionPolicyBinding");
    assert_eq!(bindings.len(), policies.len());
    for binding in bindings {
        assert!(policies.contains(binding.manifest()["spec"]["policyName"].as_str().unwrap()));
    }
}

/// What one team's admission policy says of another team's gateway: nothing as long as their pods
/// have different labels, which it could not tell apart otherwise.
#[test]
fn teams_tell_their_gateways_apart_by_the_labels_of_their_pods() {
    let a = team("a", GatewayApi::Istio, 100);
    let guard = rendered(&a);
    let policy = |name: &str| {
        let mut objects = guard.objects().iter();
        let found = objects
            .find(|object| object.kind() == "ValidatingAdmissionPolicy" && object.name() == name);
        Admission::new(found.unwrap().manifest()).unwrap()
    };
    let istio = policy("egress-warden-istio.egress-a");
    let names = policy("egress-warden-names.egress-a");
    let refused = |install: &Install| {
        let rendered = rendered(install);
        let judged = rendered.objects().iter().flat_map(|object| {
            let policies = match object.kind() {
                "Gateway" => vec![&istio],
                "ServiceEntry" => vec![&names],
                "VirtualService" => vec![&istio, &names],
                _ => vec![],
            };
            let judge =
                |policy: &Admission| policy.judge(object.manifest(), &Value::Null, &json!({}));
            policies
                .into_iter()
                .flat_map(judge)
                .map(|(_, message)| message)
                .collect::<Vec<_>>()
        });
        judged.collect::<Vec<_>>()
    };
    let mut b = team("b", GatewayApi::Istio, 200);
    assert_eq!(refused(&b), Vec::<String>::new());
    let kubernetes = team("b", GatewayApi::Kubernetes, 200);
    assert_eq!(refused(&kubernetes), Vec::<String>::new());
    b.spec.gateway.selector.clone_from(&a.spec.gateway.selector);
    assert_eq!(refused(&b).len(), 1);
}

/// Settings that were put together in a program, not read from a file.
#[test]
fn an_image_without_a_digest_is_not_rendered() {
    let policy: Value = serde_saphyr::from_str(POLICY).unwrap();
    for digest in [None, Some(String::new())] {
        let mut install = Install::read(INSTALL).unwrap();
        install.spec.module.url = "oci://registry.example/egress-warden:1".to_owned();
        install.spec.module.sha256 = digest;
        let problems = render(&install, std::slice::from_ref(&policy)).unwrap_err();
        let places: Vec<_> = problems.iter().map(crate::RenderError::path).collect();
        assert_eq!(places, ["spec.module.sha256"]);
    }
}

/// Headers that the settings name are removed where the mesh's own are: on every route by which
/// requests leave.
#[test]
fn headers_that_the_settings_name_do_not_leave_the_mesh() {
    let lists = |install: &Install| -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for object in rendered(install).objects() {
            collect(object.manifest(), &mut found);
        }
        found
    };
    let before = lists(&team("a", GatewayApi::Istio, 1));
    assert!(!before.is_empty());
    let mut install = team("a", GatewayApi::Istio, 1);
    let named = ["x-request-id", "traceparent"].map(str::to_owned);
    install.spec.gateway.remove_headers = named.to_vec();
    let wanted: Vec<Vec<String>> = before
        .iter()
        .map(|list| list.iter().chain(&named).cloned().collect())
        .collect();
    assert_eq!(lists(&install), wanted);
    assert!(before[0].iter().any(|name| name == "x-forwarded-proto"));

    for bad in [
        "Host",
        "host",
        ":path",
        "content-length",
        "upgrade",
        "",
        "x y",
        "x\n",
    ] {
        install.spec.gateway.remove_headers = vec![bad.to_owned()];
        let problems = install.check();
        let paths: Vec<_> = problems.iter().map(crate::RenderError::path).collect();
        assert_eq!(paths, ["spec.gateway.removeHeaders"], "{bad:?}");
    }
}

/// Every `request_headers_to_remove` in a manifest.
fn collect(value: &Value, into: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_array() {
                    Some(list) if name == "request_headers_to_remove" => {
                        let names = list.iter().filter_map(Value::as_str);
                        into.push(names.map(str::to_owned).collect());
                    }
                    _ => collect(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        _ => {}
    }
}
