//! The classes that conditions induce: for every fact, values that no condition tells apart stand
//! as one.
//!
//! For names and paths some classes may be empty (a combination of globs that nothing matches).
//! Comparing them all the same is sound: a difference counts only with a witness.

mod addresses;
mod names;
mod paths;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use egress_policy::address::{Nat64Prefixes, Ranges, Special};
use egress_policy::facts::Protocol;
use egress_policy::model::{
    Head, Hosts, LabelOperator, Networks, ServiceAccount, Source, To, Workloads,
};
use egress_policy::name::NamePattern;
use egress_policy::path::PathPattern;
use egress_policy::port::PortSet;

pub(crate) use addresses::{AddressAtom, cover};
pub(crate) use names::{NameAtom, Names};
pub(crate) use paths::PathAtom;

use super::set::Set;
use addresses::address_atoms;
use paths::path_atoms;

/// A value that no policy writes.
pub(crate) const UNNAMED: &str = "zz9-other";
/// Most globs whose combinations are written out.
const MAX_GLOBS: usize = 6;

/// One fact that conditions look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Dimension {
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

impl Dimension {
    /// Whether it is about what a certificate or the peer metadata says beside the account.
    pub(crate) const fn is_of_claims(&self) -> bool {
        matches!(
            self,
            Self::TrustDomain | Self::Claims | Self::Cluster | Self::Label(_)
        )
    }
}

/// What is behind the classes of a fact.
#[derive(Clone, Debug)]
pub(crate) enum Classes {
    /// Workload, no certificate, plaintext.
    Kinds,
    /// Known, missing.
    Claims,
    Texts(Vec<String>),
    /// `None` is a label that is absent, an upgrade that is not asked for.
    Optional(Vec<Option<String>>),
    Accounts(Vec<(String, String)>),
    Protocols,
    Names(Names),
    Addresses(Vec<AddressAtom>),
    Ports(Vec<(u16, u16)>),
    Paths(Vec<PathAtom>),
    /// Seconds, the first moment of each interval.
    Times(Vec<i64>),
}

/// All classes.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(crate) dims: BTreeMap<Dimension, Classes>,
    named: [Rc<Set>; 2],
    /// Special addresses, all and those that no rule opens.
    refused: [Rc<Set>; 2],
    path_globs: Vec<PathPattern>,
    /// Globs beyond the bound: what they decide is not compared.
    pub(crate) too_many_globs: bool,
}

/// Collects the conditions that a comparison can meet.
#[derive(Default)]
pub(crate) struct Collector<'p> {
    pub(crate) trust_domains: BTreeSet<&'p str>,
    pub(crate) namespaces: BTreeSet<&'p str>,
    pub(crate) accounts: BTreeSet<(&'p str, &'p str)>,
    clusters: BTreeSet<&'p str>,
    labels: BTreeMap<&'p str, BTreeSet<&'p str>>,
    names: Vec<&'p NamePattern>,
    networks: Vec<(&'p Networks, bool)>,
    ports: BTreeSet<(u16, u16)>,
    methods: BTreeSet<&'p str>,
    upgrades: BTreeSet<&'p str>,
    paths: BTreeMap<&'p str, &'p PathPattern>,
    pub(crate) times: BTreeSet<i64>,
}

impl<'p> Collector<'p> {
    pub(crate) fn source(&mut self, source: &'p Source) {
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

    /// What a policy says outside its rules.
    pub(crate) fn head(&mut self, head: &'p Head) {
        let trust_domains = head.trust_domains.iter();
        self.trust_domains.extend(trust_domains.map(String::as_str));
        let shadow = head.shadow_workloads.iter();
        self.times.extend(shadow.clone().map(|entry| entry.expires));
        for workloads in shadow.map(|entry| &entry.workloads).chain(&head.applies_to) {
            self.workloads(workloads);
        }
    }

    fn workloads(&mut self, workloads: &'p Workloads) {
        let namespaces = workloads.namespaces.iter();
        self.namespaces.extend(namespaces.map(String::as_str));
        let accounts = workloads.service_accounts.iter();
        self.accounts
            .extend(accounts.map(|sa| (sa.namespace.as_str(), sa.name.as_str())));
    }

    /// An element of a rule, which denies or does not.
    pub(crate) fn to(&mut self, to: &'p To, deny: bool) {
        match &to.hosts {
            Hosts::Anywhere => {}
            Hosts::Names(patterns) => self.names(patterns.iter()),
            Hosts::Networks(networks) => self.networks(networks, deny),
        }
        self.requests(to);
        self.paths(to);
    }

    /// Patterns of names.
    pub(crate) fn names(&mut self, patterns: impl IntoIterator<Item = &'p NamePattern>) {
        self.names.extend(patterns);
    }

    /// Networks of a rule, which denies or does not.
    pub(crate) fn networks(&mut self, networks: &'p Networks, deny: bool) {
        self.networks.push((networks, deny));
    }

    /// The paths of an element.
    pub(crate) fn paths(&mut self, to: &'p To) {
        self.paths
            .extend(to.paths.iter().map(|path| (path.as_str(), path)));
    }

    /// What an element says beside hosts and paths.
    pub(crate) fn requests(&mut self, to: &'p To) {
        self.ports.extend(
            to.ports
                .ranges()
                .map(|range| (*range.start(), *range.end())),
        );
        self.methods.extend(to.methods.iter().map(String::as_str));
        self.upgrades.extend(to.upgrades.iter().map(String::as_str));
    }

    /// A label that a caller has.
    pub(crate) fn label(&mut self, key: &'p str, value: &'p str) {
        self.labels.entry(key).or_default().insert(value);
    }

    /// The cluster of a caller.
    pub(crate) fn cluster(&mut self, name: &'p str) {
        self.clusters.insert(name);
    }

    /// Ports at which what the mesh carries changes.
    pub(crate) fn port(&mut self, port: u16) {
        self.ports.insert((port, port));
    }

    /// The classes of everything that was collected, from `now` on.
    pub(crate) fn finish(self, now: i64) -> Partition {
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
        let names = Names::of(self.names);
        let too_many_names = names.too_many;
        dims.insert(Dimension::Name, Classes::Names(names));
        let (paths, path_globs, too_many_paths) = path_atoms(&self.paths);
        dims.insert(Dimension::Path, Classes::Paths(paths));
        let nothing = || Rc::new(Set::none(0));
        let mut partition = Partition {
            dims,
            named: [nothing(), nothing()],
            refused: [nothing(), nothing()],
            path_globs,
            too_many_globs: too_many_names || too_many_paths,
        };
        partition.named = [false, true]
            .map(|named| partition.names(|atom| matches!(atom, NameAtom::None) != named));
        partition.refused = [false, true].map(|exempt| {
            let refused = |kind: Special| !(exempt && kind.opened_by_allow_private());
            partition.addresses(|atom| atom.special.is_some_and(refused))
        });
        partition
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
    pub(crate) fn size(&self, dim: &Dimension) -> usize {
        match self.dims.get(dim) {
            None => 0,
            Some(Classes::Kinds) => 3,
            Some(Classes::Claims) => 2,
            Some(Classes::Protocols) => 4,
            Some(Classes::Texts(atoms)) => atoms.len(),
            Some(Classes::Optional(atoms)) => atoms.len(),
            Some(Classes::Accounts(atoms)) => atoms.len(),
            Some(Classes::Names(names)) => names.atoms.len(),
            Some(Classes::Addresses(atoms)) => atoms.len(),
            Some(Classes::Ports(atoms)) => atoms.len(),
            Some(Classes::Paths(atoms)) => atoms.len(),
            Some(Classes::Times(atoms)) => atoms.len(),
        }
    }

    fn set(&self, dim: &Dimension, holds: impl Fn(usize) -> bool) -> Rc<Set> {
        Rc::new(Set::of(self.size(dim), holds))
    }

    /// The classes whose text is listed.
    pub(crate) fn texts(&self, dim: &Dimension, holds: impl Fn(&str) -> bool) -> Rc<Set> {
        match self.dims.get(dim) {
            Some(Classes::Texts(atoms)) => {
                self.set(dim, |i| atoms.get(i).is_some_and(|t| holds(t)))
            }
            _ => Rc::new(Set::none(self.size(dim))),
        }
    }

    pub(crate) fn optional(
        &self,
        dim: &Dimension,
        holds: impl Fn(Option<&str>) -> bool,
    ) -> Rc<Set> {
        match self.dims.get(dim) {
            Some(Classes::Optional(atoms)) => {
                self.set(dim, |i| atoms.get(i).is_some_and(|t| holds(t.as_deref())))
            }
            _ => Rc::new(Set::none(self.size(dim))),
        }
    }

    /// The classes of workloads in one of these namespaces, or that run as one of these accounts.
    pub(crate) fn accounts(
        &self,
        namespaces: &[String],
        accounts: &[ServiceAccount],
        both: bool,
    ) -> Rc<Set> {
        let namespaces: HashSet<&str> = namespaces.iter().map(String::as_str).collect();
        let listed = accounts.iter();
        let listed: HashSet<(&str, &str)> = listed
            .map(|sa| (sa.namespace.as_str(), sa.name.as_str()))
            .collect();
        let Some(Classes::Accounts(atoms)) = self.dims.get(&Dimension::Account) else {
            return Rc::new(Set::none(0));
        };
        self.set(&Dimension::Account, |i| {
            atoms.get(i).is_some_and(|(namespace, account)| {
                let inside = namespaces.contains(namespace.as_str());
                let named = listed.contains(&(namespace.as_str(), account.as_str()));
                if both {
                    inside && named
                } else {
                    inside || named
                }
            })
        })
    }

    pub(crate) fn protocols(&self, holds: impl Fn(Protocol) -> bool) -> Rc<Set> {
        self.set(&Dimension::Protocol, |i| {
            PROTOCOLS.get(i).is_some_and(|p| holds(*p))
        })
    }

    /// The classes of ports in a set.
    pub(crate) fn ports_in(&self, ports: &PortSet) -> Rc<Set> {
        let ranges: Vec<_> = ports.ranges().collect();
        self.ports(|port| {
            let place = ranges.partition_point(|range| *range.end() < port);
            ranges
                .get(place)
                .is_some_and(|range| *range.start() <= port)
        })
    }

    /// The classes for whose first port this holds.
    pub(crate) fn ports(&self, holds: impl Fn(u16) -> bool) -> Rc<Set> {
        match self.dims.get(&Dimension::Port) {
            Some(Classes::Ports(atoms)) => self.set(&Dimension::Port, |i| {
                atoms.get(i).is_some_and(|(first, _)| holds(*first))
            }),
            _ => Rc::new(Set::none(0)),
        }
    }

    pub(crate) fn addresses(&self, holds: impl Fn(&AddressAtom) -> bool) -> Rc<Set> {
        match self.dims.get(&Dimension::Address) {
            Some(Classes::Addresses(atoms)) => {
                self.set(&Dimension::Address, |i| atoms.get(i).is_some_and(&holds))
            }
            _ => Rc::new(Set::none(0)),
        }
    }

    /// The classes of addresses in these networks. A Deny is about the IPv4 address behind a form of
    /// IPv6 too.
    pub(crate) fn addresses_in(&self, networks: &Networks, deny: bool) -> Rc<Set> {
        let inside: Ranges = networks.networks.iter().collect();
        let outside: Ranges = networks.except.iter().collect();
        let held = |address| inside.contains(address) && !outside.contains(address);
        self.addresses(|atom| {
            let translated = || {
                let mut behind = Nat64Prefixes::NONE.behind(atom.first).into_iter();
                behind.any(|v4| held(v4.into()))
            };
            held(atom.first) || (deny && translated())
        })
    }

    /// Addresses that no name may lead to, with or without those that a rule can open.
    pub(crate) fn refused(&self, exempt: bool) -> Rc<Set> {
        let [all, closed] = &self.refused;
        Rc::clone(if exempt { closed } else { all })
    }

    /// The classes of times before a moment.
    pub(crate) fn before(&self, end: i64) -> Rc<Set> {
        match self.dims.get(&Dimension::Time) {
            Some(Classes::Times(atoms)) => self.set(&Dimension::Time, |i| {
                atoms.get(i).is_some_and(|start| *start < end)
            }),
            _ => Rc::new(Set::none(0)),
        }
    }

    /// All destinations in parts, so that what no rule names stands apart.
    pub(crate) fn places(&self) -> [Vec<(Dimension, Rc<Set>)>; 4] {
        let any_other = self.names(|atom| matches!(atom, NameAtom::Below { base: None, .. }));
        let literal = self.named(false);
        let listed = Rc::new(any_other.or(&literal).complement());
        let unlisted = self.addresses(|atom| !atom.listed);
        let named = Rc::new(unlisted.complement());
        [
            vec![(Dimension::Name, any_other)],
            vec![
                (Dimension::Name, Rc::clone(&literal)),
                (Dimension::Address, unlisted),
            ],
            vec![(Dimension::Name, literal), (Dimension::Address, named)],
            vec![(Dimension::Name, listed)],
        ]
    }

    /// Destinations with a name, or without.
    pub(crate) fn named(&self, named: bool) -> Rc<Set> {
        let [without, with] = &self.named;
        Rc::clone(if named { with } else { without })
    }

    /// The classes of names for which this holds.
    pub(crate) fn names(&self, holds: impl Fn(&NameAtom) -> bool) -> Rc<Set> {
        match self.dims.get(&Dimension::Name) {
            Some(Classes::Names(names)) => {
                self.set(&Dimension::Name, |i| names.atoms.get(i).is_some_and(&holds))
            }
            _ => Rc::new(Set::none(0)),
        }
    }

    /// The classes of names that one of the patterns matches.
    pub(crate) fn names_under(&self, patterns: &[NamePattern]) -> Rc<Set> {
        match self.dims.get(&Dimension::Name) {
            Some(Classes::Names(names)) => Rc::new(names.under(patterns)),
            _ => Rc::new(Set::none(0)),
        }
    }

    /// The classes of paths that one of the globs matches. A class with an example is told by it, so
    /// that its globs need not all have been collected.
    pub(crate) fn paths(&self, globs: &[PathPattern]) -> Rc<Set> {
        let wanted = vector_of(&self.path_globs, |glob| globs.contains(glob));
        self.path_set(|atom| match atom {
            PathAtom::Clean {
                witness: Some(path),
                ..
            } => globs.iter().any(|glob| glob.matches(path)),
            PathAtom::Clean { globs, .. } => globs & wanted != 0,
            PathAtom::Absent | PathAtom::Malformed => false,
        })
    }

    /// A set of paths as globs that policies write, and an example of each class that is left.
    pub(crate) fn paths_in_words(&self, set: &Set) -> Vec<String> {
        let Some(Classes::Paths(atoms)) = self.dims.get(&Dimension::Path) else {
            return Vec::new();
        };
        let mut texts = Vec::new();
        let mut told = Set::none(atoms.len());
        for glob in &self.path_globs {
            let own = self.paths(std::slice::from_ref(glob));
            if own.within(set) && !own.within(&told) {
                told = told.or(&own);
                texts.push(glob.as_str().to_owned());
            }
        }
        let rest = set.minus(&told);
        let rest = rest.iter().filter_map(|i| atoms.get(i));
        texts.extend(rest.filter_map(|atom| match atom {
            PathAtom::Absent => Some("absent".to_owned()),
            PathAtom::Malformed => Some("malformed".to_owned()),
            PathAtom::Clean { witness, .. } => witness.as_ref().map(|path| format!("like {path}")),
        }));
        texts
    }

    /// The globs that match a path, by number.
    #[cfg(test)]
    pub(crate) fn globs_of(&self, path: &str) -> u32 {
        vector_of(&self.path_globs, |glob| glob.matches(path))
    }

    pub(crate) fn malformed_paths(&self) -> Rc<Set> {
        self.path_set(|atom| matches!(atom, PathAtom::Malformed))
    }

    fn path_set(&self, holds: impl Fn(&PathAtom) -> bool) -> Rc<Set> {
        match self.dims.get(&Dimension::Path) {
            Some(Classes::Paths(atoms)) => {
                self.set(&Dimension::Path, |i| atoms.get(i).is_some_and(&holds))
            }
            _ => Rc::new(Set::none(0)),
        }
    }
}

/// The protocols, by the number of their class.
pub(crate) const PROTOCOLS: [Protocol; 4] =
    [Protocol::Http, Protocol::Tls, Protocol::Tcp, Protocol::Udp];
