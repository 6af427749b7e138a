//! From an address to the networks that hold it: one look-up per prefix length in use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use ipnet::IpNet;

use super::names::ClassId;

/// All networks of a policy.
#[derive(Debug, Default)]
pub(crate) struct NetworkIndex {
    v4: HashMap<(u32, u8), ClassId>,
    v6: HashMap<(u128, u8), ClassId>,
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
}

impl NetworkIndex {
    /// The class of a network, which `new` makes if there is none yet.
    pub(super) fn class_of(
        &mut self,
        net: IpNet,
        new: impl FnOnce() -> Option<ClassId>,
    ) -> Option<ClassId> {
        let length = net.prefix_len();
        let (slot, lengths) = match net {
            IpNet::V4(v4) => (
                self.v4.get(&(v4.network().to_bits(), length)),
                &mut self.v4_lengths,
            ),
            IpNet::V6(v6) => (
                self.v6.get(&(v6.network().to_bits(), length)),
                &mut self.v6_lengths,
            ),
        };
        if let Some(class) = slot {
            return Some(*class);
        }
        if !lengths.contains(&length) {
            lengths.push(length);
        }
        let class = new()?;
        match net {
            IpNet::V4(v4) => self.v4.insert((v4.network().to_bits(), length), class),
            IpNet::V6(v6) => self.v6.insert((v6.network().to_bits(), length), class),
        };
        Some(class)
    }

    /// Every network with its class.
    pub(super) fn all(&self) -> impl Iterator<Item = (ClassId, IpNet)> {
        let v4 = self.v4.iter().filter_map(|((bits, length), class)| {
            let net = IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(*bits)), *length);
            Some((*class, net.ok()?))
        });
        let v6 = self.v6.iter().filter_map(|((bits, length), class)| {
            let net = IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(*bits)), *length);
            Some((*class, net.ok()?))
        });
        v4.chain(v6)
    }

    /// Calls `found` with the class of every network that holds the address.
    pub(super) fn matches(&self, address: IpAddr, mut found: impl FnMut(ClassId)) {
        match address {
            IpAddr::V4(v4) => {
                for length in &self.v4_lengths {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                    self.v4
                        .get(&(v4.to_bits() & mask, *length))
                        .copied()
                        .into_iter()
                        .for_each(&mut found);
                }
            }
            IpAddr::V6(v6) => {
                for length in &self.v6_lengths {
                    let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                    self.v6
                        .get(&(v6.to_bits() & mask, *length))
                        .copied()
                        .into_iter()
                        .for_each(&mut found);
                }
            }
        }
    }
}
