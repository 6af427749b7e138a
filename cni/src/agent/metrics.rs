//! Prometheus metrics in the text exposition format, with bounded cardinality.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::flow::Flow;

/// Different (protocol, port) pairs kept for one pod; further ones count as port `other`. A
/// pod that scans ports must not fill the monitoring system.
const PORTS_PER_POD: usize = 32;

/// Whose attempts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// The namespace; empty if the runtime named none.
    pub namespace: String,
    /// The pod; empty if the runtime named none.
    pub pod: String,
}

#[derive(Debug, Default)]
struct State {
    attempts: BTreeMap<PodName, BTreeMap<(&'static str, String), u64>>,
    dropped: BTreeMap<PodName, u64>,
    limited: BTreeMap<PodName, u64>,
    gauges: BTreeMap<&'static str, u64>,
    totals: BTreeMap<&'static str, u64>,
}

/// All metrics of the agent.
#[derive(Debug, Default)]
pub struct Metrics {
    state: Mutex<State>,
}

impl Metrics {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one logged attempt.
    pub fn attempt(&self, pod: &PodName, flow: &Flow) {
        let port = flow
            .port
            .map_or_else(|| "none".to_owned(), |port| port.to_string());
        let mut state = self.state();
        let ports = state.attempts.entry(pod.clone()).or_default();
        let key = (flow.protocol_name(), port);
        let key = if ports.len() < PORTS_PER_POD || ports.contains_key(&key) {
            key
        } else {
            (key.0, "other".to_owned())
        };
        *ports.entry(key).or_default() += 1;
    }

    /// Sets the exact number of packets refused, per pod, from the kernel's counters, and of
    /// those beyond the pod's limits at the gateway. Pods that are not among the refused are
    /// forgotten, their attempts too.
    pub fn set_dropped(&self, dropped: BTreeMap<PodName, u64>, limited: BTreeMap<PodName, u64>) {
        let mut state = self.state();
        state.attempts.retain(|pod, _| dropped.contains_key(pod));
        state.dropped = dropped;
        state.limited = limited;
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, value: u64) {
        self.state().gauges.insert(name, value);
    }

    /// Adds one to a counter.
    pub fn count(&self, name: &'static str) {
        *self.state().totals.entry(name).or_default() += 1;
    }

    /// The exposition text.
    #[must_use]
    pub fn render(&self) -> String {
        let state = self.state();
        let mut text = String::new();
        text.push_str(
            "# HELP egress_bypass_attempts_total Refused packets that were logged (rate-limited per pod).\n\
             # TYPE egress_bypass_attempts_total counter\n",
        );
        for (pod, ports) in &state.attempts {
            for ((protocol, port), count) in ports {
                let _ = writeln!(
                    text,
                    "egress_bypass_attempts_total{{{},protocol=\"{protocol}\",port=\"{port}\"}} {count}",
                    labels(pod)
                );
            }
        }
        for (name, help, values) in [
            (
                "egress_refused_packets_total",
                "Refused packets, all of them, from the kernel's counters.",
                &state.dropped,
            ),
            (
                "egress_gateway_limited_packets_total",
                "Packets that would have begun a connection to the gateway beyond the pod's limits.",
                &state.limited,
            ),
        ] {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (pod, count) in values {
                let _ = writeln!(text, "{name}{{{}}} {count}", labels(pod));
            }
        }
        for (kind, values) in [("gauge", &state.gauges), ("counter", &state.totals)] {
            for (name, value) in values {
                let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
            }
        }
        text
    }
}

fn labels(pod: &PodName) -> String {
    format!(
        "namespace=\"{}\",pod=\"{}\"",
        escape(&pod.namespace),
        escape(&pod.pod)
    )
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        let address = "203.0.113.1".parse().unwrap();
        Flow {
            source: address,
            destination: address,
            protocol: 6,
            port: Some(port),
        }
    }

    #[test]
    fn a_port_scan_stays_within_its_bound() {
        let metrics = Metrics::default();
        let pod = PodName {
            namespace: "app".to_owned(),
            pod: "scan".to_owned(),
        };
        for port in 1..=1000 {
            metrics.attempt(&pod, &flow(port));
        }
        let text = metrics.render();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("egress_bypass"))
            .collect();
        assert_eq!(lines.len(), PORTS_PER_POD + 1);
        assert!(text.contains("egress_bypass_attempts_total{namespace=\"app\",pod=\"scan\",protocol=\"tcp\",port=\"1\"} 1\n"));
        assert!(text.contains("port=\"other\"} 968\n"));
    }

    #[test]
    fn a_pod_that_is_gone_is_forgotten() {
        let metrics = Metrics::default();
        let pod = PodName {
            namespace: "app".to_owned(),
            pod: "a\"b".to_owned(),
        };
        metrics.attempt(&pod, &flow(443));
        metrics.set_dropped(
            BTreeMap::from([(pod.clone(), 7)]),
            BTreeMap::from([(pod, 3)]),
        );
        assert!(metrics.render().contains(
            "egress_gateway_limited_packets_total{namespace=\"app\",pod=\"a\\\"b\"} 3\n"
        ));
        assert!(
            metrics
                .render()
                .contains("egress_refused_packets_total{namespace=\"app\",pod=\"a\\\"b\"} 7\n")
        );
        metrics.set_dropped(BTreeMap::new(), BTreeMap::new());
        assert!(!metrics.render().contains("namespace"));
    }
}
