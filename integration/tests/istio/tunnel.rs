//! Both framings of tunnels over a real control plane's configuration: what the settings choose is
//! what is spoken, everything is judged alike, and what each loses is what `docs/how-to/operate.md` says.

use std::io::Write;
use std::net::{Shutdown, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use egress_render::install::Tunnel;
use integration::client::{self, End};
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::address_of;
use integration::outside::Speech;
use serde_json::json;

cases!(
    &[Program::Istiod];
    exceptions_by_port_choose_http1,
    exceptions_by_network_choose_http2,
    over_http2_the_stated_window_is_what_arrives,
);

const SIZE: usize = 20_000_000;
const DOWNLOAD: u16 = 5432;
const LATE: u16 = 7001;
const UNTIL: u16 = 7002;

fn start(tunnel: &str) -> Result<Bench> {
    let mut install = install()?;
    install.spec.tunnel = serde_saphyr::from_str::<Tunnel>(tunnel)?;
    let policy = json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": "tunnels"},
        "spec": {"identity": {"trustDomains": ["cluster.local"]}, "tiers": [{"name": "t", "rules": [{
            "name": "partner",
            "from": [{"namespaces": ["app1-ns"], "matchLabels": {"egress-ruleset": "app1"}}],
            "to": [{"networks": ["203.0.113.7/32"], "protocols": ["TCP"]}],
            "action": "Accept",
        }]}]},
    });
    let policies = [policy];
    let bench = Bench::start(&Plan::of(&reference::of(&install, &policies)?))?;
    let found = reference::audited(&bench.dump()?, &install, &policies)?;
    ensure!(found.is_empty(), "{found:?}");
    let address = address_of("partner.example")?;
    for (port, speech) in [
        (DOWNLOAD, Speech::Download(SIZE)),
        (LATE, Speech::Late(SIZE)),
    ] {
        let authority = &bench.outside_authority;
        bench.outside.serve(authority, address, port, &speech)?;
    }
    Ok(bench)
}

/// What `app` gets of a port: all of it, read slowly, its own direction ended first or not.
fn fetched(bench: &Bench, app: &str, port: u16, end_first: bool) -> Result<(usize, End)> {
    let to = SocketAddrV4::new(address_of("partner.example")?, port);
    bench.inside(app, move || {
        let mut stream = client::connect(to)?;
        if end_first {
            stream.write_all(b"question")?;
            stream.shutdown(Shutdown::Write)?;
        }
        client::drain_slowly(&mut stream)
    })
}

/// How many connections of a version of HTTP the gateway's port for tunnels has had.
fn connections(bench: &Bench, version: &str) -> Result<u64> {
    let stats = bench
        .gateway
        .get("/stats?filter=8443.*downstream_cx_http")?;
    let line = stats.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.ends_with(&format!("downstream_cx_{version}_total"))
            .then_some(value)
    });
    Ok(line.context("no such statistic")?.trim().parse()?)
}

fn exceptions_by_port_choose_http1() -> Result<()> {
    let bench = start("{exceptions: [{framing: HTTP1, ports: [\"5000-5999\"]}]}")?;
    ensure!(fetched(&bench, "app1", DOWNLOAD, false)? == (SIZE, End::Clean));
    ensure!(connections(&bench, "http1")? == 1 && connections(&bench, "http2")? == 0);
    ensure!(fetched(&bench, "app1", LATE, true)? == (SIZE, End::Clean));
    ensure!(connections(&bench, "http1")? == 1 && connections(&bench, "http2")? == 1);
    // Another account, in either framing.
    let before = bench.outside.seen().len();
    for port in [DOWNLOAD, LATE] {
        let (came, _) = fetched(&bench, "app2", port, false)?;
        ensure!(came == 0, "{came} bytes from {port}");
    }
    ensure!(bench.outside.seen().len() == before);
    Ok(())
}

fn exceptions_by_network_choose_http2() -> Result<()> {
    let bench = start(
        "{framing: HTTP1, exceptions: [{framing: HTTP2, networks: [203.0.113.0/29], ports: [7001]}]}",
    )?;
    ensure!(fetched(&bench, "app1", DOWNLOAD, false)? == (SIZE, End::Clean));
    ensure!(connections(&bench, "http1")? == 1 && connections(&bench, "http2")? == 0);
    // Neither of the exception's: not this network.
    let (came, _) = fetched(&bench, "app1", 22, true)?;
    ensure!(connections(&bench, "http1")? == 2, "{came}");
    ensure!(fetched(&bench, "app1", LATE, true)? == (SIZE, End::Clean));
    ensure!(connections(&bench, "http2")? == 1);
    Ok(())
}

/// Expected to fail one day, with the tests of `tests/tunnel.rs`.
fn over_http2_the_stated_window_is_what_arrives() -> Result<()> {
    let bench = start("{windowMiB: 1}")?;
    let full = Arc::new(AtomicBool::new(false));
    let address = address_of("partner.example")?;
    let speech = Speech::Until(1 << 20, Arc::clone(&full));
    bench
        .outside
        .serve(&bench.outside_authority, address, UNTIL, &speech)?;
    let mut stream = bench.inside("app1", move || {
        client::connect(SocketAddrV4::new(address, UNTIL))
    })?;
    bench.gateway.stuck()?;
    full.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(2));
    let sent: usize = bench
        .outside
        .seen_at(address, UNTIL)
        .iter()
        .map(|seen| seen.sent)
        .sum();
    // A window of 64 MiB would have held all of it.
    ensure!(sent < 64 << 20, "{sent} bytes went into a window of 1 MiB");
    let (came, end) = client::drain_slowly(&mut stream)?;
    ensure!(
        came < sent,
        "Envoy loses nothing any more: say so where the loss is stated"
    );
    ensure!(
        end == End::Cut,
        "{came} of {sent} bytes, and it looks like all"
    );
    Ok(())
}
