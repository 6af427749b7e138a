//! Every case of `cases/*.yaml`, asked of the compiled policies and of the reference evaluator;
//! and the table of what the cases cover.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, though built without libtest's own harness"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use egress_policy::case::{ExpectedAnswer, ExpectedDecision, Mismatch};
use egress_policy::reference;
use egress_policy::verdict::ReasonCode;
use libtest_mimic::{Arguments, Failed, Trial};

use support::Loaded;

/// How often every code must be expected at least.
const LEAST_PER_CODE: usize = 2;
/// How many cases there must be at least.
const LEAST_CASES: usize = 150;

fn main() {
    let arguments = Arguments::from_args();
    let files: Vec<Arc<Loaded>> = support::case_files().into_iter().map(Arc::new).collect();
    let mut trials = Vec::new();
    for file in &files {
        for index in 0..file.file.cases.len() {
            let name = format!("{}: {}", file.name, file.file.cases[index].name);
            let file = Arc::clone(file);
            trials.push(Trial::test(name, move || check(&file, index)));
        }
    }
    trials.push(Trial::test("coverage of the cases", move || {
        coverage(&files)
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

/// The engine is asked whatever `only` says: a case that only a live Envoy can answer in full
/// still has to be what the engine says of its facts.
fn check(loaded: &Loaded, index: usize) -> Result<(), Failed> {
    let case = &loaded.file.cases[index];
    let settings = loaded.file.gateway.settings;
    let compiled = case.check(&loaded.file.gateway, |facts| loaded.set.evaluate(facts));
    let naive = case.check(&loaded.file.gateway, |facts| {
        reference::evaluate(&loaded.policies, settings, facts)
    });
    let mut report = String::new();
    let mut note = |subject: &str, mismatches: &[Mismatch]| {
        for mismatch in mismatches {
            let _ = writeln!(report, "{subject}: {mismatch}");
        }
    };
    note("compiled", &compiled);
    note("reference", &naive);
    if report.is_empty() {
        Ok(())
    } else {
        Err(report.into())
    }
}

/// Prints how often each code is expected, and fails where that is not often enough.
fn coverage(files: &[Arc<Loaded>]) -> Result<(), Failed> {
    let mut codes: BTreeMap<ReasonCode, BTreeSet<String>> = BTreeMap::new();
    let (mut undecided, mut cases) = (0, 0);
    let mut inputs: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        for case in &file.file.cases {
            cases += 1;
            let input = format!("{} {:?}", file.name, case.steps);
            if let Some(twin) = inputs.insert(input, case.name.clone()) {
                return Err(format!("{twin:?} and {:?} are one case", case.name).into());
            }
            for step in &case.steps {
                let rulings: Vec<&ExpectedDecision> = match &step.expect {
                    ExpectedAnswer::Undecided => {
                        undecided += 1;
                        Vec::new()
                    }
                    ExpectedAnswer::Verdict(_) => Vec::new(),
                    ExpectedAnswer::Final { enforced, would_be } => {
                        std::iter::once(enforced).chain(would_be).collect()
                    }
                };
                for ruling in rulings {
                    let name = format!("{}: {}", file.name, case.name);
                    codes
                        .entry(ruling.decided_by.reason)
                        .or_default()
                        .insert(name);
                }
            }
        }
    }
    let reference =
        std::fs::read_to_string(support::case_folder().join("../docs/how-to/denied.md"))?;
    println!("{cases} cases; Undecided at {undecided} steps; cases per code:");
    let mut scarce = Vec::new();
    for code in ReasonCode::ALL {
        let count = codes.get(&code).map_or(0, BTreeSet::len);
        println!("  {:<20} {count:>4}", code.as_str());
        if !reference.contains(&format!("| `{code}` |")) {
            return Err(format!("docs/how-to/denied.md does not explain {code}").into());
        }
        if count < LEAST_PER_CODE {
            scarce.push(code.as_str());
        }
    }
    if cases < LEAST_CASES {
        return Err(format!("{cases} cases, {LEAST_CASES} are the least").into());
    }
    if scarce.is_empty() {
        Ok(())
    } else {
        Err(format!("fewer than {LEAST_PER_CODE} cases: {}", scarce.join(", ")).into())
    }
}
