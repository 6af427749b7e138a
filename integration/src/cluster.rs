//! A real Kubernetes with the real Istio on this machine: one node in network, mount, process, host
//! name and IPC namespaces of its own, and an outside world behind it.
//!
//! - [`tools`] finds the programs, or says how to get them.
//! - [`pki`] makes keys, certificates and the parts' ways to the API server.
//! - [`node`] starts and ends the node, and runs programs in it; [`inside`] is its first process.
//! - [`world`] is what is outside: public-looking addresses, real ports, names, a registry.
//! - [`image`] makes the images, of programs of this machine.
//! - [`kubectl`] speaks to the API server.
//! - [`mesh`] installs Istio, the node guard and the reference case.
//! - [`exec`] tries things from within pods.
//! - [`matrix`] is who reaches what in the reference case, [`around`] the ways around the gateway,
//!   [`ordinary`] what stays in the cluster.
//! - [`page`] follows pages of the documentation, [`install_page`] the page Install.
//! - [`admission`] hands the tables of admission cases to an API server of their own.
//!
//! Its data files are in `integration/cluster/`. What runs here has to be root.

pub mod admission;
pub mod around;
pub mod exec;
pub mod image;
pub mod inside;
pub mod install_page;
pub mod kubectl;
pub mod matrix;
pub mod mesh;
pub mod node;
pub mod ordinary;
pub mod page;
pub mod pki;
pub mod tools;
pub mod world;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{template, workspace};

/// The node's address.
pub const NODE: &str = "172.18.0.2";
/// The registry's name.
pub const REGISTRY: &str = "registry.example";
/// The gateway's namespace.
pub const GATEWAY: &str = "istio-egress";

/// The folder of everything that is kept, and of the cluster that stays.
#[must_use]
pub fn folder() -> PathBuf {
    workspace::target().join("cluster")
}

/// A data file, with these values in place of their `${NAME}`.
///
/// # Errors
/// If it cannot be read, or names another value.
pub fn data(name: &str, values: &[(&str, &str)]) -> Result<String> {
    let path = data_file(name);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    template::fill(&text, values).with_context(|| path.display().to_string())
}

/// Where a data file is.
#[must_use]
pub fn data_file(name: &str) -> PathBuf {
    workspace::root().join("integration/cluster").join(name)
}
