//! `warden diff`: what a change means.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Report};
use crate::progress::Progress;
use crate::sources::{Inputs, load};
use egress_analysis::bundle::{PolicyBundle, single_bundle};
use egress_analysis::diff::{Comparison, Difference, Direction, Options, Outcome, Side, compare};
use egress_analysis::owned_facts::parse_time;

/// The semantic difference between two policies: who gains and who loses what, whatever the order
/// and the wording. Both sides are judged as their mesh carries each port, and a port that carries
/// another protocol than before is told by itself. Every difference comes with facts on which the
/// two verdicts differ. Where the gateway speaks TLS of its own in another way, that is told too.
/// Exits 0 where the comparison is complete, 5 where it is not decided, 2 for gains under
/// --no-gains.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden diff old.yaml new.yaml
  git show main:policy.yaml | warden diff - policy.yaml --output markdown
  warden diff --no-gains released/ proposed/
  warden diff --install install.yaml --old seed.yaml team.yaml --new seed.yaml team2.yaml")]
pub(crate) struct Diff {
    /// The policies before: a file, a directory (install settings in it give the order), a
    /// manifest, or `-`.
    #[arg(required_unless_present = "before")]
    old: Option<String>,
    /// The policies after.
    #[arg(required_unless_present = "after")]
    new: Option<String>,
    /// The policies before, several in their order.
    #[arg(id = "before", long = "old", value_name = "FILE", num_args = 1.., requires = "after", conflicts_with_all = ["old", "new"])]
    before: Vec<String>,
    /// The policies after, several in their order.
    #[arg(id = "after", long = "new", value_name = "FILE", num_args = 1.., requires = "before", conflicts_with_all = ["old", "new"])]
    after: Vec<String>,
    /// Install settings for both sides: the order of the policies and what is granted to each.
    #[arg(long, value_name = "FILE")]
    install: Option<String>,
    /// From when on, as RFC 3339 [default: now].
    #[arg(long)]
    time: Option<String>,
    /// Seconds after which the comparison ends undecided.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    limit: u64,
    /// Exit 2 if anybody gains anything.
    #[arg(long)]
    no_gains: bool,
    /// List every part of a difference, and every name, network and port in it. Without it, lists
    /// that are cut say how many more there are.
    #[arg(long)]
    all: bool,
    /// How to write the result.
    #[arg(long, value_parser = Output::among(&FORMS), default_value = "human")]
    pub(super) output: Output,
}

/// How often a long comparison says how far it is.
const EVERY: Duration = Duration::from_secs(1);

/// The forms of the result.
const FORMS: [Output; 3] = [Output::Human, Output::Json, Output::Markdown];

impl Diff {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let clock = Progress::start("comparing");
        let now = match &self.time {
            Some(text) => parse_time(text)?.known(),
            None => console.now,
        };
        let now = now.ok_or_else(|| Failure::new("there is no clock").with_hint("give --time"))?;
        let old = self.old.as_slice().iter().chain(&self.before);
        let new = self.new.as_slice().iter().chain(&self.after);
        let (old, new) = (self.read(old, console)?, self.read(new, console)?);
        clock.report(console, "files read");
        let (old_set, new_set) = match (old.compile(), new.compile()) {
            (Ok(old_set), Ok(new_set)) => (old_set, new_set),
            (Err(found), _) | (_, Err(found)) => return Err(Failure::of_files(found)),
        };
        clock.report(console, "policies compiled");
        let side = |layers, set| Side { layers, set };
        let limit = Duration::from_secs(self.limit);
        let (old, new) = (side(&old, &old_set), side(&new, &new_set));
        let began = Instant::now();
        let elapsed = || began.elapsed();
        let comparison = {
            let console = RefCell::new(&mut *console);
            let said = Cell::new(Duration::ZERO);
            let progress = |step: &str| {
                let now = elapsed();
                if now.saturating_sub(said.get()) >= EVERY {
                    said.set(now);
                    clock.report(&mut console.borrow_mut(), step);
                }
            };
            let options = Options {
                elapsed: &elapsed,
                limit,
                progress: &progress,
                all: self.all,
            };
            compare(&old, &new, now, &options)
        };
        self.output.write(&comparison, console)?;
        clock.finish(console);
        let gains = comparison
            .differences
            .iter()
            .any(|difference| difference.direction() == Direction::Gains);
        Ok(
            match (self.no_gains && gains, comparison.undecided.is_empty()) {
                (true, _) => Exit::Denied,
                (false, true) => Exit::Ok,
                (false, false) => Exit::Undecided,
            },
        )
    }

    /// One side's policies.
    fn read<'f>(
        &'f self,
        files: impl Iterator<Item = &'f String>,
        console: &mut Console<'_>,
    ) -> Result<PolicyBundle, Failure> {
        let files = self.install.iter().chain(files).cloned().collect();
        let loaded = load(&Inputs { files }, console)?;
        if loaded.has_errors() {
            return Err(Failure::of_files(loaded.diagnostics));
        }
        single_bundle(loaded.bundles)
    }
}

fn conclusion(comparison: &Comparison) -> String {
    let classes = comparison.classes;
    match comparison.result() {
        Outcome::Same if classes == 0 => {
            "no change in meaning: the same rules in the same order".to_owned()
        }
        Outcome::Same => format!("no change in meaning ({classes} classes compared)"),
        Outcome::Different if comparison.undecided.is_empty() => {
            format!("these are all the differences ({classes} classes compared)")
        }
        Outcome::Different | Outcome::NotDecided => {
            format!("not decided ({classes} classes compared)")
        }
    }
}

impl Report for Comparison {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        for difference in &self.differences {
            writeln!(
                out,
                "{}{}: {} -> {}",
                mark(difference),
                if difference.shadow { " (shadow)" } else { "" },
                difference.old,
                difference.new
            )?;
            for part in &difference.what {
                writeln!(out, "    {part}")?;
            }
            if difference.more > 0 {
                writeln!(out, "    {}", more(difference))?;
            }
            writeln!(out, "    for example: {}", difference.witness.to_json())?;
        }
        for change in &self.ports {
            writeln!(out, "~ {}", change.words())?;
        }
        for change in &self.tls {
            writeln!(out, "~ {}", change.words())?;
        }
        for reason in &self.undecided {
            writeln!(out, "not decided: {reason}")?;
        }
        writeln!(out, "{}", conclusion(self))?;
        Ok(())
    }

    fn markdown(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        writeln!(out, "### Egress policy: what this change means\n")?;
        if !self.differences.is_empty() {
            writeln!(
                out,
                "| | who and what | before | after |\n|---|---|---|---|"
            )?;
        }
        for difference in &self.differences {
            let parts: Vec<String> = difference.what.iter().map(|part| cell(part)).collect();
            let more = if difference.more > 0 {
                format!("<br>{}", more(difference))
            } else {
                String::new()
            };
            writeln!(
                out,
                "| {}{} | {}{more} | {} | {} |",
                match difference.direction() {
                    Direction::Gains => "**gains**",
                    Direction::Loses => "loses",
                    Direction::Changes => "changes",
                },
                if difference.shadow { " (shadow)" } else { "" },
                parts.join("<br>"),
                cell(&difference.old.to_string()),
                cell(&difference.new.to_string())
            )?;
        }
        for difference in &self.differences {
            writeln!(
                out,
                "\n<details><summary>Facts: {} to {}</summary>\n\n```json\n{:#}\n```\n</details>",
                cell(&difference.old.to_string()),
                cell(&difference.new.to_string()),
                difference.witness.to_json()
            )?;
        }
        for change in &self.ports {
            writeln!(out, "\n**Port protocol:** {}", cell(&change.words()))?;
        }
        for change in &self.tls {
            writeln!(out, "\n**TLS:** {}", cell(&change.words()))?;
        }
        for reason in &self.undecided {
            writeln!(out, "\n**Not decided:** {}", cell(reason))?;
        }
        writeln!(out, "\n{}", conclusion(self))?;
        Ok(())
    }
}

/// What is left out, with its count.
fn more(difference: &Difference) -> String {
    format!(
        "... and {} more, none of them for what no rule names (--all lists them)",
        difference.more
    )
}

fn mark(difference: &Difference) -> &'static str {
    match difference.direction() {
        Direction::Gains => "+ gains",
        Direction::Loses => "- loses",
        Direction::Changes => "~ changes",
    }
}

/// Text that is safe inside a Markdown table. What policies write is letters, digits and stars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('*', "\\*")
        .replace('<', "&lt;")
}
