//! Classes of addresses: between two neighbouring borders, of the policies' networks or of the
//! special ranges, all addresses are alike.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use egress_policy::address::{Environment, SPECIAL, Special, embeddings, special};
use egress_policy::model::Networks;
use ipnet::{IpNet, Ipv4Net};

/// A class of addresses.
#[derive(Clone, Debug)]
pub(in crate::diff) struct AddressAtom {
    pub(in crate::diff) first: IpAddr,
    pub(in crate::diff) special: Option<Special>,
    pub(in crate::diff) witness: Option<IpAddr>,
}

/// IPv4-mapped addresses are compared as IPv4, so nothing is left of them.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

pub(super) fn address_atoms(networks: &[&Networks]) -> Vec<AddressAtom> {
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
    let borders = listed.chain(SPECIAL.iter().map(|row| row.network));
    // IPv4 networks count in their forms of IPv6 too, by which a Deny and the guard see them.
    let environment = Environment::default();
    let everything = IpNet::V4(Ipv4Net::default());
    let translated = borders.clone().chain([everything]);
    let translated = translated.flat_map(|network| embeddings(&network, &environment));
    for network in borders.clone().chain(translated) {
        cut(network.network(), network.broadcast());
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
        special: special(first),
        witness: Some(first),
    });
}

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
                    if first <= MAPPED.1 && last >= MAPPED.0 {
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
                special(last),
                pair[0].special,
                "{} to {last}",
                pair[0].first
            );
            compared += 1;
        }
        assert!(compared > 100, "{compared}");
    }
}
