//! Networks as sorted ranges, so that an address is looked up and not searched for.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of addresses. Ranges are ascending and apart from each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Intervals {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl FromIterator<IpNet> for Intervals {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            let (is_v4, first) = bits(network.network());
            let range = (first, bits(network.broadcast()).1);
            if is_v4 {
                v4.push(range);
            } else {
                v6.push(range);
            }
        }
        Self {
            v4: merged(v4),
            v6: merged(v6),
        }
    }
}

impl Intervals {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let (is_v4, at) = bits(address);
        self.meets_range(is_v4, at, at)
    }

    pub(super) fn meets(&self, network: &IpNet) -> bool {
        let (is_v4, first) = bits(network.network());
        self.meets_range(is_v4, first, bits(network.broadcast()).1)
    }

    fn meets_range(&self, is_v4: bool, first: u128, last: u128) -> bool {
        let ranges = if is_v4 { &self.v4 } else { &self.v6 };
        let place = ranges.partition_point(|range| range.1 < first);
        ranges.get(place).is_some_and(|range| range.0 <= last)
    }
}

fn bits(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (true, u128::from(address.to_bits())),
        IpAddr::V6(address) => (false, address.to_bits()),
    }
}

fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut all: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match all.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => all.push((first, last)),
        }
    }
    all
}
