use serde_json::{Value, json};

use super::*;
use crate::fake::{APP1, Fails, Fake, configuration, http_configuration};
use crate::hello::tests::{message, name_extension, records, stream};
use crate::http::Http;

const SNI: &[&str] = &["connection", "requested_server_name"];
const CLUSTER: &[&str] = &["xds", "cluster_name"];

fn inner() -> Value {
    let ports = json!([{"cluster": "warden-tls", "protocol": "TLS", "port": 443}]);
    configuration("network", &ports)
}

fn direct() -> Value {
    configuration(
        "network",
        &json!([{
            "cluster": "outbound|22||partner.example", "protocol": "TCP", "port": 22,
            "host": "203.0.113.7",
        }]),
    )
}

/// What the CONNECT context hands inward for app1 and this dialled authority.
fn facts(authority: &str) -> Vec<u8> {
    let fake = Fake::app1().connect(authority, "warden-tls-inner");
    let plugin = fake.plugin(&http_configuration());
    assert_eq!(Http::new(plugin).on_request_headers(), Flow::Continue);
    fake.carried().unwrap().into_bytes()
}

/// A connection out of app1's tunnel to `authority`, whose ClientHello Envoy reads as `sni`.
pub(crate) fn out_of_tunnel(authority: &str, sni: &str) -> Fake {
    Fake::default().carrying(&facts(authority)).with(SNI, sni)
}

/// Envoy has taken the route that it was told.
fn connected(fake: Fake) -> Fake {
    let chosen = fake.tcp_cluster().unwrap_or_default();
    fake.with(CLUSTER, chosen)
}

fn code(fake: &Fake) -> String {
    let line = fake.verdict().expect("a verdict");
    format!(
        "{} {}",
        line["action"].as_str().unwrap(),
        line["reason"].as_str().unwrap()
    )
}

fn is_open(fake: &Fake) -> bool {
    fake.token()
        .is_some_and(|token| token.starts_with("accept:"))
}

#[test]
fn tls_in_a_tunnel_is_judged_by_its_name_before_anything_is_resolved() {
    let refused = |reason: &str| {
        let path = [
            "metadata",
            "filter_metadata",
            "envoy.filters.listener.tls_inspector",
        ];
        out_of_tunnel("140.82.112.5:443", "")
            .with(&[&path[..], &["failure_reason"]].concat(), reason)
    };
    let rows = [
        (
            "an allowed name",
            out_of_tunnel("140.82.112.5:443", "api.github.com"),
            None,
        ),
        (
            "the apex",
            out_of_tunnel("140.82.112.5:443", "github.com"),
            Some("Deny default"),
        ),
        (
            "another name",
            out_of_tunnel("140.82.112.5:443", "evil.example"),
            Some("Deny default"),
        ),
        (
            "the dialled name",
            out_of_tunnel("api.github.com:443", "api.github.com"),
            None,
        ),
        (
            "a name below the dialled one",
            out_of_tunnel("api.github.com:443", "x.api.github.com"),
            Some("Deny sni_mismatch"),
        ),
        (
            "no name",
            out_of_tunnel("140.82.112.5:443", ""),
            Some("Deny sni_missing"),
        ),
        (
            "no hello",
            refused("ClientHelloNotDetected"),
            Some("Deny hello_malformed"),
        ),
        (
            "too long a hello",
            refused("ClientHelloTooLarge"),
            Some("Deny hello_too_long"),
        ),
        (
            "an address as a name",
            out_of_tunnel("140.82.112.5:443", "140.82.112.5"),
            Some("Deny address_form"),
        ),
        (
            "a name that is none",
            out_of_tunnel("140.82.112.5:443", "a,b.github.com"),
            Some("Deny name_malformed"),
        ),
        (
            "a port that no cluster here carries",
            out_of_tunnel("140.82.112.5:80", "api.github.com"),
            Some("Deny route_mismatch"),
        ),
    ];
    for (what, fake, denied) in rows {
        let plugin = fake.plugin(&inner());
        let mut connection = Network::new(plugin, 1);
        let flow = connection.on_new_connection();
        assert!(
            !is_open(&fake),
            "{what}: nothing is open before the hello was read"
        );
        match denied {
            None => {
                assert_eq!((flow, fake.closed()), (Flow::Continue, false), "{what}");
                for name in ["warden_host", "warden_resolve_plain"] {
                    assert_eq!(
                        fake.state(name).as_deref(),
                        Some("api.github.com"),
                        "{what}"
                    );
                }
                assert_eq!(fake.dynamic_port().as_deref(), Some("443"), "{what}");
                assert_eq!(
                    fake.tcp_cluster().as_deref(),
                    Some("warden-tls-plain"),
                    "{what}"
                );
            }
            Some(expected) => {
                assert_eq!((flow, fake.closed()), (Flow::Stop, true), "{what}");
                assert_eq!(code(&fake), expected, "{what}");
                assert_eq!(fake.state("warden_resolve_plain"), None, "{what}");
                assert_eq!(fake.tcp_cluster(), None, "{what}");
            }
        }
    }
}

#[test]
fn tls_in_a_tunnel_opens_when_its_hello_is_good() {
    let ech = |name: &str| {
        let extensions = [name_extension(name.as_bytes()), (0xfe0d, vec![0; 40])];
        records(&message(Some(&extensions)), 16_384)
    };
    let hello = || stream("api.github.com");
    let nameless = records(&message(None), 16_384);
    let long = records(&message(Some(&[(21, vec![0; 17_000])])), 16_384);
    let rows = [
        ("good", hello(), "Accept rule"),
        ("upper case", stream("API.GitHub.com"), "Accept rule"),
        ("ECH", ech("api.github.com"), "Accept rule"),
        ("no hello", b"SSH-2.0-x".to_vec(), "Deny hello_malformed"),
        (
            "not Envoy's name",
            stream("x.github.com"),
            "Deny sni_mismatch",
        ),
        ("not even a name", nameless, "Deny sni_mismatch"),
        ("too long", long, "Deny hello_too_long"),
    ];
    for (what, bytes, expected) in rows {
        let fake = out_of_tunnel("140.82.112.5:443", "api.github.com");
        let mut connection = Network::new(fake.plugin(&inner()), 1);
        assert_eq!(connection.on_new_connection(), Flow::Continue, "{what}");
        // Only now Envoy chooses its cluster, resolves and connects.
        let fake = connected(fake);
        let size = fake.hold(&bytes);
        let flow = connection.on_downstream_data(size);
        assert_eq!(code(&fake), expected, "{what}");
        let accepted = expected.starts_with("Accept");
        assert_eq!(is_open(&fake), accepted, "{what}");
        assert_eq!(flow == Flow::Continue, accepted, "{what}");
        assert_eq!(fake.closed(), !accepted, "{what}");
        // The verdict stands, whatever comes.
        assert_eq!(connection.on_downstream_data(1), flow, "{what}");
        assert_eq!(connection.on_upstream_data(100_000), flow, "{what}");
        assert_eq!(fake.verdicts().len(), 1, "{what}");
    }
}

#[test]
fn tls_in_a_tunnel_leaves_by_a_cluster_for_tls_alone() {
    for (cluster, open) in [
        ("warden-tls-plain", true),
        // Another class's, none's, and another kind of cluster.
        ("warden-tls-inside", false),
        ("warden-tls", false),
        ("warden-tcp-plain", false),
        ("BlackHoleCluster", false),
        ("", false),
    ] {
        let fake = out_of_tunnel("140.82.112.5:443", "api.github.com");
        let mut connection = Network::new(fake.plugin(&inner()), 1);
        assert_eq!(connection.on_new_connection(), Flow::Continue);
        let fake = fake.with(CLUSTER, cluster);
        let size = fake.hold(&stream("api.github.com"));
        let _ = connection.on_downstream_data(size);
        assert_eq!(is_open(&fake), open, "{cluster}");
    }
}

#[test]
fn ech_is_refused_where_the_configuration_says_so() {
    let mut configuration = inner();
    configuration["refuseEch"] = json!(true);
    let fake = out_of_tunnel("140.82.112.5:443", "api.github.com");
    let mut connection = Network::new(fake.plugin(&configuration), 1);
    let _ = connection.on_new_connection();
    let fake = connected(fake);
    let extensions = [name_extension(b"api.github.com"), (0xfe0d, vec![0; 40])];
    let size = fake.hold(&records(&message(Some(&extensions)), 16_384));
    assert_eq!(connection.on_downstream_data(size), Flow::Stop);
    assert_eq!(code(&fake), "Deny ech_refused");
}

#[test]
fn a_hello_may_come_octet_by_octet_and_nothing_passes_before_its_end() {
    let fake = out_of_tunnel("140.82.112.5:443", "api.github.com");
    let mut connection = Network::new(fake.plugin(&inner()), 1);
    let _ = connection.on_new_connection();
    let fake = connected(fake);
    let stream = records(&message(Some(&[name_extension(b"api.github.com")])), 1);
    let (last, first) = stream.split_last().unwrap();
    for byte in first {
        let size = fake.hold(&[*byte]);
        assert_eq!(connection.on_downstream_data(size), Flow::Stop);
        assert!(!is_open(&fake) && !fake.closed());
    }
    let size = fake.hold(&[*last]);
    assert_eq!(connection.on_downstream_data(size), Flow::Continue);
    assert!(is_open(&fake));
}

#[test]
fn what_comes_inward_without_facts_is_no_tls_of_ours() {
    for facts in [&b""[..], b"-", b"{}", b"\xff", br#"{"protocol":"TLS"}"#] {
        let fake = Fake::app1().carrying(facts).with(SNI, "api.github.com");
        let mut connection = Network::new(fake.plugin(&inner()), 1);
        assert_eq!(
            connection.on_new_connection(),
            Flow::Stop,
            "{}",
            facts.escape_ascii()
        );
        assert_eq!(code(&fake), "Deny engine_error");
    }
    // Facts of requests are not facts of TLS.
    let facts = facts("140.82.112.5:443");
    let facts = String::from_utf8(facts).unwrap().replace("TLS", "HTTP");
    let fake = Fake::default()
        .carrying(facts.as_bytes())
        .with(SNI, "api.github.com");
    let mut connection = Network::new(fake.plugin(&inner()), 1);
    assert_eq!(connection.on_new_connection(), Flow::Stop);
    assert_eq!(code(&fake), "Deny route_mismatch");
}

/// A chain of its own: at accept, nothing is known of the caller.
fn on_chain() -> Fake {
    Fake::default()
}

fn certificate(fake: Fake, uri: &str) -> Fake {
    fake.with(&["connection", "mtls"], [1])
        .with(&["connection", "uri_san_peer_certificate"], uri)
        .with(CLUSTER, "outbound|22||partner.example")
}

#[test]
fn on_a_chain_facts_come_one_by_one() {
    let fake = on_chain();
    let mut connection = Network::new(fake.plugin(&direct()), 1);
    assert_eq!(connection.on_new_connection(), Flow::Continue);
    // The banner comes with the certificate, before the labels.
    let fake = certificate(fake, APP1);
    assert_eq!(connection.on_upstream_data(20), Flow::Continue);
    assert!(!is_open(&fake) && fake.verdict().is_none());
    // The preamble has been read, and the client's first bytes are there.
    let fake = fake.labelled("app1-ns", &[("egress-ruleset", "app1")]);
    assert_eq!(connection.on_downstream_data(20), Flow::Continue);
    assert!(is_open(&fake));
    assert_eq!(code(&fake), "Accept rule");
    assert_eq!(connection.on_upstream_data(1_000_000), Flow::Continue);
}

#[test]
fn on_a_chain_a_denial_falls_as_early_as_the_facts_allow() {
    // By the certificate alone: no rule is for app2, so no label could help it.
    let fake = on_chain();
    let mut connection = Network::new(fake.plugin(&direct()), 1);
    assert_eq!(connection.on_new_connection(), Flow::Continue);
    let fake = certificate(fake, "spiffe://cluster.local/ns/app2-ns/sa/app2");
    assert_eq!(connection.on_upstream_data(20), Flow::Stop);
    assert!(fake.closed());
    assert_eq!(code(&fake), "Deny default");
    assert_eq!(connection.on_downstream_data(10), Flow::Stop);

    // At accept, where no rule leads to the only destination there is.
    let mut configuration = direct();
    configuration["ports"][0]["host"] = json!("203.0.113.8");
    let fake = on_chain();
    let mut connection = Network::new(fake.plugin(&configuration), 1);
    assert_eq!(connection.on_new_connection(), Flow::Stop);
    assert!(fake.closed());
}

#[test]
fn on_a_chain_client_bytes_end_the_waiting() {
    let app1 = || certificate(on_chain(), APP1);
    let good = || app1().labelled("app1-ns", &[("egress-ruleset", "app1")]);
    let rows: Vec<(&str, Fake, &str)> = vec![
        ("everything known", good(), "Accept rule"),
        ("no claims came", app1(), "Deny facts_missing"),
        (
            "another's claims",
            app1().labelled("app2-ns", &[]),
            "Deny facts_missing",
        ),
        ("no label", app1().labelled("app1-ns", &[]), "Deny default"),
        (
            "plaintext",
            good()
                .with(&["connection", "mtls"], [0])
                .without(&["connection", "uri_san_peer_certificate"]),
            "Deny no_identity",
        ),
        (
            "another cluster",
            good().with(CLUSTER, "BlackHoleCluster"),
            "Deny route_mismatch",
        ),
    ];
    for (what, fake, expected) in rows {
        let mut connection = Network::new(fake.plugin(&direct()), 1);
        let flow = connection.on_downstream_data(10);
        assert_eq!(code(&fake), expected, "{what}");
        let accepted = expected.starts_with("Accept");
        assert_eq!(is_open(&fake), accepted, "{what}");
        assert_eq!(flow == Flow::Continue, accepted, "{what}");
    }
}

#[test]
fn before_an_http_connection_manager_nothing_passes() {
    // No cluster is ever chosen there, and more than one could be meant.
    let mut configuration = direct();
    let other = json!({"cluster": "warden-tcp", "protocol": "TCP"});
    configuration["ports"].as_array_mut().unwrap().push(other);
    let fake = Fake::app1();
    let mut connection = Network::new(fake.plugin(&configuration), 1);
    assert_eq!(connection.on_new_connection(), Flow::Continue);
    assert_eq!(connection.on_downstream_data(100), Flow::Stop);
    assert!(fake.closed() && !is_open(&fake));
    assert_eq!(code(&fake), "Deny route_mismatch");
}

#[test]
fn a_server_says_little_before_the_verdict() {
    let fake = certificate(on_chain(), APP1);
    let mut connection = Network::new(fake.plugin(&direct()), 1);
    let _ = connection.on_new_connection();
    assert_eq!(
        connection.on_upstream_data(MAX_SERVER_BYTES - 1),
        Flow::Continue
    );
    assert_eq!(connection.on_upstream_data(1), Flow::Continue);
    assert_eq!(connection.on_upstream_data(1), Flow::Stop);
    assert!(fake.closed());
    assert_eq!(code(&fake), "Deny undecided_limit");
}

#[test]
fn a_connection_waits_fifteen_seconds_and_no_longer() {
    let fake = certificate(on_chain(), APP1);
    let plugin = fake.plugin(&direct());
    let mut slow = Network::new(Rc::clone(&plugin), 1);
    let mut gone = Network::new(Rc::clone(&plugin), 2);
    assert_eq!(slow.on_new_connection(), Flow::Continue);
    assert_eq!(gone.on_new_connection(), Flow::Continue);
    drop(gone);
    for _ in 0..15 {
        plugin.tick();
        assert!(!fake.closed());
    }
    // A banner in between does not begin the wait anew.
    assert_eq!(slow.on_upstream_data(20), Flow::Continue);
    plugin.tick();
    assert!(fake.closed());
    assert_eq!(code(&fake), "Deny undecided_limit");
    assert_eq!(
        fake.verdicts().len(),
        1,
        "the one that had gone is forgotten"
    );
    plugin.tick();
    assert_eq!(fake.verdicts().len(), 1, "and this one ended once");
    // Bytes that were already on their way stay where they are.
    assert_eq!(slow.on_downstream_data(20), Flow::Stop);
    assert_eq!(slow.on_upstream_data(20), Flow::Stop);
    assert!(!is_open(&fake));
}

#[test]
fn a_decided_connection_is_not_ended() {
    let fake = certificate(Fake::app1(), APP1);
    let plugin = fake.plugin(&direct());
    let mut connection = Network::new(Rc::clone(&plugin), 1);
    let _ = connection.on_new_connection();
    assert_eq!(connection.on_downstream_data(1), Flow::Continue);
    (0..100).for_each(|_| plugin.tick());
    assert!(!fake.closed());
}

/// Calls on which no verdict rests.
fn is_bookkeeping(call: &str) -> bool {
    call.ends_with("metric") || call == "log"
}

#[test]
fn whichever_host_call_fails_nothing_opens_that_is_not_known() {
    type Start = fn() -> (Fake, Value);
    type Later = fn(Fake) -> Fake;
    let starts: [(&str, Start, Later); 2] = [
        (
            "inner",
            || (out_of_tunnel("140.82.112.5:443", "api.github.com"), inner()),
            connected,
        ),
        (
            "chain",
            || (on_chain(), direct()),
            |fake| certificate(fake, APP1).labelled("app1-ns", &[("egress-ruleset", "app1")]),
        ),
    ];
    for (what, start, later) in starts {
        let run = |fails: Fails| {
            let (fake, configuration) = start();
            let mut connection = Network::new(fake.plugin(&configuration), 1);
            fake.fail(fails);
            let mut flow = connection.on_new_connection();
            let at_accept = fake.calls().len();
            if flow == Flow::Continue {
                let fake = later(fake.clone());
                let size = fake.hold(&stream("api.github.com"));
                flow = connection.on_downstream_data(size);
            }
            (flow, fake, at_accept)
        };
        let (flow, fake, at_accept) = run(Fails::Never);
        assert_eq!(flow, Flow::Continue, "{what}");
        let calls = fake.calls();
        assert!(calls.len() > 8, "{what}: {calls:?}");
        for (index, call) in calls.iter().enumerate() {
            let (flow, fake, _) = run(Fails::Call(index));
            // What could not be read at accept is read again at the first data.
            let read_again = (index < at_accept && call.starts_with("property"))
                || calls[index + 1..].contains(call);
            let harmless = is_bookkeeping(call) || read_again;
            assert!(
                flow == Flow::Stop || harmless,
                "{what}: open although `{call}` failed"
            );
            assert_eq!(is_open(&fake), flow == Flow::Continue, "{what}: {call}");

            let (flow, ..) = run(Fails::From(index));
            let decided = calls[index..].iter().all(|call| is_bookkeeping(call));
            assert_eq!(flow == Flow::Continue, decided, "{what}: from `{call}` on");
        }
    }
}

/// As [`inner`], with an inspection proxy for what is under `saas.example`.
fn inspecting() -> Value {
    let mut configuration = inner();
    configuration["inspection"] = json!([
        {"name": "dlp", "cluster": "warden-inspect-dlp"},
        {"name": "ids", "cluster": "warden-inspect-ids"},
    ]);
    let tiers = &mut configuration["policies"][0]["spec"]["tiers"];
    let rules = tiers[1]["rules"].as_array_mut().unwrap();
    rules.push(json!({
        "name": "scan", "to": [{"domainNames": ["*.saas.example"]}],
        "action": "Inspect", "inspection": "dlp",
    }));
    configuration
}

/// What the CONNECT context hands inward for app1 and this dialled address under this policy.
fn to_inspect(sni: &str) -> Fake {
    let mut configuration = http_configuration();
    let inspecting = inspecting();
    for field in ["inspection", "policies"] {
        configuration[field] = inspecting[field].clone();
    }
    let fake = Fake::app1().connect("198.51.100.7:443", "warden-tls-inner");
    let plugin = fake.plugin(&configuration);
    assert_eq!(Http::new(plugin).on_request_headers(), Flow::Continue);
    let facts = fake.carried().unwrap();
    Fake::default().carrying(facts.as_bytes()).with(SNI, sni)
}

#[test]
fn tls_goes_through_its_inspection_proxy_and_its_class() {
    let (dlp, plain) = ("warden-inspect-dlp-plain", "warden-tls-plain");
    let rows = [
        ("crm.saas.example", dlp, "Inspect rule"),
        // Envoy has taken another route than it was told.
        ("crm.saas.example", plain, "Deny route_mismatch"),
        (
            "crm.saas.example",
            "warden-inspect-dlp",
            "Deny route_mismatch",
        ),
        (
            "crm.saas.example",
            "warden-inspect-dlp-inside",
            "Deny route_mismatch",
        ),
        (
            "crm.saas.example",
            "warden-inspect-ids-plain",
            "Deny route_mismatch",
        ),
        ("api.github.com", dlp, "Deny route_mismatch"),
        ("api.github.com", plain, "Accept rule"),
    ];
    for (name, cluster, expected) in rows {
        let what = format!("{name} by {cluster}");
        let fake = to_inspect(name);
        let mut connection = Network::new(fake.plugin(&inspecting()), 1);
        assert_eq!(connection.on_new_connection(), Flow::Continue, "{what}");
        let inspected = name == "crm.saas.example";
        let told = if inspected { dlp } else { plain };
        assert_eq!(fake.tcp_cluster().as_deref(), Some(told), "{what}");
        assert_eq!(fake.state("warden_rule").is_some(), inspected, "{what}");
        let resolved = fake.state("warden_resolve_plain");
        assert_eq!(resolved.as_deref(), Some(name), "{what}");
        let fake = fake.with(CLUSTER, cluster);
        let size = fake.hold(&stream(name));
        let flow = connection.on_downstream_data(size);
        assert_eq!(code(&fake), expected, "{what}");
        let denied = expected.starts_with("Deny");
        assert_eq!(
            (flow == Flow::Stop, fake.closed()),
            (denied, denied),
            "{what}"
        );
        let token = if denied {
            "deny"
        } else if inspected {
            "inspect:dlp:plain"
        } else {
            "accept:plain"
        };
        assert_eq!(fake.token().as_deref(), Some(token), "{what}");
    }
}

/// A change of a configuration, and what it is.
type Change<'c> = (&'static str, &'c dyn Fn(&mut Value));

#[test]
fn a_class_or_a_cluster_that_the_gateway_does_not_have_is_closed_at_accept() {
    let no_class = |configuration: &mut Value| configuration["addressClasses"] = json!([]);
    let no_cluster = |configuration: &mut Value| {
        configuration["ports"] = json!([{"cluster": "other", "protocol": "TLS", "port": 443}]);
    };
    let fixed = |configuration: &mut Value| {
        configuration["ports"][0]["host"] = json!("api.github.com");
    };
    let changes: [Change<'_>; 3] = [
        ("class", &no_class),
        ("cluster", &no_cluster),
        ("a cluster that resolves", &fixed),
    ];
    for (what, change) in changes {
        let mut configuration = inner();
        change(&mut configuration);
        let fake = out_of_tunnel("140.82.112.5:443", "api.github.com");
        let mut connection = Network::new(fake.plugin(&configuration), 1);
        assert_eq!(connection.on_new_connection(), Flow::Stop, "{what}");
        assert_eq!(code(&fake), "Deny route_mismatch", "{what}");
        assert_eq!(
            (fake.tcp_cluster(), fake.state("warden_host")),
            (None, None)
        );
    }
}

#[test]
fn a_chain_of_a_name_is_closed_because_nobody_checks_where_it_leads() {
    let mut configuration = direct();
    configuration["ports"][0]["host"] = json!("api.github.com");
    configuration["ports"][0]["port"] = json!(443);
    let fake = certificate(on_chain(), APP1).labelled("app1-ns", &[("egress-ruleset", "app1")]);
    let mut connection = Network::new(fake.plugin(&configuration), 1);
    assert_eq!(connection.on_downstream_data(10), Flow::Stop);
    assert_eq!(code(&fake), "Deny address_unchecked");
}

#[test]
fn without_a_tunnel_nothing_is_inspected() {
    let mut configuration = direct();
    configuration["inspection"] = json!([{"name": "dlp", "cluster": "warden-inspect-dlp"}]);
    let rule = &mut configuration["policies"][0]["spec"]["tiers"][1]["rules"][1];
    rule["action"] = json!("Inspect");
    rule["inspection"] = json!("dlp");
    let fake = Fake::app1().with(CLUSTER, "outbound|22||partner.example");
    let mut connection = Network::new(fake.plugin(&configuration), 1);
    let flow = connection.on_new_connection();
    if flow == Flow::Continue {
        let size = fake.hold(b"SSH-2.0-client\r\n");
        assert_eq!(connection.on_downstream_data(size), Flow::Stop);
    }
    assert_eq!(code(&fake), "Deny route_mismatch");
    assert_eq!(fake.tcp_cluster(), None);
}

/// Two chains for TLS with one destination each.
fn tls_chains() -> Value {
    let chain = |cluster: &str, host: &str| json!({"cluster": cluster, "protocol": "TLS", "port": 443, "host": host});
    let ports = json!([
        chain("outbound|443||a.example", "203.0.113.7"),
        chain("outbound|443||b.example", "203.0.113.8"),
    ]);
    configuration("network", &ports)
}

#[test]
fn tls_is_logged_as_tls_however_it_ends() {
    type Run = fn() -> Fake;
    let rows: [(&str, Run, &str); 9] = [
        (
            "accepted",
            || {
                let fake = out_of_tunnel("140.82.112.5:443", "api.github.com");
                let mut connection = Network::new(fake.plugin(&inner()), 1);
                let _ = connection.on_new_connection();
                let fake = connected(fake);
                let size = fake.hold(&stream("api.github.com"));
                let _ = connection.on_downstream_data(size);
                fake
            },
            "Accept rule",
        ),
        (
            "denied",
            || {
                let fake = out_of_tunnel("140.82.112.5:443", "evil.example");
                let _ = Network::new(fake.plugin(&inner()), 1).on_new_connection();
                fake
            },
            "Deny default",
        ),
        (
            "facts that cannot be read",
            || {
                let fake = Fake::default().carrying(b"{}").with(SNI, "api.github.com");
                let _ = Network::new(fake.plugin(&inner()), 1).on_new_connection();
                fake
            },
            "Deny engine_error",
        ),
        (
            "facts that cannot be read, and one cluster of several",
            || {
                let fake = Fake::default().carrying(b"{}");
                let _ = Network::new(fake.plugin(&tls_chains()), 1).on_new_connection();
                fake
            },
            "Deny engine_error",
        ),
        (
            "nothing that can be read",
            || {
                let fake = out_of_tunnel("140.82.112.5:443", "api.github.com");
                let mut connection = Network::new(fake.plugin(&inner()), 1);
                fake.fail(Fails::From(0));
                let _ = connection.on_new_connection();
                fake.fail(Fails::Never);
                fake
            },
            "Deny engine_error",
        ),
        (
            "a cluster that is not listed",
            || {
                let fake = Fake::app1().with(CLUSTER, "BlackHoleCluster");
                let mut connection = Network::new(fake.plugin(&tls_chains()), 1);
                let size = fake.hold(&stream("api.github.com"));
                let _ = connection.on_downstream_data(size);
                fake
            },
            "Deny route_mismatch",
        ),
        (
            "waited too long before Envoy chose a cluster",
            || {
                let fake = Fake::default();
                let plugin = fake.plugin(&tls_chains());
                let mut connection = Network::new(Rc::clone(&plugin), 1);
                assert_eq!(connection.on_new_connection(), Flow::Continue);
                (0..16).for_each(|_| plugin.tick());
                fake
            },
            "Deny undecided_limit",
        ),
        (
            "a server that says too much",
            || {
                let fake = out_of_tunnel("140.82.112.5:443", "api.github.com");
                let mut connection = Network::new(fake.plugin(&inner()), 1);
                let _ = connection.on_new_connection();
                let fake = connected(fake);
                let _ = connection.on_upstream_data(MAX_SERVER_BYTES + 1);
                fake
            },
            "Deny undecided_limit",
        ),
        (
            "a tunnel that the HTTP filter denies",
            || {
                let fake = Fake::default().connect("140.82.112.5:443", "warden-tls-inner");
                let _ = Http::new(fake.plugin(&http_configuration())).on_request_headers();
                fake
            },
            "Deny no_identity",
        ),
    ];
    for (what, run, expected) in rows {
        let fake = run();
        assert_eq!(code(&fake), expected, "{what}");
        let line = fake.verdict().unwrap();
        assert_eq!(line["protocol"], "TLS", "{what}");
    }
}
