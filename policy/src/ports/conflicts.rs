//! What later policies say of ports against the first one.

use crate::facts::Protocol;
use crate::model::Policy;

use super::{Carries, MeshPorts};

/// What to do about it.
pub const PORTS_HINT: &str = "say it in the first policy, or in gateway.protocols of the install \
                              settings; else leave `protocols` out here";

/// A rule of a later policy that would change what a port carries for every workload.
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
}

impl PortConflict {
    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> String {
        let port = self.port;
        let (wanted, carried) = (self.wanted.as_str(), self.carried.as_str());
        format!(
            "port {port} carries {carried}, and only the first policy and the install settings say \
             what a port carries: as {wanted} it would change for every workload"
        )
    }
}

impl MeshPorts {
    /// Every rule of a later policy that would change what a port carries: whatever its action and
    /// its mode, since routes know neither. The policies are those that the ports are read off.
    #[must_use]
    pub fn conflicts(&self, policies: &[Policy]) -> Vec<PortConflict> {
        let mut found = Vec::new();
        for (p, policy) in policies.iter().enumerate().skip(1) {
            for placed in policy.rules() {
                let (r, rule) = placed.rule;
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
                    found.push(PortConflict {
                        policy: p,
                        tier: placed.tier.0,
                        rule: r,
                        to: t,
                        id: placed.basis().to_string(),
                        port,
                        wanted,
                        carried: self.protocol(port),
                    });
                }
            }
        }
        found
    }
}
