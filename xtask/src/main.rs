//! Developer commands: `cargo xtask COMMAND`.

mod build;
mod cluster;
mod commands;
mod dependencies;
mod dist;
mod envoy;
mod jobs;
mod kinds;
mod run;
mod sbom;
mod structure;
mod suffixes;
mod suites;
mod test;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Developer commands.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the reference case in real Envoys and print who reached what and why.
    Demo {
        /// Print the rows as JSON.
        #[arg(long)]
        json: bool,
        /// Leave everything running and print what to try.
        #[arg(long)]
        keep: bool,
        /// Print instead every way around the gateway, with and without the guard in the
        /// node's kernel.
        #[arg(long, conflicts_with = "keep")]
        bypass: bool,
        /// `warden verify` in a pod, without and with the guard in the node's kernel.
        #[arg(long, conflicts_with_all = ["keep", "bypass", "istio"])]
        verify: bool,
        /// On configuration that a real Istio control plane generates from the rendered
        /// manifests.
        #[arg(long, conflicts_with_all = ["keep", "bypass"])]
        istio: bool,
        /// On a real Kubernetes with the real Istio: who reaches what by `kubectl exec`, and the
        /// ways around from real pods.
        #[arg(long, conflicts_with_all = ["bypass", "verify", "istio"])]
        cluster: bool,
    },
    /// A Kubernetes with Istio and the reference case, in namespaces of its own.
    Cluster {
        #[arg(value_enum)]
        verb: cluster::Verb,
    },
    /// Run `kubectl` on the cluster that `cargo xtask cluster up` brought up.
    Kubectl {
        /// What `kubectl` takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every check and test, or one part.
    Test {
        /// Only this part, without format check and lints.
        #[arg(long)]
        only: Option<test::Part>,
        /// At full length, and with every demo, the whole soak and a release besides: an hour or
        /// two.
        #[arg(long)]
        long: bool,
    },
    /// Build the proxy-wasm modules, and print the path of the one that judges.
    Wasm,
    /// Build what runs outside an image of its own as static files, and print their paths: the
    /// `warden` command for pods, the CNI plugin and its agent for nodes.
    Static,
    /// Make what a release holds in `target/dist`: static `warden` for `x86_64` and `aarch64`, the CNI
    /// plugin and the node agent as static files, the module, images of the module, of `warden`
    /// and of the node agent as OCI layouts, completions for shells, bills of materials, and
    /// SHA256SUMS.
    ///
    /// The same commit gives the same bytes: the release is put together twice and compared. What
    /// is for another architecture than this machine's is left out, with the reason, where its
    /// standard library or a C compiler for it is missing.
    Dist {
        /// Build everything a second time, in another folder, and compare that too.
        #[arg(long)]
        rebuild: bool,
    },
    /// Print the size of the module and fail if it is over its budget.
    Size,
    /// Measure the time per verdict as policies grow, and fail if it grows too; with `gateway`, what
    /// a verdict costs in a real Envoy beside other ways to judge a request; with `commands`, seconds
    /// and memory of `warden check`, `diff`, `docs`, `package` and `render`, in release, on a long list.
    Bench {
        /// A shape of policies, or `--help`; `gateway` and what that takes; or `commands`, and of how
        /// many names their list is (500,000 if left out).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Have one workload take all that it can get of a gateway while another sends requests, and
    /// fail if the other one suffers.
    Soak {
        /// The one soak that there is.
        #[arg(long, required = true)]
        noisy_neighbour: bool,
        /// The short form, which is a test too.
        #[arg(long)]
        short: bool,
    },
    /// Fail on a circle between files, on a public type named by a retired word, and on a string of
    /// `policy::contract` that is written out elsewhere.
    Structure,
    /// Write the list of crates that the module is linked from, for its bill of materials.
    Sbom,
    /// Write the lists of kinds and fields that the admission policies have verdicts about, off the
    /// pinned Istio, Gateway API and Kubernetes (Go's module proxy).
    Kinds,
    /// Write the list of parents of public suffixes that `warden check` warns of, off the crate that
    /// carries the Public Suffix List.
    Suffixes,
    /// Install Envoy under `target/`, unless the variable ENVOY names one, and print its path.
    Envoy,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Demo {
            json, bypass: true, ..
        } => bypass(json),
        Command::Demo {
            json, verify: true, ..
        } => demo("verify-demo", json, false),
        Command::Demo {
            json, istio: true, ..
        } => demo("istio-demo", json, false),
        Command::Demo {
            json,
            keep,
            cluster: true,
            ..
        } => cluster::demo(json, keep),
        Command::Demo { json, keep, .. } => demo("demo", json, keep),
        Command::Cluster { verb } => cluster::run(verb),
        Command::Kubectl { arguments } => cluster::kubectl(&arguments),
        Command::Test { only, long } => Ok(test::run(only, long)),
        Command::Wasm => {
            build::wasm()?;
            run::say(&build::module().display().to_string());
            Ok(ExitCode::SUCCESS)
        }
        Command::Static => build::static_files().map(|()| ExitCode::SUCCESS),
        Command::Dist { rebuild } => dist::run(rebuild).map(|()| ExitCode::SUCCESS),
        Command::Size => build::size().map(|()| ExitCode::SUCCESS),
        Command::Bench { arguments } => bench(&arguments),
        Command::Soak { short, .. } => {
            let flags: &[&str] = if short { &["--short"] } else { &[] };
            program("noisy-neighbour", flags)
        }
        Command::Structure => structure::check().map(|()| ExitCode::SUCCESS),
        Command::Sbom => sbom::write().map(|()| ExitCode::SUCCESS),
        Command::Kinds => kinds::write().map(|()| ExitCode::SUCCESS),
        Command::Suffixes => suffixes::write().map(|()| ExitCode::SUCCESS),
        Command::Envoy => {
            run::say(&envoy::install()?.display().to_string());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The truth table of the node guard, which makes its own network namespaces.
fn bypass(json: bool) -> Result<ExitCode> {
    let tests = suites::one("egress-cni", "kernel")?;
    let name = "bypass-demo";
    build::program("integration", name)?;
    let mut command = run::cargo(&["run", "--quiet", "--package=integration", "--bin", name]);
    command.arg("--").args(run::demo_flags(json, false));
    run::exit_code(command.arg(tests))
}

fn demo(name: &str, json: bool, keep: bool) -> Result<ExitCode> {
    program(name, &run::demo_flags(json, keep))
}

/// The engine's benchmark, or the gateway's.
fn bench(arguments: &[String]) -> Result<ExitCode> {
    match arguments.split_first() {
        Some((first, rest)) if first == "gateway" => {
            let flags: Vec<&str> = rest.iter().map(String::as_str).collect();
            program("gateway-bench", &flags)
        }
        Some((first, rest)) if first == "commands" => {
            let names = match rest {
                [] => commands::NAMES,
                [names] => names.parse().context("how many names")?,
                _ => bail!("`bench commands` takes how many names the list has"),
            };
            commands::measure(names).map(|()| ExitCode::SUCCESS)
        }
        _ => build::bench(arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// A program of the integration tests, with everything that it needs.
fn program(name: &str, flags: &[&str]) -> Result<ExitCode> {
    let envoy = envoy::install()?;
    build::wasm()?;
    build::program("integration", name)?;
    let mut command = run::cargo(&["run", "--quiet", "--package=integration", "--bin", name]);
    run::exit_code(command.arg("--").args(flags).env("ENVOY", envoy))
}
