//! What was learned about a connection is kept for its later requests.

use std::collections::BTreeMap;
use std::rc::Rc;

use egress_policy::facts::Fact;

use crate::caller::Identity;
use egress_policy::facts::OwnedClaims;

/// Connections in one generation.
const GENERATION: usize = 1_024;

/// The peer of one connection. It does not change: a certificate is presented once, and a sidecar
/// reads its labels once, at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who the certificate says.
    pub identity: Fact<Identity>,
    /// What filter state says.
    pub claims: Fact<OwnedClaims>,
}

/// A bounded memory of peers by Envoy's connection id, which is never used twice. Two generations:
/// when the younger is full the elder is forgotten, and who is asked for again moves up.
#[derive(Debug, Default)]
pub struct Connections {
    young: BTreeMap<u64, Rc<Peer>>,
    old: BTreeMap<u64, Rc<Peer>>,
}

impl Connections {
    /// The peer of a connection, if it is remembered.
    pub fn get(&mut self, id: u64) -> Option<Rc<Peer>> {
        if let Some(peer) = self.young.get(&id) {
            return Some(Rc::clone(peer));
        }
        let peer = Rc::clone(self.old.get(&id)?);
        self.insert(id, Rc::clone(&peer));
        Some(peer)
    }

    /// Remembers a peer.
    pub fn insert(&mut self, id: u64, peer: Rc<Peer>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Rc<Peer> {
        Rc::new(Peer {
            identity: Fact::Known(Identity::Plaintext),
            claims: Fact::Known(OwnedClaims::default()),
        })
    }

    #[test]
    fn a_peer_in_use_is_kept_and_memory_is_bounded() {
        let mut connections = Connections::default();
        connections.insert(u64::MAX, peer());
        for id in 0..10_000 {
            connections.insert(id, peer());
            assert!(connections.get(u64::MAX).is_some(), "after {id}");
            assert!(connections.young.len() + connections.old.len() <= 2 * GENERATION);
        }
        assert!(connections.get(0).is_none());
    }
}
