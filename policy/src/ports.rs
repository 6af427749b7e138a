//! What the policies mean for ports: which carry HTTP, which carry TLS.
//!
//! A port's protocol comes from the policy, never from the bytes. 80 is HTTP and 443 is TLS; a
//! rule of the first policy, or the install settings, say what any other port carries. Everything
//! that is neither is tunnelled as opaque TCP. A port carries the same for every workload, so a later
//! policy cannot say it: its rule would change other teams' traffic, even as a Deny or in Shadow.

mod conflicts;
mod in_tls;
mod opaque;
mod origination;

use std::collections::BTreeSet;

use crate::facts::Protocol;
use crate::model::{From, Policy, Rule, RuleAction, To};

pub use conflicts::{Because, PORTS_HINT, PortConflict, SIDECAR_PORTS};
pub use in_tls::{IN_TLS_HINT, InTls, inspected_in_tls};
pub use opaque::{HINT, Named, OpaqueNames};
pub use origination::{Origination, originations};

/// Most ports that one rule may single out for HTTP or TLS: each needs a route of its own.
const MOST_PORTS: usize = 64;

/// What the install settings say that ports carry, for every workload. Later policies cannot change
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatedPorts {
    /// Ports that carry HTTP, beside 80.
    pub http: Vec<u16>,
    /// Ports that carry TLS of the application, beside 443.
    pub tls: Vec<u16>,
    /// Ports that carry opaque TCP, which a rule of the first policy may not change either.
    pub tcp: Vec<u16>,
}

/// Why the ports of these policies cannot be routed as they say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct PortDefect {
    /// The rule, as `policy/tier/rule`, the field of the install settings, or the policy file's
    /// field.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

impl PortDefect {
    fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            at: at.into(),
            message: message.into(),
        }
    }
}

/// The ports that need routes of their own, and the labels that have to travel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshPorts {
    /// Ports whose requests are judged one by one.
    pub http: BTreeSet<u16>,
    /// Ports inside whose tunnels a ClientHello must come first.
    pub tls: BTreeSet<u16>,
    /// Ports that rules of the first policy, or the install settings, name for opaque TCP and for
    /// nothing else.
    pub opaque: BTreeSet<u16>,
    /// The labels that rules select by.
    pub labels: BTreeSet<String>,
    /// Where the gateway speaks TLS itself.
    pub originations: Vec<Origination>,
}

impl MeshPorts {
    /// Reads it off the policies and the settings. What cannot be rendered is among the problems and
    /// not in it.
    pub fn of(policies: &[Policy], settings: &StatedPorts, problems: &mut Vec<PortDefect>) -> Self {
        let mut traffic = Self::stated(policies, settings, problems);
        traffic.originations = origination::read(policies, problems);
        // 443 is not among them: there the application's own TLS comes.
        let entries = traffic.originations.iter().map(Origination::entry);
        traffic.http.extend(entries.collect::<BTreeSet<_>>());
        let conflicts = traffic.conflicts(policies, settings);
        let told: BTreeSet<u16> = conflicts.iter().map(|conflict| conflict.port).collect();
        let routed = |port: &u16| traffic.http.contains(port) || traffic.tls.contains(port);
        let untold = |port: &&u16| routed(port) && !told.contains(*port);
        for port in settings.tcp.iter().filter(untold) {
            let message =
                format!("port {port} is to stay opaque TCP, and the first policy routes it");
            problems.push(PortDefect::new("spec.gateway.protocols.tcp", message));
        }
        let opaque = traffic.opaque.iter().copied();
        traffic.opaque = opaque.filter(|port| !routed(port)).collect();
        for placed in policies.iter().flat_map(Policy::rules) {
            traffic.take_labels(placed.rule);
        }
        for conflict in conflicts {
            let message = format!("{}; {}", conflict.message(), conflict.hint());
            problems.push(PortDefect::new(conflict.id, message));
        }
        let both = traffic.http.intersection(&traffic.tls);
        for port in both.filter(|port| !told.contains(*port)) {
            let message = format!(
                "port {port} is HTTP in one rule and TLS in another: a port carries one protocol"
            );
            problems.push(PortDefect::new("ports", message));
        }
        traffic
    }

    /// What the first policy and the settings say.
    fn stated(policies: &[Policy], settings: &StatedPorts, problems: &mut Vec<PortDefect>) -> Self {
        let mut traffic = Self {
            http: BTreeSet::from([80]),
            tls: BTreeSet::from([443]),
            ..Self::default()
        };
        for placed in policies.iter().take(1).flat_map(Policy::rules) {
            let rule = placed.rule;
            for to in &rule.to {
                match Carries::of(to, &rule.action) {
                    Carries::Ports(protocol, ports) => {
                        let known = match protocol {
                            Protocol::Http => &mut traffic.http,
                            Protocol::Tls => &mut traffic.tls,
                            _ => &mut traffic.opaque,
                        };
                        known.extend(ports);
                    }
                    Carries::TooMany(count, protocol) => {
                        let message = format!(
                            "{count} {} ports: each needs a route of its own, and at most \
                             {MOST_PORTS} are rendered for one destination",
                            protocol.as_str()
                        );
                        problems.push(PortDefect::new(placed.basis().to_string(), message));
                    }
                    Carries::Nothing => {}
                }
            }
        }
        traffic.http.extend(&settings.http);
        traffic.tls.extend(&settings.tls);
        traffic.opaque.extend(&settings.tcp);
        traffic
    }

    /// What a port carries.
    #[must_use]
    pub fn protocol(&self, port: u16) -> Protocol {
        if self.http.contains(&port) {
            Protocol::Http
        } else if self.tls.contains(&port) {
            Protocol::Tls
        } else {
            Protocol::Tcp
        }
    }

    fn take_labels(&mut self, rule: &Rule) {
        let From::Sources(sources) = &rule.from else {
            return;
        };
        for source in &**sources {
            let keys = source.match_labels.iter().map(|(key, _)| key);
            let expressions = source.match_expressions.iter().map(|one| &one.key);
            self.labels.extend(keys.chain(expressions).cloned());
        }
    }
}

/// What an element says of ports.
enum Carries {
    /// These ports carry this.
    Ports(Protocol, BTreeSet<u16>),
    /// So many ports carry this.
    TooMany(usize, Protocol),
    /// Nothing.
    Nothing,
}

impl Carries {
    fn of(to: &To, action: &RuleAction) -> Self {
        let protocol = if is_http(to) {
            Protocol::Http
        } else {
            match to.protocols[..] {
                [only @ (Protocol::Tls | Protocol::Tcp)] => only,
                _ => return Self::Nothing,
            }
        };
        // Destinations with `tls` have routes by name.
        if to.tls.is_some() || to.ports.is_any() {
            return Self::Nothing;
        }
        let count: usize = to.ports.ranges().map(|range| range.len()).sum();
        if count > MOST_PORTS {
            // What is opaque needs no route.
            return match protocol {
                Protocol::Tcp => Self::Nothing,
                protocol => Self::TooMany(count, protocol),
            };
        }
        // A Deny by method or path at 443 is about requests to such names, and needs no route.
        let denies = matches!(action, RuleAction::Deny);
        let ports = to.ports.ranges().flatten();
        Self::Ports(
            protocol,
            ports.filter(|port| !(denies && *port == 443)).collect(),
        )
    }
}

/// Whether nothing but requests can match: by word, or by conditions that only requests have.
fn is_http(to: &To) -> bool {
    to.protocols() == [Protocol::Http]
}
