//! The addresses that no name may lead to: one table for all parts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::embedded::Nat64Prefixes;

/// What kind of address a name must not lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// A cloud provider's metadata or control address, wherever it lies.
    CloudMetadata,
    /// An IPv4 address in a form of IPv6 that no honest answer has: mapped, compatible, translated,
    /// local-use NAT64, Teredo.
    Embedded,
    /// Reserved, for protocols' or benchmarks' own use, or given back.
    Reserved,
}

impl Special {
    /// Whether `allowPrivate` opens it: RFC 1918, unique local addresses and the shared ones
    /// (CGNAT), nothing else.
    #[must_use]
    pub const fn opened_by_allow_private(self) -> bool {
        matches!(self, Self::Private | Self::SharedCgnat)
    }
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
            Self::Embedded => "IPv4 inside IPv6",
            Self::Reserved => "reserved",
        })
    }
}

/// A row of [`SPECIAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialRange {
    /// Which addresses.
    pub network: IpNet,
    /// What they are. The longest prefix that holds an address says it.
    pub kind: Special,
    /// Where that is written: an RFC, or the vendor's page.
    pub source: &'static str,
}

const fn v4(octets: [u8; 4], length: u8, kind: Special, source: &'static str) -> SpecialRange {
    let [a, b, c, d] = octets;
    SpecialRange {
        network: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)),
        kind,
        source,
    }
}

const fn v6(bits: u128, length: u8, kind: Special, source: &'static str) -> SpecialRange {
    SpecialRange {
        network: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), length)),
        kind,
        source,
    }
}

/// Everything that IANA's two special-purpose address registries do not call globally reachable
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>, and ipv6), without the
/// documentation ranges, which are ordinary addresses; multicast; and the metadata addresses of
/// clouds. Of 192.0.0.0/24 and `2001::/23` the few reachable parts (anycast of protocols) are in it
/// too. 6to4 (`2002::/16`) and the well-known NAT64 prefix are seen through, not refused.
pub const SPECIAL: [SpecialRange; 44] = [
    v4([0, 0, 0, 0], 8, Special::Reserved, "RFC 791"),
    v4([10, 0, 0, 0], 8, Special::Private, "RFC 1918"),
    v4([100, 64, 0, 0], 10, Special::SharedCgnat, "RFC 6598"),
    v4(
        [100, 100, 100, 200],
        32,
        Special::CloudMetadata,
        "Alibaba Cloud, View instance metadata",
    ),
    v4([127, 0, 0, 0], 8, Special::Loopback, "RFC 1122"),
    v4(
        [168, 63, 129, 16],
        32,
        Special::CloudMetadata,
        "Azure, What is IP address 168.63.129.16",
    ),
    v4([169, 254, 0, 0], 16, Special::LinkLocal, "RFC 3927"),
    v4(
        [169, 254, 169, 123],
        32,
        Special::CloudMetadata,
        "AWS, Amazon Time Sync Service",
    ),
    v4(
        [169, 254, 169, 253],
        32,
        Special::CloudMetadata,
        "AWS, Route 53 Resolver",
    ),
    v4(
        [169, 254, 170, 2],
        32,
        Special::CloudMetadata,
        "AWS, task metadata and credentials of ECS",
    ),
    v4(
        [169, 254, 170, 23],
        32,
        Special::CloudMetadata,
        "AWS, EKS Pod Identity",
    ),
    v4(
        [169, 254, 169, 254],
        32,
        Special::CloudMetadata,
        "AWS, Azure, Google Cloud and others, instance metadata",
    ),
    v4([172, 16, 0, 0], 12, Special::Private, "RFC 1918"),
    v4([192, 0, 0, 0], 24, Special::Reserved, "RFC 6890"),
    v4(
        [192, 0, 0, 192],
        32,
        Special::CloudMetadata,
        "Oracle Cloud Classic, instance metadata",
    ),
    v4([192, 88, 99, 0], 24, Special::Reserved, "RFC 7526"),
    v4([192, 168, 0, 0], 16, Special::Private, "RFC 1918"),
    v4([198, 18, 0, 0], 15, Special::Reserved, "RFC 2544"),
    v4([224, 0, 0, 0], 4, Special::Multicast, "RFC 5771"),
    v4([240, 0, 0, 0], 4, Special::Reserved, "RFC 1112"),
    v4([255, 255, 255, 255], 32, Special::Reserved, "RFC 8190"),
    v6(0, 96, Special::Embedded, "RFC 4291 section 2.5.5.1"),
    v6(0, 128, Special::Reserved, "RFC 4291 section 2.5.2"),
    v6(1, 128, Special::Loopback, "RFC 4291 section 2.5.3"),
    v6(
        0xffff << 32,
        96,
        Special::Embedded,
        "RFC 4291 section 2.5.5.2",
    ),
    v6(0xffff << 48, 96, Special::Embedded, "RFC 2765 section 2.1"),
    v6(0x0064_ff9b_0001 << 80, 48, Special::Embedded, "RFC 8215"),
    v6(0x0100 << 112, 64, Special::Reserved, "RFC 6666"),
    v6(
        (0x0100 << 112) | (1 << 64),
        64,
        Special::Reserved,
        "RFC 9780",
    ),
    v6(0x2001 << 112, 23, Special::Reserved, "RFC 2928"),
    v6(0x2001 << 112, 32, Special::Embedded, "RFC 4380"),
    v6(0x2001_0002 << 96, 48, Special::Reserved, "RFC 5180"),
    v6(0x2001_0010 << 96, 28, Special::Reserved, "RFC 4843"),
    v6(0x5f00 << 112, 16, Special::Reserved, "RFC 9602"),
    v6(0xfc00 << 112, 7, Special::Private, "RFC 4193"),
    v6(
        0xfd00_0042 << 96 | 0x42,
        128,
        Special::CloudMetadata,
        "Scaleway, instance metadata",
    ),
    v6(
        0xfd00_0ec2 << 96,
        32,
        Special::CloudMetadata,
        "AWS, local services of Nitro instances",
    ),
    v6(
        0xfd00_0ec2 << 96 | 0x23,
        128,
        Special::CloudMetadata,
        "AWS, EKS Pod Identity",
    ),
    v6(
        0xfd00_0ec2 << 96 | 0x254,
        128,
        Special::CloudMetadata,
        "AWS, instance metadata",
    ),
    v6(
        0xfd20_00ce << 96 | 0x254,
        128,
        Special::CloudMetadata,
        "Google Cloud, metadata server",
    ),
    v6(0xfe80 << 112, 10, Special::LinkLocal, "RFC 4291"),
    v6(
        (0xfe80 << 112) | 0xa9fe_a9fe,
        128,
        Special::CloudMetadata,
        "OpenStack, metadata over IPv6",
    ),
    v6(0xfec0 << 112, 10, Special::Reserved, "RFC 3879"),
    v6(0xff00 << 112, 8, Special::Multicast, "RFC 4291"),
];

/// The kind of special address, if it is one: itself, or as the IPv4 address that its well-known
/// NAT64 or 6to4 form leads to.
#[must_use]
pub fn special(address: IpAddr) -> Option<Special> {
    Nat64Prefixes::NONE.special(address)
}

impl Nat64Prefixes {
    /// As [`special()`], through these prefixes too.
    #[must_use]
    pub fn special(&self, address: IpAddr) -> Option<Special> {
        let v4 = || self.behind(address).into_iter();
        row(address).or_else(|| v4().find_map(|v4| row(IpAddr::V4(v4))))
    }
}

/// The single addresses at which clouds serve a machine's credentials and settings, as far as the
/// table has them one by one.
pub fn metadata() -> impl Iterator<Item = IpAddr> {
    let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    SPECIAL
        .iter()
        .filter(move |row| row.kind == Special::CloudMetadata && single(&row.network))
        .map(|row| row.network.addr())
}

/// The row with the longest prefix that holds the address as it is written.
fn row(address: IpAddr) -> Option<Special> {
    let rows = SPECIAL.iter().filter(|row| row.network.contains(&address));
    rows.max_by_key(|row| row.network.prefix_len())
        .map(|row| row.kind)
}
