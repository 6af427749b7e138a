//! The set elements that stand for one pod.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::TABLE;
use crate::attachment::{Attachment, GuardMode};

/// An nftables family in which the guard has a table.
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
    /// The element's key, in nftables' syntax.
    pub key: String,
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {TABLE} {} {{ {} }}", self.family, self.set, self.key)
    }
}

/// An address as nftables writes raw bytes of a packet.
#[must_use]
pub fn raw(address: Ipv6Addr) -> String {
    format!("{:#x}", u128::from(address))
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
        key: address.to_string(),
    };
    attachment.addresses.iter().map(element).collect()
}

/// All elements of a pod interface but its UDP grants; none for an exempt one.
#[must_use]
pub fn elements(attachment: &Attachment, treatment: &GuardMode) -> Vec<Element> {
    let (gateway, count_only) = match treatment {
        GuardMode::Exempt => return Vec::new(),
        GuardMode::Guarded { count_only, .. } => (false, *count_only),
        GuardMode::Gateway { count_only } => (true, *count_only),
    };
    let mut all = Vec::with_capacity(8 + attachment.addresses.len() * 8);
    let mut push = |family, set, key: &str| {
        all.push(Element {
            family,
            set,
            key: key.to_owned(),
        });
    };
    let link = format!("\"{}\"", attachment.host_link);
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
        let (key, own) = (address.to_string(), format!("{link} . {address}"));
        for family in Family::ALL {
            push(family, by_family(*address, "own4", "own6"), &own);
        }
        if let IpAddr::V6(address) = address {
            let key = format!("{link} . {}", raw(*address));
            push(Family::Bridge, "advertised6", &key);
        }
        let class = if gateway {
            by_family(*address, "gateway_pod4", "gateway_pod6")
        } else {
            by_family(*address, "pod4", "pod6")
        };
        push(Family::Inet, class, &key);
        if !gateway {
            for (v4, v6) in [("gateway_new4", "gateway_new6"), ("limited4", "limited6")] {
                push(Family::Inet, by_family(*address, v4, v6), &key);
            }
        }
        push(
            Family::Inet,
            by_family(*address, "dropped4", "dropped6"),
            &key,
        );
        push(
            Family::Inet,
            by_family(*address, "logged4", "logged6"),
            &key,
        );
        if count_only {
            push(
                Family::Inet,
                by_family(*address, "count_only4", "count_only6"),
                &key,
            );
        }
    }
    all
}
