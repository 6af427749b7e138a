//! Requests that a rule sends by way of an inspection proxy and the gateway in TLS of its own.
//!
//! Where a destination has `tls`, its requests leave by a cluster that speaks TLS. An Inspect rule
//! that comes to decide about them can give them to no inspection proxy, so they are denied, although
//! rule and engine say Inspect.

use crate::facts::Protocol;
use crate::model::{From, Hosts, PlacedRule, Policy, RuleAction, Source, To};
use crate::name::NamePattern;
use crate::relation::patterns_meet;

/// What to write instead.
pub const IN_TLS_HINT: &str = "write `protocols: [TLS]`, which leaves it the application's own TLS, or put \
                               it behind the rule whose destination has `tls`";

/// An Inspect rule that takes requests which the gateway sends in TLS of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTls {
    /// The policy's place in the order.
    pub policy: usize,
    /// The tier's in the policy.
    pub tier: usize,
    /// The rule's in the tier.
    pub rule: usize,
    /// `policy/tier/rule`.
    pub id: String,
    /// The first of the names that it takes, as the destination with `tls` has it.
    pub name: NamePattern,
    /// The rule with that destination.
    pub other: String,
}

impl InTls {
    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> String {
        format!(
            "it takes requests to `{}`, which the gateway sends in TLS of its own for `{}`: no inspection proxy \
             gets these, they are denied",
            self.name, self.other
        )
    }
}

/// Every such rule of these policies, which are all of one gateway. Conditions beside callers,
/// names and ports are not compared.
#[must_use]
pub fn inspected_in_tls(policies: &[Policy]) -> Vec<InTls> {
    // With the policy's place in the order.
    let rules = policies.iter().enumerate();
    let rules: Vec<(usize, PlacedRule<'_>)> = rules
        .flat_map(|(p, policy)| policy.rules().map(move |rule| (p, rule)))
        .collect();
    let originating: Vec<_> = rules
        .iter()
        .filter(|(_, placed)| !matches!(placed.rule.action, RuleAction::Deny))
        .flat_map(|(p, placed)| placed.rule.to.iter().map(move |to| (*p, placed, to)))
        .filter(|(_, _, to)| to.tls.is_some())
        .collect();
    let at = |p: usize, placed: &PlacedRule<'_>| (p, placed.tier_index, placed.rule_index);
    let inspecting = rules
        .iter()
        .filter(|(_, placed)| matches!(placed.rule.action, RuleAction::Inspect(_)));
    inspecting
        .filter_map(|(p, placed)| {
            let (index, rule) = (placed.rule_index, placed.rule);
            let (_, other, to) = originating.iter().find(|(q, opens, to)| {
                // Within a policy the first rule decides, between policies the stricter one.
                (at(*p, placed) < at(*q, opens) || p != q)
                    && meet(&rule.from, &opens.rule.from)
                    && (rule.to.is_empty() || rule.to.iter().any(|own| takes(own, to)))
            })?;
            let Hosts::Names(names) = &to.hosts else {
                return None;
            };
            Some(InTls {
                policy: *p,
                tier: placed.tier_index,
                rule: index,
                id: placed.basis().to_string(),
                name: names.first()?.clone(),
                other: other.basis().to_string(),
            })
        })
        .collect()
}

/// Whether an element takes requests to a destination with `tls`.
fn takes(own: &To, to: &To) -> bool {
    let http = own.protocols.is_empty() || own.protocols.contains(&Protocol::Http);
    let names = match (&own.hosts, &to.hosts) {
        (Hosts::Anywhere, _) => true,
        (Hosts::Names(own), Hosts::Names(names)) => own
            .iter()
            .any(|one| names.iter().any(|name| patterns_meet(one, name))),
        // Networks open only what has no name.
        _ => false,
    };
    http && names && own.ports.intersect(&to.ports).is_some()
}

/// Whether one caller may match both.
fn meet(one: &From, other: &From) -> bool {
    let (From::Sources(one), From::Sources(other)) = (one, other) else {
        return true;
    };
    one.iter()
        .any(|one| other.iter().any(|other| together(one, other)))
}

fn together(one: &Source, other: &Source) -> bool {
    let namespaces = |source: &Source| -> Vec<String> {
        let accounts = source.service_accounts.iter();
        let accounts = accounts.map(|account| account.namespace.clone());
        source.namespaces.iter().cloned().chain(accounts).collect()
    };
    let (first, second) = (namespaces(one), namespaces(other));
    let share =
        first.is_empty() || second.is_empty() || first.iter().any(|one| second.contains(one));
    let contrary = one.match_labels.iter().any(|(key, value)| {
        let mut labels = other.match_labels.iter();
        labels.any(|(other, wanted)| other == key && wanted != value)
    });
    share && !contrary
}
