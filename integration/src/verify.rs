//! `warden verify` of the reference case, in whatever network this thread is in.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use warden::{Console, Exit};

use crate::mesh::Workload;
use crate::workspace;

/// Runs it for a workload, with these arguments beside; how it ended and what it printed.
///
/// # Errors
/// If what it prints is no text.
pub fn reference(workload: &Workload, arguments: &[&str]) -> Result<(Exit, String)> {
    let policy = workspace::root().join("cases/policies/reference.yaml");
    let policy = policy.to_string_lossy();
    let mut from = workload.identity.to_owned();
    for (key, value) in workload.peer.labels {
        from.extend([",label=", key, "=", value]);
    }
    let fixed = [
        "warden",
        "verify",
        &policy,
        "--from",
        &from,
        "--timeout",
        "12",
    ];
    let all: Vec<&str> = fixed.iter().chain(arguments).copied().collect();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = warden::run(
        all,
        &mut Console {
            stdin: &mut std::io::empty(),
            stdout: &mut stdout,
            stderr: &mut stderr,
            now: Some(0),
            directory: Path::new("."),
            color: false,
        },
    );
    // What it could not do is what a failing test has to show.
    if stdout.is_empty() {
        stdout = stderr;
    }
    Ok((exit, String::from_utf8(stdout)?))
}

/// The attempts of a JSON report with this result, in words.
///
/// # Errors
/// If it is no report.
pub fn attempts(report: &str, result: &str) -> Result<Vec<String>> {
    let report: Value = serde_json::from_str(report).with_context(|| report.to_owned())?;
    let probes = report.get("probes").and_then(Value::as_array);
    let probes = probes.context("no probes")?.iter();
    let field = |probe: &Value, name: &str| {
        let text = probe.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    Ok(probes
        .filter(|probe| field(probe, "result") == result)
        .map(|probe| field(probe, "attempt"))
        .collect())
}
