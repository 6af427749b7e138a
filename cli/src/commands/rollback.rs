//! `warden rollback`: an earlier render, put out again.

use std::path::Path;

use egress_render::removal;
use schemars::JsonSchema;
use serde::Serialize;

use super::manifests::write_folder;
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::history::{History, ObjectName};
use crate::output::{Output, PLAIN, Report};

/// Put out an earlier render that `warden render --history` kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is put out is byte for byte what was rendered then: nothing is read but the history. Objects
that only the newest render has are listed for removal, what closes last.

Example:
  warden rollback 3f2a9c --history renders | kubectl apply --server-side -f -
  warden rollback 3f2a9c --history renders --prune-list")]
pub(crate) struct Rollback {
    /// The beginning of the hash of the policies to go back to.
    #[arg(value_name = "HASH")]
    hash: String,
    /// The folder that `warden render --history` keeps.
    #[arg(long, value_name = "FOLDER")]
    history: String,
    /// Write the objects and the list `prune` into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<String>,
    /// Print only what to remove: what the newest render has and the earlier one has not.
    #[arg(long, conflicts_with = "output_dir")]
    prune_list: bool,
    /// How to write it: `json` has the objects' names, what to remove, and the text.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human")]
    pub(super) output: Output,
}

/// Writes both into a folder.
fn put_out(folder: &Path, yaml: &str, prune: &str) -> Result<(), Failure> {
    let files = [("rendered.yaml", yaml), ("prune", prune)];
    write_folder(
        folder,
        &files.map(|(name, text)| (name.to_owned(), text.to_owned())),
    )
}

impl Rollback {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let history = History::open(&console.directory.join(&self.history))?;
        let entry = history.find(&self.hash)?;
        let kept = entry.read()?;
        let newest = history.newest().unwrap_or(entry);
        let newest_kept = newest.read()?;
        let prune = removal::between(newest_kept.manifests.iter(), kept.manifests.iter());
        let mut prune = prune.join("\n");
        let mut remove = newest_kept.objects;
        remove.retain(|object| !kept.objects.contains(object));
        remove.reverse();
        if !prune.is_empty() {
            prune.push('\n');
        }
        if let Some(folder) = &self.output_dir {
            put_out(&console.directory.join(folder), &kept.yaml, &prune)?;
        }
        let is_inline = self.output_dir.is_none() && !self.prune_list;
        let report = RollbackReport {
            policy: entry.hash.clone(),
            objects: kept.objects,
            remove,
            yaml: is_inline.then_some(kept.yaml),
            prune,
            prune_list: self.prune_list,
            newest: newest.to_string(),
        };
        self.output.write(&report, console)?;
        Ok(Exit::Ok)
    }
}

/// The render that is put out again.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RollbackReport {
    /// The hash of its policies.
    policy: String,
    /// What it holds, in the order in which it is applied.
    objects: Vec<ObjectName>,
    /// What the newest render has and it has not, what closes last.
    remove: Vec<ObjectName>,
    /// Its objects as they were rendered; null where they are in a folder or only the list was
    /// asked for.
    yaml: Option<String>,
    /// What to remove, as lines.
    #[serde(skip)]
    prune: String,
    #[serde(skip)]
    prune_list: bool,
    /// The render that it is put out instead of.
    #[serde(skip)]
    newest: String,
}

impl Report for RollbackReport {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        if self.prune_list {
            return Ok(write!(console.stdout, "{}", self.prune)?);
        }
        write!(
            console.stdout,
            "{}",
            self.yaml.as_deref().unwrap_or_default()
        )?;
        writeln!(
            console.stderr,
            "{} objects, policy {}, instead of {}",
            self.objects.len(),
            self.policy,
            self.newest
        )?;
        for line in self.prune.lines() {
            writeln!(console.stderr, "remove after applying: {line}")?;
        }
        Ok(())
    }
}
