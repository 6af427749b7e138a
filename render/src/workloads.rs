//! What sends a namespace's workloads to the gateway.

use serde_json::{Value, json};

use crate::NAME;
use crate::install::Install;
use crate::object::{Object, Stage};
use crate::proxies;
use crate::traffic::Traffic;
use crate::tunnel;

/// The tunnel's headers: what the caller's sidecar says of it, a claim like peer metadata. A
/// sidecar cannot write Istio's own header where it makes the request itself.
pub(crate) const NAMESPACE_HEADER: &str = "x-egress-warden-namespace";
/// `key=value` for each label that the policy selects by, `key` alone where the pod has none.
pub(crate) const LABELS_HEADER: &str = "x-egress-warden-labels";

/// Two objects per namespace.
pub(crate) fn objects(install: &Install, traffic: &Traffic) -> Vec<Object> {
    let namespaces = &install.spec.workloads.namespaces;
    let both = |namespace: &String| {
        [
            sidecar(install, namespace),
            through_tunnel(install, traffic, namespace),
        ]
    };
    namespaces.iter().flat_map(both).collect()
}

fn sidecar(install: &Install, namespace: &str) -> Object {
    Object::new(
        Stage::Workloads,
        "Everything that is not in the mesh goes to the gateway, never straight out: also what no
         rule names, so that it is refused with a reason and Shadow can see it. Of the mesh these
         sidecars see the listed namespaces, so that no other one can give them names or addresses.",
        ("networking.istio.io/v1", "Sidecar"),
        json!({"name": NAME, "namespace": namespace}),
        json!({"spec": {
            "egress": [{"hosts": install.sidecar_hosts(namespace)}],
            "outboundTrafficPolicy": {
                "mode": "ALLOW_ANY",
                "egressProxy": {
                    "host": install.gateway_host(),
                    "port": {"number": install.spec.gateway.ports.http},
                },
            },
        }}),
    )
}

fn through_tunnel(install: &Install, traffic: &Traffic, namespace: &str) -> Object {
    let tcp_proxy = "envoy.filters.network.tcp_proxy";
    let value = json!({
        "name": tcp_proxy,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "cluster": tunnel::cluster(install, install.spec.tunnel.framing),
            "tunneling_config": {
                "hostname": "%DOWNSTREAM_LOCAL_ADDRESS%",
                "headers_to_add": headers(traffic),
            },
        },
    });
    // These two chains, and no other, are where Istio sends what the mesh does not know.
    let chains = ["virtualOutbound-catchall-tcp", "PassthroughFilterChain"];
    let patch = |chain: &str, operation: &str, value: &Value| {
        json!({
            "applyTo": "NETWORK_FILTER",
            "match": {
                "context": "SIDECAR_OUTBOUND",
                "proxy": {"proxyVersion": proxies::supported(install)},
                "listener": {"filterChain": {
                    "name": chain,
                    "filter": {"name": tcp_proxy},
                }},
            },
            "patch": {"operation": operation, "value": value},
        })
    };
    let mut patches: Vec<_> = chains
        .iter()
        .map(|chain| patch(chain, "MERGE", &value))
        .collect();
    if let Some(choice) = tunnel::choice(install) {
        let before = chains
            .iter()
            .map(|chain| patch(chain, "INSERT_BEFORE", &choice));
        patches.extend(before);
    }
    patches.extend(tunnel::cluster_patches(install));
    Object::new(
        Stage::Workloads,
        "Outside TCP goes through a tunnel that names the dialled address and says the caller's
         labels. Traffic inside the mesh is not touched. Without it, the gateway refuses what
         arrives.",
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        json!({"name": "egress-warden-tunnel", "namespace": namespace}),
        json!({"spec": {"configPatches": patches}}),
    )
}

fn headers(traffic: &Traffic) -> Vec<Value> {
    let header = |key: &str, value: String| {
        json!({
            "header": {"key": key, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        })
    };
    let mut headers = vec![header(
        NAMESPACE_HEADER,
        "%CEL(xds.node.metadata['NAMESPACE'])%".to_owned(),
    )];
    if !traffic.labels.is_empty() {
        let labels: Vec<_> = traffic.labels.iter().map(|key| label(key)).collect();
        headers.push(header(LABELS_HEADER, labels.join(",")));
    }
    headers
}

/// A missing label must not look like one whose value is empty: it has no `=`. Two expressions,
/// because Envoy's CEL does not join texts.
fn label(key: &str) -> String {
    let labels = "xds.node.metadata['LABELS']";
    format!("{key}%CEL('{key}' in {labels} ? '=' : '')%%CEL({labels}['{key}'])%")
}
