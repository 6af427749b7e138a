//! What ports carry on both sides of a comparison.

use std::collections::{BTreeMap, BTreeSet};

use egress_policy::facts::Protocol;
use egress_policy::name::NamePattern;
use egress_policy::ports::StatedPorts;

use super::Side;
use super::report::PortChange;
use crate::carriage::{Carriage, Mesh, originated};

/// What ports carry on both sides.
pub(super) struct CarriedPorts {
    old: Mesh,
    new: Mesh,
    /// By port, the names for which requests are judged there though it carries none: the gateway sends
    /// them on in TLS of its own.
    originated: BTreeMap<u16, [Vec<NamePattern>; 2]>,
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
            Mesh::stated(&side.layers.policies, settings)
        };
        let (old, new) = (ports(old, new), ports(new, old));
        let mut names = BTreeMap::<u16, [Vec<NamePattern>; 2]>::new();
        for (i, mesh) in [&old, &new].into_iter().enumerate() {
            for one in mesh.originations() {
                if let Some(own) = names.entry(one.port).or_default().get_mut(i) {
                    own.extend(originated(one));
                }
            }
        }
        let carried = |port: u16| [&old, &new].map(|mesh| mesh.carries(Protocol::Http, port));
        names.retain(|port, _| carried(*port) == [false, false]);
        Self {
            originated: names,
            old,
            new,
        }
    }

    /// The ports at which requests are judged that leave in TLS of the gateway's own, and their names
    /// before and after.
    pub(super) const fn originated(&self) -> &BTreeMap<u16, [Vec<NamePattern>; 2]> {
        &self.originated
    }

    /// Whether a protocol is judged at a port on some side.
    pub(super) fn exists(&self, protocol: Protocol, port: u16) -> bool {
        let originated = protocol == Protocol::Http && self.originated.contains_key(&port);
        originated || self.carriage(protocol, port).is_some()
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
        sides.flat_map(Mesh::routed).collect()
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
        let [old, new] = self.at(port);
        if old == new && asked != Protocol::Udp {
            // At a port of opaque TCP the same comes by address as opaque TCP.
            return (asked == old || asked == Protocol::Tcp).then_some([Carriage::AsAsked; 2]);
        }
        Some([&self.old, &self.new].map(|mesh| mesh.carriage(asked, port)))
    }
}
