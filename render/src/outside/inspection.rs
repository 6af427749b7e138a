//! The way to an inspection device: chosen by a verdict, locked for everything else, and told where
//! to connect on, who asks and by which rule.
//!
//! Requests and TLS go to a cluster that resolves the judged name, so that the policy sees where it
//! leads, and then connects to a listener inside the gateway instead, which opens a tunnel through
//! the device. Opaque tunnels are sent on to the device as they are.

use serde_json::{Value, json};

use super::clusters::{http_outside, inward};
use super::routes::{http_route, tunnel_route};
use super::{LOCK, TCP_PROXY, admits, locked_for, longest_stream, named, state};
use crate::install::{Device, Install};
use crate::object::set;

/// The filter that says what the device is to be told.
pub(crate) const TELL: &str = "egress-warden.device";
/// What the lock of a device's own listener looks at.
const DEVICE_STATE: &str = "warden.device";
/// Bytes of the client that are held while the device is asked.
const HELD: u32 = 65_536;

/// The cluster of a device's own listener, which verdicts name.
pub(crate) fn cluster(device: &str) -> String {
    format!("warden-inspect-{device}")
}

/// The cluster of the device itself.
pub(crate) fn device_cluster(device: &str) -> String {
    format!("warden-device-{device}")
}

/// A device's listener inside the gateway.
pub(crate) fn listener_name(device: &str) -> String {
    format!("egress-warden-inspect-{device}")
}

/// The word that a verdict begins with, up to the end of the name.
pub(crate) fn word(device: &str) -> String {
    format!("inspect:{device} ")
}

/// The routes to a device, for requests and for tunnels.
pub(super) fn routes(install: &Install, device: &Device) -> [Value; 2] {
    let chosen = json!([{
        "key": "wasm.warden_verdict",
        "string_match": {"prefix": word(&device.name)},
    }]);
    let name = format!("inspect-{}", device.name);
    let mut request = http_route(install, &name, &cluster(&device.name), &[]);
    let mut tunnel = tunnel_route(install, &name, &device_cluster(&device.name), &[]);
    for route in [&mut request, &mut tunnel] {
        if let Some(found) = route.get_mut("match") {
            set(found, "filter_state", chosen.clone());
        }
        set(
            route,
            "typed_per_filter_config",
            locked_for(&word(&device.name)),
        );
    }
    // The tunnel does not end here: the device is asked to go on to the dialled address.
    if let Some(action) = tunnel.get_mut("route") {
        set(
            action,
            "upgrade_configs",
            json!([{"upgrade_type": "CONNECT"}]),
        );
    }
    if let Some(words) = request.get("request_headers_to_remove").cloned() {
        set(&mut tunnel, "request_headers_to_remove", words);
    }
    set(&mut tunnel, "request_headers_to_add", told("wasm.warden_"));
    [request, tunnel]
}

/// The headers that the device is sent, from filter state.
fn told(prefix: &str) -> Value {
    let header = |name: &str| {
        json!({
            "header": {
                "key": format!("x-egress-warden-{name}"),
                "value": format!("%FILTER_STATE({prefix}{name}:PLAIN)%"),
            },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        })
    };
    json!([header("rule"), header("workload")])
}

/// What the device is to be told, on its way with the connection. It is there only for what is to
/// be inspected. Connections of different callers, rules and destinations are kept apart, which is
/// what `hashable` means.
fn tell() -> Value {
    let words = ["device", "rule", "workload", "destination"].map(|word| {
        let mut entry = state(
            &format!("warden.{word}"),
            &format!("%FILTER_STATE(wasm.warden_{word}:PLAIN)%"),
        );
        set(&mut entry, "factory_key", json!("envoy.hashable_string"));
        set(&mut entry, "skip_if_empty", json!(true));
        set(&mut entry, "shared_with_upstream", json!("ONCE"));
        if let Some(format) = entry.get_mut("format_string") {
            set(format, "omit_empty_values", json!(true));
        }
        entry
    });
    json!(words)
}

/// The filter before the router.
pub(super) fn tell_by_request() -> Value {
    named(
        TELL,
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        json!({"on_request_headers": tell()}),
    )
}

/// The same before `tcp_proxy`.
pub(super) fn tell_by_connection() -> Value {
    named(
        TELL,
        "envoy.extensions.filters.network.set_filter_state.v3.Config",
        json!({"on_new_connection": tell()}),
    )
}

/// A device's two clusters.
pub(super) fn clusters(install: &Install, device: &Device) -> [Value; 2] {
    let mut way = http_outside(install, &cluster(&device.name));
    let listener = json!({"envoy_internal_address": {
        "server_listener_name": listener_name(&device.name),
    }});
    let socket = named(
        "envoy.transport_sockets.http_11_proxy",
        "envoy.extensions.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport",
        json!({"default_proxy_address": listener, "transport_socket": inward()}),
    );
    set(&mut way, "transport_socket", socket);
    let name = device_cluster(&device.name);
    let address = json!({"socket_address": {
        "address": device.address,
        "port_value": device.port,
    }});
    let kind = if device.address.parse::<std::net::IpAddr>().is_ok() {
        "STATIC"
    } else {
        "STRICT_DNS"
    };
    let there = json!({
        "name": name,
        "type": kind,
        "metadata": {"filter_metadata": {
            "istio": {"external": true},
            "warden": {"role": name},
        }},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    });
    [way, there]
}

/// A device's listener inside the gateway.
pub(super) fn listener(install: &Install, device: &Device) -> Value {
    let rbac = "envoy.extensions.filters.network.rbac.v3.RBAC";
    let name = listener_name(&device.name);
    let only = json!({"key": DEVICE_STATE, "string_match": {"exact": device.name}});
    let mut tunneling = json!({"hostname": "%FILTER_STATE(warden.destination:PLAIN)%"});
    set(&mut tunneling, "headers_to_add", told("warden."));
    json!({
        "name": name,
        "internal_listener": {},
        "metadata": {"filter_metadata": {"warden": {"role": name}}},
        "filter_chains": [{"name": name, "filters": [
            named(LOCK, rbac, json!({"stat_prefix": LOCK, "rules": admits(&[only])})),
            named(
                TCP_PROXY,
                "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                json!({
                    "stat_prefix": name,
                    "cluster": device_cluster(&device.name),
                    "max_downstream_connection_duration": longest_stream(install),
                    // The first bytes come when the verdict is final: the device hears of nothing
                    // before.
                    "upstream_connect_mode": "ON_DOWNSTREAM_DATA",
                    "max_early_data_bytes": HELD,
                    "tunneling_config": tunneling,
                }),
            ),
        ]}],
    })
}

#[cfg(test)]
mod tests;
