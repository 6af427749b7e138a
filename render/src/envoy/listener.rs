//! The listener inside the gateway, and the one that only answers probes.

use egress_policy::contract::{CLUSTER_TLS, DYNAMIC_HOST, HOST, resolve_property};
use serde_json::{Value, json};

use super::inspection::tell_by_connection;
use super::{
    CONNECTION_MANAGER, GATE, HTTP_WASM, INNER_LISTENER, LOCK, NETWORK_WASM, PROBE_LISTENER,
    ROUTER, TCP_PROXY, TLS, admits, discovered, log, longest_stream, named, verdict,
};
use crate::install::{Family, Install};

/// Reached only through the tunnel: it has no address that a packet could be sent to. `caches` are
/// those of all address classes, by their names.
pub(super) fn inner_listener(install: &Install, caches: &[(String, Value)]) -> Value {
    let rbac = "envoy.extensions.filters.network.rbac.v3.RBAC";
    // Which class's cluster such a verdict leads to the module has told Envoy at accept
    // (`envoy.tcp_proxy.cluster`), and sees again. One that is not there leads nowhere.
    let inspected = install.spec.inspection.first();
    let mut words = vec![verdict("accept:")];
    words.extend(inspected.map(|_| verdict("inspect:")));
    // RBAC is what Istio's agent puts in the place of a module that it could not fetch.
    let mut filters = vec![
        discovered(TLS, &[NETWORK_WASM, rbac]),
        named(
            LOCK,
            rbac,
            json!({"stat_prefix": LOCK, "rules": admits(&words)}),
        ),
    ];
    for (class, cache) in caches {
        filters.extend(resolve(class, cache));
    }
    filters.push(host("egress-warden.host", HOST));
    filters.extend(inspected.map(|_| tell_by_connection()));
    let mut proxy = json!({
        "stat_prefix": "egress-warden-tls",
        "cluster": CLUSTER_TLS,
        "max_downstream_connection_duration": longest_stream(install),
    });
    log::write(install, log::LogSite::OutOfTunnel, &mut proxy);
    filters.push(named(
        TCP_PROXY,
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        proxy,
    ));
    json!({
        "name": INNER_LISTENER,
        "internal_listener": {},
        "metadata": {"filter_metadata": {"warden": {"role": "tls-inner"}}},
        "listener_filters": [named(
            "envoy.filters.listener.tls_inspector",
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            json!({}),
        )],
        "filter_chains": [{"name": "tls-inner", "filters": filters}],
    })
}

/// `tcp_proxy` does not wait for a name to be resolved, so that happens ahead of it, by the class that
/// the module has named: for every other the name is empty, which asks for nothing.
fn resolve(class: &str, cache: &Value) -> [Value; 2] {
    [
        host(
            &format!("egress-warden.host-{class}"),
            &resolve_property(class),
        ),
        named(
            &format!("egress-warden.resolve-{class}"),
            "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
            json!({"port_value": 443, "dns_cache_config": cache}),
        ),
    ]
}

/// Copies a name that the module has judged to where Envoy reads what to resolve and to connect to.
fn host(filter: &str, property: &str) -> Value {
    let format = format!("%FILTER_STATE(wasm.{property}:PLAIN)%");
    named(
        filter,
        "envoy.extensions.filters.network.set_filter_state.v3.Config",
        json!({"on_new_connection": [{
            "object_key": DYNAMIC_HOST,
            "format_string": {
                "omit_empty_values": true,
                "text_format_source": {"inline_string": format},
            },
        }]}),
    )
}

/// Answers Kubernetes' readiness probe, and leads nowhere: what the module does not answer, the
/// route does.
pub(super) fn probe_listener(install: &Install) -> Value {
    // IPv6 is not asked for where nobody said that the pods have it: Envoy refuses what it cannot
    // bind.
    let family = install.spec.gateway.pod_family;
    let family = family.unwrap_or(match install.spec.dns.family {
        Family::All | Family::V4 => Family::V4,
        Family::V6 => Family::V6,
    });
    let (address, both) = match family {
        Family::V4 => ("0.0.0.0", false),
        Family::All | Family::V6 => ("::", true),
    };
    let rbac = "envoy.extensions.filters.http.rbac.v3.RBAC";
    json!({
        "name": PROBE_LISTENER,
        // A pod that is full is not one that is broken.
        "bypass_overload_manager": true,
        "address": {"socket_address": {
            "address": address,
            "port_value": install.spec.gateway.ports.ready,
            "ipv4_compat": both,
        }},
        "filter_chains": [{"filters": [named(
            CONNECTION_MANAGER,
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            json!({
                "stat_prefix": PROBE_LISTENER,
                "http_filters": [
                    discovered(GATE, &[HTTP_WASM, rbac]),
                    named(ROUTER, "envoy.extensions.filters.http.router.v3.Router", json!({})),
                ],
                "route_config": {"name": PROBE_LISTENER, "virtual_hosts": [{
                    "name": "closed",
                    "domains": ["*"],
                    "routes": [{
                        "match": {"prefix": "/"},
                        "direct_response": {"status": 503},
                    }],
                }]},
            }),
        )]}],
    })
}
