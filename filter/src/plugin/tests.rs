use super::*;
use crate::fake::{Fails, Fake, configuration, http_configuration};
use crate::host::Flow;
use crate::http::Http;

#[test]
fn a_filter_that_could_not_end_its_streams_is_refused() {
    let ports = serde_json::json!([{"cluster": "c", "protocol": "TCP"}]);
    for context in ["http", "network"] {
        // The ticks are asked for first, then the gauges.
        for call in 0..4 {
            let fake = Fake::default();
            let config = PluginConfig::read(&configuration(context, &ports).to_string()).unwrap();
            fake.fail(Fails::Call(call));
            let plugin = Plugin::configure(fake, config, "instance");
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
    assert_eq!(fake.verdict().unwrap()["reason"], "no_policy");
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
