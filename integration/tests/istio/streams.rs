//! Streams that run: how long, and what carries over both hops.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::client;
use integration::istio::bench::{Bench, Plan, install};
use integration::istio::reference;
use integration::istio::tools::Program;
use integration::mesh::address_of;
use integration::sandbox;

use crate::Case;

pub(crate) const CASES: &[Case] = &[Case {
    name: "every_stream_ends_at_its_longest_duration",
    needs: &[Program::Istiod],
    body: || {
        sandbox::test(
            "every_stream_ends_at_its_longest_duration",
            every_stream_ends_at_its_longest_duration,
        )
    },
}];

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
