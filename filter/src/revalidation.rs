//! Publishes each plugin instance's policy hash and ends streams admitted under an older policy.
//!
//! Envoy gives an update to new streams only (its `config_discovery.proto`), and a stream that runs
//! cannot read it. So a configuration with `recheckOnUpdate` publishes its policy's hash where every
//! instance looks once a second, and a stream that began under another one ends at its next byte.
//!
//! Hashes are published as gauges: Envoy has one set of them for the whole process, while shared
//! data is divided by the VM's name.

use std::cell::Cell;

use crate::host::{Host, HostError, Metric};
use crate::metric::MetricFamily;

/// Ticks for which another policy requests revalidation before what began under this one ends; and
/// once more, for what began while workers learned of it. Requests that are over by then have ended
/// by themselves.
const PATIENCE: u8 = 2;

/// What a stream has to show in order to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEpoch(u32);

/// What this configuration publishes when it is in force, and whether its streams may go on.
#[derive(Debug)]
pub struct Revalidation {
    /// Which policy is in force.
    in_force: Metric,
    /// Whose predecessors' streams are to end: a hash, or 0 for nobody's.
    requested: Metric,
    /// Whether the last configuration was refused.
    refused: Metric,
    hash: u64,
    published: u64,
    /// Ticks in a row for which another policy requests revalidation.
    asked: Cell<u8>,
    /// Ticks in a row that something else is in force.
    replaced: Cell<u8>,
    epoch: Cell<u32>,
}

impl Revalidation {
    /// Looks for what other configurations of this plugin instance publish. Nothing is published
    /// yet.
    ///
    /// # Errors
    /// If a gauge cannot be had: then this configuration could not be ended by the next.
    pub fn new(
        host: &impl Host,
        instance: &str,
        hash: u64,
        requests: bool,
    ) -> Result<Self, HostError> {
        let gauge = |family: MetricFamily| host.define_metric(family.kind(), &family.at(instance));
        Ok(Self {
            in_force: gauge(MetricFamily::PolicyHash)?,
            requested: gauge(MetricFamily::Recheck)?,
            refused: gauge(MetricFamily::ConfigRejected)?,
            hash,
            published: if requests { hash } else { 0 },
            asked: Cell::new(0),
            replaced: Cell::new(0),
            epoch: Cell::new(0),
        })
    }

    /// Publishes that this configuration is in force.
    pub fn publish(&self, host: &impl Host) {
        // What is in force does not depend on it. Unheard, older streams end at their longest
        // duration.
        let _ = host.record(self.in_force, self.hash);
        let _ = host.record(self.requested, self.published);
        let _ = host.record(self.refused, 0);
    }

    /// Reads the gauges, once a second. One that cannot be read counts as a request to end streams.
    pub fn tick(&self, host: &impl Host) {
        let requests = host.metric(self.requested);
        let calm = requests.is_ok_and(|hash| hash == 0 || hash == self.hash);
        let asked = self.asked.get().saturating_add(1);
        self.asked.set(if calm { 0 } else { asked });
        if !calm && (requests.is_err() || asked <= PATIENCE + 1) && asked >= PATIENCE {
            self.epoch.set(self.epoch.get().wrapping_add(1));
        }
        let own = requests == Ok(self.published) && host.metric(self.in_force) == Ok(self.hash);
        let replaced = self.replaced.get().saturating_add(1);
        self.replaced.set(if own { 0 } else { replaced });
    }

    /// A stream begins. Envoy begins them under the newest configuration alone, so one that begins
    /// when all workers have had time to learn of another shows that this configuration is in force
    /// again, and it publishes that. Envoy does not configure it anew where something still runs under it
    /// (proxy-wasm-cpp-host, `getOrCreateThreadLocalPlugin`).
    pub fn begin(&self, host: &impl Host) -> StreamEpoch {
        if self.replaced.get() > PATIENCE + 1 {
            self.replaced.set(0);
            self.publish(host);
        }
        StreamEpoch(self.epoch.get())
    }

    /// Whether a stream has to end.
    pub const fn ends(&self, began: StreamEpoch) -> bool {
        began.0 != self.epoch.get()
    }
}

#[cfg(test)]
mod tests;
