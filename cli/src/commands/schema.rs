//! `warden schema`: for editors, and for whoever reads the outputs.

mod outputs;

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::schema::{cases_schema, policy_schema, settings_schema};

pub(crate) use outputs::{Command, output_schema, output_schemas};

/// Write the policy file's JSON Schema, or that of the install settings, of case files or of a
/// command's output.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden schema > policy.schema.json
  warden schema --settings > settings.schema.json
  warden schema --cases > cases.schema.json
  # in an editor with the YAML language server, the first line of the policy, beside its schema:
  # yaml-language-server: $schema=policy.schema.json
  warden schema --output-of check")]
pub(crate) struct Schema {
    /// The schema of install settings (kind `EgressGateway`).
    #[arg(long, conflicts_with_all = ["output_of", "outputs"])]
    settings: bool,
    /// The schema of case files, as `warden test` takes them.
    #[arg(long, conflicts_with_all = ["settings", "output_of", "outputs"])]
    cases: bool,
    /// The schema of what this command's `--output json` writes.
    #[arg(long, value_name = "COMMAND", value_enum)]
    output_of: Option<Command>,
    /// The schemas of all outputs, as definitions in one.
    #[arg(long, conflicts_with = "output_of")]
    outputs: bool,
}

impl Schema {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let schema = match self.output_of {
            Some(command) => output_schema(command),
            None if self.settings => settings_schema(),
            None if self.cases => cases_schema(),
            None if self.outputs => output_schemas(),
            None => policy_schema(),
        };
        writeln!(console.stdout, "{schema:#}")?;
        Ok(Exit::Ok)
    }
}
