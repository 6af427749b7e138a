//! What sends a namespace's workloads to the gateway.

use std::collections::BTreeMap;

use egress_policy::contract::{
    DIALLED, LABELS_HEADER, NAMESPACE_HEADER, TCP_CLUSTER, dialled_network,
};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::NAME;
use crate::install::{Framing, Install};
use crate::object::{Object, Stage, set};
use crate::proxies;
use crate::tunnel;
use egress_policy::ports::MeshPorts;

pub(crate) const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// Three objects per namespace.
pub(crate) fn objects(install: &Install, traffic: &MeshPorts) -> Vec<Object> {
    let namespaces = &install.spec.workloads.namespaces;
    let all = |namespace: &String| {
        [
            sidecar(install, namespace),
            through_tunnel(install, traffic, namespace),
            inside(install, namespace),
        ]
    };
    namespaces.iter().flat_map(all).collect()
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

/// These two chains, and no other, are where Istio sends what the mesh does not know.
const UNKNOWN: [&str; 2] = ["virtualOutbound-catchall-tcp", NOT_HTTP];
/// Of them, where it sends what turns out to be no HTTP on a port that a Service declares HTTP.
const NOT_HTTP: &str = "PassthroughFilterChain";

fn through_tunnel(install: &Install, traffic: &MeshPorts, namespace: &str) -> Object {
    let tcp_proxy = TCP_PROXY;
    let framing = install.spec.tunnel.framing;
    let value = tunnelling(install, traffic, framing, "%DOWNSTREAM_LOCAL_ADDRESS%");
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
    let mut patches: Vec<_> = UNKNOWN
        .iter()
        .map(|chain| patch(chain, "MERGE", &value))
        .collect();
    if let Some(choice) = tunnel::choice(install) {
        let before = UNKNOWN
            .iter()
            .map(|chain| patch(chain, "INSERT_BEFORE", &choice));
        patches.extend(before);
    }
    patches.extend(tunnel::cluster_patches(install));
    Object::new(
        Stage::Workloads,
        "TCP to whatever is neither a host of the mesh nor of the cluster's own networks goes through a
         tunnel that names the dialled address and says the caller's labels, networks on the premises
         too. Without it, the gateway refuses what arrives.",
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        json!({"name": "egress-warden-tunnel", "namespace": namespace}),
        json!({"spec": {"configPatches": patches}}),
    )
}

/// The filter that sends a connection on in a tunnel that asks for `target`.
pub(crate) fn tunnelling(
    install: &Install,
    traffic: &MeshPorts,
    framing: Framing,
    target: &str,
) -> Value {
    json!({
        "name": TCP_PROXY,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "cluster": tunnel::cluster(install, framing),
            "tunneling_config": {
                "hostname": target,
                "headers_to_add": headers(traffic),
            },
        },
    })
}

/// Istio's cluster for where the application dialled.
const STRAIGHT: &str = "PassthroughCluster";
const INSIDE: &str = "egress-warden-inside";

/// The cluster's own networks, straight. Nothing of it is asked for by name: a request is told by
/// the address that was dialled, never by its Host.
fn inside(install: &Install, namespace: &str) -> Object {
    let networks = install.spec.cluster.own_networks();
    let ranges: Vec<_> = networks
        .iter()
        .map(|network| {
            json!({
                "address_prefix": network.network().to_string(),
                "prefix_len": network.prefix_len(),
            })
        })
        .collect();
    let version = proxies::supported(install);
    let patch = |apply_to: &str, (field, at): (&str, Value), operation: &str, value: Value| {
        json!({
            "applyTo": apply_to,
            "match": {
                "context": "SIDECAR_OUTBOUND",
                "proxy": {"proxyVersion": version},
                field: at,
            },
            "patch": {"operation": operation, "value": value},
        })
    };
    let in_chain = |chain: Value| ("listener", json!({"filterChain": chain}));
    let manager = "envoy.filters.network.http_connection_manager";
    let allow_any = json!({"vhost": {"name": "allow_any"}});
    // No `prefix_ranges` in listeners of HTTP: Envoy looks at the address before it looks at the
    // protocol, so headless Services would lose their routes, and with them mTLS.
    let patches = [
        patch(
            "NETWORK_FILTER",
            in_chain(json!({"filter": {"name": manager}})),
            "INSERT_BEFORE",
            set_state(
                "egress-warden.dialled",
                &[state(DIALLED, "envoy.network.ip", &dialled(None))],
            ),
        ),
        patch(
            "HTTP_ROUTE",
            ("routeConfiguration", allow_any),
            "INSERT_FIRST",
            straight_route(&ranges),
        ),
        patch(
            "FILTER_CHAIN",
            ("listener", json!({"name": "virtualOutbound"})),
            "ADD",
            straight_chain(&ranges),
        ),
        patch(
            "NETWORK_FILTER",
            in_chain(json!({"name": NOT_HTTP, "filter": {"name": TCP_PROXY}})),
            "INSERT_BEFORE",
            set_state("egress-warden.inside", &not_http(&networks)),
        ),
    ];
    Object::new(
        Stage::Workloads,
        "Pods, Services and nodes are reached straight, by the address that is dialled and not by the
         name that is asked for. They are no way out: the network policies and the node guard
         hold there.",
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        json!({"name": INSIDE, "namespace": namespace}),
        // After the tunnel, which it goes before.
        json!({"spec": {"priority": 10, "configPatches": patches}}),
    )
}

/// A request to one of these ranges goes where it was dialled.
fn straight_route(ranges: &[Value]) -> Value {
    json!({
        "name": INSIDE,
        "match": {
            "prefix": "/",
            "filter_state": [{"key": DIALLED, "address_match": {"ranges": ranges}}],
        },
        "route": {"cluster": STRAIGHT, "timeout": "0s"},
    })
}

/// So does a connection of no known protocol.
fn straight_chain(ranges: &[Value]) -> Value {
    json!({
        "name": INSIDE,
        "filter_chain_match": {"prefix_ranges": ranges},
        "filters": [{
            "name": TCP_PROXY,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": STRAIGHT,
                "cluster": STRAIGHT,
            },
        }],
    })
}

/// What was dialled, masked to some bits of it.
fn dialled(bits: Option<u8>) -> String {
    let mask = bits.map(|bits| format!("({bits})")).unwrap_or_default();
    format!("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT{mask}%")
}

fn state(key: &str, factory: &str, text: &str) -> Value {
    json!({
        "object_key": key,
        "factory_key": factory,
        "format_string": {"text_format_source": {"inline_string": text}},
    })
}

fn set_state(name: &str, states: &[Value]) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
            "on_new_connection": states,
        },
    })
}

/// Has `tcp_proxy` go straight where the dialled address is inside. It has no matcher for that, so
/// the address is masked to each length that there is and compared as text.
fn not_http(networks: &[IpNet]) -> Vec<Value> {
    let mut lengths: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for network in networks {
        let texts = lengths.entry(network.prefix_len()).or_default();
        texts.push(network.to_string());
    }
    let key = |length: &u8| dialled_network(*length);
    let mut states: Vec<_> = lengths
        .keys()
        .map(|length| state(&key(length), "envoy.string", &dialled(Some(*length))))
        .collect();
    let is_inside = lengths.iter().flat_map(|(length, texts)| {
        let is = move |text: &String| format!("filter_state['{}'] == b'{text}'", key(length));
        texts.iter().map(is)
    });
    let is_inside = is_inside.collect::<Vec<_>>().join(" || ");
    for (key, value) in [
        (TCP_CLUSTER, STRAIGHT),
        ("envoy.tcp_proxy.disable_tunneling", "true"),
    ] {
        // Empty, it sets nothing, and the tunnel stays.
        let mut state = state(key, key, &format!("%CEL({is_inside} ? '{value}' : '')%"));
        set(&mut state, "skip_if_empty", json!(true));
        if let Some(format) = state.get_mut("format_string") {
            set(format, "omit_empty_values", json!(true));
        }
        states.push(state);
    }
    states
}

/// The tunnel's headers: what the caller's sidecar says of it, a claim like peer metadata. A
/// sidecar cannot write Istio's own header where it makes the request itself. Of the labels that the
/// policy selects by, `key=value` for each that the pod has and `key` alone for each that it has not.
fn headers(traffic: &MeshPorts) -> Vec<Value> {
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
