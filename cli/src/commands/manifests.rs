//! What the commands about manifests share: install settings and the policies that go with them.

use std::path::Path;

use egress_render::doctor::Needs;
use egress_render::{Install, RenderError};
use serde_json::Value;

use crate::Console;
use crate::document;
use crate::exit::Failure;
use crate::load::{Inputs, load};
use crate::report;

/// Install settings and policies.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// The install settings.
    #[arg(long, value_name = "FILE")]
    install: String,
    #[command(flatten)]
    inputs: Inputs,
}

/// What they hold, if there is nothing wrong with them.
pub(crate) struct Read {
    pub(crate) install: Install,
    pub(crate) policies: Vec<Value>,
}

impl Settings {
    /// As if they had been given as arguments.
    pub(crate) fn of(install: &str, inputs: &Inputs) -> Self {
        Self {
            install: install.to_owned(),
            inputs: inputs.clone(),
        }
    }

    /// Reads both. `None` if something is wrong with the policies, which is then said.
    pub(crate) fn read(&self, console: &mut Console<'_>) -> Result<Option<Read>, Failure> {
        let text = read_text(&self.install, console)?;
        let install = Install::read(&text)
            .map_err(|problem| Failure::new(format!("{}: {}", self.install, problem.message())))?;
        let loaded = load(&self.inputs, console)?;
        if loaded.has_errors() {
            report::refuse(&loaded.diagnostics, console)?;
            return Ok(None);
        }
        let [layers] = loaded.bundles.as_slice() else {
            return Err(Failure::new("policies in manifests cannot be rendered")
                .with_hint("give the policy files themselves"));
        };
        let mut policies = Vec::new();
        for unit in &layers.sources {
            let text = document::to_json(&unit.root()).map_err(Failure::new)?;
            let value = serde_json::from_str(&text).map_err(|e| Failure::new(e.to_string()))?;
            policies.push(value);
        }
        Ok(Some(Read { install, policies }))
    }
}

/// Settings and policies, and what they need of the mesh.
pub(crate) struct Prepared {
    pub(crate) install: Install,
    pub(crate) needs: Needs,
}

impl Settings {
    /// Reads both. `None` if they cannot be carried out as written, which is then said.
    pub(crate) fn prepare(&self, console: &mut Console<'_>) -> Result<Option<Prepared>, Failure> {
        let Some(Read { install, policies }) = self.read(console)? else {
            return Ok(None);
        };
        match Needs::of(&install, &policies) {
            Ok(needs) => Ok(Some(Prepared { install, needs })),
            Err(problems) => {
                say(&problems, console)?;
                Ok(None)
            }
        }
    }
}

/// A file's text; `-` is standard input.
pub(crate) fn read_text(file: &str, console: &mut Console<'_>) -> Result<String, Failure> {
    if file == "-" {
        let mut text = String::new();
        console.stdin.read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(console.directory.join(file))
        .map_err(|error| Failure::new(format!("{file}: {error}")))
}

/// Writes files, by their names, into a folder, which is made if need be.
pub(crate) fn write_folder(folder: &Path, files: &[(String, String)]) -> Result<(), Failure> {
    let failure = |error: std::io::Error| Failure::new(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failure)?;
    for (name, text) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failure)?;
        }
        std::fs::write(path, text).map_err(failure)?;
    }
    Ok(())
}

/// A file of JSON; `-` is standard input.
pub(crate) fn read_json(file: &str, console: &mut Console<'_>) -> Result<Value, Failure> {
    let text = read_text(file, console)?;
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("{file}: {error}")))
}

/// Says what keeps something from being rendered.
pub(crate) fn say(problems: &[RenderError], console: &mut Console<'_>) -> Result<(), Failure> {
    for problem in problems {
        writeln!(console.stderr, "error: {problem}")?;
    }
    Ok(())
}
