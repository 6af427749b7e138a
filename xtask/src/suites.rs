//! Test programs: built once for the whole workspace, then run package by package.
//!
//! `cargo test --package` resolves features for that package alone, so that each further package
//! compiles much of what is there already once more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::{cargo, output, progress, root};

/// The test programs that run for a minute or more. Most of it is waiting.
const LONGEST: [&str; 6] = [
    "cluster",
    "istio",
    "whole_way",
    "kernel",
    "addresses",
    "limits",
];

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suite {
    /// The folder of its package, where it runs.
    pub(crate) folder: PathBuf,
    /// What it is called: a library's or a program's name, or that of a file in `tests/`.
    pub(crate) name: String,
    /// What it is part of: `lib`, `bin` or `test`.
    kind: String,
    program: PathBuf,
}

impl Suite {
    /// The command that runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--quiet")
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }

    /// Its place in the order of running: the longest first, so that none begins when the others
    /// have ended.
    pub(crate) fn rank(&self) -> usize {
        let known = LONGEST.iter().position(|name| *name == self.name);
        known.unwrap_or(LONGEST.len())
    }

    /// What it is called in output.
    pub(crate) fn title(&self) -> String {
        let folder = self.folder.strip_prefix(root()).unwrap_or(&self.folder);
        format!("{} ({} {})", folder.display(), self.kind, self.name)
    }
}

/// Builds the test programs of the packages in these folders, or of all.
///
/// # Errors
/// If something does not compile.
pub(crate) fn build(folders: Option<&[&str]>) -> Result<BTreeSet<Suite>> {
    let mut command = cargo(&[
        "test",
        "--no-run",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    match folders {
        None => {
            command.arg("--workspace");
        }
        Some([]) => return Ok(BTreeSet::new()),
        Some(folders) => {
            for folder in folders {
                command.arg(format!("--package={}", package(folder)?));
            }
        }
    }
    let text = output(command.stderr(Stdio::inherit())).context("the tests do not compile")?;
    text.lines()
        .filter_map(|line| read(line).transpose())
        .collect()
}

/// Builds one test program of a package, and gives its path. Cargo shows how far it is.
///
/// # Errors
/// If it does not compile.
pub(crate) fn one(package: &str, name: &str) -> Result<PathBuf> {
    progress(&format!(
        "building {name}, which takes minutes the first time"
    ));
    let mut command = cargo(&[
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    command.args(["--package", package, "--test", name]);
    let text = output(command.stderr(Stdio::inherit())).context("the test does not compile")?;
    let mut found = text.lines().filter_map(|line| read(line).transpose());
    Ok(found.next().context("cargo names no program")??.program)
}

/// The name of the package in a folder.
fn package(folder: &str) -> Result<String> {
    let path = root().join(folder).join("Cargo.toml");
    let manifest = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut lines = manifest.lines();
    let name = lines.find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    Ok(name.context("a package without a name")?.to_owned())
}

/// One of cargo's messages (`cargo help build`, "--message-format"); `None` if it is about no test
/// program.
fn read(line: &str) -> Result<Option<Suite>> {
    let message: Value = serde_json::from_str(line).context("cargo's messages")?;
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    let tested = message.pointer("/profile/test") == Some(&Value::Bool(true));
    let (true, Some(program)) = (tested, text("/executable")) else {
        return Ok(None);
    };
    let manifest = text("/manifest_path").context("a program without a manifest")?;
    let folder = Path::new(manifest).parent().context("no folder")?;
    let kind = text("/target/kind/0").context("a program without a kind")?;
    Ok(Some(Suite {
        folder: folder.to_owned(),
        name: text("/target/name").unwrap_or_default().to_owned(),
        kind: match kind {
            "bin" | "test" => kind.to_owned(),
            _ => "lib".to_owned(),
        },
        program: program.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::{package, read};

    #[test]
    fn packages_have_other_names_than_their_folders() {
        assert_eq!(package("policy").unwrap(), "egress-policy");
        assert_eq!(package("cli").unwrap(), "warden");
        assert!(package("nowhere").is_err());
    }

    #[test]
    fn messages_about_test_programs_are_read() {
        let line = |test: bool, kind: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/policy/Cargo.toml",
                "target":{{"kind":["{kind}"],"name":"laws"}},"profile":{{"test":{test}}},
                "executable":{executable}}}"#
            )
        };
        let found = read(&line(true, "test", r#""/t/laws-1""#))
            .unwrap()
            .unwrap();
        assert_eq!(found.folder.to_str(), Some("/w/policy"));
        assert_eq!((found.name.as_str(), found.kind.as_str()), ("laws", "test"));
        for other in [
            line(false, "bin", r#""/t/warden""#),
            line(true, "lib", "null"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ] {
            assert_eq!(read(&other).unwrap(), None, "{other}");
        }
        assert!(read("Compiling").is_err());
    }
}
