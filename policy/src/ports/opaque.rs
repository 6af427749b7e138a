//! Names that are asked for over opaque TCP.
//!
//! A sidecar sends opaque TCP on by the address that the application dialled (`docs/explanation/names-and-dns.md`). A whole
//! name can have an address that stands for it (`names.rs`); a wildcard cannot, and neither can a name
//! at every port. Those no workload behind a sidecar shows. What is left for them is a client that
//! asks the gateway's tunnel port for the name by CONNECT itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::facts::Protocol;
use crate::model::{From, Hosts, Policy, Rule, RuleAction, Source, To};
use crate::name::NamePattern;
use crate::port::PortSet;

use super::{MOST_PORTS, MeshPorts};

/// What to write instead.
pub const HINT: &str = "name `networks` instead, or say `protocols: [TLS]` or `[HTTP]` where the \
                        client speaks that at this port; whole names at stated ports can be had by \
                        `tunnel.names` in the install settings (docs/explanation/names-and-dns.md)";

/// Names of an opening rule's element, as far as sidecars cannot show them by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpaqueNames {
    /// The policy's place in the order.
    pub policy: usize,
    /// The tier's in the policy.
    pub tier: usize,
    /// The rule's in the tier.
    pub rule: usize,
    /// `policy/tier/rule`.
    pub id: String,
    /// The first of its names.
    pub name: NamePattern,
    /// How many names stand beside it.
    pub others: usize,
    /// The ports that carry opaque TCP; every port if empty.
    pub ports: PortSet,
    /// Whether `tunnel.names` in the install settings gives them addresses.
    pub can_be_named: bool,
}

impl OpaqueNames {
    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> String {
        let others = match self.others {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let ports = if self.ports.is_any() {
            "every port".to_owned()
        } else {
            format!("port {}", self.ports)
        };
        let what = format!("`{}`{others} over opaque TCP ({ports})", self.name);
        if self.can_be_named {
            return format!(
                "{what}: sidecars send that by address, so nothing will ever match unless the install \
                 settings give the name an address (`tunnel.names`)"
            );
        }
        let why = match &self.name {
            NamePattern::Exact(_) if self.ports.is_any() => "a name at every port",
            NamePattern::Exact(_) => "a name at so many ports, or where HTTP or TLS is carried",
            _ => "a wildcard",
        };
        format!(
            "{what}: sidecars send that by address, and no address stands for {why}, so nothing will \
             ever match but a client that itself asks the gateway for the name by CONNECT"
        )
    }
}

/// A whole name that rules let through over opaque TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name, in its one form.
    pub name: String,
    /// The ports at which it carries opaque TCP. Never empty.
    pub ports: BTreeSet<u16>,
    /// The namespaces whose workloads some rule may let there; every one if `None`.
    pub namespaces: Option<BTreeSet<String>>,
}

/// To an inspection proxy nobody sends opaque TCP by name: it would resolve the name again, unseen.
fn is_accept(rule: &Rule) -> bool {
    rule.action == RuleAction::Accept
}

fn opens(rule: &Rule) -> bool {
    matches!(rule.action, RuleAction::Accept | RuleAction::Inspect(_))
}

/// The namespaces whose workloads a rule may be about; `None` is every one.
fn namespaces(from: &From) -> Option<BTreeSet<String>> {
    let From::Sources(sources) = from else {
        return None;
    };
    let of = |source: &Source| {
        let accounts = source.service_accounts.iter();
        let accounts = accounts.map(|account| account.namespace.clone());
        let all: Vec<_> = source.namespaces.iter().cloned().chain(accounts).collect();
        (!all.is_empty()).then_some(all)
    };
    let each: Option<Vec<_>> = sources.iter().map(of).collect();
    each.map(|each| each.into_iter().flatten().collect())
}

impl MeshPorts {
    /// Every element that lets names through over opaque TCP. The policies are those that the ports
    /// are read off.
    #[must_use]
    pub fn opaque_names(&self, policies: &[Policy]) -> Vec<OpaqueNames> {
        let mut found = Vec::new();
        for (p, policy) in policies.iter().enumerate() {
            for placed in policy.rules().filter(|placed| opens(placed.rule)) {
                let (r, rule) = (placed.rule_index, placed.rule);
                for (names, ports) in rule.to.iter().filter_map(|to| self.over_opaque(to)) {
                    let some = is_accept(rule) && !self.nameable(&ports).is_empty();
                    let (whole, others): (Vec<_>, Vec<_>) = names
                        .iter()
                        .partition(|name| some && matches!(name, NamePattern::Exact(_)));
                    for (names, can_be_named) in [(others, false), (whole, true)] {
                        let Some(first) = names.first() else { continue };
                        found.push(OpaqueNames {
                            policy: p,
                            tier: placed.tier_index,
                            rule: r,
                            id: placed.basis().to_string(),
                            name: (*first).clone(),
                            others: names.len().saturating_sub(1),
                            ports: ports.clone(),
                            can_be_named,
                        });
                    }
                }
            }
        }
        found
    }

    /// The whole names that rules let through over opaque TCP, by name. The policies are those that the
    /// ports are read off.
    #[must_use]
    pub fn named_tcp(&self, policies: &[Policy]) -> Vec<Named> {
        let mut found = BTreeMap::<String, Named>::new();
        let rules = policies.iter().flat_map(Policy::rules);
        let rules = rules.map(|placed| placed.rule);
        for rule in rules.filter(|rule| is_accept(rule)) {
            for (names, ports) in rule.to.iter().filter_map(|to| self.over_opaque(to)) {
                let ports = self.nameable(&ports);
                for name in names {
                    let NamePattern::Exact(name) = name else {
                        continue;
                    };
                    if ports.is_empty() {
                        continue;
                    }
                    let name = name.as_str().to_owned();
                    let named = found.entry(name.clone()).or_insert_with(|| Named {
                        name,
                        ports: BTreeSet::new(),
                        namespaces: Some(BTreeSet::new()),
                    });
                    named.ports.extend(&ports);
                    match (namespaces(&rule.from), &mut named.namespaces) {
                        (Some(more), Some(known)) => known.extend(more),
                        _ => named.namespaces = None,
                    }
                }
            }
        }
        found.into_values().collect()
    }

    /// The names of an element and those of its ports where nothing but opaque TCP could carry
    /// them, if there are any.
    fn over_opaque<'t>(&self, to: &'t To) -> Option<(&'t [NamePattern], PortSet)> {
        let Hosts::Names(names) = &to.hosts else {
            return None;
        };
        let takes = |protocol| to.protocols.is_empty() || to.protocols.contains(&protocol);
        if to.tls.is_some() || super::is_http(to) || !takes(Protocol::Tcp) {
            return None;
        }
        if to.protocols == [Protocol::Tcp] {
            return Some((names, to.ports.clone()));
        }
        let carries = |range: &RangeInclusive<u16>| {
            (takes(Protocol::Http) && self.http.range(range.clone()).next().is_some())
                || (takes(Protocol::Tls) && self.tls.range(range.clone()).next().is_some())
        };
        let opaque = PortSet::new(to.ports.ranges().filter(|range| !carries(range)));
        (!opaque.is_any()).then_some((names, opaque))
    }

    /// Those of these ports at which a whole name can have an address: each is a listener in every
    /// sidecar, and at a port that carries HTTP or TLS the bytes show the name.
    fn nameable(&self, ports: &PortSet) -> BTreeSet<u16> {
        let count: usize = ports.ranges().map(|range| range.len()).sum();
        if ports.is_any() || count > MOST_PORTS {
            return BTreeSet::new();
        }
        let opaque = |port: &u16| !self.http.contains(port) && !self.tls.contains(port);
        ports.ranges().flatten().filter(opaque).collect()
    }
}
