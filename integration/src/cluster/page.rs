//! A page of the documentation, followed: every command of its fenced blocks is run in order, as
//! somebody runs it who has the page, the project's files, and `warden` and `kubectl`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::node::Node;
use super::{inside, tools};
use crate::workspace;

/// A part of a page, under its heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The heading, without its marks.
    pub heading: String,
    /// Its fenced blocks: language and text.
    pub blocks: Vec<(String, String)>,
}

/// A command that was run.
#[derive(Clone, Debug)]
pub struct Done {
    /// The command.
    pub command: String,
    /// Its exit code; 255 if a signal ended it.
    pub code: i32,
    /// What it wrote, to standard output and standard error.
    pub output: String,
}

/// The folder in which a page is followed, and what is told of it.
pub struct Reader<'n> {
    node: &'n Node,
    folder: PathBuf,
    tell: &'n mut dyn FnMut(&str),
}

/// The sections of a page of this workspace.
///
/// # Errors
/// If it cannot be read.
pub fn sections(page: &str) -> Result<Vec<Section>> {
    let path = workspace::root().join(page);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(read(&text))
}

/// The section of this heading.
///
/// # Errors
/// If there is none.
pub fn section<'s>(sections: &'s [Section], heading: &str) -> Result<&'s Section> {
    let mut found = sections.iter();
    let found = found.find(|section| section.heading == heading);
    found.with_context(|| format!("no section `{heading}`"))
}

fn read(text: &str) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut section = Section {
        heading: String::new(),
        blocks: Vec::new(),
    };
    let mut block: Option<(usize, String, String)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match (&mut block, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                block = Some((indent, language.to_owned(), String::new()));
            }
            (Some(_), Some("")) => {
                let ended = block.take();
                section
                    .blocks
                    .extend(ended.map(|(_, language, text)| (language, text)));
            }
            (Some((indent, _, text)), _) => {
                text.push_str(line.get(*indent..).unwrap_or_default());
                text.push('\n');
            }
            (None, None) if line.starts_with('#') => {
                let heading = line.trim_start_matches('#').trim().to_owned();
                let next = Section {
                    heading,
                    blocks: Vec::new(),
                };
                sections.push(std::mem::replace(&mut section, next));
            }
            (None, None) => {}
        }
    }
    sections.push(section);
    sections
}

impl<'n> Reader<'n> {
    /// Makes the folder, with links to the project's files that pages name.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(node: &'n Node, tell: &'n mut dyn FnMut(&str)) -> Result<Self> {
        let folder = node.folder().join("page");
        let programs = folder.join("bin");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&programs)?;
        for part in ["cases", "cni"] {
            symlink(workspace::root().join(part), folder.join(part))?;
        }
        let module = workspace::wasm("egress_filter");
        symlink(module, folder.join("egress_filter.wasm"))?;
        let kubectl = format!(
            "exec '{}' kubectl --kubeconfig '{}' \"$@\"",
            tools::find("kube")?.display(),
            node.folder().join("pki/admin.conf").display()
        );
        let warden = format!(
            "{}={} exec '{}' \"$@\"",
            inside::ROLE,
            inside::WARDEN,
            std::env::current_exe()?.display()
        );
        for (name, script) in [("kubectl", kubectl), ("warden", warden)] {
            let path = programs.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        }
        Ok(Self { node, folder, tell })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs the commands of a block of shell. `changed` puts in what the page leaves to its reader.
    ///
    /// # Errors
    /// If a command fails, with everything that it says; codes that are `fine` are no failure.
    pub fn run(
        &mut self,
        block: &(String, String),
        changed: impl Fn(&str) -> String,
        fine: &[i32],
    ) -> Result<Vec<Done>> {
        let (language, text) = block;
        ensure!(language == "sh", "a block of {language} is no command");
        let mut all = Vec::new();
        for command in commands(&changed(text))? {
            let mut bash = self.node.command("bash");
            let script = format!(
                "cd '{0}' && PATH='{0}/bin':$PATH && set -o pipefail\n{command}",
                self.folder.display()
            );
            let start = Instant::now();
            let output = bash.args(["-c", &script]).stdin(Stdio::null()).output()?;
            let seconds = start.elapsed().as_secs();
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            let code = output.status.code().unwrap_or(255);
            let command_lines = command.replace('\n', "\n            ");
            (self.tell)(&format!("{code:3} {seconds:4} s  {command_lines}"));
            ensure!(code == 0 || fine.contains(&code), "{command}\n{text}");
            all.push(Done {
                command,
                code,
                output: text,
            });
        }
        Ok(all)
    }

    /// Tells that something is as the page says it is, or fails.
    ///
    /// # Errors
    /// If it is not so.
    pub fn holds(&mut self, what: &str, so: Result<()>) -> Result<()> {
        so.with_context(|| format!("it does not hold that {what}"))?;
        (self.tell)(&format!("            holds: {what}"));
        Ok(())
    }
}

/// The commands of a script, one after the other: what the shell takes as complete.
fn commands(script: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut command = String::new();
    for line in script.lines() {
        if command.is_empty() && line.trim().is_empty() {
            continue;
        }
        command.push_str(line);
        let parsed = Command::new("bash")
            .args(["-n", "-c", &command])
            .stderr(Stdio::null())
            .status()?;
        let code = line.split(" #").next().unwrap_or_default().trim_end();
        if parsed.success() && !code.ends_with(['\\', '|']) {
            all.push(std::mem::take(&mut command));
        } else {
            command.push('\n');
        }
    }
    ensure!(command.is_empty(), "a command is cut off: {command}");
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::{Section, commands, read};

    #[test]
    fn blocks_are_read_by_section() {
        let text = "# A\n\n```yaml\na: 1\n# no heading\n```\n## B\n\n1. x\n\n   ```sh\n   ls \\\n     -l\n   ```\n";
        let section = |heading: &str, blocks: &[(&str, &str)]| Section {
            heading: heading.to_owned(),
            blocks: blocks
                .iter()
                .map(|(language, text)| ((*language).to_owned(), (*text).to_owned()))
                .collect(),
        };
        assert_eq!(
            read(text),
            [
                section("", &[]),
                section("A", &[("yaml", "a: 1\n# no heading\n")]),
                section("B", &[("sh", "ls \\\n  -l\n")]),
            ]
        );
    }

    #[test]
    fn a_command_ends_where_the_shell_says() {
        let script =
            "ls |   # and\n  while read -r x; do\n    echo $x\n  done\necho a \\\n  b\n\necho c\n";
        let expected = [
            "ls |   # and\n  while read -r x; do\n    echo $x\n  done",
            "echo a \\\n  b",
            "echo c",
        ];
        assert_eq!(commands(script).unwrap(), expected);
        assert!(commands("while true; do").is_err());
    }
}
