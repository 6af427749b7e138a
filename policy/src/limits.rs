//! What one identity may take of a gateway: settings, and each worker's share of them.
//!
//! The module counts in the memory of its machine, and Envoy has one for each worker thread, so
//! each counts against a share: the setting divided by the workers. Together they never exceed it.

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
}

impl Limits {
    /// What is held without a setting. The workers are more than most gateways have, so that what
    /// nobody has stated makes the limits narrower, never wider.
    pub const DEFAULT: Self = Self {
        streams: 1_000,
        undecided_tunnels: 200,
        new_names_per_minute: 300,
        names: 2_000,
        denial_lines_per_minute: 300,
        name_lifetime_seconds: 300,
        workers: 8,
    };

    /// One worker's share of a setting; never none at all.
    #[must_use]
    pub fn share(&self, setting: u32) -> u32 {
        (setting / self.workers.max(1)).max(1)
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
    let places: [(&'static str, &mut u32); 7] = [
        ("streams", &mut limits.streams),
        ("undecidedTunnels", &mut limits.undecided_tunnels),
        ("newNamesPerMinute", &mut limits.new_names_per_minute),
        ("names", &mut limits.names),
        ("denialLinesPerMinute", &mut limits.denial_lines_per_minute),
        ("nameLifetimeSeconds", &mut limits.name_lifetime_seconds),
        ("workers", &mut limits.workers),
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
