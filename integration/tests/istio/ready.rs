//! The readiness gate: a gateway pod takes no traffic before every place of its proxy has a policy
//! in force.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use egress_render::{Install, Rendered};
use integration::client;
use integration::envoy::eventually;
use integration::istio::reference;
use integration::istio::testbed::{Bench, GATEWAY, Plan, install};
use integration::istio::tools::Program;

cases!(
    &[Program::Istiod];
    a_gateway_with_the_policy_everywhere_is_ready,
    a_gateway_with_a_refused_policy_is_not_ready_until_it_has_one,
    a_gateway_without_the_module_is_not_ready_until_it_has_it,
    a_ready_gateway_stays_so_when_an_update_is_refused,
);

fn rendered(install: &Install) -> Result<Rendered> {
    reference::of(install, &[reference::policy()?])
}

/// The answer to what kubelet asks, or nothing if nobody listens.
pub(crate) fn probe(install: &Install) -> Option<(u16, String)> {
    let port = install.spec.gateway.ports.ready;
    let mut stream = client::connect(SocketAddrV4::new(GATEWAY, port)).ok()?;
    let headers = [("Host", b"10.244.0.2".as_slice())];
    let answer = client::request(&mut stream, "GET", "/", &headers).ok()??;
    Some((answer.status, answer.body))
}

/// What it says where every place has the policy: each with the first digits of its hash.
pub(crate) fn in_force(rendered: &Rendered) -> Result<String> {
    let hash = rendered.policy_hash();
    let hash = hash.get(..12).context("no hash")?;
    let places = ["http", "tunnel", "tls"];
    Ok(places
        .map(|place| format!("egress-warden-{place} {hash}\n"))
        .concat())
}

pub(crate) fn becomes_ready(install: &Install, rendered: &Rendered) -> Result<()> {
    let wanted = Some((200, in_force(rendered)?));
    eventually("a ready gateway", || probe(install) == wanted)
        .with_context(|| format!("{:?}, not {wanted:?}", probe(install)))
}

fn a_gateway_with_the_policy_everywhere_is_ready() -> Result<()> {
    let install = install()?;
    let rendered = rendered(&install)?;
    let _bench = Bench::start(&Plan::of(&rendered))?;
    becomes_ready(&install, &rendered)
}

/// The probe says which one is missing.
fn a_gateway_with_a_refused_policy_is_not_ready_until_it_has_one() -> Result<()> {
    let install = install()?;
    let rendered = rendered(&install)?;
    let sound = rendered.yaml();
    let place = r#"\"context\":\"network\""#;
    ensure!(sound.contains(place), "the place is written otherwise");
    let refused = sound.replace(place, r#"\"context\":\"heaven\""#);
    let mut bench = Bench::start(&Plan::changed(refused))?;
    // Envoy may leave out what the same answer has behind the refused one, so only this is sure.
    let refused =
        |answer: &(u16, String)| answer.0 == 503 && answer.1.ends_with("-tls 000000000000\n");
    eventually("the gate", || probe(&install).as_ref().is_some_and(refused))
        .with_context(|| format!("{:?}", probe(&install)))?;
    let log = bench.gateway.log()?;
    ensure!(log.contains("configuration refused"), "it is not refused");
    bench.update(&Plan::of(&rendered))?;
    becomes_ready(&install, &rendered)
}

fn a_gateway_without_the_module_is_not_ready_until_it_has_it() -> Result<()> {
    let install = install()?;
    let rendered = rendered(&install)?;
    let sound = rendered.yaml();
    let module = &install.spec.module.url;
    let nowhere = format!("{module}.not-there");
    let path = |url: &str| url.strip_prefix("file://").map(str::to_owned);
    let (from, to) = (path(module), path(&nowhere));
    let missing = sound.replace(&from.context("no file")?, &to.context("no file")?);
    let mut bench = Bench::start(&Plan::changed(missing))?;
    eventually("the refusal", || {
        let log = bench.gateway.log().unwrap_or_default();
        log.contains("egress_filter.wasm.not-there")
    })?;
    let answer = probe(&install);
    ensure!(
        answer.as_ref().is_none_or(|(status, _)| *status >= 500),
        "{answer:?}"
    );
    bench.update(&Plan::of(&rendered))?;
    becomes_ready(&install, &rendered)
}

/// All pods refuse it alike, so a pod that left its Service for that would leave with all others.
fn a_ready_gateway_stays_so_when_an_update_is_refused() -> Result<()> {
    let install = install()?;
    let before = rendered(&install)?;
    let mut bench = Bench::start(&Plan::of(&before))?;
    becomes_ready(&install, &before)?;
    let mut policy = reference::policy()?;
    *policy.pointer_mut("/metadata/name").context("no name")? = "another".into();
    let after = reference::of(&install, &[policy])?;
    let place = r#"\"context\":\"network\""#;
    let mut plan = Plan::of(&after);
    plan.manifests = plan.manifests.replace(place, r#"\"context\":\"heaven\""#);
    bench.update(&plan)?;
    eventually("the refusal", || {
        let log = bench.gateway.log().unwrap_or_default();
        log.contains("configuration refused")
    })?;
    // Which places have the new one by now is Envoy's affair: it leaves out what the same answer has
    // behind a refused resource.
    let (status, body) = probe(&install).context("nobody answers")?;
    let hash = before.policy_hash().get(..12).context("no hash")?;
    ensure!(
        status == 200 && body.ends_with(&format!("-tls {hash}\n")),
        "{status} {body}"
    );
    Ok(())
}
