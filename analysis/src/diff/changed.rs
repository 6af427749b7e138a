//! What both sides have in common: the rules that decide alike unless another one matches first.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt::Write as _;

use egress_policy::model::{
    From, Head, Hosts, LabelOperator, Policy, Rule, Source, Tier, TierDefault, To, Workloads,
};

/// What is not in common.
pub(super) struct Changes<'p> {
    /// Rules that one side lacks or has at another place.
    pub(super) rules: Vec<&'p Rule>,
    /// Something outside the rules differs, so every fact may be touched.
    pub(super) everywhere: bool,
}

pub(super) fn changes<'p>(old: &'p [Policy], new: &'p [Policy], now: i64) -> Changes<'p> {
    let mut changes = Changes {
        rules: Vec::new(),
        everywhere: old.len() != new.len(),
    };
    for (old, new) in old.iter().zip(new) {
        changes.everywhere |= head_key(&old.head) != head_key(&new.head);
        compare_tiers(&old.tiers, &new.tiers, now, &mut changes);
    }
    changes
}

fn compare_tiers<'p>(old: &'p [Tier], new: &'p [Tier], now: i64, changes: &mut Changes<'p>) {
    let key = |tier: &Tier| format!("{} {:?} {:?}", tier.name, tier.mode, tier.default);
    // Renaming every tier is wording; then tiers are told apart by place.
    let nameless = |tier: &Tier| format!("{:?} {:?}", tier.mode, tier.default);
    let same_shape =
        old.len() == new.len() && old.iter().map(nameless).eq(new.iter().map(nameless));
    let pairs = if same_shape {
        (0..old.len()).map(|i| (i, i)).collect()
    } else {
        common(old.iter().map(key), new.iter().map(key))
    };
    for (tiers, side) in [(old, 0), (new, 1)] {
        for (i, tier) in tiers.iter().enumerate() {
            let paired = pairs
                .iter()
                .any(|(a, b)| i == if side == 0 { *a } else { *b });
            if !paired {
                changes.everywhere |= tier.default == TierDefault::Deny;
                changes.rules.extend(in_force(tier, now));
            }
        }
    }
    for (a, b) in pairs {
        let (Some(old), Some(new)) = (old.get(a), new.get(b)) else {
            continue;
        };
        let (old, new): (Vec<&Rule>, Vec<&Rule>) =
            (in_force(old, now).collect(), in_force(new, now).collect());
        let kept = common(
            old.iter().map(|rule| rule_key(rule)),
            new.iter().map(|rule| rule_key(rule)),
        );
        let (mut left, mut right) = (vec![true; old.len()], vec![true; new.len()]);
        for (a, b) in kept {
            left.get_mut(a).into_iter().for_each(|flag| *flag = false);
            right.get_mut(b).into_iter().for_each(|flag| *flag = false);
        }
        let pick = |rules: Vec<&'p Rule>, flags: Vec<bool>| {
            rules
                .into_iter()
                .zip(flags)
                .filter(|(_, changed)| *changed)
                .map(|(rule, _)| rule)
        };
        changes
            .rules
            .extend(pick(old, left).chain(pick(new, right)));
    }
}

/// Rules that still have an effect.
fn in_force(tier: &Tier, now: i64) -> impl Iterator<Item = &Rule> {
    tier.rules
        .iter()
        .filter(move |rule| rule.expires.is_none_or(|end| end > now))
}

/// A common subsequence, as pairs of places: long, not always the longest. Equal keys are paired
/// in their order, then the longest increasing run of places is kept.
fn common(
    old: impl Iterator<Item = String>,
    new: impl Iterator<Item = String>,
) -> Vec<(usize, usize)> {
    let mut places: HashMap<String, VecDeque<usize>> = HashMap::new();
    for (i, key) in old.enumerate() {
        places.entry(key).or_default().push_back(i);
    }
    let pairs: Vec<(usize, usize)> = new
        .enumerate()
        .filter_map(|(j, key)| Some((places.get_mut(&key)?.pop_front()?, j)))
        .collect();
    // Patience sorting: `ends` holds, for every length, the pair with the smallest end.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    let place = |index: usize| pairs.get(index).map_or(0, |(i, _)| *i);
    for (index, (i, _)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| place(*end) < *i);
        before.push(
            length
                .checked_sub(1)
                .and_then(|last| ends.get(last).copied()),
        );
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let mut run = Vec::new();
    let mut next = ends.last().copied();
    while let Some(index) = next {
        run.extend(pairs.get(index));
        next = before.get(index).copied().flatten();
    }
    run.reverse();
    run
}

fn head_key(head: &Head) -> String {
    let mut trust_domains = head.trust_domains.clone();
    trust_domains.sort();
    let mut shadow: Vec<String> = head
        .shadow_workloads
        .iter()
        .map(|entry| format!("{} {}", workloads_key(&entry.workloads), entry.expires))
        .collect();
    shadow.sort();
    let applies = head.applies_to.as_ref().map(workloads_key);
    format!(
        "{trust_domains:?} {} {applies:?} {shadow:?} {:?}",
        head.allow_plaintext, head.default
    )
}

fn workloads_key(workloads: &Workloads) -> String {
    let mut sorted = workloads.clone();
    sorted.namespaces.sort();
    sorted.service_accounts.sort();
    format!("{sorted:?}")
}

/// What a rule means: without its name and its notes, lists in one order.
fn rule_key(rule: &Rule) -> String {
    let mut key = format!("{:?} {:?} {:?} ", rule.mode, rule.action, rule.expires);
    match &rule.from {
        From::Anyone => key.push_str("anyone"),
        From::AnyWorkload => key.push_str("workload"),
        From::Sources(sources) => {
            let mut keys: Vec<String> = sources.iter().map(source_key).collect();
            keys.sort();
            keys.dedup();
            key.push_str(&keys.join("|"));
        }
    }
    let mut keys: Vec<String> = rule.to.iter().map(to_key).collect();
    keys.sort();
    keys.dedup();
    key.push('>');
    key.push_str(&keys.join("|"));
    key
}

fn source_key(source: &Source) -> String {
    let mut source = source.clone();
    source.trust_domains.sort();
    source.namespaces.sort();
    source.service_accounts.sort();
    source.clusters.sort();
    source.match_labels.sort();
    let mut expressions: Vec<String> = Vec::new();
    for expression in &mut source.match_expressions {
        if let LabelOperator::In(values) | LabelOperator::NotIn(values) = &mut expression.operator {
            values.sort();
        }
        expressions.push(format!("{expression:?}"));
    }
    expressions.sort();
    format!(
        "{:?}{:?}{:?}{:?}{:?}{expressions:?}",
        source.trust_domains,
        source.namespaces,
        source.service_accounts,
        source.clusters,
        source.match_labels
    )
}

fn to_key(to: &To) -> String {
    let mut key = String::new();
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts.join(",")
    };
    let place = match &to.hosts {
        Hosts::Anywhere => "*".to_owned(),
        Hosts::Names(patterns) => sorted(patterns.iter().map(ToString::to_string).collect()),
        Hosts::Networks(networks) => format!(
            "{}-{}",
            sorted(networks.networks.iter().map(ToString::to_string).collect()),
            sorted(networks.except.iter().map(ToString::to_string).collect())
        ),
    };
    // Writing to a String does not fail.
    let _ = write!(
        key,
        "{place} {} {:?} {} {} {} {}",
        to.ports,
        to.protocols,
        sorted(to.methods.clone()),
        sorted(to.paths.iter().map(ToString::to_string).collect()),
        sorted(to.upgrades.clone()),
        to.allow_private,
    );
    key
}
