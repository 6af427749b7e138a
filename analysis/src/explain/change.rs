//! What a fact that is not known yet, or only assumed, would change.

use std::collections::BTreeMap;
use std::net::IpAddr;

use egress_policy::PolicySet;
use egress_policy::facts::Fact;
use egress_policy::model::Rule;
use egress_policy::reference::{Truth, trace};
use egress_policy::settings::AddressCheck;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::bundle::PolicyBundle;
use crate::decision::{VerdictWord, WrittenDecidedBy, verdict_word};
use crate::owned_facts::OwnedFacts;
use crate::witness::{complete, public_addresses};
use egress_policy::facts::OwnedClaims;
use egress_policy::relation::{destinations, sources};

/// Most changes that are worked out.
const MAX_CHANGES: usize = 12;

/// Most sets of addresses that are looked at.
const MAX_ADDRESSES: usize = 1_000;

/// One way in which unknown or assumed facts could turn out, and the verdict then.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Change {
    /// The facts that would be known, and their values in words.
    #[serde(rename = "facts", serialize_with = "as_mapping")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub known: Vec<(&'static str, String)>,
    /// The verdict in one word.
    pub verdict: VerdictWord,
    /// What decides it and why.
    #[serde(flatten)]
    pub decided_by: WrittenDecidedBy,
}

/// Facts and their values as a mapping, in their order.
fn as_mapping<S: Serializer>(
    known: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(known.iter().map(|(fact, value)| (fact, value)))
}

/// Ways in which unknown facts, and the address behind a name, could turn out. One for each
/// verdict and rule that can come of it. With `any_address` the address that is known is only an
/// example.
pub(super) fn changes(
    layers: &PolicyBundle,
    set: &PolicySet,
    situation: &OwnedFacts,
    any_address: bool,
) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    if situation.refused.is_some() {
        return changes;
    }
    let now = describe(situation, situation, set);
    let mut add = |candidate: &OwnedFacts| {
        let change = describe(situation, candidate, set);
        let same = |other: &Change| {
            (other.verdict, &other.decided_by) == (change.verdict, &change.decided_by)
        };
        if !change.known.is_empty() && !same(&now) && !changes.iter().any(same) {
            changes.push(change);
        }
        changes.len() < MAX_CHANGES
    };
    for candidate in candidates(layers, situation, any_address) {
        if !add(&candidate) {
            break;
        }
    }
    changes
}

fn candidates(layers: &PolicyBundle, situation: &OwnedFacts, any_address: bool) -> Vec<OwnedFacts> {
    let addresses = public_addresses(&layers.policies);
    let ordinary = addresses.first().copied();
    let mut found = Vec::new();
    for rule in undecided_rules(layers, situation) {
        for source in sources(rule) {
            for to in destinations(rule) {
                let mut candidate = situation.clone();
                complete(&mut candidate, source, to, rule);
                resolve_pending(&mut candidate, layers, ordinary);
                found.push(candidate);
            }
        }
    }
    let mut resolved = situation.clone();
    resolve_pending(&mut resolved, layers, ordinary);
    let at = |facts: &OwnedFacts, address: IpAddr| OwnedFacts {
        address: Fact::Known(address),
        ..facts.clone()
    };
    found.push(resolved.clone());
    if matches!(situation.name, Fact::Known(Some(_))) {
        let private = IpAddr::from([10, 0, 0, 1]);
        let both = [Some(private), ordinary].into_iter().flatten();
        found.extend(both.map(|address| at(situation, address)));
    }
    let is_open = any_address || !matches!(situation.address, Fact::Known(_));
    if is_open && !is_classed(situation, layers) {
        let all = addresses.into_iter().take(MAX_ADDRESSES);
        found.extend(all.map(|address| at(&resolved, address)));
    }
    found
}

/// Rules that the unknown leaves open, and Deny rules over the address behind a name.
fn undecided_rules<'p>(layers: &'p PolicyBundle, situation: &OwnedFacts) -> Vec<&'p Rule> {
    let traces = situation.with_facts(|facts| trace(&layers.policies, layers.settings, facts));
    let mut found = Vec::new();
    for (policy, trace) in layers.policies.iter().zip(&traces) {
        let rules = policy.rules().map(|placed| placed.rule);
        let considered = trace
            .considered
            .iter()
            .filter(|one| matches!(one.step, egress_policy::reference::Step::Rule { .. }));
        for (rule, considered) in rules.zip(considered) {
            if matches!(considered.truth, Truth::Unknown { .. }) || !considered.held.is_empty() {
                found.push(rule);
            }
        }
    }
    found.truncate(200);
    found
}

/// Where a name may lead is its class's business: no address has to be supposed.
fn is_classed(situation: &OwnedFacts, layers: &PolicyBundle) -> bool {
    matches!(situation.name, Fact::Known(Some(_)))
        && layers.settings.address_check == AddressCheck::Classes
}

/// Gives what is still unknown its most ordinary value.
fn resolve_pending(situation: &mut OwnedFacts, layers: &PolicyBundle, ordinary: Option<IpAddr>) {
    if !matches!(situation.claims, Fact::Known(_)) {
        situation.claims = Fact::Known(OwnedClaims {
            namespace: situation.namespace().unwrap_or_default().to_owned(),
            cluster: None,
            labels: Vec::new(),
        });
    }
    if !is_classed(situation, layers)
        && !matches!(situation.address, Fact::Known(_))
        && let Some(address) = ordinary
    {
        situation.address = Fact::Known(address);
    }
}

fn describe(before: &OwnedFacts, after: &OwnedFacts, set: &PolicySet) -> Change {
    let evaluation = after.with_facts(|facts| set.evaluate(facts));
    let mut known: Vec<(&'static str, String)> = Vec::new();
    let (old, new) = (before.to_json(), after.to_json());
    for fact in [
        "caller", "claims", "name", "address", "port", "method", "path", "upgrade", "time",
    ] {
        let value = new.get(fact);
        if old.get(fact) != value
            && let Some(value) = value
        {
            known.push((fact, short(value)));
        }
    }
    Change {
        known,
        verdict: verdict_word(&evaluation),
        decided_by: (&evaluation).into(),
    }
}

/// A fact's value without JSON's quotes; of claims, the labels.
fn short(value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let Some(labels) = value.get("labels").and_then(Value::as_object) else {
        return value.to_string();
    };
    let labels: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if labels.is_empty() {
        "no labels".to_owned()
    } else {
        labels.join(",")
    }
}
