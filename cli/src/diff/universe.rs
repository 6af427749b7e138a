//! The classes that conditions induce: for every fact, values that no condition tells apart stand
//! as one.
//!
//! For names and paths some classes may be empty (a combination of globs that nothing matches).
//! Comparing them all the same is sound: a difference counts only with a witness.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use egress_policy::address::special;
use egress_policy::facts::Protocol;
use egress_policy::model::{LabelOperator, Networks, Place, Source, To};
use egress_policy::name::{Name, NamePattern};
use egress_policy::path::{PathPattern, RequestPath};

use super::set::Set;

/// A value that no policy writes.
pub(super) const FRESH: &str = "zz9-other";
/// Most globs whose combinations are written out.
const MAX_GLOBS: usize = 6;
/// Most paths and path globs in one comparison.
const MAX_PATHS: usize = 30;

/// One fact that conditions look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Dim {
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
pub(super) enum Atoms {
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

/// A class of destination names.
#[derive(Clone, Debug)]
pub(super) enum NameAtom {
    /// An address literal: no name.
    None,
    Exact(Name),
    /// Below a base, one label or more, with the globs (by number) that match.
    Below {
        base: Option<String>,
        deep: bool,
        globs: u32,
        witness: Option<Name>,
    },
}

/// A class of addresses.
#[derive(Clone, Debug)]
pub(super) struct AddressAtom {
    pub(super) first: IpAddr,
    pub(super) special: bool,
    pub(super) witness: Option<IpAddr>,
}

/// A class of request paths.
#[derive(Clone, Debug)]
pub(super) enum PathAtom {
    Absent,
    Malformed,
    Clean { globs: u32, witness: Option<String> },
}

/// All classes.
#[derive(Clone, Debug)]
pub(super) struct Universe {
    pub(super) dims: BTreeMap<Dim, Atoms>,
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
        match &to.place {
            Place::Anywhere => {}
            Place::Names(patterns) => self.names.extend(patterns.iter()),
            Place::Networks(networks) => self.networks.push(networks),
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
    pub(super) fn finish(self, now: i64) -> Universe {
        let fresh_after = |texts: &BTreeSet<&str>| -> Vec<String> {
            let known = texts.iter().map(|text| (*text).to_owned());
            known.chain([FRESH.to_owned()]).collect()
        };
        let mut dims = BTreeMap::new();
        dims.insert(Dim::Kind, Atoms::Kinds);
        dims.insert(Dim::Claims, Atoms::Claims);
        dims.insert(
            Dim::TrustDomain,
            Atoms::Texts(fresh_after(&self.trust_domains)),
        );
        dims.insert(Dim::Cluster, Atoms::Texts(fresh_after(&self.clusters)));
        dims.insert(Dim::Account, Atoms::Accounts(self.account_atoms()));
        for (key, values) in &self.labels {
            let values = fresh_after(values).into_iter().map(Some);
            let atoms = values.chain([None]).collect();
            dims.insert(Dim::Label((*key).to_owned()), Atoms::Optional(atoms));
        }
        dims.insert(Dim::Protocol, Atoms::Protocols);
        let mut methods = self.methods.clone();
        methods.extend(["CONNECT", "GET"]);
        dims.insert(Dim::Method, Atoms::Texts(fresh_after(&methods)));
        let upgrades = self.upgrades.iter().map(|token| Some((*token).to_owned()));
        dims.insert(
            Dim::Upgrade,
            Atoms::Optional([None].into_iter().chain(upgrades).collect()),
        );
        dims.insert(Dim::Port, Atoms::Ports(port_atoms(&self.ports)));
        dims.insert(
            Dim::Address,
            Atoms::Addresses(address_atoms(&self.networks)),
        );
        let times = self.times.iter().copied().filter(|time| *time > now);
        dims.insert(
            Dim::Time,
            Atoms::Times([now].into_iter().chain(times).collect()),
        );
        let (names, name_globs, too_many_names) = name_atoms(&self.names);
        dims.insert(Dim::Name, Atoms::Names(names));
        let (paths, path_globs, too_many_paths) = path_atoms(&self.paths);
        dims.insert(Dim::Path, Atoms::Paths(paths));
        Universe {
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
        let others = namespaces.iter().map(|namespace| (*namespace, FRESH));
        listed
            .chain(others)
            .chain([(FRESH, FRESH)])
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

/// Where special addresses begin and end, for both families; what `special` says is asked for
/// every piece.
const SPECIAL_V4: [&str; 12] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32",
    "0.0.0.0/0",
];
const SPECIAL_V6: [&str; 11] = [
    "::/128",
    "::1/128",
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2001::/32",
    "2002::/16",
    "fc00::/7",
    "ff00::/8",
];

/// IPv4-mapped addresses are compared as IPv4, so nothing is left of them.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);
const TEREDO: (u128, u128) = (0x2001_0000 << 96, (0x2001_0001 << 96) - 1);

fn address_atoms(networks: &[&Networks]) -> Vec<AddressAtom> {
    let (mut v4, mut v6): (BTreeSet<u128>, BTreeSet<u128>) = ([0].into(), [0].into());
    let mut cut = |first: IpAddr, last: IpAddr| match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            v4.insert(u128::from(first.to_bits()));
            v4.insert(u128::from(last.to_bits()) + 1);
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            v6.insert(first.to_bits());
            v6.extend(last.to_bits().checked_add(1));
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    };
    let listed = networks
        .iter()
        .flat_map(|one| one.networks.iter().chain(&one.except))
        .copied();
    let borders = SPECIAL_V4
        .iter()
        .chain(&SPECIAL_V6)
        .chain(&["fe80::/10", "fec0::/10"])
        .filter_map(|text| text.parse::<ipnet::IpNet>().ok());
    for network in listed.chain(borders) {
        cut(network.network(), network.broadcast());
    }
    // Listed IPv4 networks again, in the NAT64 form by which a Deny matches them too.
    for network in networks
        .iter()
        .flat_map(|one| one.networks.iter().chain(&one.except))
    {
        if let ipnet::IpNet::V4(network) = network {
            let nat64 = 0x0064_ff9b_u128 << 96;
            v6.insert(nat64 + u128::from(network.network().to_bits()));
            v6.insert(nat64 + u128::from(network.broadcast().to_bits()) + 1);
        }
    }
    // The special IPv4 ranges again, inside the forms of IPv6 that carry an IPv4 address.
    for text in SPECIAL_V4 {
        let Ok(network) = text.parse::<ipnet::Ipv4Net>() else {
            continue;
        };
        let (first, last) = (
            u128::from(network.network().to_bits()),
            u128::from(network.broadcast().to_bits()),
        );
        for (base, shift) in [
            (0_u128, 0_u32),
            (0xffff_0000_0000_0000, 0),
            (0x0064_ff9b_u128 << 96, 0),
            (0x2002_u128 << 112, 80),
        ] {
            v6.insert(base + (first << shift));
            v6.insert(base + ((last + 1) << shift));
        }
    }
    let mut atoms = Vec::new();
    pieces(&v4, u128::from(u32::MAX), |first, _| {
        if let Ok(bits) = u32::try_from(first) {
            push_address(&mut atoms, IpAddr::V4(Ipv4Addr::from_bits(bits)));
        }
    });
    pieces(&v6, u128::MAX, |first, last| {
        if first >= MAPPED.0 && last <= MAPPED.1 {
            return;
        }
        let address = IpAddr::V6(Ipv6Addr::from_bits(first));
        push_address(&mut atoms, address);
        if first >= TEREDO.0 && last <= TEREDO.1 {
            // The embedded address is inverted and stands at the end, so both kinds are in here.
            let kinds = [0x0102_0304_u128, 0x0a00_0001];
            for embedded in kinds {
                let inside = first | (u128::from(u32::MAX) ^ embedded);
                let inside = (inside <= last).then(|| IpAddr::V6(Ipv6Addr::from_bits(inside)));
                atoms.push(AddressAtom {
                    first: address,
                    special: embedded == 0x0a00_0001,
                    witness: inside,
                });
            }
        }
    });
    atoms
}

fn pieces(starts: &BTreeSet<u128>, max: u128, mut each: impl FnMut(u128, u128)) {
    let starts: Vec<u128> = starts
        .iter()
        .copied()
        .filter(|start| *start <= max)
        .collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([max]);
    for (first, last) in starts.iter().copied().zip(ends) {
        each(first, last);
    }
}

fn push_address(atoms: &mut Vec<AddressAtom>, first: IpAddr) {
    atoms.push(AddressAtom {
        first,
        special: special(first).is_some(),
        witness: Some(first),
    });
}

type NameClasses = (Vec<NameAtom>, Vec<NamePattern>, bool);

fn name_atoms(patterns: &BTreeSet<&NamePattern>) -> NameClasses {
    let mut bases: BTreeSet<String> = BTreeSet::new();
    let mut globs: Vec<NamePattern> = Vec::new();
    let mut atoms = vec![NameAtom::None];
    for pattern in patterns {
        match pattern {
            NamePattern::Exact(name) => atoms.push(NameAtom::Exact(name.clone())),
            NamePattern::Suffix(base) | NamePattern::OneBelow(base) => {
                bases.insert(base.as_str().to_owned());
            }
            NamePattern::Glob(_) => {
                bases.insert(literal_tail(pattern));
                globs.push((*pattern).clone());
            }
        }
    }
    let too_many = globs.len() > MAX_GLOBS;
    globs.truncate(MAX_GLOBS);
    let candidates = name_candidates(&globs, &bases, patterns);
    for base in bases.iter().map(Some).chain([None]) {
        for deep in [false, true] {
            if base.is_none() && deep {
                continue;
            }
            for vector in 0..(1_u32 << globs.len()) {
                if !possible(&globs, vector, base.map(String::as_str)) {
                    continue;
                }
                let witness = candidates.iter().find(|name| {
                    vector_of(&globs, |glob| glob.matches(name)) == vector
                        && !patterns.contains(&NamePattern::Exact((*name).clone()))
                        && longest_base(name, &bases).as_ref() == base
                        && base.is_none_or(|base| is_deep(name, base) == deep)
                });
                atoms.push(NameAtom::Below {
                    base: base.cloned(),
                    deep,
                    globs: vector,
                    witness: witness.cloned(),
                });
            }
        }
    }
    (atoms, globs, too_many)
}

/// A glob can match below its own literal tail only.
fn possible(globs: &[NamePattern], vector: u32, base: Option<&str>) -> bool {
    globs.iter().enumerate().all(|(i, glob)| {
        let tail = literal_tail(glob);
        vector >> i & 1 == 0
            || base.is_some_and(|base| base == tail || base.ends_with(&format!(".{tail}")))
    })
}

fn vector_of<T>(globs: &[T], matches: impl Fn(&T) -> bool) -> u32 {
    globs
        .iter()
        .enumerate()
        .filter(|(_, glob)| matches(glob))
        .fold(0, |vector, (i, _)| vector | 1 << i)
}

fn longest_base(name: &Name, bases: &BTreeSet<String>) -> Option<String> {
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        if bases.contains(parent) {
            return Some(parent.to_owned());
        }
        rest = parent;
    }
    None
}

fn is_deep(name: &Name, base: &str) -> bool {
    name.as_str()
        .strip_suffix(base)
        .and_then(|front| front.strip_suffix('.'))
        .is_some_and(|front| front.contains('.'))
}

/// The literal labels at the end of a glob.
fn literal_tail(pattern: &NamePattern) -> String {
    let NamePattern::Glob(glob) = pattern else {
        return String::new();
    };
    let literal = glob.labels.iter().rev();
    let mut labels: Vec<String> = literal
        .take_while(|label| label.parts.len() == 1)
        .map(|label| label.parts.concat())
        .collect();
    labels.reverse();
    labels.join(".")
}

/// Names that could stand for the classes.
fn name_candidates(
    globs: &[NamePattern],
    bases: &BTreeSet<String>,
    patterns: &BTreeSet<&NamePattern>,
) -> Vec<Name> {
    let mut texts: BTreeSet<String> = BTreeSet::new();
    texts.insert(format!("{FRESH}.example"));
    for base in bases {
        texts.insert(format!("zz9.{base}"));
        texts.insert(format!("zz9.zz9.{base}"));
        texts.insert(format!("zz8.zz9.zz9.{base}"));
    }
    for pattern in patterns {
        if let NamePattern::Exact(name) = pattern {
            texts.insert(format!("zz9.{name}"));
        }
    }
    let fills = |glob: &NamePattern| -> Vec<String> {
        let text = glob.to_string();
        let mut fills: Vec<String> = ["zz9", "", "a", "1"]
            .iter()
            .map(|fill| text.replace('*', fill))
            .collect();
        fills.push(text.replacen("*.", "zz8.zz9.", 1).replace('*', "zz9"));
        fills
    };
    for glob in globs {
        texts.extend(fills(glob));
        // One glob's text inside another's star stands for what both match.
        for other in globs {
            for label in other.to_string().split('.') {
                let inside = label.replace('*', "zz9");
                texts.insert(glob.to_string().replace('*', &inside));
                let ends: Vec<&str> = label.split('*').collect();
                if let (Some(first), Some(last)) = (ends.first(), ends.last()) {
                    texts.insert(glob.to_string().replacen('*', first, 1).replace('*', last));
                    texts.insert(glob.to_string().replacen('*', last, 1).replace('*', first));
                }
            }
        }
    }
    texts
        .iter()
        .filter_map(|text| Name::parse(text.as_bytes()).ok())
        .collect()
}

type PathClasses = (Vec<PathAtom>, Vec<PathPattern>, bool);

fn path_atoms(listed: &BTreeMap<&str, &PathPattern>) -> PathClasses {
    let is_wild = |path: &&&PathPattern| path.as_str().contains(['*', '{']);
    let mut globs: Vec<PathPattern> = listed
        .values()
        .filter(is_wild)
        .map(|p| (*p).clone())
        .collect();
    let wild = globs.len().min(MAX_GLOBS);
    let mut too_many = globs.len() > MAX_GLOBS;
    globs.truncate(MAX_GLOBS);
    globs.extend(
        listed
            .values()
            .filter(|p| !is_wild(p))
            .map(|p| (*p).clone()),
    );
    too_many |= globs.len() > MAX_PATHS;
    globs.truncate(MAX_PATHS);
    let mut candidates: BTreeSet<String> =
        ["/".to_owned(), "/zz9".to_owned(), "/zz9/zz8".to_owned()].into();
    for glob in &globs {
        for text in alternatives(glob.as_str()) {
            for (double, single) in [
                ("zz9", "zz9"),
                ("zz9/zz8", "zz7"),
                ("zz9", ""),
                ("zz9/zz8/zz7", "a"),
            ] {
                let filled = text.replace("**", double).replace('*', single);
                candidates.insert(format!("{filled}/zz9"));
                candidates.insert(filled);
            }
            for other in &globs {
                let inside = other
                    .as_str()
                    .trim_start_matches('/')
                    .replace("**", "zz9")
                    .replace('*', "zz9");
                candidates.insert(text.replace("**", &inside).replace('*', "zz9"));
                let segment = inside.split('/').next().unwrap_or_default();
                candidates.insert(text.replace('*', segment));
            }
        }
    }
    let clean = |path: &&String| matches!(RequestPath::parse(Some(path.as_bytes())), RequestPath::Clean(clean) if clean == path.as_str());
    let candidates: Vec<&String> = candidates.iter().filter(clean).collect();
    let mut atoms = vec![PathAtom::Absent, PathAtom::Malformed];
    // A path that is written out is a class of its own; what globs say of it is known.
    for literal in globs.iter().skip(wild) {
        atoms.push(PathAtom::Clean {
            globs: vector_of(&globs, |glob| glob.matches(literal.as_str())),
            witness: Some(literal.as_str().to_owned()),
        });
    }
    for vector in 0..(1_u32 << wild) {
        let found = candidates
            .iter()
            .find(|path| vector_of(&globs, |glob| glob.matches(path)) == vector);
        atoms.push(PathAtom::Clean {
            globs: vector,
            witness: found.map(|path| (*path).clone()),
        });
    }
    (atoms, globs, too_many)
}

/// The first and last choice of every `{a,b}`.
fn alternatives(glob: &str) -> Vec<String> {
    let Some((front, rest)) = glob.split_once('{') else {
        return vec![glob.to_owned()];
    };
    let Some((choices, back)) = rest.split_once('}') else {
        return vec![glob.to_owned()];
    };
    choices
        .split(',')
        .flat_map(|choice| alternatives(&format!("{front}{choice}{back}")))
        .take(16)
        .collect()
}

impl Universe {
    /// How many classes a fact has.
    pub(super) fn size(&self, dim: &Dim) -> usize {
        match self.dims.get(dim) {
            None => 0,
            Some(Atoms::Kinds) => 3,
            Some(Atoms::Claims) => 2,
            Some(Atoms::Protocols) => 4,
            Some(Atoms::Texts(atoms)) => atoms.len(),
            Some(Atoms::Optional(atoms)) => atoms.len(),
            Some(Atoms::Accounts(atoms)) => atoms.len(),
            Some(Atoms::Names(atoms)) => atoms.len(),
            Some(Atoms::Addresses(atoms)) => atoms.len(),
            Some(Atoms::Ports(atoms)) => atoms.len(),
            Some(Atoms::Paths(atoms)) => atoms.len(),
            Some(Atoms::Times(atoms)) => atoms.len(),
        }
    }

    fn set(&self, dim: &Dim, holds: impl Fn(usize) -> bool) -> Set {
        Set::of(self.size(dim), holds)
    }

    /// The classes whose text is listed.
    pub(super) fn texts(&self, dim: &Dim, holds: impl Fn(&str) -> bool) -> Set {
        match self.dims.get(dim) {
            Some(Atoms::Texts(atoms)) => self.set(dim, |i| atoms.get(i).is_some_and(|t| holds(t))),
            _ => Set::none(self.size(dim)),
        }
    }

    pub(super) fn optional(&self, dim: &Dim, holds: impl Fn(Option<&str>) -> bool) -> Set {
        match self.dims.get(dim) {
            Some(Atoms::Optional(atoms)) => {
                self.set(dim, |i| atoms.get(i).is_some_and(|t| holds(t.as_deref())))
            }
            _ => Set::none(self.size(dim)),
        }
    }

    pub(super) fn accounts(&self, holds: impl Fn(&str, &str) -> bool) -> Set {
        match self.dims.get(&Dim::Account) {
            Some(Atoms::Accounts(atoms)) => self.set(&Dim::Account, |i| {
                atoms.get(i).is_some_and(|(ns, sa)| holds(ns, sa))
            }),
            _ => Set::none(0),
        }
    }

    pub(super) fn protocols(&self, holds: impl Fn(Protocol) -> bool) -> Set {
        self.set(&Dim::Protocol, |i| {
            PROTOCOLS.get(i).is_some_and(|p| holds(*p))
        })
    }

    pub(super) fn ports(&self, holds: impl Fn(u16) -> bool) -> Set {
        match self.dims.get(&Dim::Port) {
            Some(Atoms::Ports(atoms)) => self.set(&Dim::Port, |i| {
                atoms.get(i).is_some_and(|(first, _)| holds(*first))
            }),
            _ => Set::none(0),
        }
    }

    pub(super) fn addresses(&self, holds: impl Fn(&AddressAtom) -> bool) -> Set {
        match self.dims.get(&Dim::Address) {
            Some(Atoms::Addresses(atoms)) => {
                self.set(&Dim::Address, |i| atoms.get(i).is_some_and(&holds))
            }
            _ => Set::none(0),
        }
    }

    /// The classes of times before a moment.
    pub(super) fn before(&self, end: i64) -> Set {
        match self.dims.get(&Dim::Time) {
            Some(Atoms::Times(atoms)) => self.set(&Dim::Time, |i| {
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
        match self.dims.get(&Dim::Name) {
            Some(Atoms::Names(atoms)) => self.set(&Dim::Name, |i| atoms.get(i).is_some_and(&holds)),
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
        match self.dims.get(&Dim::Path) {
            Some(Atoms::Paths(atoms)) => self.set(&Dim::Path, |i| atoms.get(i).is_some_and(&holds)),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The piece before an address, for every address at which a piece begins.
    #[test]
    fn a_class_of_addresses_is_special_from_its_first_to_its_last() {
        let atoms = address_atoms(&[]);
        let mut compared = 0;
        for pair in atoms.windows(2) {
            let last = match (pair[0].first, pair[1].first) {
                (IpAddr::V6(first), IpAddr::V6(next)) if first < next => {
                    let (first, last) = (first.to_bits(), next.to_bits() - 1);
                    if (first >= TEREDO.0 && last <= TEREDO.1) || last == MAPPED.1 {
                        continue;
                    }
                    IpAddr::V6(Ipv6Addr::from_bits(last))
                }
                (IpAddr::V4(_), IpAddr::V4(next)) => {
                    IpAddr::V4(Ipv4Addr::from_bits(next.to_bits() - 1))
                }
                _ => continue,
            };
            assert_eq!(
                special(last).is_some(),
                pair[0].special,
                "{} to {last}",
                pair[0].first
            );
            compared += 1;
        }
        assert!(compared > 100, "{compared}");
    }
}
