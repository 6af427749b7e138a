//! Every class that a verdict can have.
//!
//! Callers and requests are told apart as far as Deny networks tell them apart ([`callers`],
//! [`requests`]); for each kind the policies are walked with every rule that could match both
//! matching, not matching and unknown ([`walk`]). That lists somewhat more than verdicts can have,
//! never less.

mod callers;
mod requests;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use super::{AddressClass, TooManyClasses};
use crate::model::{From, Hosts, Mode, Policy, Rule, RuleAction, Tier, To};

use callers::Caller;
use requests::Request;

/// More kinds of callers, requests or combinations than this are not looked at one by one.
const MOST_KINDS: usize = 4_096;

/// Deny networks of one tier, with the same callers and the same narrowing, and no rule between
/// them that opens or passes: a name meets all of them or none.
struct Item {
    networks: Vec<IpNet>,
    /// Numbers in [`Found::froms`] and [`Found::narrowings`].
    from: usize,
    narrowing: usize,
}

/// What tells callers and requests apart.
#[derive(Default)]
struct Found<'p> {
    items: Vec<Item>,
    froms: Vec<&'p From>,
    narrowings: Vec<&'p To>,
    /// The items of each rule, by policy, tier and rule.
    of_rule: HashMap<(usize, usize, usize), Vec<usize>>,
    rules: BTreeSet<String>,
}

/// Callers and requests for which the same items hold and the same policies are consulted.
#[derive(Default)]
struct Kinds<'k, 'p> {
    groups: Vec<(&'k [Caller<'p>], &'k [Request])>,
}

impl Kinds<'_, '_> {
    /// Whether one of them could be what the rule is about.
    fn may_match(&self, rule: &Rule, to: &To) -> bool {
        self.groups.iter().any(|(callers, requests)| {
            callers.iter().any(|caller| caller.may_be(&rule.from))
                && requests.iter().any(|request| request.may_be(to))
        })
    }

    fn may_ask(&self, rule: &Rule) -> bool {
        let mut callers = self.groups.iter().flat_map(|(callers, _)| callers.iter());
        callers.any(|caller| caller.may_be(&rule.from))
    }

    fn are_all_workloads(&self) -> bool {
        let mut callers = self.groups.iter().flat_map(|(callers, _)| callers.iter());
        callers.all(Caller::is_workload)
    }
}

pub(super) fn classes(
    policies: &[Policy],
    most: usize,
) -> Result<Vec<AddressClass>, TooManyClasses> {
    let found = Found::of(policies);
    let too_many = || {
        let allowing = policies.iter().flat_map(Policy::rules).filter(|placed| {
            let opens = placed.rule.action != RuleAction::Deny;
            opens && placed.rule.to.iter().any(|to| to.allow_private)
        });
        let allowing = allowing.map(|placed| placed.basis().to_string());
        TooManyClasses {
            rules: found.rules.iter().cloned().chain(allowing).collect(),
        }
    };
    let standings = callers::standings(policies, &found.froms).ok_or_else(too_many)?;
    let requests = requests::requests(&found.narrowings).ok_or_else(too_many)?;
    let mut kinds: BTreeMap<(BTreeSet<usize>, &[callers::Consulted]), Kinds<'_, '_>> =
        BTreeMap::new();
    for ((froms, consulted), callers) in &standings {
        for (narrowings, requests) in &requests {
            let active = found.items.iter().enumerate();
            let active = active.filter(|(_, item)| {
                froms.contains(&item.from) && narrowings.contains(&item.narrowing)
            });
            let active = active.map(|(number, _)| number).collect();
            let kind = kinds.entry((active, consulted.as_slice())).or_default();
            kind.groups.push((callers, requests));
        }
        if kinds.len() > MOST_KINDS {
            return Err(too_many());
        }
    }
    let mut classes: BTreeSet<AddressClass> = BTreeSet::new();
    for ((active, consulted), kind) in &kinds {
        let ends = walk::ends(policies, &found, active, consulted, kind).ok_or_else(too_many)?;
        for (items, allow_private) in ends {
            let items = items.iter().filter_map(|number| found.items.get(*number));
            classes.insert(AddressClass::new(
                allow_private,
                items.flat_map(|item| &item.networks),
            ));
        }
        if classes.len() > most {
            return Err(too_many());
        }
    }
    Ok(classes.into_iter().collect())
}

impl<'p> Found<'p> {
    fn of(policies: &'p [Policy]) -> Self {
        let mut found = Self::default();
        // By what they say: the model's types have no order.
        let (mut froms, mut narrowings) = (HashMap::new(), HashMap::new());
        for (p, policy) in policies.iter().enumerate() {
            for (t, tier) in policy.tiers.iter().enumerate() {
                let mut open: HashMap<(usize, usize), usize> = HashMap::new();
                for (r, rule) in tier.rules.iter().enumerate() {
                    if !is_enforced(tier, rule) {
                        continue;
                    }
                    if rule.action != RuleAction::Deny {
                        open.clear();
                        continue;
                    }
                    for to in &rule.to {
                        let Hosts::Networks(networks) = &to.hosts else {
                            continue;
                        };
                        let from = number(&mut froms, &mut found.froms, &rule.from, &rule.from);
                        let bare = To {
                            hosts: Hosts::Anywhere,
                            destination: None,
                            ..to.clone()
                        };
                        let narrowing = number(&mut narrowings, &mut found.narrowings, to, &bare);
                        let item = *open.entry((from, narrowing)).or_insert_with(|| {
                            found.items.push(Item {
                                networks: Vec::new(),
                                from,
                                narrowing,
                            });
                            found.items.len() - 1
                        });
                        if let Some(item) = found.items.get_mut(item) {
                            item.networks.extend(networks.spread());
                        }
                        found.of_rule.entry((p, t, r)).or_default().push(item);
                        found
                            .rules
                            .insert(format!("{}/{}/{}", policy.head.name, tier.name, rule.name));
                    }
                }
            }
        }
        found
    }
}

fn is_enforced(tier: &Tier, rule: &Rule) -> bool {
    tier.mode == Mode::Enforce && rule.mode == Mode::Enforce
}

/// The number of a condition, equal ones by what they say.
fn number<'p, T>(
    numbers: &mut HashMap<String, usize>,
    all: &mut Vec<&'p T>,
    one: &'p T,
    says: &impl std::fmt::Debug,
) -> usize {
    *numbers.entry(format!("{says:?}")).or_insert_with(|| {
        all.push(one);
        all.len() - 1
    })
}
