//! `warden check`: everything that is wrong, at once.

use egress_policy::classes::{Classes, TooManyClasses};
use serde_json::json;

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::report::{self, Output};
use crate::sources::{Inputs, load};
use egress_analysis::bundle::{LoadResult, PolicyBundle};
use egress_analysis::diagnostic::{Diagnostic, Location, Severity};
use egress_analysis::lint::{ERRORS, Lint, LintContext, lint, port_conflicts};

/// Most diagnostics that are drawn for people.
const MAX_SHOWN: usize = 200;

/// Check policies: all defects at once, each with its line and a hint.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden check policy.yaml
  warden check install.yaml --strict
  warden check --explain labels_alone
  warden check platform.yaml teams/
  kubectl get wasmplugin warden-http -o json | warden check -")]
pub(crate) struct Check {
    #[command(flatten)]
    inputs: CheckInputs,
    /// Say more about a code, such as `labels_alone`.
    #[arg(long, value_name = "CODE", exclusive = true)]
    explain: Option<String>,
    /// Check every file on its own: do not layer them.
    #[arg(long)]
    each: bool,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
    /// A network of the cluster's own, which no rule sees, beside those of the install settings
    /// (repeatable).
    #[arg(long, value_name = "CIDR")]
    cluster_network: Vec<ipnet::IpNet>,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The files; not required where `--explain` stands alone.
#[derive(Debug, clap::Args)]
struct CheckInputs {
    /// Policies in order, the security team's first: YAML or JSON files, directories, WasmPlugin
    /// manifests, install settings, or `-` for standard input.
    #[arg(value_name = "FILE", required_unless_present = "explain")]
    files: Vec<String>,
}

impl Check {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        if let Some(code) = &self.explain {
            return explain(code, console);
        }
        let clock = Progress::start("checking");
        let mut loaded = LoadResult::default();
        if self.each {
            for file in &self.inputs.files {
                let files = vec![file.clone()];
                loaded.append(load(&Inputs { files }, console)?);
            }
        } else {
            let files = self.inputs.files.clone();
            loaded = load(&Inputs { files }, console)?;
        }
        clock.report(console, "files read");
        if !loaded.has_errors() {
            let surroundings = LintContext {
                now: console.now,
                cluster_networks: self.cluster_network.clone(),
                are_all: false,
            };
            for layers in &loaded.bundles {
                if !self.each
                    && let Err(found) = layers.compile()
                {
                    loaded.diagnostics.extend(found);
                }
                if !self.each {
                    loaded.diagnostics.extend(port_conflicts(layers));
                    if let Err(error) = Classes::of(&layers.policies) {
                        loaded.diagnostics.extend(too_many(&error, layers));
                    }
                }
                clock.report(console, "policies compiled");
                loaded.diagnostics.extend(lint(layers, &surroundings));
                clock.report(console, "rules compared");
            }
        }
        loaded.sort();
        let policies: Vec<_> = loaded
            .bundles
            .iter()
            .flat_map(|layers| &layers.policies)
            .collect();
        let rules: usize = policies
            .iter()
            .flat_map(|policy| &policy.tiers)
            .map(|tier| tier.rules.len())
            .sum();
        let lists: Vec<_> = loaded
            .bundles
            .iter()
            .flat_map(PolicyBundle::lists)
            .collect();
        let count = |severity| {
            let of = |d: &&Diagnostic| d.severity == severity;
            loaded.diagnostics.iter().filter(of).count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let summary = format!(
            "{}, {}, {}: {}, {}",
            plural(loaded.files, "file"),
            plural(policies.len(), "policy"),
            plural(rules, "rule"),
            plural(errors, "error"),
            plural(warnings, "warning")
        );
        match self.output {
            Output::Human => {
                for diagnostic in loaded.diagnostics.iter().take(MAX_SHOWN) {
                    let drawn = report::human(diagnostic, console.color);
                    writeln!(console.stdout, "{drawn}\n")?;
                }
                let hidden = loaded.diagnostics.len().saturating_sub(MAX_SHOWN);
                if hidden > 0 {
                    writeln!(console.stdout, "... and {hidden} more\n")?;
                }
                for list in &lists {
                    writeln!(console.stdout, "{list}")?;
                }
                writeln!(console.stdout, "{summary}")?;
            }
            Output::Json => {
                let diagnostics: Vec<_> = loaded.diagnostics.iter().map(report::to_json).collect();
                let result = json!({
                    "files": loaded.files,
                    "policies": policies.len(),
                    "rules": rules,
                    "errors": errors,
                    "warnings": warnings,
                    "lists": lists.iter().map(|list| list.to_json()).collect::<Vec<_>>(),
                    "diagnostics": diagnostics,
                });
                writeln!(console.stdout, "{result:#}")?;
            }
            Output::Github => {
                for diagnostic in &loaded.diagnostics {
                    writeln!(console.stdout, "{}", report::github(diagnostic))?;
                }
                writeln!(console.stdout, "{summary}")?;
            }
        }
        clock.finish(console);
        let fine = errors == 0 && (warnings == 0 || !self.strict);
        Ok(if fine { Exit::Ok } else { Exit::Defects })
    }
}

/// More classes of addresses than one gateway can have, at the first policy.
fn too_many(error: &TooManyClasses, layers: &PolicyBundle) -> Option<Diagnostic> {
    let unit = layers.sources.first()?;
    let root = unit.root();
    Some(Diagnostic {
        severity: Severity::Error,
        code: "too_many_classes",
        message: error.to_string(),
        hint: Some("deny these networks for everybody, before the rules that accept".to_owned()),
        location: Some(Location {
            source: std::sync::Arc::clone(root.source()),
            span: root.first_line(),
        }),
        path: String::new(),
        related: Vec::new(),
    })
}

/// Says more about a code.
fn explain(code: &str, console: &mut Console<'_>) -> Result<Exit, Failure> {
    if let Some(lint) = Lint::ALL.into_iter().find(|lint| lint.code() == code) {
        let (severity, hint) = (lint.severity().as_str(), lint.hint());
        let explanation = lint.explanation();
        writeln!(console.stdout, "{code} ({severity})\n\n{explanation}\n")?;
        writeln!(console.stdout, "What to do: {hint}.")?;
        return Ok(Exit::Ok);
    }
    if let Some((_, explanation)) = ERRORS.iter().find(|(known, _)| *known == code) {
        writeln!(console.stdout, "{code} (error)\n\n{explanation}")?;
        return Ok(Exit::Ok);
    }
    let lints = Lint::ALL.iter().map(|lint| lint.code());
    let known: Vec<&str> = lints.chain(ERRORS.iter().map(|(code, _)| *code)).collect();
    let near = known
        .iter()
        .min_by_key(|known| strsim::damerau_levenshtein(known, code))
        .filter(|known| strsim::damerau_levenshtein(known, code) <= 3);
    let hint = near.map_or_else(
        || format!("one of {}", known.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    Err(Failure::new(format!("unknown code `{code}`")).with_hint(hint))
}

/// A count and its noun.
fn plural(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}
