//! The agent's metrics, with bounded cardinality, in the `OpenMetrics` text format.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

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

/// What is counted per pod.
#[derive(Debug, Default)]
struct Pods {
    attempts: BTreeMap<PodName, BTreeMap<(&'static str, String), u64>>,
    dropped: BTreeMap<PodName, u64>,
    limited: BTreeMap<PodName, u64>,
}

/// The pods' counters as they are when somebody asks.
#[derive(Debug, Clone, Default)]
struct PodCounters(Arc<Mutex<Pods>>);

impl PodCounters {
    fn lock(&self) -> MutexGuard<'_, Pods> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for PodCounters {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let pods = self.lock();
        let mut attempts = encoder.encode_descriptor(
            "egress_bypass_attempts",
            "Refused packets that were logged, rate-limited per pod. At most 32 ports per pod; further ones count as `other`",
            None,
            MetricType::Counter,
        )?;
        for (pod, ports) in &pods.attempts {
            for ((protocol, port), count) in ports {
                let labels = [
                    ("namespace", pod.namespace.as_str()),
                    ("pod", pod.pod.as_str()),
                    ("protocol", protocol),
                    ("port", port.as_str()),
                ];
                ConstCounter::new(*count).encode(attempts.encode_family(&labels)?)?;
            }
        }
        for (name, help, counts) in [
            (
                "egress_refused_packets",
                "All refused packets, from the kernel's counters",
                &pods.dropped,
            ),
            (
                "egress_gateway_limited_packets",
                "Packets that would have opened a connection to the gateway beyond `gateway.limits`",
                &pods.limited,
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (pod, count) in counts {
                let labels = [
                    ("namespace", pod.namespace.as_str()),
                    ("pod", pod.pod.as_str()),
                ];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// All metrics of the agent.
#[derive(Debug)]
pub struct Metrics {
    /// Whether this node is guarded.
    pub ready: Gauge,
    /// Whether the last proof succeeded.
    pub canary_counted: Gauge,
    /// Whether the newest configuration was refused.
    pub config_rejected: Gauge,
    /// Interfaces of pods that are known.
    pub pod_interfaces: Gauge,
    /// Interfaces beyond the node guard that are there.
    pub interfaces_beyond_guard: Gauge,
    /// Interfaces beyond the node guard that were taken out of pods.
    pub interfaces_refused: Counter,
    /// Pods whose network namespace could not be looked into.
    pub pods_not_examined: Gauge,
    pods: PodCounters,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let ready = gauge("egress_cni_ready", "1 if this node is guarded, else 0");
        let canary_counted = gauge(
            "egress_cni_canary_counted",
            "1 if the agent's last test packet was refused and counted, else 0",
        );
        let config_rejected = gauge(
            "egress_cni_config_rejected",
            "1 if the newest configuration was rejected and the previous one stays in force, else 0",
        );
        let pod_interfaces = gauge(
            "egress_cni_pod_interfaces",
            "Pod interfaces that the agent knows",
        );
        let interfaces_beyond_guard = gauge(
            "egress_cni_interfaces_beyond_guard",
            "Pod interfaces outside the node guard, such as macvlan: of pods that are only counted, or that could not be removed",
        );
        let pods_not_examined = gauge(
            "egress_cni_pods_not_examined",
            "Pods whose network namespace could not be examined",
        );
        let interfaces_refused = Counter::default();
        registry.register(
            "egress_cni_interfaces_refused",
            "Interfaces outside the node guard, such as macvlan, that were removed from pods",
            interfaces_refused.clone(),
        );
        registry.register(
            "egress_cni_build",
            "1, with the version of the agent",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let pods = PodCounters::default();
        registry.register_collector(Box::new(pods.clone()));
        Self {
            ready,
            canary_counted,
            config_rejected,
            pod_interfaces,
            interfaces_beyond_guard,
            interfaces_refused,
            pods_not_examined,
            pods,
            registry,
        }
    }
}

impl Metrics {
    /// Counts one logged attempt.
    pub fn attempt(&self, pod: &PodName, flow: &Flow) {
        let port = flow
            .port
            .map_or_else(|| "none".to_owned(), |port| port.to_string());
        let mut pods = self.pods.lock();
        let ports = pods.attempts.entry(pod.clone()).or_default();
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
        let mut pods = self.pods.lock();
        pods.attempts.retain(|pod, _| dropped.contains_key(pod));
        pods.dropped = dropped;
        pods.limited = limited;
    }

    /// The exposition text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail; a text that is cut off has no `# EOF`.
        let _ = encode(&mut text, &self.registry);
        text
    }
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

    fn samples(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    /// Dashboards and alerts name these: a name or a label that changes breaks them.
    #[test]
    fn names_and_labels() {
        let metrics = Metrics::default();
        let pod = PodName {
            namespace: "app".to_owned(),
            pod: "a".to_owned(),
        };
        metrics.attempt(&pod, &flow(443));
        metrics.set_dropped(
            BTreeMap::from([(pod.clone(), 7)]),
            BTreeMap::from([(pod, 3)]),
        );
        metrics.ready.set(1);
        metrics.interfaces_refused.inc();
        let text = metrics.render();
        let version = env!("CARGO_PKG_VERSION");
        let build = format!("egress_cni_build_info{{version=\"{version}\"}} 1");
        let mut found = samples(&text);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                "egress_bypass_attempts_total{namespace=\"app\",pod=\"a\",protocol=\"tcp\",port=\"443\"} 1",
                build.as_str(),
                "egress_cni_canary_counted 0",
                "egress_cni_config_rejected 0",
                "egress_cni_interfaces_beyond_guard 0",
                "egress_cni_interfaces_refused_total 1",
                "egress_cni_pod_interfaces 0",
                "egress_cni_pods_not_examined 0",
                "egress_cni_ready 1",
                "egress_gateway_limited_packets_total{namespace=\"app\",pod=\"a\"} 3",
                "egress_refused_packets_total{namespace=\"app\",pod=\"a\"} 7",
            ]
        );
        assert!(text.ends_with("# EOF\n"));
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
            pod: "a\"b\\c\nd".to_owned(),
        };
        metrics.attempt(&pod, &flow(443));
        metrics.set_dropped(
            BTreeMap::from([(pod.clone(), 7)]),
            BTreeMap::from([(pod, 3)]),
        );
        let text = metrics.render();
        assert!(
            text.contains(r#"egress_refused_packets_total{namespace="app",pod="a\"b\\c\nd"} 7"#),
            "{text}"
        );
        metrics.set_dropped(BTreeMap::new(), BTreeMap::new());
        let text = metrics.render();
        assert!(
            samples(&text)
                .iter()
                .all(|sample| !sample.contains("namespace"))
        );
    }
}
