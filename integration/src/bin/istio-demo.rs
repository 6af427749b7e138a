//! The reference matrix on configuration that a real Istio control plane generates:
//! `cargo xtask demo --istio`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use integration::istio::matrix;
use integration::istio::tools::{Missing, Program};
use integration::{report, sandbox};

fn main() -> Result<ExitCode> {
    if Program::Istiod.find().is_none() {
        eprintln!("demo: {}", Missing(Program::Istiod));
        return Ok(ExitCode::FAILURE);
    }
    if !sandbox::inside() {
        return sandbox::reenter();
    }
    eprintln!("demo: starting the control plane, the gateway, two pods and the outside world");
    let (outcomes, leaks) = matrix::whole(|notice| eprintln!("demo: {notice}"))?;
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
    let summary = report::summary(outcomes.len(), differ);
    eprintln!("{summary}; leaks: {}", leaks.len());
    for leak in &leaks {
        eprintln!("{leak}");
    }
    Ok(ExitCode::from(u8::from(differ > 0 || !leaks.is_empty())))
}
