//! One route: for requests, for tunnels, and what makes it take only what carries a verdict token.

use egress_policy::contract::{
    DENIED_HEADER, ENVOY_HEADERS, MESH_HEADERS, VERDICT_STATE, entry_prefix,
};
use serde_json::{Value, json};

use super::{edge, locked_for, longest_stream};
use crate::install::Install;
use crate::object::set;

/// Has a route take only what carries this word, and its lock open for nothing else.
pub(super) fn choose_by(route: &mut Value, word: &str) {
    let prefix = entry_prefix(word);
    let chosen = json!([{"key": VERDICT_STATE, "string_match": {"prefix": prefix}}]);
    if let Some(found) = route.get_mut("match") {
        set(found, "filter_state", chosen);
    }
    set(route, "typed_per_filter_config", locked_for(word));
}

/// A stream keeps the policy under which it began, so every stream ends in the end.
fn longest(install: &Install) -> Value {
    json!({"max_stream_duration": longest_stream(install)})
}

pub(super) fn http_route(install: &Install, name: &str, cluster: &str, headers: &[Value]) -> Value {
    json!({
        "name": name,
        "match": {"prefix": "/", "headers": headers},
        "metadata": {"filter_metadata": {"warden": {"role": "http"}}},
        "route": {
            "cluster": cluster,
            "timeout": "0s",
            "max_stream_duration": longest(install),
            "retry_policy": edge::retry_policy(),
        },
        "request_headers_to_remove": inward_headers(install),
        // What the gateway itself says of a denial, no server says for it.
        "response_headers_to_remove": [DENIED_HEADER],
    })
}

/// Headers that do not leave the mesh: the mesh's own, and those that the settings name.
fn inward_headers(install: &Install) -> Value {
    let own = MESH_HEADERS.iter().chain(&ENVOY_HEADERS).copied();
    let named = install.spec.gateway.remove_headers.iter();
    own.chain(named.map(String::as_str)).collect()
}

pub(super) fn tunnel_route(
    install: &Install,
    name: &str,
    cluster: &str,
    headers: &[Value],
) -> Value {
    json!({
        "name": name,
        "match": {"connect_matcher": {}, "headers": headers},
        "metadata": {"filter_metadata": {"warden": {"role": name}}},
        "route": {
            "cluster": cluster,
            "timeout": "0s",
            "max_stream_duration": longest(install),
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
        "response_headers_to_remove": [DENIED_HEADER],
    })
}
