use egress_policy::contract::MESH_HEADERS;
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fails, Fake, http_configuration};

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum RequestOutcome {
    /// Out by this class, connecting to this host if the cluster is dynamic.
    Out(String, Option<String>),
    /// To the internal listener.
    Inward,
    /// To this inspection proxy, in this class.
    Inspection(String, String),
    /// 403 with this code and rule.
    Denied(String, String),
}

fn judge(fake: &Fake, configuration: &Value) -> RequestOutcome {
    let plugin = fake.plugin(configuration);
    outcome(fake, Http::new(plugin).on_request_headers())
}

fn outcome(fake: &Fake, flow: Flow) -> RequestOutcome {
    let token = fake.token();
    let words: Vec<&str> = token.as_deref().unwrap_or_default().split(':').collect();
    match (flow, words.as_slice()) {
        (Flow::Continue, ["accept", class]) => {
            assert_eq!(fake.carried(), None);
            RequestOutcome::Out((*class).to_owned(), fake.dynamic_host())
        }
        (Flow::Continue, ["forward"]) => RequestOutcome::Inward,
        (Flow::Continue, ["inspect", proxy, class]) => {
            assert_eq!(
                fake.state("warden_inspection_proxy").as_deref(),
                Some(*proxy)
            );
            RequestOutcome::Inspection((*proxy).to_owned(), (*class).to_owned())
        }
        (Flow::Stop, words) => {
            assert_ne!(
                words.first(),
                Some(&"accept"),
                "stopped, yet an RBAC lock is open"
            );
            let line = fake.verdict().expect("every denial is logged");
            assert_eq!(fake.response().map(|response| response.status), Some(403));
            RequestOutcome::Denied(
                line["reason"].as_str().unwrap().to_owned(),
                crate::fake::rule_path(&line),
            )
        }
        other => panic!("{other:?}"),
    }
}

/// Out to a name.
fn out(host: &str) -> RequestOutcome {
    RequestOutcome::Out("plain".to_owned(), Some(host.to_owned()))
}

/// Out to what was dialled by its number.
fn literal(host: &str) -> RequestOutcome {
    RequestOutcome::Out("literal".to_owned(), Some(host.to_owned()))
}

fn denied(code: &str, rule: &str) -> RequestOutcome {
    RequestOutcome::Denied(code.to_owned(), rule.to_owned())
}

fn app1_to(authority: impl AsRef<[u8]>) -> Fake {
    Fake::app1().get(authority, "warden-http")
}

#[test]
fn a_request_is_judged_by_what_it_asks_for() {
    let rows: Vec<(&str, Fake, RequestOutcome)> = vec![
        (
            "an allowed name",
            app1_to("api.github.com"),
            out("api.github.com:80"),
        ),
        (
            "its other spellings",
            app1_to("API.GitHub.com."),
            out("api.github.com:80"),
        ),
        (
            "with the judged port",
            app1_to("api.github.com:80"),
            out("api.github.com:80"),
        ),
        (
            "with another port",
            app1_to("api.github.com:22"),
            denied("route_mismatch", ""),
        ),
        ("the apex", app1_to("github.com"), denied("default", "seed")),
        (
            "two Host headers",
            app1_to("evil.example,x.github.com"),
            denied("name_malformed", ""),
        ),
        (
            "not UTF-8",
            app1_to(b"\xff\xfe.github.com"),
            denied("name_malformed", ""),
        ),
        (
            "no authority at all",
            app1_to(""),
            denied("name_malformed", ""),
        ),
        (
            "an odd address",
            app1_to("0x8c527003"),
            denied("address_form", ""),
        ),
        (
            "an allowed address",
            app1_to("203.0.113.9"),
            literal("203.0.113.9:80"),
        ),
        (
            "in IPv6",
            app1_to("[2001:db8::9]"),
            literal("[2001:db8::9]:80"),
        ),
        (
            "another address",
            app1_to("203.0.113.8"),
            denied("default", "seed"),
        ),
        (
            "the metadata service",
            app1_to("169.254.169.254"),
            denied("rule", "seed/platform/no-metadata-service"),
        ),
        (
            "a rule in time",
            app1_to("until.example"),
            out("until.example:80"),
        ),
        (
            "Istio's cluster of that name",
            Fake::app1().get("api.github.com", "outbound|80||api.github.com"),
            denied("address_unchecked", ""),
        ),
        (
            "Istio's cluster of names below one",
            Fake::app1().get("api.github.com", "outbound|80||*.github.com"),
            denied("address_unchecked", ""),
        ),
        (
            "a cluster of its own with one name",
            Fake::app1().get("api.github.com", "static"),
            denied("address_unchecked", ""),
        ),
        (
            "a cluster of its own with one address",
            Fake::app1().get("203.0.113.9", "static-address"),
            RequestOutcome::Out("literal".to_owned(), None),
        ),
        (
            "Istio's cluster of one address",
            Fake::app1().get("203.0.113.9", "outbound|80||203.0.113.9"),
            RequestOutcome::Out("literal".to_owned(), None),
        ),
        (
            "Istio's cluster of another name",
            Fake::app1().get("api.github.com", "outbound|80||evil.example"),
            denied("route_mismatch", ""),
        ),
        (
            "a cluster that is not listed",
            Fake::app1().get("api.github.com", "PassthroughCluster"),
            denied("route_mismatch", ""),
        ),
        (
            "no cluster",
            app1_to("api.github.com").without(&["xds", "cluster_name"]),
            denied("route_mismatch", ""),
        ),
        (
            "a request by a tunnel's cluster",
            Fake::app1().get("203.0.113.7:22", "warden-tcp"),
            denied("route_mismatch", ""),
        ),
    ];
    for (what, fake, expected) in rows {
        assert_eq!(judge(&fake, &http_configuration()), expected, "{what}");
    }
}

#[test]
fn a_tunnel_is_judged_by_what_was_dialled() {
    let tunnel = |authority, cluster| Fake::app1().connect(authority, cluster);
    let rows = [
        (
            tunnel("203.0.113.7:22", "warden-tcp"),
            literal("203.0.113.7:22"),
        ),
        (
            tunnel("203.0.113.7:23", "warden-tcp"),
            denied("default", "seed"),
        ),
        (
            tunnel("203.0.113.7", "warden-tcp"),
            denied("name_malformed", ""),
        ),
        // A name is judged whole here, whatever the bytes are.
        (
            tunnel("api.github.com:443", "warden-tcp"),
            out("api.github.com:443"),
        ),
        (
            tunnel("api.github.com:22", "warden-tcp"),
            denied("default", "seed"),
        ),
        (
            tunnel("140.82.112.5:443", "warden-tls-inner"),
            RequestOutcome::Inward,
        ),
        (
            tunnel("api.github.com:443", "warden-tls-inner"),
            RequestOutcome::Inward,
        ),
        (
            tunnel("evil.example:443", "warden-tls-inner"),
            denied("default", "seed"),
        ),
        // CONNECT as an HTTP request needs a rule that lists it.
        (
            tunnel("api.github.com:80", "warden-http"),
            denied("connect_not_allowed", "seed"),
        ),
    ];
    for (fake, expected) in rows {
        let authority = fake.request_header(":authority");
        assert_eq!(
            judge(&fake, &http_configuration()),
            expected,
            "{authority:?}"
        );
    }
}

#[test]
fn the_request_line_counts_where_a_rule_says_so() {
    let request = |method: &[u8], path: &[u8], host: &str, upgrade: &[&[u8]]| {
        let fake = Fake::app1()
            .header(":method", method)
            .header(":path", path)
            .header(":authority", host)
            .with(&["xds", "cluster_name"], "warden-http");
        upgrade
            .iter()
            .fold(fake, |fake, token| fake.header("upgrade", token))
    };
    let rows = [
        (
            request(b"GET", b"/v1/users?x=%2f", "api.example", &[]),
            out("api.example:80"),
        ),
        (
            request(b"POST", b"/v1/users", "api.example", &[]),
            denied("default", "seed"),
        ),
        (
            request(b"GET", b"/v2/users", "api.example", &[]),
            denied("default", "seed"),
        ),
        (
            request(b"GET", b"/v1/%2e%2e/admin", "api.example", &[]),
            denied("path_malformed", "seed/apps/app1-api"),
        ),
        (
            request(b"GET", b"/v1/\xff", "api.example", &[]),
            denied("path_malformed", "seed/apps/app1-api"),
        ),
        (
            request(b"G\xc3T", b"/v1/users", "api.example", &[]),
            denied("facts_missing", "seed/apps/app1-api"),
        ),
        (
            request(b"GET", b"/", "ws.example", &[b"WebSocket"]),
            out("ws.example:80"),
        ),
        (
            request(b"GET", b"/", "ws.example", &[b"h2c"]),
            denied("connect_not_allowed", "seed"),
        ),
        (
            request(b"GET", b"/", "ws.example", &[]),
            denied("default", "seed"),
        ),
        (
            request(b"GET", b"/", "ws.example", &[b"websocket", b"h2c"]),
            denied("facts_missing", "seed/apps/app1-socket"),
        ),
        (
            request(b"GET", b"/", "ws.example", &[b"websocket, h2c"]),
            denied("facts_missing", "seed/apps/app1-socket"),
        ),
        // An upgrade that no rule lists is no plain request either.
        (
            request(b"GET", b"/", "api.github.com", &[b"websocket"]),
            denied("connect_not_allowed", "seed"),
        ),
    ];
    for (fake, expected) in rows {
        let what = (fake.request_header(":method"), fake.request_header(":path"));
        assert_eq!(judge(&fake, &http_configuration()), expected, "{what:?}");
    }
}

#[test]
fn the_caller_is_who_the_certificate_says() {
    const SAN: &[&str] = &["connection", "uri_san_peer_certificate"];
    const ALL: &[&str] = &["filter_state", "warden.principal"];
    let to_github = || app1_to("api.github.com");
    let two = format!("{0},{0}", crate::fake::APP1);
    let rows: Vec<(&str, Fake, RequestOutcome)> = vec![
        ("app1", to_github(), out("api.github.com:80")),
        (
            "all its SANs given, and there is one",
            to_github().with(ALL, crate::fake::APP1).without(SAN),
            out("api.github.com:80"),
        ),
        (
            "a second SAN",
            to_github().with(ALL, &two),
            denied("identity_malformed", "seed"),
        ),
        (
            "no SPIFFE id",
            to_github().with(SAN, "https://example.com/app1"),
            denied("identity_malformed", "seed"),
        ),
        (
            "bytes",
            to_github().with(SAN, b"\xff"),
            denied("identity_malformed", "seed"),
        ),
        (
            "a certificate without URI",
            to_github().without(SAN),
            denied("identity_malformed", "seed"),
        ),
        (
            "TLS without certificate",
            to_github()
                .without(SAN)
                .with(&["connection", "mtls"], [0])
                .with(&["connection", "tls_version"], "TLSv1.3"),
            denied("default", "seed"),
        ),
        (
            "no TLS",
            to_github().without(SAN).with(&["connection", "mtls"], [0]),
            denied("no_identity", "seed"),
        ),
        (
            "another trust domain",
            to_github().with(SAN, "spiffe://other.local/ns/app1-ns/sa/app1"),
            denied("trust_domain", "seed"),
        ),
    ];
    for (what, fake, expected) in rows {
        assert_eq!(judge(&fake, &http_configuration()), expected, "{what}");
    }
}

#[test]
fn claims_count_where_the_certificate_bears_them_out() {
    let to_github = || app1_to("api.github.com");
    let namespace = &["filter_state", "downstream_peer", "namespace"][..];
    let label = &[
        "filter_state",
        "downstream_peer",
        "labels",
        "egress-ruleset",
    ][..];
    let app2 = "spiffe://cluster.local/ns/app2-ns/sa/app2";
    let rows: Vec<(&str, Fake, RequestOutcome)> = vec![
        (
            "another workload with app1's claim",
            to_github().with(&["connection", "uri_san_peer_certificate"], app2),
            denied("default", "seed"),
        ),
        (
            "app1 with another's claim",
            to_github().with(namespace, "app2-ns"),
            denied("facts_missing", "seed/apps/app1-github"),
        ),
        (
            "without labels",
            to_github().without(label),
            denied("default", "seed"),
        ),
        (
            "without claims",
            to_github().without(namespace),
            denied("facts_missing", "seed/apps/app1-github"),
        ),
        (
            "a label that is no text",
            to_github().with(label, b"\xff"),
            denied("facts_missing", "seed/apps/app1-github"),
        ),
        (
            "a label over its cap",
            to_github().with(label, vec![b'a'; 254]),
            denied("facts_missing", "seed/apps/app1-github"),
        ),
        (
            "where older Istio keeps claims",
            to_github()
                .without(namespace)
                .without(label)
                .with(&["downstream_peer", "namespace"], "app1-ns")
                .with(&["downstream_peer", "labels", "egress-ruleset"], "app1"),
            out("api.github.com:80"),
        ),
    ];
    for (what, fake, expected) in rows {
        let discarded = what.contains("claim") && what.contains("another");
        assert_eq!(judge(&fake, &http_configuration()), expected, "{what}");
        let counted = fake.metric("warden_claims_discarded");
        assert_eq!(counted, discarded.then_some(1), "{what}");
    }
}

#[test]
fn claims_in_headers_count_where_the_configuration_says_so() {
    let mut by_header = http_configuration();
    by_header["labels"] = json!("header");
    let text = |namespace: &str, labels: &str| {
        Fake::app1()
            .get("api.github.com", "warden-http")
            .header("x-egress-warden-namespace", namespace)
            .header("x-egress-warden-labels", labels)
    };
    let missing = || denied("facts_missing", "seed/apps/app1-github");
    let rows = [
        (
            text("app1-ns", "team=pay,egress-ruleset=app1"),
            out("api.github.com:80"),
        ),
        (
            text("app1-ns", "team=pay,egress-ruleset=app2"),
            denied("default", "seed"),
        ),
        // Listed without a value: the workload does not carry it.
        (
            text("app1-ns", "team=pay,egress-ruleset"),
            denied("default", "seed"),
        ),
        // Not listed: nobody knows.
        (text("app1-ns", "team=pay"), missing()),
        (
            text("app1-ns", "egress-ruleset=app1,egress-ruleset=app1"),
            missing(),
        ),
        (text("app2-ns", "egress-ruleset=app1"), missing()),
        (
            text("app1-ns", "egress-ruleset=app1").header("x-egress-warden-labels", "a=b"),
            missing(),
        ),
        (
            text("app1-ns", "egress-ruleset=app1").header("x-envoy-peer-metadata", "CgA="),
            missing(),
        ),
        (app1_to("api.github.com"), missing()),
    ];
    for (fake, expected) in rows {
        let labels = fake.request_header("x-egress-warden-labels");
        assert_eq!(judge(&fake, &by_header), expected, "{labels:?}");
    }
    // Where filter state is the source a header is nothing.
    let forged = text("app1-ns", "egress-ruleset=app1").without(&[
        "filter_state",
        "downstream_peer",
        "labels",
        "egress-ruleset",
    ]);
    assert_eq!(
        judge(&forged, &http_configuration()),
        denied("default", "seed")
    );
}

/// Istio's filter reads one of several metadata headers into filter state, and nothing says which:
/// also on a connection whose peer is known already.
#[test]
fn two_metadata_headers_are_no_claim() {
    let once = || app1_to("api.github.com").header("x-envoy-peer-metadata", "CgA=");
    let fake = once();
    assert_eq!(
        judge(&fake, &http_configuration()),
        out("api.github.com:80")
    );
    let twice = once().header("x-envoy-peer-metadata", "CgB=");
    let missing = denied("facts_missing", "seed/apps/app1-github");
    assert_eq!(judge(&twice, &http_configuration()), missing);

    let plugin = fake.plugin(&http_configuration());
    let warm = Http::new(Rc::clone(&plugin)).on_request_headers();
    assert_eq!(warm, Flow::Continue);
    // The first request's own header has been taken away.
    let doubled = ["CgA=", "CgB="]
        .into_iter()
        .fold(fake.clone(), |fake, value| {
            fake.header("x-envoy-peer-metadata", value)
        });
    assert_eq!(Http::new(plugin).on_request_headers(), Flow::Stop);
    assert_eq!(doubled.verdict().unwrap()["reason"], "facts_missing");
}

#[test]
fn words_of_the_mesh_do_not_leave_it() {
    let names = [
        "x-envoy-peer-metadata",
        "x-envoy-peer-metadata-id",
        "x-forwarded-client-cert",
        "x-envoy-original-dst-host",
        "x-egress-warden-namespace",
        "x-egress-warden-labels",
        "x-egress-warden-rule",
        "x-egress-warden-workload",
        "x-egress-warden-address",
    ];
    let fake = names
        .into_iter()
        .fold(app1_to("api.github.com"), |fake, name| {
            let fake = fake.header(name, "one");
            // Two of Istio's metadata are no claim.
            if name == "x-envoy-peer-metadata" {
                return fake;
            }
            fake.header(name, b"\xfftwo")
        })
        .header("x-other", "stays");
    assert_eq!(
        judge(&fake, &http_configuration()),
        out("api.github.com:80")
    );
    for name in names {
        assert!(fake.request_header(name).is_empty(), "{name}");
    }
    assert_eq!(fake.request_header("x-other").len(), 1);
}

#[test]
fn names_are_let_out_unchecked_only_in_writing() {
    let mut unchecked = http_configuration();
    unchecked["addressCheck"] = json!("none");
    unchecked.as_object_mut().unwrap().remove("addressClasses");
    let tiers = &mut unchecked["policies"][0]["spec"]["tiers"];
    tiers.as_array_mut().unwrap().remove(0);
    let fake = app1_to("api.github.com");
    let host = Some("api.github.com:80".to_owned());
    let expected = RequestOutcome::Out("unchecked".to_owned(), host);
    assert_eq!(judge(&fake, &unchecked), expected);
    assert_eq!(
        fake.metric("warden_verdicts.accept.rule.seed/apps/app1-github"),
        Some(1)
    );
    // Then Istio's clusters may lead to names too.
    let fake = Fake::app1().get("api.github.com", "outbound|80||api.github.com");
    let expected = RequestOutcome::Out("unchecked".to_owned(), None);
    assert_eq!(judge(&fake, &unchecked), expected);

    unchecked.as_object_mut().unwrap().remove("addressCheck");
    let expected = denied("address_unchecked", "seed/apps/app1-github");
    assert_eq!(judge(&app1_to("api.github.com"), &unchecked), expected);
}

/// A private name of app1's, and networks that app1 alone may not reach by `partner.example`.
fn with_classes() -> Value {
    let mut configuration = http_configuration();
    let app1 = json!([{"namespaces": ["app1-ns"]}]);
    let rule = |name: &str, to: Value, action: &str| json!({"name": name, "from": app1, "to": [to], "action": action});
    let rules = &mut configuration["policies"][0]["spec"]["tiers"][1]["rules"];
    rules.as_array_mut().unwrap().extend([
        rule(
            "vault",
            json!({"domainNames": ["vault.example"], "ports": [80], "allowPrivate": true}),
            "Accept",
        ),
        rule(
            "no-test-net",
            json!({"networks": ["198.51.100.0/24"], "ports": [80]}),
            "Deny",
        ),
        rule(
            "partner",
            json!({"domainNames": ["partner.example"], "ports": [80, 22]}),
            "Accept",
        ),
    ]);
    configuration["addressClasses"] = json!([
        {"name": "plain", "allowPrivate": false, "refused": []},
        {"name": "inside", "allowPrivate": true, "refused": []},
        {"name": "less", "allowPrivate": false, "refused": ["198.51.100.0/24"]},
    ]);
    configuration
}

#[test]
fn a_verdict_names_its_class() {
    let rows = [
        ("api.github.com", "plain"),
        ("vault.example", "inside"),
        ("partner.example", "less"),
    ];
    let configuration = with_classes();
    let fake = Fake::app1();
    let plugin = fake.plugin(&configuration);
    for round in 0..2 {
        for (name, class) in rows {
            let fake = fake.clone().forget_headers().get(name, "warden-http");
            let flow = Http::new(Rc::clone(&plugin)).on_request_headers();
            let expected = RequestOutcome::Out(class.to_owned(), Some(format!("{name}:80")));
            assert_eq!(outcome(&fake, flow), expected, "round {round}");
        }
    }
    // On another port the Deny is none, and the class another.
    let fake = Fake::app1().connect("partner.example:22", "warden-tcp");
    assert_eq!(judge(&fake, &configuration), out("partner.example:22"));
}

#[test]
fn a_class_that_the_gateway_does_not_have_is_closed() {
    for (class, name) in [
        ("inside", "vault.example"),
        ("less", "partner.example"),
        ("plain", "api.github.com"),
    ] {
        let mut configuration = with_classes();
        let classes = configuration["addressClasses"].as_array_mut().unwrap();
        classes.retain(|one| one["name"] != class);
        let denied = denied("route_mismatch", "");
        assert_eq!(judge(&app1_to(name), &configuration), denied, "{name}");
    }
}

#[test]
fn the_route_is_chosen_anew() {
    for (what, fake, expected) in [
        ("nothing to remove", app1_to("api.github.com"), 1),
        (
            "one header",
            app1_to("api.github.com").header("x-envoy-peer-metadata", "CgA="),
            1,
        ),
        (
            "two headers",
            app1_to("api.github.com")
                .header("x-envoy-peer-metadata", "CgA=")
                .header("x-forwarded-client-cert", "x"),
            2,
        ),
        (
            "all that a client can think of",
            MESH_HEADERS
                .iter()
                .fold(app1_to("api.github.com"), |fake, name| {
                    fake.header(name, "x")
                }),
            1,
        ),
        (
            "a tunnel",
            Fake::app1().connect("203.0.113.7:22", "warden-tcp"),
            1,
        ),
    ] {
        judge(&fake, &http_configuration());
        let calls = fake.calls();
        let reroutes = |call: &&String| {
            call.starts_with("remove ") || *call == "set headers" || *call == "clear route cache"
        };
        assert_eq!(
            calls.iter().filter(reroutes).count(),
            expected,
            "{what}: {calls:?}"
        );
        for name in MESH_HEADERS {
            assert!(fake.request_header(name).is_empty(), "{what}: {name}");
        }
    }
}

#[test]
fn an_accepted_request_on_a_warm_connection_takes_few_host_calls() {
    for (what, sidecars_headers, most) in [
        ("nothing to remove", &[][..], 5),
        ("one header", &["x-envoy-peer-metadata"], 5),
        (
            "two headers",
            &["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"],
            6,
        ),
        ("every header of the mesh", &MESH_HEADERS, 5),
    ] {
        let fake =
            app1_to("api.github.com").with(&["filter_state", "warden.position"], "7 warden-http");
        let mut configuration = http_configuration();
        configuration["logAccepts"] = json!(0);
        let plugin = fake.plugin(&configuration);
        for warm in [false, true] {
            for name in sidecars_headers {
                fake.clone().header(name, "CgA=");
            }
            fake.forget_calls();
            let flow = Http::new(Rc::clone(&plugin)).on_request_headers();
            assert_eq!(flow, Flow::Continue, "{what}");
            let calls = fake.calls();
            assert!(!warm || calls.len() <= most, "{what}: {calls:#?}");
        }
        // Both are counted, the second at the next tick.
        let counter = "warden_verdicts.accept.rule.seed/apps/app1-github";
        assert_eq!(fake.metric(counter), Some(1));
        plugin.tick();
        assert_eq!(fake.metric(counter), Some(2));
    }
}

#[test]
fn a_tunnel_on_a_warm_connection_takes_at_most_six_host_calls() {
    for (what, fake, position) in [
        (
            "opaque",
            Fake::app1().connect("203.0.113.7:22", "warden-tcp"),
            "7 warden-tcp",
        ),
        (
            "inward",
            Fake::app1().connect("140.82.112.5:443", "warden-tls-inner"),
            "7 warden-tls-inner",
        ),
    ] {
        let fake = fake.with(&["filter_state", "warden.position"], position);
        let mut configuration = http_configuration();
        configuration["logAccepts"] = json!(0);
        let plugin = fake.plugin(&configuration);
        let warm = Http::new(Rc::clone(&plugin)).on_request_headers();
        assert_eq!(warm, Flow::Continue, "{what}");
        fake.forget_calls();
        let flow = Http::new(plugin).on_request_headers();
        let calls = fake.calls();
        assert_eq!(flow, Flow::Continue, "{what}");
        assert!(calls.len() <= 6, "{what}: {calls:#?}");
    }
}

/// Calls on which no verdict rests: counting, logging, and the key of the memory of peers.
fn is_bookkeeping(call: &str) -> bool {
    call.ends_with("metric")
        || matches!(
            call,
            "log" | "property connection.id" | "property filter_state.warden.position"
        )
}

#[test]
fn whichever_host_call_fails_nothing_is_let_out_that_is_not_known() {
    type Request = fn() -> Fake;
    let requests: [(&str, Request); 4] = [
        ("a name", || app1_to("until.example")),
        ("an address", || app1_to("203.0.113.9")),
        ("an opaque tunnel", || {
            Fake::app1().connect("203.0.113.7:22", "warden-tcp")
        }),
        ("inward", || {
            Fake::app1().connect("140.82.112.5:443", "warden-tls-inner")
        }),
    ];
    for (what, request) in requests {
        let request = || request().header("x-envoy-peer-metadata", "CgA=");
        let fake = request();
        judge(&fake, &http_configuration());
        let calls = fake.calls();
        assert!(calls.len() > 5, "{what}");
        for (index, call) in calls.iter().enumerate() {
            for fails in [Fails::Call(index), Fails::From(index)] {
                let fake = request();
                let plugin = fake.plugin(&http_configuration());
                fake.fail(fails);
                let flow = Http::new(plugin).on_request_headers();
                let rest = &calls[index..];
                let harmless = rest.iter().all(|call| is_bookkeeping(call))
                    || (is_bookkeeping(call) && fails == Fails::Call(index));
                let token = fake.token();
                let open = flow == Flow::Continue
                    && token
                        .as_deref()
                        .is_some_and(|token| token.starts_with("accept:"));
                let expected = harmless && what != "inward";
                assert_eq!(open, expected, "{what}: {fails:?} `{call}`");
                if flow == Flow::Stop {
                    let forwarded = token.as_deref() == Some("forward");
                    assert!(!forwarded, "{what}: {fails:?} `{call}`");
                }
            }
        }
    }
}

#[test]
fn a_denial_says_who_what_which_and_how() {
    let fake = app1_to("github.com").header("accept", "text/html, application/json;q=0.9");
    judge(&fake, &http_configuration());
    let response = fake.response().unwrap();
    let body: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(body["workload"], crate::fake::APP1);
    assert_eq!(body["destination"], "github.com:80");
    assert_eq!(crate::fake::rule_path(&body), "seed");
    assert_eq!(body["reason"], "default");
    assert!(body["ask"].as_str().unwrap().contains("`seed`"));
    assert_eq!(response.details, "warden_default");
    assert_eq!(response.grpc_status, 7);
    assert_eq!(
        fake.state("warden_ruling").as_deref(),
        Some("seed (default)")
    );
}

/// Trailers pass, without the word by which the gateway tells its own denials.
#[test]
fn no_server_says_in_trailers_that_the_gateway_denied() {
    let fake = app1_to("api.github.com");
    let plugin = fake.plugin(&http_configuration());
    let http = Http::new(plugin);
    assert_eq!(http.on_request_headers(), Flow::Continue);
    fake.forget_calls();
    assert_eq!(http.on_answer_trailers(), Flow::Continue);
    let calls = fake.calls();
    let removed = "remove trailer x-egress-warden-denied";
    assert!(calls.iter().any(|call| call == removed), "{calls:?}");
}

#[test]
fn a_connection_keeps_its_peer_and_no_request_another_s() {
    let fake = app1_to("api.github.com");
    let plugin = fake.plugin(&http_configuration());
    assert_eq!(
        Http::new(Rc::clone(&plugin)).on_request_headers(),
        Flow::Continue
    );
    // Another connection of the same worker, from another workload.
    let other = fake
        .clone()
        .with(&["connection", "id"], 8_u64.to_le_bytes())
        .with(
            &["connection", "uri_san_peer_certificate"],
            "spiffe://cluster.local/ns/app2-ns/sa/app2",
        );
    assert_eq!(Http::new(plugin).on_request_headers(), Flow::Stop);
    assert_eq!(
        other.verdict().unwrap()["workload"],
        "spiffe://cluster.local/ns/app2-ns/sa/app2"
    );
}

/// Names under `saas.example` and addresses in 198.51.100.0/24 are to be inspected.
fn inspecting() -> Value {
    let mut configuration = http_configuration();
    configuration["inspection"] = json!([
        {"name": "dlp", "cluster": "warden-inspect-dlp"},
        {"name": "ids", "cluster": "warden-inspect-ids"},
    ]);
    let rules = &mut configuration["policies"][0]["spec"]["tiers"][1]["rules"];
    let rules = rules.as_array_mut().unwrap();
    rules.push(json!({
        "name": "scan", "to": [{"domainNames": ["*.saas.example"], "ports": [80, 443]}],
        "action": "Inspect", "inspection": "dlp",
    }));
    rules.push(json!({
        "name": "hosts", "to": [{"networks": ["198.51.100.0/24"]}],
        "action": "Inspect", "inspection": "ids",
    }));
    configuration
}

#[test]
fn what_is_to_be_inspected_goes_to_its_proxy_and_nothing_else_does() {
    let proxy =
        |name: &str, class: &str| RequestOutcome::Inspection(name.to_owned(), class.to_owned());
    let tunnel = |authority, cluster| Fake::app1().connect(authority, cluster);
    let rows = [
        (app1_to("crm.saas.example"), proxy("dlp", "plain")),
        (app1_to("CRM.saas.example.:80"), proxy("dlp", "plain")),
        (app1_to("198.51.100.7"), proxy("ids", "literal")),
        (app1_to("saas.example"), denied("default", "seed")),
        (app1_to("api.github.com"), out("api.github.com:80")),
        (
            tunnel("198.51.100.7:22", "warden-tcp"),
            proxy("ids", "literal"),
        ),
        (
            tunnel("crm.saas.example:443", "warden-tcp"),
            proxy("dlp", "plain"),
        ),
        // Istio's own cluster resolves by itself.
        (
            Fake::app1().get("crm.saas.example", "outbound|80||crm.saas.example"),
            denied("address_unchecked", ""),
        ),
        // The inner listener sees the name, and chooses.
        (
            tunnel("198.51.100.7:443", "warden-tls-inner"),
            RequestOutcome::Inward,
        ),
        (
            tunnel("crm.saas.example:443", "warden-tls-inner"),
            RequestOutcome::Inward,
        ),
        // The route to an inspection proxy is none that a verdict is sought for.
        (
            Fake::app1().get("api.github.com", "warden-inspect-dlp"),
            denied("route_mismatch", ""),
        ),
    ];
    for (fake, expected) in rows {
        let authority = fake.request_header(":authority");
        assert_eq!(judge(&fake, &inspecting()), expected, "{authority:?}");
    }
}

#[test]
fn what_a_cluster_of_its_own_speaks_tls_to_is_not_inspected() {
    let mut configuration = inspecting();
    let ports = configuration["ports"].as_array_mut().unwrap();
    ports.push(json!({
        "cluster": "originate", "protocol": "HTTP", "port": 443, "hosts": ["*.saas.example"],
    }));
    let fake = Fake::app1().get("crm.saas.example", "originate");
    assert_eq!(judge(&fake, &configuration), denied("route_mismatch", ""));
    assert_eq!(fake.state("warden_inspection_proxy"), None);
}

#[test]
fn the_inspection_proxy_is_told_the_destination_and_the_rule() {
    let fake = app1_to("CRM.saas.example").header("x-egress-warden-rule", "forged");
    judge(&fake, &inspecting());
    let told = |name| fake.state(name).unwrap_or_default();
    assert_eq!(told("warden_rule"), "seed/apps/scan");
    assert_eq!(told("warden_workload"), crate::fake::APP1);
    assert_eq!(told("warden_destination"), "crm.saas.example:80");
    assert_eq!(fake.dynamic_host().as_deref(), Some("crm.saas.example:80"));
    assert!(fake.request_header("x-egress-warden-rule").is_empty());
    assert_eq!(fake.verdict().unwrap()["action"], "Inspect");

    let fake = Fake::app1()
        .connect("198.51.100.7:22", "warden-tcp")
        .header("x-egress-warden-labels", "a=b");
    judge(&fake, &inspecting());
    assert_eq!(
        fake.state("warden_rule").as_deref(),
        Some("seed/apps/hosts")
    );
    assert!(fake.request_header("x-egress-warden-labels").is_empty());
    assert_eq!(fake.verdict().unwrap()["action"], "Inspect");
}

#[test]
fn whichever_host_call_fails_nothing_to_be_inspected_goes_on() {
    type Request = fn() -> Fake;
    let requests: [Request; 2] = [
        || app1_to("198.51.100.7"),
        || Fake::app1().connect("198.51.100.7:22", "warden-tcp"),
    ];
    for request in requests {
        let request = || request().header("x-egress-warden-rule", "forged");
        let fake = request();
        judge(&fake, &inspecting());
        let calls = fake.calls();
        assert!(calls.len() > 6);
        for (index, call) in calls.iter().enumerate() {
            let fake = request();
            let plugin = fake.plugin(&inspecting());
            fake.fail(Fails::Call(index));
            let flow = Http::new(plugin).on_request_headers();
            // Labels are nothing to this rule.
            let harmless = is_bookkeeping(call) || call.contains("downstream_peer");
            assert_eq!(flow == Flow::Continue, harmless, "{call}");
        }
    }
}
