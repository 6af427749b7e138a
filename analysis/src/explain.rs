//! Why a verdict is what it is: the rules that were considered, what each of them wanted, and
//! what facts that are still unknown would change.

mod answer;
mod change;
mod mismatch;

use egress_policy::PolicySet;
use egress_policy::classes::{AddressClass, Addresses};
use egress_policy::facts::Fact;
use egress_policy::model::{Policy, Rule, RuleAction};
use egress_policy::reference::{Considered, PolicyTrace, Step, Truth, trace};
use egress_policy::verdict::{Evaluation, RuleRef};
use schemars::JsonSchema;
use serde::Serialize;

use crate::bundle::PolicyBundle;
use crate::decision::Matches;
use crate::document::Node;
use crate::lists::List;
use crate::owned_facts::OwnedFacts;

pub use answer::Answer;
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

/// A rule or default on the way to the verdict.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Entry<'p> {
    /// Which.
    #[serde(flatten)]
    #[schemars(with = "WrittenRuleRef")]
    pub rule: RuleRef<'p>,
    /// Its action.
    #[schemars(extend("enum" = RuleAction::WORDS))]
    pub action: &'static str,
    /// It is in shadow, so it is only reported.
    pub shadow: bool,
    /// Whether it matches; `pending` can still change, `missing` cannot.
    pub matches: Matches,
    /// It denies networks, and where the name leads is still to come: a gateway leaves them out of
    /// the name's addresses, or cannot count them where the rule is in shadow.
    pub left_out: bool,
    /// What it wanted and did not find, of its closest alternatives.
    #[serde(rename = "because")]
    pub mismatches: Vec<String>,
}

/// A rule or default as JSON has it.
#[derive(JsonSchema)]
#[schemars(inline)]
struct WrittenRuleRef {
    /// The policy.
    #[expect(dead_code, reason = "its name and type are the schema")]
    policy: Option<String>,
    /// The tier; null for the policy's default.
    #[expect(dead_code, reason = "its name and type are the schema")]
    tier: Option<String>,
    /// The rule; null for defaults.
    #[expect(dead_code, reason = "its name and type are the schema")]
    rule: Option<String>,
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
    let mut rules = policy.rules().map(|placed| placed.rule);
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
        rule: considered.basis,
        action: considered.action,
        shadow: considered.shadow,
        matches: considered.truth.into(),
        left_out,
        mismatches,
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
