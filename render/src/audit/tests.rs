use serde_json::{Value, json};

use super::chains::{only_answers, opens_for};
use super::dump::snake_case;

fn rules(key: &str, verdict: &str) -> Value {
    json!({"policies": {"accepted": {
        "permissions": [{"any": true}],
        "principals": [{"filter_state": {"key": key, "string_match": {"prefix": verdict}}}],
    }}})
}

#[test]
fn a_lock_opens_for_one_verdict_and_nothing_else() {
    let key = "wasm.warden_verdict";
    assert!(opens_for(&rules(key, "accept"), &["accept"]));
    assert!(!opens_for(&rules(key, "forward"), &["accept"]));
    assert!(!opens_for(&rules("wasm.other", "accept"), &["accept"]));
    assert!(!opens_for(&json!({}), &["accept"]));
    let mut denies = rules(key, "accept");
    denies["action"] = json!("DENY");
    assert!(!opens_for(&denies, &["accept"]));
    let mut two = rules(key, "accept");
    two["policies"]["all"] = json!({"principals": [{"any": true}]});
    assert!(!opens_for(&two, &["accept"]));
    let mut alternative = rules(key, "accept");
    alternative["policies"]["accepted"]["principals"] = json!([
        {"any": true},
        {"filter_state": {"key": key, "string_match": {"prefix": "accept"}}},
    ]);
    assert!(!opens_for(&alternative, &["accept"]));
}

#[test]
fn both_spellings_of_a_dump_read_the_same() {
    let istiod = json!({"dynamicListeners": [{"activeState": {"listener": {"name": "x"}}}]});
    let envoy = json!({"dynamic_listeners": [{"active_state": {"listener": {"name": "x"}}}]});
    assert_eq!(snake_case(&istiod), envoy);
    assert_eq!(snake_case(&envoy), envoy);
}

#[test]
fn the_gate_for_probes_leads_nowhere() {
    let chain = json!({"filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "http_filters": [
                {"name": "egress-warden.ready"},
                {"name": "envoy.filters.http.router"},
            ],
            "route_config": {"virtual_hosts": [{"routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 503}},
            ]}]},
        },
    }]});
    assert!(only_answers(&chain));
    let manager = "/filters/0/typed_config";
    let routes = format!("{manager}/route_config/virtual_hosts/0/routes");
    let another_route = json!([
        {"match": {"prefix": "/"}, "direct_response": {"status": 503}},
        {"match": {"prefix": "/out"}, "route": {"cluster": "warden-http"}},
    ]);
    let tcp = json!([{"name": "envoy.filters.network.tcp_proxy"}]);
    let other_filter = json!([{"name": "envoy.filters.http.router"}]);
    for (place, value) in [
        (routes.as_str(), another_route),
        (routes.as_str(), json!([])),
        (&*format!("{manager}/http_filters"), other_filter),
        (&*format!("{manager}/route_config"), json!({})),
        ("/filters", tcp),
        ("/filters", json!([])),
    ] {
        let mut wrong = chain.clone();
        *wrong.pointer_mut(place).unwrap() = value;
        assert!(!only_answers(&wrong), "{wrong}");
    }
    let mut elsewhere = chain;
    elsewhere["filters"][0]["typed_config"]["rds"] = json!({"route_config_name": "x"});
    assert!(!only_answers(&elsewhere));
}
