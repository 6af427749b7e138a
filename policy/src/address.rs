//! Addresses: networks as a policy writes them, and the addresses that no name may lead to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::name::canonical;

/// Parses a network in CIDR form, strictly: a prefix length, no host bits, no IPv4-mapped IPv6.
///
/// # Errors
/// A message and a hint for the policy's author.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    // The standard library's parser: ipnet's own takes 010.0.0.0 for 10.0.0.0, and others for 8.0.0.0.
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
    let Some(length) = length else {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Err(NetworkError::NoPrefix(format!("{address}/{bits}")));
    };
    let plain = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length = length.parse().ok().filter(|_| plain);
    let net = length
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or(NetworkError::Syntax)?;
    if net.trunc() != net {
        return Err(NetworkError::HostBits(net.trunc()));
    }
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err(NetworkError::Mapped);
    }
    Ok(net)
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// An address without a prefix length.
    #[error("a network needs its prefix length")]
    NoPrefix(String),
    /// Bits set behind the prefix.
    #[error("bits are set behind the prefix length")]
    HostBits(IpNet),
    /// `::ffff:a.b.c.d`.
    #[error("an IPv4-mapped address is compared as IPv4")]
    Mapped,
    /// Not a network at all.
    #[error("this is not a network in CIDR form")]
    Syntax,
}

impl NetworkError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoPrefix(fixed) => format!("write `{fixed}`"),
            Self::HostBits(fixed) => format!("write `{fixed}`"),
            Self::Mapped => "write the IPv4 network".to_owned(),
            Self::Syntax => "for example 203.0.113.0/24 or 2001:db8::/32".to_owned(),
        }
    }
}

/// What kind of address a name must not lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// 127.0.0.0/8, `::1`.
    Loopback,
    /// RFC 1918, `fc00::/7`.
    Private,
    /// 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// 100.64.0.0/10 (RFC 6598).
    SharedCgnat,
    /// 224.0.0.0/4, `ff00::/8`.
    Multicast,
    /// A cloud provider's metadata or control address that lies in public space.
    CloudMetadata,
    /// 0.0.0.0/8, ::, broadcast and the reserved 240.0.0.0/4 and 192.0.0.0/24.
    Reserved,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::SharedCgnat => "shared (CGNAT)",
            Self::Multicast => "multicast",
            Self::CloudMetadata => "cloud metadata",
            Self::Reserved => "reserved",
        })
    }
}

/// Azure's wire server is the one metadata address in public space; the others (169.254.169.254,
/// `fd00:ec2::254`, 100.100.100.200, 192.0.0.192) lie in ranges below.
const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// The kind of special address, if it is one, seen through every form that carries an IPv4
/// address inside IPv6. Documentation ranges are ordinary addresses.
#[must_use]
pub fn special(address: IpAddr) -> Option<Special> {
    match canonical(address) {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

/// The well-known NAT64 prefix, `64:ff9b::/96` (RFC 6052 §2.1), without the IPv4 address behind it.
const NAT64: u128 = 0x0064_ff9b << 64;

/// The IPv4 address that the well-known NAT64 prefix carries (RFC 6052 §2.1). Behind a translator
/// that is where the connection ends, so a Deny of an IPv4 network is about it too.
#[must_use]
pub fn behind_nat64(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let bits = v6.to_bits();
    let low = u32::try_from(bits & u128::from(u32::MAX)).ok()?;
    (bits >> 32 == NAT64).then_some(IpAddr::V4(Ipv4Addr::from_bits(low)))
}

/// The NAT64 form of an IPv4 network: the IPv6 network whose addresses [`behind_nat64`] leads into it.
#[must_use]
pub fn in_nat64(network: &IpNet) -> Option<IpNet> {
    let IpNet::V4(v4) = network else { return None };
    let bits = (NAT64 << 32) | u128::from(v4.network().to_bits());
    let length = v4.prefix_len().saturating_add(96);
    IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), length).ok()
}

fn special_v4(v4: Ipv4Addr) -> Option<Special> {
    let [a, b, c, _] = v4.octets();
    match (a, b, c) {
        (127, ..) => Some(Special::Loopback),
        (10, ..) | (192, 168, _) | (172, 16..=31, _) => Some(Special::Private),
        (169, 254, _) => Some(Special::LinkLocal),
        (100, 64..=127, _) => Some(Special::SharedCgnat),
        (224..=239, ..) => Some(Special::Multicast),
        (0 | 240..=255, ..) | (192, 0, 0) => Some(Special::Reserved),
        _ if v4 == AZURE_WIRE_SERVER => Some(Special::CloudMetadata),
        _ => None,
    }
}

fn special_v6(v6: Ipv6Addr) -> Option<Special> {
    if v6.is_loopback() {
        return Some(Special::Loopback);
    }
    if v6.is_unspecified() {
        return Some(Special::Reserved);
    }
    let segments = v6.segments();
    let [first, second, ..] = segments;
    match first {
        0xfe80..=0xfebf => return Some(Special::LinkLocal),
        // Unique local, and site-local (deprecated by RFC 3879, still routed privately).
        0xfc00..=0xfdff | 0xfec0..=0xfeff => return Some(Special::Private),
        0xff00..=0xffff => return Some(Special::Multicast),
        _ => {}
    }
    if (first, second) == (0x64, 0xff9b) && segments.get(2) == Some(&1) {
        // 64:ff9b:1::/48, local-use NAT64 (RFC 8215): where the address lies is the site's choice.
        return Some(Special::Private);
    }
    embedded_v4(v6).and_then(special_v4)
}

/// The IPv4 address inside NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380), the
/// IPv4-compatible form (RFC 4291 §2.5.5.1) or the IPv4-translated one (RFC 2765 §2.1).
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = v6.octets();
    let at = |i: usize| octets.get(i).copied().unwrap_or_default();
    let quad = |i: usize| Ipv4Addr::new(at(i), at(i + 1), at(i + 2), at(i + 3));
    let nat64 = octets.starts_with(&[0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]);
    let compatible = octets.starts_with(&[0; 12]);
    let translated = octets.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
    if nat64 || compatible || translated {
        Some(quad(12))
    } else if octets.starts_with(&[0x20, 0x02]) {
        Some(quad(2))
    } else if octets.starts_with(&[0x20, 0x01, 0, 0]) {
        // The client's address, obfuscated by exclusive-or (RFC 4380 §4).
        Some(Ipv4Addr::from_bits(!quad(12).to_bits()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
