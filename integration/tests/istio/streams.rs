//! Streams that run: how long, and what carries over both hops.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use egress_render::{Install, Rendered};
use integration::client::{self, Heard};
use integration::envoy::eventually;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::address_of;
use serde_json::{Value, json};

use crate::ready::becomes_ready;

cases!(
    &[Program::Istiod];
    every_stream_ends_at_its_longest_duration,
    a_new_policy_that_asks_ends_the_streams_of_the_old_one,
    a_new_policy_that_does_not_ask_leaves_them,
    a_revocation_ends_what_runs_and_lets_nothing_begin,
);

/// Seconds; long enough for a handshake on a slow machine.
const LONGEST: u32 = 6;

fn every_stream_ends_at_its_longest_duration() -> Result<()> {
    let mut install = install()?;
    install.spec.gateway.max_stream_seconds = LONGEST;
    let rendered = reference::of(&install, &[reference::policy()?])?;
    let bench = Bench::start(&Plan::of(&rendered))?;
    let tcp = bench.inside("app1", {
        let address = address_of("partner.example")?;
        move || lasted(address, 22, None)
    })?;
    let authority = bench.outside_authority.certificate();
    let tls = bench.inside("app1", {
        let address = address_of("api.github.com")?;
        move || lasted(address, 443, Some((authority, "api.github.com")))
    })?;
    for (what, lasted) in [("TCP", tcp), ("TLS", tls)] {
        // Both sides of the limit: it neither ends at once nor runs on.
        ensure!(
            lasted > Duration::from_secs((LONGEST / 2).into()),
            "{what} ended after {lasted:?}"
        );
        ensure!(
            lasted < Duration::from_secs((LONGEST * 4).into()),
            "{what} ended after {lasted:?}"
        );
    }
    Ok(())
}

/// How long an idle stream stays open once its first bytes have come.
fn lasted(address: Ipv4Addr, port: u16, tls: Option<(String, &str)>) -> Result<Duration> {
    let mut stream = client::connect(SocketAddrV4::new(address, port))?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    let started = Instant::now();
    let mut buffer = [0; 256];
    if let Some((authority, name)) = tls {
        let config = client::tls_config(&authority, None)?;
        let session = client::tls(stream, config, name)?;
        let mut session = session.ok_or_else(|| anyhow::anyhow!("no handshake"))?;
        // An end without close_notify is an error to TLS, and an end all the same.
        let _ = session.read(&mut buffer);
    } else {
        let first = stream.read(&mut buffer)?;
        ensure!(first > 0, "no banner");
        let _ = stream.read(&mut buffer);
    }
    Ok(started.elapsed())
}

/// The reference policy under a name, with a rule for `WebSocket`.
fn policy(name: &str) -> Result<Value> {
    let mut policy = reference::policy()?;
    *policy.pointer_mut("/metadata/name").context("no name")? = name.into();
    let rules = policy.pointer_mut("/spec/tiers/1/rules");
    let rules = rules.and_then(Value::as_array_mut).context("no rules")?;
    rules.push(json!({
        "name": "websocket",
        "from": [{"namespaces": ["app1-ns"]}],
        "to": [{"domainNames": ["api.github.com"], "ports": [80], "upgrades": ["websocket"]}],
        "action": "Accept",
    }));
    Ok(policy)
}

fn rendered(name: &str, asks: bool) -> Result<(Install, Rendered)> {
    let mut install = install()?;
    install.spec.gateway.recheck_on_update = Some(asks);
    let rendered = reference::of(&install, &[policy(name)?])?;
    Ok((install, rendered))
}

trait Talk: Read + Write + Send {}

impl<T: Read + Write + Send> Talk for T {}

/// A stream that runs, and what its server answers.
struct Running {
    what: &'static str,
    stream: Box<dyn Talk>,
    says: &'static [u8],
}

impl Running {
    fn is_answered(&mut self) -> bool {
        let said = self.stream.write_all(self.says);
        let said = said.and_then(|()| self.stream.flush());
        said.is_ok() && matches!(client::hear(&mut self.stream), Ok(Heard::Bytes(_)))
    }
}

/// One of each kind: an opaque tunnel, TLS inside a tunnel, an upgraded request.
fn running(bench: &Bench) -> Result<Vec<Running>> {
    let github = address_of("api.github.com")?;
    let partner = address_of("partner.example")?;
    let dial = |address, port| {
        bench.inside("app1", move || {
            client::connect(SocketAddrV4::new(address, port))
        })
    };
    let mut tcp = dial(partner, 22)?;
    ensure!(
        client::hear(&mut tcp)? != Heard::Closed,
        "no banner of the partner"
    );
    let config = client::tls_config(&bench.outside_authority.certificate(), None)?;
    let tls = client::tls(dial(github, 443)?, config, "api.github.com")?;
    let mut socket = dial(github, 80)?;
    let headers: [(&str, &[u8]); 3] = [
        ("Host", b"api.github.com"),
        ("Connection", b"Upgrade"),
        ("Upgrade", b"websocket"),
    ];
    let answer = client::request(&mut socket, "GET", "/", &headers)?;
    ensure!(
        answer.is_some_and(|answer| answer.status == 101),
        "not upgraded"
    );
    let get = b"GET / HTTP/1.1\r\nhost: api.github.com\r\n\r\n";
    let mut running = vec![
        Running {
            what: "TCP",
            stream: Box::new(tcp),
            says: b"more",
        },
        Running {
            what: "TLS",
            stream: Box::new(tls.context("no handshake")?),
            says: get,
        },
        Running {
            what: "WebSocket",
            stream: Box::new(socket),
            says: b"frame",
        },
    ];
    for stream in &mut running {
        ensure!(stream.is_answered(), "{} does not run", stream.what);
    }
    Ok(running)
}

/// Brings the second policy under running streams of the first.
fn updated(asks: bool) -> Result<(Bench, Vec<Running>)> {
    let (install, before) = rendered("before", false)?;
    let (_, after) = rendered("after", asks)?;
    let mut bench = Bench::start(&Plan::of(&before))?;
    becomes_ready(&install, &before)?;
    let streams = running(&bench)?;
    bench.update(&Plan::of(&after))?;
    becomes_ready(&install, &after)?;
    Ok((bench, streams))
}

fn a_new_policy_that_asks_ends_the_streams_of_the_old_one() -> Result<()> {
    let (bench, streams) = updated(true)?;
    end(streams)?;
    let log = bench.gateway.log()?;
    ensure!(log.contains("policy_replaced"), "the log does not say why");
    // Those of the new one go on.
    for mut stream in running(&bench)? {
        sleep(QUIET);
        ensure!(stream.is_answered(), "{} ended", stream.what);
    }
    Ok(())
}

fn end(streams: Vec<Running>) -> Result<()> {
    for mut stream in streams {
        eventually("the end", || {
            sleep(Duration::from_millis(200));
            !stream.is_answered()
        })
        .context(stream.what)?;
    }
    Ok(())
}

/// Longer than streams of an old policy would last.
const QUIET: Duration = Duration::from_secs(4);

fn a_new_policy_that_does_not_ask_leaves_them() -> Result<()> {
    let (_bench, streams) = updated(false)?;
    sleep(QUIET);
    for mut stream in streams {
        ensure!(stream.is_answered(), "{} ended", stream.what);
    }
    Ok(())
}

/// As `warden revoke` writes it, with install settings that say nothing of running streams.
fn a_revocation_ends_what_runs_and_lets_nothing_begin() -> Result<()> {
    let install = install()?;
    let mut revoked = policy("before")?;
    let tiers = revoked.pointer_mut("/spec/tiers");
    let tiers = tiers.and_then(Value::as_array_mut).context("no tiers")?;
    let rule = json!({
        "name": "app1-ns-app1",
        "from": [{"serviceAccounts": ["app1-ns/app1"]}],
        "action": "Deny",
    });
    tiers.insert(0, json!({"name": "revoked", "rules": [rule]}));
    let before = reference::of(&install, &[policy("before")?])?;
    let after = reference::of(&install, &[revoked])?;
    let mut bench = Bench::start(&Plan::of(&before))?;
    becomes_ready(&install, &before)?;
    let streams = running(&bench)?;
    bench.update(&Plan::of(&after))?;
    end(streams)?;
    ensure!(running(&bench).is_err(), "new streams begin");
    Ok(())
}
