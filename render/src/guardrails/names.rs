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
            "name": "outside",
            "expression": format!(
                "has(object.spec.hosts) && object.spec.hosts.exists(host, host == '*' || \
                 (host.contains('.') && !{known}.exists(known, host == known || \
                 host.endsWith('.' + known)) && (!host.endsWith('{services}') || \
                 host.endsWith('{gateway}'))))"
            ),
        },
    ])
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(
            "object.kind != 'VirtualService' || !variables.seen || !variables.outside || \
             (has(object.spec.gateways) && size(object.spec.gateways) > 0 && \
             !('mesh' in object.spec.gateways))",
            "sidecars of guarded namespaces must not be given routes for outside hosts: leave these \
             namespaces out of exportTo",
        ),
        check(
            "object.kind != 'ServiceEntry' || !variables.seen || !variables.outside",
            "sidecars of guarded namespaces must not be given outside hosts: leave these namespaces \
             out of exportTo",
        ),
        check(
            format!(
                "object.kind != 'ServiceEntry' || !variables.seen || \
                 ((!has(object.spec.addresses) || size(object.spec.addresses) == 0) && \
                 (!has(object.spec.ports) || object.spec.ports.all(port, has(port.protocol) && \
                 port.protocol in {NAMED})))"
            ),
            "sidecars of guarded namespaces must not be given addresses or opaque ports: leave these \
             namespaces out of exportTo",
        ),
    ]
}
