//! Admission policies against the known ways around the sidecar and into the gateway.

pub(crate) mod admission;
mod names;
pub(crate) mod namespaces;
mod pods;
mod services;
mod sidecars;
#[cfg(any(test, feature = "tables"))]
pub mod tables;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::NAME;
use crate::install::Install;
use crate::object::{Object, Stage, in_cluster, namespaces};
use egress_policy::ports::MeshPorts;

const API: &str = "admissionregistration.k8s.io/v1";

struct Check {
    expression: String,
    message: &'static str,
}

fn check(expression: impl Into<String>, message: &'static str) -> Check {
    Check {
        expression: expression.into(),
        message,
    }
}

/// Whether there is another specification than before, or no object before.
///
/// An update that changes nothing that is judged is let through, whatever the object says: objects
/// from before the policy keep their labels and lose their finalizers. That an object is being
/// deleted is no reason to look away, because a finalizer keeps it, and the control plane goes by
/// it, for as long as its owner likes.
const SPEC_CHANGED: &str = "oldObject == null || has(object.spec) != has(oldObject.spec) || \
                            (has(object.spec) && object.spec != oldObject.spec)";

/// A list of texts as an expression has it. What stands in the install settings is checked to have
/// no quotes.
fn quoted(names: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .map(|name| format!("'{}'", name.as_ref()))
        .collect();
    format!("[{}]", quoted.join(", "))
}

/// The admission policies and their bindings.
pub(crate) fn objects(install: &Install, traffic: &MeshPorts) -> Vec<Object> {
    let spec = &install.spec;
    let system = [&spec.gateway.namespace, &spec.cluster.istio_namespace];
    let naming = spec.guardrails.naming_namespaces.iter();
    let trusted: Vec<_> = system.into_iter().chain(naming).collect();
    let guarded = namespaces("In", &guarded(install));
    let elsewhere = namespaces("NotIn", &system);
    let tenants = namespaces("NotIn", &trusted);
    let policies = [
        (pods(install), Some(&guarded)),
        (bindings(), Some(&guarded)),
        (istio(install), Some(&elsewhere)),
        (names(install), Some(&tenants)),
        (services(install, traffic), Some(&tenants)),
        (sidecars(install), Some(&guarded)),
        // A selector of namespaces looks at the namespace itself, and one that is being made has no
        // labels but its maker's.
        (namespaces_themselves(install), None),
    ];
    let both = policies.into_iter().flat_map(|(policy, namespaces)| {
        let binding = binding(install, policy.name(), namespaces);
        [policy, binding]
    });
    both.collect()
}

/// What is said of Istio's objects, and the Gateway API's, outside the gateway's namespace.
fn istio(install: &Install) -> Object {
    rendering(
        "istio",
        "Refuses Istio objects that open the egress gateway or take names away from it.",
        &json!([
            rule(
                "networking.istio.io",
                &["gateways", "virtualservices", "destinationrules"]
            ),
            rule(
                "gateway.networking.k8s.io",
                &[
                    "gateways",
                    "listenersets",
                    "httproutes",
                    "grpcroutes",
                    "tlsroutes",
                    "tcproutes",
                    "udproutes",
                ],
            ),
            rule("gateway.networking.x-k8s.io", &["xlistenersets"]),
        ]),
        SPEC_CHANGED,
        &json!([]),
        &istio_checks(install),
    )
}

/// What is said of names and addresses for the sidecars of guarded namespaces.
fn names(install: &Install) -> Object {
    let resources = [
        "serviceentries",
        "serviceentries/status",
        "virtualservices",
        "workloadentries",
        "workloadgroups",
    ];
    rendering(
        "names",
        "Refuses Istio objects that give outside names and addresses to the sidecars of guarded
         namespaces, or take the addresses of others' pods: their requests would not reach the egress
         gateway.",
        &json!([
            rule("networking.istio.io", &resources),
            rule("gateway.networking.x-k8s.io", &["xbackends"]),
        ]),
        &format!("({SPEC_CHANGED}) || ({})", names::STATUS_CHANGED),
        &names::variables(install),
        &names::checks(install),
    )
}

/// What is said of Services and endpoints.
fn services(install: &Install, traffic: &MeshPorts) -> Object {
    rendering(
        "services",
        "Refuses Services and endpoints that take outside addresses, others' pods, or a port of every
         address, from guarded sidecars or from the whole cluster.",
        &json!([
            rule("", &["services", "services/status", "endpoints", "pods/status"]),
            rule("discovery.k8s.io", &["endpointslices"]),
        ]),
        &services::changed(),
        &services::variables(install, traffic),
        &services::checks(),
    )
}

/// What is said of the sidecars of guarded namespaces.
fn sidecars(install: &Install) -> Object {
    rendering(
        "sidecars",
        "Refuses objects that change what guarded sidecars do with outside traffic, or that make them
         or istiod connect for a tenant.",
        &json!([
            rule("networking.istio.io", &["envoyfilters", "sidecars", "proxyconfigs"]),
            rule("extensions.istio.io", &["wasmplugins", "trafficextensions"]),
            rule("security.istio.io", &["requestauthentications"]),
            rule("networking.k8s.io", &["networkpolicies"]),
        ]),
        SPEC_CHANGED,
        &sidecars::variables(install),
        &sidecars::checks(),
    )
}

/// What is said of namespaces.
fn namespaces_themselves(install: &Install) -> Object {
    rendering(
        "namespaces",
        "Refuses namespaces whose Services would have outside names.",
        &json!([{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["namespaces"],
        }]),
        "true",
        &namespaces::variables(install),
        &namespaces::checks(),
    )
}

/// Whatever of these is made or changed, in every version of the API.
fn rule(group: &str, resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": resources,
    })
}

/// What is said of pods.
pub(crate) fn pods(install: &Install) -> Object {
    rendering(
        "pods",
        "Refuses pods that go around their sidecar.",
        &json!([{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            // By its status a pod is given annotations too.
            "resources": ["pods", "pods/ephemeralcontainers", "pods/status"],
        }]),
        &pods::changed(),
        &pods::variables(),
        &pods::checks(&install.spec.guardrails),
    )
}

/// What is said of bindings, whose annotations and labels become the pod's
/// (`pkg/registry/core/pod/storage`, `assignPod`).
fn bindings() -> Object {
    rendering(
        "bindings",
        "Refuses bindings by which a scheduler changes how a pod's traffic is captured.",
        &json!([{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["bindings", "pods/binding"],
        }]),
        "true",
        &json!([]),
        &[pods::binding()],
    )
}

/// The namespaces whose pods are judged.
pub(crate) fn guarded(install: &Install) -> Vec<&String> {
    let exempt = &install.spec.guardrails.exempt_namespaces;
    let namespaces = &install.spec.workloads.namespaces;
    namespaces
        .iter()
        .filter(|name| !exempt.contains(name))
        .collect()
}

fn rendering(
    name: &str,
    about: &'static str,
    rules: &Value,
    changed: &str,
    variables: &Value,
    checks: &[Check],
) -> Object {
    let validations: Vec<_> = checks
        .iter()
        .map(|check| json!({"expression": check.expression, "message": check.message}))
        .collect();
    Object::new(
        Stage::Guard,
        about,
        (API, "ValidatingAdmissionPolicy"),
        json!({"name": format!("{NAME}-{name}")}),
        json!({"spec": {
            // An expression that cannot be evaluated refuses.
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules},
            "matchConditions": [{"name": "changed", "expression": changed}],
            "variables": variables,
            "validations": validations,
        }}),
    )
}

fn binding(install: &Install, name: &str, namespaces: Option<&Value>) -> Object {
    let mut spec = json!({
        "policyName": in_cluster(install, name),
        "validationActions": ["Deny"],
    });
    if let (Some(namespaces), Some(spec)) = (namespaces, spec.as_object_mut()) {
        spec.insert(
            "matchResources".to_owned(),
            json!({"namespaceSelector": namespaces}),
        );
    }
    Object::new(
        Stage::Guard,
        "Where the policy of the same name holds.",
        (API, "ValidatingAdmissionPolicyBinding"),
        json!({"name": name}),
        json!({"spec": spec}),
    )
}

fn istio_checks(install: &Install) -> Vec<Check> {
    let gateway = &install.spec.gateway;
    // A Gateway selects pods whose labels include all of its selector's, so it could take the
    // egress gateway's pods unless one of its labels is known to differ.
    let differs: Vec<_> = gateway
        .selector
        .iter()
        .map(|(key, value)| {
            format!(
                "('{key}' in object.spec.selector && object.spec.selector['{key}'] != '{value}')"
            )
        })
        .collect();
    vec![
        check(
            format!(
                "object.kind != 'Gateway' || !object.apiVersion.startsWith('networking.istio.io/') || \
                 (has(object.spec.selector) && ({}))",
                differs.join(" || ")
            ),
            "a Gateway outside the gateway's namespace must not select the egress gateway's pods",
        ),
        check(
            format!(
                "object.kind != 'Gateway' || !object.apiVersion.startsWith('gateway.networking.k8s.io/') \
                 || !has(object.spec.addresses) || !object.spec.addresses.exists(address, \
                 has(address.value) && address.value.startsWith('{}.{}'))",
                gateway.service, gateway.namespace
            ),
            "a Gateway outside the gateway's namespace must not take the egress gateway's Service",
        ),
        check(
            format!(
                "object.kind != 'VirtualService' || !has(object.spec.gateways) || \
                 !object.spec.gateways.exists(name, name.startsWith('{0}/') || \
                 (!name.contains('/') && size(name.split('.')) > 1 && name.split('.')[1] == '{0}'))",
                gateway.namespace
            ),
            "routes of the egress gateway belong to its own namespace",
        ),
        check(
            format!(
                "!object.apiVersion.startsWith('gateway.networking.') || \
                 ((!has(object.spec.parentRefs) || object.spec.parentRefs.all(parent, \
                 !has(parent.namespace) || parent.namespace != '{0}')) && \
                 (!has(object.spec.parentRef) || !has(object.spec.parentRef.namespace) || \
                 object.spec.parentRef.namespace != '{0}'))",
                gateway.namespace
            ),
            "routes and listeners of the egress gateway belong to its own namespace",
        ),
        check(
            format!(
                "object.kind != 'DestinationRule' || !has(object.spec.host) || \
                 !(object.spec.host == '{0}.{1}' || object.spec.host.startsWith('{0}.{1}.'))",
                gateway.service, gateway.namespace
            ),
            "how the egress gateway is connected to is said in its own namespace",
        ),
    ]
}
