//! What the policies mean for ports: which carry HTTP, which carry TLS.
//!
//! A port's protocol comes from the policy, never from the bytes. 80 is HTTP and 443 is TLS; a
//! rule says what any other port carries. Everything that is neither is tunnelled as opaque TCP.

mod in_tls;
mod opaque;

use std::collections::BTreeSet;

use egress_policy::facts::Protocol;
use egress_policy::model::{Policy, RuleAction, To};

use crate::origination::{self, Origination};
use crate::problem::Problem;

pub use in_tls::{IN_TLS_HINT, InTls, inspected_in_tls};
pub use opaque::{HINT, OpaqueNames, opaque_names};

/// Most ports that one rule may single out for HTTP or TLS: each needs a route of its own.
const MOST_PORTS: usize = 64;

/// The ports that need routes of their own, and the labels that have to travel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Ports whose requests are judged one by one.
    pub http: BTreeSet<u16>,
    /// Ports inside whose tunnels a ClientHello must come first.
    pub tls: BTreeSet<u16>,
    /// The labels that rules select by.
    pub labels: BTreeSet<String>,
    /// Where the gateway speaks TLS itself.
    pub originations: Vec<Origination>,
}

impl Traffic {
    /// Reads it off the policies. What cannot be rendered is among the problems and not in it.
    pub fn of(policies: &[Policy], problems: &mut Vec<Problem>) -> Self {
        let mut traffic = Self {
            http: BTreeSet::from([80]),
            tls: BTreeSet::from([443]),
            labels: BTreeSet::new(),
            originations: origination::read(policies, problems),
        };
        // 443 is not among them: there the application's own TLS comes.
        let entries = traffic.originations.iter().map(Origination::entry);
        traffic.http.extend(entries.collect::<BTreeSet<_>>());
        for placed in policies.iter().flat_map(Policy::rules) {
            let (_, rule) = placed.rule;
            let place = placed.basis().to_string();
            for to in &rule.to {
                traffic.take_ports(to, &rule.action, &place, problems);
            }
            traffic.take_labels(rule);
        }
        for port in traffic.http.intersection(&traffic.tls) {
            let message = format!(
                "port {port} is HTTP in one rule and TLS in another: a port carries one protocol"
            );
            problems.push(Problem::new("ports", message));
        }
        traffic
    }

    fn take_ports(
        &mut self,
        to: &To,
        action: &RuleAction,
        place: &str,
        problems: &mut Vec<Problem>,
    ) {
        let only = |protocol| to.protocols == [protocol];
        // These have routes by name.
        if to.tls.is_some() {
            return;
        }
        // A Deny by method or path at 443 is about requests to such names, and needs no route.
        let denies = matches!(action, RuleAction::Deny);
        let (known, word) = if is_http(to) {
            (&mut self.http, "HTTP")
        } else if only(Protocol::Tls) {
            (&mut self.tls, "TLS")
        } else {
            return;
        };
        if to.ports.is_any() {
            return;
        }
        let count: usize = to.ports.ranges().map(|range| range.len()).sum();
        if count > MOST_PORTS {
            let message = format!(
                "{count} {word} ports: each needs a route of its own, and at most {MOST_PORTS} \
                 are rendered for one destination"
            );
            problems.push(Problem::new(place, message));
            return;
        }
        let ports = to.ports.ranges().flatten();
        known.extend(ports.filter(|port| !(denies && *port == 443)));
    }

    fn take_labels(&mut self, rule: &egress_policy::model::Rule) {
        let egress_policy::model::From::Sources(sources) = &rule.from else {
            return;
        };
        for source in &**sources {
            let keys = source.match_labels.iter().map(|(key, _)| key);
            let expressions = source.match_expressions.iter().map(|one| &one.key);
            self.labels.extend(keys.chain(expressions).cloned());
        }
    }
}

/// Whether nothing but requests can match: by word, or by conditions that only requests have.
fn is_http(to: &To) -> bool {
    to.protocols == [Protocol::Http]
        || !(to.methods.is_empty() && to.paths.is_empty() && to.upgrades.is_empty())
}

#[cfg(test)]
mod tests;
