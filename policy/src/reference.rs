//! The rules read straight: a slow, plain evaluator that shares nothing with the index but the
//! model. The property tests hold the index against it, and `explain` shows what it considered.

mod conditions;
mod walk;

use std::cmp::min;

use ipnet::IpNet;

pub use conditions::{Checked, Condition, Truth};
pub use walk::{Considered, Step};

use crate::classes::{AddressClass, Addresses};
use crate::facts::{Caller, Fact, Facts};
use crate::model::{Policy, Rule, Workloads};
use crate::reason::ReasonCode;
use crate::settings::Settings;
use crate::verdict::{Action, Decision, Evaluation, RuleRef, Verdict};

use conditions::Ground;
use walk::{PolicyOutcome, View, walk};

/// What the walk over one policy looked at, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTrace<'p> {
    /// The policy.
    pub policy: &'p str,
    /// Whether the policy is for this caller at all.
    pub applies: Truth,
    /// Rules and defaults, in the order of the walk. Rules in shadow are among them.
    pub considered: Vec<Considered<'p>>,
}

/// Evaluates the policies, in their order, over what is known.
#[must_use]
pub fn evaluate<'p>(
    policies: &'p [Policy],
    settings: Settings,
    facts: &Facts<'_>,
) -> Evaluation<'p, AddressClass> {
    let outcomes = outcomes(policies, settings, facts, View::Enforced);
    let enforced = compose(policies, facts, &outcomes);
    let Composed::Final(enforced) = enforced else {
        return Evaluation::Undecided;
    };
    let opens = enforced.action != Action::Deny;
    let ground = Ground {
        settings,
        in_shadow: Truth::False,
    };
    let addresses = if opens && ground.is_unresolved(facts) {
        Addresses::Class(class(&outcomes))
    } else {
        Addresses::NotNamed
    };
    let lifted = self::outcomes(policies, settings, facts, View::ShadowLifted);
    let would_be = match compose(policies, facts, &lifted) {
        Composed::Final(ruling) if ruling.action != enforced.action => Some(ruling),
        Composed::Final(_) | Composed::Undecided => None,
    };
    Evaluation::Final(Verdict {
        enforced,
        shadow: would_be,
        addresses,
    })
}

/// What [`evaluate`] looks at, with everything in shadow included.
#[must_use]
pub fn trace<'p>(
    policies: &'p [Policy],
    settings: Settings,
    facts: &Facts<'_>,
) -> Vec<PolicyTrace<'p>> {
    policies
        .iter()
        .map(|policy| {
            let mut considered = Vec::new();
            walk(policy, settings, facts, View::ShadowLifted, &mut considered);
            PolicyTrace {
                policy: &policy.head.name,
                applies: applies(policy, facts),
                considered,
            }
        })
        .collect()
}

/// Whether a rule is about this caller, wherever it goes.
#[must_use]
pub fn is_from(rule: &Rule, facts: &Facts<'_>) -> Truth {
    let alternatives = conditions::from(rule, facts);
    let each = alternatives.iter().map(|checked| conditions::all(checked));
    each.fold(Truth::False, Truth::or)
}

enum Composed<'p> {
    Final(Decision<'p>),
    Undecided,
}

/// What each policy that is consulted can come to.
fn outcomes<'p>(
    policies: &'p [Policy],
    settings: Settings,
    facts: &Facts<'_>,
    view: View,
) -> Vec<PolicyOutcome<'p>> {
    let mut outcomes: Vec<PolicyOutcome<'p>> = Vec::with_capacity(policies.len());
    for policy in policies {
        match applies(policy, facts) {
            Truth::False => {}
            Truth::True => outcomes.push(walk(policy, settings, facts, view, &mut Vec::new())),
            Truth::Unknown { pending } => {
                // Not consulted is the same as accepting: the other policies decide.
                let mut outcome = walk(policy, settings, facts, view, &mut Vec::new());
                outcome.add(Action::Accept);
                outcome.pending |= pending;
                outcome.may_accept |= pending;
                outcomes.push(outcome);
            }
        }
    }
    outcomes
}

/// What an answer for the name must not lead to: the networks that stood on the way in any policy;
/// private addresses, unless every policy lets them through.
fn class(outcomes: &[PolicyOutcome<'_>]) -> AddressClass {
    let held = outcomes.iter().flat_map(|outcome| &outcome.held);
    let networks: Vec<IpNet> = held.flat_map(|networks| networks.spread()).collect();
    let allow_private = outcomes.iter().all(|outcome| outcome.allow_private);
    AddressClass::new(allow_private, &networks)
}

/// "Each is evaluated on its own over the same facts; the result is the most restrictive."
fn compose<'p>(
    policies: &[Policy],
    facts: &Facts<'_>,
    outcomes: &[PolicyOutcome<'p>],
) -> Composed<'p> {
    if let Some(code) = facts.refused {
        return Composed::Final(Decision::refusal(code));
    }
    if policies.is_empty() {
        return Composed::Final(Decision::refusal(ReasonCode::NoPolicy));
    }
    if let Some(closed) = outcomes.iter().find(|outcome| !outcome.may_accept) {
        return Composed::Final(closed.closed());
    }
    let possible = outcomes
        .iter()
        .fold(vec![Action::Accept], |sofar, outcome| {
            let mut both: Vec<Action<'p>> = Vec::new();
            for left in sofar {
                for right in &outcome.possible {
                    // Two different inspection proxies cannot both be passed; the earlier policy's is.
                    let action = match (left, *right) {
                        (Action::Inspect(proxy), Action::Inspect(_)) => Action::Inspect(proxy),
                        (left, right) => min(left, right),
                    };
                    if !both.contains(&action) {
                        both.push(action);
                    }
                }
            }
            both
        });
    let pending = outcomes.iter().any(|outcome| outcome.pending);
    match possible.iter().min() {
        Some(action) if possible.len() == 1 => {
            let decided = outcomes
                .iter()
                .find(|outcome| outcome.possible == [*action]);
            Composed::Final(
                decided.map_or(Decision::refusal(ReasonCode::EngineError), |outcome| {
                    outcome.end
                }),
            )
        }
        Some(action) if !pending => {
            let basis = outcomes
                .iter()
                .find(|outcome| outcome.possible.contains(action))
                .map_or(RuleRef::None, |outcome| {
                    outcome.missing.unwrap_or(outcome.end.rule)
                });
            Composed::Final(Decision {
                action: *action,
                reason: ReasonCode::FactsMissing,
                rule: basis,
            })
        }
        Some(_) => Composed::Undecided,
        None => Composed::Final(Decision::refusal(ReasonCode::EngineError)),
    }
}

/// Whether a policy is consulted for this caller.
#[must_use]
pub fn applies(policy: &Policy, facts: &Facts<'_>) -> Truth {
    match &policy.head.applies_to {
        None => Truth::True,
        Some(workloads) => listed(workloads, facts.caller),
    }
}

/// Whether the caller is one of these workloads.
fn listed(workloads: &Workloads, caller: Fact<Caller<'_>>) -> Truth {
    conditions::on_fact(caller, |caller| {
        caller.workload().is_some_and(|id| {
            workloads
                .namespaces
                .iter()
                .any(|namespace| namespace == id.namespace)
                || workloads
                    .service_accounts
                    .iter()
                    .any(|sa| sa.namespace == id.namespace && sa.name == id.service_account)
        })
    })
}

#[cfg(test)]
mod tests;
