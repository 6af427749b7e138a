//! Budgets as requests, tunnels and connections meet them.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::fake::{Fake, configuration, http_configuration};
use crate::host::Flow;
use crate::http::Http;
use crate::network::{Network, SNI};
use crate::plugin::Plugin;

/// The second workload of the reference case, which the same rules let out.
const APP2: &str = "spiffe://cluster.local/ns/app1-ns/sa/app2";

fn limited(mut configuration: Value, limits: Value) -> Value {
    configuration["limits"] = limits;
    configuration
}

/// Another connection of the same workload, asking for this.
fn get(name: &str) -> Fake {
    Fake::app1().get(name, "warden-http")
}

fn tunnel(authority: &str) -> Fake {
    Fake::app1().connect(authority, "warden-tls-inner")
}

fn open(fake: &Fake, configuration: &Value) -> (Http<Fake>, Flow) {
    let request = Http::new(fake.plugin(configuration));
    let flow = request.on_request_headers();
    (request, flow)
}

fn code(fake: &Fake) -> String {
    let line = fake.verdict().expect("a verdict");
    line["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_workload_has_so_many_streams_and_another_has_its_own() {
    let configuration = limited(http_configuration(), json!({"streams": 4, "workers": 2}));
    let mut held: Vec<_> = (0..2)
        .map(|_| {
            let (request, flow) = open(&get("api.github.com"), &configuration);
            assert_eq!(flow, Flow::Continue);
            request
        })
        .collect();
    let refused = get("api.github.com");
    let (_request, flow) = open(&refused, &configuration);
    assert_eq!(
        (flow, code(&refused).as_str()),
        (Flow::Stop, "limit_streams")
    );
    assert_eq!(
        refused.token().as_deref(),
        Some("deny"),
        "the RBAC lock is closed"
    );
    assert_eq!(refused.dynamic_host(), None);
    let response = refused.response().unwrap();
    assert_eq!((response.status, response.grpc_status), (429, 8));
    assert_eq!(response.details, "warden_limit_streams");
    assert_eq!(
        refused.metric("warden_verdicts.deny.limit_streams.none"),
        Some(1)
    );
    let other = get("api.github.com").with(&["connection", "uri_san_peer_certificate"], APP2);
    let other = other.with(&["connection", "id"], 8_u64.to_le_bytes());
    assert_eq!(open(&other, &configuration).1, Flow::Continue);
    // What the policy denies is denied by the policy, and holds nothing.
    let denied = get("evil.example");
    let (_denied, _) = open(&denied, &configuration);
    assert_eq!(code(&denied), "default");
    held.pop();
    assert_eq!(
        open(&get("api.github.com"), &configuration).1,
        Flow::Continue
    );
}

#[test]
fn a_new_policy_finds_what_is_open() {
    let configuration = limited(http_configuration(), json!({"streams": 1, "workers": 1}));
    let (_held, flow) = open(&get("api.github.com"), &configuration);
    assert_eq!(flow, Flow::Continue);
    // Each `open` puts its configuration in force anew.
    let again = get("api.github.com");
    assert_eq!(open(&again, &configuration).1, Flow::Stop);
    assert_eq!(code(&again), "limit_streams");
}

#[test]
fn a_tunnel_counts_as_undecided_until_it_is_answered() {
    let configuration = limited(
        http_configuration(),
        json!({"undecidedTunnels": 1, "workers": 1}),
    );
    let (first, flow) = open(&tunnel("140.82.112.5:443"), &configuration);
    assert_eq!(flow, Flow::Continue);
    let second = tunnel("140.82.112.5:443");
    let (_second, flow) = open(&second, &configuration);
    assert_eq!(
        (flow, code(&second).as_str()),
        (Flow::Stop, "limit_undecided")
    );
    assert_eq!(second.token().as_deref(), Some("deny"));
    // Requests are no tunnels.
    assert_eq!(
        open(&get("api.github.com"), &configuration).1,
        Flow::Continue
    );
    // The client's own bytes decide nothing.
    assert_eq!(first.on_more(), Flow::Continue);
    assert_eq!(
        open(&tunnel("140.82.112.5:443"), &configuration).1,
        Flow::Stop
    );
    assert_eq!(first.on_answer(), Flow::Continue);
    assert_eq!(
        open(&tunnel("140.82.112.5:443"), &configuration).1,
        Flow::Continue
    );
}

#[test]
fn names_count_where_they_are_resolved() {
    let limits = json!({"newNamesPerMinute": 2, "workers": 1});
    let outer = limited(http_configuration(), limits.clone());
    for (name, cluster, expected) in [
        ("a.github.com", "warden-http", ""),
        ("b.github.com", "warden-http", ""),
        ("c.github.com", "warden-http", "limit_names"),
        ("A.github.com.", "warden-http", ""),
        // No DNS cache is asked for this.
        ("203.0.113.9", "warden-http", ""),
    ] {
        let fake = Fake::app1().get(name, cluster);
        let (_request, flow) = open(&fake, &outer);
        let seen = if flow == Flow::Stop {
            code(&fake)
        } else {
            String::new()
        };
        assert_eq!(seen, expected, "{name} by {cluster}");
    }
    // TLS in a tunnel asks for its name where it is read, out of the same budget.
    let ports = json!([{"cluster": "warden-tls", "protocol": "TLS", "port": 443}]);
    let inner = limited(configuration("network", &ports), limits);
    for (name, expected) in [("b.github.com", ""), ("d.github.com", "limit_names")] {
        let tunnel = tunnel("140.82.112.5:443");
        let (_tunnel, flow) = open(&tunnel, &http_configuration());
        assert_eq!(flow, Flow::Continue);
        let facts = tunnel.carried().unwrap().into_bytes();
        let fake = Fake::default().carrying(&facts).with(SNI, name);
        let _ = Network::new(fake.plugin(&inner), 1).on_new_connection();
        let seen = fake.verdict().map(|_| code(&fake)).unwrap_or_default();
        assert_eq!(seen, expected, "{name}");
        assert_eq!(fake.tcp_cluster().is_none(), !expected.is_empty());
    }
}

#[test]
fn lines_have_a_budget_and_counters_have_none() {
    let configuration = limited(
        http_configuration(),
        json!({"denialLinesPerMinute": 3, "workers": 1}),
    );
    let fake = get("evil.example");
    let plugin: Rc<Plugin<Fake>> = fake.plugin(&configuration);
    plugin.tick();
    for _ in 0..50 {
        let _ = Http::new(Rc::clone(&plugin)).on_request_headers();
    }
    assert_eq!(fake.verdicts().len(), 3);
    assert_eq!(fake.metric("warden_verdicts.deny.default.seed"), Some(50));
    let sums = |fake: &Fake| -> Vec<Value> {
        fake.lines()
            .iter()
            .filter_map(|(_, line)| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["event"] == "denials")
            .collect()
    };
    for second in 1..60 {
        fake.set_seconds(second);
        plugin.tick();
    }
    assert_eq!(sums(&fake), Vec::<Value>::new());
    fake.set_seconds(60);
    plugin.tick();
    let workload = "spiffe://cluster.local/ns/app1-ns/sa/app1";
    let sum = |count: u32| json!({"event": "denials", "workload": workload, "reason": "default", "count": count});
    assert_eq!(sums(&fake), [sum(47)]);
    // What is left when the configuration goes is told then.
    for _ in 0..5 {
        let _ = Http::new(Rc::clone(&plugin)).on_request_headers();
    }
    drop(plugin);
    assert_eq!(sums(&fake), [sum(47), sum(2)]);
}

#[test]
fn a_long_path_is_cut_in_the_log_and_nowhere_else() {
    let configuration = http_configuration();
    for (length, logged, said) in [
        (100, 100, None),
        (512, 512, None),
        (50_000, 512, Some(50_000)),
    ] {
        let path = format!("/{}", "a".repeat(length - 1));
        let fake = Fake::app1()
            .header(":method", "GET")
            .header(":path", &path)
            .header(":authority", "evil.example")
            .with(&["xds", "cluster_name"], "warden-http");
        let (_request, flow) = open(&fake, &configuration);
        assert_eq!(flow, Flow::Stop);
        let line = fake.verdict().unwrap();
        assert_eq!(line["path"].as_str().map(str::len), Some(logged));
        assert_eq!(line["pathBytes"].as_u64(), said);
    }
}

#[test]
fn gauges_follow_what_is_open() {
    let configuration = limited(http_configuration(), json!({"workers": 1}));
    let fake = tunnel("140.82.112.5:443");
    let plugin = fake.plugin(&configuration);
    plugin.tick();
    let gauges = |fake: &Fake| {
        ["streams_open", "tunnels_undecided", "names_held"]
            .map(|name| fake.metric(&format!("warden_{name}")).unwrap_or_default())
    };
    let request = Http::new(Rc::clone(&plugin));
    assert_eq!(request.on_request_headers(), Flow::Continue);
    plugin.tick();
    assert_eq!(gauges(&fake), [1, 1, 0]);
    let _ = request.on_answer();
    plugin.tick();
    assert_eq!(gauges(&fake), [1, 0, 0]);
    drop(request);
    plugin.tick();
    assert_eq!(gauges(&fake), [0, 0, 0]);
}
