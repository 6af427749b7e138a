//! `warden completions`: for the shell.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::Console;
use crate::exit::{Exit, Failure};

/// Write completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  warden completions bash > /etc/bash_completion.d/warden")]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "warden", &mut text);
        console.stdout.write_all(&text)?;
        Ok(Exit::Ok)
    }
}
