//! Classes of addresses: between two neighbouring borders, of the policies' networks or of the
//! special ranges, all addresses are alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use egress_policy::address::{Environment, Ranges, SPECIAL, Special, embeddings, special};
use egress_policy::model::Networks;
use ipnet::{IpNet, Ipv4Net};

/// A class of addresses.
#[derive(Clone, Debug)]
pub(crate) struct AddressAtom {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
    pub(crate) special: Option<Special>,
    /// Whether a rule writes a network that holds it.
    pub(crate) listed: bool,
}

/// IPv4-mapped addresses are compared as IPv4, so nothing is left of them.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// The classes, IPv4 first, ascending. A Deny is about networks in their forms of IPv6 too.
pub(crate) fn address_atoms(networks: &[(&Networks, bool)]) -> Vec<AddressAtom> {
    let (mut v4, mut v6): (Vec<u128>, Vec<u128>) = (vec![0], vec![0]);
    let mut cut = |network: IpNet| match (network.network(), network.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            v4.push(u128::from(first.to_bits()));
            v4.push(u128::from(last.to_bits()) + 1);
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            v6.push(first.to_bits());
            v6.extend(last.to_bits().checked_add(1));
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    };
    // The guard and every Deny see the IPv4 address behind a form of IPv6.
    let environment = Environment::default();
    let special = SPECIAL.iter().map(|row| row.network);
    for network in special.chain([IpNet::V4(Ipv4Net::default())]) {
        cut(network);
        embeddings(&network, &environment)
            .into_iter()
            .for_each(&mut cut);
    }
    for (one, deny) in networks {
        for network in one.networks.iter().chain(&one.except) {
            cut(*network);
            if *deny {
                embeddings(network, &environment)
                    .into_iter()
                    .for_each(&mut cut);
            }
        }
    }
    let listed: Ranges = networks.iter().flat_map(|(one, _)| &one.networks).collect();
    let mut atoms = Vec::with_capacity(v4.len() + v6.len());
    pieces(v4, u128::from(u32::MAX), |first, last| {
        if let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(last)) {
            let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last));
            atoms.push(atom(first.into(), last.into(), &listed));
        }
    });
    pieces(v6, u128::MAX, |first, last| {
        if first < MAPPED.0 || last > MAPPED.1 {
            let (first, last) = (Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last));
            atoms.push(atom(first.into(), last.into(), &listed));
        }
    });
    atoms
}

fn pieces(mut starts: Vec<u128>, max: u128, mut each: impl FnMut(u128, u128)) {
    starts.sort_unstable();
    starts.dedup();
    starts.retain(|start| *start <= max);
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([max]);
    for (first, last) in starts.iter().copied().zip(ends) {
        each(first, last);
    }
}

fn atom(first: IpAddr, last: IpAddr, listed: &Ranges) -> AddressAtom {
    AddressAtom {
        first,
        last,
        special: special(first),
        listed: listed.contains(first),
    }
}

/// The fewest networks that hold exactly these classes, in their order. The IPv4-mapped addresses of
/// IPv6, which are no class, count as held where both their neighbours are.
pub(crate) fn cover<'a>(atoms: impl Iterator<Item = &'a AddressAtom>) -> Vec<IpNet> {
    let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::new();
    for atom in atoms {
        match ranges.last_mut() {
            Some((_, last)) if follows(*last, atom.first) => *last = atom.last,
            _ => ranges.push((atom.first, atom.last)),
        }
    }
    let mut networks = Vec::new();
    for range in ranges {
        match range {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                networks.extend(ipnet::Ipv4Subnets::new(first, last, 0).map(IpNet::V4));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                networks.extend(ipnet::Ipv6Subnets::new(first, last, 0).map(IpNet::V6));
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }
    networks
}

fn follows(last: IpAddr, first: IpAddr) -> bool {
    match (last, first) {
        (IpAddr::V4(last), IpAddr::V4(first)) => {
            last.to_bits().checked_add(1) == Some(first.to_bits())
        }
        (IpAddr::V6(last), IpAddr::V6(first)) => {
            let next = last.to_bits().checked_add(1);
            let next = next.map(|next| if next == MAPPED.0 { MAPPED.1 + 1 } else { next });
            next == Some(first.to_bits())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last address of every class is as special as its first one.
    #[test]
    fn a_class_of_addresses_is_special_from_its_first_to_its_last() {
        let atoms = address_atoms(&[]);
        assert!(atoms.len() > 100, "{}", atoms.len());
        for atom in &atoms {
            let mapped = matches!(atom.last, IpAddr::V6(last) if last.to_bits() >= MAPPED.0 && last.to_bits() <= MAPPED.1);
            if !mapped {
                assert_eq!(
                    special(atom.last),
                    atom.special,
                    "{} to {}",
                    atom.first,
                    atom.last
                );
            }
        }
        let networks: Vec<String> = cover(atoms.iter())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(networks, ["0.0.0.0/0", "::/0"]);
    }
}
