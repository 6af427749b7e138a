//! Inspection over both hops: what the policy sends by way of an inspection proxy goes there, is
//! announced to it, and goes nowhere while the inspection proxy is down.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use egress_render::install::InspectionProxy as Declared;
use egress_render::{Install, RenderError};
use integration::client::Heard;
use integration::inspection_proxy::{InspectionProxy, Tunnel};
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::{APP1, SSH_BANNER, address_of};
use integration::sandbox;
use serde_json::{Value, json};

use crate::Case;
use crate::audit::are_found;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "what_is_inspected_goes_by_way_of_the_inspection_proxy_or_nowhere",
        needs: &[Program::Istiod],
        body: || {
            sandbox::test(
                "what_is_inspected_goes_by_way_of_the_inspection_proxy_or_nowhere",
                what_is_inspected_goes_by_way_of_the_inspection_proxy_or_nowhere,
            )
        },
    },
    Case {
        name: "ways_around_an_inspection_proxy_are_found",
        needs: &[Program::Istiod],
        body: || {
            sandbox::test(
                "ways_around_an_inspection_proxy_are_found",
                ways_around_an_inspection_proxy_are_found,
            )
        },
    },
];

const INSPECTION_PROXY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 99);
const PORT: u16 = 3128;

/// The reference policy, with everything of app1's inspected.
fn policy() -> Result<Value> {
    let mut policy = reference::policy()?;
    let rules = policy.pointer_mut("/spec/tiers/1/rules");
    let rules = rules.and_then(Value::as_array_mut).context("no rules")?;
    for rule in rules {
        let name = rule.get("name").and_then(Value::as_str).unwrap_or_default();
        if let (true, Some(rule)) = (name.starts_with("app1"), rule.as_object_mut()) {
            rule.insert("action".to_owned(), json!("Inspect"));
            rule.insert("inspection".to_owned(), json!("dlp"));
        }
    }
    Ok(policy)
}

fn with_inspection_proxy() -> Result<Install> {
    let mut install = install()?;
    "1.32".clone_into(&mut install.spec.istio.version);
    let proxy = json!({
        "name": "dlp",
        "address": INSPECTION_PROXY,
        "port": PORT,
        "pods": {"namespace": "dlp", "selector": {"app": "dlp"}},
    });
    let proxy: Declared = serde_json::from_value(proxy)?;
    install.spec.inspection = vec![proxy];
    Ok(install)
}

fn audited(bench: &Bench) -> Result<Vec<RenderError>> {
    reference::audited(&bench.dump()?, &with_inspection_proxy()?, &[policy()?])
}

fn start() -> Result<(Bench, InspectionProxy)> {
    sandbox::assign([INSPECTION_PROXY])?;
    let proxy = InspectionProxy::start(INSPECTION_PROXY, PORT)?;
    let rendered = reference::of(&with_inspection_proxy()?, &[policy()?])?;
    Ok((Bench::start(&Plan::of(&rendered))?, proxy))
}

/// HTTP, TLS and opaque TCP, all three allowed by way of the inspection proxy; whether each came
/// through.
fn by_inspection_proxy(bench: &Bench) -> Result<[bool; 3]> {
    let github = address_of("api.github.com")?;
    let http = bench.http("app1", github, "api.github.com")?;
    let tls = bench.tls("app1", github, "api.github.com");
    let tcp = bench.tcp("app1", address_of("partner.example")?, 22)?;
    Ok([
        http.is_some_and(|answer| answer.body == "api.github.com\n"),
        tls.unwrap_or(false),
        tcp == Heard::Bytes(SSH_BANNER.into()),
    ])
}

/// Whether the inspection proxy was told everything about a tunnel, and nothing of the mesh's own.
fn told(tunnel: &Tunnel, destination: &str, rule: &str) -> bool {
    tunnel.destination == destination
        && tunnel.rule.as_deref() == Some(rule)
        && tunnel.workload.as_deref() == Some(APP1.identity)
        && !tunnel
            .headers
            .iter()
            .any(|name| name.contains("peer-metadata") || name.contains("labels"))
}

/// Each of the three has a line where it left the gateway.
fn logged(bench: &Bench) -> Result<()> {
    for destination in ["api.github.com:80", "api.github.com:443", "203.0.113.7:22"] {
        let line = bench.access_line_of(|line| {
            line.get("authority") == Some(&json!(destination))
                && line.get("connectedTo") == Some(&json!(format!("{INSPECTION_PROXY}:{PORT}")))
        });
        let line = line.context(destination)?;
        ensure!(
            line.get("workload") == Some(&json!(APP1.identity)),
            "{line}"
        );
    }
    bench.access_line_inward("inspect")?;
    Ok(())
}

fn what_is_inspected_goes_by_way_of_the_inspection_proxy_or_nowhere() -> Result<()> {
    let (bench, proxy) = start()?;
    are_found(
        &bench.dump()?,
        &with_inspection_proxy()?,
        &[policy()?],
        &["inspecting"],
    )?;

    let works = by_inspection_proxy(&bench)?;
    let tunnels = proxy.seen();
    if works != [true; 3] || tunnels.len() != 3 {
        let log = bench.gateway.log()?;
        let told = |line: &&str| line.contains("verdict") || line.contains("[warning]");
        let lines: Vec<_> = log.lines().filter(told).collect();
        anyhow::bail!("{works:?} {tunnels:?}\n{}", lines.join("\n"));
    }
    for (tunnel, (destination, rule)) in tunnels.iter().zip([
        ("api.github.com:80", "seed/apps/app1-github"),
        ("api.github.com:443", "seed/apps/app1-github"),
        ("203.0.113.7:22", "seed/apps/app1-partner-ssh"),
    ]) {
        ensure!(told(tunnel, destination, rule), "{tunnel:?}");
    }
    logged(&bench)?;

    // What is accepted goes straight out; what is denied nowhere, an address inside included.
    let weather = address_of("api.weather.gov")?;
    let answer = bench.http("app2", weather, "api.weather.gov")?;
    ensure!(answer.is_some_and(|answer| answer.status == 200), "app2");
    ensure!(bench.tls("app2", weather, "api.weather.gov")?, "app2's TLS");
    for name in ["rebind.github.com", "github.com"] {
        let address = address_of("api.github.com")?;
        let answer = bench.http("app1", address, name)?;
        ensure!(answer.is_some_and(|answer| answer.status == 403), "{name}");
        ensure!(!bench.tls("app1", address, name)?, "{name} over TLS");
    }
    ensure!(proxy.seen().len() == 3, "{:?}", proxy.seen());

    proxy.stop()?;
    let before = bench.outside.seen().len();
    let works = by_inspection_proxy(&bench)?;
    ensure!(
        works == [false; 3],
        "{works:?} without the inspection proxy"
    );
    ensure!(bench.outside.seen().len() == before, "it went out directly");
    let answer = bench.http("app2", weather, "api.weather.gov")?;
    ensure!(answer.is_some_and(|answer| answer.status == 200), "app2");
    Ok(())
}

/// Without one of the parts that keep verdict and way together: found, and closed where that part
/// stands.
fn ways_around_an_inspection_proxy_are_found() -> Result<()> {
    let (mut bench, proxy) = start()?;
    let sound = Plan::of(&reference::of(&with_inspection_proxy()?, &[policy()?])?);
    for (what, from, to, left) in [
        // TLS is sent to the inspection proxy by the inner listener.
        (
            "an inspection proxy's routes and their locks take what is accepted",
            "inspect:dlp:",
            "accept:",
            [false, true, false],
        ),
        (
            "an inspection proxy's listeners are somebody else's",
            "exact: dlp",
            "exact: ids",
            [false; 3],
        ),
    ] {
        bench.update(&sound)?;
        integration::envoy::eventually("the sound configuration", || {
            audited(&bench).is_ok_and(|found| found.is_empty())
        })?;
        let before = proxy.seen().len();
        let manifests = sound.manifests.replace(from, to);
        ensure!(
            manifests != sound.manifests,
            "`{from}` is written otherwise"
        );
        let mut plan = Plan::of(&reference::of(&with_inspection_proxy()?, &[policy()?])?);
        plan.manifests = manifests;
        bench.update(&plan)?;
        integration::envoy::eventually(what, || {
            audited(&bench).is_ok_and(|found| !found.is_empty())
        })?;
        let works = by_inspection_proxy(&bench)?;
        ensure!(works == left, "{what}: {works:?}");
        let tunnels = left.iter().filter(|works| **works).count();
        ensure!(
            proxy.seen().len() == before + tunnels,
            "{what}: {:?}",
            proxy.seen()
        );
    }
    Ok(())
}
