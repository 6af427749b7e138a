//! What changes the sidecars of guarded namespaces, or makes istiod, the agent or the sidecar itself
//! connect for a tenant. A sidecar's own connections are not redirected.

use serde_json::{Value, json};

use super::{Check, check, quoted};
use crate::NAME;
use crate::install::Install;

pub(super) fn variables(install: &Install) -> Value {
    let guardrails = &install.spec.guardrails;
    json!([
        {
            // Whoever may change the admission policies may apply what is rendered beside them.
            "name": "rendered",
            "expression": format!(
                "object.metadata.name.startsWith('{NAME}') && \
                 authorizer.group('admissionregistration.k8s.io')\
                 .resource('validatingadmissionpolicies').check('update').allowed()"
            ),
        },
        {
            "name": "extensible",
            "expression": format!(
                "object.metadata.namespace in {}",
                quoted(&guardrails.extension_namespaces)
            ),
        },
        {"name": "keys", "expression": quoted(&guardrails.jwks_uris)},
    ])
}

pub(super) fn checks() -> Vec<Check> {
    let listed = |field: &str| {
        format!("(!has(rule.{field}) || rule.{field} == '' || rule.{field} in variables.keys)")
    };
    let stated = |field: &str| format!("(has(rule.{field}) && rule.{field} != '')");
    vec![
        check(
            "!(object.kind in ['EnvoyFilter', 'WasmPlugin', 'TrafficExtension']) || \
             variables.rendered || variables.extensible",
            "an extension of guarded sidecars connects past the gateway: the platform lists \
             namespaces that may have them (guardrails.extensionNamespaces)",
        ),
        check(
            "object.kind != 'Sidecar' || variables.rendered",
            "what guarded sidecars see and where they send the rest is rendered: scope it by \
             workloads.scopes of the install settings",
        ),
        check(
            "object.kind != 'ProxyConfig' || !has(object.spec.environmentVariables) || \
             size(object.spec.environmentVariables) == 0",
            "variables of the sidecar change where it gets its configuration and where it connects",
        ),
        // Without jwks or jwksUri, istiod asks the issuer (OpenID Connect Discovery 1.0, section 4).
        check(
            format!(
                "object.kind != 'RequestAuthentication' || !has(object.spec.jwtRules) || \
                 object.spec.jwtRules.all(rule, {} && {} && ({} || {} || {}))",
                listed("jwksUri"),
                listed("jwks_uri"),
                stated("jwks"),
                stated("jwksUri"),
                stated("jwks_uri"),
            ),
            "istiod fetches keys from where a RequestAuthentication says: state them (jwks), or an \
             address that the platform lists (guardrails.jwksUris)",
        ),
        check(
            "object.kind != 'NetworkPolicy' || variables.rendered || !has(object.spec.egress) || \
             object.spec.egress.all(rule, has(rule.to) && size(rule.to) > 0 && \
             rule.to.all(peer, !has(peer.ipBlock)))",
            "a network policy that opens addresses or everything opens the way past the gateway: \
             name pods",
        ),
    ]
}
