//! What carries over both hops: HTTP/2, gRPC, WebSocket, and the families of addresses.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, TcpListener};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use egress_render::install::Family;
use integration::client::{self, Heard};
use integration::command;
use integration::http2::{self, Answer};
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::{HOSTS, address_of};
use serde_json::{Value, json};

cases!(
    &[Program::Istiod];
    http2_and_grpc_stay_what_they_are,
    websockets_pass_by_a_rule_of_their_own,
    dual_stack_gateways_reach_both_families,
    ipv6_only_gateways_reach_one,
);

/// The reference policy with one more rule in front.
fn bench(rule: Option<Value>, family: Family) -> Result<Bench> {
    let mut policy = reference::policy()?;
    let rules = policy.pointer_mut("/spec/tiers/1/rules");
    let rules = rules.and_then(Value::as_array_mut).context("no rules")?;
    rules.extend(rule);
    let mut install = install()?;
    install.spec.dns.family = family;
    Bench::start(&Plan::of(&reference::of(&install, &[policy])?))
}

fn http2(bench: &Bench, requests: Vec<http::Request<()>>) -> Result<Vec<Answer>> {
    let address = SocketAddrV4::new(address_of("api.github.com")?, 80);
    bench.inside("app1", move || {
        http2::send_all(client::connect(address)?, &requests)
    })
}

fn http2_and_grpc_stay_what_they_are() -> Result<()> {
    let bench = bench(None, Family::V4)?;
    let get = |name: &str| http::Request::get(format!("http://{name}/")).body(());
    let call = |name: &str| {
        http::Request::post(format!("http://{name}/service/Method"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
    };
    let requests = vec![
        get("api.github.com")?,
        call("api.github.com")?,
        get("github.com")?,
        call("github.com")?,
    ];
    let answers = http2(&bench, requests)?;
    let [plain, grpc, denied, denied_grpc] = answers.as_slice() else {
        anyhow::bail!("{answers:?}");
    };
    let grpc_status = |answer: &Answer| {
        let status = answer.headers.get("grpc-status");
        status.and_then(|status| status.to_str().ok()?.parse::<u8>().ok())
    };
    ensure!(plain.status == 200, "{plain:?}");
    ensure!(plain.body == "api.github.com\n", "{plain:?}");
    ensure!(
        grpc.status == 200 && grpc_status(grpc) == Some(0),
        "{grpc:?}"
    );
    ensure!(denied.status == 403, "{denied:?}");
    // PERMISSION_DENIED, in the form in which gRPC says it.
    ensure!(denied_grpc.status == 200, "{denied_grpc:?}");
    ensure!(grpc_status(denied_grpc) == Some(7), "{denied_grpc:?}");
    let seen = bench.outside.seen_at(address_of("api.github.com")?, 80);
    ensure!(!seen.is_empty(), "nothing arrived");
    ensure!(seen.iter().all(|seen| seen.http2), "it became HTTP/1.1");
    Ok(())
}

/// What a workload hears when it asks for a WebSocket, and what comes back through it.
fn websocket(bench: &Bench) -> Result<(u16, Heard)> {
    let address = SocketAddrV4::new(address_of("api.github.com")?, 80);
    bench.inside("app1", move || {
        let mut stream = client::connect(address)?;
        let headers: [(&str, &[u8]); 5] = [
            ("Host", b"api.github.com"),
            ("Connection", b"Upgrade"),
            ("Upgrade", b"websocket"),
            ("Sec-WebSocket-Version", b"13"),
            ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let answer = client::request(&mut stream, "GET", "/", &headers)?;
        let status = answer.context("closed")?.status;
        if status != 101 {
            return Ok((status, Heard::Closed));
        }
        stream.write_all(b"frame")?;
        Ok((status, client::hear(&mut stream)?))
    })
}

fn websockets_pass_by_a_rule_of_their_own() -> Result<()> {
    let mut without = bench(None, Family::V4)?;
    ensure!(
        websocket(&without)?.0 == 403,
        "an upgrade passes by any rule"
    );
    let rule = json!({
        "name": "websocket",
        "from": [{"namespaces": ["app1-ns"]}],
        "to": [{"domainNames": ["api.github.com"], "ports": [80], "upgrades": ["websocket"]}],
        "action": "Accept",
    });
    let mut policy = reference::policy()?;
    let rules = policy.pointer_mut("/spec/tiers/1/rules");
    rules
        .and_then(Value::as_array_mut)
        .context("no rules")?
        .push(rule);
    without.update(&Plan::of(&reference::of(&install()?, &[policy])?))?;
    integration::envoy::eventually("the rule to hold", || {
        websocket(&without).is_ok_and(|(status, _)| status == 101)
    })?;
    let (status, heard) = websocket(&without)?;
    ensure!(status == 101, "{status}");
    ensure!(heard == Heard::Bytes(b"frame".to_vec()), "{heard:?}");
    Ok(())
}

/// A public address, and the NAT64 forms (RFC 6052) of one that is public and one that is not.
const PUBLIC: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 5);
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x8c52, 0x7005);
const NAT64_PRIVATE: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x0a00, 0x0005);
const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5);

/// Names under a suffix that the policy allows, with their only address.
const NAMES: [(&str, Ipv6Addr); 4] = [
    ("six.github.com", PUBLIC),
    ("nat64.github.com", NAT64),
    ("nat64-private.github.com", NAT64_PRIVATE),
    ("local.github.com", LOCAL),
];

/// Servers on these addresses, each of which says its own address, and a name server that knows
/// them beside the IPv4 hosts.
fn with_ipv6(bench: &Bench) -> Result<()> {
    let known = HOSTS
        .iter()
        .map(|(name, address)| ((*name).to_owned(), IpAddr::from(*address)));
    let mut names: BTreeMap<_, _> = known.collect();
    for (name, address) in NAMES {
        let address_text = format!("{address}/128");
        let add = ["-6", "addr", "add", &address_text, "dev", "lo", "nodad"];
        command::run(Command::new("ip").args(add))?;
        names.insert(name.to_owned(), address.into());
        let listener = TcpListener::bind((address, 80))?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let body = format!("{address}\n");
                let length = body.len();
                // A client that has gone is no error here.
                let _ = client::hear(&mut stream);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
        });
    }
    bench.dns.set(names);
    Ok(())
}

/// Status and body for a name; the address that the application dials does not matter.
fn answered(bench: &Bench, name: &str) -> Result<(u16, String)> {
    let answer = bench.http("app1", address_of("api.github.com")?, name)?;
    let answer = answer.context("closed")?;
    Ok((answer.status, answer.body))
}

fn ipv6_names_are_judged_and_reached(bench: &Bench) -> Result<()> {
    for (name, address) in NAMES {
        if address == PUBLIC || address == NAT64 {
            // An address that was added just now may not answer yet.
            let reached = (200, format!("{address}\n"));
            integration::envoy::eventually("the server", || {
                answered(bench, name).is_ok_and(|answer| answer == reached)
            })
            .with_context(|| format!("{name}: {:?}", answered(bench, name)))?;
        } else {
            let (status, body) = answered(bench, name)?;
            ensure!(
                status == 403 && body.contains("private_address"),
                "{name}: {status} {body}"
            );
        }
    }
    Ok(())
}

fn dual_stack_gateways_reach_both_families() -> Result<()> {
    let bench = bench(None, Family::All)?;
    with_ipv6(&bench)?;
    ipv6_names_are_judged_and_reached(&bench)?;
    let (status, body) = answered(&bench, "api.github.com")?;
    ensure!(
        status == 200 && body == "api.github.com\n",
        "{status} {body}"
    );
    Ok(())
}

/// A name that has IPv4 only is allowed and not reached: the gateway has no way to it.
fn ipv6_only_gateways_reach_one() -> Result<()> {
    let bench = bench(None, Family::V6)?;
    with_ipv6(&bench)?;
    ipv6_names_are_judged_and_reached(&bench)?;
    let (status, body) = answered(&bench, "api.github.com")?;
    ensure!(status == 503, "{status} {body}");
    ensure!(bench.outside.seen().is_empty(), "it was reached by IPv4");
    Ok(())
}
