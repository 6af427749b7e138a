//! What Envoy itself holds against one client that takes more than its part: sizes, counts and
//! times at the gateway's ports and in its clusters. The values are those of Envoy's own advice for
//! edge proxies (`configuration/best_practices/edge`), unless it says why not.
//!
//! They hold for each connection or stream, whoever it is. What one identity may have in all is the
//! module's business (`limits`), what the process may have the overload manager's
//! ([`crate::deployment::bootstrap`]).

use serde_json::{Value, json};

use super::{CONNECTION_MANAGER, longest_stream, named, patch, typed};
use crate::install::Install;
use crate::object::set;

/// Bytes that Envoy buffers for one connection in each direction before it stops reading. Without
/// a limit of its own it is 1 MiB, and one client with a slow server fills it as often as it likes.
const BUFFER: u32 = 32 * 1024;
/// Streams of one connection; a sidecar opens another connection for more.
const STREAMS: u32 = 100;
/// Bytes that one stream may send before it is read further; Envoy's own default is 16 MiB.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes that all streams of one connection may send together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How long a TLS handshake may take, so that a connection that never begins one is gone.
const HANDSHAKE: &str = "10s";
/// How long the head of a request may take.
const HEADERS: &str = "10s";
/// How long nothing at all may pass in a request.
const IDLE_REQUEST: &str = "300s";
/// The same of a tunnel: a database connection that rests is no attack, and costs one stream.
const IDLE_TUNNEL: &str = "3600s";
/// How long a connection without streams stays.
const IDLE_CONNECTION: &str = "3600s";
/// How long a connection stays at all; it then takes no new streams. The life of a workload's
/// certificate, by whose name its streams are judged.
const OLDEST_CONNECTION: &str = "86400s";
/// How long an unused connection to an outside server is kept. Servers close theirs after a minute
/// or so, and a request that is sent just then is lost.
const IDLE_OUTSIDE: &str = "30s";
/// KiB and number of headers of one request.
const HEADERS_KIB: u32 = 60;
const HEADERS_COUNT: u32 = 100;
/// What a cluster may have at a time. Envoy's default of 1,024 is everybody's together, so that one
/// workload with as many requests to a slow server would be an outage for all; the module's budgets
/// hold each by itself.
const AT_A_TIME: u32 = 100_000;
const RETRIES_AT_A_TIME: u32 = 1_000;

/// HTTP/2 at the gateway's ports. The last five are what a flood of frames runs into; they are
/// Envoy's defaults, stated.
fn http2(connect: bool) -> Value {
    let mut options = json!({
        "max_concurrent_streams": STREAMS,
        "initial_stream_window_size": STREAM_WINDOW,
        "initial_connection_window_size": CONNECTION_WINDOW,
        "max_outbound_frames": 10_000,
        "max_outbound_control_frames": 1_000,
        "max_consecutive_inbound_frames_with_empty_payload": 1,
        "max_inbound_priority_frames_per_stream": 100,
        "max_inbound_window_update_frames_per_data_frame_sent": 10,
    });
    if connect {
        set(&mut options, "allow_connect", json!(true));
    }
    options
}

/// The patches of the gateway's two ports.
pub(super) fn patches(install: &Install) -> Vec<Value> {
    let ports = install.spec.gateway.ports;
    [(ports.http, false), (ports.tunnel, true)]
        .into_iter()
        .flat_map(|(port, tunnels)| at_port(install, port, tunnels))
        .collect()
}

fn at_port(install: &Install, port: u16, tunnels: bool) -> [Value; 3] {
    let listener = json!({"listener": {"portNumber": port}});
    let manager = json!({"listener": {
        "portNumber": port,
        "filterChain": {"filter": {"name": CONNECTION_MANAGER}},
    }});
    let longest = longest_stream(install);
    let mut options = json!({
        "common_http_protocol_options": {
            "idle_timeout": IDLE_CONNECTION,
            "max_connection_duration": OLDEST_CONNECTION,
            "max_stream_duration": longest,
            "max_headers_count": HEADERS_COUNT,
            // Their names are between the application and the server, which knows them; the
            // gateway reads none in which an underscore could stand for a hyphen.
            "headers_with_underscores_action": "ALLOW",
        },
        "http2_protocol_options": http2(tunnels),
        "max_request_headers_kb": HEADERS_KIB,
        "request_headers_timeout": HEADERS,
        "stream_idle_timeout": if tunnels { IDLE_TUNNEL } else { IDLE_REQUEST },
    });
    // A tunnel is a request whose body goes on.
    if !tunnels {
        set(&mut options, "request_timeout", json!(longest));
    }
    [
        patch(
            install,
            "LISTENER",
            &listener,
            "MERGE",
            json!({"per_connection_buffer_limit_bytes": BUFFER}),
        ),
        patch(
            install,
            "FILTER_CHAIN",
            &listener,
            "MERGE",
            json!({"transport_socket_connect_timeout": HANDSHAKE}),
        ),
        patch(
            install,
            "NETWORK_FILTER",
            &manager,
            "MERGE",
            named(
                CONNECTION_MANAGER,
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                options,
            ),
        ),
    ]
}

/// The same for a cluster of ours.
pub(super) fn bounded(mut cluster: Value) -> Value {
    // What leads nowhere needs no bounds.
    let connects = ["cluster_type", "load_assignment"];
    if !connects.iter().any(|field| cluster.get(field).is_some()) {
        return cluster;
    }
    set(
        &mut cluster,
        "per_connection_buffer_limit_bytes",
        json!(BUFFER),
    );
    let all = json!({
        "max_connections": AT_A_TIME,
        "max_pending_requests": AT_A_TIME,
        "max_requests": AT_A_TIME,
        "max_retries": RETRIES_AT_A_TIME,
    });
    set(
        &mut cluster,
        "circuit_breakers",
        json!({"thresholds": [all]}),
    );
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = cluster
        .get_mut("typed_extension_protocol_options")
        .and_then(|options| options.get_mut(key));
    if let Some(options) = options {
        let idle = json!({"idle_timeout": IDLE_OUTSIDE});
        set(options, "common_http_protocol_options", idle);
        for protocol in [
            "use_downstream_protocol_config",
            "auto_config",
            "explicit_http_config",
        ] {
            let http2 = options
                .get_mut(protocol)
                .and_then(|config| config.get_mut("http2_protocol_options"));
            if let Some(http2) = http2 {
                set(http2, "initial_stream_window_size", json!(STREAM_WINDOW));
                set(
                    http2,
                    "initial_connection_window_size",
                    json!(CONNECTION_WINDOW),
                );
            }
        }
    }
    cluster
}

/// What a request may be tried again after: what was not sent. A tunnel has none of it, since its
/// first bytes are the application's.
pub(super) fn retry_policy() -> Value {
    json!({
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
    })
}

/// Envoy's counterpart of a limit for the whole process, by name.
pub(crate) fn monitor(name: &str, message: &str, fields: Value) -> Value {
    json!({
        "name": name,
        "typed_config": typed(message, fields),
    })
}

#[cfg(test)]
mod tests;
