//! One workload takes all it can get of the gateway, another sends requests:
//! `cargo xtask soak --noisy-neighbour`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use integration::noisy::{self, Size};
use integration::sandbox;

#[derive(Parser)]
#[command(about = "One workload takes all it can get of the gateway, another sends requests.")]
struct Arguments {
    /// The short form, which is a test too.
    #[arg(long)]
    short: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !sandbox::inside() {
        return sandbox::reenter();
    }
    let size = if arguments.short {
        Size::SHORT
    } else {
        Size::WHOLE
    };
    let outcome = noisy::run(size, |phase| eprintln!("{}", phase.name))?;
    say(&noisy::table(&outcome));
    say(&format!(
        "denials by limits: {:?}; log of {} denials: {} KiB",
        outcome.limited,
        outcome.log.1,
        outcome.log.0 >> 10
    ));
    let (lines, summed, all) = outcome.told;
    say(&format!(
        "{all} denials, {lines} with a line and {summed} summed up; ended by the gateway: {} \
         connections without TLS, {} heads",
        outcome.silent_ended, outcome.heads_ended
    ));
    noisy::judge(&outcome)?;
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::print_stdout,
    reason = "the one place where results are printed"
)]
fn say(text: &str) {
    println!("{text}");
}
