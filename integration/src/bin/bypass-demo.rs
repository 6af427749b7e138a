//! Every way around the gateway, with and without the guard in the node's kernel:
//! `cargo xtask demo --bypass`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Parser;
use integration::{bypass, report};
use serde_json::Value;

#[derive(Parser)]
#[command(about = "Every way around the gateway, with and without the node guard.")]
struct Arguments {
    /// Print the rows as JSON.
    #[arg(long)]
    json: bool,
    /// The test program of the node guard.
    tests: PathBuf,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    eprintln!("demo: four kinds of pod network, one after the other, each some seconds");
    let (rows, noise, passed) = tried(&arguments.tests)?;
    let text = if arguments.json {
        let rows: Vec<String> = rows.iter().map(Value::to_string).collect();
        format!("[\n{}\n]", rows.join(",\n"))
    } else {
        bypass::tables(&rows)
    };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    if !passed {
        eprintln!("{noise}");
    }
    let all = bypass::rows(&rows);
    let differ = all.iter().filter(|(_, row)| !row.as_expected).count();
    eprintln!("{}", report::summary(all.len(), differ));
    eprintln!("demo: {}", bypass::summary(&rows));
    let shown = passed && differ == 0 && !rows.is_empty();
    Ok(ExitCode::from(u8::from(!shown)))
}

/// What the table's tests print: its rows, and what else they say.
fn tried(tests: &Path) -> Result<(Vec<Value>, String, bool)> {
    let mut child = Command::new(tests)
        .args(["truth_table::", "--nocapture", "--test-threads=1"])
        .env("EGRESS_CNI_JSON", "1")
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| tests.display().to_string())?;
    let output = child.stdout.take().context("no output")?;
    let (mut rows, mut noise) = (Vec::new(), String::new());
    let mut plugin = String::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        // The harness writes a test's name without a line's end before what the test writes.
        let row = line.find('{').and_then(|at| line.get(at..));
        let row = row.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let Some(row) = row else {
            noise.push_str(&line);
            noise.push('\n');
            continue;
        };
        let own = bypass::plugin(&row);
        if own != plugin {
            eprintln!("demo: {own}: every route was tried");
            own.clone_into(&mut plugin);
        }
        rows.push(row);
    }
    let passed = child.wait()?.success();
    Ok((rows, noise, passed))
}
