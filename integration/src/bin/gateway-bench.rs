//! What a verdict costs in a real Envoy, beside other ways to judge a request:
//! `cargo xtask bench gateway`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use integration::gateway_bench::{self, Options, Results};
use integration::{sandbox, workspace};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench gateway",
    about = "What a verdict costs in a real Envoy, beside other ways to judge a request."
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags that a user gives one by one"
)]
struct Arguments {
    /// Few rows and rounds, and fail where a ratio is of another order than it should be.
    #[arg(long, conflicts_with = "commit")]
    short: bool,
    /// Write `results.json`, a page and plots to this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write them where the documents have them.
    #[arg(long, conflicts_with = "out")]
    commit: bool,
    /// Fail where a ratio is of another order than it should be, or a row has become dearer than in the
    /// committed results.
    #[arg(long)]
    check: bool,
    /// Make the committed page and plots anew from the committed results, without a run.
    #[arg(long, exclusive = true)]
    page: bool,
    /// Rounds; every row has one batch in each.
    #[arg(long)]
    rounds: Option<u32>,
    /// Only rows whose name contains this, such as `http1/module`, and what they are compared with.
    #[arg(long)]
    only: Option<String>,
    /// Another build of the module, beside which the present one is measured.
    #[arg(long, conflicts_with = "commit")]
    other: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let committed = workspace::root().join("docs/evidence/performance");
    if arguments.page {
        Results::read(&committed)?.write_page(&committed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !sandbox::inside() {
        return sandbox::reenter();
    }
    let form = if arguments.short {
        Options::SHORT
    } else {
        Options::WHOLE
    };
    let options = Options {
        rounds: arguments.rounds.unwrap_or(form.rounds),
        other: arguments.other,
        only: arguments.only,
        ..form
    };
    let run = gateway_bench::run(&options, |step| eprintln!("gateway-bench: {step}"))?;
    say(&gateway_bench::page(&run));
    let folder = if arguments.commit {
        Some(committed.clone())
    } else {
        arguments.out
    };
    // What is compared with is what was committed before.
    let before = arguments
        .check
        .then(|| Results::read(&committed))
        .transpose()?;
    if let Some(folder) = folder {
        run.write(&folder)?;
    }
    if arguments.check || arguments.short {
        let wrong = gateway_bench::judge(&run, before.as_ref());
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::print_stdout,
    reason = "the one place where results are printed"
)]
fn say(text: &str) {
    println!("{text}");
}
