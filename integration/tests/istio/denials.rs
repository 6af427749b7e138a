//! What a denied client is told, by protocol, and that no server can say it in the gateway's place.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use egress_policy::contract::DENIED_HEADER;
use http::{HeaderMap, Request};
use integration::client::{self, Heard, Response};
use integration::http2::Answer;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::address_of;
use integration::outside::FORGED;

cases!(
    &[Program::Istiod];
    every_denial_says_what_decided_in_its_protocol,
    no_server_says_that_the_gateway_denied,
);

const DEFAULT: &str = r#"{"policy":"seed","tier":null,"rule":null,"reason":"default"}"#;
const UPGRADE: &str = r#"{"policy":"seed","tier":null,"rule":null,"reason":"connect_not_allowed"}"#;
const UNKNOWN_UPGRADE: &str =
    r#"{"policy":null,"tier":null,"rule":null,"reason":"connect_not_allowed"}"#;
const PRIVATE: &str = r#"{"policy":null,"tier":null,"rule":null,"reason":"private_address"}"#;

/// The header's values in an HTTP/1.1 answer.
fn denied_in(answer: &Response) -> Vec<&str> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.filter(|(name, _)| name.eq_ignore_ascii_case(DENIED_HEADER));
    found.map(|(_, value)| value).collect()
}

fn denied_among(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(DENIED_HEADER).iter();
    values.map(|value| value.to_str().unwrap_or("?")).collect()
}

/// What a request for an upgrade has.
const fn upgrading(token: &'static str) -> [(&'static str, &'static [u8]); 5] {
    [
        ("Host", b"api.github.com"),
        ("Connection", b"Upgrade"),
        ("Upgrade", token.as_bytes()),
        ("Sec-WebSocket-Version", b"13"),
        ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ]
}

/// An upgrade that an application asks for through its sidecar.
fn upgrade(bench: &Bench, token: &'static str) -> Result<Response> {
    let address = SocketAddrV4::new(address_of("api.github.com")?, 80);
    let answer = bench.inside("app1", move || {
        let mut stream = client::connect(address)?;
        client::request(&mut stream, "GET", "/", &upgrading(token))
    })?;
    answer.context("closed")
}

fn every_denial_says_what_decided_in_its_protocol() -> Result<()> {
    let bench = Bench::start(&Plan::of(&reference::of(
        &install()?,
        &[reference::policy()?],
    )?))?;
    let github = address_of("api.github.com")?;
    let http = |host: &str| bench.http("app1", github, host)?.context("closed");
    let tunnel = |name: &str, port| bench.ask_for_tunnel("app1", name, port)?.context("closed");
    let at_gateway = |port| {
        let answer = bench.ask_gateway("app1", port, ("GET", "/"), &upgrading("something"))?;
        answer.context("closed")
    };
    for (what, answer, header, code) in [
        ("HTTP/1.1", http("github.com")?, DEFAULT, "default"),
        (
            "a name with a refused address",
            http("rebind.github.com")?,
            PRIVATE,
            "private_address",
        ),
        (
            "a WebSocket",
            upgrade(&bench, "websocket")?,
            UPGRADE,
            "connect_not_allowed",
        ),
        (
            "an upgrade that no rule can list, of the gateway itself",
            at_gateway(8080)?,
            UNKNOWN_UPGRADE,
            "connect_not_allowed",
        ),
        (
            "an upgrade where the gateway takes tunnels",
            at_gateway(8443)?,
            UNKNOWN_UPGRADE,
            "connect_not_allowed",
        ),
        ("CONNECT", tunnel("evil.example", 7000)?, DEFAULT, "default"),
    ] {
        ensure!(answer.status == 403, "{what}: {answer:?}");
        ensure!(denied_in(&answer) == [header], "{what}: {answer:?}");
        let has_code = answer.body.contains(&format!("code: {code}\n"))
            || answer.body.contains(&format!("\"reason\":\"{code}\""));
        ensure!(has_code, "{what}: {answer:?}");
    }
    // In Envoy's own JSON, too, what is not there is null.
    let refused = http("rebind.github.com")?;
    let nulls = ["policy", "tier", "rule"].map(|part| format!("\"{part}\":null"));
    ensure!(
        nulls.iter().all(|null| refused.body.contains(null)),
        "{refused:?}"
    );
    // Its sidecar does not pass such an upgrade on.
    let answer = upgrade(&bench, "something")?;
    ensure!(answer.status == 403 && answer.body.is_empty(), "{answer:?}");
    let get = Request::get("http://github.com/").body(())?;
    let call = Request::post("http://github.com/service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let answers = bench.http2("app1", github, vec![get, call])?;
    let [denied, denied_grpc] = answers.as_slice() else {
        anyhow::bail!("{answers:?}");
    };
    let grpc_status = |answer: &Answer| answer.headers.get("grpc-status").cloned();
    ensure!(denied.status == 403, "{denied:?}");
    ensure!(denied_among(&denied.headers) == [DEFAULT], "{denied:?}");
    ensure!(denied.body.contains("code: default\n"), "{denied:?}");
    ensure!(
        denied_grpc.status == 200 && grpc_status(denied_grpc).is_some_and(|status| status == "7"),
        "{denied_grpc:?}"
    );
    ensure!(
        denied_among(&denied_grpc.headers) == [DEFAULT],
        "{denied_grpc:?}"
    );
    // Inside the application's own TLS, and in bytes that nobody reads, nothing can be said.
    ensure!(!bench.tls("app1", github, "github.com")?, "TLS");
    let other = address_of("mail.example")?;
    ensure!(bench.tcp("app1", other, 25)? == Heard::Closed, "TCP");
    Ok(())
}

/// A server outside sends the header with every answer, and with gRPC's trailers.
fn no_server_says_that_the_gateway_denied() -> Result<()> {
    let bench = Bench::start(&Plan::of(&reference::of(
        &install()?,
        &[reference::policy()?],
    )?))?;
    let github = address_of("api.github.com")?;
    let mut direct = client::connect(SocketAddrV4::new(github, 80))?;
    let headers = [("Host", &b"api.github.com"[..])];
    let said = client::request(&mut direct, "GET", "/", &headers)?.context("closed")?;
    ensure!(denied_in(&said) == [FORGED], "{said:?}");
    let answer = bench.http("app1", github, "api.github.com")?;
    let answer = answer.context("closed")?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(denied_in(&answer).is_empty(), "{answer:?}");
    let requests = || -> Result<_> {
        let get = Request::get("http://api.github.com/").body(())?;
        let call = Request::post("http://api.github.com/service/Method")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        Ok(vec![get, call])
    };
    let direct = client::connect(SocketAddrV4::new(github, 80))?;
    let said = integration::http2::send_all(direct, &requests()?)?;
    for said in &said {
        ensure!(denied_among(&said.headers).contains(&FORGED), "{said:?}");
    }
    for answer in bench.http2("app1", github, requests()?)? {
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(denied_among(&answer.headers).is_empty(), "{answer:?}");
    }
    Ok(())
}
