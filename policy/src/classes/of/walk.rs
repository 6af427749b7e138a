//! The walk over policies in which every rule that could match does, does not, or is not known.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::callers::Consulted;
use super::requests::is_about_names;
use super::{Found, Kinds, MOST_KINDS, is_enforced};
use crate::model::{DefaultAction, From, Policy, Rule, RuleAction, TierDefault};

/// Items that a walk left behind, and whether every end that can open says `allowPrivate`.
pub(super) type End = (Rc<BTreeSet<usize>>, bool);

/// Where a walk can stand.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    items: Rc<BTreeSet<usize>>,
    /// No end that can open so far is without `allowPrivate`.
    allows: bool,
    /// A Pass that is not known has been seen in this tier: the next tier is walked too.
    goes_on: bool,
}

/// Everything that the policies together can come to; `None` if it is too much.
pub(super) fn ends(
    policies: &[Policy],
    found: &Found<'_>,
    active: &BTreeSet<usize>,
    consulted: &[Consulted],
    kinds: &Kinds<'_, '_>,
) -> Option<BTreeSet<End>> {
    let mut together: BTreeSet<End> = BTreeSet::from([(Rc::default(), true)]);
    if policies.is_empty() {
        return Some(BTreeSet::new());
    }
    for (place, (policy, consulted)) in policies.iter().zip(consulted).enumerate() {
        if !consulted.applies {
            continue;
        }
        let mut ends = BTreeSet::new();
        for in_shadow in [false, true] {
            if !in_shadow || consulted.shadow {
                let mut walk = Walk {
                    found,
                    active,
                    kinds,
                    in_shadow,
                    ends: &mut ends,
                };
                walk.policy(place, policy)?;
            }
        }
        let mut both = BTreeSet::new();
        for (items, allows) in &together {
            for (more, allows_too) in &ends {
                let items: BTreeSet<usize> = items.union(more).copied().collect();
                both.insert((Rc::new(items), *allows && *allows_too));
            }
            if both.len() > MOST_KINDS {
                return None;
            }
        }
        together = both;
    }
    Some(together)
}

struct Walk<'w, 'p> {
    found: &'w Found<'p>,
    active: &'w BTreeSet<usize>,
    kinds: &'w Kinds<'w, 'w>,
    in_shadow: bool,
    ends: &'w mut BTreeSet<End>,
}

impl Walk<'_, '_> {
    fn policy(&mut self, place: usize, policy: &Policy) -> Option<()> {
        let mut states = BTreeSet::from([State {
            items: Rc::default(),
            allows: true,
            goes_on: false,
        }]);
        for (t, tier) in policy.tiers.iter().enumerate() {
            if tier.mode == crate::model::Mode::Shadow {
                continue;
            }
            let mut next = BTreeSet::new();
            for (r, rule) in tier.rules.iter().enumerate() {
                if is_enforced(tier, rule) {
                    states = self.rule((place, t, r), rule, states, &mut next);
                    if states.len().max(next.len()) > MOST_KINDS {
                        return None;
                    }
                }
            }
            for state in states {
                match tier.default {
                    TierDefault::Pass => go_on(&state, state.allows, &mut next),
                    TierDefault::Deny => self.deny(&state, &mut next),
                }
            }
            states = next;
        }
        for state in &states {
            match policy.head.default {
                DefaultAction::Deny => self.deny(state, &mut BTreeSet::new()),
                DefaultAction::Accept => self.open(state, false, &mut BTreeSet::new()),
            }
        }
        Some(())
    }

    fn rule(
        &mut self,
        at: (usize, usize, usize),
        rule: &Rule,
        states: BTreeSet<State>,
        next: &mut BTreeSet<State>,
    ) -> BTreeSet<State> {
        match &rule.action {
            RuleAction::Deny => self.denying(at, rule, states, next),
            RuleAction::Pass => {
                if !self.kinds.may_ask(rule) || self.elements(rule).is_empty() {
                    return states;
                }
                let mut after = states.clone();
                for mut state in states {
                    go_on(&state, state.allows, next);
                    state.goes_on = true;
                    after.insert(state);
                }
                after
            }
            RuleAction::Accept | RuleAction::Inspect(_) => {
                let ways = self.elements(rule);
                let mut after = states.clone();
                for exempt in ways {
                    for state in &states {
                        self.open(state, exempt, next);
                        after.insert(State {
                            allows: state.allows && exempt,
                            ..state.clone()
                        });
                    }
                }
                after
            }
        }
    }

    /// The ways in which a rule that opens or passes can be about a name: with `allowPrivate`, and
    /// without.
    fn elements(&self, rule: &Rule) -> BTreeSet<bool> {
        if rule.to.is_empty() {
            let any = self.kinds.may_ask(rule).then_some(false);
            return any.into_iter().collect();
        }
        let elements = rule.to.iter().filter(|to| is_about_names(to));
        elements
            .filter(|to| self.kinds.may_match(rule, to))
            .map(|to| to.allow_private)
            .collect()
    }

    fn denying(
        &mut self,
        at: (usize, usize, usize),
        rule: &Rule,
        states: BTreeSet<State>,
        next: &mut BTreeSet<State>,
    ) -> BTreeSet<State> {
        if self.in_shadow {
            let mut after = states.clone();
            for state in &states {
                self.open(state, false, next);
                after.insert(State {
                    allows: false,
                    ..state.clone()
                });
            }
            return after;
        }
        let items = self.found.of_rule.get(&at).into_iter().flatten();
        let items: Vec<usize> = items
            .copied()
            .filter(|item| self.active.contains(item))
            .collect();
        let everybody = match rule.from {
            From::Anyone => true,
            From::AnyWorkload => self.kinds.are_all_workloads(),
            From::Sources(_) => false,
        };
        if rule.to.is_empty() && everybody {
            for state in states.iter().filter(|state| state.goes_on) {
                go_on(state, state.allows, next);
            }
            return BTreeSet::new();
        }
        if items.is_empty() {
            return states;
        }
        let with = |mut state: State| {
            if !items.iter().all(|item| state.items.contains(item)) {
                let mut more = BTreeSet::clone(&state.items);
                more.extend(&items);
                state.items = Rc::new(more);
            }
            state
        };
        // A path that must not be compared ends the walk here, for what passed on before it.
        states.into_iter().map(with).collect()
    }

    /// An end that opens.
    fn open(&mut self, state: &State, exempt: bool, next: &mut BTreeSet<State>) {
        let allows = state.allows && exempt;
        self.ends.insert((Rc::clone(&state.items), allows));
        if state.goes_on {
            go_on(state, allows, next);
        }
    }

    /// A default that denies.
    fn deny(&mut self, state: &State, next: &mut BTreeSet<State>) {
        if self.in_shadow {
            self.open(state, false, next);
        } else if state.goes_on {
            go_on(state, state.allows, next);
        }
    }
}

fn go_on(state: &State, allows: bool, next: &mut BTreeSet<State>) {
    next.insert(State {
        items: Rc::clone(&state.items),
        allows,
        goes_on: false,
    });
}
