//! Answers a readiness probe: whether every plugin instance of this proxy has its policy.
//!
//! Where the module or its configuration cannot be loaded Envoy lets nothing pass, so a pod without
//! policies denies everything. Kubernetes is to send it nothing before that is over.

use std::fmt::Write;

use egress_policy::canonical::short;
use egress_policy::config::Readiness;

use crate::host::{Flow, Host, Metric, MetricKind, Response};
use crate::metric::MetricFamily;

/// Answers probes by what every plugin instance publishes. Envoy has one set of gauges for the whole
/// process, so it does not matter in which VM an instance runs.
#[derive(Debug)]
pub struct ReadinessGate<H> {
    host: H,
    config: Readiness,
    /// The policy hash of each instance, as far as its gauge could be defined: Envoy gives a metric
    /// a new number each time that it is defined, so that is done once.
    hashes: Vec<Metric>,
    /// Set for the whole process once it has been ready.
    opened: Option<Metric>,
}

impl<H: Host> ReadinessGate<H> {
    /// One of this configuration.
    pub fn new(host: H, config: Readiness) -> Self {
        let define = |name: &str| host.define_metric(MetricKind::Gauge, name).ok();
        let hashes = config.places.iter();
        let hashes = hashes
            .filter_map(|instance| define(&MetricFamily::PolicyHash.at(instance)))
            .collect();
        let opened = define(MetricFamily::Ready.name());
        Self {
            host,
            config,
            hashes,
            opened,
        }
    }

    /// The hash of the policy that it waits for.
    pub fn policy_hash(&self) -> &str {
        &self.config.policy_hash
    }

    /// Answers a probe: 200 or 503, and for each plugin instance the first twelve digits of the hash
    /// of its policy.
    ///
    /// A pod begins with the policy that this configuration names, in every instance. With a later
    /// policy the instances take it one after the other, or refuse it and keep the last good one; no
    /// pod leaves its Service for that, because all of them would.
    pub fn on_request_headers(&self) -> Flow {
        let Self { host, config, .. } = self;
        let wanted = short(&config.policy_hash);
        // A gauge that could not be defined is an instance without policy.
        let mut current = self.hashes.len() == config.places.len();
        let mut body = String::new();
        for (instance, gauge) in config.places.iter().zip(&self.hashes) {
            // One that cannot be read counts as no policy: zero is the hash of none.
            let hash = host.metric(*gauge).unwrap_or_default();
            current &= hash == wanted;
            // Writing to a String does not fail.
            let _ = writeln!(body, "{instance} {hash:012x}");
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
        // Without an answer the probe goes on to its route, which answers 503.
        answered.map_or(Flow::Continue, |()| Flow::Stop)
    }
}

#[cfg(test)]
mod tests;
