//! `warden schema`: for editors.

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::schema::policy_schema;

/// Write the policy file's JSON Schema, with descriptions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  warden schema > policy.schema.json
  # in an editor with the YAML language server, the policy's first line:
  # yaml-language-server: $schema=policy.schema.json")]
pub(crate) struct Schema {}

impl Schema {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let Self {} = self;
        writeln!(console.stdout, "{:#}", policy_schema())?;
        Ok(Exit::Ok)
    }
}
