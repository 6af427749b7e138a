use crate::network::tests::out_of_tunnel;
use std::rc::Rc;

use serde_json::Value;

use crate::fake::{APP1, Fails, Fake, configuration, http_configuration};
use crate::host::Flow;
use crate::http::Http;
use crate::network::Network;
use crate::plugin::Plugin;
use crate::role::Role;

/// The configuration of a policy that differs by its name, and whether it asks.
fn named(name: &str, asks: bool) -> Value {
    let mut configuration = http_configuration();
    configuration["policies"][0]["metadata"]["name"] = name.into();
    configuration["recheckOnUpdate"] = asks.into();
    configuration
}

/// Puts it in force as Envoy does: on the same gauges, beside those that still have streams.
fn comes(fake: &Fake, configuration: &Value) -> Rc<Plugin<Fake>> {
    match fake.accept(&configuration.to_string()) {
        Some(Role::Policies(plugin)) => plugin,
        other => panic!("{other:?}"),
    }
}

fn tunnel() -> Fake {
    Fake::app1().connect("203.0.113.7:22", "warden-tcp")
}

fn begun(fake: &Fake, plugin: &Rc<Plugin<Fake>>) -> Http<Fake> {
    let _ = fake;
    let stream = Http::new(Rc::clone(plugin));
    assert_eq!(
        stream.on_request_headers(),
        Flow::Continue,
        "{:?}",
        fake.verdict()
    );
    stream
}

fn tick(plugin: &Plugin<Fake>, times: u8) {
    for _ in 0..times {
        plugin.tick();
    }
}

#[test]
fn a_stream_of_a_replaced_policy_ends_at_its_next_byte_if_the_new_one_asks() {
    // The old configuration's own word, the new one's, whether the policy differs; whether it ends.
    let rows = [
        (false, true, true, true),
        (true, true, true, true),
        (true, false, true, false),
        (false, false, true, false),
        (true, true, false, false),
    ];
    for (old, new, differs, ends) in rows {
        let fake = tunnel();
        let before = comes(&fake, &named("one", old));
        let stream = begun(&fake, &before);
        tick(&before, 5);
        assert_eq!(stream.on_more(), Flow::Continue);

        let after = comes(&fake, &named(if differs { "two" } else { "one" }, new));
        let younger = begun(&fake, &after);
        tick(&before, 1);
        assert_eq!(
            stream.on_more(),
            Flow::Continue,
            "what is short ends by itself"
        );
        tick(&before, 1);
        let flow = if ends { Flow::Stop } else { Flow::Continue };
        assert_eq!(stream.on_more(), flow, "{old} {new} {differs}");
        assert_eq!(fake.closed(), ends);
        tick(&after, 5);
        assert_eq!(younger.on_more(), Flow::Continue, "{old} {new} {differs}");
    }
}

#[test]
fn the_end_is_logged_once_with_the_caller() {
    let fake = tunnel();
    let before = comes(&fake, &named("one", false));
    let stream = begun(&fake, &before);
    comes(&fake, &named("two", true));
    tick(&before, 2);
    let seen = fake.verdicts().len();
    for _ in 0..3 {
        assert_eq!(stream.on_more(), Flow::Stop);
    }
    assert_eq!(fake.verdicts().len(), seen + 1);
    let line = fake.verdict().expect("a line");
    assert_eq!(line["reason"], "policy_replaced");
    assert_eq!(line["protocol"], "TCP");
    assert_eq!(line["workload"], APP1);
    assert_eq!(
        fake.state("warden_ruling").as_deref(),
        Some("no rule (policy_replaced)")
    );
    assert_eq!(
        fake.metric("warden_verdicts.deny.policy_replaced.none"),
        Some(1)
    );
}

#[test]
fn a_connection_of_the_inner_listener_ends_too_decided_or_not() {
    let ssh = serde_json::json!([{
        "cluster": "outbound|22||partner.example", "protocol": "TCP", "port": 22,
        "host": "203.0.113.7",
    }]);
    let tls = serde_json::json!([{"cluster": "warden-tls", "protocol": "TLS", "port": 443}]);
    for (ports, from_client) in [(&ssh, true), (&ssh, false), (&tls, true), (&tls, false)] {
        let (cluster, protocol) = (ports[0]["cluster"].as_str(), &ports[0]["protocol"]);
        let first = configuration("network", ports);
        let mut second = first.clone();
        second["policies"][0]["metadata"]["name"] = "two".into();
        second["recheckOnUpdate"] = true.into();
        let fake = if protocol == "TLS" {
            out_of_tunnel("api.github.com:443", "api.github.com")
        } else {
            Fake::default().with(&["xds", "cluster_name"], cluster.unwrap())
        };
        let before = comes(&fake, &first);
        let mut stream = Network::new(Rc::clone(&before), 1);
        let _ = stream.on_new_connection();
        comes(&fake, &second);
        tick(&before, 2);
        assert!(!fake.closed());
        let flow = if from_client {
            stream.on_downstream_data(1)
        } else {
            stream.on_upstream_data(1)
        };
        assert_eq!(flow, Flow::Stop);
        assert!(fake.closed());
        let line = fake.verdict().unwrap();
        assert_eq!(line["reason"], "policy_replaced");
        assert_eq!(&line["protocol"], protocol);
    }
}

#[test]
fn streams_that_begin_while_workers_learn_of_it_end_as_well() {
    let fake = tunnel();
    let before = comes(&fake, &named("one", false));
    comes(&fake, &named("two", true));
    // This worker has not got it yet.
    let late = begun(&fake, &before);
    tick(&before, 1);
    let later = begun(&fake, &before);
    tick(&before, 2);
    assert_eq!(late.on_more(), Flow::Stop);
    assert_eq!(later.on_more(), Flow::Stop);
}

#[test]
fn a_configuration_that_comes_back_unread_is_in_force_again() {
    let fake = tunnel();
    let first = comes(&fake, &named("one", true));
    let old = begun(&fake, &first);
    let second = comes(&fake, &named("two", true));
    let between = begun(&fake, &second);
    tick(&first, 4);
    assert_eq!(old.on_more(), Flow::Stop);
    // Envoy goes back to the first without configuring it, because a stream kept it alive.
    let back = begun(&fake, &first);
    assert_eq!(in_force(&fake), short(&first));
    tick(&first, 5);
    tick(&second, 2);
    assert_eq!(back.on_more(), Flow::Continue);
    assert_eq!(between.on_more(), Flow::Stop);
}

/// Which policy the gauge says is in force.
fn in_force(fake: &Fake) -> Option<i64> {
    fake.metric("warden_policy_hash.unnamed")
}

fn short(plugin: &Plugin<Fake>) -> Option<i64> {
    i64::try_from(egress_policy::canonical::short(&plugin.config.policy_hash)).ok()
}

/// The same where the one in between asks nothing, as when a revocation is taken back and comes
/// again.
#[test]
fn a_revocation_that_comes_a_second_time_unread_asks_again() {
    let fake = tunnel();
    let revokes = comes(&fake, &named("revokes", true));
    let kept = begun(&fake, &revokes);
    let between = comes(&fake, &named("between", false));
    let stream = begun(&fake, &between);
    tick(&revokes, 4);
    tick(&between, 4);
    assert_eq!(
        kept.on_more(),
        Flow::Continue,
        "the one between does not ask"
    );
    assert_eq!(in_force(&fake), short(&between));
    let again = begun(&fake, &revokes);
    assert_eq!(in_force(&fake), short(&revokes));
    tick(&between, 2);
    tick(&revokes, 5);
    assert_eq!(stream.on_more(), Flow::Stop);
    assert_eq!(again.on_more(), Flow::Continue);
}

#[test]
fn an_update_that_is_taken_back_at_once_ends_nothing_of_what_is_in_force() {
    let fake = tunnel();
    let first = comes(&fake, &named("one", false));
    let stream = begun(&fake, &first);
    comes(&fake, &named("two", true));
    tick(&first, 1);
    comes(&fake, &named("one", false));
    tick(&first, 5);
    assert_eq!(stream.on_more(), Flow::Continue);
}

#[test]
fn what_cannot_be_heard_ends_streams() {
    let fake = tunnel();
    let plugin = comes(&fake, &named("one", false));
    let stream = begun(&fake, &plugin);
    fake.fail(Fails::From(0));
    tick(&plugin, 2);
    assert_eq!(stream.on_more(), Flow::Stop);
}

#[test]
fn no_stream_pays_a_host_call_for_it() {
    let fake = tunnel();
    let plugin = comes(&fake, &named("one", true));
    fake.forget_calls();
    let stream = Http::new(Rc::clone(&plugin));
    assert_eq!(fake.calls(), Vec::<String>::new());
    let _ = stream.on_request_headers();
    fake.forget_calls();
    for _ in 0..100 {
        assert_eq!(stream.on_more(), Flow::Continue);
    }
    assert_eq!(fake.calls(), Vec::<String>::new());
}
