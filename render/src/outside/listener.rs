//! The listener inside the gateway.

use serde_json::{Value, json};

use super::clusters::dns_cache;
use super::inspection::tell_by_connection;
use super::{INNER_LISTENER, LOCK, TCP_PROXY, admits, discovered, longest_stream, named, verdict};
use crate::install::Install;
use crate::module::Place;

/// Reached only through the tunnel: it has no address that a packet could be sent to.
pub(super) fn inner_listener(install: &Install) -> Value {
    let wasm = "envoy.extensions.filters.network.wasm.v3.Wasm";
    let rbac = "envoy.extensions.filters.network.rbac.v3.RBAC";
    // To which cluster such a verdict leads the module has told Envoy at accept, and sees again.
    let inspected = install.spec.inspection.first();
    let mut words = vec![verdict("accept")];
    words.extend(inspected.map(|_| verdict("inspect:")));
    // RBAC is what Istio's agent puts in the place of a module that it could not fetch.
    let mut filters = vec![
        discovered(Place::Tls, &[wasm, rbac]),
        named(
            LOCK,
            rbac,
            json!({"stat_prefix": LOCK, "rules": admits(&words)}),
        ),
        named(
            "egress-warden.resolve",
            "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
            json!({"port_value": 443, "dns_cache_config": dns_cache(install)}),
        ),
    ];
    filters.extend(inspected.map(|_| tell_by_connection()));
    filters.push(named(
        TCP_PROXY,
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({
            "stat_prefix": "egress-warden-tls",
            "cluster": "warden-tls",
            "max_downstream_connection_duration": longest_stream(install),
        }),
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
