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
  warden doctor --install install.yaml --istiod-env istiod.env --mesh-config mesh.yaml policy.yaml
  warden doctor --install install.yaml --istiod-env stable=a.env --istiod-env canary=b.env policy.yaml")]
pub(crate) struct Doctor {
    #[command(flatten)]
    settings: Settings,
    /// The mesh's configuration. In a mesh with several revisions one for each.
    #[arg(long, value_name = "[REVISION=]FILE")]
    mesh_config: Vec<String>,
    /// Istiod's environment, one NAME=VALUE per line. In a mesh with several revisions one for
    /// each: a workload may be under any of them.
    #[arg(long, value_name = "[REVISION=]FILE")]
    istiod_env: Vec<String>,
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
        let mut findings = Vec::new();
        for file in &self.istiod_env {
            let (revision, file) = of_revision(file);
            let text = read_text(file, console)?;
            findings.extend(judged(revision, doctor::istiod(&text, &needs)));
        }
        for file in &self.mesh_config {
            let (revision, file) = of_revision(file);
            let mesh = read_mesh(file, console)?;
            findings.extend(judged(revision, doctor::mesh(&mesh, &needs)));
        }
        let checked = !findings.is_empty();
        if !checked {
            findings.extend(judged(None, doctor::istiod("", &needs)));
            findings.extend(judged(None, doctor::mesh(&Value::Null, &needs)));
        }
        report(&findings, self.output, console)?;
        let mut health = findings.iter().map(|(_, finding)| finding.health);
        let bad = health.any(|health| health == Health::Bad);
        Ok(if bad && checked {
            Exit::Defects
        } else {
            Exit::Ok
        })
    }
}

/// A finding, and the revision of the control plane that it is about.
type Judged<'f> = (Option<&'f str>, Finding);

fn judged(revision: Option<&str>, findings: Vec<Finding>) -> impl Iterator<Item = Judged<'_>> {
    findings.into_iter().map(move |finding| (revision, finding))
}

/// A revision is a Kubernetes name, so what stands before `=` is one if it holds no path.
fn of_revision(file: &str) -> (Option<&str>, &str) {
    match file.split_once('=') {
        Some((revision, file)) if !revision.contains(['/', '.']) => (Some(revision), file),
        _ => (None, file),
    }
}

fn read_mesh(file: &str, console: &mut Console<'_>) -> Result<Value, Failure> {
    let text = read_text(file, console)?;
    doctor::read_mesh(&text).map_err(|problem| Failure::new(format!("{file}: {problem}")))
}

fn report(
    findings: &[Judged<'_>],
    output: Output,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if output == Output::Json {
        let findings: Vec<_> = findings
            .iter()
            .map(|(revision, finding)| {
                json!({
                    "revision": revision,
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
    for (revision, finding) in findings {
        let revision = revision.map(|name| format!("{name}: ")).unwrap_or_default();
        let found = finding.found.as_deref().unwrap_or("not set");
        writeln!(
            console.stdout,
            "{:<7} {revision}{} = {} (found: {found})",
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
