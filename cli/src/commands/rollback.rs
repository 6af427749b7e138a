//! `warden rollback`: an earlier render, put out again.

use std::path::Path;

use egress_render::removal;
use serde_json::{Value, json};

use super::manifests::write_folder;
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::history::History;
use crate::report::Output;

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
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Writes both into a folder.
fn put_out(folder: &Path, yaml: &str, prune: &str) -> Result<(), Failure> {
    let files = [("rendered.yaml", yaml), ("prune", prune)];
    write_folder(
        folder,
        &files.map(|(name, text)| (name.to_owned(), text.to_owned())),
    )
}

fn named((kind, namespace, name): &(String, String, String)) -> Value {
    json!({"kind": kind, "namespace": namespace, "name": name})
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
        if !prune.is_empty() {
            prune.push('\n');
        }
        let mut removed = newest_kept.objects;
        removed.retain(|object| !kept.objects.contains(object));
        removed.reverse();
        if self.output == Output::Json {
            let inline = self.output_dir.is_none() && !self.prune_list;
            if let Some(folder) = &self.output_dir {
                put_out(&console.directory.join(folder), &kept.yaml, &prune)?;
            }
            let report = json!({
                "policy": entry.hash,
                "objects": kept.objects.iter().map(named).collect::<Vec<_>>(),
                "remove": removed.iter().map(named).collect::<Vec<_>>(),
                "yaml": inline.then_some(&kept.yaml),
            });
            writeln!(console.stdout, "{report:#}")?;
            return Ok(Exit::Ok);
        }
        if self.prune_list {
            write!(console.stdout, "{prune}")?;
            return Ok(Exit::Ok);
        }
        if let Some(folder) = &self.output_dir {
            put_out(&console.directory.join(folder), &kept.yaml, &prune)?;
        } else {
            write!(console.stdout, "{}", kept.yaml)?;
        }
        writeln!(
            console.stderr,
            "{} objects, policy {}, instead of {newest}",
            kept.objects.len(),
            entry.hash
        )?;
        for line in prune.lines() {
            writeln!(console.stderr, "remove after applying: {line}")?;
        }
        Ok(Exit::Ok)
    }
}
