//! A class as facts, and in words.

use std::net::IpAddr;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::To;
use egress_policy::name::Name;

use super::explore::{CLAIMS_KNOWN, Region};
use super::partition::{Classes, Dimension, NameAtom, PROTOCOLS, Partition, PathAtom};
use super::set::Set;
use crate::owned_facts::{MALFORMED_PATH, Metadata, OwnedFacts, Who, time_text};

/// Most values of one fact that are written out.
const MAX_VALUES: usize = 4;

/// Facts out of a region; `None` where no value of some class is known.
pub(super) fn witness(partition: &Partition, region: &Region) -> Option<OwnedFacts> {
    let pick = Pick { partition, region };
    let protocol = *PROTOCOLS.get(pick.first(&Dimension::Protocol)?)?;
    let mut situation = OwnedFacts::pending(protocol);
    situation.caller = Fact::Known(pick.caller()?);
    situation.claims = pick.claims(situation.namespace().unwrap_or_default())?;
    let name = pick.name()?;
    situation.address = Fact::Known(pick.address()?);
    situation.name = name;
    let Classes::Ports(ports) = partition.dims.get(&Dimension::Port)? else {
        return None;
    };
    situation.port = Fact::Known(ports.get(pick.first(&Dimension::Port)?)?.0);
    if protocol == Protocol::Http {
        situation.method = Fact::Known(pick.text(&Dimension::Method, "GET")?);
        let Classes::Optional(upgrades) = partition.dims.get(&Dimension::Upgrade)? else {
            return None;
        };
        situation.upgrade = Fact::Known(upgrades.get(pick.first(&Dimension::Upgrade)?)?.clone());
        situation.path = pick.path()?;
    } else {
        situation.method = Fact::Missing;
        situation.path = Fact::Missing;
        situation.upgrade = Fact::Missing;
    }
    let Classes::Times(times) = partition.dims.get(&Dimension::Time)? else {
        return None;
    };
    situation.now = Fact::Known(*times.get(pick.first(&Dimension::Time)?)?);
    Some(situation)
}

struct Pick<'r> {
    partition: &'r Partition,
    region: &'r Region,
}

impl Pick<'_> {
    fn set(&self, dim: &Dimension) -> Option<&Set> {
        self.region.0.get(dim)
    }

    fn first(&self, dim: &Dimension) -> Option<usize> {
        self.set(dim)?.iter().next()
    }

    /// The preferred text if it is there, else the first.
    fn text(&self, dim: &Dimension, preferred: &str) -> Option<String> {
        let Classes::Texts(texts) = self.partition.dims.get(dim)? else {
            return None;
        };
        let set = self.set(dim)?;
        let there: Vec<&String> = set.iter().filter_map(|i| texts.get(i)).collect();
        let found = there.iter().find(|text| **text == preferred);
        found.or_else(|| there.first()).map(|text| (*text).clone())
    }

    fn caller(&self) -> Option<Who> {
        Some(match self.first(&Dimension::Kind)? {
            0 => {
                let Classes::Accounts(accounts) = self.partition.dims.get(&Dimension::Account)?
                else {
                    return None;
                };
                let (namespace, service_account) =
                    accounts.get(self.first(&Dimension::Account)?)?.clone();
                Who::Workload {
                    trust_domain: self.text(&Dimension::TrustDomain, "cluster.local")?,
                    namespace,
                    service_account,
                }
            }
            1 => Who::NoCertificate,
            _ => Who::Plaintext,
        })
    }

    fn claims(&self, namespace: &str) -> Option<Fact<Metadata>> {
        if self.first(&Dimension::Claims)? != CLAIMS_KNOWN {
            return Some(Fact::Missing);
        }
        let mut labels = Vec::new();
        for (dim, atoms) in &self.partition.dims {
            if let (Dimension::Label(key), Classes::Optional(values)) = (dim, atoms) {
                let value = values.get(self.first(dim)?)?;
                labels.extend(value.clone().map(|value| (key.clone(), value)));
            }
        }
        Some(Fact::Known(Metadata {
            namespace: namespace.to_owned(),
            cluster: Some(self.text(&Dimension::Cluster, "")?),
            labels,
        }))
    }

    fn name(&self) -> Option<Fact<Option<Name>>> {
        let Classes::Names(names) = self.partition.dims.get(&Dimension::Name)? else {
            return None;
        };
        let set = self.set(&Dimension::Name)?;
        set.iter()
            .filter_map(|i| names.get(i))
            .find_map(|atom| match atom {
                NameAtom::None => Some(Fact::Known(None)),
                NameAtom::Exact(name) => Some(Fact::Known(Some(name.clone()))),
                NameAtom::Below { witness, .. } => {
                    witness.clone().map(|name| Fact::Known(Some(name)))
                }
            })
    }

    /// An ordinary address before a special one, IPv4 before IPv6.
    fn address(&self) -> Option<IpAddr> {
        let Classes::Addresses(addresses) = self.partition.dims.get(&Dimension::Address)? else {
            return None;
        };
        let there = self.set(&Dimension::Address)?.iter();
        there
            .filter_map(|i| addresses.get(i))
            .filter_map(|atom| Some((atom.special, atom.witness?)))
            .min_by_key(|(special, address)| (special.is_some(), address.is_ipv6()))
            .map(|(_, address)| address)
    }

    fn path(&self) -> Option<Fact<Option<String>>> {
        let Classes::Paths(paths) = self.partition.dims.get(&Dimension::Path)? else {
            return None;
        };
        let there = self.set(&Dimension::Path)?;
        let clean = there
            .iter()
            .filter_map(|i| paths.get(i))
            .find_map(|atom| match atom {
                PathAtom::Clean { witness, .. } => {
                    witness.clone().map(|path| Fact::Known(Some(path)))
                }
                PathAtom::Absent | PathAtom::Malformed => None,
            });
        clean.or_else(|| {
            there
                .iter()
                .filter_map(|i| paths.get(i))
                .find_map(|atom| match atom {
                    PathAtom::Malformed => Some(Fact::Known(Some(MALFORMED_PATH.to_owned()))),
                    PathAtom::Absent => Some(Fact::Known(None)),
                    PathAtom::Clean { .. } => None,
                })
        })
    }
}

/// A region in words: who, and where to.
pub(super) fn words(partition: &Partition, region: &Region) -> String {
    let mut parts: Vec<String> = Vec::new();
    let workload = region
        .0
        .get(&Dimension::Kind)
        .is_some_and(|kinds| kinds.contains(0));
    for (dim, atoms) in &partition.dims {
        let Some(set) = region.0.get(dim) else {
            continue;
        };
        let about_workload = matches!(
            dim,
            Dimension::TrustDomain
                | Dimension::Account
                | Dimension::Claims
                | Dimension::Cluster
                | Dimension::Label(_)
        );
        let plain = match (dim, atoms) {
            (Dimension::Kind, _) => set.len() == 1 && workload,
            (Dimension::Claims, _) => set.contains(CLAIMS_KNOWN),
            // The last text is the one that no rule names.
            (Dimension::TrustDomain, Classes::Texts(texts)) => set.len() + 1 == texts.len(),
            (Dimension::Method, Classes::Texts(texts)) => {
                let connect = texts.iter().position(|text| text == "CONNECT");
                set.len() + 1 == texts.len() && connect.is_some_and(|i| !set.contains(i))
            }
            (Dimension::Address, Classes::Addresses(all)) => {
                let special = |i: usize| all.get(i).is_some_and(|atom| atom.special.is_some());
                (0..all.len()).all(|i| set.contains(i) != special(i))
            }
            _ => false,
        };
        if set.is_all() || plain || (about_workload && !workload) {
            continue;
        }
        parts.push(format!("{} {}", title(dim), values(atoms, set)));
    }
    if parts.is_empty() {
        "everybody, everything".to_owned()
    } else {
        parts.join("; ")
    }
}

fn title(dim: &Dimension) -> String {
    match dim {
        Dimension::Kind => "callers:".to_owned(),
        Dimension::TrustDomain => "trust domain".to_owned(),
        Dimension::Account => "from".to_owned(),
        Dimension::Claims => "metadata".to_owned(),
        Dimension::Cluster => "cluster".to_owned(),
        Dimension::Label(key) => format!("label {key}"),
        Dimension::Protocol => "protocol".to_owned(),
        Dimension::Name => "to".to_owned(),
        Dimension::Address => "address".to_owned(),
        Dimension::Port => "port".to_owned(),
        Dimension::Method => "method".to_owned(),
        Dimension::Upgrade => "upgrade".to_owned(),
        Dimension::Path => "path".to_owned(),
        Dimension::Time => "time from".to_owned(),
    }
}

fn values(atoms: &Classes, set: &Set) -> String {
    let text = |i: usize| value(atoms, i);
    let total = set.len();
    let listed: Vec<String> = set.iter().take(MAX_VALUES).map(text).collect();
    let more = total.saturating_sub(MAX_VALUES);
    if more == 0 {
        return listed.join(", ");
    }
    format!("{} and {more} more", listed.join(", "))
}

fn value(atoms: &Classes, i: usize) -> String {
    let other = |text: &str| {
        if text == super::compiled::fresh() {
            "any other".to_owned()
        } else {
            text.to_owned()
        }
    };
    let found =
        match atoms {
            Classes::Kinds => ["workloads", "no certificate", "plaintext"]
                .get(i)
                .map(|text| (*text).to_owned()),
            Classes::Claims => ["known", "missing"].get(i).map(|text| (*text).to_owned()),
            Classes::Protocols => PROTOCOLS.get(i).map(|p| p.as_str().to_owned()),
            Classes::Texts(texts) => texts.get(i).map(|text| other(text)),
            Classes::Optional(texts) => texts
                .get(i)
                .map(|text| text.as_deref().map_or_else(|| "absent".to_owned(), other)),
            Classes::Accounts(accounts) => accounts.get(i).map(|(namespace, account)| {
                match (other(namespace), other(account)) {
                    (ns, _) if ns == "any other" => "any other namespace".to_owned(),
                    (ns, sa) if sa == "any other" => ns,
                    (ns, sa) => format!("{ns}/{sa}"),
                }
            }),
            Classes::Names(names) => names.get(i).map(|atom| match atom {
                NameAtom::None => "an address".to_owned(),
                NameAtom::Exact(name) => name.to_string(),
                NameAtom::Below { base: None, .. } => "any other name".to_owned(),
                NameAtom::Below {
                    base: Some(base),
                    deep,
                    ..
                } => format!("{}.{base}", if *deep { "*.*" } else { "+" }),
            }),
            Classes::Addresses(addresses) => addresses.get(i).map(|atom| atom.first.to_string()),
            Classes::Ports(ports) => ports.get(i).map(|(first, last)| {
                if first == last {
                    first.to_string()
                } else {
                    format!("{first}-{last}")
                }
            }),
            Classes::Paths(paths) => paths.get(i).map(|atom| match atom {
                PathAtom::Absent => "absent".to_owned(),
                PathAtom::Malformed => "malformed".to_owned(),
                PathAtom::Clean { witness, .. } => witness.as_deref().map_or_else(
                    || "several globs at once".to_owned(),
                    |path| format!("like {path}"),
                ),
            }),
            Classes::Times(times) => times.get(i).map(|time| time_text(*time)),
        };
    found.unwrap_or_default()
}

/// Facts for sampling, of which only the protocol and the time are known.
pub(super) fn ordinary(to: Option<&To>, now: i64) -> OwnedFacts {
    let listed = to.and_then(|to| to.protocols.first().copied());
    let request = to.is_some_and(To::compares_requests);
    let protocol = match listed {
        _ if request => Protocol::Http,
        Some(protocol) => protocol,
        None => Protocol::Tls,
    };
    let mut situation = OwnedFacts::pending(protocol);
    situation.now = Fact::Known(now);
    situation
}

/// Gives what is still open an ordinary value.
pub(super) fn resolve_pending(situation: &mut OwnedFacts) {
    if !matches!(situation.caller, Fact::Known(_)) {
        situation.caller = Fact::Known(Who::Workload {
            trust_domain: "cluster.local".to_owned(),
            namespace: super::compiled::fresh().to_owned(),
            service_account: "default".to_owned(),
        });
    }
    if !matches!(situation.claims, Fact::Known(_)) {
        situation.claims = Fact::Known(Metadata {
            namespace: situation.namespace().unwrap_or_default().to_owned(),
            cluster: Some("other".to_owned()),
            labels: Vec::new(),
        });
    }
    if !matches!(situation.address, Fact::Known(_))
        && let Some(address) = super::sample_address()
    {
        situation.address = Fact::Known(address);
    }
    if !matches!(situation.name, Fact::Known(_)) {
        situation.name = Fact::Known(None);
    }
    if !matches!(situation.port, Fact::Known(_)) {
        situation.port = Fact::Known(443);
    }
    if situation.protocol == Protocol::Http {
        if !matches!(situation.method, Fact::Known(_)) {
            situation.method = Fact::Known("GET".to_owned());
        }
        if !matches!(situation.upgrade, Fact::Known(_)) {
            situation.upgrade = Fact::Known(None);
        }
        if !matches!(situation.path, Fact::Known(_)) {
            situation.path = Fact::Known(Some("/".to_owned()));
        }
    }
}
