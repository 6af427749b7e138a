//! What a gateway needs to reach the outside, as Envoy configuration: the lock, the routes, the
//! dynamic clusters of each address class, and the listener inside the gateway where TLS in a tunnel
//! shows its name.

pub(crate) mod classes;
mod clusters;
pub(crate) mod edge;
pub(crate) mod inspection;
mod listener;
pub(crate) mod log;
mod refusals;
mod route;
mod routes;

use egress_policy::contract::{
    CLUSTER_TCP, CLUSTER_TLS, CLUSTER_TLS_INNER, FACTS, POSITION, PRINCIPAL, VERDICT_STATE,
    entry_prefix, http_cluster,
};
use serde_json::{Value, json};

use crate::error::RenderError;
use crate::install::Install;
use crate::module::{Module, PluginSite};
use crate::object::set;
use crate::proxies;
use egress_policy::ports::MeshPorts;

use classes::Class;
use clusters::{
    base_cluster, dynamic_cluster, http_outside, http1_outside, inner_cluster, originating_cluster,
};
use listener::{inner_listener, probe_listener};

pub(crate) const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
const ROUTER: &str = "envoy.filters.http.router";
const LOCK: &str = "egress-warden.lock";
const INNER_LISTENER: &str = "egress-warden-tls";
const PROBE_LISTENER: &str = "egress-warden-ready";
const INNER_CLUSTER: &str = CLUSTER_TLS_INNER;

/// The module's resource in the place that no WasmPlugin reaches.
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
        json!({"proxyVersion": proxies::supported(install)}),
    );
    found
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

/// The lock, what the module judges by, and the listeners inside: everything but the ways out, which
/// the address classes have ([`of_class`]). TLS inside tunnels resolves by all of their `caches`.
pub(crate) fn patches(
    install: &Install,
    traffic: &MeshPorts,
    caches: &[(String, Value)],
) -> Vec<Value> {
    let mut patches = filters(install);
    patches.extend(routes::routes(install, traffic));
    let http = traffic.http.iter().map(|port| http_cluster(*port));
    let originating = traffic.originations.iter();
    let originating = originating.map(|origination| origination.cluster.clone());
    let opaque = [CLUSTER_TCP, CLUSTER_TLS].map(str::to_owned);
    let bases = http.chain(originating).chain(opaque);
    let proxies = &install.spec.inspection;
    let clusters = bases
        .map(|name| base_cluster(&name))
        .chain([inner_cluster()])
        .chain(proxies.iter().map(inspection::proxy));
    patches.extend(clusters.map(|cluster| add(install, "CLUSTER", cluster)));
    let inside = proxies
        .iter()
        .flat_map(|proxy| inspection::listeners(install, proxy));
    let listeners = [inner_listener(install, caches), probe_listener(install)]
        .into_iter()
        .chain(inside);
    patches.extend(listeners.map(|listener| add(install, "LISTENER", listener)));
    patches.extend(edge::patches(install));
    patches.extend(closed(install));
    patches
}

/// A class's ways out: its clusters, and the routes that its word opens.
pub(crate) fn of_class(install: &Install, traffic: &MeshPorts, class: &Class) -> Vec<Value> {
    let http = traffic.http.iter();
    let mut clusters: Vec<_> = http
        .map(|port| http_outside(&http_cluster(*port), class))
        .collect();
    if class.resolves() {
        let originating = traffic.originations.iter();
        clusters.extend(
            originating.map(|origination| originating_cluster(install, origination, class)),
        );
    }
    clusters.push(http1_outside(CLUSTER_TCP, class));
    clusters.push(dynamic_cluster(CLUSTER_TLS, class));
    let proxies = install.spec.inspection.iter();
    clusters.extend(proxies.flat_map(|proxy| inspection::clusters(proxy, class)));
    let mut patches: Vec<_> = clusters
        .into_iter()
        .map(|cluster| add(install, "CLUSTER", cluster))
        .collect();
    patches.extend(routes::of_class(install, traffic, class));
    patches
}

fn add(install: &Install, apply_to: &str, mut value: Value) -> Value {
    if apply_to == "CLUSTER" {
        value = edge::bounded(value);
    }
    patch(install, apply_to, &json!({}), "ADD", value)
}

/// A proxy of any other version has no listener at the gateway's ports: it would take the patches
/// above for something else, or leave fields out that it does not know.
fn closed(install: &Install) -> [Value; 2] {
    let ports = install.spec.gateway.ports;
    [ports.http, ports.tunnel].map(|port| {
        json!({
            "applyTo": "LISTENER",
            "match": {
                "context": "GATEWAY",
                "proxy": {"proxyVersion": proxies::unsupported(install)},
                "listener": {"portNumber": port},
            },
            "patch": {"operation": "REMOVE"},
        })
    })
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
    patches.push(patch(
        install,
        "NETWORK_FILTER",
        &tcp,
        "REPLACE",
        named(
            LOCK,
            "envoy.extensions.filters.network.direct_response.v3.Config",
            json!({"response": {"inline_string": ""}}),
        ),
    ));
    let ports = install.spec.gateway.ports;
    let tunnels = json!({
        "http2_protocol_options": {"allow_connect": true},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        // What has come from the server is delivered however slowly the sidecar takes it:
        // Envoy would cut an HTTP/1.1 tunnel after a second of standstill.
        "delayed_close_timeout": "0s",
    });
    patches.push(at_port(install, ports.http, json!({})));
    patches.push(at_port(install, ports.tunnel, tunnels));
    patches.push(standstill(install));
    patches
}

/// How the connection manager of a port answers and logs, beside what that port alone has.
fn at_port(install: &Install, port: u16, mut manager: Value) -> Value {
    let at = json!({"listener": {
        "portNumber": port,
        "filterChain": {"filter": {"name": CONNECTION_MANAGER}},
    }});
    set(
        &mut manager,
        "local_reply_config",
        refusals::local_replies(),
    );
    log::write(install, log::LogSite::AtPort, &mut manager);
    let manager = named(
        CONNECTION_MANAGER,
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        manager,
    );
    patch(install, "NETWORK_FILTER", &at, "MERGE", manager)
}

/// The kernel ends a tunnel whose sidecar takes nothing more.
fn standstill(install: &Install) -> Value {
    let port = install.spec.gateway.ports.tunnel;
    let options = json!({"socket_options": [{
        "description": "TCP_USER_TIMEOUT: a closing tunnel that nobody reads does not stay",
        "level": IPPROTO_TCP,
        "name": TCP_USER_TIMEOUT,
        "int_value": STANDSTILL_MILLISECONDS,
        "state": "STATE_PREBIND",
    }]});
    let listener = json!({"listener": {"portNumber": port}});
    patch(install, "LISTENER", &listener, "MERGE", options)
}

/// All names in the caller's certificate, ahead of the policy, which has to see if there are
/// several: the attribute that it could read itself has only the first.
fn principal() -> Value {
    let mut caller = state(PRINCIPAL, "%DOWNSTREAM_PEER_URI_SAN%");
    // For the access log of TLS inside tunnels. Pools are apart by what `carry_inward` adds, which
    // has the caller in it.
    set(&mut caller, "shared_with_upstream", json!("ONCE"));
    named(
        "egress-warden.principal",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        json!({"on_request_headers": [
            caller,
            // One call instead of two for the policy to read.
            state(POSITION, "%CONNECTION_ID% %UPSTREAM_CLUSTER_RAW%"),
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

/// A verdict that begins so; the facts that it rests on follow in the same entry.
fn verdict(prefix: &str) -> Value {
    json!({"key": VERDICT_STATE, "string_match": {"prefix": prefix}})
}

/// A route's own lock, which opens for this word of a verdict and no other.
fn locked_for(word: &str) -> Value {
    let rules = admits(&[verdict(&entry_prefix(word))]);
    json!({LOCK: typed(
        "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
        json!({"rbac": {"rules": rules}}),
    )})
}

/// The lock: it opens for nothing where the route has none of its own.
fn lock() -> Value {
    let rules = json!({"rules": {"action": "ALLOW"}});
    named(LOCK, "envoy.extensions.filters.http.rbac.v3.RBAC", rules)
}

/// What the inner listener cannot see for itself travels inward with the connection. Hashable, because
/// a pool of connections hands on what its first stream had, and only what is hashed makes it another
/// pool: without it a tunnel would pass for one that stands already.
fn carry_inward() -> Value {
    let mut facts = state(FACTS, &format!("%FILTER_STATE({VERDICT_STATE}:PLAIN)%"));
    set(&mut facts, "factory_key", json!("envoy.hashable_string"));
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

/// The module's own resource for the place that no WasmPlugin reaches.
pub(crate) fn extension(install: &Install, module: &Module) -> Value {
    let mut plugin = json!({
        "name": TLS,
        "root_id": PluginSite::Tls.plugin_name(),
        "configuration": configuration(&module.config(PluginSite::Tls)),
        "vm_config": machine(install),
    });
    // Without a name of its own a place shares the WasmPlugins' machine, and with it the policies
    // that the module carries.
    if !module.is_carried()
        && let Some(machine) = plugin.get_mut("vm_config")
    {
        set(machine, "vm_id", json!(TLS));
    }
    resource(install, TLS, NETWORK_WASM, plugin)
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

/// An image whose digest is not stated: an empty one would say of no module that it is another.
pub(crate) fn undigested(install: &Install) -> Option<RenderError> {
    let image = &install.spec.module;
    let stated = image
        .sha256
        .as_ref()
        .is_some_and(|digest| !digest.is_empty());
    (!image.url.starts_with("file://") && !stated)
        .then(|| RenderError::new("spec.module.sha256", "an image needs its digest"))
}

fn machine(install: &Install) -> Value {
    let image = &install.spec.module;
    let code = match image.url.strip_prefix("file://") {
        Some(path) => json!({"local": {"filename": path}}),
        None => json!({"remote": {
            // Istio's agent fetches it, checks the digest and makes it a local file.
            "http_uri": {"uri": image.url, "cluster": "_", "timeout": "30s"},
            "sha256": image.sha256,
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
