//! `warden verify` in a pod of the reference case: `cargo xtask demo --verify`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use integration::end_to_end::{self, EndToEnd, Node};
use integration::mesh::APP1;
use integration::report::{self, Row, cell};
use integration::sandbox;
use serde_json::Value;
use warden::Exit;

fn main() -> Result<ExitCode> {
    if !sandbox::inside() {
        return sandbox::reenter();
    }
    eprintln!("demo: starting a pod, its sidecar, the gateway and the outside world");
    let _way = end_to_end::start(&|_| {})?;
    let node = Node::new()?;
    EndToEnd::capture()?;
    let json = std::env::args().any(|argument| argument == "--json");
    let bypass = ["--only", "bypass"];
    let mut good = show("through the sidecar, without the node guard", json, &[])? == Exit::Defects;
    node.guard()?;
    good &= show("through the sidecar, with the guard", json, &[])? == Exit::Ok;
    EndToEnd::uncapture()?;
    good &= show("past the sidecar, with the guard", json, &bypass)? == Exit::Ok;
    eprintln!(
        "demo: {}",
        if good {
            "all ways are closed with the guard, and were found open without it"
        } else {
            "not as it should be"
        }
    );
    Ok(ExitCode::from(u8::from(!good)))
}

/// Runs `warden verify` in the pod, and prints what it found below a heading, or as it is.
fn show(what: &str, json: bool, arguments: &[&str]) -> Result<Exit> {
    let (exit, text) = EndToEnd::verify(&[&["--output", "json"], arguments].concat())?;
    let mut out = std::io::stdout().lock();
    if json {
        eprintln!("{what}:");
        out.write_all(text.as_bytes())?;
    } else {
        let report: Value = serde_json::from_str(&text)?;
        let probes = report.get("probes").and_then(Value::as_array);
        let rows: Vec<Row> = probes.context("no probes")?.iter().map(row).collect();
        let differ = rows.iter().filter(|row| !row.as_expected).count();
        let summary = report::summary(rows.len(), differ);
        write!(out, "{what}:\n{}{summary}\n\n", report::table(rows))?;
    }
    eprintln!("exit code {}", exit.code());
    Ok(exit)
}

/// An attempt as `warden verify` writes it.
fn row(probe: &Value) -> Row {
    let text = |pointer: &str| probe.pointer(pointer).and_then(Value::as_str);
    let [attempt, verdict, kind] = ["/attempt", "/expected/verdict", "/seen/kind"]
        .map(|pointer| text(pointer).unwrap_or_default().to_owned());
    let detail = text("/seen/detail").filter(|_| kind != "reached");
    let rule = ["/seen/policy", "/seen/tier", "/seen/rule"].map(text);
    let rule: Vec<&str> = rule.into_iter().flatten().collect();
    Row {
        as_expected: text("/result") == Some("as_expected"),
        workload: APP1.name.to_owned(),
        destination: attempt,
        expected: verdict,
        seen: detail.map_or_else(|| kind.clone(), |detail| format!("{kind} ({detail})")),
        rule: cell(Some(&rule.join("/"))),
        code: cell(text("/seen/reason")),
    }
}
