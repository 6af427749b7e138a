//! Printing outcomes.

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
    ];
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
    warden::table(head, &rows.collect::<Vec<_>>())
}
