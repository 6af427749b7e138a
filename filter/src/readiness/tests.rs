use std::rc::Rc;

use serde_json::{Value, json};

use super::*;
use crate::fake::{Fails, Fake, configuration, http_configuration};
use crate::role::Role;

const NONE: &str = "000000000000";

fn gate(fake: &Fake, hash: &str) -> Rc<ReadinessGate<Fake>> {
    let text = json!({"context": "ready", "places": ["http", "tls"], "policyHash": hash});
    match fake.accept(&text.to_string()) {
        Some(Role::Readiness(gate)) => gate,
        other => panic!("{other:?}"),
    }
}

/// Puts the configuration of a plugin instance in force, and returns the hash of its policy.
fn configured(fake: &Fake, name: &str, configuration: &Value) -> String {
    let fake = fake.clone().with(&["plugin_root_id"], name);
    match fake.accept(&configuration.to_string()) {
        Some(Role::Policies(plugin)) => plugin.config.policy_hash.clone(),
        other => panic!("{other:?}"),
    }
}

fn other_policy() -> Value {
    let mut configuration = http_configuration();
    configuration["policies"][0]["spec"]["default"] = "Accept".into();
    configuration
}

fn probed(fake: &Fake, gate: &ReadinessGate<Fake>) -> (u32, String) {
    assert_eq!(gate.on_request_headers(), Flow::Stop);
    let answer = fake.response().expect("an answer");
    (answer.status, answer.body)
}

fn answer(status: u32, http: &str, tls: &str) -> (u32, String) {
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    (
        status,
        format!("http {}\ntls {}\n", short(http), short(tls)),
    )
}

#[test]
fn every_instance_has_to_have_the_policy_first_and_any_later() {
    let fake = Fake::default();
    let old = configured(&Fake::default(), "http", &other_policy());
    let new = configured(&Fake::default(), "http", &http_configuration());
    assert_ne!(old, new);
    let before = gate(&fake, &new);
    assert_eq!(probed(&fake, &before), answer(503, NONE, NONE));
    configured(&fake, "http", &http_configuration());
    assert_eq!(probed(&fake, &before), answer(503, &new, NONE));

    // An instance whose configuration is refused has none.
    let mut refused = http_configuration();
    refused["labels"] = "heaven".into();
    let tls = fake.clone().with(&["plugin_root_id"], "tls");
    assert!(tls.accept(&refused.to_string()).is_none());
    assert_eq!(probed(&fake, &before), answer(503, &new, NONE));

    // Another policy than the configured one is not what the pod is to begin with.
    configured(&fake, "tls", &other_policy());
    assert_eq!(probed(&fake, &before), answer(503, &new, &old));
    configured(&fake, "tls", &http_configuration());
    assert_eq!(probed(&fake, &before), answer(200, &new, &new));

    // An update that reaches the instances one by one, or is refused by some, takes no pod away.
    let after = gate(&fake, &old);
    assert_eq!(probed(&fake, &after), answer(200, &new, &new));
    configured(&fake, "http", &other_policy());
    assert_eq!(probed(&fake, &after), answer(200, &old, &new));
}

#[test]
fn what_cannot_be_read_is_not_ready() {
    let fake = Fake::default();
    let hash = configured(&fake, "http", &http_configuration());
    configured(&fake, "tls", &http_configuration());
    for unread in [0, 1] {
        let gate = gate(&fake, &hash);
        fake.forget_calls();
        fake.fail(Fails::Call(unread));
        assert_eq!(probed(&fake, &gate).0, 503);
        fake.fail(Fails::Never);
    }
    // The name of the instance takes one call, reading the configuration another, then come the gauges.
    for undefined in [2, 3] {
        fake.forget_calls();
        fake.fail(Fails::Call(undefined));
        let gate = gate(&fake, &hash);
        fake.fail(Fails::Never);
        assert_eq!(probed(&fake, &gate).0, 503);
    }
    assert_eq!(probed(&fake, &gate(&fake, &hash)).0, 200);
}

#[test]
fn a_gate_is_read_strictly() {
    let hash = "0".repeat(64);
    let wrong = [
        json!({"context": "ready"}),
        json!({"context": "ready", "places": ["http"]}),
        json!({"context": "ready", "policyHash": hash}),
        json!({"context": "ready", "policyHash": hash, "places": []}),
        json!({"context": "ready", "policyHash": hash, "places": ["Not a name"]}),
        json!({"context": "ready", "policyHash": "0".repeat(63), "places": ["http"]}),
        json!({"context": "ready", "policyHash": hash.replace('0', "A"), "places": ["http"]}),
        json!({"context": "ready", "policyHash": hash, "places": ["http"], "policies": []}),
    ];
    for configuration in wrong {
        let taken = Fake::default().accept(&configuration.to_string());
        assert!(taken.is_none(), "{configuration}");
    }
    // Nor does an instance that judges wait for others.
    let mut judging = configuration("http", &json!([{"cluster": "c", "protocol": "TCP"}]));
    judging["places"] = json!(["http"]);
    assert!(Fake::default().accept(&judging.to_string()).is_none());
}
