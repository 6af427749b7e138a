//! The walk over one policy: tiers and rules in order, the first match decides.
//!
//! Every tier is first laid out as a list of events (its rules in order, then its default), each
//! with its own truth. Two readings of that list give the outcome: which actions are possible, and
//! whether one that opens still is.

use super::conditions::{Checked, Condition, Ground, Truth, all, from, not_expired, on_fact, to};
use super::listed;
use crate::facts::{Caller, Fact, Facts, Protocol};
use crate::model::{
    DefaultAction, Hosts, Mode, Networks, Policy, Rule, RuleAction, Tier, TierDefault,
};
use crate::reason::ReasonCode;
use crate::settings::{AddressCheck, Settings};
use crate::verdict::{Action, Decision, RuleRef};

/// Which policy is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The policy with every Shadow rule and tier deleted.
    Enforced,
    /// The policy with the word Shadow deleted, and no workload in shadow.
    ShadowLifted,
}

/// One rule or default that the walk considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered<'p> {
    /// Which rule or default.
    pub basis: RuleRef<'p>,
    /// Its action's word.
    pub action: &'static str,
    /// Whether it, or its tier, is in shadow.
    pub shadow: bool,
    /// Whether it matched.
    pub truth: Truth,
    /// Where the name leads is still to come, and these networks are left out of the answer.
    pub held: Vec<&'p Networks>,
    /// What it looked at.
    pub step: Step,
}

/// What a [`Considered`] entry looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A rule's conditions.
    Rule {
        /// Expiry, if the rule has one.
        expiry: Option<Checked>,
        /// Alternatives of `from`.
        from: Vec<Vec<Checked>>,
        /// Alternatives of `to`.
        to: Vec<Vec<Checked>>,
    },
    /// A default.
    Default,
}

/// What one policy's walk can come to.
pub(super) struct PolicyOutcome<'p> {
    /// Every action that some completion of the facts leads to.
    pub(super) possible: Vec<Action<'p>>,
    /// One of them waits for a fact that may still come.
    pub(super) pending: bool,
    /// Some completion of the facts still to come opens.
    pub(super) may_accept: bool,
    /// Where the walk ended for certain.
    pub(super) end: Decision<'p>,
    /// The first rule or default that a missing fact left unknown.
    pub(super) missing: Option<RuleRef<'p>>,
    /// Deny networks on the way, which a name must not lead to.
    pub(super) held: Vec<&'p Networks>,
    /// Every end that can open says `allowPrivate`.
    pub(super) allow_private: bool,
}

impl<'p> PolicyOutcome<'p> {
    pub(super) fn add(&mut self, action: Action<'p>) {
        if !self.possible.contains(&action) {
            self.possible.push(action);
        }
    }

    /// The denial of an outcome that can no longer open.
    pub(super) fn closed(&self) -> Decision<'p> {
        if self.possible == [Action::Deny] {
            return self.end;
        }
        let basis = self.missing.unwrap_or(self.end.rule);
        Decision {
            action: Action::Deny,
            reason: ReasonCode::FactsMissing,
            rule: basis,
        }
    }
}

/// What happens where an event is true.
enum Effect<'p> {
    /// The walk goes on with the next tier.
    Pass,
    /// The walk ends.
    End(Ending<'p>),
}

/// An end of the walk: usually one action, several where the guard or a shadow is not known yet.
struct Ending<'p> {
    /// The actions that it can be, most open first.
    rulings: Vec<(Action<'p>, ReasonCode)>,
    /// The choice waits for a fact that may still come.
    pending: bool,
    /// Where it opens, `allowPrivate` holds for sure.
    allow_private: bool,
}

impl<'p> Ending<'p> {
    /// One that opens without `allowPrivate`, or denies.
    fn only(action: Action<'p>, code: ReasonCode) -> Self {
        Self {
            rulings: vec![(action, code)],
            pending: false,
            allow_private: action == Action::Deny,
        }
    }

    /// Either ending, depending on `truth`.
    fn either(truth: Truth, if_true: Self, if_false: Self) -> Self {
        match truth {
            Truth::True => if_true,
            Truth::False => if_false,
            Truth::Unknown { pending } => Self {
                rulings: [if_true.rulings, if_false.rulings].concat(),
                pending: pending || if_true.pending || if_false.pending,
                allow_private: if_true.allow_private && if_false.allow_private,
            },
        }
    }

    /// It can open: every denial in it can still be avoided.
    fn opens(&self) -> bool {
        let denies = |(action, _): &(Action<'p>, ReasonCode)| *action == Action::Deny;
        !self.rulings.iter().all(denies) && (self.pending || !self.rulings.iter().any(denies))
    }
}

struct Event<'p> {
    truth: Truth,
    effect: Effect<'p>,
    basis: RuleRef<'p>,
    /// Networks that a name must not lead to once the walk came here.
    held: Vec<&'p Networks>,
}

/// Walks one policy.
pub(super) fn walk<'p>(
    policy: &'p Policy,
    settings: Settings,
    facts: &Facts<'_>,
    view: View,
    trace: &mut Vec<Considered<'p>>,
) -> PolicyOutcome<'p> {
    let layout = Layout {
        policy,
        settings,
        facts,
        view,
    };
    let mut tiers = vec![layout.refusals()];
    for tier in &policy.tiers {
        if view == View::ShadowLifted || tier.mode == Mode::Enforce {
            tiers.push(layout.tier(tier, trace));
        }
    }
    tiers.push(layout.policy_default(trace));
    let mut outcome = possible(&tiers);
    outcome.may_accept = may_accept(&tiers);
    outcome
}

/// "A rule with a false condition is skipped; one with no false and some unknown condition adds its
/// action and the walk goes on (a pending Pass explores both ways); the first whose conditions are
/// all true adds its action and ends the walk; the end adds the default."
fn possible<'p>(tiers: &[Vec<Event<'p>>]) -> PolicyOutcome<'p> {
    let mut outcome = PolicyOutcome {
        possible: Vec::new(),
        pending: false,
        may_accept: false,
        end: Decision {
            action: Action::Deny,
            reason: ReasonCode::EngineError,
            rule: RuleRef::None,
        },
        missing: None,
        held: Vec::new(),
        allow_private: true,
    };
    for tier in tiers {
        let mut goes_on = false;
        for event in tier {
            outcome.held.extend(&event.held);
            match event.truth {
                Truth::False => continue,
                Truth::True => {}
                Truth::Unknown { pending: true } => outcome.pending = true,
                Truth::Unknown { pending: false } => {
                    outcome.missing.get_or_insert(event.basis);
                }
            }
            match &event.effect {
                Effect::Pass => goes_on = true,
                Effect::End(ending) => {
                    outcome.pending |= ending.pending;
                    outcome.allow_private &= ending.allow_private;
                    ending
                        .rulings
                        .iter()
                        .for_each(|(action, _)| outcome.add(*action));
                    if let (Truth::True, Some((action, code))) =
                        (event.truth, ending.rulings.last())
                    {
                        outcome.end = Decision {
                            action: *action,
                            reason: *code,
                            rule: event.basis,
                        };
                    }
                }
            }
            if event.truth == Truth::True {
                break;
            }
        }
        if !goes_on {
            break;
        }
    }
    outcome
}

/// Whether some completion of the pending facts leads to no denial: pending rules that deny can
/// turn out false and pending rules that open can turn out true, but what is missing stays
/// unknown, and then the most restrictive action holds.
fn may_accept(tiers: &[Vec<Event<'_>>]) -> bool {
    let Some((tier, rest)) = tiers.split_first() else {
        return false;
    };
    let next = || may_accept(rest);
    for event in tier {
        let opens = match &event.effect {
            Effect::Pass => next(),
            Effect::End(ending) => ending.opens(),
        };
        match (event.truth, &event.effect) {
            (Truth::True, _) => return opens,
            (Truth::Unknown { pending: true }, _) if opens => return true,
            (Truth::Unknown { pending: false }, _) if !opens => return false,
            (Truth::False | Truth::Unknown { .. }, _) => {}
        }
    }
    false
}

struct Layout<'p, 'f> {
    policy: &'p Policy,
    settings: Settings,
    facts: &'f Facts<'f>,
    view: View,
}

impl<'p> Layout<'p, '_> {
    fn policy_name(&self) -> &'p str {
        &self.policy.head.name
    }

    /// What is denied whatever the rules say, as long as it is not ruled out.
    fn refusals(&self) -> Vec<Event<'p>> {
        let basis = RuleRef::Policy {
            policy: self.policy_name(),
        };
        let head = &self.policy.head;
        let refusal = |truth, code| Event {
            truth,
            effect: Effect::End(Ending::only(Action::Deny, code)),
            basis,
            held: Vec::new(),
        };
        let on_caller = |holds: &dyn Fn(Caller<'_>) -> bool| match self.facts.caller {
            Fact::Known(caller) => holds(caller).into(),
            Fact::Pending | Fact::Missing => Truth::False,
        };
        let foreign = |caller: Caller<'_>| {
            caller
                .workload()
                .is_some_and(|id| head.trust_domains.iter().all(|td| td != id.trust_domain))
        };
        vec![
            refusal(
                on_caller(&|c| c == Caller::Malformed),
                ReasonCode::IdentityMalformed,
            ),
            refusal(
                on_caller(&|c| c == Caller::Plaintext && !head.allow_plaintext),
                ReasonCode::NoIdentity,
            ),
            refusal(on_caller(&foreign), ReasonCode::TrustDomain),
            // Whoever or whatever is not read yet may turn out to be refused.
            refusal(
                on_fact(self.facts.caller, |_| false),
                ReasonCode::FactsMissing,
            ),
            refusal(
                on_fact(self.facts.destination.name, |_| false),
                ReasonCode::FactsMissing,
            ),
            refusal(
                on_fact(self.facts.destination.port, |_| false),
                ReasonCode::FactsMissing,
            ),
            Event {
                truth: Truth::True,
                effect: Effect::Pass,
                basis,
                held: Vec::new(),
            },
        ]
    }

    fn tier(&self, tier: &'p Tier, trace: &mut Vec<Considered<'p>>) -> Vec<Event<'p>> {
        let mut events = Vec::new();
        for rule in &tier.rules {
            if self.view == View::ShadowLifted || rule.mode == Mode::Enforce {
                self.rule(tier, rule, &mut events, trace);
            }
        }
        let basis = RuleRef::Tier {
            policy: self.policy_name(),
            tier: &tier.name,
        };
        let effect = match tier.default {
            TierDefault::Pass => Effect::Pass,
            TierDefault::Deny => Effect::End(self.deny(self.default_code())),
        };
        let action = if tier.default == TierDefault::Pass {
            "Pass"
        } else {
            "Deny"
        };
        let shadow = tier.mode == Mode::Shadow;
        trace.push(Considered {
            basis,
            action,
            shadow,
            truth: Truth::True,
            held: Vec::new(),
            step: Step::Default,
        });
        events.push(Event {
            truth: Truth::True,
            effect,
            basis,
            held: Vec::new(),
        });
        events
    }

    fn policy_default(&self, trace: &mut Vec<Considered<'p>>) -> Vec<Event<'p>> {
        let basis = RuleRef::Policy {
            policy: self.policy_name(),
        };
        let (ending, action) = match self.policy.head.default {
            DefaultAction::Deny => (self.deny(self.default_code()), "Deny"),
            DefaultAction::Accept => (
                self.open(Action::Accept, ReasonCode::Default, Truth::False),
                "Accept",
            ),
        };
        trace.push(Considered {
            basis,
            action,
            shadow: false,
            truth: Truth::True,
            held: Vec::new(),
            step: Step::Default,
        });
        vec![Event {
            truth: Truth::True,
            effect: Effect::End(ending),
            basis,
            held: Vec::new(),
        }]
    }

    fn rule(
        &self,
        tier: &'p Tier,
        rule: &'p Rule,
        events: &mut Vec<Event<'p>>,
        trace: &mut Vec<Considered<'p>>,
    ) {
        let expiry = not_expired(rule, self.facts);
        let from = from(rule, self.facts);
        let ground = self.ground();
        let to = to(rule, self.facts, ground);
        let who = expiry
            .map_or(Truth::True, |checked| checked.truth)
            .and(any(from.iter().map(|one| all(one))));
        let places = to.iter().map(|(checked, paths)| (all(checked), paths));
        let truth = who.and(any(places
            .clone()
            .map(|(truth, paths)| truth.and(paths.matched))));
        // A path that servers read differently denies where a rule would have compared it.
        let malformed = who.and(any(places.map(|(truth, paths)| truth.and(paths.malformed))));
        let mut held = Vec::new();
        if rule.action == RuleAction::Deny
            && ground.is_unresolved(self.facts)
            && ground.in_shadow != Truth::True
        {
            for (element, (checked, paths)) in rule.to.iter().zip(&to) {
                let rest = checked
                    .iter()
                    .filter(|one| one.condition != Condition::Address);
                let rest = rest.fold(who, |truth, one| truth.and(one.truth));
                // What is not known counts as matching, a path that must not be compared too.
                if let Hosts::Networks(networks) = &element.hosts
                    && rest.and(paths.matched.or(paths.malformed)) != Truth::False
                {
                    held.push(&**networks);
                }
            }
        }
        let basis = RuleRef::Rule {
            policy: self.policy_name(),
            tier: &tier.name,
            rule: &rule.name,
        };
        let effect = match &rule.action {
            RuleAction::Accept => {
                Effect::End(self.open(Action::Accept, ReasonCode::Rule, exempt(rule, &to)))
            }
            RuleAction::Inspect(proxy) => {
                Effect::End(self.open(Action::Inspect(proxy), ReasonCode::Rule, exempt(rule, &to)))
            }
            RuleAction::Deny => Effect::End(self.deny(ReasonCode::Rule)),
            RuleAction::Pass => Effect::Pass,
        };
        events.push(Event {
            truth,
            effect,
            basis,
            held: held.clone(),
        });
        let refused = Ending::only(Action::Deny, ReasonCode::PathMalformed);
        events.push(Event {
            truth: malformed,
            effect: Effect::End(refused),
            basis,
            held: Vec::new(),
        });
        let shadow = rule.mode == Mode::Shadow || tier.mode == Mode::Shadow;
        let to = to
            .into_iter()
            .map(|(mut checked, paths)| {
                checked.push(Checked {
                    condition: Condition::Path,
                    truth: paths.matched,
                });
                checked
            })
            .collect();
        let action = rule.action.as_str();
        trace.push(Considered {
            basis,
            action,
            shadow,
            truth,
            held,
            step: Step::Rule { expiry, from, to },
        });
    }

    /// An end that opens, under the guard over the addresses that names lead to.
    fn open(&self, action: Action<'p>, code: ReasonCode, exempt: Truth) -> Ending<'p> {
        match self.facts.destination.name {
            Fact::Known(Some(_)) => Ending::either(
                exempt,
                self.guard(action, code, true),
                self.guard(action, code, false),
            ),
            // A literal is the policy's own business; an unread name is refused before.
            Fact::Known(None) | Fact::Pending | Fact::Missing => Ending::only(action, code),
        }
    }

    /// "Names are denied" where nobody says what becomes of their addresses, and then
    /// `allowPrivate` does not help either.
    fn guard(&self, action: Action<'p>, code: ReasonCode, exempt: bool) -> Ending<'p> {
        let opened = Ending {
            allow_private: exempt || action == Action::Deny,
            ..Ending::only(action, code)
        };
        match (self.settings.address_check, self.facts.destination.address) {
            // Its class leaves the rest out of the answer, if there are classes.
            (AddressCheck::None, _) | (AddressCheck::Classes, Fact::Pending | Fact::Missing) => {
                opened
            }
            (AddressCheck::Unstated, _) => Ending::only(Action::Deny, ReasonCode::AddressUnchecked),
            (AddressCheck::Classes, Fact::Known(address)) => {
                match self.settings.nat64.special(address) {
                    Some(kind) if !(exempt && kind.opened_by_allow_private()) => {
                        Ending::only(Action::Deny, ReasonCode::PrivateAddress)
                    }
                    Some(_) | None => opened,
                }
            }
        }
    }

    fn ground(&self) -> Ground {
        Ground {
            settings: self.settings,
            in_shadow: self.in_shadow(),
        }
    }

    /// A denial by the policy, which a workload in shadow is only told about.
    fn deny(&self, code: ReasonCode) -> Ending<'p> {
        Ending::either(
            self.in_shadow(),
            self.reported(),
            Ending::only(Action::Deny, code),
        )
    }

    /// What a workload in shadow may do beyond its rules: everything but inside addresses, names
    /// and literals alike.
    fn reported(&self) -> Ending<'p> {
        let through = Ending::only(Action::Accept, ReasonCode::Default);
        match (self.facts.destination.name, self.facts.destination.address) {
            (Fact::Known(None), Fact::Missing) => {
                Ending::only(Action::Deny, ReasonCode::AddressUnchecked)
            }
            (Fact::Known(None), address) => Ending::either(
                on_fact(address, |address| {
                    self.settings.nat64.special(address).is_some()
                }),
                Ending::only(Action::Deny, ReasonCode::PrivateAddress),
                through,
            ),
            (Fact::Known(Some(_)), _) => self.guard(Action::Accept, ReasonCode::Default, false),
            (Fact::Pending | Fact::Missing, _) => through,
        }
    }

    fn in_shadow(&self) -> Truth {
        if self.view == View::ShadowLifted {
            return Truth::False;
        }
        any(self.policy.head.shadow_workloads.iter().map(|entry| {
            let in_force = match self.facts.now {
                Fact::Known(now) => (now < entry.expires).into(),
                Fact::Pending => Truth::Unknown { pending: true },
                Fact::Missing => Truth::False,
            };
            in_force.and(listed(&entry.workloads, self.facts.caller))
        }))
    }

    fn default_code(&self) -> ReasonCode {
        let request = self.facts.request;
        let connect = request.method == Fact::Known("CONNECT");
        let upgrade = matches!(request.upgrade, Fact::Known(Some(_)));
        if self.facts.protocol == Protocol::Http && (connect || upgrade) {
            ReasonCode::ConnectNotAllowed
        } else {
            ReasonCode::Default
        }
    }
}

/// Whether an element that matched says `allowPrivate`.
fn exempt(rule: &Rule, to: &[(Vec<Checked>, super::conditions::Paths)]) -> Truth {
    any(rule
        .to
        .iter()
        .zip(to)
        .filter(|(element, _)| element.allow_private)
        .map(|(_, (checked, paths))| all(checked).and(paths.matched)))
}

fn any(truths: impl Iterator<Item = Truth>) -> Truth {
    truths.fold(Truth::False, Truth::or)
}
