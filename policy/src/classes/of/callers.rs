//! Callers, as far as the conditions on Deny networks and whole policies tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use super::MOST_KINDS;
use crate::model::{From, LabelOperator, Policy, ServiceAccount, Source, Workloads};

/// A text, or any that no condition here mentions.
type Word<'p> = Option<&'p str>;

/// A kind of callers.
#[derive(Clone, Debug)]
pub(super) enum Caller<'p> {
    Nobody,
    Workload(std::rc::Rc<Workload<'p>>),
}

#[derive(Clone, Debug)]
pub(super) struct Workload<'p> {
    domain: Word<'p>,
    namespace: Word<'p>,
    account: Word<'p>,
    mentioned: std::rc::Rc<Mentioned<'p>>,
}

/// How a policy regards a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Consulted {
    pub(super) applies: bool,
    /// It is in `shadowWorkloads`, until that expires.
    pub(super) shadow: bool,
}

/// Callers by the conditions that hold or are not known for them, and by how each policy regards
/// them.
pub(super) type Standings<'p> = BTreeMap<(BTreeSet<usize>, Vec<Consulted>), Vec<Caller<'p>>>;

/// What the conditions mention.
#[derive(Debug, Default)]
struct Mentioned<'p> {
    domains: BTreeSet<&'p str>,
    namespaces: BTreeSet<&'p str>,
    accounts: BTreeSet<(&'p str, &'p str)>,
}

impl<'p> Mentioned<'p> {
    fn note(&mut self, namespaces: &'p [String], accounts: &'p [ServiceAccount]) {
        self.namespaces
            .extend(namespaces.iter().map(String::as_str));
        for account in accounts {
            self.namespaces.insert(&account.namespace);
            self.accounts.insert((&account.namespace, &account.name));
        }
    }
}

impl Caller<'_> {
    pub(super) const fn is_workload(&self) -> bool {
        matches!(self, Self::Workload(_))
    }

    /// Whether some of them can be whom a rule is about, whatever they claim.
    pub(super) fn may_be(&self, from: &From) -> bool {
        match (from, self) {
            (From::Anyone, _) => true,
            (From::AnyWorkload, caller) => caller.is_workload(),
            (From::Sources(_), Self::Nobody) => false,
            (From::Sources(sources), Self::Workload(caller)) => {
                sources.iter().any(|source| caller.may_prove(source))
            }
        }
    }
}

impl Workload<'_> {
    fn may_prove(&self, source: &Source) -> bool {
        let domains = &source.trust_domains;
        let domain = domains.is_empty()
            || domains
                .iter()
                .any(|td| among(self.domain, td, &self.mentioned.domains));
        let namespaces = &source.namespaces;
        let namespace = namespaces.is_empty() || namespaces.iter().any(|ns| self.is_in(ns));
        let accounts = &source.service_accounts;
        domain
            && namespace
            && (accounts.is_empty() || accounts.iter().any(|account| self.has(account)))
    }

    fn is_in(&self, namespace: &str) -> bool {
        among(self.namespace, namespace, &self.mentioned.namespaces)
    }

    fn has(&self, account: &ServiceAccount) -> bool {
        let pair = (account.namespace.as_str(), account.name.as_str());
        self.is_in(pair.0)
            && match self.account {
                Some(name) => name == pair.1,
                None => !self.mentioned.accounts.contains(&pair),
            }
    }

    fn listed(&self, workloads: &Workloads) -> bool {
        let mut accounts = workloads.service_accounts.iter();
        workloads.namespaces.iter().any(|ns| self.is_in(ns))
            || accounts.any(|account| self.has(account))
    }
}

fn among(word: Word<'_>, one: &str, mentioned: &BTreeSet<&str>) -> bool {
    match word {
        Some(word) => word == one,
        None => !mentioned.contains(one),
    }
}

/// Every kind; `None` if they are too many.
pub(super) fn standings<'p>(policies: &'p [Policy], froms: &[&'p From]) -> Option<Standings<'p>> {
    let mut mentioned = Mentioned::default();
    for source in froms.iter().copied().flat_map(sources) {
        mentioned.note(&source.namespaces, &source.service_accounts);
        let domains = source.trust_domains.iter();
        mentioned.domains.extend(domains.map(String::as_str));
    }
    for policy in policies {
        let shadow = policy.head.shadow_workloads.iter();
        let shadow = shadow.map(|entry| &entry.workloads);
        for workloads in policy.head.applies_to.iter().chain(shadow) {
            mentioned.note(&workloads.namespaces, &workloads.service_accounts);
        }
    }
    let mentioned = std::rc::Rc::new(mentioned);
    let mut standings = Standings::new();
    let nobody: BTreeSet<usize> = numbers(froms, |from| matches!(from, From::Anyone));
    let consulted: Vec<Consulted> = policies
        .iter()
        .map(|policy| Consulted {
            applies: policy.head.applies_to.is_none(),
            shadow: false,
        })
        .collect();
    standings.insert((nobody, consulted), vec![Caller::Nobody]);
    let domains = mentioned.domains.iter().copied().map(Some).chain([None]);
    let accounts = mentioned.accounts.iter();
    let accounts = accounts.map(|(namespace, name)| (Some(*namespace), Some(*name)));
    let namespaces = mentioned.namespaces.iter();
    let namespaces = namespaces.map(|namespace| (Some(*namespace), None));
    let places: Vec<(Word<'p>, Word<'p>)> =
        accounts.chain(namespaces).chain([(None, None)]).collect();
    for domain in domains {
        for (namespace, account) in &places {
            let workload = Workload {
                domain,
                namespace: *namespace,
                account: *account,
                mentioned: std::rc::Rc::clone(&mentioned),
            };
            let consulted: Vec<Consulted> = policies
                .iter()
                .map(|policy| Consulted {
                    applies: policy
                        .head
                        .applies_to
                        .as_ref()
                        .is_none_or(|workloads| workload.listed(workloads)),
                    shadow: policy
                        .head
                        .shadow_workloads
                        .iter()
                        .any(|entry| workload.listed(&entry.workloads)),
                })
                .collect();
            let claimed = claimed(froms, &workload)?;
            let caller = Caller::Workload(std::rc::Rc::new(workload));
            for froms in claimed {
                let alike = standings.entry((froms, consulted.clone())).or_default();
                alike.push(caller.clone());
            }
            if standings.len() > MOST_KINDS {
                return None;
            }
        }
    }
    Some(standings)
}

fn sources(from: &From) -> &[Source] {
    match from {
        From::Sources(sources) => sources,
        From::Anyone | From::AnyWorkload => &[],
    }
}

fn numbers<T>(all: &[T], wanted: impl Fn(&T) -> bool) -> BTreeSet<usize> {
    let all = all.iter().enumerate();
    all.filter(|(_, one)| wanted(one)).map(|(i, _)| i).collect()
}

/// What one caller can claim, as far as conditions look at it: `None` for a key or cluster is a
/// value that none of them mentions.
#[derive(Clone, Debug, Default)]
struct Claims<'p> {
    /// `None` is no label of the key.
    labels: BTreeMap<&'p str, Option<Word<'p>>>,
    cluster: Word<'p>,
    /// Metadata without a cluster says nothing about it.
    cluster_known: bool,
}

/// The conditions that hold or are not known, for everything that such a caller can claim.
fn claimed<'p>(froms: &[&'p From], workload: &Workload<'_>) -> Option<BTreeSet<BTreeSet<usize>>> {
    let proven: Vec<Vec<&'p Source>> = froms
        .iter()
        .map(|&from| {
            let sources = sources(from).iter();
            sources
                .filter(|source| workload.may_prove(source))
                .collect()
        })
        .collect();
    let anyway = |from: &From| !matches!(from, From::Sources(_));
    let of_claims = |counts: &dyn Fn(&Source) -> bool| -> BTreeSet<usize> {
        let all = froms.iter().zip(&proven).enumerate();
        let holding = all.filter(|(_, (from, sources))| {
            anyway(from) || sources.iter().any(|source| counts(source))
        });
        holding.map(|(i, _)| i).collect()
    };
    // Claims that are not known count as matching.
    let mut found = BTreeSet::from([of_claims(&|_| true)]);
    let (mut keys, mut clusters): (BTreeMap<&str, BTreeSet<&str>>, BTreeSet<&str>) =
        (BTreeMap::new(), BTreeSet::new());
    for source in proven.iter().flatten() {
        clusters.extend(source.clusters.iter().map(String::as_str));
        for (key, value) in &source.match_labels {
            keys.entry(key).or_default().insert(value);
        }
        for expression in &source.match_expressions {
            let values = keys.entry(&expression.key).or_default();
            match &expression.operator {
                LabelOperator::In(listed) | LabelOperator::NotIn(listed) => {
                    values.extend(listed.iter().map(String::as_str));
                }
                LabelOperator::Exists | LabelOperator::DoesNotExist => {}
            }
        }
    }
    let mut all = vec![Claims::default()];
    for cluster in clusters.into_iter().map(Some).chain([None]) {
        all.push(Claims {
            cluster,
            cluster_known: true,
            ..Claims::default()
        });
    }
    for (key, values) in keys {
        let values: Vec<Option<Word<'p>>> = values
            .into_iter()
            .map(|value| Some(Some(value)))
            .chain([Some(None), None])
            .collect();
        if all.len().saturating_mul(values.len()) > MOST_KINDS {
            return None;
        }
        all = all
            .iter()
            .flat_map(|claims| {
                values.iter().map(|value| {
                    let mut claims = claims.clone();
                    claims.labels.insert(key, *value);
                    claims
                })
            })
            .collect();
    }
    found.extend(
        all.iter()
            .map(|claims| of_claims(&|source| claims.may_match(source))),
    );
    Some(found)
}

impl Claims<'_> {
    /// True too where it is not known.
    fn may_match(&self, source: &Source) -> bool {
        let label = |key: &str| self.labels.get(key).copied().flatten();
        let has = |key: &str, value: &str| label(key) == Some(Some(value));
        let labels = source
            .match_labels
            .iter()
            .all(|(key, value)| has(key, value));
        let expressions = source.match_expressions.iter().all(|expression| {
            let key = expression.key.as_str();
            match &expression.operator {
                LabelOperator::In(values) => values.iter().any(|value| has(key, value)),
                LabelOperator::NotIn(values) => !values.iter().any(|value| has(key, value)),
                LabelOperator::Exists => label(key).is_some(),
                LabelOperator::DoesNotExist => label(key).is_none(),
            }
        });
        let cluster = source.clusters.is_empty()
            || !self.cluster_known
            || source
                .clusters
                .iter()
                .any(|one| self.cluster == Some(one.as_str()));
        labels && expressions && cluster
    }
}
