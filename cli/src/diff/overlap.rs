//! Which rules can meet: a quick test that never misses one.

use std::collections::{BTreeSet, HashMap, HashSet};

use egress_policy::model::{From, Place, Policy, Rule, RuleAction, Source, To};
use egress_policy::name::NamePattern;

use crate::satisfy::{destinations, sources};

/// The rules of both sides, by namespace.
pub(super) struct Index<'p> {
    rules: Vec<&'p Rule>,
    by_namespace: HashMap<&'p str, Vec<usize>>,
    any_namespace: Vec<usize>,
}

impl<'p> Index<'p> {
    /// Of everything that is still in force.
    pub(super) fn of(policies: impl Iterator<Item = &'p Policy>, now: i64) -> Self {
        let mut index = Self {
            rules: Vec::new(),
            by_namespace: HashMap::new(),
            any_namespace: Vec::new(),
        };
        let tiers = policies.flat_map(|policy| &policy.tiers);
        for rule in tiers.flat_map(|tier| &tier.rules) {
            if rule.expires.is_some_and(|end| end <= now) {
                continue;
            }
            let number = index.rules.len();
            index.rules.push(rule);
            match namespaces(rule) {
                None => index.any_namespace.push(number),
                Some(names) => {
                    for name in names {
                        index.by_namespace.entry(name).or_default().push(number);
                    }
                }
            }
        }
        index
    }

    pub(super) fn all(&self) -> Vec<&'p Rule> {
        self.rules.clone()
    }

    /// Rules that can match something that this one matches.
    pub(super) fn near(&self, rule: &Rule) -> Vec<&'p Rule> {
        let numbers: BTreeSet<usize> = match namespaces(rule) {
            None => (0..self.rules.len()).collect(),
            Some(names) => {
                let own = names
                    .into_iter()
                    .filter_map(|name| self.by_namespace.get(name));
                own.flatten().chain(&self.any_namespace).copied().collect()
            }
        };
        numbers
            .into_iter()
            .filter_map(|number| self.rules.get(number).copied())
            .filter(|other| meet(rule, other))
            .collect()
    }
}

/// A set of rules, by where they lie in memory: equal rules are still two.
pub(super) struct Addresses(HashSet<usize>);

impl Addresses {
    pub(super) fn of<'p>(rules: impl Iterator<Item = &'p Rule>) -> Self {
        Self(rules.map(|rule| std::ptr::from_ref(rule).addr()).collect())
    }

    pub(super) fn contains(&self, rule: &Rule) -> bool {
        self.0.contains(&std::ptr::from_ref(rule).addr())
    }
}

/// The namespaces of a rule, if every alternative names some.
fn namespaces(rule: &Rule) -> Option<Vec<&str>> {
    let From::Sources(sources) = &rule.from else {
        return None;
    };
    let mut all = Vec::new();
    for source in &**sources {
        let names = source_namespaces(source);
        if names.is_empty() {
            return None;
        }
        all.extend(names);
    }
    Some(all)
}

fn source_namespaces(source: &Source) -> Vec<&str> {
    let accounts = source
        .service_accounts
        .iter()
        .map(|sa| sa.namespace.as_str());
    let names: Vec<&str> = accounts.collect();
    if names.is_empty() {
        source.namespaces.iter().map(String::as_str).collect()
    } else {
        names
    }
}

fn meet(a: &Rule, b: &Rule) -> bool {
    let (deny_a, deny_b) = (a.action == RuleAction::Deny, b.action == RuleAction::Deny);
    let who = sources(a).iter().any(|left| {
        sources(b).iter().any(|right| match (left, right) {
            (Some(left), Some(right)) => sources_meet(left, right),
            _ => true,
        })
    });
    who && destinations(a).iter().any(|left| {
        destinations(b).iter().any(|right| match (left, right) {
            (Some(left), Some(right)) => destinations_meet(left, deny_a, right, deny_b),
            _ => true,
        })
    })
}

/// Labels are left out: where they are missing, rules for different labels meet.
fn sources_meet(a: &Source, b: &Source) -> bool {
    let (left, right) = (source_namespaces(a), source_namespaces(b));
    left.is_empty() || right.is_empty() || left.iter().any(|name| right.contains(name))
}

fn destinations_meet(a: &To, deny_a: bool, b: &To, deny_b: bool) -> bool {
    if a.ports.intersect(&b.ports).is_none() {
        return false;
    }
    let apart = !a.protocols.is_empty()
        && !b.protocols.is_empty()
        && a.protocols
            .iter()
            .all(|protocol| !b.protocols.contains(protocol));
    if apart {
        return false;
    }
    match (&a.place, &b.place) {
        (Place::Names(left), Place::Names(right)) => left
            .iter()
            .any(|l| right.iter().any(|r| patterns_meet(l, r))),
        (Place::Networks(left), Place::Networks(right)) => left.networks.iter().any(|l| {
            right
                .networks
                .iter()
                .any(|r| l.contains(r) || r.contains(l))
        }),
        // Outside Deny rules, networks match destinations without a name.
        (Place::Names(_), Place::Networks(_)) => deny_b,
        (Place::Networks(_), Place::Names(_)) => deny_a,
        (Place::Anywhere, _) | (_, Place::Anywhere) => true,
    }
}

fn patterns_meet(a: &NamePattern, b: &NamePattern) -> bool {
    match (a, b) {
        (NamePattern::Exact(name), other) | (other, NamePattern::Exact(name)) => {
            other.matches(name)
        }
        (NamePattern::Glob(_), _) | (_, NamePattern::Glob(_)) => true,
        (
            NamePattern::Suffix(left) | NamePattern::OneBelow(left),
            NamePattern::Suffix(right) | NamePattern::OneBelow(right),
        ) => below(left.as_str(), right.as_str()) || below(right.as_str(), left.as_str()),
    }
}

fn below(name: &str, base: &str) -> bool {
    name.strip_suffix(base)
        .is_some_and(|front| front.is_empty() || front.ends_with('.'))
}
