//! Policies as lists of entries over classes: who and what an entry takes, and what then.

use std::collections::HashSet;
use std::rc::Rc;

use egress_policy::facts::Protocol;
use egress_policy::model::{
    DefaultAction, From, Hosts, LabelOperator, Mode, Policy, Rule, RuleAction, Source, TierDefault,
    To, Workloads,
};
use egress_policy::verdict::Action;

use super::partition::{Dimension, Partition, UNNAMED};
use super::set::Set;
use egress_policy::relation::{destinations, sources};

/// Constraints that must all hold.
pub(crate) type Cond = Vec<(Dimension, Rc<Set>)>;

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect<'p> {
    End(Action<'p>),
    Pass,
}

/// One alternative of a rule, a refusal, or a default.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'p> {
    /// What must hold.
    pub(crate) cond: Cond,
    /// What must hold of claims: unknown where they are missing.
    pub(crate) claims: Cond,
    /// What then.
    pub(crate) effect: Effect<'p>,
    /// How many entries after it are about the same, and do not count where `cond` holds.
    pub(crate) instead_of: usize,
}

/// One policy.
#[derive(Clone, Debug)]
pub(crate) struct CompiledPolicy<'p> {
    /// Whom it is for; `None` is everybody.
    pub(crate) applies: Option<Cond>,
    /// Entries by tier; the last tier is the policy's default.
    pub(crate) tiers: Vec<Vec<Entry<'p>>>,
}

/// Whether shadow is lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// What is enforced.
    Enforced,
    /// What would be without shadow.
    Lifted,
}

/// Builds entries over one partition.
pub(crate) struct Compiler<'u> {
    pub(crate) partition: &'u Partition,
    pub(crate) view: View,
}

impl<'p> Compiler<'_> {
    /// A policy, of whose rules only those count for which `relevant` holds.
    pub(crate) fn policy(
        &self,
        policy: &'p Policy,
        relevant: impl Fn(&Rule) -> bool,
    ) -> CompiledPolicy<'p> {
        let mut tiers = vec![self.refusals(policy)];
        for tier in &policy.tiers {
            if tier.mode == Mode::Shadow && self.view == View::Enforced {
                continue;
            }
            let mut entries = Vec::new();
            for rule in tier.rules.iter().filter(|rule| relevant(rule)) {
                if rule.mode == Mode::Enforce || self.view == View::Lifted {
                    self.rule(policy, rule, &mut entries);
                }
            }
            match tier.default {
                TierDefault::Pass => entries.push(entry(Vec::new(), Effect::Pass)),
                TierDefault::Deny => self.deny(policy, Vec::new(), Vec::new(), &mut entries),
            }
            tiers.push(entries);
        }
        let mut last = Vec::new();
        match policy.head.default {
            DefaultAction::Deny => self.deny(policy, Vec::new(), Vec::new(), &mut last),
            DefaultAction::Accept => {
                self.open(Action::Accept, Vec::new(), Vec::new(), false, &mut last);
            }
        }
        tiers.push(last);
        let applies = policy.head.applies_to.as_ref();
        CompiledPolicy {
            applies: applies.map(|workloads| self.workloads(workloads)),
            tiers,
        }
    }

    fn refusals(&self, policy: &'p Policy) -> Vec<Entry<'p>> {
        let partition = self.partition;
        let mut entries = Vec::new();
        let denied = Effect::End(Action::Deny);
        if !policy.head.allow_plaintext {
            let plaintext = Rc::new(Set::of(3, |kind| kind == PLAINTEXT));
            entries.push(entry(vec![(Dimension::Kind, plaintext)], denied));
        }
        let foreign = partition.texts(&Dimension::TrustDomain, |td| {
            policy.head.trust_domains.iter().all(|listed| listed != td)
        });
        entries.push(entry(
            vec![
                (Dimension::Kind, workload()),
                (Dimension::TrustDomain, foreign),
            ],
            denied,
        ));
        entries.push(entry(Vec::new(), Effect::Pass));
        entries
    }

    fn workloads(&self, workloads: &Workloads) -> Cond {
        let (namespaces, accounts) = (&workloads.namespaces, &workloads.service_accounts);
        let accounts = self.partition.accounts(namespaces, accounts, false);
        vec![
            (Dimension::Kind, workload()),
            (Dimension::Account, accounts),
        ]
    }

    fn rule(&self, policy: &'p Policy, rule: &'p Rule, entries: &mut Vec<Entry<'p>>) {
        let mut alternatives: Vec<Alternative<'p>> = Vec::new();
        for source in sources(rule) {
            let (who, claims) = self.source(rule, source);
            for to in destinations(rule) {
                for place in self.to(to, rule.action == RuleAction::Deny) {
                    let cond = [who.clone(), place].concat();
                    let ways = self.held(policy, rule, to, cond).into_iter();
                    alternatives.extend(ways.map(|cond| Alternative {
                        cond,
                        claims: claims.clone(),
                        to,
                    }));
                }
            }
        }
        // An element that matches and says `allowPrivate` lifts the guard for the whole rule.
        alternatives.sort_by_key(|one| !one.to.is_some_and(|to| to.allow_private));
        for one in &alternatives {
            let exempt = one.to.is_some_and(|to| to.allow_private);
            let (mut cond, claims) = (one.cond.clone(), one.claims.clone());
            if let Some(to) = one.to.filter(|to| !to.paths.is_empty()) {
                cond.push((Dimension::Path, self.partition.paths(&to.paths)));
            }
            match &rule.action {
                RuleAction::Accept => self.open(Action::Accept, cond, claims, exempt, entries),
                RuleAction::Inspect(proxy) => {
                    self.open(Action::Inspect(proxy), cond, claims, exempt, entries);
                }
                RuleAction::Deny => self.deny(policy, cond, claims, entries),
                RuleAction::Pass => entries.push(Entry {
                    cond,
                    claims,
                    effect: Effect::Pass,
                    instead_of: 0,
                }),
            }
        }
        for one in alternatives {
            if one.to.is_some_and(|to| !to.paths.is_empty()) {
                let mut cond = one.cond;
                cond.push((Dimension::Path, self.partition.malformed_paths()));
                entries.push(Entry {
                    cond,
                    claims: one.claims,
                    effect: Effect::End(Action::Deny),
                    instead_of: 0,
                });
            }
        }
    }

    /// Whom an element holds: where names lead, Deny networks do not hold workloads in shadow.
    fn held(&self, policy: &Policy, rule: &Rule, to: Option<&To>, cond: Cond) -> Vec<Cond> {
        let networks = to.is_some_and(|to| matches!(to.hosts, Hosts::Networks(_)));
        let shadows = &policy.head.shadow_workloads;
        let all_alike = self.view == View::Lifted || shadows.is_empty();
        if rule.action != RuleAction::Deny || !networks || all_alike {
            return vec![cond];
        }
        let partition = self.partition;
        let not = |dim: Dimension, set: &Set| (dim, Rc::new(set.complement()));
        let mut literal = cond.clone();
        literal.push((Dimension::Name, partition.named(false)));
        let mut named = cond;
        named.push((Dimension::Name, partition.named(true)));
        let mut ways = vec![named];
        for shadow in shadows {
            let ended = not(Dimension::Time, &partition.before(shadow.expires));
            let unlisted = self.workloads(&shadow.workloads).into_iter();
            let out: Vec<(Dimension, Rc<Set>)> = unlisted
                .map(|(dim, set)| not(dim, &set))
                .chain([ended])
                .collect();
            let each = |way: &Cond| -> Vec<Cond> {
                let with = |one: &(Dimension, Rc<Set>)| [way.clone(), vec![one.clone()]].concat();
                out.iter().map(with).collect()
            };
            ways = ways.iter().flat_map(each).collect();
        }
        ways.push(literal);
        ways
    }

    /// Everything that one alternative of a rule can touch, malformed paths included.
    pub(crate) fn reach(&self, rule: &Rule, source: Option<&Source>, to: Option<&To>) -> Vec<Cond> {
        let (who, _) = self.source(rule, source);
        let mut reached = Vec::new();
        for mut place in self.to(to, rule.action == RuleAction::Deny) {
            if let Some(to) = to.filter(|to| !to.paths.is_empty()) {
                let paths = self.partition.paths(&to.paths);
                let malformed = self.partition.malformed_paths();
                place.push((Dimension::Path, Rc::new(paths.or(&malformed))));
            }
            reached.push([who.clone(), place].concat());
        }
        reached
    }

    /// The proven part and the claimed part of a source.
    pub(crate) fn source(&self, rule: &Rule, source: Option<&Source>) -> (Cond, Cond) {
        let partition = self.partition;
        let mut cond = Vec::new();
        let mut claims = Vec::new();
        if let Some(expires) = rule.expires {
            cond.push((Dimension::Time, partition.before(expires)));
        }
        if rule.from == From::Anyone {
            return (cond, claims);
        }
        cond.push((Dimension::Kind, workload()));
        let Some(source) = source else {
            return (cond, claims);
        };
        if !source.trust_domains.is_empty() {
            let listed = texts(&source.trust_domains);
            let set = partition.texts(&Dimension::TrustDomain, |td| listed.contains(td));
            cond.push((Dimension::TrustDomain, set));
        }
        let (namespaces, accounts) = (&source.namespaces, &source.service_accounts);
        if !(namespaces.is_empty() && accounts.is_empty()) {
            let both = !namespaces.is_empty() && !accounts.is_empty();
            let set = partition.accounts(namespaces, accounts, both);
            cond.push((Dimension::Account, set));
        }
        if !source.clusters.is_empty() {
            let listed = texts(&source.clusters);
            let set = partition.texts(&Dimension::Cluster, |cluster| listed.contains(cluster));
            claims.push((Dimension::Cluster, set));
        }
        for (key, value) in &source.match_labels {
            let dim = Dimension::Label(key.clone());
            let set = partition.optional(&dim, |found| found == Some(value));
            claims.push((dim, set));
        }
        for expression in &source.match_expressions {
            let dim = Dimension::Label(expression.key.clone());
            let listed = match &expression.operator {
                LabelOperator::In(values) | LabelOperator::NotIn(values) => texts(values),
                LabelOperator::Exists | LabelOperator::DoesNotExist => HashSet::new(),
            };
            let set = partition.optional(&dim, |found| match &expression.operator {
                LabelOperator::In(_) => found.is_some_and(|found| listed.contains(found)),
                LabelOperator::NotIn(_) => found.is_none_or(|found| !listed.contains(found)),
                LabelOperator::Exists => found.is_some(),
                LabelOperator::DoesNotExist => found.is_none(),
            });
            claims.push((dim, set));
        }
        (cond, claims)
    }

    /// The alternatives of an element without its paths: HTTP, where CONNECT and upgrades count,
    /// and what is not HTTP.
    fn to(&self, to: Option<&To>, deny: bool) -> Vec<Cond> {
        let partition = self.partition;
        let mut common = Vec::new();
        let mut carried = vec![Protocol::Http, Protocol::Tls, Protocol::Tcp];
        let mut request = Vec::new();
        let (mut methods, mut upgrades): (&[String], &[String]) = (&[], &[]);
        if let Some(to) = to {
            self.place(&to.hosts, deny, &mut common);
            if !to.ports.is_any() {
                common.push((Dimension::Port, partition.ports_in(&to.ports)));
            }
            if !to.protocols.is_empty() {
                carried.clone_from(&to.protocols);
            }
            if to.compares_requests() {
                carried = vec![Protocol::Http];
            }
            (methods, upgrades) = (&to.methods, &to.upgrades);
        }
        if !methods.is_empty() {
            let set = partition.texts(&Dimension::Method, |method| {
                methods.iter().any(|m| m == method)
            });
            request.push((Dimension::Method, set));
        } else if !deny {
            request.push((
                Dimension::Method,
                partition.texts(&Dimension::Method, |m| m != "CONNECT"),
            ));
        }
        if !upgrades.is_empty() {
            let set = partition.optional(&Dimension::Upgrade, |token| {
                token.is_some_and(|token| upgrades.iter().any(|u| u == token))
            });
            request.push((Dimension::Upgrade, set));
        } else if !deny {
            request.push((
                Dimension::Upgrade,
                partition.optional(&Dimension::Upgrade, |token| token.is_none()),
            ));
        }
        let mut alternatives = Vec::new();
        if carried.contains(&Protocol::Http) {
            let http = partition.protocols(|protocol| protocol == Protocol::Http);
            alternatives
                .push([common.clone(), vec![(Dimension::Protocol, http)], request].concat());
        }
        carried.retain(|protocol| *protocol != Protocol::Http);
        if !carried.is_empty() {
            let rest = partition.protocols(|protocol| carried.contains(&protocol));
            alternatives.push([common, vec![(Dimension::Protocol, rest)]].concat());
        }
        alternatives
    }

    pub(crate) fn place(&self, place: &Hosts, deny: bool, cond: &mut Cond) {
        match place {
            Hosts::Anywhere => {}
            Hosts::Names(patterns) => {
                cond.push((Dimension::Name, self.partition.names_under(patterns)));
            }
            Hosts::Networks(networks) => {
                if !deny {
                    cond.push((Dimension::Name, self.partition.named(false)));
                }
                let inside = self.partition.addresses_in(networks, deny);
                cond.push((Dimension::Address, inside));
            }
        }
    }

    /// What opens, under the guard over the addresses behind names.
    fn open(
        &self,
        action: Action<'p>,
        cond: Cond,
        claims: Cond,
        exempt: bool,
        entries: &mut Vec<Entry<'p>>,
    ) {
        let mut guarded = cond.clone();
        guarded.push((Dimension::Name, self.partition.named(true)));
        guarded.push((Dimension::Address, self.partition.refused(exempt)));
        entries.push(Entry {
            cond: guarded,
            claims: claims.clone(),
            effect: Effect::End(Action::Deny),
            instead_of: 0,
        });
        entries.push(Entry {
            cond,
            claims,
            effect: Effect::End(action),
            instead_of: 0,
        });
    }

    /// What denies, and only reports for workloads in shadow.
    fn deny(&self, policy: &'p Policy, cond: Cond, claims: Cond, entries: &mut Vec<Entry<'p>>) {
        if self.view == View::Enforced {
            let shadows = &policy.head.shadow_workloads;
            for (i, shadow) in shadows.iter().enumerate() {
                let mut through = cond.clone();
                through.extend(self.workloads(&shadow.workloads));
                through.push((Dimension::Time, self.partition.before(shadow.expires)));
                let ordinary = Rc::new(self.partition.refused(false).complement());
                through.push((Dimension::Address, ordinary));
                entries.push(Entry {
                    cond: through,
                    claims: claims.clone(),
                    effect: Effect::End(Action::Accept),
                    instead_of: shadows.len() - i,
                });
            }
        }
        entries.push(Entry {
            cond,
            claims,
            effect: Effect::End(Action::Deny),
            instead_of: 0,
        });
    }
}

struct Alternative<'p> {
    cond: Cond,
    claims: Cond,
    to: Option<&'p To>,
}

const fn entry(cond: Cond, effect: Effect<'_>) -> Entry<'_> {
    Entry {
        cond,
        claims: Vec::new(),
        effect,
        instead_of: 0,
    }
}

/// The class of callers with an identity.
pub(crate) const WORKLOAD: usize = 0;
/// The class of callers with TLS and without an identity.
pub(crate) const NO_CERTIFICATE: usize = 1;
/// The class of callers without TLS.
pub(crate) const PLAINTEXT: usize = 2;

/// Callers with an identity.
fn workload() -> Rc<Set> {
    Rc::new(Set::of(3, |kind| kind == WORKLOAD))
}

fn texts(listed: &[String]) -> HashSet<&str> {
    listed.iter().map(String::as_str).collect()
}

/// A fresh text for what no condition names.
pub(crate) const fn fresh() -> &'static str {
    UNNAMED
}
