//! The subcommands, one file each.

mod check;
mod doctor;
mod explain;
mod manifests;
mod render;

use clap::{Parser, Subcommand};

use crate::Console;
use crate::exit::{Exit, Failure};

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well; the verdict is Accept or Inspect
  1  could not run, or was used wrongly
  2  the verdict is Deny
  3  something is wrong with a file
  4  a case failed
  5  the given facts decide nothing yet";

/// Egress policies, checked and explained before they reach a cluster.
#[derive(Debug, Parser)]
#[command(name = "warden", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::Check),
    Doctor(doctor::Doctor),
    Explain(explain::Explain),
    Render(render::Render),
}

impl Command {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Check(command) => command.run(console),
            Self::Doctor(command) => command.run(console),
            Self::Explain(command) => command.run(console),
            Self::Render(command) => command.run(console),
        }
    }
}
