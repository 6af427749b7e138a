//! The reference matrix on configuration that a real Istio control plane generates:
//! `cargo xtask demo --istio`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use egress_render::install::Names;
use integration::istio::bench::{Bench, Plan, install};
use integration::istio::pod::{self, Capture};
use integration::istio::tools::{Missing, Program};
use integration::istio::{matrix, reference};
use integration::sandbox;

fn main() -> Result<ExitCode> {
    if Program::Istiod.find().is_none() {
        eprintln!("demo: {}", Missing(Program::Istiod));
        return Ok(ExitCode::FAILURE);
    }
    if !sandbox::inside() {
        return sandbox::reenter();
    }
    eprintln!("demo: starting the control plane, the gateway, two pods and the outside world");
    let (mut install, mut policy) = (install()?, reference::policy()?);
    // Istio's agent tells pods of the names that have an address.
    let agent = Program::PilotAgent.find().is_some();
    if agent {
        install.spec.tunnel.names = Some(Names::DnsCapture);
        policy = matrix::with_names(&policy)?;
    } else {
        eprintln!(
            "demo: without names over TCP: {}",
            Missing(Program::PilotAgent)
        );
    }
    let mut plan = Plan::of(&reference::of(&install, &[policy])?);
    plan.dns_capture = agent;
    // Without a user for applications, what stays in the mesh is not redirected at all.
    if pod::has_applications() {
        plan.capture = Capture::Everything;
        sandbox::forward()?;
    } else {
        eprintln!("demo: without root the row about a pod's address shows nothing");
    }
    let bench = Bench::start(&plan)?;
    let mut outcomes = matrix::run(&bench)?;
    outcomes.push(matrix::pod(&bench)?);
    if agent {
        outcomes.extend(matrix::run_rows(&bench, matrix::NAMED)?);
    }
    let leaks = matrix::leaks(&bench)?;
    let json = std::env::args().any(|argument| argument == "--json");
    let text = if json {
        format!("{:#}\n", matrix::json(&outcomes))
    } else {
        matrix::table(&outcomes)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    let differ = outcomes
        .iter()
        .filter(|outcome| outcome.came != outcome.expected)
        .count();
    eprintln!(
        "{} rows, {differ} differ; leaks: {}",
        outcomes.len(),
        leaks.len()
    );
    for leak in &leaks {
        eprintln!("{leak}");
    }
    Ok(ExitCode::from(u8::from(differ > 0 || !leaks.is_empty())))
}
