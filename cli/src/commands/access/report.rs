//! Who may reach what, for people.

use egress_analysis::access::{Access, Opening, Part};
use serde::Serialize;

use crate::Console;
use crate::exit::Failure;
use crate::output::Report;
use crate::table::table;

/// Most answers that are listed for people.
const MAX_LISTED: usize = 40;
/// The columns.
const HEAD: [&str; 5] = ["who", "to", "answer", "by", "notes"];

/// Which question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// Who may reach a destination.
    Who,
    /// What a workload may reach.
    What,
}

/// An answer, and how much of it is written for people.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct AccessReport {
    pub(super) access: Access,
    #[serde(skip)]
    pub(super) asks: Asks,
    /// Whether every answer is listed.
    #[serde(skip)]
    pub(super) all: bool,
}

impl Report for AccessReport {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let (rows, hidden) = self.rows();
        let out = &mut *console.stdout;
        write!(out, "{}", table(HEAD, &rows))?;
        if hidden > 0 {
            writeln!(out, "... and {hidden} more answers (--all lists them)")?;
        }
        writeln!(out, "{}", self.rest())?;
        for assumption in &self.access.assumptions {
            writeln!(out, "assumed: {assumption}")?;
        }
        for why in &self.access.not_decided {
            writeln!(out, "not decided: {why}")?;
        }
        Ok(())
    }

    fn markdown(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let (rows, hidden) = self.rows();
        let out = &mut *console.stdout;
        let title = match self.asks {
            Asks::Who => "Who may reach",
            Asks::What => "What may be reached by",
        };
        writeln!(out, "### {title} {}\n", cell(&self.access.question))?;
        if !rows.is_empty() {
            writeln!(out, "| {} |\n|---|---|---|---|---|", HEAD.join(" | "))?;
        }
        for row in &rows {
            let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
            writeln!(out, "| {} |", cells.join(" | "))?;
        }
        if hidden > 0 {
            writeln!(out, "\n... and {hidden} more answers (`--all` lists them)")?;
        }
        writeln!(out, "\n{}", cell(&self.rest()))?;
        for assumption in &self.access.assumptions {
            writeln!(out, "\n**Assumed:** {}", cell(assumption))?;
        }
        for why in &self.access.not_decided {
            writeln!(out, "\n**Not decided:** {}", cell(why))?;
        }
        Ok(())
    }
}

impl AccessReport {
    /// A row a part, and how many answers have none.
    fn rows(&self) -> (Vec<[String; 5]>, usize) {
        let answers = &self.access.answers;
        let most = if self.all { answers.len() } else { MAX_LISTED };
        let listed = answers.iter().take(most);
        let rows = listed.flat_map(|answer| {
            let parts = answer.parts.iter();
            let rows = parts.map(|part| self.row(answer, part));
            rows.chain((answer.more > 0).then(|| {
                let more = format!("... and {} more (--all lists them)", answer.more);
                let place = usize::from(self.asks == Asks::What);
                let mut row: [String; 5] = Default::default();
                row.get_mut(place)
                    .into_iter()
                    .for_each(|cell| cell.clone_from(&more));
                row
            }))
        });
        (rows.collect(), answers.len().saturating_sub(most))
    }

    fn row(&self, answer: &Opening, part: &Part) -> [String; 5] {
        let whole = |text: &str, asks: Asks| {
            if text.is_empty() && self.asks == asks {
                self.access.question.clone()
            } else {
                text.strip_prefix("to ").unwrap_or(text).to_owned()
            }
        };
        let mut notes: Vec<String> = part.when.iter().cloned().collect();
        if part.claimed {
            notes.push("labels and clusters are what the workload says of itself".to_owned());
        }
        if let Some(would_be) = &answer.would_be {
            notes.push(format!("in shadow: without it {would_be}"));
        }
        let by = answer.decision.decided_by.words();
        [
            whole(&part.who, Asks::What),
            whole(&part.to, Asks::Who),
            answer.decision.words(),
            by.unwrap_or_default(),
            notes.join("; "),
        ]
    }

    /// What holds for everything that has no row.
    fn rest(&self) -> String {
        let question = &self.access.question;
        let empty = self.access.answers.is_empty();
        match (self.asks, empty, self.access.denied) {
            _ if !self.access.complete => {
                "Whatever has no row is denied or not decided.".to_owned()
            }
            (Asks::Who, true, _) => format!("Nobody may reach {question}."),
            (Asks::What, true, _) => format!("{question} may reach nothing."),
            (Asks::Who, false, true) => "Everyone else is denied.".to_owned(),
            (Asks::What, false, true) => "Everything else is denied.".to_owned(),
            (_, false, false) => "Nothing is denied.".to_owned(),
        }
    }
}

/// Text that is safe inside a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('*', "\\*")
        .replace('<', "&lt;")
}
