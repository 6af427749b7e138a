//! `warden check`: everything that is wrong, at once.

use serde_json::json;

use crate::Console;
use crate::diagnostic::{Diagnostic, Severity};
use crate::exit::{Exit, Failure};
use crate::load::{Inputs, load};
use crate::report::{self, Output};

/// Most diagnostics that are drawn for people.
const MAX_SHOWN: usize = 200;

/// Check policies: all defects at once, each with its line and a hint.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden check policy.yaml
  warden check platform.yaml teams/
  kubectl get wasmplugin warden-http -o json | warden check -")]
pub(crate) struct Check {
    #[command(flatten)]
    inputs: Inputs,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Check {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut loaded = load(&self.inputs, console)?;
        if !loaded.has_errors() {
            for layers in &loaded.layers {
                if let Err(found) = layers.compile() {
                    loaded.diagnostics.extend(found);
                }
            }
        }
        loaded.sort();
        let policies: Vec<_> = loaded
            .layers
            .iter()
            .flat_map(|layers| &layers.policies)
            .collect();
        let rules: usize = policies
            .iter()
            .flat_map(|policy| &policy.tiers)
            .map(|tier| tier.rules.len())
            .sum();
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
        Ok(if errors == 0 { Exit::Ok } else { Exit::Defects })
    }
}

/// A count and its noun.
fn plural(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}
