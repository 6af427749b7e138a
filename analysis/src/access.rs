//! Who may reach what: which workloads may reach a destination, and what a workload may reach. What
//! holds, with all policies in force together and as the mesh carries it.
//!
//! Every class of facts that the policies tell apart is put to the engine, so nothing that holds is left
//! out: what no rule names is a class too, and comes first.

mod destination;
mod explored;
mod origin;

use std::collections::BTreeSet;

use egress_policy::PolicySet;
use egress_policy::facts::Fact;
use egress_policy::model::{Rule, Source, To};
use schemars::JsonSchema;
use serde::Serialize;

use crate::bundle::PolicyBundle;
use crate::carriage::Mesh;
use crate::decision::WrittenDecision;
use crate::failure::Failure;
use crate::regions::words::{Speech, Words};
use explored::{Explored, Explorer};
use origin::Origin;

/// Most parts of one answer that are told, beside those that no rule names.
const MAX_PARTS: usize = 8;

/// Policies, and how a question about them is answered.
pub struct Inquiry<'i> {
    /// The policies.
    pub bundle: &'i PolicyBundle,
    /// The same, compiled.
    pub set: &'i PolicySet,
    /// From when on, in seconds since the Unix epoch.
    pub now: i64,
    /// Asked now and then; `true` ends the search, and the answer says so.
    pub stop: &'i dyn Fn() -> bool,
    /// Whether every part and value of an answer is told, however many.
    pub all: bool,
}

/// Who may reach a destination, or what a workload may reach.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The destination or the workload, as it was asked about.
    pub question: String,
    /// What is let through: the broadest answer first. Empty where nothing is.
    pub answers: Vec<Opening>,
    /// Whether anything that the question is about is denied.
    pub denied: bool,
    /// What was assumed, and what becomes of it on the way to the gateway.
    pub assumptions: Vec<String>,
    /// Whether every class of facts was looked at.
    pub complete: bool,
    /// Why not.
    pub not_decided: Vec<String>,
    /// Classes of facts put to the engine.
    pub classes: usize,
}

/// What one rule, or one default, lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Opening {
    /// The decision: `Accept` or `Inspect`, and what it rests on.
    pub decision: WrittenDecision,
    /// The decision without Shadow, where it is another one.
    pub would_be: Option<WrittenDecision>,
    /// Callers and destinations, the broadest first.
    pub parts: Vec<Part>,
    /// How many parts are left out; 0 with `--all`.
    pub more: usize,
}

/// A set of callers and destinations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Part {
    /// The callers, in words; empty for all that the question is about.
    pub who: String,
    /// The destinations, in words; empty for all that the question is about.
    pub to: String,
    /// When, if not for good: such as `until 2027-01-31T00:00:00Z`.
    pub when: Option<String>,
    /// Labels or clusters decide who is among the callers: a workload says them of itself.
    pub claimed: bool,
    /// It holds workloads, names or addresses that no rule names.
    pub broad: bool,
}

/// What a question is about.
struct Question {
    /// As it was asked.
    text: String,
    /// Who; `None` is everybody.
    origin: Option<Origin>,
    /// For what.
    to: To,
    /// The upgrade, if it is one question; `Known(None)` is no upgrade.
    upgrade: Fact<Option<String>>,
    /// Names over opaque TCP are asked for by CONNECT, as no sidecar does by itself.
    by_connect: bool,
    /// It is denied before any rule is looked at.
    refused: bool,
    said: Vec<String>,
}

impl Question {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            origin: None,
            to: To::anywhere(),
            upgrade: Fact::Pending,
            by_connect: false,
            refused: false,
            said: Vec::new(),
        }
    }

    fn source(&self) -> Option<&Source> {
        self.origin.as_ref()?.source.as_ref()
    }

    /// A rule about the same.
    fn as_rule(&self) -> Rule {
        use egress_policy::model::{From, Mode, RuleAction};
        let source = self.source();
        Rule {
            name: String::new(),
            mode: Mode::Enforce,
            from: source.map_or(From::Anyone, |source| {
                From::Sources(vec![source.clone()].into())
            }),
            to: vec![self.to.clone()],
            action: RuleAction::Accept,
            expires: None,
            owner: None,
            reason: None,
            ticket: None,
        }
    }
}

/// Which workloads may reach a destination: a URL as `warden explain --to` takes it, or a name, a pattern
/// of names, an address or a network, with or without a port. A method is one of requests.
///
/// # Errors
/// What is wrong with the text.
pub fn who(inquiry: &Inquiry<'_>, to: &str, method: Option<&str>) -> Result<Access, Failure> {
    let mesh = Mesh::of(inquiry.bundle);
    let question = destination::read(to, method, &mesh)?;
    Ok(answer(inquiry, &mesh, question))
}

/// What a workload may reach: a caller as `warden explain --from` takes it, or a namespace.
///
/// # Errors
/// What is wrong with the text.
pub fn what(inquiry: &Inquiry<'_>, from: &str) -> Result<Access, Failure> {
    let mesh = Mesh::of(inquiry.bundle);
    let question = origin::read(from, inquiry.bundle)?;
    Ok(answer(inquiry, &mesh, question))
}

fn answer(inquiry: &Inquiry<'_>, mesh: &Mesh, question: Question) -> Access {
    let rule = question.as_rule();
    let explored = Explorer::new(inquiry, mesh, &question, &rule).explored();
    let mut access = Access {
        answers: openings(&explored, inquiry.all),
        denied: explored.denied,
        complete: explored.undecided.is_empty(),
        not_decided: explored.undecided.iter().cloned().collect(),
        classes: explored.classes,
        assumptions: Vec::new(),
        question: question.text,
    };
    access.assumptions = question.said;
    access.assumptions.extend(explored.said);
    access
}

/// What is let through, the broadest first.
fn openings(explored: &Explored, all: bool) -> Vec<Opening> {
    let mut answers: Vec<((u8, usize), Opening)> = Vec::new();
    for ((decision, would_be), regions) in &explored.openings {
        let words = regions.iter().map(|region| {
            let speech = Speech {
                partition: &explored.partition,
                region,
                asked: Some(&explored.asked),
                all,
            };
            speech.words()
        });
        let mut words: Vec<Words> = words.collect();
        words.sort_by_key(|part| part.rank);
        let rank = words.first().map_or((u8::MAX, 0), |part| part.rank);
        let (parts, more) = parts(words, all);
        let opening = Opening {
            decision: decision.clone(),
            would_be: would_be.clone(),
            parts,
            more,
        };
        answers.push((rank, opening));
    }
    answers.sort_by_key(|(rank, _)| *rank);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// The parts that are told, and how many are not. What no rule names is always told.
fn parts(words: Vec<Words>, all: bool) -> (Vec<Part>, usize) {
    let mut known = BTreeSet::new();
    let (mut parts, mut more, mut others) = (Vec::new(), 0, 0);
    for words in words {
        let part = Part {
            who: words.who,
            to: words.to,
            when: words.when,
            claimed: words.claimed,
            broad: words.broad,
        };
        if !known.insert(part.clone()) {
            continue;
        }
        others += usize::from(!part.broad);
        if all || part.broad || others <= MAX_PARTS {
            parts.push(part);
        } else {
            more += 1;
        }
    }
    (parts, more)
}

#[cfg(test)]
mod tests;
