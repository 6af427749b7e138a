use serde_json::{Value, json};

use crate::{Rendered, render, sample};

fn rendered(more: &str) -> Rendered {
    let rule = |name: &str, to: Value| json!({"name": name, "to": [to], "action": "Accept"});
    let policy = sample::policy(
        "p",
        &json!({"name": "t", "rules": [
            rule("web", json!({"domainNames": ["*.example.com"], "ports": [80, 443]})),
            rule("ssh", json!({"networks": ["203.0.113.7/32"], "ports": [22], "protocols": ["TCP"]})),
        ]}),
    );
    render(&sample::install(more), &[policy]).unwrap()
}

/// All patches of all `EnvoyFilter`s of the gateway.
fn patches(rendered: &Rendered) -> Vec<&Value> {
    let filters = rendered.objects().iter().filter(|object| {
        object.kind() == "EnvoyFilter" && object.file_name().starts_with("istio-egress.")
    });
    filters
        .filter_map(|filter| filter.manifest().pointer("/spec/configPatches")?.as_array())
        .flatten()
        .collect()
}

#[test]
fn both_ports_are_bounded() {
    let rendered = rendered("");
    let all = patches(&rendered);
    let merged = |apply_to: &str, port: u16| -> Vec<&Value> {
        all.iter()
            .filter(|patch| {
                patch["applyTo"] == apply_to
                    && patch["match"]["listener"]["portNumber"] == port
                    && patch["patch"]["operation"] == "MERGE"
            })
            .map(|patch| &patch["patch"]["value"])
            .collect()
    };
    for (port, idle, whole_request) in
        [(8080, "300s", json!("3600s")), (8443, "3600s", Value::Null)]
    {
        let bounded = json!({"per_connection_buffer_limit_bytes": 32_768});
        assert!(merged("LISTENER", port).contains(&&bounded));
        assert_eq!(
            merged("FILTER_CHAIN", port),
            [&json!({"transport_socket_connect_timeout": "10s"})]
        );
        let managers = merged("NETWORK_FILTER", port);
        let manager = managers
            .iter()
            .find_map(|value| {
                let config = &value["typed_config"];
                config.get("request_headers_timeout").map(|_| config)
            })
            .unwrap();
        assert_eq!(manager["request_headers_timeout"], "10s");
        assert_eq!(manager["stream_idle_timeout"], idle);
        assert_eq!(manager["request_timeout"], whole_request, "{port}");
        let http2 = &manager["http2_protocol_options"];
        assert_eq!(http2["max_concurrent_streams"], 100);
        assert_eq!(http2["initial_stream_window_size"], 65_536);
    }
}

#[test]
fn every_cluster_that_connects_is_bounded_and_one_cannot_fill_it() {
    let rendered = rendered("");
    let all = patches(&rendered);
    let clusters = all.iter().filter(|patch| patch["applyTo"] == "CLUSTER");
    let mut seen = 0;
    for cluster in clusters.map(|patch| &patch["patch"]["value"]) {
        if cluster.get("cluster_type").is_none() && cluster.get("load_assignment").is_none() {
            continue;
        }
        seen += 1;
        assert_eq!(cluster["per_connection_buffer_limit_bytes"], 32_768);
        let threshold = &cluster["circuit_breakers"]["thresholds"][0];
        for bound in ["max_connections", "max_pending_requests", "max_requests"] {
            assert_eq!(threshold[bound], 100_000, "{}", cluster["name"]);
        }
    }
    assert!(seen > 4, "{seen}");
}

#[test]
fn what_was_not_sent_is_tried_again_and_a_tunnel_never() {
    let rendered = rendered("");
    let all = patches(&rendered);
    let routes = all.iter().filter(|patch| patch["applyTo"] == "HTTP_ROUTE");
    let mut seen = [0, 0];
    for route in routes.map(|patch| &patch["patch"]["value"]) {
        let retry = &route["route"]["retry_policy"]["retry_on"];
        if route["match"].get("connect_matcher").is_some() {
            seen[0] += 1;
            assert_eq!(*retry, Value::Null, "{}", route["name"]);
        } else {
            seen[1] += 1;
            assert_eq!(
                *retry,
                "connect-failure,refused-stream,reset-before-request"
            );
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

/// What the module is told of the install settings.
#[test]
fn the_module_is_told_limits_and_workers() {
    for (more, field, expected) in [
        ("", "/limits/streams", json!(1000)),
        ("", "/limits/workers", Value::Null),
        ("limits: {streams: 7}", "/limits/streams", json!(7)),
        ("limits: {streams: 7}", "/limits/names", json!(2000)),
        (
            "limits: {nameLifetimeSeconds: 60}",
            "/limits/nameLifetimeSeconds",
            json!(60),
        ),
    ] {
        let rendered = rendered(more);
        let plugins: Vec<_> = rendered
            .objects()
            .iter()
            .filter(|object| object.kind() == "WasmPlugin")
            .map(|object| &object.manifest()["spec"]["pluginConfig"])
            .collect();
        assert_eq!(plugins.len(), 2);
        for config in plugins {
            let seen = config.pointer(field).cloned().unwrap_or_default();
            assert_eq!(seen, expected, "{more} {field}");
        }
    }
    for (more, place) in [
        ("limits: {streams: 0}", "spec.limits.streams"),
        ("limits: {connections: 0}", "spec.limits.connections"),
    ] {
        let problems = sample::install(more).check();
        assert!(
            problems
                .iter()
                .any(|problem| problem.to_string().contains(place)),
            "{problems:?}"
        );
    }
}
