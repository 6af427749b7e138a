//! What tests ask of the API server, by its own command.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::node::Node;
use crate::command;

/// What came of a command: whether it succeeded, and what it said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether it ended with exit code 0.
    pub success: bool,
    /// Standard output, then standard error.
    pub text: String,
}

/// Runs `kubectl` with these arguments and `input` on its standard input.
///
/// # Errors
/// If it does not start.
pub fn tried(node: &Node, arguments: &[&str], input: &str) -> Result<Said> {
    let mut child = node
        .kubectl()?
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no input")?;
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // What ends before it has read everything says why.
    let _ = writer.join();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Said {
        success: output.status.success(),
        text,
    })
}

/// Runs `kubectl` and gives its standard output.
///
/// # Errors
/// If it fails, with everything that it says.
pub fn text(node: &Node, arguments: &[&str]) -> Result<String> {
    command::text(node.kubectl()?.args(arguments).stdin(Stdio::null()))
}

/// Applies this text on the server's side.
///
/// # Errors
/// What the API server refuses.
pub fn apply(node: &Node, text: &str) -> Result<()> {
    let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let said = tried(node, &arguments, text)?;
    ensure!(said.success, "{}", said.text);
    Ok(())
}

/// Applies these objects, again and again until all are taken: webhooks and kinds may be about to
/// come.
///
/// # Errors
/// What the API server still refuses after a minute.
pub fn apply_all(node: &Node, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match apply(node, &list) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_secs(1)),
            outcome => return outcome,
        }
    }
}

/// Waits until a Deployment or DaemonSet, such as `deploy/app1`, is rolled out.
///
/// # Errors
/// If it is not within three minutes; the message has the namespace's pods and events.
pub fn rolled_out(node: &Node, namespace: &str, name: &str) -> Result<()> {
    let arguments = ["-n", namespace, "rollout", "status", name, "--timeout=180s"];
    let said = tried(node, &arguments, "")?;
    if said.success {
        return Ok(());
    }
    let about = |arguments: &[&str]| {
        let said = tried(node, arguments, "");
        said.map(|said| said.text).unwrap_or_default()
    };
    let pods = about(&["-n", namespace, "get", "pods", "-o", "wide"]);
    let events = about(&["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"]);
    anyhow::bail!("{name}: {}\n{pods}\n{events}", said.text)
}
