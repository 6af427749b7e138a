//! `cargo xtask test`: every check and test, with a count at the end.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::jobs::{self, Job};
use crate::run::{cargo, check, progress, root, say, target};
use crate::structure;
use crate::suites::{self, Suite};
use crate::{build, cluster, dependencies, envoy};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The engine: cases, laws, reference.
    Engine,
    /// The module against a fake host, and its size.
    Filter,
    /// The module in a real Envoy.
    Envoy,
    /// The node guard.
    Cni,
    /// What an admin applies, against the real Istio; part of `envoy` in a full run.
    Istio,
    /// The command, images, and what a release holds.
    Cli,
    /// The engine's cases on wasm32-unknown-unknown, in Node.js.
    Wasm,
    /// Licences and sources of what is built in, by cargo-deny.
    Dependencies,
    /// On a real Kubernetes with the real Istio; part of `envoy` in a full run.
    Cluster,
    /// The page Install, followed on that cluster: prints each command with its exit code and seconds,
    /// and what holds after it; part of `cluster`.
    InstallPage,
}

impl Part {
    /// The packages whose tests it runs.
    const fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Engine => &["policy"],
            Self::Filter => &["filter"],
            Self::Envoy => &[
                "integration",
                "render",
                "xtask",
                "integration/fixtures/peer-metadata",
            ],
            Self::Cni => &["cni"],
            Self::Istio => &["render", "integration"],
            Self::Cli => &["analysis", "cli", "package", "xtask/dist"],
            Self::Wasm | Self::Dependencies => &[],
            Self::Cluster | Self::InstallPage => &["integration"],
        }
    }

    /// What of its test programs it runs, by the names of tests; everything if there is none.
    const fn named(self) -> &'static [&'static str] {
        match self {
            Self::InstallPage => &["the_install_page_works_as_it_is_written"],
            _ => &[],
        }
    }

    /// Whether it runs this one.
    fn has(self, suite: &Suite) -> bool {
        let mut folders = self.folders().iter();
        let all = match self {
            Self::Istio => suite.folder.ends_with("render") || suite.name == "istio",
            Self::Cluster | Self::InstallPage => suite.name == "cluster",
            _ => true,
        };
        all && folders.any(|folder| root().join(folder) == suite.folder)
    }
}

/// A full run, quickest first.
const FULL: [Part; 7] = [
    Part::Dependencies,
    Part::Engine,
    Part::Wasm,
    Part::Filter,
    Part::Cli,
    Part::Cni,
    Part::Envoy,
];

/// What a long run sets: policies that the laws are tried on, and seconds of the soak with random
/// answers of DNS.
const LONG: [(&str, &str); 2] = [("LAWS_POLICIES", "15000"), ("WARDEN_SOAK_SECONDS", "120")];

/// Test programs that run at a time: more than the two cores of an ordinary machine, since the live
/// ones wait for most of their time.
const LANES: usize = 3;

#[derive(Default)]
struct Count {
    /// The test programs.
    suites: BTreeSet<Suite>,
    /// Whether everything runs at full length.
    long: bool,
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs one part, or everything; `long` at full length, and then every demo, the whole soak and a
/// release.
pub(crate) fn run(only: Option<Part>, long: bool) -> ExitCode {
    let mut count = Count {
        long,
        ..Count::default()
    };
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
            (
                "fuzz targets",
                &[
                    "check",
                    "--quiet",
                    "--manifest-path=fuzz/Cargo.toml",
                    "--no-default-features",
                ],
            ),
        ] {
            stage(name, &mut broken, || check(&mut cargo(arguments)));
        }
        stage("documentation", &mut broken, || {
            let mut document = cargo(&[
                "doc",
                "--quiet",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ]);
            check(document.env("RUSTDOCFLAGS", "-D warnings"))
        });
    }
    if only.is_none() {
        stage("structure", &mut broken, structure::check);
        stage("analysis on wasm32", &mut broken, || {
            build::standard_library("wasm32-unknown-unknown")?;
            let arguments = ["check", "--quiet", "--package=egress-analysis"];
            check(cargo(&arguments).arg("--target=wasm32-unknown-unknown"))
        });
    }
    stage("build of tests", &mut broken, || {
        count.suites = suites::build(only.map(Part::folders))?;
        Ok(())
    });
    let parts = only.map_or(FULL.to_vec(), |part| vec![part]);
    let mut jobs = Vec::new();
    for part in &parts {
        stage(&format!("{part:?}: preparation"), &mut broken, || {
            let variables = prepare(*part, &mut count)?;
            jobs.extend(jobs_of(*part, &count, &variables)?);
            Ok(())
        });
    }
    stage("test programs", &mut broken, || run_all(jobs, &mut count));
    for part in parts {
        stage(&format!("{part:?}: what runs alone"), &mut broken, || {
            alone(part, &mut count)
        });
    }
    if long && only.is_none() {
        at_length(&mut broken);
    }
    for name in &broken {
        progress(&format!("{name} failed"));
    }
    let Count {
        passed,
        failed,
        skipped,
        ..
    } = count;
    say(&format!(
        "{passed} passed, {failed} failed, {skipped} skipped"
    ));
    let all = [REQUIRED, GO_REQUIRED, ISTIO_REQUIRED, cluster::REQUIRED];
    let left_out = skipped > 0 && all.into_iter().all(is_set);
    if left_out {
        progress("something was skipped where nothing may be");
    }
    let failed = !broken.is_empty() || passed == 0 || left_out;
    ExitCode::from(u8::from(failed))
}

/// What no test covers in its whole length.
fn at_length(broken: &mut Vec<String>) {
    for arguments in [
        &["demo"][..],
        &["demo", "--istio"],
        &["demo", "--bypass"],
        &["demo", "--verify"],
        &["demo", "--cluster"],
        &["soak", "--noisy-neighbour"],
        &["bench"],
        &["bench", "gateway"],
        &["dist"],
    ] {
        stage(&arguments.join(" "), broken, || {
            check(cargo(&["xtask"]).args(arguments))
        });
    }
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

/// Builds what a part's test programs need beside themselves, and returns the variables by which
/// they find it.
fn prepare(part: Part, count: &mut Count) -> Result<Vec<(&'static str, OsString)>> {
    match part {
        Part::Filter => build::size()?,
        Part::Cni => {
            let plugin = build::static_file("egress-cni", "egress-warden-cni", "dev")?;
            let installed = target().join("tools/bin/cnitool");
            if ![installed.as_path(), Path::new("cnitool")]
                .iter()
                .any(|tool| runs(tool))
            {
                let why = format!("the chain by libcni needs cnitool: {CNITOOL}");
                count.skip_unless(is_set(GO_REQUIRED), &why)?;
            }
            return Ok(vec![("EGRESS_CNI_STATIC", plugin.into_os_string())]);
        }
        Part::Istio => {
            envoy::install()?;
            build::wasm()?;
        }
        Part::Envoy | Part::Cluster | Part::InstallPage => cluster::prepare()?,
        Part::Engine | Part::Cli | Part::Wasm | Part::Dependencies => {}
    }
    Ok(Vec::new())
}

/// What of a part cannot run beside anything else: measurements, and what compiles.
fn alone(part: Part, count: &mut Count) -> Result<()> {
    match part {
        Part::Engine => build::bench(&["--samples=31".to_owned()]),
        Part::Wasm => wasm_cases(count),
        Part::Dependencies => dependencies(count),
        Part::Filter
        | Part::Cni
        | Part::Istio
        | Part::Envoy
        | Part::Cli
        | Part::Cluster
        | Part::InstallPage => Ok(()),
    }
}

fn dependencies(count: &mut Count) -> Result<()> {
    let Some(program) = dependencies::program() else {
        return count.skip(&format!("this needs {}", dependencies::ENABLE));
    };
    dependencies::run(&program)?;
    count.passed += 1;
    Ok(())
}

/// What puts cnitool where the test looks for it.
const CNITOOL: &str =
    "GOBIN=$PWD/target/tools/bin go install github.com/containernetworking/cni/cnitool@v1.3.1";

/// True if the program is there.
fn runs(program: &Path) -> bool {
    std::process::Command::new(program)
        .arg("--help")
        .output()
        .is_ok()
}

/// The runner has to be of the version of wasm-bindgen in Cargo.lock.
fn wasm_cases(count: &mut Count) -> Result<()> {
    let version = wasm_bindgen_version()?;
    let installed = target().join("tools/bin/wasm-bindgen-test-runner");
    let runner = [installed, "wasm-bindgen-test-runner".into()]
        .into_iter()
        .find(|runner| says(runner, &version));
    let Some(runner) = runner.filter(|_| says(Path::new("node"), "v")) else {
        return count.skip(&format!(
            "this needs Node.js, and: cargo install wasm-bindgen-cli --version {version} --root target/tools"
        ));
    };
    build::standard_library("wasm32-unknown-unknown")?;
    // The runner does not know the `--quiet` that cargo would hand on.
    for (package, test) in [("egress-policy", "wasm"), ("egress-analysis", "answers")] {
        let mut command = cargo(&["test"]);
        command
            .arg(format!("--package={package}"))
            .arg(format!("--test={test}"))
            .arg("--target=wasm32-unknown-unknown")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", &runner);
        counted(&mut command, count)?;
    }
    Ok(())
}

/// True if the program is there and its `--version` says this.
fn says(program: &Path, wanted: &str) -> bool {
    let output = std::process::Command::new(program)
        .arg("--version")
        .output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(wanted))
}

fn wasm_bindgen_version() -> Result<String> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock")?;
    let (_, after) = lock
        .split_once("name = \"wasm-bindgen\"\nversion = \"")
        .context("Cargo.lock has no wasm-bindgen")?;
    let (version, _) = after.split_once('"').context("Cargo.lock is cut off")?;
    Ok(version.to_owned())
}

/// The test programs of a part, with these variables.
fn jobs_of(part: Part, count: &Count, variables: &[(&str, OsString)]) -> Result<Vec<Job>> {
    let jobs: Vec<Job> = count
        .suites
        .iter()
        .filter(|suite| part.has(suite))
        .map(|suite| {
            let mut command = suite.command();
            command.args(part.named());
            command.envs(variables.iter().map(|(name, value)| (name, value)));
            if count.long {
                command.envs(LONG);
            }
            Job {
                title: suite.title(),
                rank: suite.rank(),
                command,
            }
        })
        .collect();
    ensure!(
        !jobs.is_empty() || part.folders().is_empty(),
        "no test program is there"
    );
    Ok(jobs)
}

/// Runs test programs, several at a time, and says what came of each as it ends.
fn run_all(jobs: Vec<Job>, count: &mut Count) -> Result<()> {
    let mut failed = Vec::new();
    jobs::run(jobs, LANES, |done| {
        progress(&format!("{}: {} s", done.title, done.seconds));
        for line in done.output.lines() {
            count.add(line);
            say(line);
        }
        if !done.passed {
            failed.push(done.title);
        }
    });
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs a test program, passes its output on and adds up what it says.
fn counted(command: &mut std::process::Command, count: &mut Count) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        count.add(&line);
        say(&line);
    }
    ensure!(child.wait()?.success(), "a test failed");
    Ok(())
}

/// Set where a program that is missing is an error, as in CI.
const REQUIRED: &str = "WARDEN_TOOLS_REQUIRED";
/// The same of those that only a Go compiler newer than Debian's builds.
const GO_REQUIRED: &str = "WARDEN_GO_TOOLS_REQUIRED";
/// The same of Istio's programs.
const ISTIO_REQUIRED: &str = "WARDEN_ISTIO_REQUIRED";

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value != "0")
}

impl Count {
    /// Leaves something out and says what would enable it; where nothing may be left out, this is
    /// an error.
    fn skip(&mut self, what: &str) -> Result<()> {
        self.skip_unless(is_set(REQUIRED), what)
    }

    fn skip_unless(&mut self, required: bool, what: &str) -> Result<()> {
        ensure!(!required, "{what} ({REQUIRED} or {GO_REQUIRED} is set)");
        self.skipped += 1;
        progress(&format!("skipped: {what}"));
        Ok(())
    }

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
    fn nothing_is_left_out_where_everything_is_required() {
        let mut count = Count::default();
        assert!(count.skip_unless(true, "x").is_err());
        assert_eq!(count.skipped, 0);
        assert!(count.skip_unless(false, "x").is_ok());
        assert_eq!(count.skipped, 1);
    }

    #[test]
    fn counts_are_added_up_over_several_results() {
        let mut count = Count::default();
        count.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out");
        count.add("test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 0 filtered out");
        count.add("running 7 tests");
        assert_eq!((count.passed, count.failed, count.skipped), (14, 5, 1));
    }
}
