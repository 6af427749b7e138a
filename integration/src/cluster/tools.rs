//! The programs of a cluster. Building Kubernetes takes Go and many minutes, so a clone may be
//! without it; then what needs it is skipped, by name.

use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use crate::command;
use crate::istio::tools;

/// The folder that holds them, if they are not on `PATH`.
pub const FOLDER: &str = "WARDEN_KUBERNETES_TOOLS";
/// Set where a missing one is an error, as in CI.
pub const REQUIRED: &str = "WARDEN_KUBERNETES_REQUIRED";

/// Programs of the folder, and what each is.
const PROGRAMS: [(&str, &str); 4] = [
    (
        "kube",
        "etcd and every part of Kubernetes in one program, chosen by its first argument",
    ),
    ("coredns", "CoreDNS"),
    (
        "istio",
        "pilot-discovery, pilot-agent and install-cni in one program, chosen by its name",
    ),
    ("istio-cni", "Istio's CNI plugin"),
];

/// Programs of the machine, and Debian's packages that have them.
const MACHINE: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("busybox", "busybox-static"),
    ("curl", "curl"),
    ("unshare", "util-linux"),
];

/// Where a program is: in the folder that [`FOLDER`] names, else on `PATH`.
///
/// # Errors
/// If it is nowhere.
pub fn find(name: &str) -> Result<PathBuf> {
    let system = ["/usr/sbin", "/sbin"].map(|folder| PathBuf::from(folder).join(name));
    command::find(FOLDER, name)
        .or_else(|| system.into_iter().find(|candidate| candidate.is_file()))
        .with_context(|| format!("no {name}"))
}

/// What keeps a cluster from running here: a line for each, with what enables it.
#[must_use]
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !geteuid().is_root() {
        missing.push("a cluster needs root".to_owned());
    }
    for (name, what) in PROGRAMS {
        if find(name).is_err() {
            missing.push(format!(
                "no {name} ({what}); put it into the folder that {FOLDER} names"
            ));
        }
    }
    for (name, package) in MACHINE {
        if find(name).is_err() {
            missing.push(format!("no {name}; apt-get install {package}"));
        }
    }
    for program in [tools::Program::Istioctl, tools::Program::Registry] {
        if program.find().is_none() {
            missing.push(tools::Missing(program).to_string());
        }
    }
    missing
}

/// Whether a test may be left out for want of them.
#[must_use]
pub fn dispensable() -> bool {
    !command::is_set(REQUIRED)
}
