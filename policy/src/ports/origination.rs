//! Where the gateway speaks TLS itself: for which names, at which port, and with what.
//!
//! The application speaks HTTP. For a server on 443 it asks for `http://NAME`, port 80, because 443
//! carries TLS of the application's own; for a server on any other port it uses that port.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Hosts, Policy, RuleAction, TlsOrigination, To};

use super::{MeshPorts, PortDefect};
use crate::contract::originate_cluster;
use crate::name::{Name, NamePattern};
use crate::relation::patterns_meet;

/// Names that are reached in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origination {
    /// The gateway's cluster for them.
    pub cluster: String,
    /// The port at the outside, where the server speaks TLS.
    pub port: u16,
    /// How the server is verified and what is shown to it.
    pub tls: TlsOrigination,
    /// The names' patterns, as policies write them.
    pub names: BTreeSet<String>,
}

impl Origination {
    /// The port that the application uses.
    #[must_use]
    pub const fn entry(&self) -> u16 {
        match self.port {
            443 => 80,
            port => port,
        }
    }

    /// Whether a name is among them.
    #[must_use]
    pub fn holds(&self, name: &Name) -> bool {
        let patterns = self.names.iter();
        patterns
            .filter_map(|pattern| NamePattern::parse(pattern).ok())
            .any(|pattern| pattern.matches(name))
    }
}

impl MeshPorts {
    /// How the gateway sends a request on that an application makes for a name at a port, if it
    /// speaks TLS for it. The port that it judges is [`Origination::port`].
    #[must_use]
    pub fn origination(&self, name: &Name, port: u16) -> Option<&Origination> {
        let mut all = self.originations.iter();
        all.find(|one| one.entry() == port && one.holds(name))
    }
}

/// By port and settings, the patterns by their text.
type Groups = BTreeMap<(u16, TlsOrigination), BTreeMap<String, NamePattern>>;

/// What the policies come to, whether or not it can be rendered.
#[must_use]
pub fn originations(policies: &[Policy]) -> Vec<Origination> {
    read(policies, &mut Vec::new())
}

/// Reads it off the policies, the first of which alone says how the gateway connects.
pub(super) fn read(policies: &[Policy], problems: &mut Vec<PortDefect>) -> Vec<Origination> {
    let mut groups = Groups::new();
    for (i, policy) in policies.iter().enumerate() {
        for placed in policy.rules() {
            let rule = placed.rule;
            if matches!(rule.action, RuleAction::Deny) {
                continue;
            }
            let place = placed.basis().to_string();
            for to in &rule.to {
                take(to, &place, i == 0, &mut groups, problems);
            }
        }
    }
    check_overlaps(&groups, problems);
    groups
        .into_iter()
        .enumerate()
        .map(|(i, ((port, tls), names))| Origination {
            cluster: originate_cluster(port, i),
            port,
            tls,
            names: names.into_keys().collect(),
        })
        .collect()
}

fn take(to: &To, place: &str, first: bool, groups: &mut Groups, problems: &mut Vec<PortDefect>) {
    let (Some(tls), Hosts::Names(patterns)) = (&to.tls, &to.hosts) else {
        return;
    };
    let count: usize = to.ports.ranges().map(|range| range.len()).sum();
    if to.ports.is_any() || count > MOST_PORTS {
        let message = format!("TLS is originated to at most {MOST_PORTS} ports of a destination");
        problems.push(PortDefect::new(place, message));
        return;
    }
    for port in to.ports.ranges().flatten() {
        let key = (port, TlsOrigination::clone(tls));
        let names = patterns.iter().map(|one| (one.to_string(), one.clone()));
        let names: BTreeMap<_, _> = names.collect();
        let known = groups
            .get(&key)
            .is_some_and(|known| names.keys().all(|name| known.contains_key(name)));
        if first {
            groups.entry(key).or_default().extend(names);
        } else if !known {
            let message = "only the first policy says to which names the gateway speaks TLS, \
                           and with which certificates";
            problems.push(PortDefect::new(place, message));
        }
    }
}

/// Most ports of a destination with TLS: each is a cluster.
const MOST_PORTS: usize = 8;

/// One name at one port of the application's must not be reached in two ways.
fn check_overlaps(groups: &Groups, problems: &mut Vec<PortDefect>) {
    let entry = |port: u16| if port == 443 { 80 } else { port };
    let all: Vec<_> = groups.iter().collect();
    for (i, ((port, _), names)) in all.iter().enumerate() {
        for ((other_port, _), others) in all.iter().skip(i + 1) {
            if entry(*port) != entry(*other_port) {
                continue;
            }
            let both = names
                .iter()
                .flat_map(|name| others.iter().map(move |other| (name, other)))
                .find(|((_, name), (_, other))| patterns_meet(name, other));
            if let Some(((name, _), (other, _))) = both {
                let message = format!(
                    "`{name}` and `{other}` share names, and the gateway would speak TLS to them \
                     in two ways"
                );
                problems.push(PortDefect::new("tls", message));
            }
        }
    }
}
