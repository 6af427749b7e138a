//! Classes of addresses: between two neighbouring borders, of the policies' networks or of the
//! special ranges, all addresses are alike.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use egress_policy::address::{in_nat64, special};
use egress_policy::model::Networks;

/// A class of addresses.
#[derive(Clone, Debug)]
pub(in crate::diff) struct AddressAtom {
    pub(in crate::diff) first: IpAddr,
    pub(in crate::diff) special: bool,
    pub(in crate::diff) witness: Option<IpAddr>,
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
    let borders = SPECIAL_V4
        .iter()
        .chain(&SPECIAL_V6)
        .chain(&["fe80::/10", "fec0::/10"])
        .filter_map(|text| text.parse::<ipnet::IpNet>().ok());
    let borders = listed.chain(borders);
    // IPv4 networks count in their NAT64 form too, by which a Deny matches them.
    let translated = borders.clone().filter_map(|network| in_nat64(&network));
    for network in borders.clone().chain(translated) {
        cut(network.network(), network.broadcast());
    }
    // The special IPv4 ranges again, inside the other forms of IPv6 that carry an IPv4 address.
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
