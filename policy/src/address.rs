//! Addresses: networks as a policy writes them, and the addresses that no name may lead to.

mod embedded;
mod ranges;
mod special;

use std::net::IpAddr;

use ipnet::IpNet;

pub use embedded::{Environment, NAT64_WELL_KNOWN, Nat64Prefixes, NotNat64, embeddings};
pub use ranges::{Ranges, bits};
pub use special::{SPECIAL, Special, SpecialRange, metadata, special};

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

#[cfg(test)]
mod tests;
