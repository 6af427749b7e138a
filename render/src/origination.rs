//! Where the gateway speaks TLS itself: for which names, at which port, and with what.
//!
//! The application speaks HTTP. For a server on 443 it asks for `http://NAME`, port 80, because 443
//! carries TLS of the application's own; for a server on any other port it uses that port.

use std::collections::{BTreeMap, BTreeSet};

use egress_policy::contract::originate_cluster;
use egress_policy::model::{Hosts, Policy, RuleAction, TlsOrigination, To};
use egress_policy::name::NamePattern;

use crate::error::RenderError;

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

    /// A regular expression (RE2, the whole text) for the authorities of these names. It may be
    /// wider than the patterns, never narrower: the module compares the names themselves.
    pub(crate) fn authorities(&self) -> String {
        let names: Vec<_> = self.names.iter().map(|name| expression(name)).collect();
        let port = match (self.entry(), self.port) {
            (80, 80) => "(:80)?".to_owned(),
            (80, port) => format!("(:80|:{port})?"),
            (port, _) => format!(":{port}"),
        };
        format!("(?i)({})\\.?{port}", names.join("|"))
    }
}

fn expression(pattern: &str) -> String {
    let labels = pattern
        .split('.')
        .enumerate()
        .map(|(i, label)| match label {
            "*" if i == 0 => "[^:]+".to_owned(),
            "*" | "+" => "[^.:]+".to_owned(),
            label => label.replace('*', "[^.:]*"),
        });
    labels.collect::<Vec<_>>().join("\\.")
}

type Groups = BTreeMap<(u16, TlsOrigination), BTreeSet<String>>;

/// What the policies come to, whether or not it can be rendered.
#[must_use]
pub fn originations(policies: &[Policy]) -> Vec<Origination> {
    read(policies, &mut Vec::new())
}

/// Reads it off the policies, the first of which alone says how the gateway connects.
pub(crate) fn read(policies: &[Policy], problems: &mut Vec<RenderError>) -> Vec<Origination> {
    let mut groups = Groups::new();
    for (i, policy) in policies.iter().enumerate() {
        for placed in policy.rules() {
            let (_, rule) = placed.rule;
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
            names,
        })
        .collect()
}

fn take(to: &To, place: &str, first: bool, groups: &mut Groups, problems: &mut Vec<RenderError>) {
    let (Some(tls), Hosts::Names(patterns)) = (&to.tls, &to.hosts) else {
        return;
    };
    let count: usize = to.ports.ranges().map(|range| range.len()).sum();
    if to.ports.is_any() || count > MOST_PORTS {
        let message = format!("TLS is originated to at most {MOST_PORTS} ports of a destination");
        problems.push(RenderError::new(place, message));
        return;
    }
    for port in to.ports.ranges().flatten() {
        let key = (port, TlsOrigination::clone(tls));
        let names: BTreeSet<String> = patterns.iter().map(NamePattern::to_string).collect();
        let known = groups.get(&key).is_some_and(|known| names.is_subset(known));
        if first {
            groups.entry(key).or_default().extend(names);
        } else if !known {
            let message = "only the first policy says to which names the gateway speaks TLS, \
                           and with which certificates";
            problems.push(RenderError::new(place, message));
        }
    }
}

/// Most ports of a destination with TLS: each is a cluster.
const MOST_PORTS: usize = 8;

/// One name at one port of the application's must not be reached in two ways.
fn check_overlaps(groups: &Groups, problems: &mut Vec<RenderError>) {
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
                .find(|(name, other)| overlap(name, other));
            if let Some((name, other)) = both {
                let message = format!(
                    "`{name}` and `{other}` share names, and the gateway would speak TLS to them \
                     in two ways"
                );
                problems.push(RenderError::new("tls", message));
            }
        }
    }
}

/// Whether two patterns may share a name: their literal ends do not tell them apart.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let wild = |label: &&str| !label.contains(['*', '+']);
    let end = |pattern: &'_ str| -> Vec<String> {
        let labels = pattern.rsplit('.').take_while(wild);
        labels.map(str::to_owned).collect()
    };
    let exact = |pattern: &str| !pattern.contains(['*', '+']);
    let (first, second) = (end(one), end(other));
    match (exact(one), exact(other)) {
        (true, true) => one == other,
        (true, false) => first.len() > second.len() && first.starts_with(&second),
        (false, true) => second.len() > first.len() && second.starts_with(&first),
        (false, false) => first.starts_with(&second) || second.starts_with(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_may_share_a_name_overlap() {
        for (one, other, expected) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
            ("a.example.com", "*.example.com", true),
            ("example.com", "*.example.com", false),
            ("a.example.com", "*.example.org", false),
            ("*.example.com", "*.a.example.com", true),
            ("*.example.com", "+.example.com", true),
            ("*.example.com", "*.ample.com", false),
            ("api-*.example.com", "*.example.com", true),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn authorities_of_names() {
        let of = |port, names: &[&str]| {
            let tls = TlsOrigination {
                ca_certificates: egress_policy::model::CaCertificates::System,
                client_certificate: None,
                sni: None,
            };
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let cluster = String::new();
            Origination {
                cluster,
                port,
                tls,
                names,
            }
            .authorities()
        };
        assert_eq!(
            of(443, &["a.example.com"]),
            r"(?i)(a\.example\.com)\.?(:80|:443)?"
        );
        assert_eq!(
            of(
                8443,
                &["*.example.com", "+.b.example", "ec2.*.x-*.example.com"]
            ),
            r"(?i)([^:]+\.example\.com|[^.:]+\.b\.example|ec2\.[^.:]+\.x-[^.:]*\.example\.com)\.?:8443"
        );
    }
}
