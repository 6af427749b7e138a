//! The decision cases in a real Envoy: what the engine says on paper, the gateway does.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Result;
use integration::cases::{Attempt, LiveGateway, batches, load_all, run_live};
use integration::sandbox;
use libtest_mimic::{Arguments, Failed, Trial};

/// Cases that must be playable at least; fewer means that the player has stopped understanding
/// them.
const LEAST: usize = 200;

fn main() -> Result<ExitCode> {
    if !sandbox::inside() {
        return sandbox::reenter();
    }
    let arguments = Arguments::from_args();
    sandbox::assign_everything()?;
    let files = load_all()?;
    let dealt: Vec<_> = files.iter().map(|file| (file, batches(file))).collect();
    let attempts = || {
        let batches = dealt.iter().flat_map(|(_, (batches, _))| batches);
        batches.flat_map(|round| round.attempts.iter().map(|(_, attempt)| attempt))
    };
    let ports: BTreeSet<u16> = attempts()
        .filter_map(Attempt::port)
        .chain([80, 443])
        .collect();
    let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in dealt.iter().flat_map(|(_, (_, left_out))| left_out) {
        *left_out.entry(reason).or_default() += 1;
    }
    let played = attempts().count();
    let gateway = LiveGateway::new(&ports)?;
    let mut trials = Vec::new();
    for (file, (batches, _)) in &dealt {
        for round in batches {
            for (index, result) in run_live(&gateway, file, round)? {
                let case = file
                    .file
                    .cases
                    .get(index)
                    .map_or("?", |case| case.name.as_str());
                let name = format!("{}: {case}", file.name);
                trials.push(Trial::test(name, move || result.map_err(Failed::from)));
            }
        }
    }
    trials.push(Trial::test("enough cases are played", move || {
        if played < LEAST {
            return Err(format!("{played} of at least {LEAST}").into());
        }
        Ok(())
    }));
    eprintln!("{played} cases played; left to the engine:");
    for (reason, count) in left_out {
        eprintln!("  {count:>4} need {reason}");
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
