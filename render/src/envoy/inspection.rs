//! Routing to an inspection proxy: chosen by a verdict, locked for everything else. The proxy is told
//! where to connect, who asks and which rule chose it.
//!
//! Each class has a cluster that resolves the judged name, so that the inspection proxy is asked for
//! nothing of which no allowed address remains. The cluster then connects to a listener inside the
//! gateway. For requests and TLS that listener opens a tunnel through the inspection proxy; opaque
//! tunnels, which ask for one already, it passes through.

use egress_policy::contract::{
    ADDRESS_HEADER, InspectionFact, RULE_HEADER, WORKLOAD_HEADER, class_cluster, inspect_cluster,
    inspect_word, inspection_proxy_cluster, tunnel_cluster,
};
use serde_json::{Value, json};

use super::classes::Class;
use super::clusters::{http_outside, http1_outside, inward};
use super::route::{choose_by, http_route, tunnel_route};
use super::{LOCK, TCP_PROXY, admits, log, longest_stream, named, state};
use crate::install::{InspectionProxy, Install};
use crate::object::set;

/// The filter that says what the inspection proxy is to be told.
pub(crate) const TELL: &str = "egress-warden.inspection";
/// Bytes of the client that are held while the inspection proxy is asked.
const HELD: u32 = 65_536;

/// An inspection proxy's listener inside the gateway, for requests and TLS.
pub(crate) fn listener_name(proxy: &str) -> String {
    format!("egress-warden-inspect-{proxy}")
}

/// The same for opaque tunnels.
pub(crate) fn tunnel_listener_name(proxy: &str) -> String {
    format!("egress-warden-tunnel-{proxy}")
}

/// A class's routes to an inspection proxy, for requests and for tunnels.
pub(super) fn routes(install: &Install, proxy: &InspectionProxy, class: &Class) -> [Value; 2] {
    let proxy = &proxy.name;
    let name = format!("inspect-{proxy}-{}", class.name());
    let by = |base: &str| class_cluster(base, class.name());
    let mut request = http_route(install, &name, &by(&inspect_cluster(proxy)), &[]);
    let mut tunnel = tunnel_route(install, &name, &by(&tunnel_cluster(proxy)), &[]);
    for route in [&mut request, &mut tunnel] {
        choose_by(route, &inspect_word(proxy, class.name()));
    }
    // The tunnel does not end here: the inspection proxy is asked to go on to the dialled address.
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
    set(
        &mut tunnel,
        "request_headers_to_add",
        inspection_headers(InspectionFact::property_state),
    );
    [request, tunnel]
}

/// The headers that the inspection proxy is sent, from the filter state that `state` names.
fn inspection_headers(state: fn(InspectionFact) -> String) -> Value {
    let header = |name: &str, fact: InspectionFact| {
        json!({
            "header": {
                "key": name,
                "value": format!("%FILTER_STATE({}:PLAIN)%", state(fact)),
            },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        })
    };
    json!([
        header(RULE_HEADER, InspectionFact::Rule),
        header(WORKLOAD_HEADER, InspectionFact::Workload),
    ])
}

/// What the inspection proxy is to be told, which travels with the connection. It is there only for
/// what is to be inspected. Connections of different callers, rules and destinations are kept apart, which is
/// what `hashable` means.
fn tell() -> Value {
    let words = InspectionFact::ALL.map(|fact| {
        let property = fact.property_state();
        let mut entry = state(
            fact.inward_state(),
            &format!("%FILTER_STATE({property}:PLAIN)%"),
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

/// A class's clusters on the way to an inspection proxy.
pub(super) fn clusters(proxy: &InspectionProxy, class: &Class) -> [Value; 2] {
    let proxy = &proxy.name;
    let mut request = http_outside(&inspect_cluster(proxy), class);
    let mut tunnel = http1_outside(&tunnel_cluster(proxy), class);
    let ways = [
        (&mut request, listener_name(proxy)),
        (&mut tunnel, tunnel_listener_name(proxy)),
    ];
    for (cluster, listener) in ways {
        let listener = json!({"envoy_internal_address": {"server_listener_name": listener}});
        let options = "/typed_extension_protocol_options/\
                       envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        if let Some(options) = cluster.pointer_mut(options) {
            set(options, "http_filters", address());
        }
        // A request in the clear is sent to this address as it is, whatever the name resolves to.
        let socket = named(
            "envoy.transport_sockets.http_11_proxy",
            "envoy.extensions.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport",
            json!({"default_proxy_address": listener, "transport_socket": inward()}),
        );
        set(cluster, "transport_socket", socket);
    }
    [request, tunnel]
}

/// Tells the inspection proxy an address of the name that is not refused. It may connect to another.
fn address() -> Value {
    json!([
        named(
            "egress-warden.address",
            "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            json!({"mutations": {"request_mutations": [{"append": {
                "header": {"key": ADDRESS_HEADER, "value": "%UPSTREAM_HOST%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }}]}}),
        ),
        named(
            "envoy.filters.http.upstream_codec",
            "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
            json!({}),
        ),
    ])
}

/// The inspection proxy itself.
pub(super) fn proxy(proxy: &InspectionProxy) -> Value {
    let name = inspection_proxy_cluster(&proxy.name);
    let address = json!({"socket_address": {
        "address": proxy.address,
        "port_value": proxy.port,
    }});
    let kind = if proxy.address.parse::<std::net::IpAddr>().is_ok() {
        "STATIC"
    } else {
        "STRICT_DNS"
    };
    json!({
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
    })
}

/// An inspection proxy's listeners inside the gateway.
pub(super) fn listeners(install: &Install, proxy: &InspectionProxy) -> [Value; 2] {
    let destination = InspectionFact::Destination.inward_state();
    let mut tunneling = json!({"hostname": format!("%FILTER_STATE({destination}:PLAIN)%")});
    set(
        &mut tunneling,
        "headers_to_add",
        inspection_headers(|fact| fact.inward_state().to_owned()),
    );
    let asks = json!({
        // The first bytes come when the verdict is final. The inspection proxy hears of nothing before.
        "upstream_connect_mode": "ON_DOWNSTREAM_DATA",
        "max_early_data_bytes": HELD,
        "tunneling_config": tunneling,
    });
    [
        listener(install, proxy, &listener_name(&proxy.name), asks),
        listener(
            install,
            proxy,
            &tunnel_listener_name(&proxy.name),
            json!({}),
        ),
    ]
}

fn listener(install: &Install, proxy: &InspectionProxy, name: &str, mut tcp_proxy: Value) -> Value {
    let rbac = "envoy.extensions.filters.network.rbac.v3.RBAC";
    let key = InspectionFact::Proxy.inward_state();
    let only = json!({"key": key, "string_match": {"exact": proxy.name}});
    for (field, value) in [
        ("stat_prefix", json!(name)),
        ("cluster", json!(inspection_proxy_cluster(&proxy.name))),
        (
            "max_downstream_connection_duration",
            json!(longest_stream(install)),
        ),
    ] {
        set(&mut tcp_proxy, field, value);
    }
    log::write(install, log::LogSite::ToInspectionProxy, &mut tcp_proxy);
    json!({
        "name": name,
        "internal_listener": {},
        "metadata": {"filter_metadata": {"warden": {"role": name}}},
        "filter_chains": [{"name": name, "filters": [
            named(LOCK, rbac, json!({"stat_prefix": LOCK, "rules": admits(&[only])})),
            named(
                TCP_PROXY,
                "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                tcp_proxy,
            ),
        ]}],
    })
}

#[cfg(test)]
mod tests;
