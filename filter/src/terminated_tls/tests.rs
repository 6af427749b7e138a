use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, configuration};
use crate::host::Flow;
use crate::http::Http;

const SAN: &[&str] = &["connection", "uri_san_peer_certificate"];

/// Where the tunnels end, and where the TLS inside them does.
fn tunnels() -> Value {
    let mut all = configuration(
        "http",
        &json!([{"cluster": "inward", "protocol": "HTTPS", "port": 443}]),
    );
    all["labels"] = json!("filterState");
    all
}

fn inner() -> Value {
    let ports = json!([{"cluster": "originating", "protocol": "HTTP", "port": 443}]);
    let mut inner = configuration("http", &ports);
    inner["serverName"] = json!("application");
    inner["labels"] = json!("none");
    inner
}

/// The facts that a tunnel of this caller to this authority carries inward.
fn carried(caller: Fake, authority: &str) -> Vec<u8> {
    let fake = caller.connect(authority, "inward");
    let flow = Http::new(fake.plugin(&tunnels())).on_request_headers();
    assert_eq!(flow, Flow::Continue, "{authority}");
    assert_eq!(fake.token().as_deref(), Some("forward"));
    fake.carried().expect("facts").into_bytes()
}

/// The code of what became of a request, or where it is let go to.
fn judged(fake: &Fake) -> String {
    let flow = Http::new(fake.plugin(&inner())).on_request_headers();
    let opened = fake.token().as_deref() == Some("accept:plain");
    assert_eq!(flow == Flow::Continue, opened);
    if opened {
        return fake.dynamic_host().unwrap_or_default();
    }
    let line = fake.verdict().expect("every denial is logged");
    line["reason"].as_str().unwrap_or_default().to_owned()
}

/// A request inside: the connection has TLS of its own, and no certificate of anybody's.
fn request(sni: Option<&str>, host: &str) -> Fake {
    let fake = Fake::default()
        .with(&["connection", "id"], 9_u64.to_le_bytes())
        .with(&["connection", "tls_version"], "TLSv1.3")
        .get(host, "originating");
    match sni {
        Some(sni) => fake.with(SNI, sni),
        None => fake,
    }
}

/// What it is about, the tunnel's facts, the server name, Host, and what comes of it.
type Row<'a> = (&'a str, &'a [u8], Option<&'a str>, &'a str, &'a str);

#[test]
fn host_server_name_and_tunnel_are_one() {
    let by_address = carried(Fake::app1(), "140.82.112.5:443");
    let by_name = carried(Fake::app1(), "api.github.com:443");
    let rows: [Row<'_>; 10] = [
        (
            "they agree",
            &by_address,
            Some("api.github.com"),
            "api.github.com",
            "api.github.com:443",
        ),
        (
            "in other spellings",
            &by_address,
            Some("API.github.com"),
            "Api.GitHub.com.",
            "api.github.com:443",
        ),
        (
            "with the port",
            &by_address,
            Some("api.github.com"),
            "api.github.com:443",
            "api.github.com:443",
        ),
        (
            "as dialled",
            &by_name,
            Some("api.github.com"),
            "api.github.com",
            "api.github.com:443",
        ),
        (
            "another allowed name in Host",
            &by_address,
            Some("api.github.com"),
            "codeload.github.com",
            "host_mismatch",
        ),
        (
            "another name in Host",
            &by_address,
            Some("api.github.com"),
            "evil.example",
            "host_mismatch",
        ),
        (
            "another name than dialled",
            &by_name,
            Some("codeload.github.com"),
            "codeload.github.com",
            "sni_mismatch",
        ),
        (
            "no server name",
            &by_address,
            None,
            "api.github.com",
            "sni_missing",
        ),
        (
            "an address for a name",
            &by_address,
            Some("140.82.112.5"),
            "140.82.112.5",
            "address_form",
        ),
        (
            "no name at all",
            &by_address,
            Some("a,b"),
            "api.github.com",
            "name_malformed",
        ),
    ];
    for (what, facts, sni, host, expected) in rows {
        let fake = request(sni, host).carrying(facts);
        assert_eq!(judged(&fake), expected, "{what}");
    }
}

#[test]
fn the_caller_is_whose_tunnel_it_is() {
    let app2 = "spiffe://cluster.local/ns/app2-ns/sa/app2";
    let app1 = carried(Fake::app1(), "140.82.112.5:443");
    let to_github = || request(Some("api.github.com"), "api.github.com");
    // A certificate on the inner connection is the application's own business.
    assert_eq!(
        judged(&to_github().with(SAN, app2).carrying(&app1)),
        "api.github.com:443"
    );
    // Without a tunnel nobody is known.
    assert_eq!(judged(&to_github()), "default");
    assert_eq!(judged(&to_github().carrying(b"{}")), "engine_error");
    assert_eq!(
        judged(&to_github().with(SAN, app2).carrying(b"no facts")),
        "engine_error"
    );
}

#[test]
fn the_port_is_the_one_that_was_dialled() {
    let ports = json!([{"cluster": "inward", "protocol": "HTTPS"}]);
    let fake = Fake::app1().connect("140.82.112.5:80", "inward");
    let plugin = fake.plugin(&configuration("http", &ports));
    assert_eq!(Http::new(plugin).on_request_headers(), Flow::Continue);
    let facts = fake.carried().expect("facts");
    let fake = request(Some("api.github.com"), "api.github.com").carrying(facts.as_bytes());
    assert_eq!(judged(&fake), "route_mismatch");
}

#[test]
fn a_tunnel_that_can_only_be_denied_does_not_go_inward() {
    let app2 = "spiffe://cluster.local/ns/app2-ns/sa/app2";
    for (caller, authority, code) in [
        (Fake::app1(), "evil.example:443", "default"),
        (Fake::app1().with(SAN, app2), "140.82.112.5:443", "default"),
        (Fake::app1(), "140.82.112.5:8443", "route_mismatch"),
    ] {
        let fake = caller.connect(authority, "inward");
        let flow = Http::new(fake.plugin(&tunnels())).on_request_headers();
        assert_eq!(flow, Flow::Stop, "{authority}");
        assert_eq!(
            fake.verdict().expect("a verdict")["reason"],
            code,
            "{authority}"
        );
    }
    // What is no tunnel has no TLS inside.
    let fake = Fake::app1().get("api.github.com", "inward");
    let flow = Http::new(fake.plugin(&tunnels())).on_request_headers();
    assert_eq!(flow, Flow::Stop);
    assert_eq!(
        fake.verdict().expect("a verdict")["reason"],
        "route_mismatch"
    );
}
