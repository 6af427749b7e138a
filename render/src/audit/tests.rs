use serde_json::{Value, json};

use super::chains::opens_for;
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
