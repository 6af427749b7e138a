//! What policies come to together: what the gateway answers each kind of workload that they name, for
//! each kind of destination.
//!
//! A kind is what a condition names: a namespace, a service account, a set of labels; a name, a pattern, a
//! network, at the ports that are told apart. The engine is asked about one example of each, as the mesh
//! carries it. What a narrower condition takes out of a kind is a kind of its own.

mod asked;
mod callers;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use egress_policy::PolicySet;
use egress_policy::classes::Addresses;
use egress_policy::facts::Fact;
use egress_policy::model::{PlacedRule, Policy, RuleAction, To};
use egress_policy::reference::{Truth, applies, is_from};
use egress_policy::verdict::Evaluation;

use crate::bundle::PolicyBundle;
use crate::by_namespace::ByNamespace;
use crate::decision::{action_words, decision_words};
use crate::owned_facts::OwnedFacts;
use crate::words::{list_words, to_words};
use asked::{Asker, Question};
use callers::{Caller, callers};

/// Most questions that the engine is asked.
const MAX_QUESTIONS: usize = 2_000_000;
/// The verdict where no workload behind a sidecar can ask.
const NEVER: &str = "never asked";
/// Most hosts that an answer lists.
const MAX_HOSTS: usize = 8;

/// What the gateway answers workloads of some kinds about destinations of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Where to, in words.
    pub to: String,
    /// `Accept`, `Deny`, `Inspect through CLUSTER`, or `never asked` where no workload behind a sidecar
    /// can ask.
    pub verdict: String,
    /// The rule or the default that decides.
    pub by: String,
    /// What else there is to say.
    pub note: String,
}

/// The answers that hold for some kinds of workloads.
#[derive(Clone, Debug)]
pub struct Group {
    /// The workloads, in words.
    pub who: Vec<String>,
    /// Their answers, in the order of the rules; what no rule names comes last.
    pub answers: Vec<Answer>,
}

/// What policies come to.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// The answers.
    pub groups: Vec<Group>,
    /// How many kinds of workloads there was no time for.
    pub left_out: usize,
    /// Rules that let nothing through of what they name, by `POLICY/TIER/RULE`, and why.
    pub idle: BTreeMap<String, String>,
}

/// Asks about every kind.
#[must_use]
pub fn effective(layers: &PolicyBundle, set: &PolicySet, now: Fact<i64>) -> Effective {
    let mut reader = Reader {
        set,
        asker: Asker::new(layers, now),
        rules: Rules::of(&layers.policies),
        asked: 0,
        opens: BTreeMap::new(),
    };
    let mut result = Effective::default();
    let mut places: HashMap<Vec<Answer>, usize> = HashMap::new();
    for caller in callers(layers) {
        let Some(answers) = reader.answers(&caller) else {
            result.left_out += 1;
            continue;
        };
        let place = places.entry(answers).or_insert_with_key(|answers| {
            result.groups.push(Group {
                who: Vec::new(),
                answers: answers.clone(),
            });
            result.groups.len() - 1
        });
        if let Some(group) = result.groups.get_mut(*place) {
            group.who.push(caller.words);
        }
    }
    if result.left_out == 0 {
        result.idle = reader.idle();
    }
    result
}

/// The rules of all policies, by namespace.
struct Rules<'p> {
    all: Vec<PlacedRule<'p>>,
    by_namespace: ByNamespace<'p>,
}

impl<'p> Rules<'p> {
    fn of(policies: &'p [Policy]) -> Self {
        let all: Vec<PlacedRule<'p>> = policies.iter().flat_map(Policy::rules).collect();
        Self {
            by_namespace: ByNamespace::of(all.iter().map(|placed| placed.rule)),
            all,
        }
    }

    /// Those that are about a caller, in their order.
    fn about(&self, caller: &OwnedFacts) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.by_namespace.about(caller.namespace()).collect();
        numbers.sort_unstable();
        caller.with_facts(|facts| {
            numbers.retain(|number| {
                self.all.get(*number).is_some_and(|placed| {
                    applies(placed.policy, facts) == Truth::True
                        && is_from(placed.rule, facts) == Truth::True
                })
            });
        });
        numbers
    }
}

struct Reader<'r, 'p> {
    set: &'r PolicySet,
    asker: Asker,
    rules: Rules<'p>,
    asked: usize,
    /// Of opening rules: whether they let something through, and what the answers were if not.
    opens: BTreeMap<usize, (bool, BTreeSet<String>)>,
}

/// An answer without its destination.
type Told = (String, String, String);

impl Reader<'_, '_> {
    /// What a caller is told; `None` if there have been too many questions.
    fn answers(&mut self, caller: &Caller) -> Option<Vec<Answer>> {
        let mut answers = Vec::new();
        let facts = self.asker.facts_of(caller);
        for number in self.rules.about(&facts) {
            let rule = self.rules.all.get(number)?.rule;
            let opens = matches!(rule.action, RuleAction::Accept | RuleAction::Inspect(_));
            for to in &rule.to {
                let mut told = self.ask(&facts, to)?;
                if opens {
                    self.note(number, told.keys());
                } else {
                    told.retain(|answer, _| answer.0 != NEVER);
                }
                for answer in in_words(to, told) {
                    if !answers.contains(&answer) {
                        answers.push(answer);
                    }
                }
            }
        }
        let mut told = self.ask(&facts, &To::anywhere())?;
        told.retain(|answer, _| answer.0 != NEVER);
        let one = told.len() == 1;
        for ((verdict, by, note), questions) in told {
            let to = if one {
                "everything else".to_owned()
            } else {
                let kinds = questions.iter().map(Question::rest_words);
                let kinds: BTreeSet<String> = kinds.collect();
                list_words(kinds.iter().map(String::as_str), MAX_HOSTS)
            };
            answers.push(Answer {
                to,
                verdict,
                by,
                note,
            });
        }
        Some(answers)
    }

    /// The questions about an element, by what is told.
    fn ask(&mut self, caller: &OwnedFacts, to: &To) -> Option<BTreeMap<Told, Vec<Question>>> {
        let mut told = BTreeMap::<Told, Vec<Question>>::new();
        for question in self.asker.questions(to) {
            self.asked += 1;
            if self.asked > MAX_QUESTIONS {
                return None;
            }
            let answer = match &question.facts {
                Ok(facts) => self.judge(caller, facts),
                Err(why) => (NEVER.to_owned(), String::new(), why.clone()),
            };
            told.entry(answer).or_default().push(question);
        }
        Some(told)
    }

    fn judge(&self, caller: &OwnedFacts, asked: &OwnedFacts) -> Told {
        let facts = OwnedFacts {
            caller: caller.caller.clone(),
            claims: caller.claims.clone(),
            now: caller.now,
            ..asked.clone()
        };
        let evaluation = facts.with_facts(|facts| self.set.evaluate(facts));
        let Evaluation::Final(verdict) = evaluation else {
            let note = "it depends on facts that are not known".to_owned();
            return ("Undecided".to_owned(), String::new(), note);
        };
        let mut notes = Vec::new();
        if let Some(would_be) = &verdict.shadow {
            notes.push(format!("without shadow {}", decision_words(would_be)));
        }
        if let Addresses::Class(key) = &verdict.addresses {
            let class = self.set.class(key);
            if class.allow_private || !class.refused.is_empty() {
                notes.push(format!("where names lead: {class}"));
            }
        }
        let by = verdict.enforced.decided_by().to_string();
        (action_words(verdict.enforced.action), by, notes.join("; "))
    }

    fn note<'t>(&mut self, rule: usize, told: impl Iterator<Item = &'t Told>) {
        let (opens, others) = self.opens.entry(rule).or_default();
        for (verdict, by, note) in told {
            *opens |= !matches!(verdict.as_str(), "Deny" | NEVER);
            others.insert(match (verdict.as_str(), by.as_str()) {
                ("Deny", by) => format!("denied by {by}"),
                _ => note.clone(),
            });
        }
    }

    fn idle(&self) -> BTreeMap<String, String> {
        let idle = self.opens.iter().filter(|(_, (opens, _))| !opens);
        idle.filter_map(|(number, (_, others))| {
            let id = self.rules.all.get(*number)?.basis().to_string();
            Some((id, list_words(others.iter().map(String::as_str), 2)))
        })
        .collect()
    }
}

/// The answers about an element: of the whole where all is told alike, else of its parts.
fn in_words(to: &To, told: BTreeMap<Told, Vec<Question>>) -> Vec<Answer> {
    let one = told.len() == 1;
    let answers = told.into_iter().map(|((verdict, by, note), questions)| {
        let to = if one {
            to_words(to, MAX_HOSTS)
        } else {
            asked::words(&questions, MAX_HOSTS)
        };
        Answer {
            to,
            verdict,
            by,
            note,
        }
    });
    answers.collect()
}
