//! The same gateway by the Kubernetes Gateway API.

use serde_json::{Value, json};

use super::metadata;
use crate::NAME;
use crate::install::Install;
use crate::object::{Object, Stage};

const API: &str = "gateway.networking.k8s.io/v1";

/// The label by which Istio finds the pods of a Gateway that policies are attached to.
pub(crate) const POD_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// What policies are attached to.
pub(super) fn target() -> Value {
    json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": NAME}])
}

pub(super) fn ports(install: &Install) -> Object {
    let ports = install.spec.gateway.ports;
    let listener = |name: &str, port: u16| {
        json!({
            "name": name,
            "port": port,
            "protocol": "HTTPS",
            "tls": {
                "mode": "Terminate",
                // Istio's word for the mesh's own certificates at a Gateway.
                "options": {"gateway.istio.io/tls-terminate-mode": "ISTIO_MUTUAL"},
            },
            // No other namespace can bind routes to it.
            "allowedRoutes": {"namespaces": {"from": "Same"}},
        })
    };
    Object::new(
        Stage::Gateway,
        "The gateway's two ports. Both ask for a certificate of the mesh; there is no other way in.
         The address is the Service that exists: Istio deploys no gateway of its own for it.",
        (API, "Gateway"),
        metadata(install, NAME),
        json!({"spec": {
            "gatewayClassName": "istio",
            "addresses": [{"type": "Hostname", "value": install.gateway_host()}],
            "listeners": [listener("http", ports.http), listener("tunnel", ports.tunnel)],
        }}),
    )
}

/// A rule without backends is answered with 500 (GEP-1742 leaves the code to a rule without a
/// valid backend).
pub(super) fn closed_route(install: &Install) -> Object {
    Object::new(
        Stage::Gateway,
        "The route that everything has if nothing else is there: it leads nowhere. The routes to the
         outside come from EnvoyFilter egress-warden, together with the lock.",
        (API, "HTTPRoute"),
        metadata(install, NAME),
        json!({"spec": {
            "parentRefs": [{"name": NAME}],
            "rules": [{
                "name": "closed",
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            }],
        }}),
    )
}
