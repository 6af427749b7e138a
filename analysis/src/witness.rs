//! Facts made to fit a rule's conditions: what an unknown fact could turn out to be.

mod public;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::{Hosts, LabelOperator, Rule, RuleAction, ServiceAccount, Source, To};
use egress_policy::name::{Name, NamePattern};
use egress_policy::path::PathPattern;

use crate::owned_facts::{OwnedFacts, Who};
use egress_policy::facts::OwnedClaims;

pub(crate) use public::address_in;
pub use public::{ordinary_address, public_addresses};

/// A text that no policy writes.
pub(crate) const UNNAMED: &str = "zz-any-other";

/// Fills what is unknown so that this alternative of the rule holds, as far as what is known
/// allows. Facts that the alternative does not ask for stay as they are.
pub fn complete(situation: &mut OwnedFacts, source: Option<&Source>, to: Option<&To>, rule: &Rule) {
    if let Some(source) = source {
        fit_source(situation, source);
    }
    if let Some(to) = to {
        fit_to(situation, to, rule.action == RuleAction::Deny);
    }
    if let (Fact::Pending | Fact::Missing, Some(expires)) = (situation.now, rule.expires) {
        situation.now = Fact::Known(expires.saturating_sub(1));
    }
}

fn fit_source(situation: &mut OwnedFacts, source: &Source) {
    if !matches!(situation.caller, Fact::Known(_)) {
        let account = source.service_accounts.first();
        let of_account = |part: fn(&ServiceAccount) -> &String| account.map(part).cloned();
        situation.caller = Fact::Known(Who::Workload {
            trust_domain: source
                .trust_domains
                .first()
                .cloned()
                .unwrap_or_else(|| "cluster.local".to_owned()),
            namespace: of_account(|sa| &sa.namespace)
                .or_else(|| source.namespaces.first().cloned())
                .unwrap_or_else(|| UNNAMED.to_owned()),
            service_account: of_account(|sa| &sa.name).unwrap_or_else(|| "default".to_owned()),
        });
    }
    let wants_claims = source.uses_claims();
    if wants_claims && !matches!(situation.claims, Fact::Known(_)) {
        situation.claims = Fact::Known(OwnedClaims {
            namespace: situation.namespace().unwrap_or_default().to_owned(),
            cluster: source.clusters.first().cloned(),
            labels: labels_for(source),
        });
    }
}

/// Labels that satisfy the source.
#[must_use]
pub fn labels_for(source: &Source) -> Vec<(String, String)> {
    let mut labels = source.match_labels.clone();
    for expression in &source.match_expressions {
        if labels.iter().any(|(key, _)| *key == expression.key) {
            continue;
        }
        match &expression.operator {
            LabelOperator::In(values) => {
                labels.extend(values.first().map(|v| (expression.key.clone(), v.clone())));
            }
            LabelOperator::Exists => labels.push((expression.key.clone(), UNNAMED.to_owned())),
            LabelOperator::NotIn(_) | LabelOperator::DoesNotExist => {}
        }
    }
    labels
}

fn fit_to(situation: &mut OwnedFacts, to: &To, deny: bool) {
    match &to.hosts {
        Hosts::Anywhere => {}
        Hosts::Names(patterns) => {
            if !matches!(situation.name, Fact::Known(_)) {
                situation.name = Fact::Known(patterns.first().and_then(name_under));
            }
        }
        Hosts::Networks(networks) => {
            if !deny && !matches!(situation.name, Fact::Known(_)) {
                situation.name = Fact::Known(None);
            }
            if !matches!(situation.address, Fact::Known(_)) {
                situation.address = address_in(networks).map_or(situation.address, Fact::Known);
            }
        }
    }
    if !matches!(situation.port, Fact::Known(_)) {
        let first = to.ports.ranges().next().map(|range| *range.start());
        situation.port = Fact::Known(first.unwrap_or(443));
    }
    if situation.protocol == Protocol::Http {
        if !matches!(situation.method, Fact::Known(_)) {
            let method = to.methods.first().map_or("GET", String::as_str);
            situation.method = Fact::Known(method.to_owned());
        }
        if !matches!(situation.upgrade, Fact::Known(_)) {
            situation.upgrade = Fact::Known(to.upgrades.first().cloned());
        }
    }
}

/// A name that the pattern matches.
#[must_use]
pub fn name_under(pattern: &NamePattern) -> Option<Name> {
    let text = match pattern {
        NamePattern::Exact(name) => return Some(name.clone()),
        NamePattern::Suffix(base) | NamePattern::OneBelow(base) => format!("{UNNAMED}.{base}"),
        NamePattern::Glob(glob) => {
            let labels: Vec<String> = glob
                .labels
                .iter()
                .map(|label| {
                    if label.parts.iter().all(|part| part.is_empty()) {
                        UNNAMED.to_owned()
                    } else {
                        label.parts.join("x")
                    }
                })
                .collect();
            let front = if glob.any_depth {
                format!("{UNNAMED}.")
            } else {
                String::new()
            };
            format!("{front}{}", labels.join("."))
        }
    };
    Name::parse(text.as_bytes()).ok()
}

/// A path that the pattern matches.
#[must_use]
pub fn path_under(pattern: &PathPattern) -> Option<String> {
    let mut path = pattern.as_str().replace("**", "zz").replace('*', "zz");
    while let Some((before, rest)) = path.split_once('{') {
        let (alternatives, after) = rest.split_once('}')?;
        let first = alternatives.split(',').next().unwrap_or_default();
        path = format!("{before}{first}{after}");
    }
    pattern.matches(&path).then_some(path)
}
