//! Admission policies against the known ways around the sidecar and into the gateway.

pub(crate) mod admission;
mod names;
mod pods;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::NAME;
use crate::install::Install;
use crate::object::{Object, Stage, in_cluster, namespaces};

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

/// The admission policies and their bindings.
pub(crate) fn objects(install: &Install) -> Vec<Object> {
    let pods = pods(install);
    let istio = rendering(
        "istio",
        "Refuses Istio objects that open the egress gateway or take names away from it.",
        &json!([
            {
                "apiGroups": ["networking.istio.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["gateways", "virtualservices"],
            },
            {
                "apiGroups": ["gateway.networking.k8s.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["gateways"],
            },
        ]),
        SPEC_CHANGED,
        &json!([]),
        &istio_checks(install),
    );
    let names = rendering(
        "names",
        "Refuses Istio objects that give outside names and addresses to the sidecars of guarded
         namespaces: their requests would not reach the egress gateway.",
        &json!([{
            "apiGroups": ["networking.istio.io"],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["serviceentries", "serviceentries/status", "virtualservices"],
        }]),
        &format!("({SPEC_CHANGED}) || ({})", names::STATUS_CHANGED),
        &names::variables(install),
        &names::checks(install),
    );
    let spec = &install.spec;
    let system = [&spec.gateway.namespace, &spec.cluster.istio_namespace];
    let naming = spec.guardrails.naming_namespaces.iter();
    let trusted: Vec<_> = system.into_iter().chain(naming).collect();
    let guarded = namespaces("In", &guarded(install));
    let elsewhere = namespaces("NotIn", &system);
    let tenants = namespaces("NotIn", &trusted);
    vec![
        pods,
        binding(install, "pods", &guarded),
        bindings(),
        binding(install, "bindings", &guarded),
        istio,
        binding(install, "istio", &elsewhere),
        names,
        binding(install, "names", &tenants),
    ]
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

fn binding(install: &Install, name: &str, namespaces: &Value) -> Object {
    Object::new(
        Stage::Guard,
        "Where the policy of the same name holds.",
        (API, "ValidatingAdmissionPolicyBinding"),
        json!({"name": format!("{NAME}-{name}")}),
        json!({"spec": {
            "policyName": in_cluster(install, &format!("{NAME}-{name}")),
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": namespaces},
        }}),
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
    ]
}
