//! Expected against seen, for people and for machines.

use egress_analysis::decision::WrittenDecidedBy;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Captured, Comparison, Expectation, Group, Probe, ProbeExpectation, ProbeResult, judge,
};
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::Report;
use crate::table::table;

/// Attempts from inside a pod (`--from`).
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodReport<'w> {
    /// Who tries, as it was given.
    workload: &'w str,
    /// Whether a proxy in the pod takes this user's TCP.
    captured: Captured,
    /// Attempts that came out as expected.
    as_expected: usize,
    /// Attempts that did not.
    differs: usize,
    /// Attempts that show nothing.
    unclear: usize,
    /// What was left out, and why.
    not_tried: Vec<String>,
    /// Every attempt.
    probes: Vec<ProbeOutcome>,
    /// Whether people see what is as expected too.
    #[serde(skip)]
    all: bool,
}

/// An attempt and what came of it.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct ProbeOutcome {
    /// What it is there to show.
    group: Group,
    /// What was tried.
    attempt: String,
    /// Why.
    why: String,
    /// What the engine says.
    expected: ProbeExpectation,
    /// What came of it.
    #[schemars(with = "WrittenResult")]
    seen: ProbeResult,
    /// How the two compare.
    result: Comparison,
}

impl From<(Probe, ProbeResult)> for ProbeOutcome {
    fn from((probe, seen): (Probe, ProbeResult)) -> Self {
        Self {
            result: judge(&probe, &seen),
            group: probe.group,
            attempt: probe.attempt.to_string(),
            why: probe.why,
            expected: probe.expected,
            seen,
        }
    }
}

/// What came of an attempt.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct WrittenResult {
    /// In one word.
    kind: ResultKind,
    /// What the gateway's denial says that decided it.
    #[serde(flatten)]
    decided_by: WrittenDecidedBy,
    /// In words.
    detail: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum ResultKind {
    Reached,
    Open,
    Denied,
    Refused,
    Dropped,
    Unclear,
}

impl From<ProbeResult> for WrittenResult {
    fn from(seen: ProbeResult) -> Self {
        let (kind, detail) = match seen {
            ProbeResult::Denied(decided_by) => {
                return Self {
                    kind: ResultKind::Denied,
                    decided_by,
                    detail: None,
                };
            }
            ProbeResult::Reached(detail) => (ResultKind::Reached, Some(detail)),
            ProbeResult::Open => (ResultKind::Open, None),
            ProbeResult::Refused(detail) => (ResultKind::Refused, Some(detail)),
            ProbeResult::Dropped => (ResultKind::Dropped, None),
            ProbeResult::Unclear(detail) => (ResultKind::Unclear, Some(detail)),
        };
        Self {
            kind,
            decided_by: WrittenDecidedBy::default(),
            detail,
        }
    }
}

impl ProbeExpectation {
    fn words(&self) -> String {
        match (self.verdict, self.decided_by.words()) {
            (Expectation::Reached, _) => "reached".to_owned(),
            (Expectation::Refused, Some(by)) => format!("refused by {by}"),
            (Expectation::Refused, None) => "refused".to_owned(),
            (Expectation::Undecided, _) => "undecided".to_owned(),
        }
    }
}

impl ProbeResult {
    fn words(&self) -> String {
        match self {
            Self::Denied(by) => {
                let by = by.words();
                format!("denied by the gateway: {}", by.unwrap_or_default())
            }
            Self::Reached(detail) => format!("reached ({detail})"),
            Self::Refused(detail) => format!("refused ({detail})"),
            Self::Unclear(detail) => format!("unclear ({detail})"),
            Self::Open => "open, nothing was said".to_owned(),
            Self::Dropped => "no answer".to_owned(),
        }
    }
}

impl<'w> PodReport<'w> {
    /// What came of each probe. Of many, people see those that are not as expected, unless `all`.
    pub(crate) fn new(
        workload: &'w str,
        captured: Captured,
        outcomes: impl Iterator<Item = (Probe, ProbeResult)>,
        not_tried: Vec<String>,
        all: bool,
    ) -> Self {
        let probes: Vec<_> = outcomes.map(ProbeOutcome::from).collect();
        let count = |wanted| probes.iter().filter(|one| one.result == wanted).count();
        Self {
            workload,
            captured,
            as_expected: count(Comparison::AsExpected),
            differs: count(Comparison::Differs),
            unclear: count(Comparison::Unclear),
            not_tried,
            probes,
            all,
        }
    }

    /// The exit code that it means.
    pub(crate) fn exit(&self) -> Exit {
        match (self.differs, self.unclear) {
            (0, 0) => Exit::Ok,
            (0, _) => Exit::Undecided,
            _ => Exit::Defects,
        }
    }

    /// The rows that people see.
    fn rows(&self) -> Vec<[String; 5]> {
        let shown = |one: &&ProbeOutcome| self.all || one.result != Comparison::AsExpected;
        let rows = self.probes.iter().filter(shown).map(|one| {
            let mark = match one.result {
                Comparison::AsExpected => "ok",
                Comparison::Differs => "DIFFERS",
                Comparison::Unclear => "?",
            };
            [
                mark.to_owned(),
                one.attempt.clone(),
                one.expected.words(),
                one.seen.words(),
                one.why.clone(),
            ]
        });
        rows.collect()
    }
}

impl Report for PodReport<'_> {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        let head = ["", "what", "expected", "seen", "why it is tried"];
        write!(out, "{}", table(head, &self.rows()))?;
        for what in &self.not_tried {
            writeln!(out, "not tried: {what}")?;
        }
        writeln!(
            out,
            "{} as expected, {} differ, {} could not be told",
            self.as_expected, self.differs, self.unclear
        )?;
        Ok(())
    }
}
