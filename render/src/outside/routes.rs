//! The gateway's routes: by port for HTTP, by the port in the authority for tunnels.

use serde_json::{Value, json};

use super::{INNER_CLUSTER, inspection, locked_for, longest_stream, patch};
use crate::install::{GatewayApi, Install};
use crate::module::http_cluster;
use crate::object::set;
use crate::traffic::Traffic;

/// The routes, the most specific first in the end: each goes before those inserted earlier.
pub(super) fn routes(install: &Install, traffic: &Traffic) -> Vec<Value> {
    let ports = install.spec.gateway.ports;
    let mut routes = Vec::new();
    let mut add = |number: u16, route: Value| {
        let mut place = json!({
            "portNumber": number,
            "vhost": {"name": format!("*:{number}")},
        });
        // The name that Istio gives a Gateway of the other API differs from version to version.
        if install.spec.gateway.api == GatewayApi::Istio {
            let gateway = format!("{}/egress-warden", install.spec.gateway.namespace);
            set(&mut place, "gateway", json!(gateway));
        }
        let place = json!({"routeConfiguration": place});
        routes.push(patch(install, "HTTP_ROUTE", &place, "INSERT_FIRST", route));
    };
    let plain = |port: u16, headers: &[Value]| {
        http_route(
            install,
            &format!("http-{port}"),
            &http_cluster(port),
            headers,
        )
    };
    add(ports.http, plain(80, &[]));
    for port in traffic.http.iter().filter(|port| **port != 80) {
        add(ports.http, plain(*port, &[authority_port(*port)]));
    }
    for origination in &traffic.originations {
        let cluster = &origination.cluster;
        let authority = json!({
            "name": ":authority",
            "string_match": {"safe_regex": {"regex": origination.authorities()}},
        });
        add(
            ports.http,
            http_route(install, cluster, cluster, &[authority]),
        );
    }
    add(
        ports.tunnel,
        tunnel_route(install, "tcp", "warden-tcp", &[]),
    );
    for port in &traffic.tls {
        let name = format!("tls-{port}");
        let headers = [authority_port(*port)];
        let mut route = tunnel_route(install, &name, INNER_CLUSTER, &headers);
        // What goes inward has not been judged whole yet: its verdict is `forward`, which opens
        // this route and no other.
        set(&mut route, "typed_per_filter_config", locked_for("forward"));
        add(ports.tunnel, route);
    }
    for device in &install.spec.inspection {
        let [request, tunnel] = inspection::routes(install, device);
        add(ports.http, request);
        add(ports.tunnel, tunnel);
    }
    routes
}

fn authority_port(port: u16) -> Value {
    json!({"name": ":authority", "string_match": {"suffix": format!(":{port}")}})
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
        },
        // The mesh's own words do not leave the mesh.
        "request_headers_to_remove": [
            "x-envoy-peer-metadata",
            "x-envoy-peer-metadata-id",
            "x-forwarded-client-cert",
            "x-forwarded-for",
            "x-envoy-external-address",
            "x-envoy-internal",
            "x-envoy-attempt-count",
            "x-envoy-decorator-operation",
        ],
    })
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
    })
}
