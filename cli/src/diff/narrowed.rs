//! The rules that a changed rule can meet.

use std::collections::{BTreeSet, HashMap, HashSet};

use egress_policy::model::{From, Policy, Rule};
use egress_policy::relation::{rules_meet, source_namespaces};

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
        for rule in policies.flat_map(Policy::rules).map(|placed| placed.rule.1) {
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
            .filter(|other| rules_meet(rule, other))
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
