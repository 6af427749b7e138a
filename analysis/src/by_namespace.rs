//! Rules by the namespaces of their callers, so that few are looked at.

use std::collections::{BTreeSet, HashMap};

use egress_policy::model::Rule;
use egress_policy::relation::{source_namespaces, sources};

/// The numbers of rules, in the order in which they were given.
pub(crate) struct ByNamespace<'p> {
    named: HashMap<&'p str, Vec<usize>>,
    any: Vec<usize>,
}

impl<'p> ByNamespace<'p> {
    pub(crate) fn of(rules: impl Iterator<Item = &'p Rule>) -> Self {
        let (mut named, mut any) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for (number, rule) in rules.enumerate() {
            match namespaces(rule) {
                None => any.push(number),
                Some(own) => {
                    for name in own {
                        named.entry(name).or_default().push(number);
                    }
                }
            }
        }
        Self { named, any }
    }

    /// Rules that name one of these namespaces, and those for any. One that names several of them
    /// comes several times.
    pub(crate) fn about<'n>(
        &self,
        namespaces: impl IntoIterator<Item = &'n str>,
    ) -> impl Iterator<Item = usize> {
        let named = namespaces
            .into_iter()
            .filter_map(|name| self.named.get(name));
        named.flatten().chain(&self.any).copied()
    }
}

/// The namespaces of a rule, if every alternative names some.
pub(crate) fn namespaces(rule: &Rule) -> Option<BTreeSet<&str>> {
    let mut all = BTreeSet::new();
    for source in sources(rule) {
        let names = source_namespaces(source?);
        if names.is_empty() {
            return None;
        }
        all.extend(names);
    }
    Some(all)
}
