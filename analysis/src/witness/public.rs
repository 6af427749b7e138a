//! Public addresses, one of every set that the networks of rules tell apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use egress_policy::address::{SPECIAL, bits, special};
use egress_policy::model::{Hosts, Networks, Policy};

/// Taken where they are as good as any other. Documentation addresses first: nobody mistakes them
/// for a finding.
const PREFERRED: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(93, 184, 215, 14)),
    IpAddr::V4(Ipv4Addr::new(1, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// A public address of the largest set that the networks of these policies' rules tell apart: one
/// that no rule names, where rules do not name most of them. It is an IPv4 address.
#[must_use]
pub fn ordinary_address(policies: &[Policy]) -> Option<IpAddr> {
    public_addresses(policies).first().copied()
}

/// A public address of every set that the networks of these policies' rules tell apart. Sets with
/// IPv4 addresses come first, and the larger ones before the smaller.
#[must_use]
pub fn public_addresses(policies: &[Policy]) -> Vec<IpAddr> {
    let elements = policies
        .iter()
        .flat_map(Policy::rules)
        .flat_map(|placed| &placed.rule.to);
    let networks = elements.filter_map(|to| match &to.hosts {
        Hosts::Networks(networks) => Some(networks.spread()),
        Hosts::Anywhere | Hosts::Names(_) => None,
    });
    let special: Vec<IpNet> = SPECIAL.iter().map(|row| row.network).collect();
    let special = IpNet::aggregate(&special);
    let (mut v4, mut v6) = (Sweep::new(32), Sweep::new(128));
    let sets = std::iter::once(special).chain(networks);
    for (set, networks) in (NOT_PUBLIC..).zip(sets) {
        for network in networks {
            match network {
                IpNet::V4(_) => v4.add(set, &network),
                IpNet::V6(_) => v6.add(set, &network),
            }
        }
    }
    let mut known = BTreeSet::new();
    let all = [v4, v6].into_iter().flat_map(Sweep::representatives);
    all.filter_map(|(sets, address)| known.insert(sets).then_some(address))
        .collect()
}

/// An address of these networks: a public one if there is one.
pub(crate) fn address_in(networks: &Networks) -> Option<IpAddr> {
    let mut preferred = PREFERRED.into_iter();
    if let Some(address) = preferred.find(|one| networks.contains(*one)) {
        return Some(address);
    }
    let parts = networks.spread();
    let public = parts.iter().find(|part| special(part.network()).is_none());
    public.or(parts.first()).map(IpNet::network)
}

/// The number of the set of addresses that are not public.
const NOT_PUBLIC: u64 = 0;

/// Where sets of addresses of one family begin and end.
struct Sweep {
    bits: u32,
    /// An address as bits, and the set that it is the first inside or the first outside of. The
    /// networks of a set are apart from each other, so a set begins where it did not hold.
    edges: Vec<(u128, u64)>,
}

/// The addresses that lie in the same sets.
struct Class {
    size: u128,
    /// The address to show: by preference, then the lowest.
    shown: (usize, u128),
}

impl Sweep {
    const fn new(bits: u32) -> Self {
        Self {
            bits,
            edges: Vec::new(),
        }
    }

    fn add(&mut self, set: u64, network: &IpNet) {
        self.edges.push((bits(network.network()), set));
        let last = bits(network.broadcast());
        if let Some(behind) = last.checked_add(1) {
            self.edges.push((behind, set));
        }
    }

    /// The sets that hold an address, as one number, and the address: the largest class first.
    fn representatives(mut self) -> Vec<(u64, IpAddr)> {
        self.edges.sort_unstable();
        let last = u128::MAX >> (128 - self.bits);
        let mut classes = BTreeMap::<u64, Class>::new();
        let (mut start, mut sets, mut public) = (0, 0, true);
        for (at, set) in &self.edges {
            if let Some(end) = at.checked_sub(1)
                && start <= end
                && public
            {
                self.take(&mut classes, sets, (start, end));
            }
            start = *at;
            if *set == NOT_PUBLIC {
                public = !public;
            } else {
                sets ^= mark(*set);
            }
        }
        if start <= last && public {
            self.take(&mut classes, sets, (start, last));
        }
        let mut classes: Vec<_> = classes.into_iter().collect();
        classes.sort_by_key(|(_, class)| (std::cmp::Reverse(class.size), class.shown));
        let address = |(sets, class): (u64, Class)| Some((sets, self.address(class.shown.1)?));
        classes.into_iter().filter_map(address).collect()
    }

    fn take(&self, classes: &mut BTreeMap<u64, Class>, sets: u64, (first, last): (u128, u128)) {
        let preferred = PREFERRED.iter().enumerate().find_map(|(rank, address)| {
            let is_one = address.is_ipv4() == (self.bits == 32);
            let at = bits(*address);
            (is_one && first <= at && at <= last).then_some((rank, at))
        });
        let shown = preferred.unwrap_or((PREFERRED.len(), first));
        let class = classes.entry(sets).or_insert(Class { size: 0, shown });
        class.size = class.size.saturating_add(last - first).saturating_add(1);
        class.shown = class.shown.min(shown);
    }

    fn address(&self, bits: u128) -> Option<IpAddr> {
        if self.bits == 32 {
            let bits = u32::try_from(bits).ok()?;
            return Some(IpAddr::V4(Ipv4Addr::from_bits(bits)));
        }
        Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
    }
}

/// A number for a set, of which no few make up another's by exclusive or (`splitmix64`).
const fn mark(set: u64) -> u64 {
    let mut mixed = set.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use egress_policy::contract;
    use egress_policy::tree::Json;
    use serde_json::json;

    use super::*;

    /// Networks of rules, each with its exceptions, and the addresses that stand for the sets.
    #[test]
    fn an_address_stands_for_every_set_that_networks_tell_apart() {
        const V6: &str = "2001:db8::1";
        for (rules, wanted) in [
            (vec![], vec!["198.51.100.1"]),
            (
                vec![(vec!["198.51.100.0/24"], vec![])],
                vec!["192.0.2.1", "198.51.100.1"],
            ),
            // All of IPv4: what is not named is IPv6.
            (vec![(vec!["0.0.0.0/0"], vec![])], vec!["198.51.100.1", V6]),
            (
                vec![(vec!["0.0.0.0/0", "::/0"], vec![])],
                vec!["198.51.100.1"],
            ),
            (
                vec![(vec!["0.0.0.0/1"], vec![]), (vec!["128.0.0.0/1"], vec![])],
                vec!["93.184.215.14", "198.51.100.1", V6],
            ),
            // The larger part is the ordinary one.
            (
                vec![(vec!["0.0.0.0/0"], vec!["198.51.100.0/24"])],
                vec!["192.0.2.1", "198.51.100.1"],
            ),
            (
                vec![(vec!["203.0.113.0/25", "203.0.113.128/25"], vec![])],
                vec!["198.51.100.1", "203.0.113.0"],
            ),
            // What is not public stands for nothing.
            (vec![(vec!["10.0.0.0/8"], vec![])], vec!["198.51.100.1"]),
        ] {
            let rules: Vec<_> = rules
                .iter()
                .enumerate()
                .map(|(i, (networks, except))| {
                    let to = if except.is_empty() {
                        json!({"networks": networks})
                    } else {
                        json!({"networks": networks, "except": except})
                    };
                    json!({"name": format!("r{i}"), "to": [to], "action": "Deny"})
                })
                .collect();
            let first =
                json!({"name": "n", "to": [{"domainNames": ["a.example"]}], "action": "Deny"});
            let rules: Vec<_> = std::iter::once(first).chain(rules).collect();
            let policy = json!({
                "apiVersion": contract::API_VERSION,
                "kind": "ClusterEgressPolicy",
                "metadata": {"name": "p"},
                "spec": {
                    "identity": {"trustDomains": ["cluster.local"]},
                    "tiers": [{"name": "t", "rules": rules}],
                },
            });
            let text = policy.to_string();
            let policy = Policy::read(&Json::parse(&text).unwrap()).unwrap();
            let found = public_addresses(&[policy]);
            let found: Vec<_> = found.iter().map(IpAddr::to_string).collect();
            assert_eq!(found, wanted, "{text}");
        }
    }
}
