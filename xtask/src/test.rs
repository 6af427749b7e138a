//! `cargo xtask test`: every check and test, with a count at the end.

use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::run::{cargo, check, progress, say};
use crate::{build, envoy};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The engine: cases, laws, reference.
    Engine,
    /// The module against a fake host, and its size.
    Filter,
    /// The module in a real Envoy.
    Envoy,
    /// The kernel part.
    Cni,
    /// What an admin applies, against the real Istio; part of `envoy` in a full run.
    Istio,
    /// The command.
    Cli,
}

/// A full run, quickest first.
const FULL: [Part; 5] = [
    Part::Engine,
    Part::Filter,
    Part::Cli,
    Part::Cni,
    Part::Envoy,
];

#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs one part, or everything.
pub(crate) fn run(only: Option<Part>) -> ExitCode {
    let mut count = Count::default();
    let mut broken = Vec::new();
    if only.is_none() {
        for (name, arguments) in [
            ("format", &["fmt", "--all", "--check"][..]),
            (
                "lints",
                &[
                    "clippy",
                    "--quiet",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ],
            ),
        ] {
            stage(name, &mut broken, || check(&mut cargo(arguments)));
        }
    }
    for part in only.map_or(FULL.to_vec(), |part| vec![part]) {
        stage(&format!("{part:?}"), &mut broken, || {
            tests(part, &mut count)
        });
    }
    for name in &broken {
        progress(&format!("{name} failed"));
    }
    let Count {
        passed,
        failed,
        skipped,
    } = count;
    say(&format!(
        "{passed} passed, {failed} failed, {skipped} skipped"
    ));
    ExitCode::from(u8::from(!broken.is_empty() || passed == 0))
}

fn stage(name: &str, broken: &mut Vec<String>, work: impl FnOnce() -> Result<()>) {
    progress(&format!("{name} ..."));
    let start = Instant::now();
    if let Err(error) = work() {
        progress(&format!("{error:#}"));
        broken.push(name.to_owned());
    }
    progress(&format!("{name}: {} s", start.elapsed().as_secs()));
}

fn tests(part: Part, count: &mut Count) -> Result<()> {
    match part {
        Part::Engine => {
            suite(&["--package=egress-policy"], count)?;
            build::bench(&["--samples=31".to_owned()])
        }
        Part::Filter => {
            build::size()?;
            suite(&["--package=egress-filter"], count)
        }
        Part::Cli => suite(&["--package=warden"], count),
        Part::Cni => suite(&["--package=egress-cni"], count),
        Part::Istio => {
            envoy::install()?;
            build::wasm()?;
            suite(&["--package=egress-render"], count)?;
            suite(&["--package=integration", "--test=istio"], count)
        }
        Part::Envoy => {
            envoy::install()?;
            build::wasm()?;
            suite(
                &[
                    "--package=integration",
                    "--package=egress-render",
                    "--package=xtask",
                ],
                count,
            )?;
            suite(&["--package=fixture-peer-metadata"], count)
        }
    }
}

/// Runs `cargo test`, passes its output on and adds up what it says.
fn suite(packages: &[&str], count: &mut Count) -> Result<()> {
    let mut child = cargo(&["test", "--quiet", "--no-fail-fast"])
        .args(packages)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        count.add(&line);
        say(&line);
    }
    anyhow::ensure!(child.wait()?.success(), "a test failed");
    Ok(())
}

impl Count {
    /// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            let Some((number, word)) = part.trim().split_once(' ') else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn counts_are_added_up_over_several_results() {
        let mut count = Count::default();
        count.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out");
        count.add("test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 0 filtered out");
        count.add("running 7 tests");
        assert_eq!((count.passed, count.failed, count.skipped), (14, 5, 1));
    }
}
