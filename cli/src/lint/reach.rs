//! Rules that can never decide, because earlier ones take all that they match.
//!
//! An alternative (one element of `from` with one of `to`) is hidden if a single earlier
//! alternative covers it. What only several earlier ones cover together is not found.

use std::collections::HashMap;

use egress_policy::facts::Protocol;
use egress_policy::model::{
    From, LabelExpression, LabelOperator, Mode, Networks, Place, Policy, Rule, RuleAction, Source,
    TierDefault, To,
};
use egress_policy::name::{Name, NamePattern};
use egress_policy::port::PortSet;
use ipnet::IpNet;

use super::{Findings, Lint, rule_path};
use crate::satisfy::{destinations, sources};

/// Most earlier alternatives under one key that are compared.
const MAX_COMPARED: usize = 256;

/// Earlier alternatives, by namespace and by what their place could cover.
#[derive(Default)]
struct Earlier<'p> {
    by_key: HashMap<(Option<&'p str>, Key), Vec<Alternative<'p>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Anywhere,
    Name(String),
    Network(IpNet),
}

#[derive(Clone, Copy)]
struct Alternative<'p> {
    rule: &'p Rule,
    source: Option<&'p Source>,
    to: Option<&'p To>,
    tier: usize,
    index: usize,
}

pub(super) fn lint(policy: &Policy, found: &mut Findings) {
    let mut earlier = Earlier::default();
    let mut closed = false;
    for (t, tier) in policy.tiers.iter().enumerate() {
        let mut within = Earlier::default();
        for (r, rule) in tier.rules.iter().enumerate() {
            let shadow = tier.mode == Mode::Shadow || rule.mode == Mode::Shadow;
            if closed {
                let message = format!("`{}` comes after a tier that denies all", rule.name);
                found.add(Lint::UnreachableRule, &rule_path(t, r, "name"), message);
                continue;
            }
            let alternatives = alternatives(rule, t, r);
            let hiding: Vec<Option<Alternative<'_>>> = alternatives
                .iter()
                .map(|later| earlier.covering(later).or_else(|| within.covering(later)))
                .collect();
            if let Some(Some(first)) = hiding.first()
                && hiding.iter().all(Option::is_some)
            {
                let message = format!("`{}` hides `{}`", first.rule.name, rule.name);
                let other = rule_path(first.tier, first.index, "name");
                found.add_related(
                    Lint::UnreachableRule,
                    &rule_path(t, r, "name"),
                    message,
                    Some((&other, "this rule matches all of it first")),
                );
            }
            if shadow {
                continue;
            }
            for alternative in alternatives {
                // A Pass hides only what follows in its own tier.
                if rule.action == RuleAction::Pass {
                    within.add(alternative);
                } else {
                    earlier.add(alternative);
                }
            }
        }
        closed |= tier.default == TierDefault::Deny && tier.mode == Mode::Enforce;
    }
}

fn alternatives(rule: &Rule, tier: usize, index: usize) -> Vec<Alternative<'_>> {
    let mut all = Vec::new();
    for source in sources(rule) {
        for to in destinations(rule) {
            all.push(Alternative {
                rule,
                source,
                to,
                tier,
                index,
            });
        }
    }
    all
}

impl<'p> Earlier<'p> {
    fn add(&mut self, alternative: Alternative<'p>) {
        let mut namespaces: Vec<Option<&'p str>> = alternative.source.map_or(Vec::new(), |s| {
            s.namespaces.iter().map(|ns| Some(ns.as_str())).collect()
        });
        if namespaces.is_empty() {
            namespaces.push(None);
        }
        for key in keys_of(alternative.to) {
            for namespace in &namespaces {
                self.by_key
                    .entry((*namespace, key.clone()))
                    .or_default()
                    .push(alternative);
            }
        }
    }

    /// An earlier alternative that covers this one.
    fn covering(&self, later: &Alternative<'p>) -> Option<Alternative<'p>> {
        let first = later
            .source
            .and_then(|source| source.namespaces.first())
            .map(String::as_str);
        let mut namespaces = vec![None];
        namespaces.extend(first.map(Some));
        for key in wider_keys(later.to) {
            for namespace in &namespaces {
                let candidates = self.by_key.get(&(*namespace, key.clone()));
                let found = candidates
                    .into_iter()
                    .flatten()
                    .take(MAX_COMPARED)
                    .find(|one| covers(one, later));
                if let Some(found) = found {
                    return Some(*found);
                }
            }
        }
        None
    }
}

/// The keys under which an alternative is found.
fn keys_of(to: Option<&To>) -> Vec<Key> {
    match to.map(|to| &to.place) {
        None | Some(Place::Anywhere) => vec![Key::Anywhere],
        Some(Place::Names(patterns)) => patterns.iter().map(|p| Key::Name(p.to_string())).collect(),
        Some(Place::Networks(networks)) => {
            networks.networks.iter().map(|n| Key::Network(*n)).collect()
        }
    }
}

/// The keys of what could cover an alternative.
fn wider_keys(to: Option<&To>) -> Vec<Key> {
    let mut keys = vec![Key::Anywhere];
    match to.map(|to| &to.place) {
        None | Some(Place::Anywhere) => {}
        Some(Place::Names(patterns)) => {
            if let Some(pattern) = patterns.first() {
                let text = pattern.to_string();
                let mut rest = text.as_str();
                while let Some((_, parent)) = rest.split_once('.') {
                    keys.push(Key::Name(format!("*.{parent}")));
                    keys.push(Key::Name(format!("+.{parent}")));
                    rest = parent;
                }
                keys.push(Key::Name(text));
            }
        }
        Some(Place::Networks(networks)) => {
            let mut next = networks.networks.first().copied();
            while let Some(network) = next {
                keys.push(Key::Network(network));
                next = network.supernet();
            }
        }
    }
    keys
}

/// Whether everything that `later` matches is matched by `earlier`.
fn covers(earlier: &Alternative<'_>, later: &Alternative<'_>) -> bool {
    let lasts = match (earlier.rule.expires, later.rule.expires) {
        (None, _) => true,
        (Some(a), Some(b)) => a >= b,
        (Some(_), None) => false,
    };
    lasts && covers_from(earlier, later) && covers_to(earlier, later)
}

fn covers_from(earlier: &Alternative<'_>, later: &Alternative<'_>) -> bool {
    match (&earlier.rule.from, &later.rule.from) {
        (From::AnyWorkload | From::Sources(_), From::Anyone)
        | (From::Sources(_), From::AnyWorkload) => return false,
        (From::Anyone | From::AnyWorkload, _) => return true,
        (From::Sources(_), From::Sources(_)) => {}
    }
    let (Some(a), Some(b)) = (earlier.source, later.source) else {
        return false;
    };
    let within = |wide: &[String], narrow: &[String]| {
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|n| wide.contains(n)))
    };
    let accounts = a.service_accounts.is_empty()
        || (!b.service_accounts.is_empty()
            && b.service_accounts
                .iter()
                .all(|n| a.service_accounts.contains(n)));
    within(&a.trust_domains, &b.trust_domains)
        && within(&a.namespaces, &b.namespaces)
        && within(&a.clusters, &b.clusters)
        && accounts
        && a.match_labels
            .iter()
            .all(|label| b.match_labels.contains(label))
        && a.match_expressions.iter().all(|wanted| implied(wanted, b))
}

/// Whether a source's own labels make an expression true.
fn implied(wanted: &LabelExpression, source: &Source) -> bool {
    source.match_expressions.contains(wanted)
        || source.match_labels.iter().any(|(key, value)| {
            *key == wanted.key
                && match &wanted.operator {
                    LabelOperator::In(values) => values.contains(value),
                    LabelOperator::NotIn(values) => !values.contains(value),
                    LabelOperator::Exists => true,
                    LabelOperator::DoesNotExist => false,
                }
        })
}

fn covers_to(earlier: &Alternative<'_>, later: &Alternative<'_>) -> bool {
    let earlier_denies = earlier.rule.action == RuleAction::Deny;
    let later_denies = later.rule.action == RuleAction::Deny;
    let request =
        |to: &To| !(to.methods.is_empty() && to.paths.is_empty() && to.upgrades.is_empty());
    // What opens leaves CONNECT and upgrades out; what denies does not.
    let requests_differ = !earlier_denies && later_denies;
    let Some(a) = earlier.to else {
        let lists_requests = later.to.is_some_and(|b| {
            !b.upgrades.is_empty() || b.methods.iter().any(|method| method == "CONNECT")
        });
        let udp = later
            .to
            .is_some_and(|b| b.protocols.contains(&Protocol::Udp));
        return !udp && !requests_differ && (earlier_denies || !lists_requests);
    };
    let Some(b) = later.to else { return false };
    if request(a) || requests_differ || a.allow_private != b.allow_private {
        return a == b && earlier_denies == later_denies;
    }
    let lists_requests =
        !b.upgrades.is_empty() || b.methods.iter().any(|method| method == "CONNECT");
    covers_protocols(a, b)
        && covers_ports(&a.ports, &b.ports)
        && (earlier_denies || !lists_requests)
        && covers_place(&a.place, &b.place, earlier_denies, later_denies)
}

fn covers_protocols(a: &To, b: &To) -> bool {
    match (a.protocols.is_empty(), b.protocols.is_empty()) {
        (true, true) => true,
        (true, false) => !b.protocols.contains(&Protocol::Udp),
        (false, true) => [Protocol::Http, Protocol::Tls, Protocol::Tcp]
            .iter()
            .all(|p| a.protocols.contains(p)),
        (false, false) => b.protocols.iter().all(|p| a.protocols.contains(p)),
    }
}

fn covers_ports(a: &PortSet, b: &PortSet) -> bool {
    a.is_any()
        || (!b.is_any()
            && b.ranges().all(|narrow| {
                a.ranges()
                    .any(|wide| wide.contains(narrow.start()) && wide.contains(narrow.end()))
            }))
}

fn covers_place(a: &Place, b: &Place, earlier_denies: bool, later_denies: bool) -> bool {
    match (a, b) {
        (Place::Anywhere, _) => true,
        (Place::Names(wide), Place::Names(narrow)) => narrow
            .iter()
            .all(|n| wide.iter().any(|w| covers_pattern(w, n))),
        // `networks` means more in a Deny rule: the addresses behind names too.
        (Place::Networks(wide), Place::Networks(narrow)) => {
            (earlier_denies || !later_denies) && covers_networks(wide, narrow)
        }
        (Place::Names(_) | Place::Networks(_), _) => false,
    }
}

fn covers_networks(wide: &Networks, narrow: &Networks) -> bool {
    narrow.networks.iter().all(|n| {
        wide.networks.iter().any(|w| w.contains(n))
            && wide
                .except
                .iter()
                .all(|hole| !(n.contains(hole) || hole.contains(n)) || narrow.except.contains(hole))
    })
}

fn covers_pattern(wide: &NamePattern, narrow: &NamePattern) -> bool {
    let below = |name: &Name, base: &Name| {
        name.as_str()
            .strip_suffix(base.as_str())
            .is_some_and(|front| front.ends_with('.'))
    };
    match (wide, narrow) {
        (wide, NamePattern::Exact(name)) => wide.matches(name),
        (NamePattern::Suffix(base), NamePattern::Suffix(other) | NamePattern::OneBelow(other)) => {
            base == other || below(other, base)
        }
        (NamePattern::OneBelow(base), NamePattern::OneBelow(other)) => base == other,
        (wide, narrow) => wide == narrow,
    }
}
