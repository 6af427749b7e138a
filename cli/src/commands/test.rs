//! `warden test`: decision cases against the policies they name.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use egress_policy::PolicySet;
use egress_policy::case::{Case, CaseFile, PolicyRef, Subject};
use egress_policy::model::Policy;
use egress_policy::verdict::{Basis, Evaluation};
use serde_json::{Value, json};

use crate::Console;
use crate::diagnostic::Diagnostic;
use crate::document::Documents;
use crate::exit::{Exit, Failure};
use crate::load::{self, Inputs};
use crate::report;

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
  warden test cases/*.yaml
  warden test cases.yaml --coverage")]
pub(crate) struct Test {
    /// Case files.
    #[arg(value_name = "CASES", required = true)]
    files: Vec<String>,
    /// List the rules that no case touches.
    #[arg(long)]
    coverage: bool,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t)]
    output: Form,
}

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    #[default]
    Human,
    /// One JSON object.
    Json,
}

/// A case file, read, with its policies.
pub(crate) struct Ready {
    pub(crate) shown: String,
    pub(crate) file: CaseFile,
    pub(crate) policies: Vec<Policy>,
    pub(crate) set: PolicySet,
}

/// Reads a case file and the policies that it names.
///
/// # Errors
/// A file that cannot be read. What is wrong inside files is the inner error.
pub(crate) fn read_cases(
    shown: &str,
    console: &mut Console<'_>,
) -> Result<Result<Ready, Vec<Diagnostic>>, Failure> {
    let source = Arc::new(load::read_file(&console.directory.join(shown), shown)?);
    let documents = match Documents::parse(Arc::clone(&source)) {
        Ok(documents) => documents.with_a_labels(),
        Err(errors) => {
            let found = errors.into_iter();
            return Ok(Err(found
                .map(|error| Diagnostic::of_syntax(error, &source))
                .collect()));
        }
    };
    let root = documents
        .roots()
        .next()
        .ok_or_else(|| Failure::new(format!("`{shown}` is empty")))?;
    let file = match CaseFile::read(&root) {
        Ok(file) => file,
        Err(defects) => {
            let found = defects.iter();
            return Ok(Err(found
                .map(|defect| Diagnostic::of_defect(defect, root))
                .collect()));
        }
    };
    let mut policies = Vec::new();
    for policy in &file.policies {
        match policy {
            PolicyRef::Inline(policy) => policies.push((**policy).clone()),
            PolicyRef::Path(path) => {
                let folder = Path::new(shown).parent().unwrap_or(Path::new(""));
                let files = vec![folder.join(path).display().to_string()];
                let loaded = load::load(&Inputs { files }, console)?;
                if loaded.has_errors() {
                    return Ok(Err(loaded.diagnostics));
                }
                policies.extend(loaded.layers.into_iter().flat_map(|layers| layers.policies));
            }
        }
    }
    let inspection = file.gateway.inspection.iter().map(|(name, _)| name.clone());
    match PolicySet::compile(&policies, file.gateway.settings, inspection) {
        Ok(set) => Ok(Ok(Ready {
            shown: shown.to_owned(),
            file,
            policies,
            set,
        })),
        Err(defects) => Ok(Err(defects
            .iter()
            .map(|defect| Diagnostic::of_defect(defect, root))
            .collect())),
    }
}

impl Test {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut report = Report::default();
        for shown in &self.files {
            match read_cases(shown, console)? {
                Ok(ready) => report.add(&ready),
                Err(found) => {
                    for diagnostic in &found {
                        writeln!(console.stderr, "{}\n", report::human(diagnostic, false))?;
                    }
                    return Ok(Exit::Defects);
                }
            }
        }
        match self.output {
            Form::Json => writeln!(console.stdout, "{:#}", report.to_json())?,
            Form::Human => report.write(console, self.coverage)?,
        }
        Ok(if report.failed == 0 {
            Exit::Ok
        } else {
            Exit::CasesFailed
        })
    }
}

#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
    other_subject: usize,
    failures: Vec<(String, String, Vec<String>)>,
    rules: BTreeSet<String>,
    touched: BTreeSet<String>,
}

impl Report {
    fn add(&mut self, ready: &Ready) {
        for policy in &ready.policies {
            for tier in &policy.tiers {
                let id = |rule: &str| format!("{}/{}/{rule}", policy.head.name, tier.name);
                self.rules
                    .extend(tier.rules.iter().map(|rule| id(&rule.name)));
            }
        }
        for case in &ready.file.cases {
            if !case.is_for(Subject::Engine) {
                self.other_subject += 1;
                continue;
            }
            let touched = &mut self.touched;
            let mismatches = case.check(&ready.file.gateway, |facts| {
                let evaluation = ready.set.evaluate(facts);
                touched.extend(rules_of(&evaluation));
                evaluation
            });
            if mismatches.is_empty() {
                self.passed += 1;
            } else {
                self.failed += 1;
                let lines = mismatches.iter().map(ToString::to_string).collect();
                self.failures
                    .push((ready.shown.clone(), case.name.clone(), lines));
            }
        }
    }

    fn untouched(&self) -> Vec<&String> {
        self.rules.difference(&self.touched).collect()
    }

    fn write(&self, console: &mut Console<'_>, coverage: bool) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        for (file, name, lines) in &self.failures {
            writeln!(out, "FAILED {file}: {name}")?;
            for line in lines {
                writeln!(out, "    {line}")?;
            }
        }
        write!(out, "{} passed, {} failed", self.passed, self.failed)?;
        if self.other_subject > 0 {
            write!(out, ", {} for a live gateway only", self.other_subject)?;
        }
        writeln!(out)?;
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

    fn to_json(&self) -> Value {
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(file, case, lines)| json!({"file": file, "case": case, "mismatches": lines}))
            .collect();
        json!({
            "passed": self.passed,
            "failed": self.failed,
            "liveOnly": self.other_subject,
            "failures": failures,
            "rules": self.rules.len(),
            "untouched": self.untouched(),
        })
    }
}

/// The rules that an evaluation rests on.
fn rules_of(evaluation: &Evaluation<'_>) -> Vec<String> {
    let Evaluation::Final(verdict) = evaluation else {
        return Vec::new();
    };
    [Some(verdict.enforced), verdict.would_be]
        .into_iter()
        .flatten()
        .filter(|ruling| matches!(ruling.basis, Basis::Rule { .. }))
        .map(|ruling| ruling.basis.to_string())
        .collect()
}

/// A case by its name, or the only one.
pub(crate) fn find<'c>(file: &'c CaseFile, name: Option<&str>) -> Result<&'c Case, Failure> {
    let found = match name {
        Some(name) => file.cases.iter().find(|case| case.name == name),
        None if file.cases.len() > 1 => {
            return Err(Failure::new("the file holds several cases")
                .with_hint("choose one with --case-name"));
        }
        None => file.cases.first(),
    };
    found.ok_or_else(|| Failure::new(format!("no case is named `{}`", name.unwrap_or_default())))
}
