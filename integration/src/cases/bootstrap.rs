//! The gateway's bootstrap, changed so that cases can be put into it.

#![expect(
    clippy::indexing_slicing,
    reason = "a value of the test's own template, or a test that fails"
)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

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

/// Every HTTP cluster gets a route; every listener takes callers without certificate, and a twin
/// takes callers without TLS. HTTP/1.1 is spoken to the CONNECT listener.
pub(super) fn change(config: &mut Value, clusters: &BTreeSet<String>) {
    each_object(config, &mut |object| {
        for (key, value) in object.iter_mut() {
            match key.as_str() {
                "require_client_certificate" => *value = json!(false),
                // The stub has addresses of both families.
                "dns_lookup_family" => *value = json!("V4_PREFERRED"),
                "codec_type" => *value = json!("AUTO"),
                _ => {}
            }
        }
    });
    let resources = &mut config["static_resources"];
    add_clusters(resources, clusters);
    let mut twins = Vec::new();
    if let Some(listeners) = resources["listeners"].as_array_mut() {
        for listener in listeners.iter_mut() {
            let (port, plain) = match listener["name"].as_str() {
                Some("http") => (HTTP, PLAIN_HTTP),
                Some("connect") => (CONNECT, PLAIN_CONNECT),
                _ => continue,
            };
            if port == HTTP {
                add_routes(listener, clusters);
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

fn add_clusters(resources: &mut Value, names: &BTreeSet<String>) {
    let Some(clusters) = resources["clusters"].as_array_mut() else {
        return;
    };
    let Some(model) = clusters
        .iter()
        .find(|cluster| cluster["name"] == "warden-http")
        .cloned()
    else {
        return;
    };
    for name in names {
        let mut cluster = model.clone();
        cluster["name"] = json!(name);
        clusters.push(cluster);
    }
}

fn add_routes(listener: &mut Value, clusters: &BTreeSet<String>) {
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
    let host = &mut manager["route_config"]["virtual_hosts"][0];
    if let Some(removed) = host["request_headers_to_remove"].as_array_mut() {
        removed.push(json!(ROUTE));
    }
    if let Some(routes) = host["routes"].as_array_mut() {
        // Behind those that the verdict itself chooses.
        let first = routes
            .iter()
            .take_while(|route| route["match"]["filter_state"].is_array())
            .count();
        for cluster in clusters {
            let route = json!({
                "name": cluster,
                "match": {
                    "prefix": "/",
                    "headers": [{"name": ROUTE, "string_match": {"exact": cluster}}],
                },
                "route": {"cluster": cluster, "timeout": "30s"},
            });
            routes.insert(first, route);
        }
    }
}

fn each_object(value: &mut Value, change: &mut dyn FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object
                .values_mut()
                .for_each(|value| each_object(value, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
