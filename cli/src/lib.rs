//! The `warden` command as a library, so that tests and fuzzers call what the binary calls.
//!
//! Every subcommand is one file under `commands`: its arguments as a `clap` struct, and a `run`
//! that gets a [`Console`] and returns an [`Exit`]. What the policies mean is the engine's
//! business; this crate reads files, asks the engine, and draws the answer.

mod cases;
mod commands;
mod exit;
mod history;
mod output;
mod pipe;
mod progress;
mod report;
pub mod schema;
mod settings;
mod sources;
mod table;
mod verify;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;

use clap::Parser;

pub use egress_analysis::coming_from;
pub use egress_analysis::lint::{CodeText, error_codes, lint_codes};
pub use exit::{Exit, Failure};
pub use pipe::Pipe;
pub use table::table;

/// What a run may touch.
pub struct Console<'a> {
    /// Standard input.
    pub stdin: &'a mut dyn Read,
    /// Standard output: results.
    pub stdout: &'a mut dyn Write,
    /// Standard error: failures and progress.
    pub stderr: &'a mut dyn Write,
    /// The time, in seconds since the Unix epoch, if there is a clock.
    pub now: Option<i64>,
    /// What relative paths are relative to.
    pub directory: &'a Path,
    /// Whether standard output takes colours.
    pub color: bool,
}

/// Runs the command with its arguments, the program's name first.
pub fn run<I, T>(args: I, console: &mut Console<'_>) -> Exit
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match commands::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, console),
    };
    let output = cli.command.output();
    match cli.command.run(console) {
        Ok(exit) => exit,
        Err(failure) if !failure.diagnostics().is_empty() => {
            let diagnostics = failure.diagnostics();
            match output.write(&report::Refusal { diagnostics }, console) {
                Ok(()) => Exit::Defects,
                Err(_) => Exit::Failed,
            }
        }
        Err(failure) => {
            // If even standard error is gone, the exit code is all that is left to say.
            let _ = writeln!(console.stderr, "error: {failure}");
            if let Some(hint) = failure.hint() {
                let _ = writeln!(console.stderr, "  help: {hint}");
            }
            Exit::Failed
        }
    }
}

/// Help and version are results, everything else is wrong usage.
fn usage(error: &clap::Error, console: &mut Console<'_>) -> Exit {
    let text = error.render();
    let written = if error.use_stderr() {
        write!(console.stderr, "{text}")
    } else {
        write!(console.stdout, "{text}")
    };
    if error.use_stderr() || written.is_err() {
        Exit::Failed
    } else {
        Exit::Ok
    }
}

#[cfg(test)]
mod tests;
