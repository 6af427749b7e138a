//! Expected against seen, for people and for machines.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Captured, Comparison, Expectation, Probe, ProbeExpectation, ProbeResult, judge};

/// A probe and what came of it.
pub(crate) type ProbeOutcome = (Probe, ProbeResult);

impl ProbeExpectation {
    fn words(&self) -> String {
        let verdict = match self.verdict {
            Expectation::Reached => "reached",
            Expectation::Refused => "refused",
            Expectation::Undecided => "undecided",
        };
        match (self.verdict, self.code) {
            (Expectation::Refused, Some(code)) => format!("{verdict} ({code})"),
            _ => verdict.to_owned(),
        }
    }
}

impl ProbeResult {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Reached(_) => "reached",
            Self::Open => "open",
            Self::Denied { .. } => "denied",
            Self::Refused(_) => "refused",
            Self::Dropped => "dropped",
            Self::Unclear(_) => "unclear",
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Denied { code, .. } => format!("denied by the gateway ({code})"),
            Self::Reached(detail) | Self::Refused(detail) | Self::Unclear(detail) => {
                format!("{} ({detail})", self.kind())
            }
            Self::Open => "open, nothing was said".to_owned(),
            Self::Dropped => "no answer".to_owned(),
        }
    }
}

const fn mark(judgement: Comparison) -> &'static str {
    match judgement {
        Comparison::AsExpected => "ok",
        Comparison::Differs => "DIFFERS",
        Comparison::Unclear => "?",
    }
}

/// The rows as a table. Of many, those that are as expected are left out unless `all`.
pub(crate) fn human(outcomes: &[ProbeOutcome], all: bool) -> String {
    let head = ["", "what", "expected", "seen", "why it is tried"].map(str::to_owned);
    let rows = outcomes.iter().filter_map(|(probe, seen)| {
        let judgement = judge(probe, seen);
        (all || judgement != Comparison::AsExpected).then(|| {
            [
                mark(judgement).to_owned(),
                probe.attempt.to_string(),
                probe.expected.words(),
                seen.words(),
                probe.why.clone(),
            ]
        })
    });
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    if lines.len() == 1 {
        return String::new();
    }
    let mut widths = [0; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        for (width, cell) in widths.iter().zip(line) {
            // Writing to a String does not fail.
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// How many outcomes there are of a kind.
pub(crate) fn count(outcomes: &[ProbeOutcome], wanted: Comparison) -> usize {
    let of_kind = |(probe, seen): &&ProbeOutcome| judge(probe, seen) == wanted;
    outcomes.iter().filter(of_kind).count()
}

/// The documented JSON form.
pub(crate) fn to_json(
    workload: &str,
    captured: Captured,
    outcomes: &[ProbeOutcome],
    not_tried: &[String],
) -> Value {
    let probes: Vec<Value> = outcomes
        .iter()
        .map(|(probe, seen)| {
            let (code, rule) = match seen {
                ProbeResult::Denied { code, rule } => (Some(code), Some(rule)),
                _ => (None, None),
            };
            let detail = match seen {
                ProbeResult::Reached(detail)
                | ProbeResult::Refused(detail)
                | ProbeResult::Unclear(detail) => Some(detail),
                ProbeResult::Open | ProbeResult::Denied { .. } | ProbeResult::Dropped => None,
            };
            let expected = &probe.expected;
            json!({
                "group": probe.group.as_str(),
                "attempt": probe.attempt.to_string(),
                "why": probe.why,
                "expected": {
                    "verdict": match expected.verdict {
                        Expectation::Reached => "reached",
                        Expectation::Refused => "refused",
                        Expectation::Undecided => "undecided",
                    },
                    "code": expected.code,
                    "rule": expected.rule,
                },
                "seen": {"kind": seen.kind(), "code": code, "rule": rule, "detail": detail},
                "result": judge(probe, seen).as_str(),
            })
        })
        .collect();
    json!({
        "workload": workload,
        "captured": {"ipv4": captured.v4, "ipv6": captured.v6},
        "asExpected": count(outcomes, Comparison::AsExpected),
        "differs": count(outcomes, Comparison::Differs),
        "unclear": count(outcomes, Comparison::Unclear),
        "notTried": not_tried,
        "probes": probes,
    })
}
