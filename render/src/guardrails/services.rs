//! What Services and their endpoints may take or answer for.
//!
//! A Service is a name and ports in every sidecar that sees it, and addresses on every node.

use serde_json::{Value, json};

use super::{Check, check, quoted};
use crate::install::Install;
use egress_policy::ports::MeshPorts;

/// TCP ports whose servers speak first (IANA's registry: daytime, chargen, ftp, ssh, telnet, smtp,
/// time, pop3, nntp, imap, submission, rsync, mysql, vnc). A port that one Service declares HTTP has
/// a listener for every address, which waits for the client's first bytes.
const SERVER_FIRST: [u16; 16] = [
    13, 19, 21, 22, 23, 25, 37, 110, 119, 143, 220, 587, 873, 2525, 3306, 5900,
];

/// Protocols that Istio carries as opaque bytes or as TLS, by a port's `appProtocol` or the first
/// part of its name (`pkg/config/protocol/instance.go`).
const OPAQUE: &str = "['tcp', 'tls', 'https', 'mongo', 'mysql', 'redis']";

/// Whether a status is there that was not.
const STATUS_CHANGED: &str = "(has(object.status) && (oldObject == null || \
                              !has(oldObject.status) || object.status != oldObject.status))";

/// Whether anything that is judged is another than before.
pub(super) fn changed() -> String {
    let differs = |field: &str| {
        format!(
            "has(object.{field}) != has(oldObject.{field}) || \
             (has(object.{field}) && object.{field} != oldObject.{field})"
        )
    };
    let fields = ["spec", "subsets", "endpoints", "status"].map(differs);
    format!("oldObject == null || {}", fields.join(" || "))
}

pub(super) fn variables(install: &Install, traffic: &MeshPorts) -> Value {
    let spec = &install.spec;
    let guardrails = &spec.guardrails;
    let mut users = vec![
        "system:kube-controller-manager".to_owned(),
        "system:cloud-controller-manager".to_owned(),
    ];
    users.extend(guardrails.endpoint_writers.iter().cloned());
    let accounts = ["kube-system".to_owned()].into_iter();
    let accounts = accounts.chain(guardrails.naming_namespaces.iter().cloned());
    let accounts: Vec<_> = accounts
        .map(|namespace| format!("system:serviceaccount:{namespace}:"))
        .collect();
    let visible: Vec<_> = install.visible().into_iter().collect();
    let mut ports: Vec<_> = SERVER_FIRST.to_vec();
    ports.extend(traffic.opaque.iter().copied());
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    json!([
        {"name": "seen", "expression": format!("object.metadata.namespace in {}", quoted(&visible))},
        {
            "name": "controller",
            "expression": format!(
                "request.userInfo.username in {} || {}.exists(account, \
                 request.userInfo.username.startsWith(account))",
                quoted(&users), quoted(&accounts)
            ),
        },
        {
            // A Service from before these policies goes on having its status written.
            "name": "specified",
            "expression": "object.kind == 'Service' && (oldObject == null || \
                           !has(oldObject.spec) || object.spec != oldObject.spec)",
        },
        {"name": "opaque", "expression": format!("[{}]", ports.join(", "))},
    ])
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(
            "!variables.specified || !has(object.spec.externalIPs) || \
             size(object.spec.externalIPs) == 0",
            "externalIPs take an outside address from every pod of the cluster, the egress gateway's \
             among them",
        ),
        check(
            "!variables.specified || !has(object.spec.loadBalancerIP) || \
             object.spec.loadBalancerIP == ''",
            "loadBalancerIP takes an outside address from every pod of the cluster, the egress \
             gateway's among them",
        ),
        // What kube-proxy goes by on every node.
        check(
            format!(
                "object.kind != 'Service' || variables.controller || !{STATUS_CHANGED} || \
                 !has(object.status.loadBalancer) || !has(object.status.loadBalancer.ingress) || \
                 size(object.status.loadBalancer.ingress) == 0 || \
                 (oldObject != null && has(oldObject.status) && has(oldObject.status.loadBalancer) && \
                 has(oldObject.status.loadBalancer.ingress) && \
                 object.status.loadBalancer.ingress == oldObject.status.loadBalancer.ingress)"
            ),
            "addresses of load balancers are written by the cluster's controllers alone",
        ),
        check(
            "!variables.specified || !variables.seen || !has(object.spec.type) || \
             object.spec.type != 'ExternalName'",
            "a Service that guarded sidecars see must not be another name for an outside host \
             (ExternalName)",
        ),
        check(
            format!(
                "!variables.specified || !variables.seen || !has(object.spec.ports) || \
                 object.spec.ports.all(port, !(port.port in variables.opaque) || \
                 (has(port.protocol) && port.protocol != 'TCP') || \
                 (has(port.appProtocol) ? port.appProtocol in {OPAQUE} : \
                 (has(port.name) && {OPAQUE}.exists(protocol, port.name == protocol || \
                 port.name.startsWith(protocol + '-')))))"
            ),
            "this port carries opaque TCP for guarded sidecars: declare it so (name or appProtocol \
             tcp), else they wait on every address for a client that speaks first",
        ),
        check(
            "!(object.kind in ['Endpoints', 'EndpointSlice']) || !variables.seen || \
             variables.controller || \
             (object.kind == 'Endpoints' && (!has(object.subsets) || object.subsets.all(subset, \
             (!has(subset.addresses) || size(subset.addresses) == 0) && \
             (!has(subset.notReadyAddresses) || size(subset.notReadyAddresses) == 0)))) || \
             (object.kind == 'EndpointSlice' && (!has(object.endpoints) || \
             size(object.endpoints) == 0))",
            "endpoints that guarded sidecars see are written by the cluster's controllers alone: a \
             Service's endpoints are pods that its selector finds",
        ),
        check(
            "object.kind != 'Pod' || request.userInfo.username.startsWith('system:node:') || \
             variables.controller || (has(object.status) && has(object.status.podIPs) ? \
             object.status.podIPs : []) == (oldObject != null && has(oldObject.status) && \
             has(oldObject.status.podIPs) ? oldObject.status.podIPs : [])",
            "a pod's addresses are written by its node alone",
        ),
    ]
}
