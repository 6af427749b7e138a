//! IPv4 addresses inside IPv6 ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use smallvec::SmallVec;

/// The well-known NAT64 prefix, `64:ff9b::/96` (RFC 6052 section 2.1).
pub const NAT64_WELL_KNOWN: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// 6to4, `2002::/16`: the IPv4 address follows (RFC 3056 section 2).
const SIX_TO_FOUR: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);
/// `::/96` (RFC 4291 section 2.5.5.1).
const COMPATIBLE: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96);
/// `::ffff:0:0/96` (RFC 4291 section 2.5.5.2).
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// The first and the bit behind the last of the octet that RFC 6052 keeps zero.
const U: (u8, u8) = (64, 72);

/// Network-specific NAT64 prefixes (RFC 6052 section 2.2) that a gateway stands behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nat64Prefixes([Option<Ipv6Net>; Nat64Prefixes::MOST]);

/// Why a network is no NAT64 prefix of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotNat64 {
    /// RFC 6052 section 2.2 knows six lengths.
    #[error("a NAT64 prefix has 32, 40, 48, 56, 64 or 96 bits (RFC 6052)")]
    Length,
    /// Bits 64 to 71 are not zero, or bits are set behind the prefix.
    #[error("bits 64 to 71 of a NAT64 prefix, and those behind it, are zero (RFC 6052)")]
    Bits,
    /// More than [`Nat64Prefixes::MOST`].
    #[error("more NAT64 prefixes than can be stated")]
    TooMany,
}

impl Nat64Prefixes {
    /// None: only the well-known prefix is seen through.
    pub const NONE: Self = Self([None; Self::MOST]);

    /// How many there can be.
    pub const MOST: usize = 4;

    /// With one more.
    ///
    /// # Errors
    /// If it is no NAT64 prefix, or there are [`Nat64Prefixes::MOST`] already.
    pub fn with(mut self, prefix: Ipv6Net) -> Result<Self, NotNat64> {
        if !matches!(prefix.prefix_len(), 32 | 40 | 48 | 56 | 64 | 96) {
            return Err(NotNat64::Length);
        }
        let u_bits = (prefix.addr().to_bits() >> 56) & 0xff;
        if prefix.trunc() != prefix || u_bits != 0 {
            return Err(NotNat64::Bits);
        }
        if self.iter().any(|known| known == prefix) {
            return Ok(self);
        }
        let free = self.0.iter_mut().find(|place| place.is_none());
        *free.ok_or(NotNat64::TooMany)? = Some(prefix);
        Ok(self)
    }

    /// Those stated, in the order of stating; never the well-known one.
    pub fn iter(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.0.iter().copied().flatten()
    }

    /// The IPv4 addresses that an IPv6 one leads to: behind NAT64, well-known and these, and by
    /// 6to4, or that it is another spelling of (mapped, compatible). A Deny of an IPv4 network is
    /// about them too.
    #[must_use]
    pub fn behind(&self, address: IpAddr) -> SmallVec<[Ipv4Addr; 1]> {
        let IpAddr::V6(v6) = address else {
            return SmallVec::new();
        };
        let plain = [NAT64_WELL_KNOWN, SIX_TO_FOUR, COMPATIBLE, MAPPED];
        let prefixes = plain.into_iter().chain(self.iter());
        let holding = prefixes.filter(|prefix| prefix.contains(&v6));
        holding
            .map(|prefix| taken_out(v6, prefix.prefix_len()))
            .collect()
    }
}

/// The 32 bits behind a prefix, without the octet `u` of RFC 6052.
fn taken_out(v6: Ipv6Addr, length: u8) -> Ipv4Addr {
    let bits = v6.to_bits();
    let at = |bit: u8| (bits >> (127 - u32::from(bit))) & 1;
    let mut place = length;
    let mut v4 = 0_u128;
    for _ in 0..32 {
        if length != 16 && (U.0..U.1).contains(&place) {
            place = U.1;
        }
        v4 = (v4 << 1) | at(place);
        place = place.saturating_add(1).min(127);
    }
    Ipv4Addr::from_bits(u32::try_from(v4).unwrap_or(u32::MAX))
}

/// The IPv6 network whose addresses carry those of an IPv4 network behind a prefix.
fn put_in(net: Ipv4Net, prefix: Ipv6Net) -> Option<IpNet> {
    let mut bits = prefix.network().to_bits();
    let mut place = prefix.prefix_len();
    let v4 = net.network().to_bits();
    for bit in 0..net.prefix_len() {
        if prefix.prefix_len() != 16 && (U.0..U.1).contains(&place) {
            place = U.1;
        }
        let set = (v4 >> (31 - u32::from(bit))) & 1;
        bits |= u128::from(set) << (127 - u32::from(place));
        place = place.checked_add(1)?;
    }
    Some(IpNet::V6(
        Ipv6Net::new(Ipv6Addr::from_bits(bits), place).ok()?,
    ))
}

/// What the install settings add to the addresses that no name may lead to, `allowPrivate` or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The cluster's own: pods, services, nodes, the API server.
    pub networks: Vec<IpNet>,
    /// NAT64 prefixes that the gateway stands behind. They are seen through, not refused.
    pub nat64: Nat64Prefixes,
}

/// The IPv6 forms of an IPv4 network: NAT64 (well-known, and network-specific ones of the
/// environment), 6to4, mapped, compatible. Of an IPv6 network nothing.
#[must_use]
pub fn embeddings(net: &IpNet, environment: &Environment) -> Vec<IpNet> {
    let IpNet::V4(v4) = net else {
        return Vec::new();
    };
    let plain = [NAT64_WELL_KNOWN, SIX_TO_FOUR, COMPATIBLE, MAPPED];
    let prefixes = plain.into_iter().chain(environment.nat64.iter());
    prefixes.filter_map(|prefix| put_in(*v4, prefix)).collect()
}
