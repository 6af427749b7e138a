//! Rules that can never decide, because earlier ones take all that they match.
//!
//! An alternative (one element of `from` with one of `to`) is hidden if a single earlier
//! alternative covers it. What only several earlier ones cover together is not found.

use std::collections::HashMap;

use egress_policy::defect::FieldPath;
use egress_policy::model::{Hosts, Mode, Policy, Rule, RuleAction, Tier, TierDefault, To};
use egress_policy::relation::rules_meet;
use ipnet::IpNet;

use super::covers::{Alternative, Rest, covers};
use super::{Findings, Lint, rule_path, tier_path};
use egress_policy::relation::{destinations, sources};

/// Most earlier alternatives under one key that are compared; most Pass rules of a tier.
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

/// An earlier alternative that covers a later one, and what it leaves of it.
type Hiding<'p> = (Alternative<'p>, Rest);

pub(super) fn lint(policy: &Policy, found: &mut Findings) {
    let mut earlier = Earlier::default();
    let mut closed = None;
    for (t, tier) in policy.tiers.iter().enumerate() {
        let mut within = Earlier::default();
        let mut exceptions: Vec<&Rule> = Vec::new();
        for (r, rule) in tier.rules.iter().enumerate() {
            if let Some((by, closing)) = closed {
                behind(found, (t, r, rule), (by, closing));
                continue;
            }
            let alternatives = alternatives(rule, t, r);
            let covering = |later| {
                let before = earlier.covering(later);
                before.or_else(|| within.covering(later))
            };
            let hiding: Option<Vec<Hiding<'_>>> = alternatives.iter().map(covering).collect();
            if let Some(hiding) = hiding {
                hidden(found, (t, r, rule), &hiding);
            }
            if tier.mode == Mode::Shadow || rule.mode == Mode::Shadow {
                continue;
            }
            // A Pass hides only what follows in its own tier; so does what it leaves to later tiers.
            let passes = rule.action == RuleAction::Pass;
            let stays = passes
                || exceptions.len() > MAX_COMPARED
                || exceptions.iter().any(|pass| rules_meet(pass, rule));
            let hidden_behind = if stays { &mut within } else { &mut earlier };
            for alternative in alternatives {
                hidden_behind.add(alternative);
            }
            exceptions.extend(passes.then_some(rule));
        }
        if closed.is_none() && closes(tier) {
            closed = Some((t, tier));
        }
    }
}

/// Nothing gets to the tiers behind: what a rule passes on would.
fn closes(tier: &Tier) -> bool {
    tier.default == TierDefault::Deny
        && tier.mode == Mode::Enforce
        && tier
            .rules
            .iter()
            .all(|rule| rule.action != RuleAction::Pass)
}

fn behind(found: &mut Findings, (t, r, rule): (usize, usize, &Rule), (by, tier): (usize, &Tier)) {
    let message = format!(
        "tier `{}` hides `{}`: it denies what its own rules leave",
        tier.name, rule.name
    );
    let related = [(tier_path(by, "default"), "nothing gets past this")];
    let path = rule_path(t, r, "name");
    found.add_related(Lint::UnreachableRule, &path, message, &related);
}

fn hidden(found: &mut Findings, (t, r, rule): (usize, usize, &Rule), hiding: &[Hiding<'_>]) {
    let mut names: Vec<String> = Vec::new();
    let mut related: Vec<(FieldPath, &str)> = Vec::new();
    for (first, _) in hiding {
        let name = format!("`{}`", first.rule.name);
        if !names.contains(&name) {
            names.push(name);
            let path = rule_path(first.tier, first.index, "name");
            related.push((path, "this rule matches some of it first"));
        }
    }
    if let [(_, label)] = related.as_mut_slice() {
        *label = "this rule matches all of it first";
    }
    let verb = if names.len() == 1 { "hides" } else { "hide" };
    let names = names.join(" and ");
    let rest = hiding.iter().map(|(_, rest)| *rest);
    let rest = rest.fold(Rest::default(), Rest::and).words();
    let message = format!("{names} {verb} `{}`{rest}", rule.name);
    let path = rule_path(t, r, "name");
    found.add_related(Lint::UnreachableRule, &path, message, &related);
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
    fn covering(&self, later: &Alternative<'p>) -> Option<Hiding<'p>> {
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
                    .find_map(|one| Some((*one, covers(one, later)?)));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

/// The keys under which an alternative is found.
fn keys_of(to: Option<&To>) -> Vec<Key> {
    match to.map(|to| &to.hosts) {
        None | Some(Hosts::Anywhere) => vec![Key::Anywhere],
        Some(Hosts::Names(patterns)) => patterns.iter().map(|p| name_key(&p.to_string())).collect(),
        Some(Hosts::Networks(networks)) => {
            networks.networks.iter().map(|n| Key::Network(*n)).collect()
        }
    }
}

/// A pattern with stars inside labels is found by what stands behind the last of them.
fn name_key(pattern: &str) -> Key {
    match pattern.rsplit_once('*') {
        Some((front, rest)) if !front.is_empty() || !rest.starts_with('.') => {
            let behind = rest.split_once('.').map_or(rest, |(_, behind)| behind);
            Key::Name(format!("?.{behind}"))
        }
        _ => Key::Name(pattern.to_owned()),
    }
}

/// The keys of what could cover an alternative.
fn wider_keys(to: Option<&To>) -> Vec<Key> {
    let mut keys = vec![Key::Anywhere];
    match to.map(|to| &to.hosts) {
        None | Some(Hosts::Anywhere) => {}
        Some(Hosts::Names(patterns)) => {
            if let Some(pattern) = patterns.first() {
                let text = pattern.to_string();
                let mut rest = text.as_str();
                while let Some((_, parent)) = rest.split_once('.') {
                    keys.push(Key::Name(format!("*.{parent}")));
                    keys.push(Key::Name(format!("+.{parent}")));
                    keys.push(Key::Name(format!("?.{parent}")));
                    rest = parent;
                }
                keys.push(Key::Name(text));
            }
        }
        Some(Hosts::Networks(networks)) => {
            let mut next = networks.networks.first().copied();
            while let Some(network) = next {
                keys.push(Key::Network(network));
                next = network.supernet();
            }
        }
    }
    keys
}
