//! The gate for a readiness probe: whether every place of this proxy has its policy.
//!
//! A module that cannot be had or that is refused leaves its place closed, so a pod that has none
//! yet denies everything. Kubernetes is to send it nothing before that is over.

use std::fmt::Write;

use egress_policy::canonical::short;
use egress_policy::config::Readiness;

use crate::host::{Flow, Host, Metric, MetricKind, Response};
use crate::metric::MetricFamily;

/// The gate. It reads what every place says of itself; Envoy has one set of gauges for the whole
/// process, so it does not matter in which machine a place runs.
#[derive(Debug)]
pub struct ReadinessGate<H> {
    host: H,
    gate: Readiness,
    /// What each place has, as far as its gauge could be had: Envoy gives a metric a new number each
    /// time that it is defined, so that is done once.
    has: Vec<Metric>,
    /// Set for the whole process once the gate has opened.
    opened: Option<Metric>,
}

impl<H: Host> ReadinessGate<H> {
    /// A gate of this configuration.
    pub fn new(host: H, gate: Readiness) -> Self {
        let define = |name: &str| host.define_metric(MetricKind::Gauge, name).ok();
        let has = gate.places.iter();
        let has = has
            .filter_map(|place| define(&MetricFamily::PolicyHash.at(place)))
            .collect();
        let opened = define(MetricFamily::Ready.name());
        Self {
            host,
            gate,
            has,
            opened,
        }
    }

    /// The hash of the policy that it waits for.
    pub fn policy_hash(&self) -> &str {
        &self.gate.policy_hash
    }

    /// Answers a probe: 200 or 503, and for each place the first twelve digits of the hash of its
    /// policy. Nothing goes on from here.
    ///
    /// A pod begins with the policy that this configuration names, in every place. Later ones take
    /// it one after the other, or refuse it and keep the last good one; no pod leaves its Service
    /// for that, because all of them would.
    pub fn on_request_headers(&self) -> Flow {
        let Self { host, gate, .. } = self;
        let wanted = short(&gate.policy_hash);
        // A gauge that could not be had is a place without policy.
        let mut current = self.has.len() == gate.places.len();
        let mut body = String::new();
        for (place, gauge) in gate.places.iter().zip(&self.has) {
            let hash = host.metric(*gauge).unwrap_or_default();
            current &= hash == wanted;
            // Writing to a String does not fail.
            let _ = writeln!(body, "{place} {hash:012x}");
        }
        let opened = self.opened.is_some_and(|gauge| {
            if current {
                host.record(gauge, 1).is_ok()
            } else {
                host.metric(gauge) == Ok(1)
            }
        });
        let answered = host.respond(&Response {
            status: if current || opened { 200 } else { 503 },
            details: MetricFamily::Ready.name().to_owned(),
            headers: Vec::new(),
            body,
            grpc_status: -1,
        });
        // The route behind answers 503.
        answered.map_or(Flow::Continue, |()| Flow::Stop)
    }
}

#[cfg(test)]
mod tests;
