//! A class as facts.

use std::net::IpAddr;

use egress_policy::facts::{Fact, OwnedClaims, Protocol};
use egress_policy::name::Name;

use super::explore::{CLAIMS_KNOWN, Region};
use super::partition::{Classes, Dimension, NameAtom, PROTOCOLS, Partition, PathAtom};
use super::set::Set;
use crate::owned_facts::{MALFORMED_PATH, OwnedFacts, Who};

/// Facts out of a region; `None` where no value of some class is known.
pub(crate) fn witness(partition: &Partition, region: &Region) -> Option<OwnedFacts> {
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
        self.region.0.get(dim).map(|set| &**set)
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

    fn claims(&self, namespace: &str) -> Option<Fact<OwnedClaims>> {
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
        Some(Fact::Known(OwnedClaims {
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
            .filter_map(|i| names.atoms.get(i))
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
            .min_by_key(|atom| (atom.special.is_some(), atom.first.is_ipv6()))
            .map(|atom| atom.first)
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
