//! The subcommands, one file each.

mod access;
mod adopt;
mod check;
mod completions;
mod diff;
mod docs;
mod doctor;
mod explain;
mod fmt;
mod folder;
mod init;
mod manifests;
mod package;
mod render;
mod revoke;
mod rollback;
pub(crate) mod schema;
mod test;
mod verify;

use clap::{Parser, Subcommand};

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::Output;

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
    Init(init::Init),
    Check(check::Check),
    Explain(explain::Explain),
    Who(access::Who),
    What(access::What),
    Test(test::Test),
    Diff(diff::Diff),
    Fmt(fmt::Fmt),
    Docs(docs::Docs),
    Schema(schema::Schema),
    Render(render::Render),
    Package(package::Package),
    Rollback(rollback::Rollback),
    Revoke(revoke::Revoke),
    Doctor(doctor::Doctor),
    Verify(verify::Verify),
    Completions(completions::Completions),
}

impl Command {
    /// The form in which the result is written.
    pub(crate) const fn output(&self) -> Output {
        match self {
            Self::Check(command) => command.output,
            Self::Explain(command) => command.output,
            Self::Who(command) => command.search.output,
            Self::What(command) => command.search.output,
            Self::Test(command) => command.output,
            Self::Diff(command) => command.output,
            Self::Fmt(command) => command.output,
            Self::Docs(command) => command.output,
            Self::Render(command) => command.output,
            Self::Package(command) => command.output,
            Self::Rollback(command) => command.output,
            Self::Revoke(command) => command.output,
            Self::Doctor(command) => command.output,
            Self::Verify(command) => command.output,
            Self::Init(_) | Self::Schema(_) | Self::Completions(_) => Output::Human,
        }
    }

    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Init(command) => command.run(console),
            Self::Check(command) => command.run(console),
            Self::Explain(command) => command.run(console),
            Self::Who(command) => command.run(console),
            Self::What(command) => command.run(console),
            Self::Test(command) => command.run(console),
            Self::Diff(command) => command.run(console),
            Self::Fmt(command) => command.run(console),
            Self::Docs(command) => command.run(console),
            Self::Schema(command) => command.run(console),
            Self::Render(command) => command.run(console),
            Self::Package(command) => command.run(console),
            Self::Rollback(command) => command.run(console),
            Self::Revoke(command) => command.run(console),
            Self::Doctor(command) => command.run(console),
            Self::Verify(command) => command.run(console),
            Self::Completions(command) => command.run(console),
        }
    }
}
