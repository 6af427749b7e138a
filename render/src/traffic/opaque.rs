//! Names that are asked for over opaque TCP.
//!
//! A sidecar sends opaque TCP on by the address that the application dialled (`docs/dns.md`), so a
//! name that only opaque TCP could carry is a name that no workload behind a sidecar shows. What is
//! left is a client that asks the gateway's tunnel port for the name by CONNECT itself; its tunnel
//! is judged by name and, once resolved, by address.

use std::ops::RangeInclusive;

use egress_policy::facts::Protocol;
use egress_policy::model::{Place, Policy, RuleAction, To};
use egress_policy::name::NamePattern;
use egress_policy::port::PortSet;

use super::Traffic;
use crate::install::PortProtocols;

/// What to write instead.
pub const HINT: &str = "name `networks` instead, or say `protocols: [TLS]` or `[HTTP]` where the \
                        client speaks that at this port";

/// An element of an opening rule, as far as sidecars cannot show its names.
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
        format!(
            "`{}`{others} over opaque TCP ({ports}): sidecars send that by address, so only a client \
             that itself asks the gateway for the name by CONNECT ever matches",
            self.name
        )
    }
}

/// Every such element of these policies, which are all of one gateway.
#[must_use]
pub fn opaque_names(policies: &[Policy], settings: &PortProtocols) -> Vec<OpaqueNames> {
    let traffic = Traffic::of(policies, settings, &mut Vec::new());
    let mut found = Vec::new();
    for (p, policy) in policies.iter().enumerate() {
        for placed in policy.rules() {
            let (r, rule) = placed.rule;
            if !matches!(rule.action, RuleAction::Accept | RuleAction::Inspect(_)) {
                continue;
            }
            let elements = rule.to.iter();
            found.extend(elements.filter_map(|to| {
                let (names, ports) = traffic.over_opaque(to)?;
                Some(OpaqueNames {
                    policy: p,
                    tier: placed.tier.0,
                    rule: r,
                    id: placed.basis().to_string(),
                    name: names.first()?.clone(),
                    others: names.len().saturating_sub(1),
                    ports,
                })
            }));
        }
    }
    found
}

impl Traffic {
    /// The names of an element and those of its ports where nothing but opaque TCP could carry
    /// them, if there are any.
    fn over_opaque<'t>(&self, to: &'t To) -> Option<(&'t [NamePattern], PortSet)> {
        let Place::Names(names) = &to.place else {
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
}
