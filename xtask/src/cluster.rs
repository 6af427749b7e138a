//! A Kubernetes with Istio on this machine: what it needs is built here, what it does is in
//! `integration`.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::run::{cargo, demo_flags, exit_code};
use crate::{build, envoy};

/// What is done with the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verb {
    /// Bring it up with the reference case on it, and leave it running.
    Up,
    /// End it.
    Down,
    /// Say what is on it.
    Status,
}

/// Set where a program of the cluster that is missing is an error, as in CI.
pub(crate) const REQUIRED: &str = "WARDEN_KUBERNETES_REQUIRED";

/// Builds what a cluster runs: the module, the CNI plugin and its agent; and installs Envoy.
pub(crate) fn prepare() -> Result<()> {
    envoy::install()?;
    build::wasm()?;
    for program in ["egress-warden-cni", "egress-warden-cni-agent"] {
        build::static_file("egress-cni", program, "dev")?;
    }
    Ok(())
}

/// Does it.
pub(crate) fn run(verb: Verb) -> Result<ExitCode> {
    let word = match verb {
        Verb::Up => {
            prepare()?;
            build::program("integration", "cluster")?;
            "up"
        }
        Verb::Down => "down",
        Verb::Status => "status",
    };
    program(&[word])
}

/// Hands these arguments to the cluster's `kubectl`.
pub(crate) fn kubectl(arguments: &[String]) -> Result<ExitCode> {
    let arguments = arguments.iter().map(String::as_str);
    program(&["kubectl"].into_iter().chain(arguments).collect::<Vec<_>>())
}

/// Prints who reaches what.
pub(crate) fn demo(json: bool, keep: bool) -> Result<ExitCode> {
    prepare()?;
    build::program("integration", "cluster")?;
    program(&[&["demo"], &demo_flags(json, keep)[..]].concat())
}

fn program(arguments: &[&str]) -> Result<ExitCode> {
    let mut command = cargo(&["run", "--quiet", "--package=integration", "--bin=cluster"]);
    exit_code(command.arg("--").args(arguments))
}
