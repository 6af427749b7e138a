//! The rules that a changed rule can meet.

use std::collections::{BTreeSet, HashSet};

use egress_policy::address::{Environment, Ranges, embeddings};
use egress_policy::model::{Hosts, Policy, Rule, RuleAction};
use egress_policy::name::NamePattern;
use egress_policy::relation::{destinations, rules_meet};
use ipnet::IpNet;

use crate::by_namespace::{ByNamespace, namespaces};

/// Up to so many pairs of names or networks, each is held against each.
const MAX_PAIRS: usize = 4_096;

/// The rules of both sides, by namespace.
pub(crate) struct Index<'p> {
    rules: Vec<&'p Rule>,
    by_namespace: ByNamespace<'p>,
}

impl<'p> Index<'p> {
    /// Of everything that is still in force.
    pub(crate) fn of(policies: impl Iterator<Item = &'p Policy>, now: i64) -> Self {
        let rules = policies.flat_map(Policy::rules).map(|placed| placed.rule);
        let in_force = |rule: &&Rule| rule.expires.is_none_or(|end| end > now);
        let rules: Vec<&Rule> = rules.filter(in_force).collect();
        Self {
            by_namespace: ByNamespace::of(rules.iter().copied()),
            rules,
        }
    }

    pub(crate) fn all(&self) -> Vec<&'p Rule> {
        self.rules.clone()
    }

    /// Rules that can match something that this one matches.
    pub(crate) fn near(&self, rule: &Rule) -> Vec<&'p Rule> {
        let numbers: BTreeSet<usize> = match namespaces(rule) {
            None => (0..self.rules.len()).collect(),
            Some(names) => self.by_namespace.about(names).collect(),
        };
        let mut reach = None;
        let own = size(rule);
        let meets = |other: &&Rule| {
            if own.saturating_mul(size(other)) <= MAX_PAIRS {
                return rules_meet(rule, other);
            }
            reach.get_or_insert_with(|| Reach::of(rule)).meets(other)
        };
        numbers
            .into_iter()
            .filter_map(|number| self.rules.get(number).copied())
            .filter(meets)
            .collect()
    }
}

/// How many names and networks a rule lists.
fn size(rule: &Rule) -> usize {
    let sizes = rule.to.iter().map(|to| match &to.hosts {
        Hosts::Anywhere => 1,
        Hosts::Names(names) => names.len(),
        Hosts::Networks(networks) => networks.networks.len(),
    });
    sizes.sum::<usize>().max(1)
}

/// The destinations of a rule with long lists, to look others up in. What meets is never missed;
/// ports and protocols are left out.
struct Reach<'r> {
    anywhere: bool,
    denies: bool,
    some_names: bool,
    /// Whole names.
    exact: HashSet<&'r str>,
    /// What stands behind the last wildcard of a pattern.
    tails: HashSet<String>,
    /// Whole names and tails, and everything that they are below.
    above: HashSet<String>,
    networks: Option<Ranges>,
}

impl<'r> Reach<'r> {
    fn of(rule: &'r Rule) -> Self {
        let mut reach = Self {
            anywhere: false,
            denies: rule.action == RuleAction::Deny,
            some_names: false,
            exact: HashSet::new(),
            tails: HashSet::new(),
            above: HashSet::new(),
            networks: None,
        };
        let mut networks = Vec::new();
        for to in destinations(rule) {
            match to.map(|to| &to.hosts) {
                None | Some(Hosts::Anywhere) => reach.anywhere = true,
                Some(Hosts::Names(names)) => {
                    reach.some_names = true;
                    names.iter().for_each(|name| reach.take(name));
                }
                Some(Hosts::Networks(listed)) => networks.extend(forms(listed, reach.denies)),
            }
        }
        reach.networks = (!networks.is_empty()).then(|| networks.iter().collect());
        reach
    }

    fn take(&mut self, pattern: &'r NamePattern) {
        let name = if let NamePattern::Exact(name) = pattern {
            self.exact.insert(name.as_str());
            name.as_str().to_owned()
        } else {
            let tail = tail(pattern);
            self.tails.insert(tail.clone());
            tail
        };
        for above in self_and_above(&name) {
            if !self.above.insert(above.to_owned()) {
                break;
            }
        }
    }

    fn meets(&self, other: &Rule) -> bool {
        let denies = other.action == RuleAction::Deny;
        destinations(other)
            .iter()
            .any(|to| match to.map(|to| &to.hosts) {
                None | Some(Hosts::Anywhere) => true,
                Some(_) if self.anywhere => true,
                Some(Hosts::Names(names)) => {
                    (self.denies && self.networks.is_some())
                        || names.iter().any(|name| self.meets_name(name))
                }
                Some(Hosts::Networks(listed)) => {
                    let meets = |own: &Ranges| forms(listed, denies).any(|net| own.meets(&net));
                    (denies && self.some_names) || self.networks.as_ref().is_some_and(meets)
                }
            })
    }

    fn meets_name(&self, pattern: &NamePattern) -> bool {
        if let NamePattern::Exact(name) = pattern {
            let name = name.as_str();
            return self.exact.contains(name)
                || self_and_above(name).any(|above| self.tails.contains(above));
        }
        let tail = tail(pattern);
        self.above.contains(&tail) || self_and_above(&tail).any(|above| self.tails.contains(above))
    }
}

/// The networks that a rule is about: a Deny is about their forms in IPv6 too.
fn forms(listed: &egress_policy::model::Networks, deny: bool) -> impl Iterator<Item = IpNet> + '_ {
    let environment = Environment::default();
    let denied = listed.networks.iter().filter(move |_| deny);
    let translated = denied.flat_map(move |net| embeddings(net, &environment));
    listed.networks.iter().copied().chain(translated)
}

/// What stands behind the last wildcard; empty where nothing does.
fn tail(pattern: &NamePattern) -> String {
    match pattern {
        NamePattern::Exact(name) | NamePattern::Suffix(name) | NamePattern::OneBelow(name) => {
            name.as_str().to_owned()
        }
        NamePattern::Glob(glob) => glob.literal_tail(),
    }
}

/// A name, and every name that it is below, down to the empty one.
fn self_and_above(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| match name.split_once('.') {
        Some((_, parent)) => Some(parent),
        None => (!name.is_empty()).then_some(""),
    })
}

/// A set of rules, by where they lie in memory: equal rules are still two.
pub(crate) struct Addresses(HashSet<usize>);

impl Addresses {
    pub(crate) fn of<'p>(rules: impl Iterator<Item = &'p Rule>) -> Self {
        Self(rules.map(|rule| std::ptr::from_ref(rule).addr()).collect())
    }

    pub(crate) fn contains(&self, rule: &Rule) -> bool {
        self.0.contains(&std::ptr::from_ref(rule).addr())
    }
}
