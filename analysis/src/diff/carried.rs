//! Requests as the mesh carries them: a port carries one protocol for every workload, whatever a
//! client speaks there.

use std::collections::BTreeSet;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::ports::{MeshPorts, StatedPorts};
use egress_policy::verdict::ReasonCode;

use super::Side;
use super::report::PortChange;
use crate::owned_facts::OwnedFacts;

/// What becomes of a request or a connection at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carriage {
    /// It is judged as it was asked for.
    AsAsked,
    /// The port carries opaque TCP, so sidecars send it by address.
    ByAddress,
    /// The port carries something else, so it does not get through.
    Refused,
}

impl Carriage {
    /// The facts that a gateway judges.
    pub(super) fn judged(self, asked: &OwnedFacts) -> OwnedFacts {
        let mut facts = asked.clone();
        match self {
            Self::AsAsked => {}
            Self::ByAddress => {
                facts.protocol = Protocol::Tcp;
                facts.name = Fact::Known(None);
                facts.method = Fact::Missing;
                facts.path = Fact::Missing;
                facts.upgrade = Fact::Missing;
            }
            Self::Refused => facts.refused = Some(ReasonCode::HelloMalformed),
        }
        facts
    }
}

/// What ports carry on both sides.
pub(super) struct CarriedPorts {
    old: MeshPorts,
    new: MeshPorts,
}

impl CarriedPorts {
    /// Reads it off both sides. A manifest says nothing of the install settings that it was rendered
    /// with; then those of the other side count.
    pub(super) fn of(old: &Side<'_>, new: &Side<'_>) -> Self {
        let ports = |side: &Side<'_>, other: &Side<'_>| {
            let settings: &StatedPorts = if side.layers.rendered {
                &other.layers.protocols
            } else {
                &side.layers.protocols
            };
            MeshPorts::of(&side.layers.policies, settings, &mut Vec::new())
        };
        Self {
            old: ports(old, new),
            new: ports(new, old),
        }
    }

    /// What a port carries before and after.
    fn at(&self, port: u16) -> [Protocol; 2] {
        [self.old.protocol(port), self.new.protocol(port)]
    }

    /// The ports that carry something else than before.
    pub(super) fn changed(&self) -> BTreeSet<u16> {
        let routed = self.routed().into_iter();
        routed
            .filter(|port| {
                let [old, new] = self.at(*port);
                old != new
            })
            .collect()
    }

    /// The ports that carry HTTP or TLS on some side.
    pub(super) fn routed(&self) -> BTreeSet<u16> {
        let sides = [&self.old, &self.new].into_iter();
        sides
            .flat_map(|side| side.http.iter().chain(&side.tls))
            .copied()
            .collect()
    }

    /// The changed ports as ranges, for people.
    pub(super) fn changes(&self) -> Vec<PortChange> {
        let mut changes: Vec<(u16, u16, [Protocol; 2])> = Vec::new();
        for port in self.changed() {
            let carried = self.at(port);
            match changes.last_mut() {
                Some((_, last, same)) if last.checked_add(1) == Some(port) && *same == carried => {
                    *last = port;
                }
                _ => changes.push((port, port, carried)),
            }
        }
        changes
            .into_iter()
            .map(|(first, last, [old, new])| PortChange::new(first, last, old, new))
            .collect()
    }

    /// What becomes of a protocol at a port, before and after. `None` where the mesh never carries
    /// it so, or where other facts stand for it.
    pub(super) fn carriage(&self, asked: Protocol, port: u16) -> Option<[Carriage; 2]> {
        use Protocol::{Http, Tcp, Tls};
        let [old, new] = self.at(port);
        if asked == Protocol::Udp {
            return Some([Carriage::AsAsked; 2]);
        }
        if old == new {
            // At a port of opaque TCP the same comes by address as opaque TCP.
            return (asked == old || asked == Tcp).then_some([Carriage::AsAsked; 2]);
        }
        Some([old, new].map(|carried| match (asked, carried) {
            (Http | Tls, Tcp) => Carriage::ByAddress,
            (asked, carried) if asked == carried => Carriage::AsAsked,
            _ => Carriage::Refused,
        }))
    }
}
