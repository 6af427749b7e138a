use serde_json::json;

use super::*;
use crate::fake::{Fails, Fake, configuration, http_configuration};
use crate::http::Http;

/// The facts of an accepted request, as the downstream filter hands them on.
fn handed_on(fake: Fake) -> Fake {
    let plugin = fake.plugin(&http_configuration());
    assert_eq!(Http::new(plugin).on_request_headers(), Flow::Continue);
    fake
}

fn upstream() -> serde_json::Value {
    let ports = json!([{"cluster": "warden-http", "protocol": "HTTP", "port": 80}]);
    configuration("upstream", &ports)
}

fn judge(fake: &Fake) -> (Flow, Option<serde_json::Value>) {
    let flow = Upstream::new(fake.plugin(&upstream())).on_request_headers();
    (flow, fake.verdict())
}

#[test]
fn the_resolved_address_ends_the_judgement() {
    let github = || handed_on(Fake::app1().get("api.github.com", "warden-http"));
    let literal = || handed_on(Fake::app1().get("203.0.113.9", "warden-http"));
    let accept = ("Accept", "rule", "seed/apps/app1-github");
    let private = ("Deny", "private_address", "seed/apps/app1-github");
    let metadata = ("Deny", "rule", "seed/platform/no-metadata-service");
    let unknown = ("Deny", "address_unchecked", "seed/apps/app1-github");
    let rows = [
        (github(), Some("140.82.112.5:80"), accept),
        (github(), Some("[2606:50c0::1]:80"), accept),
        (github(), Some("10.0.0.5:80"), private),
        (github(), Some("127.0.0.1:80"), private),
        (github(), Some("[::1]:80"), private),
        (github(), Some("[::ffff:10.0.0.5]:80"), private),
        (github(), Some("[64:ff9b::a00:5]:80"), private),
        (github(), Some("169.254.169.254:80"), metadata),
        (github(), Some("not an address"), unknown),
        (github(), Some("\u{fffd}"), unknown),
        (github(), None, unknown),
        (
            literal(),
            Some("203.0.113.9:80"),
            ("Accept", "rule", "seed/apps/app1-web-address"),
        ),
        (
            literal(),
            Some("203.0.113.10:80"),
            ("Deny", "route_mismatch", ""),
        ),
    ];
    for (fake, address, (action, code, rule)) in rows {
        let fake = match address {
            Some(address) => fake.with(&["upstream", "address"], address),
            None => fake,
        };
        let (flow, line) = judge(&fake);
        let line = line.unwrap();
        assert_eq!(line["action"], action, "{address:?}");
        assert_eq!(line["code"], code, "{address:?}");
        assert_eq!(line["rule"], rule, "{address:?}");
        assert_eq!(line["workload"], crate::fake::APP1);
        if action == "Accept" {
            assert_eq!(flow, Flow::Continue);
            assert_eq!(fake.response(), None);
        } else {
            assert_eq!(flow, Flow::Stop, "{address:?}");
            assert_eq!(fake.response().unwrap().status, 403);
            assert_eq!(fake.mark().as_deref(), Some("deny"));
        }
    }
}

#[test]
fn the_cluster_that_carries_the_request_is_the_one_judged() {
    // Envoy may have chosen the route anew since.
    for (cluster, accepted) in [
        ("warden-http", true),
        ("outbound|80||api.github.com", true),
        ("outbound|80||evil.example", false),
        ("outbound|8080||api.github.com", false),
        ("warden-other", false),
        ("PassthroughCluster", false),
        ("", false),
    ] {
        let mut configuration = upstream();
        let ports = configuration["ports"].as_array_mut().unwrap();
        ports.push(json!({"port": 80, "protocol": "HTTP"}));
        ports.push(json!({"port": 8080, "protocol": "HTTP"}));
        let fake = handed_on(Fake::app1().get("api.github.com", "warden-http"))
            .with(&["upstream", "address"], "140.82.112.5:80")
            .with(&["xds", "cluster_name"], cluster);
        let flow = Upstream::new(fake.plugin(&configuration)).on_request_headers();
        assert_eq!(flow == Flow::Continue, accepted, "{cluster}");
        if !accepted {
            assert_eq!(
                fake.verdict().unwrap()["code"],
                "route_mismatch",
                "{cluster}"
            );
        }
    }
}

#[test]
fn without_the_mark_of_the_downstream_filter_all_is_denied() {
    for facts in [
        None,
        Some("accept {}"),
        Some(""),
        Some("accept"),
        Some("accept not JSON"),
        Some("\u{ff}"),
    ] {
        let fake = Fake::app1()
            .get("api.github.com", "warden-http")
            .with(&["upstream", "address"], "140.82.112.5:80");
        let fake = match facts {
            Some(facts) => fake.with(&["warden_verdict"], facts),
            None => fake,
        };
        let (flow, line) = judge(&fake);
        assert_eq!(flow, Flow::Stop, "{facts:?}");
        assert_eq!(line.unwrap()["code"], "facts_missing", "{facts:?}");
    }
}

#[test]
fn an_accepted_request_on_a_warm_connection_takes_at_most_eight_host_calls() {
    let request = || {
        Fake::app1()
            .get("api.github.com", "warden-http")
            .with(&["filter_state", "warden.position"], "7 warden-http")
            .with(&["upstream", "address"], "140.82.112.5:80")
    };
    let silent = |mut configuration: serde_json::Value| {
        configuration["logAccepts"] = json!(0);
        configuration
    };
    for (what, sidecars_headers, most) in [
        ("nothing to remove", &[][..], 7),
        ("one header", &["x-envoy-peer-metadata"], 8),
        (
            "two headers",
            &["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"],
            8,
        ),
    ] {
        let fake = request();
        let first = fake.plugin(&silent(http_configuration()));
        let last = fake.plugin(&silent(upstream()));
        for warm in [false, true] {
            for name in sidecars_headers {
                fake.clone().header(name, "CgA=");
            }
            fake.forget_calls();
            let flow = Http::new(Rc::clone(&first)).on_request_headers();
            assert_eq!(flow, Flow::Continue, "{what}");
            let flow = Upstream::new(Rc::clone(&last)).on_request_headers();
            assert_eq!(flow, Flow::Continue, "{what}");
            let calls = fake.calls();
            assert!(!warm || calls.len() <= most, "{what}: {calls:#?}");
        }
        // Both are counted, the second at the next tick.
        let counter = "warden_verdicts.accept.rule.seed/apps/app1-github";
        assert_eq!(fake.metric(counter), Some(1));
        last.tick();
        assert_eq!(fake.metric(counter), Some(2));
    }
}

/// As [`upstream`], with a device for what is under `saas.example`.
fn inspecting(context: &str) -> serde_json::Value {
    let ports = json!([{"cluster": "warden-http", "protocol": "HTTP", "port": 80}]);
    let mut configuration = configuration(context, &ports);
    configuration["logAccepts"] = json!(1);
    configuration["inspection"] = json!([
        {"name": "dlp", "cluster": "warden-inspect-dlp"},
        {"name": "ids", "cluster": "warden-inspect-ids"},
    ]);
    let rules = &mut configuration["policies"][0]["spec"]["tiers"][1]["rules"];
    rules.as_array_mut().unwrap().push(json!({
        "name": "scan", "to": [{"domainNames": ["*.saas.example"]}],
        "action": "Inspect", "inspection": "dlp",
    }));
    configuration
}

#[test]
fn to_a_device_goes_what_it_is_to_inspect_and_by_no_other_way() {
    const RESOLVED: &[&str] = &["upstream", "address"];
    let public = Some("198.51.100.7:80");
    let rows = [
        (
            "crm.saas.example",
            "warden-inspect-dlp",
            public,
            "Inspect rule",
        ),
        // The guard, and the policy's own Deny on networks.
        (
            "crm.saas.example",
            "warden-inspect-dlp",
            Some("10.0.0.5:80"),
            "Deny private_address",
        ),
        (
            "crm.saas.example",
            "warden-inspect-dlp",
            Some("169.254.9.9:80"),
            "Deny rule",
        ),
        (
            "crm.saas.example",
            "warden-inspect-dlp",
            None,
            "Deny address_unchecked",
        ),
        (
            "crm.saas.example",
            "warden-inspect-dlp",
            Some("no address"),
            "Deny address_unchecked",
        ),
        // Straight out, or to another device.
        (
            "crm.saas.example",
            "warden-http",
            public,
            "Deny route_mismatch",
        ),
        (
            "crm.saas.example",
            "warden-inspect-ids",
            public,
            "Deny route_mismatch",
        ),
        // What is accepted is nothing for a device.
        (
            "api.github.com",
            "warden-inspect-dlp",
            public,
            "Deny route_mismatch",
        ),
        ("api.github.com", "warden-http", public, "Accept rule"),
    ];
    for (authority, cluster, resolved, expected) in rows {
        let fake = Fake::app1().get(authority, "warden-http");
        let plugin = fake.plugin(&inspecting("http"));
        assert_eq!(Http::new(plugin).on_request_headers(), Flow::Continue);
        let fake = fake.with(&["xds", "cluster_name"], cluster);
        let fake = match resolved {
            Some(address) => fake.with(RESOLVED, address),
            None => fake,
        };
        let plugin = fake.plugin(&inspecting("upstream"));
        let flow = Upstream::new(plugin).on_request_headers();
        let line = fake.verdict().unwrap();
        let seen = [&line["action"], &line["code"]].map(|word| word.as_str().unwrap_or_default());
        assert_eq!(
            seen.join(" "),
            expected,
            "{authority} by {cluster} to {resolved:?}"
        );
        assert_eq!(flow == Flow::Continue, !expected.starts_with("Deny"));
        assert_eq!(line["workload"], crate::fake::APP1);
    }
}

#[test]
fn whichever_host_call_fails_nothing_unknown_is_let_out() {
    let request = || {
        handed_on(Fake::app1().get("until.example", "warden-http"))
            .with(&["upstream", "address"], "198.51.100.1:80")
    };
    let fake = request();
    assert_eq!(judge(&fake).0, Flow::Continue);
    let calls = fake.calls();
    assert!(calls.len() > 3);
    for (index, call) in calls.iter().enumerate() {
        let fake = request();
        let plugin = fake.plugin(&upstream());
        fake.fail(Fails::Call(index));
        let flow = Upstream::new(plugin).on_request_headers();
        let bookkeeping = call.ends_with("metric") || call == "log";
        let expected = if bookkeeping {
            Flow::Continue
        } else {
            Flow::Stop
        };
        assert_eq!(flow, expected, "{call}");
    }
}

/// A tunnel of opaque bytes to a name: judged like a request, where its cluster has this filter.
#[test]
fn a_tunnel_to_a_name_ends_here_too() {
    let mut policy = crate::fake::policy();
    let rules = policy
        .pointer_mut("/spec/tiers/1/rules")
        .and_then(serde_json::Value::as_array_mut);
    let shell = json!({
        "name": "shell", "action": "Accept", "from": [{"namespaces": ["app1-ns"]}],
        "to": [{"domainNames": ["ssh.example"], "ports": [22], "protocols": ["TCP"]}],
    });
    rules.expect("rules").push(shell);
    let ports = json!([{"cluster": "warden-tcp", "protocol": "TCP", "addressCheck": "upstream"}]);
    let at = |context| {
        let mut all = configuration(context, &ports);
        all["policies"] = json!([policy]);
        all
    };
    for (authority, address, expected) in [
        ("ssh.example:22", Some("203.0.113.8:22"), "rule"),
        ("ssh.example:22", Some("10.0.0.5:22"), "private_address"),
        ("ssh.example:22", None, "address_unchecked"),
        ("203.0.113.7:22", Some("203.0.113.7:22"), "rule"),
        ("203.0.113.7:22", Some("203.0.113.8:22"), "route_mismatch"),
    ] {
        let fake = Fake::app1().connect(authority, "warden-tcp");
        let flow = Http::new(fake.plugin(&at("http"))).on_request_headers();
        assert_eq!(flow, Flow::Continue, "{authority}");
        assert_eq!(fake.dynamic_host().as_deref(), Some(authority));
        let fake = match address {
            Some(address) => fake.with(&["upstream", "address"], address),
            None => fake,
        };
        let flow = Upstream::new(fake.plugin(&at("upstream"))).on_request_headers();
        assert_eq!(
            fake.verdict().expect("a verdict")["code"],
            expected,
            "{authority} {address:?}"
        );
        assert_eq!(flow == Flow::Continue, expected == "rule");
    }
    // Where the configuration does not say that the filter stands there, as before.
    let plain = json!([{"cluster": "warden-tcp", "protocol": "TCP"}]);
    let mut all = configuration("http", &plain);
    all["policies"] = json!([policy]);
    let fake = Fake::app1().connect("ssh.example:22", "warden-tcp");
    assert_eq!(
        Http::new(fake.plugin(&all)).on_request_headers(),
        Flow::Stop
    );
    assert_eq!(
        fake.verdict().expect("a verdict")["code"],
        "address_unchecked"
    );
}
