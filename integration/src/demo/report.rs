//! Printing outcomes.

use std::fmt::Write;

use anyhow::Result;

use super::DemoOutcome;

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
    let head = [
        "",
        "workload",
        "destination",
        "expected",
        "seen",
        "rule",
        "code",
    ]
    .map(str::to_owned);
    let rows = outcomes.iter().map(|outcome| {
        [
            if outcome.as_expected { "ok" } else { "DIFFERS" }.to_owned(),
            outcome.workload.to_owned(),
            outcome.destination.clone(),
            outcome.expected.clone(),
            outcome.seen.clone(),
            outcome.rule.clone(),
            outcome.code.clone(),
        ]
    });
    let lines: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        for (width, cell) in widths.iter().zip(line) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
