//! The clusters that connect: for each address class dynamic ones to the host and port of a verdict,
//! and one inward.

use egress_policy::contract::class_cluster;
use egress_policy::model::{CaCertificates, TlsOrigination};
use serde_json::{Value, json};

use super::classes::Class;
use super::{INNER_CLUSTER, INNER_LISTENER, named, typed};
use crate::install::Install;
use crate::object::set;
use egress_policy::ports::Origination;

/// What the module judges by before there is a class. It leads nowhere.
pub(super) fn base_cluster(name: &str) -> Value {
    json!({"name": name, "type": "STATIC"})
}

/// A class's cluster that connects to the host and port of the verdict.
pub(super) fn dynamic_cluster(name: &str, class: &Class) -> Value {
    json!({
        "name": class_cluster(name, class.name()),
        "lb_policy": "CLUSTER_PROVIDED",
        "metadata": {"filter_metadata": {
            // Istio's filters keep mesh metadata away from clusters that say so.
            "istio": {"external": true},
            "warden": {"role": name},
        }},
        "cluster_type": named(
            "envoy.clusters.dynamic_forward_proxy",
            "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            json!({"dns_cache_config": class.cache()}),
        ),
    })
}

/// The same for requests that go on as HTTP/1.1, a CONNECT for an inspection proxy among them.
pub(super) fn http1_outside(name: &str, class: &Class) -> Value {
    let mut cluster = dynamic_cluster(name, class);
    let options = json!({
        "upstream_http_protocol_options": {"auto_sni": true, "auto_san_validation": true},
        "explicit_http_config": {"http_protocol_options": {}},
    });
    set_http_options(&mut cluster, options);
    cluster
}

/// The same for HTTP requests. HTTP/2 and gRPC stay what they are.
pub(super) fn http_outside(name: &str, class: &Class) -> Value {
    let mut cluster = dynamic_cluster(name, class);
    let protocol = json!({"http_protocol_options": {}, "http2_protocol_options": {}});
    let options = json!({
        "upstream_http_protocol_options": {"auto_sni": true, "auto_san_validation": true},
        "use_downstream_protocol_config": protocol,
    });
    set_http_options(&mut cluster, options);
    cluster
}

/// A cluster that speaks TLS to the judged name, which the server has to prove. Which HTTP version
/// is the server's choice among both (ALPN), so that gRPC finds HTTP/2.
pub(super) fn originating_cluster(
    install: &Install,
    origination: &Origination,
    class: &Class,
) -> Value {
    let mut cluster = dynamic_cluster(&origination.cluster, class);
    let mut options = json!({
        "upstream_http_protocol_options": {"auto_sni": true, "auto_san_validation": true},
        "auto_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
    });
    if origination.tls.sni.is_some() {
        // The name to ask for and to verify is stated below instead.
        set(&mut options, "upstream_http_protocol_options", json!({}));
        let kind = cluster.pointer_mut("/cluster_type/typed_config");
        if let Some(kind) = kind {
            set(kind, "allow_insecure_cluster_options", json!(true));
        }
    }
    set_http_options(&mut cluster, options);
    set(
        &mut cluster,
        "transport_socket",
        named(
            "envoy.transport_sockets.tls",
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            tls_context(install, &origination.tls),
        ),
    );
    cluster
}

/// Where the system of Istio's proxy image keeps its authorities.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

fn tls_context(install: &Install, tls: &TlsOrigination) -> Value {
    let secret = |name: &str, file: &str| {
        let folder = &install.spec.gateway.secrets;
        json!({"filename": format!("{folder}/{name}/{file}")})
    };
    let mut validation = json!({"trusted_ca": match &tls.ca_certificates {
        CaCertificates::System => json!({"filename": SYSTEM_BUNDLE}),
        CaCertificates::File(path) => json!({"filename": path}),
        CaCertificates::Secret(name) => secret(name, "ca.crt"),
    }});
    let mut context = json!({});
    if let Some(sni) = &tls.sni {
        let name = json!([{"san_type": "DNS", "matcher": {"exact": sni.as_str()}}]);
        set(&mut validation, "match_typed_subject_alt_names", name);
        set(&mut context, "sni", json!(sni.as_str()));
    }
    let mut common = json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "validation_context": validation,
    });
    if let Some(name) = &tls.client_certificate {
        let shown = json!([{
            "certificate_chain": secret(name, "tls.crt"),
            "private_key": secret(name, "tls.key"),
        }]);
        set(&mut common, "tls_certificates", shown);
    }
    set(&mut context, "common_tls_context", common);
    context
}

fn set_http_options(cluster: &mut Value, options: Value) {
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = json!({key: typed(key, options)});
    set(cluster, "typed_extension_protocol_options", options);
}

/// To a listener inside, with what filter state shares.
pub(super) fn inward() -> Value {
    let raw = named(
        "envoy.transport_sockets.raw_buffer",
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        json!({}),
    );
    named(
        "envoy.transport_sockets.internal_upstream",
        "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
        json!({"transport_socket": raw}),
    )
}

pub(super) fn inner_cluster() -> Value {
    let endpoint = json!({"envoy_internal_address": {"server_listener_name": INNER_LISTENER}});
    json!({
        "name": INNER_CLUSTER,
        "type": "STATIC",
        "transport_socket": inward(),
        "load_assignment": {
            "cluster_name": INNER_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}],
        },
    })
}
