//! The gateway's bootstrap, changed so that cases can be put into it.

#![expect(
    clippy::indexing_slicing,
    reason = "a value of the test's own template, or a test that fails"
)]

use std::collections::BTreeSet;

use egress_policy::contract::{CLUSTER_HTTP, class_cluster};
use serde_json::{Value, json};

use crate::classes::Class;
use crate::template;

/// Ports of the gateway: HTTP and CONNECT over mTLS, and the same without TLS.
pub(super) const HTTP: u16 = 16_080;
pub(super) const CONNECT: u16 = 16_443;
pub(super) const PLAIN_HTTP: u16 = 16_081;
pub(super) const PLAIN_CONNECT: u16 = 16_444;

/// The request header that stands for Istio's choice of a route.
pub(super) const ROUTE: &str = "x-case-cluster";

/// The dynamic cluster of an HTTP port.
pub(super) fn http_cluster(port: u16) -> String {
    format!("warden-http-{port}")
}

/// Every HTTP cluster gets a route, and one for each class; every listener takes callers without
/// certificate, and a twin takes callers without TLS.
pub(super) fn change(config: &mut Value, clusters: &BTreeSet<String>, classes: &[Class]) {
    template::each_object(config, &mut |object| {
        if let Some(required) = object.get_mut("require_client_certificate") {
            *required = json!(false);
        }
        // As often as it can: answers of cases change.
        if object.contains_key("dns_lookup_family") {
            for rate in ["dns_min_refresh_rate", "dns_refresh_rate"] {
                object.insert(rate.to_owned(), json!("1s"));
            }
        }
    });
    let literal = Class::literal();
    let classes: Vec<&str> = classes
        .iter()
        .chain([&literal])
        .map(|class| class.name.as_str())
        .collect();
    let resources = &mut config["static_resources"];
    add_clusters(resources, clusters, &classes);
    let mut twins = Vec::new();
    if let Some(listeners) = resources["listeners"].as_array_mut() {
        for listener in listeners.iter_mut() {
            let (port, plain) = match listener["name"].as_str() {
                Some("http") => (HTTP, PLAIN_HTTP),
                Some("connect") => (CONNECT, PLAIN_CONNECT),
                _ => continue,
            };
            if port == HTTP {
                add_routes(listener, clusters, &classes);
            }
            listener["address"]["socket_address"]["port_value"] = json!(port);
            twins.push(plain_twin(listener, plain));
        }
        listeners.extend(twins);
    }
}

fn plain_twin(listener: &Value, port: u16) -> Value {
    let mut twin = listener.clone();
    twin["name"] = json!(format!("plain-{port}"));
    twin["address"]["socket_address"]["port_value"] = json!(port);
    if let Some(chain) = twin["filter_chains"][0].as_object_mut() {
        chain.remove("transport_socket");
    }
    twin
}

fn add_clusters(resources: &mut Value, names: &BTreeSet<String>, classes: &[&str]) {
    let Some(clusters) = resources["clusters"].as_array_mut() else {
        return;
    };
    let known: Vec<Value> = clusters.clone();
    let model = |class: &str| {
        let name = class_cluster(CLUSTER_HTTP, class);
        known.iter().find(|cluster| cluster["name"] == name)
    };
    for name in names {
        clusters.push(json!({"name": name, "type": "STATIC"}));
        for class in classes {
            let Some(mut cluster) = model(class).cloned() else {
                continue;
            };
            cluster["name"] = json!(class_cluster(name, class));
            clusters.push(cluster);
        }
    }
}

fn add_routes(listener: &mut Value, clusters: &BTreeSet<String>, classes: &[&str]) {
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
    let host = &mut manager["route_config"]["virtual_hosts"][0];
    if let Some(removed) = host["request_headers_to_remove"].as_array_mut() {
        removed.push(json!(ROUTE));
    }
    let Some(routes) = host["routes"].as_array_mut() else {
        return;
    };
    let known: Vec<Value> = routes.clone();
    let of_class = |cluster: &str, class: &str| {
        let model = known
            .iter()
            .find(|route| route["name"] == format!("http-{class}"));
        let mut route = model?.clone();
        route["match"]["headers"] = on(cluster);
        route["route"]["cluster"] = json!(class_cluster(cluster, class));
        Some(route)
    };
    let by_class = clusters
        .iter()
        .flat_map(|cluster| classes.iter().filter_map(|class| of_class(cluster, class)));
    let by_class: Vec<Value> = by_class.collect();
    let judged = clusters.iter().map(|cluster| {
        json!({
            "name": cluster,
            "match": {"prefix": "/", "headers": on(cluster)},
            "route": {"cluster": cluster},
        })
    });
    // Those that a verdict chooses, then those that it is given on.
    let base = |route: &Value| route["match"]["filter_state"].is_null();
    let first = routes.iter().position(base).unwrap_or(routes.len());
    routes.splice(first..first, judged);
    routes.splice(0..0, by_class);
}

fn on(cluster: &str) -> Value {
    json!([{"name": ROUTE, "string_match": {"exact": cluster}}])
}
