//! Why a verdict is what it is: the rules that were considered, what each of them wanted, and
//! what facts that are still unknown would change.

mod change;
mod mismatch;

use egress_policy::PolicySet;
use egress_policy::classes::{AddressClass, Addresses};
use egress_policy::facts::Fact;
use egress_policy::model::{Policy, Rule};
use egress_policy::reference::{Considered, PolicyTrace, Step, Truth, trace};
use egress_policy::verdict::{Action, Decision, Evaluation, ReasonCode, RuleRef};
use serde_json::{Value, json};

use crate::bundle::PolicyBundle;
use crate::document::Node;
use crate::lists::List;
use crate::owned_facts::OwnedFacts;

pub use change::Change;

/// What is taken for granted of a question.
#[derive(Clone, Debug, Default)]
pub struct Assumptions {
    /// In words.
    pub said: Vec<String>,
    /// The address was not asked about: it stands for whichever it turns out to be.
    pub address: bool,
}

/// The answer to `warden explain`.
pub struct Explanation<'p> {
    /// What was asked.
    pub situation: OwnedFacts,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// The verdict.
    pub evaluation: Evaluation<'p>,
    /// Where the name that opens may lead, if that is still to come.
    pub class: Option<AddressClass>,
    /// The rules on the way to it.
    pub considered: Vec<Entry<'p>>,
    /// The lists that the deciding rule takes destinations from.
    pub lists: Vec<&'p List>,
    /// What unknown facts would change.
    pub changes: Vec<Change>,
}

/// One rule or default on the way to the verdict.
pub struct Entry<'p> {
    /// Which.
    pub basis: RuleRef<'p>,
    /// Its action.
    pub action: &'static str,
    /// It is in shadow, so it is only reported.
    pub shadow: bool,
    /// Whether it matched.
    pub truth: Truth,
    /// It denies networks, and where the name leads is still to come: a gateway leaves them out of
    /// the name's addresses, or cannot count them where the rule is in shadow.
    pub left_out: bool,
    /// What it wanted and did not find, of its closest alternatives.
    pub mismatches: Vec<String>,
}

/// Judges and explains.
#[must_use]
pub fn explain<'p>(
    layers: &'p PolicyBundle,
    set: &'p PolicySet,
    situation: OwnedFacts,
    assumptions: Assumptions,
) -> Explanation<'p> {
    let evaluation = situation.with_facts(|facts| set.evaluate(facts));
    let traces = situation.with_facts(|facts| trace(&layers.policies, layers.settings, facts));
    let considered = if situation.refused.is_some() {
        Vec::new()
    } else {
        traces
            .iter()
            .zip(&layers.policies)
            .filter(|(trace, _)| trace.applies != Truth::False)
            .flat_map(|(trace, policy)| entries(trace, policy, &situation))
            .collect()
    };
    let changes = change::changes(layers, set, &situation, assumptions.address);
    let lists = match &evaluation {
        Evaluation::Final(verdict) => lists_of(verdict.enforced.rule, layers),
        Evaluation::Undecided => Vec::new(),
    };
    let class = match &evaluation {
        Evaluation::Final(verdict) => match &verdict.addresses {
            Addresses::Class(key) => Some(set.class(key)),
            Addresses::NotNamed => None,
        },
        Evaluation::Undecided => None,
    };
    Explanation {
        situation,
        assumptions: assumptions.said,
        evaluation,
        class,
        considered,
        lists,
        changes,
    }
}

/// The lists that a rule takes destinations from: what its text refers to.
fn lists_of<'p>(basis: RuleRef<'_>, layers: &'p PolicyBundle) -> Vec<&'p List> {
    let RuleRef::Rule { policy, tier, rule } = basis else {
        return Vec::new();
    };
    let mut named = layers.policies.iter().zip(&layers.sources);
    let Some((_, unit)) = named.find(|(one, _)| one.head.name == policy) else {
        return Vec::new();
    };
    let called =
        |place: &Node<'_>, name: &str| place.field("name").and_then(Node::text) == Some(name);
    let below = |place: Node<'p>, field: &str| place.field(field).into_iter().flat_map(Node::items);
    let spec = unit.root().field("spec").into_iter();
    let rule = spec
        .flat_map(|spec| below(spec, "tiers"))
        .filter(|place| called(place, tier))
        .flat_map(|tier| below(tier, "rules"))
        .find(|place| called(place, rule));
    let elements = rule.into_iter().flat_map(|rule| below(rule, "to"));
    let wanted: Vec<&str> = elements
        .filter_map(|to| to.field("destination").and_then(Node::text))
        .collect();
    let lists = unit.lists().iter();
    lists
        .filter(|list| wanted.contains(&list.destination.as_str()))
        .collect()
}

/// The rules of one policy up to the one that decides.
fn entries<'p>(
    trace: &PolicyTrace<'p>,
    policy: &'p Policy,
    situation: &OwnedFacts,
) -> Vec<Entry<'p>> {
    let mut entries = Vec::new();
    let mut passed: Option<&str> = None;
    let mut rules = policy.rules().map(|placed| placed.rule.1);
    for considered in &trace.considered {
        let is_rule = matches!(considered.step, Step::Rule { .. });
        let rule = if is_rule { rules.next() } else { None };
        let tier = tier_of(considered.basis);
        if passed.is_some() && passed == tier {
            continue;
        }
        entries.push(entry(considered, rule, situation));
        if considered.truth == Truth::True && !considered.shadow {
            if considered.action == "Pass" {
                passed = tier;
            } else {
                break;
            }
        }
    }
    entries
}

fn tier_of(basis: RuleRef<'_>) -> Option<&str> {
    match basis {
        RuleRef::Rule { tier, .. } | RuleRef::Tier { tier, .. } => Some(tier),
        RuleRef::None | RuleRef::Policy { .. } => None,
    }
}

fn entry<'p>(
    considered: &Considered<'p>,
    rule: Option<&Rule>,
    situation: &OwnedFacts,
) -> Entry<'p> {
    let left_out = !considered.held.is_empty();
    let mismatches = match (&considered.step, rule) {
        (Step::Rule { expiry, from, to }, Some(rule)) if !left_out => {
            mismatch::of_rule(rule, expiry.as_ref(), from, to, situation)
        }
        _ => Vec::new(),
    };
    Entry {
        basis: considered.basis,
        action: considered.action,
        shadow: considered.shadow,
        truth: considered.truth,
        left_out,
        mismatches,
    }
}

/// `true`, `false`, `pending` (a fact may still come) or `missing` (it cannot).
#[must_use]
pub const fn truth_word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Unknown { pending: true } => "pending",
        Truth::Unknown { pending: false } => "missing",
    }
}

/// The word for an evaluation.
#[must_use]
pub const fn verdict_word(evaluation: &Evaluation<'_>) -> &'static str {
    match evaluation {
        Evaluation::Final(verdict) => verdict.enforced.action.as_str(),
        Evaluation::Undecided => "Undecided",
    }
}

/// A ruling as JSON.
#[must_use]
pub fn ruling_json(ruling: &Decision<'_>) -> Value {
    let inspection = match ruling.action {
        Action::Inspect(device) => Some(device),
        Action::Accept | Action::Deny => None,
    };
    json!({
        "verdict": ruling.action.as_str(),
        "code": ruling.reason.as_str(),
        "reason": ruling.reason.explanation(),
        "rule": rule_id(ruling.rule),
        "inspection": inspection,
    })
}

/// What a ruling rests on: `policy/tier/rule`, shorter for defaults, nothing for refusals.
#[must_use]
pub fn rule_id(basis: RuleRef<'_>) -> Option<String> {
    match basis {
        RuleRef::None => None,
        RuleRef::Policy { .. } | RuleRef::Tier { .. } | RuleRef::Rule { .. } => {
            Some(basis.to_string())
        }
    }
}

/// The same for people: what a default decides says so. Empty for refusals.
#[must_use]
pub fn basis_words(decision: &Decision<'_>) -> String {
    match decision.rule {
        RuleRef::Policy { .. } | RuleRef::Tier { .. } if decision.reason == ReasonCode::Default => {
            format!("{} (default)", decision.rule)
        }
        basis => basis.to_string(),
    }
}

/// What a final evaluation rests on, and the policy that it is of.
#[must_use]
pub fn rule_of(evaluation: &Evaluation<'_>) -> Option<(String, String)> {
    let Evaluation::Final(verdict) = evaluation else {
        return None;
    };
    let basis = verdict.enforced.rule;
    match basis {
        RuleRef::None => None,
        RuleRef::Policy { policy }
        | RuleRef::Tier { policy, .. }
        | RuleRef::Rule { policy, .. } => Some((basis.to_string(), policy.to_owned())),
    }
}

impl Explanation<'_> {
    /// The documented JSON form.
    pub fn to_json(&self) -> Value {
        let mut result = match &self.evaluation {
            Evaluation::Final(verdict) => {
                let mut result = ruling_json(&verdict.enforced);
                if let Some(object) = result.as_object_mut() {
                    let would_be = verdict.shadow.as_ref().map(ruling_json);
                    object.insert("wouldBe".to_owned(), json!(would_be));
                }
                result
            }
            Evaluation::Undecided => json!({
                "verdict": "Undecided",
                "code": null,
                "reason": "the given facts decide nothing yet",
                "rule": null,
                "inspection": null,
                "wouldBe": null,
            }),
        };
        let considered: Vec<Value> = self.considered.iter().map(Entry::to_json).collect();
        let changes: Vec<Value> = self.changes.iter().map(Change::to_json).collect();
        if let Some(object) = result.as_object_mut() {
            let class = self.class.as_ref().map(|class| {
                let refused: Vec<String> = class.refused.iter().map(ToString::to_string).collect();
                json!({"allowPrivate": class.allow_private, "refused": refused})
            });
            object.insert("addressClass".to_owned(), json!(class));
            object.insert("facts".to_owned(), self.situation.to_json());
            object.insert("assumed".to_owned(), json!(self.assumptions));
            object.insert("considered".to_owned(), json!(considered));
            let lists: Vec<Value> = self.lists.iter().map(|list| list.to_json()).collect();
            object.insert("lists".to_owned(), json!(lists));
            object.insert("ifKnown".to_owned(), json!(changes));
        }
        result
    }
}

impl Entry<'_> {
    fn to_json(&self) -> Value {
        json!({
            "rule": rule_id(self.basis),
            "action": self.action,
            "shadow": self.shadow,
            "matches": truth_word(self.truth),
            "leftOut": self.left_out,
            "because": self.mismatches,
        })
    }
}

/// The code of a final evaluation.
#[must_use]
pub fn code_of(evaluation: &Evaluation<'_>) -> Option<ReasonCode> {
    match evaluation {
        Evaluation::Final(verdict) => Some(verdict.enforced.reason),
        Evaluation::Undecided => None,
    }
}

/// The value of a fact for people.
pub fn fact_text<T: std::fmt::Display>(fact: Fact<T>) -> String {
    match fact {
        Fact::Known(value) => value.to_string(),
        Fact::Pending => "not known yet".to_owned(),
        Fact::Missing => "not to be had".to_owned(),
    }
}
