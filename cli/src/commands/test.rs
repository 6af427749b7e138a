//! `warden test`: decision cases against the policies they name.

use std::collections::BTreeSet;

use egress_policy::case::{Case, Subject};
use egress_policy::verdict::{Evaluation, ReasonCode, RuleRef};
use serde_json::{Value, json};

use crate::Console;
use crate::cases::{Ready, read_cases};
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::report::{self, Output};
use crate::sources;
use egress_analysis::diagnostic::Diagnostic;
use egress_analysis::explain::{code_of, rule_of, verdict_word};

/// Run decision cases: policy unit tests that a reviewer can read. Exits 4 if one fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A case file names its policies and lists questions with their answers:
  policies: [policy.yaml]
  cases:
  - name: app1 reaches GitHub
    from: {workload: app1-ns/app1, labels: {egress-ruleset: app1}}
    to: {authority: api.github.com, port: 80}
    expect: {verdict: Accept, code: rule, rule: seed/apps/app1-github}

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
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Test {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let clock = Progress::start("testing");
        let mut report = Report::default();
        for argument in &self.files {
            let folder = console.directory.join(argument).is_dir();
            for source in sources::read_sources(argument, console)? {
                let name = source.name().to_owned();
                match read_cases(source, self.install.as_deref(), console)? {
                    Ok(Some(ready)) => report.add(&ready),
                    // A folder of cases may hold their policies too.
                    Ok(None) if folder => {}
                    Ok(None) => {
                        return Err(Failure::new(format!("`{argument}` holds no case file"))
                            .with_hint("a case file has `policies` and `cases`"));
                    }
                    Err(found) => return report::refuse(&found, console),
                }
                clock.report(console, &name);
            }
        }
        match self.output {
            Output::Json => writeln!(console.stdout, "{:#}", report.to_json())?,
            Output::Human => report.write(console, self.verbose, self.coverage)?,
            Output::Github => report.annotate(console)?,
        }
        clock.finish(console);
        Ok(if report.failed().next().is_none() {
            Exit::Ok
        } else {
            Exit::CasesFailed
        })
    }
}

/// What a case came to.
struct Ran {
    file: String,
    case: String,
    mismatches: Vec<String>,
    verdict: &'static str,
    code: Option<&'static str>,
    rule: Option<String>,
    policy: Option<String>,
    /// The failure as a diagnostic at its case.
    diagnostic: Diagnostic,
}

#[derive(Default)]
struct Report {
    ran: Vec<Ran>,
    other_subject: usize,
    rules: BTreeSet<String>,
    touched: BTreeSet<String>,
}

impl Report {
    fn add(&mut self, ready: &Ready) {
        for policy in &ready.layers.policies {
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
        let (rule, policy) = rule_of(&last).unzip();
        self.ran.push(Ran {
            file,
            case: case.name.clone(),
            diagnostic: Diagnostic::error("case", ready.place(index), message, None),
            mismatches,
            verdict: verdict_word(&last),
            code: code_of(&last).map(ReasonCode::as_str),
            rule,
            policy,
        });
    }

    fn failed(&self) -> impl Iterator<Item = &Ran> {
        self.ran.iter().filter(|ran| !ran.mismatches.is_empty())
    }

    fn untouched(&self) -> Vec<&String> {
        self.rules.difference(&self.touched).collect()
    }

    fn summary(&self) -> String {
        let failed = self.failed().count();
        let live = if self.other_subject > 0 {
            format!(", {} for a live gateway only", self.other_subject)
        } else {
            String::new()
        };
        let passed = self.ran.len() - failed;
        format!("{passed} passed, {failed} failed{live}")
    }

    fn write(
        &self,
        console: &mut Console<'_>,
        verbose: bool,
        coverage: bool,
    ) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        for ran in &self.ran {
            if !ran.mismatches.is_empty() {
                writeln!(out, "FAILED {}: {}", ran.file, ran.case)?;
            } else if verbose {
                writeln!(out, "passed {}: {}", ran.file, ran.case)?;
            }
            for line in &ran.mismatches {
                writeln!(out, "    {line}")?;
            }
            if verbose {
                writeln!(out, "    {}", ran.decision())?;
            }
        }
        writeln!(out, "{}", self.summary())?;
        if coverage {
            let untouched = self.untouched();
            writeln!(
                out,
                "{} of {} rules decide a case",
                self.rules.len() - untouched.len(),
                self.rules.len()
            )?;
            for rule in untouched {
                writeln!(out, "    no case: {rule}")?;
            }
        }
        Ok(())
    }

    fn annotate(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        for ran in self.failed() {
            writeln!(console.stdout, "{}", report::github(&ran.diagnostic))?;
        }
        writeln!(console.stdout, "{}", self.summary())?;
        Ok(())
    }

    fn to_json(&self) -> Value {
        let failures: Vec<Value> = self
            .failed()
            .map(|ran| json!({"file": ran.file, "case": ran.case, "mismatches": ran.mismatches}))
            .collect();
        let cases: Vec<Value> = self.ran.iter().map(Ran::to_json).collect();
        json!({
            "passed": self.ran.len() - failures.len(),
            "failed": failures.len(),
            "liveOnly": self.other_subject,
            "failures": failures,
            "cases": cases,
            "rules": self.rules.len(),
            "untouched": self.untouched(),
        })
    }
}

impl Ran {
    /// What decided in the end.
    fn decision(&self) -> String {
        let code = self.code.map(|code| format!(" ({code})"));
        let by = self.rule.as_ref().map(|rule| format!(" by {rule}"));
        let policy = self.policy.as_ref();
        let policy = policy.map(|policy| format!(", policy {policy} decides"));
        let parts = [by, code, policy].map(Option::unwrap_or_default);
        format!("{}{}", self.verdict, parts.concat())
    }

    fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "case": self.case,
            "passed": self.mismatches.is_empty(),
            "verdict": self.verdict,
            "code": self.code,
            "rule": self.rule,
            "policy": self.policy,
        })
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
