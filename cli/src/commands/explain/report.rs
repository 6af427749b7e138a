//! An explanation for people.

use egress_analysis::decision::{Matches, decision_words};
use egress_analysis::explain::{Answer, Entry, Explanation};
use egress_policy::verdict::Evaluation;
use serde::Serialize;

use crate::Console;
use crate::exit::Failure;
use crate::output::Report;

/// Most rules that are listed for people.
const MAX_LISTED: usize = 20;

/// An answer, and what of it is written for people.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct ExplainReport<'e> {
    pub(super) answer: Answer<'e>,
    #[serde(skip)]
    pub(super) explanation: &'e Explanation<'e>,
    /// Whether every rule on the way is listed.
    #[serde(skip)]
    pub(super) all: bool,
}

impl Report for ExplainReport<'_> {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let explanation = self.explanation;
        let out = &mut *console.stdout;
        match &explanation.evaluation {
            Evaluation::Final(verdict) => {
                let ruling = &verdict.enforced;
                let why = ruling.reason.explanation();
                writeln!(out, "{}: {why}", decision_words(ruling))?;
                if let Some(would_be) = &verdict.shadow {
                    let words = decision_words(would_be);
                    writeln!(out, "without shadow it would be {words}")?;
                }
            }
            Evaluation::Undecided => {
                writeln!(out, "Undecided: the given facts decide nothing yet")?;
            }
        }
        if let Some(class) = &explanation.class {
            writeln!(out, "where the name may lead: {class}")?;
        }
        for list in &explanation.lists {
            writeln!(out, "by the {list}")?;
        }
        for assumption in &explanation.assumptions {
            writeln!(out, "assumed: {assumption}")?;
        }
        self.write_considered(&explanation.considered, console)?;
        let out = &mut *console.stdout;
        if !explanation.changes.is_empty() {
            writeln!(out, "\nit would change if:")?;
        }
        for change in &explanation.changes {
            let known: Vec<String> = change
                .known
                .iter()
                .map(|(fact, value)| format!("{fact} = {value}"))
                .collect();
            let by = change.decided_by.words();
            let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
            writeln!(out, "  {}: {}{by}", known.join(", "), change.verdict)?;
        }
        Ok(())
    }
}

impl ExplainReport<'_> {
    fn write_considered(
        &self,
        considered: &[Entry<'_>],
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let shown = if self.all || considered.len() <= MAX_LISTED {
            considered.iter().collect()
        } else {
            nearest(considered)
        };
        if !shown.is_empty() {
            writeln!(console.stdout, "\nrules on the way:")?;
        }
        for entry in &shown {
            let shadow = if entry.shadow { ", shadow" } else { "" };
            let matches = match entry.matches {
                Matches::True => "matches",
                Matches::False => "does not match",
                Matches::Pending | Matches::Missing => "cannot be told yet",
            };
            let matches = match (entry.left_out, entry.shadow) {
                (false, _) => matches,
                (true, false) => "its networks are left out of the name's addresses",
                (true, true) => "its networks cannot be counted where a name leads",
            };
            writeln!(
                console.stdout,
                "  {} ({}{shadow}): {matches}",
                entry.rule, entry.action
            )?;
            for mismatch in &entry.mismatches {
                writeln!(console.stdout, "      {mismatch}")?;
            }
        }
        let hidden = considered.len() - shown.len();
        if hidden > 0 {
            writeln!(
                console.stdout,
                "  ... and {hidden} that differ in more (--all lists them)"
            )?;
        }
        Ok(())
    }
}

/// The rules that came closest, in their order.
fn nearest<'e, 'p>(considered: &'e [Entry<'p>]) -> Vec<&'e Entry<'p>> {
    let mut ranked: Vec<(usize, &Entry<'_>)> = considered.iter().enumerate().collect();
    ranked.sort_by_key(|(_, entry)| entry.mismatches.len());
    ranked.truncate(MAX_LISTED);
    ranked.sort_by_key(|(index, _)| *index);
    ranked.into_iter().map(|(_, entry)| entry).collect()
}
