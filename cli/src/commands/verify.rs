//! `warden verify`: whether a gateway's live configuration is what was rendered.

use egress_render::audit;
use egress_render::doctor::Needs;
use serde_json::{Value, json};

use super::manifests::{Settings, read_text, say};
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::report::Output;

/// Check a gateway's live configuration: nothing leads out past the policy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every listener, chain, route and cluster is looked at; what was not rendered, or is not in its
place, is a finding and ends with 3.

Example:
  kubectl -n istio-egress exec deploy/egress-gateway -- pilot-agent request GET config_dump |
    warden verify --gateway - --install install.yaml policy.yaml")]
pub(crate) struct Verify {
    /// The gateway's configuration dump, Envoy's or istiod's; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    gateway: String,
    #[command(flatten)]
    settings: Settings,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Verify {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let Some(read) = self.settings.read(console)? else {
            return Ok(Exit::Defects);
        };
        let needs = match Needs::of(&read.install, &read.policies) {
            Ok(needs) => needs,
            Err(problems) => {
                say(&problems, console)?;
                return Ok(Exit::Defects);
            }
        };
        let text = read_text(&self.gateway, console)?;
        let dump: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("{}: {error}", self.gateway)))?;
        let found = audit::gateway(&dump, &read.install, &needs.traffic);
        if self.output == Output::Json {
            let findings: Vec<_> = found
                .iter()
                .map(|problem| json!({"place": problem.place(), "message": problem.message()}))
                .collect();
            writeln!(console.stdout, "{:#}", json!({"findings": findings}))?;
        } else {
            for problem in &found {
                writeln!(console.stdout, "{problem}")?;
            }
            writeln!(console.stdout, "{} findings", found.len())?;
        }
        Ok(if found.is_empty() {
            Exit::Ok
        } else {
            Exit::Defects
        })
    }
}
