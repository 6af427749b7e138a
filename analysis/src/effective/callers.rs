//! The kinds of workloads that policies name.

use std::collections::BTreeSet;

use egress_policy::facts::Fact;
use egress_policy::model::{LabelExpression, LabelOperator, Policy, Source, Workloads};
use egress_policy::relation::sources;

use crate::bundle::PolicyBundle;
use crate::owned_facts::Who;
use crate::witness::{UNNAMED, labels_for};
use crate::words::source_words;
use egress_policy::facts::OwnedClaims;

/// One kind, by an example.
pub(super) struct Caller {
    /// In words.
    pub(super) words: String,
    pub(super) who: Who,
    pub(super) claims: Fact<OwnedClaims>,
}

/// Every kind that these policies tell apart: what their rules select, whom they are for, whom they hold
/// in shadow, and everybody else.
pub(super) fn callers(layers: &PolicyBundle) -> Vec<Caller> {
    let policies = &layers.policies;
    let heads = policies.iter().map(|policy| &policy.head);
    let trust_domain = heads
        .clone()
        .flat_map(|head| &head.trust_domains)
        .next()
        .map_or("cluster.local", String::as_str);
    let listed = heads.clone().flat_map(|head| {
        let shadow = head.shadow_workloads.iter().map(|shadow| &shadow.workloads);
        head.applies_to.iter().chain(shadow)
    });
    let rules = policies.iter().flat_map(Policy::rules);
    let selected = rules.flat_map(|placed| sources(placed.rule)).flatten();
    let kinds = listed
        .flat_map(of_workloads)
        .chain(selected.flat_map(parts));
    let mut known = BTreeSet::new();
    let mut all: Vec<Caller> = kinds
        .map(|source| Caller {
            words: source_words(&source),
            ..example(&source, trust_domain)
        })
        .filter(|caller| known.insert(caller.words.clone()))
        .collect();
    all.push(Caller {
        words: "every other workload".to_owned(),
        ..example(&Source::default(), trust_domain)
    });
    if policies.iter().any(|policy| policy.head.allow_plaintext) {
        all.push(Caller {
            words: "callers without mTLS".to_owned(),
            who: Who::Plaintext,
            claims: Fact::Missing,
        });
    }
    all
}

fn of_workloads(workloads: &Workloads) -> Vec<Source> {
    let source = Source {
        namespaces: workloads.namespaces.clone(),
        ..Source::default()
    };
    let accounts = Source {
        service_accounts: workloads.service_accounts.clone(),
        ..Source::default()
    };
    let both = [
        (workloads.namespaces.is_empty(), source),
        (workloads.service_accounts.is_empty(), accounts),
    ];
    let named = both.into_iter().filter(|(none, _)| !none);
    named.flat_map(|(_, source)| parts(&source)).collect()
}

/// The kinds of one source: alternatives within it are told apart.
fn parts(source: &Source) -> Vec<Source> {
    let with = |part: &dyn Fn(&mut Source)| {
        let mut one = source.clone();
        part(&mut one);
        one
    };
    let namespaces = source.namespaces.iter();
    let accounts = source.service_accounts.iter();
    let workloads: Vec<Source> = match (source.namespaces.len(), source.service_accounts.len()) {
        (_, 1..) => accounts
            .map(|account| {
                with(&|one| {
                    one.service_accounts = vec![account.clone()];
                    one.namespaces.clear();
                })
            })
            .collect(),
        (1.., 0) => namespaces
            .map(|namespace| with(&|one| one.namespaces = vec![namespace.clone()]))
            .collect(),
        (0, 0) => vec![source.clone()],
    };
    workloads.iter().flat_map(by_value).collect()
}

/// A kind for each value of the first label that may have several.
fn by_value(source: &Source) -> Vec<Source> {
    let several = source.match_expressions.iter().enumerate();
    let mut several = several.filter_map(|(i, one)| match &one.operator {
        LabelOperator::In(values) if values.len() > 1 => Some((i, &one.key, values)),
        _ => None,
    });
    let Some((place, key, values)) = several.next() else {
        return vec![source.clone()];
    };
    let each = values.iter().map(|value| {
        let mut one = source.clone();
        if let Some(expression) = one.match_expressions.get_mut(place) {
            *expression = LabelExpression {
                key: key.clone(),
                operator: LabelOperator::In(vec![value.clone()]),
            };
        }
        one
    });
    each.collect()
}

fn example(source: &Source, trust_domain: &str) -> Caller {
    let account = source.service_accounts.first();
    let namespace = account
        .map(|account| &account.namespace)
        .or(source.namespaces.first());
    let namespace = namespace.map_or(UNNAMED, String::as_str).to_owned();
    let who = Who::Workload {
        trust_domain: source
            .trust_domains
            .first()
            .map_or(trust_domain, String::as_str)
            .to_owned(),
        namespace: namespace.clone(),
        service_account: account.map_or(UNNAMED, |account| &account.name).to_owned(),
    };
    let claims = OwnedClaims {
        namespace,
        cluster: Some(
            source
                .clusters
                .first()
                .map_or(UNNAMED, String::as_str)
                .to_owned(),
        ),
        labels: labels_for(source),
    };
    Caller {
        words: String::new(),
        who,
        claims: Fact::Known(claims),
    }
}
