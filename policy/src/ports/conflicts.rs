//! Rules that say of a port what it cannot carry: against the first policy, against what else says so,
//! or against the sidecars themselves.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::facts::Protocol;
use crate::model::{PlacedRule, Policy};

use super::{Carries, MeshPorts, StatedPorts};

/// What to do about a rule of a later policy.
pub const PORTS_HINT: &str = "say it in the first policy, or in gateway.protocols of the install \
                              settings; else leave `protocols` out here";

/// The ports that Istio's sidecars listen on themselves. `istiod` leaves out listeners for some of
/// them; with one for another a sidecar refuses every listener that it is sent.
pub const SIDECAR_PORTS: RangeInclusive<u16> = 15000..=15090;

/// A rule that says of a port what it cannot carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConflict {
    /// The policy's place in the order.
    pub policy: usize,
    /// The tier's in the policy.
    pub tier: usize,
    /// The rule's in the tier.
    pub rule: usize,
    /// The element's in the rule's `to`.
    pub to: usize,
    /// `policy/tier/rule`.
    pub id: String,
    /// The port.
    pub port: u16,
    /// What the rule says that it carries.
    pub wanted: Protocol,
    /// What it carries.
    pub carried: Protocol,
    /// Why that cannot be changed.
    pub because: Because,
}

/// Why a rule cannot say what a port carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// It stands in a later policy.
    Later,
    /// Something else says it: the words for that.
    Said(String),
    /// The port is the sidecars' own.
    Sidecars,
}

impl PortConflict {
    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> String {
        let port = self.port;
        let (wanted, carried) = (self.wanted.as_str(), self.carried.as_str());
        match &self.because {
            Because::Later => format!(
                "port {port} carries {carried}, and only the first policy and the install settings \
                 say what a port carries: as {wanted} it would change for every workload"
            ),
            Because::Said(by) => format!(
                "port {port} carries {carried} ({by}), so it cannot carry {wanted}: a port carries \
                 one protocol for every workload"
            ),
            Because::Sidecars => format!(
                "port {port} is one that sidecars listen on themselves ({} to {}): with a listener for \
                 {wanted} there they could refuse all of theirs",
                SIDECAR_PORTS.start(),
                SIDECAR_PORTS.end()
            ),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self.because {
            Because::Later => PORTS_HINT,
            Because::Said(_) if self.port == 443 => {
                "in TLS there is no request to judge: write `protocols: [TLS]`, or let the gateway \
                 originate TLS (`tls: {originate: true}`)"
            }
            Because::Said(_) => "say one protocol for the port in all rules, or use another port",
            Because::Sidecars => {
                "have the server listen elsewhere, or name `networks` with `protocols: [TCP]`"
            }
        }
    }
}

/// A port for which a rule says HTTP or TLS.
struct Claim<'p> {
    policy: usize,
    placed: PlacedRule<'p>,
    to: usize,
    port: u16,
    wanted: Protocol,
}

impl Claim<'_> {
    fn conflict(self, carried: Protocol, because: Because) -> PortConflict {
        PortConflict {
            policy: self.policy,
            tier: self.placed.tier_index,
            rule: self.placed.rule_index,
            to: self.to,
            id: self.placed.basis().to_string(),
            port: self.port,
            wanted: self.wanted,
            carried,
            because,
        }
    }
}

impl MeshPorts {
    /// Every rule that says of a port what it cannot carry: whatever its action and its mode, since
    /// routes know neither. The policies and settings are those that the ports are read off.
    #[must_use]
    pub fn conflicts(&self, policies: &[Policy], settings: &StatedPorts) -> Vec<PortConflict> {
        let mut found = in_first(policies, settings);
        found.extend(self.in_later(policies));
        found
    }

    /// Rules of later policies that would change what a port carries.
    fn in_later(&self, policies: &[Policy]) -> Vec<PortConflict> {
        let mut found = Vec::new();
        for (p, policy) in policies.iter().enumerate().skip(1) {
            for placed in policy.rules() {
                let rule = placed.rule;
                for (t, to) in rule.to.iter().enumerate() {
                    let (wanted, port) = match Carries::of(to, &rule.action) {
                        // What carries something else is never opaque, which is no route.
                        Carries::Ports(Protocol::Tcp, _) | Carries::Nothing => continue,
                        Carries::Ports(wanted, ports) => {
                            let mut ports = ports.into_iter();
                            (wanted, ports.find(|port| self.protocol(*port) != wanted))
                        }
                        Carries::TooMany(_, wanted) => {
                            let mut ports = to.ports.ranges().flatten();
                            (wanted, ports.find(|port| self.protocol(*port) != wanted))
                        }
                    };
                    let Some(port) = port else { continue };
                    let claim = Claim {
                        policy: p,
                        placed,
                        to: t,
                        port,
                        wanted,
                    };
                    found.push(claim.conflict(self.protocol(port), Because::Later));
                }
            }
        }
        found
    }
}

/// Rules of the first policy against what stands already: ports 80 and 443, the settings, and the
/// rules before. Of each element the first port that is wrong.
fn in_first(policies: &[Policy], settings: &StatedPorts) -> Vec<PortConflict> {
    let mut said = already(settings);
    let mut found = Vec::new();
    for placed in policies.iter().take(1).flat_map(Policy::rules) {
        let rule = placed.rule;
        for (to, element) in rule.to.iter().enumerate() {
            let (wanted, ports) = match Carries::of(element, &rule.action) {
                Carries::Ports(wanted, ports) if wanted != Protocol::Tcp => (wanted, ports),
                _ => continue,
            };
            let by = || format!("rule `{}`", placed.basis());
            let wrong = ports.into_iter().find_map(|port| {
                if SIDECAR_PORTS.contains(&port) {
                    return Some((port, Protocol::Tcp, Because::Sidecars));
                }
                let (carried, by) = said.entry(port).or_insert_with(|| (wanted, by()));
                (*carried != wanted).then(|| (port, *carried, Because::Said(by.clone())))
            });
            let Some((port, carried, because)) = wrong else {
                continue;
            };
            let claim = Claim {
                policy: 0,
                placed,
                to,
                port,
                wanted,
            };
            found.push(claim.conflict(carried, because));
        }
    }
    found
}

/// What ports carry before any rule, and who says so.
fn already(settings: &StatedPorts) -> BTreeMap<u16, (Protocol, String)> {
    let always = [(80, Protocol::Http), (443, Protocol::Tls)];
    let always = always.map(|(port, carried)| (port, (carried, "always".to_owned())));
    let stated = [
        (&settings.http, Protocol::Http),
        (&settings.tls, Protocol::Tls),
        (&settings.tcp, Protocol::Tcp),
    ];
    let stated = stated.into_iter().flat_map(|(ports, carried)| {
        let by = move |port: &u16| (*port, (carried, "`gateway.protocols`".to_owned()));
        ports.iter().map(by)
    });
    stated.chain(always).collect()
}
