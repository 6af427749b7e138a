//! What a rule wanted and what was there instead, in words.

use egress_policy::facts::Fact;
use egress_policy::model::{Hosts, LabelOperator, Rule, Source, To};
use egress_policy::name::Name;
use egress_policy::reference::{Checked, Condition, Truth};

use super::fact_text;
use crate::owned_facts::{OwnedFacts, Who, time_text};
use egress_policy::facts::OwnedClaims;
use egress_policy::relation::{destinations, sources};

/// Most entries of a list that are named.
const MAX_NAMED: usize = 3;

/// Every condition that does not hold, of the closest alternative of `from` and of `to`.
pub(super) fn of_rule(
    rule: &Rule,
    expiry: Option<&Checked>,
    from: &[Vec<Checked>],
    to: &[Vec<Checked>],
    situation: &OwnedFacts,
) -> Vec<String> {
    let mut mismatches = Vec::new();
    if let Some(expiry) = expiry
        && expiry.truth != Truth::True
    {
        let expires = rule.expires.map(time_text).unwrap_or_default();
        mismatches.push(format!(
            "expires: {expires}; the time is {}",
            fact_text(situation.now.map(time_text))
        ));
    }
    if let Some((index, checked)) = closest(from) {
        let alternatives = sources(rule);
        let source = alternatives.get(index).copied().flatten();
        let wants = |condition, nth| wanted_of_source(condition, nth, source);
        describe(
            "from",
            from.len(),
            checked,
            wants,
            situation,
            &mut mismatches,
        );
    }
    if let Some((index, checked)) = closest(to) {
        let alternatives = destinations(rule);
        let element = alternatives.get(index).copied().flatten();
        let wants = |condition, _| wanted_of_to(condition, element);
        describe("to", to.len(), checked, wants, situation, &mut mismatches);
    }
    mismatches
}

/// The alternative with the fewest conditions that fail; unknown ones fail less than false ones.
/// None where one holds.
fn closest(alternatives: &[Vec<Checked>]) -> Option<(usize, &Vec<Checked>)> {
    let distance = |checked: &[Checked]| {
        let weigh = |one: &Checked| match one.truth {
            Truth::True => 0,
            Truth::Unknown { .. } => 1,
            Truth::False => 100,
        };
        checked.iter().map(weigh).sum::<usize>()
    };
    alternatives
        .iter()
        .enumerate()
        .min_by_key(|(_, checked)| distance(checked))
        .filter(|(_, checked)| distance(checked) > 0)
}

fn describe(
    side: &str,
    alternatives: usize,
    checked: &[Checked],
    wants: impl Fn(Condition, usize) -> Option<String>,
    situation: &OwnedFacts,
    mismatches: &mut Vec<String>,
) {
    let mut labels = 0;
    for one in checked {
        let nth = labels;
        labels += usize::from(one.condition == Condition::Labels);
        if one.truth == Truth::True {
            continue;
        }
        let wanted = wants(one.condition, nth).unwrap_or_else(|| implied(one.condition));
        let seen = seen(one.condition, situation);
        let closest = if alternatives > 1 {
            format!(" (closest of {alternatives} in `{side}`)")
        } else {
            String::new()
        };
        mismatches.push(format!(
            "{}: wants {wanted}; {seen}{closest}",
            one.condition
        ));
    }
}

/// What a condition wants that the rule does not write.
fn implied(condition: Condition) -> String {
    match condition {
        Condition::Identity => "a verified identity",
        Condition::Method => "any method but CONNECT",
        Condition::Upgrade => "no upgrade",
        Condition::Protocol => "HTTP, TLS or TCP",
        _ => "something else",
    }
    .to_owned()
}

fn list<T: ToString>(entries: &[T]) -> Option<String> {
    let named: Vec<String> = entries.iter().take(MAX_NAMED).map(T::to_string).collect();
    let more = entries.len().saturating_sub(MAX_NAMED);
    match (named.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(named.join(" or ")),
        (false, _) => Some(format!("{} or {more} more", named.join(", "))),
    }
}

fn wanted_of_source(condition: Condition, nth: usize, source: Option<&Source>) -> Option<String> {
    let source = source?;
    match condition {
        Condition::TrustDomain => list(&source.trust_domains),
        Condition::Namespace => list(&source.namespaces),
        Condition::ServiceAccount => {
            let accounts = source.service_accounts.iter();
            let spelt: Vec<String> = accounts
                .map(|sa| format!("{}/{}", sa.namespace, sa.name))
                .collect();
            list(&spelt)
        }
        Condition::Cluster => list(&source.clusters),
        Condition::Labels => match source.match_labels.get(nth) {
            Some((key, value)) => Some(format!("{key}={value}")),
            None => source
                .match_expressions
                .get(nth - source.match_labels.len())
                .map(|expression| match &expression.operator {
                    LabelOperator::In(values) => {
                        format!("{} in ({})", expression.key, values.join(", "))
                    }
                    LabelOperator::NotIn(values) => {
                        format!("{} not in ({})", expression.key, values.join(", "))
                    }
                    LabelOperator::Exists => expression.key.clone(),
                    LabelOperator::DoesNotExist => format!("no {}", expression.key),
                }),
        },
        _ => None,
    }
}

fn wanted_of_to(condition: Condition, to: Option<&To>) -> Option<String> {
    let to = to?;
    match (condition, &to.hosts) {
        (Condition::Name, Hosts::Names(patterns)) => list(patterns),
        (Condition::Address, Hosts::Networks(networks)) => {
            let except = list(&networks.except)
                .map(|except| format!(" except {except}"))
                .unwrap_or_default();
            list(&networks.networks).map(|networks| format!("{networks}{except}"))
        }
        (Condition::Port, _) => Some(to.ports.to_string()),
        (Condition::Protocol, _) if !to.protocols.is_empty() => {
            let words: Vec<&str> = to.protocols.iter().map(|p| p.as_str()).collect();
            list(&words)
        }
        (Condition::Protocol, _) if to.compares_requests() => Some("HTTP".to_owned()),
        (Condition::Method, _) => list(&to.methods),
        (Condition::Upgrade, _) => list(&to.upgrades),
        (Condition::Path, _) => list(&to.paths),
        _ => None,
    }
}

fn seen(condition: Condition, situation: &OwnedFacts) -> String {
    let of_workload = |part: fn(&Who) -> Option<String>| {
        fact_text(
            situation
                .caller
                .as_ref()
                .map(|who| part(who).unwrap_or_else(|| who.to_string())),
        )
    };
    let text = match condition {
        Condition::NotExpired => fact_text(situation.now.map(time_text)),
        Condition::Identity => of_workload(|_| None),
        Condition::TrustDomain => of_workload(|who| match who {
            Who::Workload { trust_domain, .. } => Some(trust_domain.clone()),
            _ => None,
        }),
        Condition::Namespace => of_workload(|who| match who {
            Who::Workload { namespace, .. } => Some(namespace.clone()),
            _ => None,
        }),
        Condition::ServiceAccount => of_workload(|who| match who {
            Who::Workload {
                namespace,
                service_account,
                ..
            } => Some(format!("{namespace}/{service_account}")),
            _ => None,
        }),
        Condition::Cluster | Condition::Labels => claims(condition, situation),
        Condition::Name => fact_text(
            situation
                .name
                .as_ref()
                .map(|name| name.as_ref().map_or("no name", Name::as_str)),
        ),
        Condition::Address => match (&situation.name, situation.address) {
            (Fact::Known(Some(name)), Fact::Known(address)) => format!("{name}, at {address}"),
            (_, address) => fact_text(address),
        },
        Condition::Port => fact_text(situation.port),
        Condition::Protocol => situation.protocol.as_str().to_owned(),
        Condition::Method => fact_text(situation.method.as_ref()),
        Condition::Upgrade => fact_text(
            situation
                .upgrade
                .as_ref()
                .map(|token| token.as_deref().unwrap_or("no upgrade")),
        ),
        Condition::Path => fact_text(
            situation
                .path
                .as_ref()
                .map(|path| path.as_deref().unwrap_or("no path")),
        ),
    };
    format!("this is {text}")
}

fn claims(condition: Condition, situation: &OwnedFacts) -> String {
    let text = |metadata: &OwnedClaims| {
        if condition == Condition::Cluster {
            return metadata
                .cluster
                .clone()
                .unwrap_or_else(|| "no cluster".to_owned());
        }
        let labels: Vec<String> = metadata
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if labels.is_empty() {
            "no labels".to_owned()
        } else {
            labels.join(",")
        }
    };
    let contradicts = match (&situation.claims, situation.namespace()) {
        (Fact::Known(metadata), Some(namespace)) => metadata.namespace != namespace,
        (Fact::Known(_), None) => true,
        (Fact::Pending | Fact::Missing, _) => false,
    };
    if contradicts {
        "a claim that the certificate does not cover, so it counts for nothing".to_owned()
    } else {
        fact_text(situation.claims.as_ref().map(text))
    }
}
