//! Printing outcomes.

use anyhow::Result;

use super::DemoOutcome;
use crate::report::{self, Row};

/// The outcomes as JSON.
///
/// # Errors
/// None in practice: every field is text.
pub fn json(outcomes: &[DemoOutcome]) -> Result<String> {
    Ok(serde_json::to_string_pretty(outcomes)?)
}

/// The outcomes as a table, with a mark where one is not as expected.
#[must_use]
pub fn table(outcomes: &[DemoOutcome]) -> String {
    report::table(outcomes.iter().map(|outcome| Row {
        as_expected: outcome.as_expected,
        workload: outcome.workload.to_owned(),
        destination: outcome.destination.clone(),
        expected: outcome.expected.clone(),
        seen: outcome.seen.clone(),
        rule: outcome.rule.clone(),
        code: outcome.code.clone(),
    }))
}
