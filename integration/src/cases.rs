//! The decision cases of `cases/*.yaml`, played against a live gateway.
//!
//! The caller of a case is played by a client that holds a certificate of the mesh made for it and
//! sends the metadata that its sidecar would send. What a static gateway cannot be brought into is
//! left out, with a reason, and counted.

mod bootstrap;
mod hello;
pub(crate) use hello::client_hello;
mod attempt;
mod live;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use egress_policy::case::CaseFile;
use egress_policy::tree::Tree;
use serde_json::Value;

use crate::workspace;

pub use attempt::{Attempt, LeftOut, attempt};
pub use live::{LiveGateway, run_live};

/// A case file, and what the module's configuration needs of it as it is written.
pub struct LoadedCases {
    /// The file's name without its extension.
    pub name: String,
    /// The cases.
    pub file: CaseFile,
    /// The policies.
    pub policies: Vec<Value>,
    /// The file's `settings`.
    pub settings: Value,
}

/// All case files, in the order of their names.
///
/// # Errors
/// If one cannot be read.
pub fn load_all() -> Result<Vec<LoadedCases>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(workspace::root().join("cases"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let files = paths
        .iter()
        .map(|path| load(path).with_context(|| path.display().to_string()));
    files.collect()
}

fn load(path: &PathBuf) -> Result<LoadedCases> {
    let text = std::fs::read_to_string(path)?;
    let tree: Tree = serde_saphyr::from_str(&text)?;
    let file = CaseFile::read(&&tree).map_err(|defects| {
        let lines: Vec<_> = defects.iter().map(ToString::to_string).collect();
        anyhow!(lines.join("\n"))
    })?;
    let document: Value = serde_saphyr::from_str(&text)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let policies = document.get("policies").and_then(Value::as_array);
    let policies = policies
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|policy| match policy.as_str() {
            Some(relative) => crate::policy::read(&folder.join(relative)),
            None => Ok(policy.clone()),
        });
    Ok(LoadedCases {
        name: path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        file,
        policies: policies.collect::<Result<_>>()?,
        settings: document.get("settings").cloned().unwrap_or_default(),
    })
}

/// What a name server says of a name: its answers, one after the other, and the aliases before them.
pub type Answers = (Vec<Vec<IpAddr>>, Vec<String>);

/// Cases that one gateway can play: within a round no name has other answers than before, because
/// Envoy remembers the first.
#[derive(Default)]
pub struct Batch {
    /// Names and their answers.
    pub names: BTreeMap<String, Answers>,
    /// Position in the file, and what to try.
    pub attempts: Vec<(usize, Attempt)>,
}

/// Deals out a file's cases.
#[must_use]
pub fn batches(loaded: &LoadedCases) -> (Vec<Batch>, Vec<LeftOut>) {
    let (mut batches, mut left_out): (Vec<Batch>, Vec<LeftOut>) = Default::default();
    for (index, case) in loaded.file.cases.iter().enumerate() {
        let attempt = match attempt(case, &loaded.file.gateway) {
            Ok(attempt) => attempt,
            Err(reason) => {
                left_out.push(reason);
                continue;
            }
        };
        let answers = (attempt.answers.clone(), attempt.chain.clone());
        let fits = |round: &Batch| {
            let known = attempt.name.as_ref().and_then(|name| round.names.get(name));
            known.is_none_or(|known| *known == answers)
        };
        let at = batches.iter().position(fits).unwrap_or_else(|| {
            batches.push(Batch::default());
            batches.len() - 1
        });
        if let Some(round) = batches.get_mut(at) {
            if let Some(name) = &attempt.name {
                round.names.insert(name.clone(), answers);
            }
            round.attempts.push((index, attempt));
        }
    }
    (batches, left_out)
}
