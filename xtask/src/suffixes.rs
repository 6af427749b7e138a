//! The parents of public suffixes, for the lint of shared hosting.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::{cargo, output, root};

const FILE: &str = "analysis/src/lint/shared/parents.txt";

const HEAD: &str = "\
# Names below which public suffixes lie, each with one of them: what the Public Suffix List
# (https://publicsuffix.org, Mozilla Public License 2.0) says, as the crate `psl` carries it.
# `cargo xtask suffixes` writes this file anew, after `cargo update -p psl`.
";

/// Writes the list anew.
pub(crate) fn write() -> Result<()> {
    std::fs::write(root().join(FILE), list()?).context(FILE)
}

/// What the rules of the crate in the lock file say.
fn list() -> Result<String> {
    let metadata = output(&mut cargo(&["metadata", "--locked", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let psl = packages
        .into_iter()
        .flatten()
        .find(|one| one.get("name").and_then(Value::as_str) == Some("psl"));
    let manifest = psl.and_then(|psl| psl.get("manifest_path")?.as_str());
    let folder = Path::new(manifest.context("no crate is named psl")?).parent();
    let file = folder.context("psl has no folder")?.join("data/rules.txt");
    let rules = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(parents(&rules))
}

/// Every name of two labels and more that is no rule itself and has one below it.
fn parents(rules: &str) -> String {
    let rules: Vec<&str> = rules
        .lines()
        .map(|rule| rule.trim().trim_start_matches('!'))
        .filter(|rule| rule.is_ascii() && !rule.is_empty())
        .collect();
    let known: HashSet<&str> = rules.iter().copied().collect();
    let mut parents: BTreeMap<&str, &str> = BTreeMap::new();
    for rule in &rules {
        let mut rest = *rule;
        while let Some((_, parent)) = rest.split_once('.') {
            if parent.contains('.') && !known.contains(parent) {
                let example = parents.entry(parent).or_insert(rule);
                // The shortest says most.
                if (rule.len(), *rule) < (example.len(), *example) {
                    *example = rule;
                }
            }
            rest = parent;
        }
    }
    let mut text = HEAD.to_owned();
    for (parent, example) in parents {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{parent} {example}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_no_suffixes_themselves() {
        let rules =
            "com\nco.uk\nuk\n*.compute.cloud.example\nblob.core.host.example\nhost.example\n";
        let text = parents(rules);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "cloud.example *.compute.cloud.example",
                "compute.cloud.example *.compute.cloud.example",
                "core.host.example blob.core.host.example",
            ]
        );
    }

    #[test]
    fn the_committed_list_is_what_the_crate_says() {
        let committed = std::fs::read_to_string(root().join(FILE)).unwrap();
        assert_eq!(
            committed,
            list().unwrap(),
            "write it anew: cargo xtask suffixes"
        );
    }
}
