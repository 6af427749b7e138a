//! The set elements that stand for one pod.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::TABLE;
use crate::attachment::{Attachment, GuardMode, LinkName};

/// An nftables family in which the node guard has a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Routed IPv4 and IPv6.
    Inet,
    /// Frames between bridge ports.
    Bridge,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Inet, Self::Bridge];

    /// The keyword nftables uses.
    #[must_use]
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.keyword())
    }
}

/// One element of one set. `Display` prints what follows `add element` or `delete element`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The table's family.
    pub family: Family,
    /// The set's name.
    pub set: &'static str,
    /// What it stands for.
    pub key: ElementKey,
}

/// The key of a set element. `Display` prints it in nftables' syntax.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElementKey {
    /// The host side of a pod's veth pair.
    Link(LinkName),
    /// An address of a pod.
    Address(IpAddr),
    /// A host link and an address that the pod behind it may use.
    LinkAddress(LinkName, IpAddr),
    /// A host link and an address that the pod behind it may advertise. nftables 1.0.6 has no name
    /// for the field of the packet, so the address is written as its raw bytes.
    LinkAdvertised(LinkName, Ipv6Addr),
    /// What no pod interface can have as its key, as `nft` prints it. Only the kernel's listing
    /// has such keys; their elements are deleted.
    Foreign(String),
}

impl ElementKey {
    /// Reads the key of an element of `set` from its parts in `nft -j`. What cannot be a pod's key
    /// in that set is [`ElementKey::Foreign`].
    #[must_use]
    pub fn parse(set: &str, parts: &[&str]) -> Self {
        Self::of_pod(set, parts).unwrap_or_else(|| Self::Foreign(foreign(set, parts)))
    }

    fn of_pod(set: &str, parts: &[&str]) -> Option<Self> {
        let link = |name: &str| LinkName::try_from(name.to_owned()).ok();
        match parts {
            [name] if keyed_by_link(set) => Some(Self::Link(link(name)?)),
            [address] => Some(Self::Address(address.parse().ok()?)),
            [name, raw] if set == ADVERTISED => {
                let bits = u128::from_str_radix(raw.strip_prefix("0x")?, 16).ok()?;
                Some(Self::LinkAdvertised(link(name)?, bits.into()))
            }
            [name, address] => Some(Self::LinkAddress(link(name)?, address.parse().ok()?)),
            _ => None,
        }
    }
}

/// The set of addresses that pods may advertise.
const ADVERTISED: &str = "advertised6";

/// Whether the set's keys are interface names alone.
fn keyed_by_link(set: &str) -> bool {
    set.ends_with("_if")
}

/// The parts as nftables reads them: interface names are quoted, and a name comes first.
fn foreign(set: &str, parts: &[&str]) -> String {
    let named = parts.len() > 1 || keyed_by_link(set);
    let part = |(index, part): (usize, &&str)| match index {
        0 if named => format!("\"{part}\""),
        _ => (*part).to_owned(),
    };
    let parts: Vec<String> = parts.iter().enumerate().map(part).collect();
    parts.join(" . ")
}

impl fmt::Display for ElementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "\"{link}\""),
            Self::Address(address) => write!(f, "{address}"),
            Self::LinkAddress(link, address) => write!(f, "\"{link}\" . {address}"),
            Self::LinkAdvertised(link, address) => {
                write!(f, "\"{link}\" . {:#x}", address.to_bits())
            }
            Self::Foreign(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {TABLE} {} {{ {} }}", self.family, self.set, self.key)
    }
}

/// Picks the set of an address family.
fn by_family(address: IpAddr, v4: &'static str, v6: &'static str) -> &'static str {
    if address.is_ipv4() { v4 } else { v6 }
}

/// The elements that the rules themselves make of a pod interface when it first connects to the
/// gateway. They are only ever deleted here.
#[must_use]
pub fn counted(attachment: &Attachment) -> Vec<Element> {
    let element = |address: &IpAddr| Element {
        family: Family::Inet,
        set: by_family(*address, "gateway_open4", "gateway_open6"),
        key: ElementKey::Address(*address),
    };
    attachment.addresses.iter().map(element).collect()
}

/// All elements of a pod interface but its UDP grants; none for an exempt one.
#[must_use]
pub fn elements(attachment: &Attachment, mode: &GuardMode) -> Vec<Element> {
    let (gateway, count_only) = match mode {
        GuardMode::Exempt => return Vec::new(),
        GuardMode::Guarded { count_only, .. } => (false, *count_only),
        GuardMode::Gateway { count_only } => (true, *count_only),
    };
    let mut all = Vec::with_capacity(8 + attachment.addresses.len() * 8);
    let mut push = |family, set, key: &ElementKey| {
        all.push(Element {
            family,
            set,
            key: key.clone(),
        });
    };
    let name = &attachment.host_link;
    let link = ElementKey::Link(name.clone());
    for family in Family::ALL {
        push(family, "guarded_if", &link);
        push(family, "dropped_if", &link);
        push(family, "logged_if", &link);
        if count_only {
            push(family, "count_only_if", &link);
        }
    }
    if gateway {
        push(Family::Bridge, "gateway_if", &link);
    } else {
        push(Family::Bridge, "gateway_new_if", &link);
        push(Family::Bridge, "limited_if", &link);
    }
    for address in &attachment.addresses {
        let (key, own) = (
            ElementKey::Address(*address),
            ElementKey::LinkAddress(name.clone(), *address),
        );
        let by_family = |v4, v6| by_family(*address, v4, v6);
        for family in Family::ALL {
            push(family, by_family("own4", "own6"), &own);
        }
        if let IpAddr::V6(address) = address {
            let key = ElementKey::LinkAdvertised(name.clone(), *address);
            push(Family::Bridge, ADVERTISED, &key);
        }
        let class = if gateway {
            by_family("gateway_pod4", "gateway_pod6")
        } else {
            by_family("pod4", "pod6")
        };
        push(Family::Inet, class, &key);
        if !gateway {
            for (v4, v6) in [("gateway_new4", "gateway_new6"), ("limited4", "limited6")] {
                push(Family::Inet, by_family(v4, v6), &key);
            }
        }
        push(Family::Inet, by_family("dropped4", "dropped6"), &key);
        push(Family::Inet, by_family("logged4", "logged6"), &key);
        if count_only {
            push(Family::Inet, by_family("count_only4", "count_only6"), &key);
        }
    }
    all
}
