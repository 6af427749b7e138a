//! The classes that conditions induce: for every fact, values that no condition tells apart stand
//! as one.
//!
//! For names and paths some classes may be empty (a combination of globs that nothing matches).
//! Comparing them all the same is sound: a difference counts only with a witness.

mod addresses;
mod names;
mod paths;

use std::collections::{BTreeMap, BTreeSet};

use egress_policy::facts::Protocol;
use egress_policy::model::{Hosts, LabelOperator, Networks, Source, To};
use egress_policy::name::NamePattern;
use egress_policy::path::PathPattern;

pub(super) use addresses::AddressAtom;
pub(super) use names::NameAtom;
pub(super) use paths::PathAtom;

use super::set::Set;
use addresses::address_atoms;
use names::name_atoms;
use paths::path_atoms;

/// A value that no policy writes.
pub(super) const UNNAMED: &str = "zz9-other";
/// Most globs whose combinations are written out.
const MAX_GLOBS: usize = 6;

/// One fact that conditions look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Dimension {
    Kind,
    TrustDomain,
    Account,
    Claims,
    Cluster,
    Label(String),
    Protocol,
    Name,
    Address,
    Port,
    Method,
    Upgrade,
    Path,
    Time,
}

/// What is behind the classes of a fact.
#[derive(Clone, Debug)]
pub(super) enum Classes {
    /// Workload, no certificate, plaintext.
    Kinds,
    /// Known, missing.
    Claims,
    Texts(Vec<String>),
    /// `None` is a label that is absent, an upgrade that is not asked for.
    Optional(Vec<Option<String>>),
    Accounts(Vec<(String, String)>),
    Protocols,
    Names(Vec<NameAtom>),
    Addresses(Vec<AddressAtom>),
    Ports(Vec<(u16, u16)>),
    Paths(Vec<PathAtom>),
    /// Seconds, the first moment of each interval.
    Times(Vec<i64>),
}

/// All classes.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    pub(super) dims: BTreeMap<Dimension, Classes>,
    name_globs: Vec<NamePattern>,
    path_globs: Vec<PathPattern>,
    /// Globs beyond the bound: what they decide is not compared.
    pub(super) too_many_globs: bool,
}

/// Collects the conditions that a comparison can meet.
#[derive(Default)]
pub(super) struct Collector<'p> {
    pub(super) trust_domains: BTreeSet<&'p str>,
    pub(super) namespaces: BTreeSet<&'p str>,
    pub(super) accounts: BTreeSet<(&'p str, &'p str)>,
    clusters: BTreeSet<&'p str>,
    labels: BTreeMap<&'p str, BTreeSet<&'p str>>,
    names: BTreeSet<&'p NamePattern>,
    networks: Vec<&'p Networks>,
    ports: BTreeSet<(u16, u16)>,
    methods: BTreeSet<&'p str>,
    upgrades: BTreeSet<&'p str>,
    paths: BTreeMap<&'p str, &'p PathPattern>,
    pub(super) times: BTreeSet<i64>,
}

impl<'p> Collector<'p> {
    pub(super) fn source(&mut self, source: &'p Source) {
        self.trust_domains
            .extend(source.trust_domains.iter().map(String::as_str));
        self.namespaces
            .extend(source.namespaces.iter().map(String::as_str));
        for account in &source.service_accounts {
            self.accounts.insert((&account.namespace, &account.name));
        }
        self.clusters
            .extend(source.clusters.iter().map(String::as_str));
        for (key, value) in &source.match_labels {
            self.labels.entry(key).or_default().insert(value);
        }
        for expression in &source.match_expressions {
            let values = self.labels.entry(&expression.key).or_default();
            match &expression.operator {
                LabelOperator::In(listed) | LabelOperator::NotIn(listed) => {
                    values.extend(listed.iter().map(String::as_str));
                }
                LabelOperator::Exists | LabelOperator::DoesNotExist => {}
            }
        }
    }

    pub(super) fn to(&mut self, to: &'p To) {
        match &to.hosts {
            Hosts::Anywhere => {}
            Hosts::Names(patterns) => self.names.extend(patterns.iter()),
            Hosts::Networks(networks) => self.networks.push(networks),
        }
        self.ports.extend(
            to.ports
                .ranges()
                .map(|range| (*range.start(), *range.end())),
        );
        self.methods.extend(to.methods.iter().map(String::as_str));
        self.upgrades.extend(to.upgrades.iter().map(String::as_str));
        self.paths
            .extend(to.paths.iter().map(|path| (path.as_str(), path)));
    }

    /// The classes of everything that was collected, from `now` on.
    pub(super) fn finish(self, now: i64) -> Partition {
        let fresh_after = |texts: &BTreeSet<&str>| -> Vec<String> {
            let known = texts.iter().map(|text| (*text).to_owned());
            known.chain([UNNAMED.to_owned()]).collect()
        };
        let mut dims = BTreeMap::new();
        dims.insert(Dimension::Kind, Classes::Kinds);
        dims.insert(Dimension::Claims, Classes::Claims);
        dims.insert(
            Dimension::TrustDomain,
            Classes::Texts(fresh_after(&self.trust_domains)),
        );
        dims.insert(
            Dimension::Cluster,
            Classes::Texts(fresh_after(&self.clusters)),
        );
        dims.insert(Dimension::Account, Classes::Accounts(self.account_atoms()));
        for (key, values) in &self.labels {
            let values = fresh_after(values).into_iter().map(Some);
            let atoms = values.chain([None]).collect();
            dims.insert(
                Dimension::Label((*key).to_owned()),
                Classes::Optional(atoms),
            );
        }
        dims.insert(Dimension::Protocol, Classes::Protocols);
        let mut methods = self.methods.clone();
        methods.extend(["CONNECT", "GET"]);
        dims.insert(Dimension::Method, Classes::Texts(fresh_after(&methods)));
        // An upgrade that no rule lists differs from none: no rule opens it, a Deny covers it.
        let upgrades = fresh_after(&self.upgrades).into_iter().map(Some);
        let upgrades = [None].into_iter().chain(upgrades).collect();
        dims.insert(Dimension::Upgrade, Classes::Optional(upgrades));
        dims.insert(Dimension::Port, Classes::Ports(port_atoms(&self.ports)));
        dims.insert(
            Dimension::Address,
            Classes::Addresses(address_atoms(&self.networks)),
        );
        let times = self.times.iter().copied().filter(|time| *time > now);
        dims.insert(
            Dimension::Time,
            Classes::Times([now].into_iter().chain(times).collect()),
        );
        let (names, name_globs, too_many_names) = name_atoms(&self.names);
        dims.insert(Dimension::Name, Classes::Names(names));
        let (paths, path_globs, too_many_paths) = path_atoms(&self.paths);
        dims.insert(Dimension::Path, Classes::Paths(paths));
        Partition {
            dims,
            name_globs,
            path_globs,
            too_many_globs: too_many_names || too_many_paths,
        }
    }

    fn account_atoms(&self) -> Vec<(String, String)> {
        let mut namespaces = self.namespaces.clone();
        namespaces.extend(self.accounts.iter().map(|(namespace, _)| *namespace));
        let listed = self.accounts.iter().copied();
        let others = namespaces.iter().map(|namespace| (*namespace, UNNAMED));
        listed
            .chain(others)
            .chain([(UNNAMED, UNNAMED)])
            .map(|(namespace, account)| (namespace.to_owned(), account.to_owned()))
            .collect()
    }
}

fn port_atoms(listed: &BTreeSet<(u16, u16)>) -> Vec<(u16, u16)> {
    let mut starts: BTreeSet<u16> = [1].into();
    for (first, last) in listed {
        starts.insert(*first);
        starts.extend(last.checked_add(1));
    }
    let starts: Vec<u16> = starts.into_iter().collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    starts.iter().copied().zip(ends).collect()
}

fn vector_of<T>(globs: &[T], matches: impl Fn(&T) -> bool) -> u32 {
    globs
        .iter()
        .enumerate()
        .filter(|(_, glob)| matches(glob))
        .fold(0, |vector, (i, _)| vector | 1 << i)
}

impl Partition {
    /// How many classes a fact has.
    pub(super) fn size(&self, dim: &Dimension) -> usize {
        match self.dims.get(dim) {
            None => 0,
            Some(Classes::Kinds) => 3,
            Some(Classes::Claims) => 2,
            Some(Classes::Protocols) => 4,
            Some(Classes::Texts(atoms)) => atoms.len(),
            Some(Classes::Optional(atoms)) => atoms.len(),
            Some(Classes::Accounts(atoms)) => atoms.len(),
            Some(Classes::Names(atoms)) => atoms.len(),
            Some(Classes::Addresses(atoms)) => atoms.len(),
            Some(Classes::Ports(atoms)) => atoms.len(),
            Some(Classes::Paths(atoms)) => atoms.len(),
            Some(Classes::Times(atoms)) => atoms.len(),
        }
    }

    fn set(&self, dim: &Dimension, holds: impl Fn(usize) -> bool) -> Set {
        Set::of(self.size(dim), holds)
    }

    /// The classes whose text is listed.
    pub(super) fn texts(&self, dim: &Dimension, holds: impl Fn(&str) -> bool) -> Set {
        match self.dims.get(dim) {
            Some(Classes::Texts(atoms)) => {
                self.set(dim, |i| atoms.get(i).is_some_and(|t| holds(t)))
            }
            _ => Set::none(self.size(dim)),
        }
    }

    pub(super) fn optional(&self, dim: &Dimension, holds: impl Fn(Option<&str>) -> bool) -> Set {
        match self.dims.get(dim) {
            Some(Classes::Optional(atoms)) => {
                self.set(dim, |i| atoms.get(i).is_some_and(|t| holds(t.as_deref())))
            }
            _ => Set::none(self.size(dim)),
        }
    }

    pub(super) fn accounts(&self, holds: impl Fn(&str, &str) -> bool) -> Set {
        match self.dims.get(&Dimension::Account) {
            Some(Classes::Accounts(atoms)) => self.set(&Dimension::Account, |i| {
                atoms.get(i).is_some_and(|(ns, sa)| holds(ns, sa))
            }),
            _ => Set::none(0),
        }
    }

    pub(super) fn protocols(&self, holds: impl Fn(Protocol) -> bool) -> Set {
        self.set(&Dimension::Protocol, |i| {
            PROTOCOLS.get(i).is_some_and(|p| holds(*p))
        })
    }

    pub(super) fn ports(&self, holds: impl Fn(u16) -> bool) -> Set {
        match self.dims.get(&Dimension::Port) {
            Some(Classes::Ports(atoms)) => self.set(&Dimension::Port, |i| {
                atoms.get(i).is_some_and(|(first, _)| holds(*first))
            }),
            _ => Set::none(0),
        }
    }

    pub(super) fn addresses(&self, holds: impl Fn(&AddressAtom) -> bool) -> Set {
        match self.dims.get(&Dimension::Address) {
            Some(Classes::Addresses(atoms)) => {
                self.set(&Dimension::Address, |i| atoms.get(i).is_some_and(&holds))
            }
            _ => Set::none(0),
        }
    }

    /// The classes of times before a moment.
    pub(super) fn before(&self, end: i64) -> Set {
        match self.dims.get(&Dimension::Time) {
            Some(Classes::Times(atoms)) => self.set(&Dimension::Time, |i| {
                atoms.get(i).is_some_and(|start| *start < end)
            }),
            _ => Set::none(0),
        }
    }

    /// Destinations with a name, or without.
    pub(super) fn named(&self, named: bool) -> Set {
        self.names(|atom| matches!(atom, NameAtom::None) != named)
    }

    fn names(&self, holds: impl Fn(&NameAtom) -> bool) -> Set {
        match self.dims.get(&Dimension::Name) {
            Some(Classes::Names(atoms)) => {
                self.set(&Dimension::Name, |i| atoms.get(i).is_some_and(&holds))
            }
            _ => Set::none(0),
        }
    }

    /// The classes of names that one of the patterns matches.
    pub(super) fn names_under(&self, patterns: &[NamePattern]) -> Set {
        self.names(|atom| patterns.iter().any(|pattern| self.covers(pattern, atom)))
    }

    fn covers(&self, pattern: &NamePattern, atom: &NameAtom) -> bool {
        match (pattern, atom) {
            (pattern, NameAtom::Exact(name)) => pattern.matches(name),
            (_, NameAtom::None) | (NamePattern::Exact(_), NameAtom::Below { .. }) => false,
            (NamePattern::Suffix(wide), NameAtom::Below { base, .. }) => base
                .as_deref()
                .is_some_and(|base| at_or_below(base, wide.as_str())),
            (NamePattern::OneBelow(wide), NameAtom::Below { base, deep, .. }) => {
                !deep && base.as_deref() == Some(wide.as_str())
            }
            (NamePattern::Glob(_), NameAtom::Below { globs, .. }) => self
                .name_globs
                .iter()
                .position(|glob| glob == pattern)
                .is_some_and(|i| globs >> i & 1 == 1),
        }
    }

    /// The classes of paths that one of the globs matches; of malformed ones.
    pub(super) fn paths(&self, globs: &[PathPattern]) -> Set {
        let wanted = vector_of(&self.path_globs, |glob| globs.contains(glob));
        self.path_set(|atom| matches!(atom, PathAtom::Clean { globs, .. } if globs & wanted != 0))
    }

    pub(super) fn malformed_paths(&self) -> Set {
        self.path_set(|atom| matches!(atom, PathAtom::Malformed))
    }

    fn path_set(&self, holds: impl Fn(&PathAtom) -> bool) -> Set {
        match self.dims.get(&Dimension::Path) {
            Some(Classes::Paths(atoms)) => {
                self.set(&Dimension::Path, |i| atoms.get(i).is_some_and(&holds))
            }
            _ => Set::none(0),
        }
    }
}

fn at_or_below(name: &str, base: &str) -> bool {
    name.strip_suffix(base)
        .is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// The protocols, by the number of their class.
pub(super) const PROTOCOLS: [Protocol; 4] =
    [Protocol::Http, Protocol::Tls, Protocol::Tcp, Protocol::Udp];
