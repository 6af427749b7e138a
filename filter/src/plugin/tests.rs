use serde_json::Value;

use super::*;
use crate::fake::{Fails, Fake, configuration, http_configuration};
use crate::host::Flow;
use crate::http::Http;

fn configure(fake: &Fake, text: &str) -> Option<Rc<Plugin<Fake>>> {
    match fake.accept(text)? {
        Role::Policies(plugin) => Some(plugin),
        Role::Gate(_) => panic!("a gate"),
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
    // All of it at once, each with its place.
    let lines = fake.lines();
    let refused: Vec<Value> = lines
        .iter()
        .filter(|(level, _)| *level == Level::Error)
        .map(|(_, line)| serde_json::from_str(line).unwrap())
        .collect();
    for place in ["labels", "policies[0].spec.default", "policies[0].spec"] {
        let named = |line: &Value| line["defect"].as_str().unwrap().starts_with(place);
        assert!(refused.iter().any(named), "{place}: {refused:#?}");
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
fn a_place_has_the_name_that_the_configuration_gives_it() {
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

#[test]
fn a_filter_that_could_not_end_its_streams_is_refused() {
    let ports = serde_json::json!([{"cluster": "c", "protocol": "TCP"}]);
    for context in ["http", "network", "upstream"] {
        // The ticks are asked for first, then the gauges.
        for call in 0..4 {
            let fake = Fake::default();
            let config = Config::read(&configuration(context, &ports).to_string()).unwrap();
            fake.fail(Fails::Call(call));
            let plugin = Plugin::configure(fake, config, "place");
            assert!(plugin.is_err(), "{context} {call}");
        }
    }
}

#[test]
fn without_a_policy_everything_is_denied() {
    let mut configuration = http_configuration();
    configuration["policies"] = serde_json::json!([]);
    let fake = Fake::app1().get("api.github.com", "warden-http");
    let plugin = fake.plugin(&configuration);
    assert_eq!(Http::new(plugin).on_request_headers(), Flow::Stop);
    assert_eq!(fake.verdict().unwrap()["code"], "no_policy");
}

#[test]
fn time_passes_with_the_ticks_and_an_unread_clock_is_no_time() {
    let fake = Fake::default();
    let plugin = fake.plugin(&http_configuration());
    assert_eq!(plugin.now(), Fact::Known(0));
    fake.forget_calls();
    assert_eq!(plugin.now(), Fact::Known(0));
    assert!(fake.calls().is_empty(), "no call between ticks");
    fake.fail(Fails::From(0));
    plugin.tick();
    assert_eq!(plugin.now(), Fact::Missing);
}
