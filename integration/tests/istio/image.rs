//! The module from a registry: made and pushed by `warden package`, fetched and checked by Istio's
//! own agent, run by the Envoy behind it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use egress_render::{EmbeddedPolicies, Install, Rendered};
use integration::client::Heard;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::address_of;
use integration::registry::Registry;
use integration::{envoy, sandbox, workspace};
use serde_json::Value;

use crate::audit::are_found;
use crate::ready::{becomes_ready, probe};

cases!(
    &[Program::Istiod, Program::PilotAgent, Program::Registry];
    the_agent_fetches_the_compat_variant,
    the_agent_fetches_the_oci_variant,
    another_digest_than_the_stated_one_closes_the_gateway,
    an_update_whose_image_cannot_be_had_closes_a_running_gateway,
    policies_that_the_image_carries_decide,
);

/// Where the registry listens inside the sandbox.
const PORT: u16 = 5000;

/// Runs `warden package` and returns what it says.
fn package(folder: &Path, arguments: &[&str]) -> Result<Value> {
    let module = workspace::wasm("egress_filter");
    workspace::built(&module)?;
    let module = module.to_string_lossy().into_owned();
    let image = format!("127.0.0.1:{PORT}/egress-warden:test");
    let mut all = vec!["warden", "package", "--module", &module, "--push", &image];
    all.extend(arguments);
    all.extend(["--output", "json"]);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = warden::run(
        all,
        &mut warden::Console {
            stdin: &mut std::io::empty(),
            stdout: &mut stdout,
            stderr: &mut stderr,
            now: None,
            directory: folder,
            color: false,
        },
    );
    ensure!(
        exit == warden::Exit::Ok,
        "warden package: {}",
        String::from_utf8_lossy(&stderr)
    );
    serde_json::from_slice(&stdout).context("warden package")
}

/// The install settings of the bench with an image.
fn installed(said: &Value) -> Result<Install> {
    let text = |field: &str| said.get(field).and_then(Value::as_str).map(str::to_owned);
    let mut install = install()?;
    install.spec.module.url = text("url").context("no url")?;
    install.spec.module.sha256 = text("sha256");
    install.spec.module.policy = text("policy");
    Ok(install)
}

fn rendered(install: &Install) -> Result<Rendered> {
    reference::of(install, &[reference::policy()?])
}

fn start(rendered: &Rendered, sound: bool) -> Result<Bench> {
    let mut plan = Plan::of(rendered);
    plan.agent = true;
    plan.sound = sound;
    Bench::start(&plan)
}

/// Whether HTTP, TLS in a tunnel and TCP in a tunnel get out where the policy says so.
fn allowed(bench: &Bench) -> Result<[bool; 3]> {
    let github = address_of("api.github.com")?;
    let http = bench.http("app1", github, "api.github.com")?;
    let tcp = bench.tcp("app1", address_of("partner.example")?, 22)?;
    Ok([
        http.is_some_and(|answer| answer.status == 200),
        bench.tls("app1", github, "api.github.com")?,
        matches!(tcp, Heard::Bytes(_)),
    ])
}

/// What the policy says no to.
fn denied(bench: &Bench) -> Result<()> {
    let evil = address_of("evilgithub.com")?;
    let answer = bench.http("app1", evil, "evilgithub.com")?;
    ensure!(
        answer.is_some_and(|answer| answer.status == 403),
        "HTTP to another name is not refused"
    );
    ensure!(
        !bench.tls("app1", evil, "evilgithub.com")?,
        "TLS for another name passes"
    );
    Ok(())
}

fn fetched(variant: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    sandbox::assign([])?;
    let _registry = Registry::start(folder.path(), PORT, None)?;
    let said = package(folder.path(), &["--variant", variant])?;
    let install = installed(&said)?;
    let rendered = rendered(&install)?;
    let bench = start(&rendered, true).context("the gateway")?;
    ensure!(
        allowed(&bench)? == [true; 3],
        "what is allowed does not work:\n{}",
        bench.agent_log()
    );
    denied(&bench)?;
    let policies = [reference::policy()?];
    are_found(&bench.dump()?, &installed(&said)?, &policies, &["fetched"])?;
    let digest = said.get("sha256").and_then(Value::as_str);
    let digest = digest.context("no digest")?;
    ensure!(
        bench.agent_log().contains(digest),
        "the agent says nothing of the image"
    );
    crate::memory::as_planned(&bench, &install)
}

fn the_agent_fetches_the_compat_variant() -> Result<()> {
    fetched("compat")
}

fn the_agent_fetches_the_oci_variant() -> Result<()> {
    fetched("oci")
}

/// The agent refuses the image and puts a filter that denies everything in the module's place;
/// where it cannot, Envoy waits for a module that never comes.
fn another_digest_than_the_stated_one_closes_the_gateway() -> Result<()> {
    let folder = tempfile::tempdir()?;
    sandbox::assign([])?;
    let _registry = Registry::start(folder.path(), PORT, None)?;
    let said = package(folder.path(), &[])?;
    let mut install = installed(&said)?;
    install.spec.module.sha256 = Some("0".repeat(64));
    let bench = start(&rendered(&install)?, false)?;
    envoy::eventually("the agent to refuse the image", || {
        bench.agent_log().contains("does not match")
    })?;
    let [http, tls, tcp] = allowed(&bench).unwrap_or([false; 3]);
    ensure!(!http && !tls && !tcp, "{http} {tls} {tcp}");
    let seen = bench.outside.seen();
    ensure!(seen.is_empty(), "{seen:?}");
    let found = reference::audited(&bench.dump()?, &install, &[reference::policy()?])?;
    for place in ["http", "tunnel"] {
        let name = format!("egress-warden-{place}");
        ensure!(
            found.iter().any(|problem| problem.path().contains(&name)
                && problem.message().starts_with("it has no configuration")),
            "{name}: {found:?}"
        );
    }
    Ok(())
}

/// Of such an update the agent makes a filter that denies everything, and Envoy takes it: the last
/// good module does not stay, and no pod is ready.
fn an_update_whose_image_cannot_be_had_closes_a_running_gateway() -> Result<()> {
    let folder = tempfile::tempdir()?;
    sandbox::assign([])?;
    let _registry = Registry::start(folder.path(), PORT, None)?;
    let mut install = installed(&package(folder.path(), &[])?)?;
    let before = rendered(&install)?;
    let mut bench = start(&before, true)?;
    becomes_ready(&install, &before)?;
    ensure!(
        allowed(&bench)? == [true; 3],
        "what is allowed does not work"
    );
    install.spec.module.sha256 = Some("0".repeat(64));
    let mut plan = Plan::of(&rendered(&install)?);
    plan.agent = true;
    bench.update(&plan)?;
    envoy::eventually("the gateway to close", || {
        allowed(&bench).is_ok_and(|works| works == [false; 3])
    })?;
    envoy::eventually("the gate to close", || {
        probe(&install).is_none_or(|(status, _)| status != 200)
    })?;
    let seen = bench.outside.seen().len();
    ensure!(allowed(&bench)? == [false; 3], "it opened again");
    ensure!(bench.outside.seen().len() == seen, "something got out");
    Ok(())
}

/// The objects name the policies, the image carries them; the gateway says which are in force.
fn policies_that_the_image_carries_decide() -> Result<()> {
    let folder = tempfile::tempdir()?;
    sandbox::assign([])?;
    let _registry = Registry::start(folder.path(), PORT, None)?;
    let settings = reference::folder().join("install.yaml");
    let policy = workspace::root().join("cases/policies/reference.yaml");
    let files = [settings.to_string_lossy(), policy.to_string_lossy()];
    let [settings, policy] = &files;
    let said = package(folder.path(), &["--install", settings, policy])?;
    let install = installed(&said)?;
    let rendered = rendered(&install)?;
    ensure!(
        said.get("policy").and_then(Value::as_str) == Some(rendered.policy_hash()),
        "package and render call the policies by other hashes"
    );
    ensure!(
        !rendered.yaml().contains("github.com"),
        "the policies are in the objects too"
    );
    let bench = start(&rendered, true).context("the gateway")?;
    ensure!(
        allowed(&bench)? == [true; 3],
        "what is allowed does not work:\n{}",
        bench.agent_log()
    );
    denied(&bench)?;
    others_are_found(&bench, installed(&said)?)?;
    let log = bench.gateway.log()?;
    for context in ["http", "network"] {
        let line = format!(
            r#""event":"configured","context":"{context}","policyHash":"{}""#,
            rendered.policy_hash()
        );
        ensure!(log.contains(&line), "no `{line}`");
    }
    // Places that no WasmPlugin reaches share what the image carries.
    crate::memory::as_planned(&bench, &install)
}

/// The audit knows the policies in the image by the hash that the objects name.
fn others_are_found(bench: &Bench, mut install: Install) -> Result<()> {
    let (dump, mut policy) = (bench.dump()?, reference::policy()?);
    let found = reference::audited(&dump, &install, std::slice::from_ref(&policy))?;
    ensure!(found.is_empty(), "{found:?}");
    let named = install.spec.module.policy.clone().context("no policy")?;
    *policy.pointer_mut("/metadata/name").context("no name")? = "later".into();
    let policies = [policy];
    let carried = EmbeddedPolicies::of(&install, &policies);
    let carried = carried.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    install.spec.module.policy = Some(carried.hash().to_owned());
    let found = reference::audited(&dump, &install, &policies)?;
    let both = |message: &str| {
        [&*named, carried.hash()]
            .iter()
            .all(|hash| message.contains(hash))
    };
    ensure!(
        found.len() == 4 && found.iter().all(|problem| both(problem.message())),
        "{found:?}"
    );
    Ok(())
}
