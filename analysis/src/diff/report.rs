//! What a comparison comes to, as the documented JSON.

use egress_policy::facts::Protocol;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::decision::{VerdictWord, WrittenDecision};
use crate::owned_facts::{OwnedFacts, WrittenFacts};

use super::origination::TlsChange;

/// What a change means.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComparisonReport<'c> {
    /// `not_decided` only where no difference was found and not everything was compared.
    result: Outcome,
    /// All classes were compared.
    complete: bool,
    /// Those that open first.
    differences: Vec<DifferenceReport<'c>>,
    /// Ports that carry another protocol than before, for every workload.
    ports: &'c [PortChange],
    /// Why the comparison is not complete.
    not_decided: &'c [String],
    /// Rules that one side lacks or has elsewhere.
    changed_rules: usize,
    /// Names to which the gateway speaks TLS of its own in another way.
    tls: &'c [TlsChange],
    /// Classes of facts put to both engines.
    classes: usize,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Outcome {
    /// No difference, and everything was compared.
    Same,
    /// Some difference.
    Different,
    /// No difference was found, and not everything was compared.
    NotDecided,
}

/// Who wins by a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Direction {
    /// The new policies accept more.
    Gains,
    /// The new policies accept less.
    Loses,
    /// Only the inspection proxy differs.
    Changes,
}

/// A difference in meaning.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct DifferenceReport<'c> {
    /// Whether it opens or closes.
    change: Direction,
    /// It is about what would be without shadow.
    shadow: bool,
    /// The verdict of the old policies.
    old: &'c WrittenDecision,
    /// The verdict of the new policies.
    new: &'c WrittenDecision,
    /// Who and what, in words: the broadest first. Each is one set of callers and destinations.
    what: &'c [String],
    /// How many more there are; 0 with `--all`.
    more: usize,
    /// Classes of facts that it covers.
    classes: usize,
    /// Facts for which the two sides differ, as a client asks for them.
    witness: WrittenFacts,
}

/// A port that carries another protocol than before, or several in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PortChange {
    /// The port, or the first and the last one, as in `8000-8999`.
    pub ports: String,
    /// What it carried: `HTTP`, `TLS` or `TCP`.
    pub old: &'static str,
    /// What it carries now.
    pub new: &'static str,
}

impl PortChange {
    pub(super) fn new(first: u16, last: u16, old: Protocol, new: Protocol) -> Self {
        let ports = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        Self {
            ports,
            old: old.as_str(),
            new: new.as_str(),
        }
    }

    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        format!(
            "port {}: {} -> {}, for every workload",
            self.ports, self.old, self.new
        )
    }
}

/// What came of it.
#[derive(Default)]
pub struct Comparison {
    /// Differences, those that open first.
    pub differences: Vec<Difference>,
    /// Ports that carry another protocol than before.
    pub ports: Vec<PortChange>,
    /// Why no conclusion holds for all facts; empty where one does.
    pub undecided: Vec<String>,
    /// Classes that both engines were asked about.
    pub classes: usize,
    /// Rules that only one side has, or has elsewhere.
    pub changed_rules: usize,
    /// Names to which the gateway speaks TLS of its own in another way.
    pub tls: Vec<TlsChange>,
}

/// Facts on which the two sides differ, and how.
#[derive(Clone, Debug)]
pub struct Difference {
    /// It is about what would be without shadow.
    pub shadow: bool,
    /// The verdict of the old policies.
    pub old: WrittenDecision,
    /// The verdict of the new ones.
    pub new: WrittenDecision,
    /// Who and what, in words: the broadest first.
    pub what: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// How many classes.
    pub classes: usize,
    /// Facts on which the engines differ.
    pub witness: OwnedFacts,
}

impl Difference {
    /// Who wins.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        let (old, new) = (rank(self.old.verdict), rank(self.new.verdict));
        if new > old {
            Direction::Gains
        } else if new < old {
            Direction::Loses
        } else {
            Direction::Changes
        }
    }

    fn report(&self) -> DifferenceReport<'_> {
        DifferenceReport {
            change: self.direction(),
            shadow: self.shadow,
            old: &self.old,
            new: &self.new,
            what: &self.what,
            more: self.more,
            classes: self.classes,
            witness: self.witness.clone().into(),
        }
    }
}

/// How much a verdict opens.
const fn rank(verdict: VerdictWord) -> u8 {
    match verdict {
        VerdictWord::Deny | VerdictWord::Undecided => 0,
        VerdictWord::Inspect => 1,
        VerdictWord::Accept => 2,
    }
}

impl Comparison {
    /// What it found.
    #[must_use]
    pub const fn result(&self) -> Outcome {
        let same = self.differences.is_empty() && self.tls.is_empty() && self.ports.is_empty();
        match (same, self.undecided.is_empty()) {
            (false, _) => Outcome::Different,
            (true, true) => Outcome::Same,
            (true, false) => Outcome::NotDecided,
        }
    }

    fn report(&self) -> ComparisonReport<'_> {
        ComparisonReport {
            result: self.result(),
            complete: self.undecided.is_empty(),
            differences: self.differences.iter().map(Difference::report).collect(),
            ports: &self.ports,
            not_decided: &self.undecided,
            changed_rules: self.changed_rules,
            tls: &self.tls,
            classes: self.classes,
        }
    }
}

/// As its [`ComparisonReport`].
impl Serialize for Comparison {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.report().serialize(serializer)
    }
}
