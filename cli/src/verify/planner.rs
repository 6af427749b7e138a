//! What to try: what rules name, what lies beside it, and the ways around the gateway.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use egress_policy::facts::Protocol;
use egress_policy::model::Hosts;
use egress_policy::name::NamePattern;
use egress_policy::port::PortSet;

use super::plan::{Plan, Planned, ProbeTarget, ports};
use super::{Expectation, Group, Probe, bypass, near_misses};

impl Plan<'_> {
    /// Every name whose address matters, to be looked up beforehand; at most so many.
    pub(crate) fn names(&self, most: usize) -> Vec<String> {
        let mut names = BTreeSet::new();
        for to in self.elements() {
            if names.len() >= most {
                break;
            }
            if let Hosts::Names(patterns) = &to.hosts {
                for pattern in patterns.iter().take(most) {
                    let witnesses = self.candidates(pattern);
                    names.extend(near_misses::names(pattern, witnesses.first()));
                    names.extend(witnesses);
                }
            }
        }
        names
            .into_iter()
            .take(most)
            .map(|name| name.as_str().to_owned())
            .collect()
    }

    /// The attempts of these groups.
    pub(crate) fn probes(&self, groups: &[Group], direct: &bypass::Direct) -> Planned {
        let mut named = Planned::default();
        self.named(&mut named);
        let reached: Vec<Probe> = named
            .probes
            .iter()
            .filter(|probe| probe.expected.verdict == Expectation::Reached)
            .cloned()
            .collect();
        let mut planned = Planned::default();
        if groups.contains(&Group::Destinations) {
            planned.not_tried = std::mem::take(&mut named.not_tried);
            // What should work first: with a limit it must not be cut off by what should not.
            let (first, then): (Vec<_>, Vec<_>) = named
                .probes
                .into_iter()
                .partition(|probe| probe.expected.verdict == Expectation::Reached);
            first
                .into_iter()
                .chain(then)
                .for_each(|probe| planned.push(probe));
        }
        if groups.contains(&Group::NearMisses) {
            self.near_misses(&reached, &mut planned);
        }
        if groups.contains(&Group::Bypass) {
            bypass::plan(self, &reached, direct, &mut planned);
        }
        planned
    }

    fn near_misses(&self, reached: &[Probe], planned: &mut Planned) {
        for to in self.elements() {
            if let Hosts::Names(patterns) = &to.hosts {
                for pattern in patterns.iter() {
                    self.beside_name(pattern, &to.ports, planned);
                }
            }
        }
        near_misses::beside_addresses(self, reached, planned);
        near_misses::odd_words(self, reached, planned);
    }

    fn beside_name(&self, pattern: &NamePattern, at: &PortSet, planned: &mut Planned) {
        let Some(witness) = self.witness(pattern) else {
            return;
        };
        for name in near_misses::names(pattern, Some(&witness)) {
            // A name that leads nowhere is tried at the address of the one it imitates.
            let own = self.resolved.get(name.as_str());
            let address = own.or_else(|| self.resolved.get(witness.as_str()));
            for port in ports(at).into_iter().take(2) {
                let spot = ProbeTarget {
                    name: Some(name.clone()),
                    to: SocketAddr::new(address.copied().unwrap_or(self.elsewhere), port),
                    known_live: own.is_some(),
                };
                if self.traffic.protocol(port) != Protocol::Tcp {
                    let attempt = self.attempt(&spot, "GET", "/");
                    let why = format!("beside {pattern}");
                    planned.push_miss(self.probe(Group::NearMisses, why, attempt, spot.known_live));
                }
            }
        }
    }
}
