//! `warden doctor`: whether the mesh's own settings let the manifests hold.

use egress_render::doctor::{self, Finding, Health};
use serde_json::{Value, json};

use super::manifests::{Settings, read_text};
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::report::Output;

/// Check the settings of istiod and of the mesh that the manifests rest on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --istiod-env or --mesh-config it prints what they have to say.

Examples:
  kubectl -n istio-system exec deploy/istiod -- env > istiod.env
  kubectl -n istio-system get configmap istio -o jsonpath='{.data.mesh}' > mesh.yaml
  warden doctor --install install.yaml --istiod-env istiod.env --mesh-config mesh.yaml policy.yaml")]
pub(crate) struct Doctor {
    #[command(flatten)]
    settings: Settings,
    /// The mesh's configuration.
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<String>,
    /// Istiod's environment, one NAME=VALUE per line.
    #[arg(long, value_name = "FILE")]
    istiod_env: Option<String>,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Doctor {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let Some(prepared) = self.settings.prepare(console)? else {
            return Ok(Exit::Defects);
        };
        let needs = prepared.needs;
        let environment = match &self.istiod_env {
            Some(file) => Some(read_text(file, console)?),
            None => None,
        };
        let mesh = match &self.mesh_config {
            Some(file) => Some(read_mesh(file, console)?),
            None => None,
        };
        let mut findings = Vec::new();
        if environment.is_some() || mesh.is_none() {
            findings.extend(doctor::istiod(&environment.unwrap_or_default(), &needs));
        }
        if mesh.is_some() || self.istiod_env.is_none() {
            findings.extend(doctor::mesh(&mesh.unwrap_or_default(), &needs));
        }
        let checked = self.mesh_config.is_some() || self.istiod_env.is_some();
        report(&findings, self.output, console)?;
        let bad = findings.iter().any(|finding| finding.health == Health::Bad);
        Ok(if bad && checked {
            Exit::Defects
        } else {
            Exit::Ok
        })
    }
}

fn read_mesh(file: &str, console: &mut Console<'_>) -> Result<Value, Failure> {
    let text = read_text(file, console)?;
    doctor::read_mesh(&text).map_err(|problem| Failure::new(format!("{file}: {problem}")))
}

fn report(findings: &[Finding], output: Output, console: &mut Console<'_>) -> Result<(), Failure> {
    if output == Output::Json {
        let findings: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "setting": finding.setting,
                    "wanted": finding.wanted,
                    "found": finding.found,
                    "health": word(finding.health),
                    "why": finding.why,
                })
            })
            .collect();
        writeln!(console.stdout, "{:#}", json!({"findings": findings}))?;
        return Ok(());
    }
    for finding in findings {
        let found = finding.found.as_deref().unwrap_or("not set");
        writeln!(
            console.stdout,
            "{:<7} {} = {} (found: {found})",
            word(finding.health),
            finding.setting,
            finding.wanted
        )?;
        if finding.health != Health::Good {
            writeln!(console.stdout, "        {}", finding.why)?;
        }
    }
    Ok(())
}

const fn word(health: Health) -> &'static str {
    match health {
        Health::Good => "ok",
        Health::Advice => "advice",
        Health::Bad => "bad",
    }
}
