//! Which names and addresses other namespaces may give to the sidecars that are guarded.
//!
//! A `ServiceEntry`, or a `VirtualService` of sidecars, holds wherever it is exported to, which is
//! everywhere unless it says otherwise. One for an outside host takes that host's requests in every
//! guarded workload before the gateway sees them.

use serde_json::{Value, json};

use super::{Check, check};
use crate::install::Install;

/// Protocols that a sidecar tells apart by name. Every other port is known by its number alone, and
/// an entry without addresses takes that number of every address.
const NAMED: &str = "['HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB', 'HTTPS', 'TLS']";

pub(super) fn variables(install: &Install) -> Value {
    let cluster = &install.spec.cluster;
    let list = |names: &[String]| {
        let quoted: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let namespaces = list(&install.spec.workloads.namespaces);
    let services = format!(".svc.{}", cluster.domain);
    let gateway = format!(".{}{services}", install.spec.gateway.namespace);
    let known = list(&cluster.mesh_domains);
    // NAME.NAMESPACE.svc and the domain. Istio takes what stands before `.svc` of an entry's host for
    // a name too (`pilot/pkg/networking/core/httproute.go`, `GenerateAltVirtualHosts`), so that one
    // with more labels is an outside name with an ending.
    let labels = 3 + cluster.domain.split('.').count();
    let service = format!("size(host.split('.')) == {labels} && !host.contains('*')");
    let given = |mesh: &str| {
        format!(
            "has(object.spec.hosts) && object.spec.hosts.exists(host, host == '*' || \
             (host.contains('.') && !{known}.exists(known, host == known || \
             host.endsWith('.' + known)) && !({mesh})))"
        )
    };
    json!([
        {
            // Where it is not stated the mesh's default holds, which is everywhere as Istio comes.
            "name": "seen",
            "expression": format!(
                "!has(object.spec.exportTo) || size(object.spec.exportTo) == 0 || \
                 object.spec.exportTo.exists(to, to == '*' || to in {namespaces} || \
                 (to == '.' && object.metadata.namespace in {namespaces}))"
            ),
        },
        {
            "name": "entered",
            "expression": given(&format!(
                "host.endsWith('.' + object.metadata.namespace + '{services}') && {service}"
            )),
        },
        {
            // Of a name that no Service has, routes hold for the whole name only.
            "name": "routed",
            "expression": given(&format!(
                "(host.endsWith('{services}') && !host.endsWith('{gateway}') && {service}) || \
                 (host.endsWith('.' + object.metadata.namespace) && size(host.split('.')) == 2) || \
                 (host.endsWith('.' + object.metadata.namespace + '.svc') && \
                 size(host.split('.')) == 3)"
            )),
        },
    ])
}

/// Whether there is another status than before: Istio reads addresses from an entry's too
/// (`pilot/pkg/serviceregistry/serviceentry/conversion.go`).
pub(super) const STATUS_CHANGED: &str = "has(object.status) && (oldObject == null || \
                                         !has(oldObject.status) || object.status != oldObject.status)";

pub(super) fn checks(install: &Install) -> Vec<Check> {
    let istio = &install.spec.cluster.istio_namespace;
    vec![
        check(
            "object.kind != 'VirtualService' || !variables.seen || !variables.routed || \
             (has(object.spec.gateways) && size(object.spec.gateways) > 0 && \
             !('mesh' in object.spec.gateways))",
            "sidecars of guarded namespaces must not be given routes for outside hosts: leave these \
             namespaces out of exportTo",
        ),
        check(
            "object.kind != 'ServiceEntry' || !variables.seen || !variables.entered",
            "sidecars of guarded namespaces must not be given outside hosts: leave these namespaces \
             out of exportTo",
        ),
        check(
            format!(
                "object.kind != 'ServiceEntry' || !variables.seen || \
                 ((!has(object.spec.addresses) || size(object.spec.addresses) == 0) && \
                 (!has(object.spec.ports) || object.spec.ports.all(port, has(port.protocol) && \
                 port.protocol.upperAscii() in {NAMED})))"
            ),
            "sidecars of guarded namespaces must not be given addresses or opaque ports: leave these \
             namespaces out of exportTo",
        ),
        check(
            format!(
                "object.kind != 'ServiceEntry' || !variables.seen || !({STATUS_CHANGED}) || \
                 request.userInfo.username.startsWith('system:serviceaccount:{istio}:istiod')"
            ),
            "addresses that sidecars of guarded namespaces see are allocated by istiod alone",
        ),
    ]
}
