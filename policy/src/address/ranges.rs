//! Sets of addresses as ranges, for unions, differences and one canonical list of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// First and last, as bits.
type Range = (u128, u128);

/// A set of addresses. Ranges are ascending and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    v4: Vec<Range>,
    v6: Vec<Range>,
}

impl<'n> FromIterator<&'n IpNet> for Ranges {
    fn from_iter<I: IntoIterator<Item = &'n IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in networks {
            let own = if net.addr().is_ipv4() {
                &mut v4
            } else {
                &mut v6
            };
            own.push((bits(net.network()), bits(net.broadcast())));
        }
        Self {
            v4: merged(v4),
            v6: merged(v6),
        }
    }
}

impl Ranges {
    /// What is in this set and not in the other.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self {
            v4: difference(&self.v4, &other.v4),
            v6: difference(&self.v6, &other.v6),
        }
    }

    /// Whether the whole network is in the set.
    pub(crate) fn cover(&self, net: &IpNet) -> bool {
        let last = bits(net.broadcast());
        self.last_from(net.network())
            .is_some_and(|range| last <= range.1)
    }

    /// Whether an address is in the set.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let at = bits(address);
        self.last_from(address).is_some_and(|range| at <= range.1)
    }

    /// Whether the set and a network have an address in common.
    #[must_use]
    pub fn meets(&self, net: &IpNet) -> bool {
        let first = bits(net.network());
        self.last_from(net.broadcast())
            .is_some_and(|range| first <= range.1)
    }

    /// The last range that begins at or before an address.
    fn last_from(&self, address: IpAddr) -> Option<&Range> {
        let ranges = if address.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        let at = bits(address);
        let behind = ranges.partition_point(|range| range.0 <= at);
        behind.checked_sub(1).and_then(|i| ranges.get(i))
    }

    /// The fewest networks that make up the set, IPv4 first, ascending.
    pub(crate) fn networks(&self) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for range in &self.v4 {
            split(*range, 32, |first, length| {
                let address = Ipv4Addr::from_bits(u32::try_from(first).ok()?);
                networks.push(IpNet::V4(Ipv4Net::new(address, length).ok()?));
                Some(())
            });
        }
        for range in &self.v6 {
            split(*range, 128, |first, length| {
                let net = IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(first)), length).ok()?;
                networks.push(net);
                Some(())
            });
        }
        networks
    }
}

/// An address as a number.
#[must_use]
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut all: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match all.last_mut() {
            Some(before) if before.1.checked_add(1).is_none_or(|next| first <= next) => {
                before.1 = before.1.max(last);
            }
            _ => all.push((first, last)),
        }
    }
    all
}

fn difference(from: &[Range], cuts: &[Range]) -> Vec<Range> {
    let mut left = Vec::with_capacity(from.len());
    let mut cuts = cuts.iter().peekable();
    for (first, last) in from.iter().copied() {
        let mut start = Some(first);
        while let Some(cut) = cuts.peek() {
            let Some(here) = start else { break };
            if cut.1 < here {
                cuts.next();
                continue;
            }
            if cut.0 > last {
                break;
            }
            if let Some(before) = cut.0.checked_sub(1).filter(|before| here <= *before) {
                left.push((here, before));
            }
            start = cut.1.checked_add(1).filter(|next| *next <= last);
        }
        left.extend(start.map(|start| (start, last)));
    }
    left
}

/// Splits a range into networks, ascending.
fn split((first, last): Range, bits: u32, mut each: impl FnMut(u128, u8) -> Option<()>) {
    let mut start = Some(first);
    while let Some(here) = start {
        // As large as its alignment and what is left allow.
        let room = last - here;
        let aligned = if here == 0 {
            bits
        } else {
            here.trailing_zeros().min(bits)
        };
        let fits = match room.checked_add(1) {
            Some(count) => count.ilog2().min(bits),
            None => bits,
        };
        let size = aligned.min(fits);
        let end = here | 1_u128.checked_shl(size).map_or(u128::MAX, |size| size - 1);
        let length = u8::try_from(bits - size).unwrap_or(u8::MAX);
        if each(here, length).is_none() {
            return;
        }
        start = end.checked_add(1).filter(|next| *next <= last);
    }
}
