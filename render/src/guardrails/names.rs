//! Which names and addresses other namespaces may give to the sidecars that are guarded.
//!
//! A `ServiceEntry`, or a `VirtualService` of sidecars, holds wherever it is exported to, which is
//! everywhere unless it says otherwise. One for an outside host takes that host's requests in every
//! guarded workload before the gateway sees them.

use serde_json::{Value, json};

use super::{Check, check, quoted};
use crate::install::Install;

/// Protocols that a sidecar tells apart by name. Every other port is known by its number alone, and
/// an entry without addresses takes that number of every address.
const NAMED: &str = "['HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB', 'HTTPS', 'TLS']";

pub(super) fn variables(install: &Install) -> Value {
    let cluster = &install.spec.cluster;
    let namespaces = quoted(&install.spec.workloads.namespaces);
    let services = format!(".svc.{}", cluster.domain);
    let gateway = format!(".{}{services}", install.spec.gateway.namespace);
    let known = quoted(&cluster.mesh_domains);
    // NAME.NAMESPACE.svc and the domain. Istio takes what stands before `.svc` of an entry's host for
    // a name too (`pilot/pkg/networking/core/httproute.go`, `GenerateAltVirtualHosts`), so that one
    // with more labels is an outside name with an ending.
    let labels = 3 + cluster.domain.split('.').count();
    let service = format!("size(host.split('.')) == {labels} && !host.contains('*')");
    let known = format!("{known}.exists(known, host == known || host.endsWith('.' + known))");
    // Of a name that no Service has, routes hold for the whole name only. A name without dots and
    // colons is a Service's of the same namespace (`ResolveShortnameToFQDN`). An IPv6 address has
    // colons and no dot.
    let routable = format!(
        "host != '*' && ((!host.contains('.') && !host.contains(':')) || {known} || \
         (host.endsWith('{services}') && !host.endsWith('{gateway}') && {service} && \
         (host.endsWith('.' + object.metadata.namespace + '{services}') || variables.own)) || \
         (host.endsWith('.' + object.metadata.namespace) && size(host.split('.')) == 2) || \
         (host.endsWith('.' + object.metadata.namespace + '.svc') && \
         size(host.split('.')) == 3))"
    );
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
            // For the clients of its own namespace and nobody else.
            "name": "own",
            "expression": "has(object.spec.exportTo) && size(object.spec.exportTo) == 1 && \
                           object.spec.exportTo[0] == '.'",
        },
        {
            // An entry's host is taken as it is written, so one without dots is everybody's short
            // name for a Service.
            "name": "entered",
            "expression": format!(
                "has(object.spec.hosts) && object.spec.hosts.exists(host, !({known}) && \
                 !(host.endsWith('.' + object.metadata.namespace + '{services}') && {service}))"
            ),
        },
        {
            "name": "routed",
            "expression": format!(
                "(has(object.spec.hosts) && object.spec.hosts.exists(host, !({routable}))) || \
                 (has(object.spec.tls) && object.spec.tls.exists(route, has(route.match) && \
                 route.match.exists(one, has(one.sniHosts) && one.sniHosts.exists(host, \
                 !({routable})))))"
            ),
        },
        {
            "name": "subnets",
            "expression": format!("{} || {}", subnets("tcp"), subnets("tls")),
        },
    ])
}

/// Whether routes of this kind are for destinations by their address.
fn subnets(routes: &str) -> String {
    format!(
        "(has(object.spec.{routes}) && object.spec.{routes}.exists(route, has(route.match) && \
         route.match.exists(one, has(one.destinationSubnets) && \
         size(one.destinationSubnets) > 0)))"
    )
}

/// Whether there is another status than before: Istio reads addresses from an entry's too
/// (`pilot/pkg/serviceregistry/serviceentry/conversion.go`).
pub(super) const STATUS_CHANGED: &str = "has(object.status) && (oldObject == null || \
                                         !has(oldObject.status) || object.status != oldObject.status)";

/// Routes that no guarded sidecar takes.
const OF_OTHERS: &str = "!variables.seen || (has(object.spec.gateways) && \
                         size(object.spec.gateways) > 0 && !('mesh' in object.spec.gateways))";

pub(super) fn checks(install: &Install) -> Vec<Check> {
    let istio = &install.spec.cluster.istio_namespace;
    vec![
        check(
            format!("object.kind != 'VirtualService' || {OF_OTHERS} || !variables.routed"),
            "sidecars of guarded namespaces must not be given routes for outside hosts, or for other \
             namespaces' Services: leave these namespaces out of exportTo",
        ),
        check(
            format!("object.kind != 'VirtualService' || {OF_OTHERS} || !variables.subnets"),
            "sidecars of guarded namespaces must not be given routes by destination address: leave \
             these namespaces out of exportTo",
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
        check(
            "object.kind != 'ServiceEntry' || !variables.seen || !has(object.spec.endpoints) || \
             size(object.spec.endpoints) == 0",
            "sidecars of guarded namespaces must not be given endpoints by their address: leave these \
             namespaces out of exportTo",
        ),
        check(
            "object.kind != 'XBackend'",
            "a backend outside the mesh is an outside name for whoever routes to it: it belongs to \
             namespaces that the platform lists (guardrails.namingNamespaces)",
        ),
        // Istio asks by its address which Services a proxy is of, and an entry is asked first
        // (`pilot/pkg/serviceregistry/kube/controller/controller.go`, `GetProxyServiceTargets`). An
        // entry made from a group has the address that its client says.
        check(
            "!(object.kind in ['WorkloadEntry', 'WorkloadGroup'])",
            "a WorkloadEntry with the address of somebody else's pod takes that pod's ports, the \
             egress gateway's among them: machines are registered in namespaces that the platform \
             lists (guardrails.namingNamespaces)",
        ),
    ]
}
