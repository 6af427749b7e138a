//! The reference case as an admin would have it: a policy, install settings, and the cluster's own
//! objects.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use egress_render::audit::Live;
use egress_render::{Install, RenderError, Rendered, audit, render};
use serde_json::Value;

use crate::workspace;

/// The folder with the install settings and the rendered manifests.
#[must_use]
pub fn folder() -> PathBuf {
    workspace::root().join("istio/reference")
}

/// What the cluster holds before anything of ours: namespaces, pods, the gateway's Service.
#[must_use]
pub fn cluster() -> PathBuf {
    workspace::root().join("integration/fixtures/istio/cluster.yaml")
}

/// The install settings.
///
/// # Errors
/// If the file cannot be read.
pub fn install() -> Result<Install> {
    read(&folder().join("install.yaml"))
}

/// The policy.
///
/// # Errors
/// If the file cannot be read.
pub fn policy() -> Result<Value> {
    read(&workspace::root().join("cases/policies/reference.yaml"))
}

/// The manifests.
///
/// # Errors
/// If they cannot be rendered.
pub fn rendered() -> Result<Rendered> {
    of(&install()?, &[policy()?])
}

/// Renders, with all problems in the error.
///
/// # Errors
/// If something cannot be rendered.
pub fn of(install: &Install, policies: &[Value]) -> Result<Rendered> {
    render(install, policies).map_err(|problems| all(&problems))
}

/// What is wrong with a gateway's configuration.
///
/// # Errors
/// As [`of`].
pub fn audited<'l>(
    live: impl Into<Live<'l>>,
    install: &Install,
    policies: &[Value],
) -> Result<Vec<RenderError>> {
    audit::gateway(live.into(), install, policies).map_err(|problems| all(&problems))
}

fn all(problems: &[RenderError]) -> anyhow::Error {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    anyhow!(lines.join("\n"))
}

fn read<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}
