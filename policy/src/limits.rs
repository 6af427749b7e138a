//! What one identity may take of a gateway: settings, and each machine's share of them.
//!
//! The module counts in the memory of its machine, and Envoy has one or more for each worker thread,
//! so each counts against a share: the setting divided by the machines that count the same. Together
//! they exceed it only where it is less than one for each.

use crate::decode::{Fields, shape};
use crate::defect::{At, DefectKind, Defects};
use crate::tree::{Node, Shape};

/// Limits for each identity (namespace and service account) at one gateway pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests and tunnels that are open at a time.
    pub streams: u32,
    /// Tunnels among them that are open and have carried nothing back yet.
    pub undecided_tunnels: u32,
    /// Names in a minute that were not resolved for it before.
    pub new_names_per_minute: u32,
    /// Names that it keeps in the gateway's DNS caches.
    pub names: u32,
    /// Log lines about denials in a minute; more are counted and summed up.
    pub denial_lines_per_minute: u32,
    /// Seconds that Envoy's DNS caches keep a name that nobody asks for (`host_ttl`).
    pub name_lifetime_seconds: u32,
    /// Envoy's worker threads.
    pub workers: u32,
    /// Machines of the module on each of them: names and lines are counted in all.
    pub machines: u32,
    /// Those among them that count requests and tunnels. Tunnels alone come to one.
    pub stream_machines: u32,
}

impl Limits {
    /// What is held without a setting. The workers are more than most gateways have, so that what
    /// nobody has stated makes the limits narrower, never wider. There is one machine unless a
    /// configuration gives its places several, and who does that knows how many.
    pub const DEFAULT: Self = Self {
        streams: 1_000,
        undecided_tunnels: 200,
        new_names_per_minute: 300,
        names: 2_000,
        denial_lines_per_minute: 300,
        name_lifetime_seconds: 300,
        workers: 8,
        machines: 1,
        stream_machines: 1,
    };

    /// One machine's share of [`Limits::streams`].
    #[must_use]
    pub fn streams_share(&self) -> u32 {
        self.share(self.streams, self.stream_machines)
    }

    /// The same of [`Limits::undecided_tunnels`].
    #[must_use]
    pub fn undecided_share(&self) -> u32 {
        self.share(self.undecided_tunnels, 1)
    }

    /// The same of [`Limits::new_names_per_minute`].
    #[must_use]
    pub fn new_names_share(&self) -> u32 {
        self.share(self.new_names_per_minute, self.machines)
    }

    /// The same of [`Limits::names`].
    #[must_use]
    pub fn names_share(&self) -> u32 {
        self.share(self.names, self.machines)
    }

    /// The same of [`Limits::denial_lines_per_minute`].
    #[must_use]
    pub fn lines_share(&self) -> u32 {
        self.share(self.denial_lines_per_minute, self.machines)
    }

    /// A share of a setting that so many machines of each worker count; never none at all.
    fn share(&self, setting: u32, machines: u32) -> u32 {
        let all = self.workers.max(1).saturating_mul(machines.max(1));
        (setting / all).max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Reads the limits; what is not stated has its default.
pub(crate) fn read<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Limits {
    let mut limits = Limits::DEFAULT;
    let Some(mut fields) = Fields::of(node, at, defects) else {
        return limits;
    };
    let places: [(&'static str, &mut u32); 9] = [
        ("streams", &mut limits.streams),
        ("undecidedTunnels", &mut limits.undecided_tunnels),
        ("newNamesPerMinute", &mut limits.new_names_per_minute),
        ("names", &mut limits.names),
        ("denialLinesPerMinute", &mut limits.denial_lines_per_minute),
        ("nameLifetimeSeconds", &mut limits.name_lifetime_seconds),
        ("workers", &mut limits.workers),
        ("machines", &mut limits.machines),
        ("streamMachines", &mut limits.stream_machines),
    ];
    for (name, place) in places {
        if let Some(node) = fields.take(name)
            && let Some(value) = positive(&node, &at.field(name), defects)
        {
            *place = value;
        }
    }
    fields.finish(at, defects);
    limits
}

/// A number that limits: none at all would be an outage, not a limit.
fn positive<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<u32> {
    let value = match shape(node, at, defects)? {
        Shape::Number(text) => text.parse().ok().filter(|value| *value > 0),
        _ => None,
    };
    if value.is_none() {
        defects.add(
            DefectKind::WrongType,
            at,
            "expected a whole number, one or more",
            None,
        );
    }
    value
}

#[cfg(test)]
mod tests;
