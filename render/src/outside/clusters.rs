//! The clusters that connect: dynamic ones to the host and port of a verdict, and one
//! inward.

use serde_json::{Value, json};

use super::{INNER_CLUSTER, INNER_LISTENER, discovered, named, typed};
use crate::install::{Family, Install};
use crate::module::Place;
use crate::object::set;

pub(super) fn dns_cache(install: &Install) -> Value {
    let dns = &install.spec.dns;
    let family = match dns.family {
        Family::All => "ALL",
        Family::V4 => "V4_ONLY",
        Family::V6 => "V6_ONLY",
    };
    let mut cache = json!({"name": "egress-warden", "dns_lookup_family": family});
    if !dns.resolvers.is_empty() {
        let resolvers: Vec<_> = dns
            .resolvers
            .iter()
            .map(|address| json!({"socket_address": {"address": address, "port_value": 53}}))
            .collect();
        let resolver = named(
            "envoy.network.dns_resolver.cares",
            "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            json!({
                "resolvers": resolvers,
                "dns_resolver_options": {"no_default_search_domain": true},
            }),
        );
        set(&mut cache, "typed_dns_resolver_config", resolver);
    }
    cache
}

/// A cluster that connects to the host and port of the verdict.
pub(super) fn dynamic_cluster(install: &Install, name: &str) -> Value {
    json!({
        "name": name,
        "lb_policy": "CLUSTER_PROVIDED",
        "metadata": {"filter_metadata": {
            // Istio's filters keep mesh metadata away from clusters that say so.
            "istio": {"external": true},
            "warden": {"role": name},
        }},
        "cluster_type": named(
            "envoy.clusters.dynamic_forward_proxy",
            "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            json!({"dns_cache_config": dns_cache(install)}),
        ),
    })
}

/// The same for HTTP requests, with the policy once more where the resolved address is known.
pub(super) fn http_outside(install: &Install, name: &str) -> Value {
    let mut cluster = dynamic_cluster(install, name);
    let options = typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({
            "upstream_http_protocol_options": {"auto_sni": true, "auto_san_validation": true},
            // HTTP/2 and gRPC stay what they are.
            "use_downstream_protocol_config": {
                "http_protocol_options": {},
                "http2_protocol_options": {},
            },
            "http_filters": [
                discovered(Place::Upstream, &["envoy.extensions.filters.http.wasm.v3.Wasm"]),
                named(
                    "envoy.filters.http.upstream_codec",
                    "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
                    json!({}),
                ),
            ],
        }),
    );
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    set(
        &mut cluster,
        "typed_extension_protocol_options",
        json!({key: options}),
    );
    cluster
}

pub(super) fn inner_cluster() -> Value {
    let raw = named(
        "envoy.transport_sockets.raw_buffer",
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        json!({}),
    );
    let endpoint = json!({"envoy_internal_address": {"server_listener_name": INNER_LISTENER}});
    json!({
        "name": INNER_CLUSTER,
        "type": "STATIC",
        "transport_socket": named(
            "envoy.transport_sockets.internal_upstream",
            "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
            json!({"transport_socket": raw}),
        ),
        "load_assignment": {
            "cluster_name": INNER_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}],
        },
    })
}
