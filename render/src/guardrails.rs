//! Admission policies against the known ways around the sidecar and into the gateway.

use serde_json::{Value, json};

use crate::NAME;
use crate::install::Install;
use crate::object::{Object, Stage};

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

/// The admission policies and their bindings.
pub(crate) fn objects(install: &Install) -> Vec<Object> {
    let pods = rendering(
        "pods",
        "Refuses pods that go around their sidecar.",
        &json!([{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["pods", "pods/ephemeralcontainers"],
        }]),
        &pod_checks(),
    );
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
        &istio_checks(install),
    );
    let guarded = json!({"namespaceSelector": {"matchExpressions": [{
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": guarded(install),
    }]}});
    let elsewhere = json!({"namespaceSelector": {"matchExpressions": [{
        "key": "kubernetes.io/metadata.name",
        "operator": "NotIn",
        "values": [install.spec.gateway.namespace, install.spec.cluster.istio_namespace],
    }]}});
    vec![
        pods,
        binding("pods", &guarded),
        istio,
        binding("istio", &elsewhere),
    ]
}

fn guarded(install: &Install) -> Vec<&String> {
    let exempt = &install.spec.guardrails.exempt_namespaces;
    let namespaces = &install.spec.workloads.namespaces;
    namespaces
        .iter()
        .filter(|name| !exempt.contains(name))
        .collect()
}

fn rendering(name: &str, about: &'static str, rules: &Value, checks: &[Check]) -> Object {
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
            "variables": variables(name),
            "validations": validations,
        }}),
    )
}

fn binding(name: &str, selector: &Value) -> Object {
    Object::new(
        Stage::Guard,
        "Where the policy of the same name holds.",
        (API, "ValidatingAdmissionPolicyBinding"),
        json!({"name": format!("{NAME}-{name}")}),
        json!({"spec": {
            "policyName": format!("{NAME}-{name}"),
            "validationActions": ["Deny"],
            "matchResources": selector,
        }}),
    )
}

fn variables(name: &str) -> Value {
    if name != "pods" {
        return json!([]);
    }
    let of = |field: &str| format!("(has(object.spec.{field}) ? object.spec.{field} : [])");
    // The sidecar's own containers are Istio's: they come from the injector and set up capture.
    json!([
        {
            "name": "annotations",
            "expression": "has(object.metadata.annotations) ? object.metadata.annotations : {}",
        },
        {
            "name": "labels",
            "expression": "has(object.metadata.labels) ? object.metadata.labels : {}",
        },
        {
            "name": "applications",
            "expression": format!(
                "({} + {} + {}).filter(c, !(c.name in ['istio-proxy', 'istio-init', \
                 'istio-validation']))",
                of("containers"), of("initContainers"), of("ephemeralContainers"),
            ),
        },
    ])
}

const ANNOTATIONS: [&str; 8] = [
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/kubevirtInterfaces",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/bootstrapOverride",
];

fn pod_checks() -> Vec<Check> {
    let excluded = ANNOTATIONS.map(|key| format!("'{key}'")).join(", ");
    vec![
        check(
            format!("![{excluded}].exists(key, key in variables.annotations)"),
            "annotations that change what the sidecar captures are not allowed here",
        ),
        check(
            "!('sidecar.istio.io/inject' in variables.annotations) || \
             variables.annotations['sidecar.istio.io/inject'] != 'false'",
            "a pod without a sidecar has no way out; sidecar.istio.io/inject must not be false",
        ),
        check(
            "!('sidecar.istio.io/inject' in variables.labels) || \
             variables.labels['sidecar.istio.io/inject'] != 'false'",
            "a pod without a sidecar has no way out; sidecar.istio.io/inject must not be false",
        ),
        check(
            "!has(object.spec.hostNetwork) || !object.spec.hostNetwork",
            "hostNetwork pods are not redirected to a sidecar and not guarded",
        ),
        check(
            "!has(object.spec.securityContext) || \
             ((!has(object.spec.securityContext.runAsUser) || \
             object.spec.securityContext.runAsUser != 1337) && \
             (!has(object.spec.securityContext.runAsGroup) || \
             object.spec.securityContext.runAsGroup != 1337))",
            "user and group 1337 are the sidecar's: what they send is not redirected",
        ),
        check(
            "variables.applications.all(c, !has(c.securityContext) || \
             ((!has(c.securityContext.runAsUser) || c.securityContext.runAsUser != 1337) && \
             (!has(c.securityContext.runAsGroup) || c.securityContext.runAsGroup != 1337)))",
            "user and group 1337 are the sidecar's: what they send is not redirected",
        ),
        check(
            "variables.applications.all(c, !has(c.securityContext) || \
             !has(c.securityContext.privileged) || !c.securityContext.privileged)",
            "a privileged container can undo the redirection to the sidecar",
        ),
        check(
            "variables.applications.all(c, !has(c.securityContext) || \
             !has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add) || \
             !c.securityContext.capabilities.add.exists(name, name.upperAscii() in \
             ['NET_ADMIN', 'NET_RAW', 'CAP_NET_ADMIN', 'CAP_NET_RAW', 'SYS_ADMIN', \
             'CAP_SYS_ADMIN', 'ALL']))",
            "NET_ADMIN, NET_RAW and SYS_ADMIN can undo the redirection to the sidecar",
        ),
    ]
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
                 !object.spec.gateways.exists(name, name.startsWith('{}/'))",
                gateway.namespace
            ),
            "routes of the egress gateway belong to its own namespace",
        ),
    ]
}
