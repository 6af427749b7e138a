//! `warden test`: decision cases against the policies they name.

use std::collections::BTreeSet;

use egress_policy::case::{Case, Subject};
use egress_policy::verdict::{Evaluation, RuleRef};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Console;
use crate::cases::{Ready, first_line, no_case_file, read_cases};
use crate::exit::{Exit, Failure};
use crate::output::{ANNOTATED, Output, Report};
use crate::progress::Progress;
use crate::report;
use crate::sources;
use egress_analysis::decision::{VerdictWord, WrittenDecidedBy, verdict_word};
use egress_analysis::diagnostic::Diagnostic;

/// Run decision cases: policy unit tests that a reviewer can read. Exits 4 if one fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A case file names its policies and lists questions with their answers:
  policies: [policy.yaml]
  cases:
  - name: app1 reaches GitHub
    from: {workload: app1-ns/app1, labels: {egress-ruleset: app1}}
    to: {authority: api.github.com, port: 80}
    expect: {verdict: Accept, policy: seed, tier: apps, rule: app1-github, reason: rule}

Examples:
  warden test cases/
  warden test cases.yaml --coverage
  warden test --install install.yaml cases.yaml --verbose")]
pub(crate) struct Test {
    /// Case files, directories of them, or `-` for standard input. Install settings may stand
    /// among the `policies` that a file names.
    #[arg(value_name = "CASES", required = true)]
    files: Vec<String>,
    /// Install settings: the order of the policies and what is granted to each.
    #[arg(long, value_name = "FILE")]
    install: Option<String>,
    /// List the rules that no case touches.
    #[arg(long)]
    coverage: bool,
    /// Say of every case what it came to, and which policy decided.
    #[arg(long)]
    verbose: bool,
    /// How to write the result.
    #[arg(long, value_parser = Output::among(&ANNOTATED), default_value = "human")]
    pub(super) output: Output,
}

impl Test {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let clock = Progress::start("testing");
        let mut tally = Tally::default();
        for argument in &self.files {
            let folder = console.directory.join(argument).is_dir();
            for source in sources::read_sources(argument, console)? {
                let name = source.name().to_owned();
                let first_line = first_line(&source);
                match read_cases(source, self.install.as_deref(), console)? {
                    Ok(Some(ready)) => tally.add(&ready),
                    // A folder of cases may hold their policies too.
                    Ok(None) if folder => {}
                    Ok(None) => {
                        return Err(no_case_file(&name, &first_line));
                    }
                    Err(found) => return Err(Failure::of_files(found)),
                }
                clock.report(console, &name);
            }
        }
        let report = tally.report(self.verbose, self.coverage);
        self.output.write(&report, console)?;
        clock.finish(console);
        Ok(if report.failed == 0 {
            Exit::Ok
        } else {
            Exit::CasesFailed
        })
    }
}

/// What a case came to.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Ran {
    /// The case file.
    file: String,
    /// The case's name.
    case: String,
    /// It came out as it says.
    passed: bool,
    /// The verdict of the last step.
    verdict: VerdictWord,
    /// What decided it and why.
    #[serde(flatten)]
    decided_by: WrittenDecidedBy,
    #[serde(skip)]
    mismatches: Vec<String>,
    /// The failure as a diagnostic at its case.
    #[serde(skip)]
    diagnostic: Diagnostic,
}

/// A case that did not come out as it says.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct FailedCase<'r> {
    /// The case file.
    file: &'r str,
    /// The case's name.
    case: &'r str,
    /// What was expected and what came.
    mismatches: &'r [String],
}

/// What the cases came to.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TestReport<'r> {
    /// Cases that came out as they say.
    passed: usize,
    /// Cases that did not.
    failed: usize,
    /// Cases that only a running gateway can answer.
    live_only: usize,
    /// The cases that failed.
    failures: Vec<FailedCase<'r>>,
    /// Every case.
    cases: &'r [Ran],
    /// Rules of the policies.
    rules: usize,
    /// Rules that decide no case.
    untouched: Vec<&'r String>,
    #[serde(skip)]
    verbose: bool,
    #[serde(skip)]
    coverage: bool,
}

/// What is counted while the cases run.
#[derive(Default)]
struct Tally {
    ran: Vec<Ran>,
    other_subject: usize,
    rules: BTreeSet<String>,
    touched: BTreeSet<String>,
}

impl Tally {
    fn add(&mut self, ready: &Ready) {
        for policy in &ready.bundle.policies {
            for tier in &policy.tiers {
                let id = |rule: &str| format!("{}/{}/{rule}", policy.head.name, tier.name);
                self.rules
                    .extend(tier.rules.iter().map(|rule| id(&rule.name)));
            }
        }
        for (index, case) in ready.file.cases.iter().enumerate() {
            if case.is_for(Subject::Engine) {
                self.run(ready, index, case);
            } else {
                self.other_subject += 1;
            }
        }
    }

    fn run(&mut self, ready: &Ready, index: usize, case: &Case) {
        let touched = &mut self.touched;
        let mut last = Evaluation::Undecided;
        let mismatches = case.check(&ready.file.gateway, |facts| {
            let evaluation = ready.set.evaluate(facts);
            touched.extend(rules_of(&evaluation));
            last.clone_from(&evaluation);
            evaluation
        });
        if case.steps.last().is_some_and(|step| step.limit) {
            last = Evaluation::Final(last.at_limit());
        }
        let mismatches: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
        let file = ready.source.name().to_owned();
        let message = format!("{}: {}", case.name, mismatches.join("; "));
        self.ran.push(Ran {
            file,
            case: case.name.clone(),
            diagnostic: Diagnostic::error("case", ready.location(index), message, None),
            passed: mismatches.is_empty(),
            mismatches,
            verdict: verdict_word(&last),
            decided_by: (&last).into(),
        });
    }

    fn report(&self, verbose: bool, coverage: bool) -> TestReport<'_> {
        let failed = self.ran.iter().filter(|ran| !ran.passed);
        let failures: Vec<_> = failed
            .map(|ran| FailedCase {
                file: &ran.file,
                case: &ran.case,
                mismatches: &ran.mismatches,
            })
            .collect();
        TestReport {
            passed: self.ran.len() - failures.len(),
            failed: failures.len(),
            live_only: self.other_subject,
            failures,
            cases: &self.ran,
            rules: self.rules.len(),
            untouched: self.rules.difference(&self.touched).collect(),
            verbose,
            coverage,
        }
    }
}

impl TestReport<'_> {
    fn summary(&self) -> String {
        let live = if self.live_only > 0 {
            format!(", {} for a live gateway only", self.live_only)
        } else {
            String::new()
        };
        format!("{} passed, {} failed{live}", self.passed, self.failed)
    }
}

impl Report for TestReport<'_> {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        for ran in self.cases {
            if !ran.passed {
                writeln!(out, "FAILED {}: {}", ran.file, ran.case)?;
            } else if self.verbose {
                writeln!(out, "passed {}: {}", ran.file, ran.case)?;
            }
            for line in &ran.mismatches {
                writeln!(out, "    {line}")?;
            }
            if self.verbose {
                writeln!(out, "    {}", ran.decision())?;
            }
        }
        writeln!(out, "{}", self.summary())?;
        if self.coverage {
            let touched = self.rules - self.untouched.len();
            writeln!(out, "{touched} of {} rules decide a case", self.rules)?;
            for rule in &self.untouched {
                writeln!(out, "    no case: {rule}")?;
            }
        }
        Ok(())
    }

    fn github(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        for ran in self.cases.iter().filter(|ran| !ran.passed) {
            writeln!(console.stdout, "{}", report::github(&ran.diagnostic))?;
        }
        Ok(writeln!(console.stdout, "{}", self.summary())?)
    }
}

impl Ran {
    /// What decided in the end.
    fn decision(&self) -> String {
        let by = self.decided_by.words();
        let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
        format!("{}{by}", self.verdict)
    }
}

/// The rules that an evaluation rests on.
fn rules_of(evaluation: &Evaluation<'_>) -> Vec<String> {
    let Evaluation::Final(verdict) = evaluation else {
        return Vec::new();
    };
    [Some(verdict.enforced), verdict.shadow]
        .into_iter()
        .flatten()
        .filter(|ruling| matches!(ruling.rule, RuleRef::Rule { .. }))
        .map(|ruling| ruling.rule.to_string())
        .collect()
}
