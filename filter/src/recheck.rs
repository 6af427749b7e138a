//! The end of streams that began under an older policy.
//!
//! Envoy gives an update to new streams only (its `config_discovery.proto`), and a stream that runs
//! cannot read it. So a configuration with `recheckOnUpdate` says its policy's hash where every
//! instance looks once a second, and a stream that began under another one ends at its next byte.
//!
//! The place is a gauge: Envoy has one set of them for the whole process, while shared data is
//! divided by the machine's name.

use std::cell::Cell;

use crate::host::{Host, HostError, Metric, MetricKind};

/// Ticks between hearing of another policy and the end of what began before it, and once more: by
/// then every worker has the update, and what is short has ended by itself.
const ROUNDS: u8 = 2;

/// What a stream has to show in order to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Began(u32);

/// Whether streams of this configuration may go on.
#[derive(Debug)]
pub struct Recheck {
    gauge: Metric,
    hash: u64,
    /// What the configuration says when it comes in force: its hash, or 0, which asks nothing.
    says: u64,
    /// Ticks since another policy was heard of; 0 is none.
    ticks: Cell<u8>,
    era: Cell<u32>,
}

impl Recheck {
    /// Looks for what other configurations of this place say. Nothing is said yet.
    ///
    /// # Errors
    /// If the gauge cannot be had: then this configuration could not be ended by the next.
    pub fn new(host: &impl Host, place: &str, hash: u64, asks: bool) -> Result<Self, HostError> {
        let name = format!("warden_recheck.{place}");
        Ok(Self {
            gauge: host.define_metric(MetricKind::Gauge, &name)?,
            hash,
            says: if asks { hash } else { 0 },
            ticks: Cell::new(0),
            era: Cell::new(0),
        })
    }

    /// Says that this configuration is in force.
    ///
    /// # Errors
    /// If it cannot be said.
    pub fn say(&self, host: &impl Host) -> Result<(), HostError> {
        host.record(self.gauge, self.says)
    }

    /// Listens, once a second. What cannot be heard counts as a call to end.
    pub fn tick(&self, host: &impl Host) {
        let ticks = self.ticks.get();
        let calm = || {
            host.metric(self.gauge)
                .is_ok_and(|said| said == 0 || said == self.hash)
        };
        if ticks > ROUNDS || (ticks == 0 && calm()) {
            return;
        }
        self.ticks.set(ticks + 1);
        if ticks > 0 {
            self.era.set(self.era.get().wrapping_add(1));
        }
    }

    /// A stream begins. Envoy begins them under the newest configuration alone, so one that begins
    /// after an end shows that this configuration is in force again. Envoy reuses it, where
    /// something still runs under it, without configuring it anew (proxy-wasm-cpp-host,
    /// `getOrCreateThreadLocalPlugin`).
    pub fn begin(&self, host: &impl Host) -> Began {
        if self.ticks.get() > ROUNDS {
            self.ticks.set(0);
            // If it stays unsaid, streams go on ending.
            let _ = self.say(host);
        }
        Began(self.era.get())
    }

    /// Whether a stream has to end.
    pub const fn ends(&self, began: Began) -> bool {
        began.0 != self.era.get()
    }
}

#[cfg(test)]
mod tests;
