//! What a gateway needs to reach the outside, as Envoy configuration: the lock, the routes, the
//! dynamic clusters, and the listener inside the gateway where TLS in a tunnel shows its name.

mod clusters;
pub(crate) mod inspection;
mod listener;
mod routes;

use serde_json::{Value, json};

use crate::install::Install;
use crate::module::{Module, Place, http_cluster};
use crate::object::set;
use crate::traffic::Traffic;

use clusters::{
    dns_cache, dynamic_cluster, http_outside, inner_cluster, originating_cluster, tunnel_cluster,
};
use listener::{inner_listener, probe_listener};
use routes::routes;

pub(crate) const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
const ROUTER: &str = "envoy.filters.http.router";
const LOCK: &str = "egress-warden.lock";
const INNER_LISTENER: &str = "egress-warden-tls";
const PROBE_LISTENER: &str = "egress-warden-ready";
const INNER_CLUSTER: &str = "warden-tls-inner";

/// The module's resources in the places that no WasmPlugin reaches.
pub(crate) const UPSTREAM: &str = "egress-warden.upstream";
pub(crate) const TLS: &str = "egress-warden.tls";
/// The one that answers probes.
pub(crate) const GATE: &str = "egress-warden.ready";

const HTTP_WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";
const NETWORK_WASM: &str = "envoy.extensions.filters.network.wasm.v3.Wasm";

/// As the kernel counts them (tcp(7), include/uapi/linux/tcp.h).
const IPPROTO_TCP: u32 = 6;
const TCP_USER_TIMEOUT: u32 = 18;
/// How long a sidecar may take nothing of what its tunnels hold before the connection ends: as long
/// as Linux sends the same again to a host that is gone.
const STANDSTILL_MILLISECONDS: u32 = 15 * 60 * 1000;

/// How long any stream may run, as a protobuf duration.
fn longest_stream(install: &Install) -> String {
    format!("{}s", install.spec.gateway.max_stream_seconds)
}

fn typed(message: &str, mut fields: Value) -> Value {
    let url = format!("type.googleapis.com/{message}");
    set(&mut fields, "@type", json!(url));
    fields
}

fn named(name: &str, message: &str, fields: Value) -> Value {
    json!({"name": name, "typed_config": typed(message, fields)})
}

/// A match on the gateway and on the proxies' version, beside what `place` says.
pub(crate) fn matching(install: &Install, place: &Value) -> Value {
    let mut found = place.clone();
    set(&mut found, "context", json!("GATEWAY"));
    set(
        &mut found,
        "proxy",
        json!({"proxyVersion": proxy_version(install)}),
    );
    found
}

/// A regular expression for the stated version and every later minor one.
pub(crate) fn proxy_version(install: &Install) -> String {
    let minor = install.minor().unwrap_or_default();
    let (tens, ones) = (minor / 10, minor % 10);
    format!("^1\\.({tens}[{ones}-9]|[{}-9][0-9])([^0-9].*)?$", tens + 1)
}

fn patch(install: &Install, apply_to: &str, place: &Value, operation: &str, value: Value) -> Value {
    let mut patch = json!({
        "applyTo": apply_to,
        "match": matching(install, place),
        "patch": {"operation": operation},
    });
    if let Some(inner) = patch.get_mut("patch") {
        set(inner, "value", value);
    }
    patch
}

/// All patches that lead outside, and the lock before them.
pub(crate) fn patches(install: &Install, traffic: &Traffic) -> Vec<Value> {
    let anywhere = json!({});
    let mut patches = filters(install);
    patches.extend(routes(install, traffic));
    let mut clusters: Vec<_> = traffic
        .http
        .iter()
        .map(|port| http_outside(install, &http_cluster(*port)))
        .collect();
    let originating = traffic.originations.iter();
    clusters.extend(originating.map(|origination| originating_cluster(install, origination)));
    clusters.push(tunnel_cluster(install, "warden-tcp"));
    clusters.push(dynamic_cluster(install, "warden-tls"));
    clusters.push(inner_cluster());
    let devices = &install.spec.inspection;
    clusters.extend(
        devices
            .iter()
            .flat_map(|device| inspection::clusters(install, device)),
    );
    let clusters = clusters
        .into_iter()
        .map(|cluster| patch(install, "CLUSTER", &anywhere, "ADD", cluster));
    patches.extend(clusters);
    let inside = devices
        .iter()
        .map(|device| inspection::listener(install, device));
    let listeners = [inner_listener(install), probe_listener(install)]
        .into_iter()
        .chain(inside);
    patches
        .extend(listeners.map(|listener| patch(install, "LISTENER", &anywhere, "ADD", listener)));
    patches
}

/// In front of every router of the gateway, on whatever port: the lock, then what only an
/// accepted stream may reach. On every chain of plain TCP, which this gateway has no use for: the
/// end.
fn filters(install: &Install) -> Vec<Value> {
    let router = json!({"listener": {"filterChain": {"filter": {
        "name": CONNECTION_MANAGER,
        "subFilter": {"name": ROUTER},
    }}}});
    let manager = json!({"listener": {"filterChain": {"filter": {"name": CONNECTION_MANAGER}}}});
    let tcp = json!({"listener": {"filterChain": {"filter": {"name": TCP_PROXY}}}});
    let tunnel = json!({"listener": {
        "portNumber": install.spec.gateway.ports.tunnel,
        "filterChain": {"filter": {"name": CONNECTION_MANAGER}},
    }});
    let port = json!({"listener": {"portNumber": install.spec.gateway.ports.tunnel}});
    let before = |value| patch(install, "HTTP_FILTER", &router, "INSERT_BEFORE", value);
    let tell = (!install.spec.inspection.is_empty()).then(inspection::tell_by_request);
    let mut patches = vec![
        patch(
            install,
            "HTTP_FILTER",
            &manager,
            "INSERT_FIRST",
            principal(),
        ),
        before(lock()),
        before(carry_inward()),
    ];
    patches.extend(tell.map(before));
    patches.extend([
        before(named(
            "egress-warden.resolve",
            "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
            json!({
                "allow_dynamic_host_from_filter_state": true,
                "dns_cache_config": dns_cache(install),
            }),
        )),
        patch(
            install,
            "NETWORK_FILTER",
            &tcp,
            "REPLACE",
            named(
                LOCK,
                "envoy.extensions.filters.network.direct_response.v3.Config",
                json!({"response": {"inline_string": ""}}),
            ),
        ),
        patch(
            install,
            "NETWORK_FILTER",
            &tunnel,
            "MERGE",
            named(
                CONNECTION_MANAGER,
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                json!({
                    "http2_protocol_options": {"allow_connect": true},
                    "upgrade_configs": [{"upgrade_type": "CONNECT"}],
                    // What has come from the server is delivered however slowly the sidecar
                    // takes it: Envoy would cut an HTTP/1.1 tunnel after a second of standstill.
                    "delayed_close_timeout": "0s",
                }),
            ),
        ),
        patch(
            install,
            "LISTENER",
            &port,
            "MERGE",
            json!({"socket_options": [{
                "description": "TCP_USER_TIMEOUT: a closing tunnel that nobody reads does not stay",
                "level": IPPROTO_TCP,
                "name": TCP_USER_TIMEOUT,
                "int_value": STANDSTILL_MILLISECONDS,
                "state": "STATE_PREBIND",
            }]}),
        ),
    ]);
    patches
}

/// All names in the caller's certificate, ahead of the policy, which has to see if there are
/// several: the attribute that it could read itself has only the first.
fn principal() -> Value {
    named(
        "egress-warden.principal",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        json!({"on_request_headers": [
            state("warden.principal", "%DOWNSTREAM_PEER_URI_SAN%"),
            // One call instead of two for the policy to read.
            state("warden.position", "%CONNECTION_ID% %UPSTREAM_CLUSTER_RAW%"),
        ]}),
    )
}

fn state(key: &str, value: &str) -> Value {
    json!({
        "object_key": key,
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": value}},
    })
}

/// A lock's rules for these entries of filter state, any of which opens it.
fn admits(entries: &[Value]) -> Value {
    let principals: Vec<_> = entries
        .iter()
        .map(|entry| json!({"filter_state": entry}))
        .collect();
    json!({"action": "ALLOW", "policies": {"admitted": {
        "permissions": [{"any": true}],
        "principals": principals,
    }}})
}

/// A verdict's first word; the facts that it rests on follow in the same entry.
fn verdict(word: &str) -> Value {
    json!({"key": "wasm.warden_verdict", "string_match": {"prefix": word}})
}

fn rules(word: &str) -> Value {
    admits(&[verdict(word)])
}

/// A route's own lock.
fn locked_for(word: &str) -> Value {
    json!({LOCK: typed(
        "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
        json!({"rbac": {"rules": rules(word)}}),
    )})
}

fn lock() -> Value {
    let rules = json!({"rules": rules("accept")});
    named(LOCK, "envoy.extensions.filters.http.rbac.v3.RBAC", rules)
}

/// What the inner listener cannot see for itself travels inward with the connection.
fn carry_inward() -> Value {
    let mut facts = state("warden.facts", "%FILTER_STATE(wasm.warden_verdict:PLAIN)%");
    set(&mut facts, "shared_with_upstream", json!("ONCE"));
    named(
        "egress-warden.carry",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        json!({"on_request_headers": [facts]}),
    )
}

/// A filter whose configuration istiod sends by name. Until it is there nothing passes.
fn discovered(resource: &str, messages: &[&str]) -> Value {
    let urls: Vec<_> = messages
        .iter()
        .map(|message| format!("type.googleapis.com/{message}"))
        .collect();
    json!({"name": resource, "config_discovery": {
        "type_urls": urls,
        "config_source": {
            "ads": {},
            "resource_api_version": "V3",
            "initial_fetch_timeout": "0s",
        },
    }})
}

/// The module's own resource for one of the two places that no WasmPlugin reaches.
pub(crate) fn extension(install: &Install, module: &Module, place: Place) -> Value {
    let (name, message) = match place {
        Place::Upstream => (UPSTREAM, HTTP_WASM),
        Place::Http | Place::Tunnel | Place::Tls => (TLS, NETWORK_WASM),
    };
    let mut plugin = json!({
        "name": name,
        "root_id": place.plugin_name(),
        "configuration": configuration(&module.config(place)),
        "vm_config": machine(install),
    });
    // Without a name of its own a place shares the WasmPlugins' machine, and with it the policies
    // that the module carries.
    if !module.is_carried()
        && let Some(machine) = plugin.get_mut("vm_config")
    {
        set(machine, "vm_id", json!(name));
    }
    resource(install, name, message, plugin)
}

/// The module's resource for the listener that answers probes. It needs no machine of its own.
pub(crate) fn gate(install: &Install, module: &Module) -> Value {
    let plugin = json!({
        "name": GATE,
        "root_id": GATE,
        "configuration": configuration(&module.gate()),
        "vm_config": machine(install),
    });
    resource(install, GATE, HTTP_WASM, plugin)
}

fn configuration(config: &Value) -> Value {
    let value = json!({"value": config.to_string()});
    typed("google.protobuf.StringValue", value)
}

fn machine(install: &Install) -> Value {
    let image = &install.spec.module;
    let code = match image.url.strip_prefix("file://") {
        Some(path) => json!({"local": {"filename": path}}),
        None => json!({"remote": {
            // Istio's agent fetches it, checks the digest and makes it a local file.
            "http_uri": {"uri": image.url, "cluster": "_", "timeout": "30s"},
            "sha256": image.sha256.clone().unwrap_or_default(),
        }}),
    };
    json!({"runtime": "envoy.wasm.runtime.v8", "code": code})
}

fn resource(install: &Install, name: &str, message: &str, mut plugin: Value) -> Value {
    // FAIL_CLOSE never recovers from a trap, FAIL_OPEN opens.
    set(&mut plugin, "failure_policy", json!("FAIL_RELOAD"));
    let wasm = named(name, message, json!({"config": plugin}));
    patch(install, "EXTENSION_CONFIG", &json!({}), "ADD", wasm)
}
