use serde_json::Value;

use super::*;
use crate::fake::{Fails, Fake, http_configuration};

fn configure(fake: &Fake, text: &str) -> Option<Rc<Plugin<Fake>>> {
    match fake.accept(text)? {
        Role::Policies(plugin) => Some(plugin),
        Role::Readiness(_) => panic!("it answers probes"),
    }
}

#[test]
fn a_configuration_is_taken_whole_or_not_at_all() {
    let fake = Fake::default().with(&["plugin_root_id"], "egress-warden.http");
    let good = http_configuration().to_string();
    let plugin = configure(&fake, &good).expect("taken");
    assert_eq!(
        fake.metric("warden_config_rejected.egress-warden_http"),
        Some(0)
    );
    let first: String = plugin.config.policy_hash.chars().take(12).collect();
    let hash = u64::from_str_radix(&first, 16).unwrap();
    let gauge = fake.metric("warden_policy_hash.egress-warden_http");
    assert_eq!(gauge, i64::try_from(hash).ok());

    let mut bad = http_configuration();
    bad["policies"][0]["spec"]["default"] = "Allow".into();
    bad["policies"][0]["spec"]["extra"] = 1.into();
    bad["labels"] = "heaven".into();
    assert!(configure(&fake, &bad.to_string()).is_none());
    assert_eq!(
        fake.metric("warden_config_rejected.egress-warden_http"),
        Some(1)
    );
    // All of it at once, each with its path.
    let lines = fake.lines();
    for (_, line) in &lines {
        crate::log_line::tests::check(line);
    }
    let refused: Vec<Value> = lines
        .iter()
        .filter(|(level, _)| *level == Level::Error)
        .map(|(_, line)| serde_json::from_str(line).unwrap())
        .collect();
    for path in ["labels", "policies[0].spec.default", "policies[0].spec"] {
        let named = |line: &Value| line["defect"].as_str().unwrap().starts_with(path);
        assert!(refused.iter().any(named), "{path}: {refused:#?}");
    }
    // What is in force is still the good one.
    assert_eq!(fake.metric("warden_policy_hash.egress-warden_http"), gauge);
}

#[test]
fn what_is_no_configuration_is_refused() {
    for text in ["", "{", "null", "[]", "\u{0}", r#"{"context":"http"}"#] {
        assert!(configure(&Fake::default(), text).is_none(), "{text}");
    }
    let fake = Fake::default();
    fake.configure("{}");
    fake.fail(Fails::From(0));
    assert!(accept_configuration(&fake, 2, &Embedded::default()).is_none());
    let fake = Fake::default();
    fake.configure(b"{\"context\":\"\xff\"}");
    assert!(accept_configuration(&fake, 15, &Embedded::default()).is_none());
}

#[test]
fn an_instance_has_the_name_that_the_configuration_gives_it() {
    let root = (&["plugin_root_id"], "egress-warden-http");
    let plugin = (&["plugin_name"], "extensions.istio.io/wasmplugin/ns.name");
    let rows = [
        (vec![root, plugin], "egress-warden-http"),
        (
            vec![(&["plugin_root_id"], ""), plugin],
            "extensions_istio_io_wasmplugin_ns_name",
        ),
        (vec![], "unnamed"),
    ];
    for (properties, name) in rows {
        let mut fake = Fake::default();
        for (property, value) in properties {
            fake = fake.with(property, value);
        }
        configure(&fake, &http_configuration().to_string()).expect("taken");
        let gauge = format!("warden_policy_hash.{name}");
        assert!(fake.metric(&gauge).is_some(), "{gauge}");
    }
}
