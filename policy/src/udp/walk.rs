//! The rules of a policy as far as they are about UDP, in order.

use super::Pods;
use super::region::Region;
use crate::facts::Protocol;
use crate::model::{
    DefaultAction, From, Mode, PlacedRule, Policy, Rule, RuleAction, Source, TierDefault, To,
};

/// Whose pods of a namespace a policy is consulted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Everybody,
    /// Those of some service accounts.
    Some,
    Nobody,
}

/// A policy with the steps of its walk.
pub(super) struct Walk<'p> {
    pub(super) policy: &'p Policy,
    pub(super) steps: Vec<Step<'p>>,
}

/// One step: what is enforced and about UDP.
#[derive(Clone, Copy)]
pub(super) enum Step<'p> {
    Rule(PlacedRule<'p>),
    /// A tier's default: what is left is denied.
    Close,
}

/// A part of what a rule is about.
#[derive(Clone)]
pub(super) struct Part<'p> {
    pub(super) of: PlacedRule<'p>,
    pub(super) region: Region,
    /// It is only about some service accounts or clusters.
    pub(super) partly: bool,
}

impl<'p> Walk<'p> {
    pub(super) fn of(policy: &'p Policy) -> Self {
        let tiers = policy.tiers.iter().enumerate();
        let enforced = tiers.filter(|(_, tier)| tier.mode == Mode::Enforce);
        let steps = enforced.flat_map(move |(index, tier)| {
            let about_udp = policy.tier_rules(index).filter(|placed| {
                placed.rule.mode == Mode::Enforce && elements(placed.rule).next().is_some()
            });
            let close = (tier.default == TierDefault::Deny).then_some(Step::Close);
            about_udp.map(Step::Rule).chain(close)
        });
        let steps = steps.collect();
        Self { policy, steps }
    }

    pub(super) fn reach(&self, namespace: &str) -> Reach {
        let Some(workloads) = &self.policy.head.applies_to else {
            return Reach::Everybody;
        };
        let mut accounts = workloads.service_accounts.iter();
        if workloads.namespaces.iter().any(|name| name == namespace) {
            Reach::Everybody
        } else if accounts.any(|account| account.namespace == namespace) {
            Reach::Some
        } else {
            Reach::Nobody
        }
    }

    /// A caller of another trust domain is denied whatever the rules say.
    pub(super) fn trusts(&self, pods: Pods<'_>) -> bool {
        let mut domains = self.policy.head.trust_domains.iter();
        domains.any(|domain| domain == pods.trust_domain)
    }

    /// Whether it can accept what no rule of it is about.
    pub(super) fn accepts_the_rest(&self) -> bool {
        let close = |step: &Step<'_>| matches!(step, Step::Close);
        self.policy.head.default == DefaultAction::Accept && !self.steps.iter().any(close)
    }
}

/// The elements that can match UDP: those that say so.
fn elements(rule: &Rule) -> impl Iterator<Item = &To> {
    rule.to
        .iter()
        .filter(|to| to.protocols().contains(&Protocol::Udp))
}

/// As far as rules are about UDP.
impl<'p> PlacedRule<'p> {
    /// Whether it opens anything for good. A rule that expires does not; and whatever else is
    /// enforced about UDP closes.
    pub(super) fn opens(&self) -> bool {
        self.rule.action == RuleAction::Accept && self.rule.expires.is_none()
    }

    /// Whether it says who by namespaces and labels, and by nothing that the kernel does not know.
    pub(super) fn is_by_labels(&self) -> bool {
        match &self.rule.from {
            From::Anyone | From::AnyWorkload => false,
            From::Sources(sources) => !sources
                .iter()
                .any(|source| source.namespaces.is_empty() || is_narrower(source)),
        }
    }

    /// What it is about, of one namespace.
    pub(super) fn parts(&self, pods: Pods<'_>, namespace: &str) -> Vec<Part<'p>> {
        let rule = self.rule;
        let sources: Vec<Option<&Source>> = match &rule.from {
            From::Anyone | From::AnyWorkload => vec![None],
            From::Sources(sources) => sources.iter().map(Some).collect(),
        };
        let concerned = sources
            .into_iter()
            .filter(|source| source.is_none_or(|source| concerns(source, pods, namespace)));
        let part = |(source, to): (Option<&Source>, &To)| {
            let region = Region::of(source, to)?;
            let partly = source.is_some_and(is_narrower);
            let of = *self;
            Some(Part { of, region, partly })
        };
        concerned
            .flat_map(|source| elements(rule).map(move |to| (source, to)))
            .filter_map(part)
            .collect()
    }

    /// What it takes out, of both families where a form of IPv6 leads to IPv4.
    pub(super) fn cuts(&self, pods: Pods<'_>, namespace: &str) -> Vec<Part<'p>> {
        let mut cuts = self.parts(pods, namespace);
        let translated: Vec<_> = cuts
            .iter()
            .filter_map(|cut| {
                let region = cut.region.in_ipv6()?;
                Some(Part {
                    region,
                    ..cut.clone()
                })
            })
            .collect();
        cuts.extend(translated);
        cuts
    }
}

fn is_narrower(source: &Source) -> bool {
    !(source.service_accounts.is_empty() && source.clusters.is_empty())
}

/// Whether some pod of the namespace can be meant.
fn concerns(source: &Source, pods: Pods<'_>, namespace: &str) -> bool {
    let lists =
        |list: &[String], wanted: &str| list.is_empty() || list.iter().any(|entry| entry == wanted);
    let accounts = &source.service_accounts;
    lists(&source.trust_domains, pods.trust_domain)
        && lists(&source.namespaces, namespace)
        && (accounts.is_empty() || accounts.iter().any(|sa| sa.namespace == namespace))
}
