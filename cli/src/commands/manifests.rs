//! What the commands about manifests share: install settings and the policies that go with them.

use std::path::Path;
use std::sync::Arc;

use egress_analysis::bundle::{PolicyBundle, parse};
use egress_analysis::document::{self, Documents, Node};
use egress_analysis::{Diagnostic, Location, Severity};
use egress_policy::model::Policy;
use egress_render::doctor::Needs;
use egress_render::{Install, RenderError};
use serde_json::Value;

use crate::exit::Failure;
use crate::sources::{Inputs, load, read_one};
use crate::{Console, report, settings};

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
    documents: Documents,
    bundle: PolicyBundle,
}

impl Settings {
    /// As if they had been given as arguments.
    pub(crate) fn of(install: &str, inputs: &Inputs) -> Self {
        Self {
            install: install.to_owned(),
            inputs: inputs.clone(),
        }
    }

    /// Reads both.
    ///
    /// # Errors
    /// Something is wrong with them.
    pub(crate) fn read(&self, console: &mut Console<'_>) -> Result<Read, Failure> {
        let source = Arc::new(read_one(&self.install, console)?);
        let documents = parse(&source).and_then(|documents| {
            let install = documents.roots().next().map(settings::decode).transpose()?;
            Ok((documents, install))
        });
        let (documents, install) = match documents {
            Ok((documents, Some(install))) => (documents, install),
            Ok((_, None)) => {
                let message = format!("`{}` is empty", self.install);
                let hint = "install settings have `kind: EgressGateway`; docs/how-to/install.md begins with them";
                let error = Diagnostic::foreign_file(&source, message, hint);
                return Err(Failure::of_files(vec![error]));
            }
            Err(found) => return Err(Failure::of_files(found)),
        };
        let mut loaded = load(&self.inputs, console)?;
        if loaded.has_errors() {
            return Err(Failure::of_files(loaded.diagnostics));
        }
        let (Some(bundle), true) = (loaded.bundles.pop(), loaded.bundles.is_empty()) else {
            return Err(Failure::new("policies in manifests cannot be rendered")
                .with_hint("give the policy files themselves"));
        };
        let mut policies = Vec::new();
        for source in &bundle.sources {
            let text = document::to_json(&source.root()).map_err(Failure::new)?;
            let value = serde_json::from_str(&text).map_err(|e| Failure::new(e.to_string()))?;
            policies.push(value);
        }
        Ok(Read {
            install,
            policies,
            documents,
            bundle,
        })
    }
}

impl Read {
    /// The policies as the engine has read them.
    pub(crate) fn decoded(&self) -> &[Policy] {
        &self.bundle.policies
    }

    /// What keeps something from being rendered, where it stands.
    pub(crate) fn refusal(&self, errors: &[RenderError]) -> Failure {
        Failure::of_files(errors.iter().map(|error| self.locate(error)).collect())
    }

    /// The same as a warning, drawn.
    pub(crate) fn warning(&self, warning: &RenderError) -> String {
        let diagnostic = Diagnostic {
            severity: Severity::Warning,
            ..self.locate(warning)
        };
        report::human(&diagnostic, false)
    }

    /// A rule's error at the rule, a setting's at the setting; what is about all of them nowhere.
    fn locate(&self, error: &RenderError) -> Diagnostic {
        let (message, hint) = match error.message().split_once("; ") {
            Some((message, hint)) => (message, Some(hint)),
            None => (error.message(), None),
        };
        let path = error.path();
        let location = if path.starts_with("spec") || path == "apiVersion" {
            let root = self.documents.roots().next();
            root.map(|root| settings::location(root, path))
        } else {
            self.rule(path).map(Location::from)
        };
        Diagnostic {
            severity: Severity::Error,
            code: "render",
            message: if location.is_some() || path.is_empty() {
                message.to_owned()
            } else {
                format!("{path}: {message}")
            },
            hint: hint.map(str::to_owned),
            location,
            path: path.to_owned(),
            related: Vec::new(),
        }
    }

    /// The part of a policy that is called `POLICY/TIER/RULE`, or less of it.
    fn rule(&self, id: &str) -> Option<Node<'_>> {
        let mut steps = id.split('/');
        let policy = steps.next()?;
        let mut pairs = self.bundle.policies.iter().zip(&self.bundle.sources);
        let (_, source) = pairs.find(|(known, _)| known.head.name == policy)?;
        let root = source.root();
        let mut node = root.field("metadata").unwrap_or(root);
        let mut list = root.field("spec").and_then(|spec| spec.field("tiers"));
        for name in steps {
            let named = |one: &Node<'_>| one.field("name").and_then(Node::text) == Some(name);
            let Some(found) = list.and_then(|list| list.items().find(named)) else {
                break;
            };
            node = found;
            list = found.field("rules");
        }
        Some(node)
    }
}

/// Settings and policies, and what they need of the mesh.
pub(crate) struct Prepared {
    pub(crate) install: Install,
    pub(crate) needs: Needs,
}

impl Settings {
    /// Reads both.
    ///
    /// # Errors
    /// They cannot be carried out as written.
    pub(crate) fn prepare(&self, console: &mut Console<'_>) -> Result<Prepared, Failure> {
        let read = self.read(console)?;
        match Needs::of(&read.install, &read.policies) {
            Ok(needs) => Ok(Prepared {
                install: read.install,
                needs,
            }),
            Err(problems) => Err(read.refusal(&problems)),
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
