//! `warden verify` in a pod of the reference case: `cargo xtask demo --verify`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use integration::end_to_end::{self, EndToEnd, Node};
use integration::sandbox;
use warden::Exit;

fn main() -> Result<ExitCode> {
    if !sandbox::inside() {
        return sandbox::reenter();
    }
    eprintln!("demo: starting a pod, its sidecar, the gateway and the outside world");
    let _way = end_to_end::start(&|_| {})?;
    let node = Node::new()?;
    EndToEnd::capture()?;
    let only: &[&str] = if std::env::args().any(|argument| argument == "--json") {
        &["--output", "json"]
    } else {
        &["--all"]
    };
    let bypass = [only, &["--only", "bypass"]].concat();
    let mut good = show("through the sidecar, without the node guard", only)? == Exit::Defects;
    node.guard()?;
    good &= show("through the sidecar, with the guard", only)? == Exit::Ok;
    EndToEnd::uncapture()?;
    good &= show("past the sidecar, with the guard", &bypass)? == Exit::Ok;
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

fn show(what: &str, arguments: &[&str]) -> Result<Exit> {
    eprintln!("\n{what}:");
    let (exit, text) = EndToEnd::verify(arguments)?;
    std::io::stdout().write_all(text.as_bytes())?;
    eprintln!("exit code {}", exit.code());
    Ok(exit)
}
