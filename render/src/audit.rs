//! Whether a gateway's live configuration is what was rendered: every listener, chain, route,
//! cluster and place of the module in a configuration dump, Envoy's or istiod's.
//!
//! The question is always the same: is there a way out without this policy before it?

mod chains;
mod dump;
mod policies;
mod routes;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Enforced;
use crate::install::Install;
use crate::module::http_cluster;
use crate::outside::inspection;
use crate::problem::Problem;
use crate::traffic::Traffic;

/// What a gateway may have, beside what comes with Istio's own bootstrap.
pub(crate) struct Rendered {
    http_port: u64,
    tunnel_port: u64,
    labels: bool,
    /// Clusters for HTTP requests.
    http: BTreeSet<String>,
    /// Those of them that speak TLS.
    originating: BTreeSet<String>,
    /// Clusters for tunnels.
    tunnel: BTreeSet<String>,
    /// Inspection devices.
    devices: Vec<String>,
}

/// What a running gateway says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Live<'l> {
    /// Its configuration dump, or istiod's of it. Of the module's configurations it has those that
    /// arrived last, also where the module refused them.
    pub dump: &'l Value,
    /// Its statistics as text, in which the module says what is in force.
    pub stats: Option<&'l str>,
}

impl<'l> From<&'l Value> for Live<'l> {
    fn from(dump: &'l Value) -> Self {
        Self { dump, stats: None }
    }
}

/// Everything that was not rendered, that is not where it has to be, or that judges by
/// other policies. Nothing means that no way leads out past these policies.
///
/// # Errors
/// Everything that keeps the policies from being enforced as they are written.
pub fn gateway(
    live: Live<'_>,
    install: &Install,
    documents: &[Value],
) -> Result<Vec<Problem>, Vec<Problem>> {
    let wanted = Enforced::of(install, documents)?;
    let rendered = Rendered::of(install, &wanted.traffic);
    let dump = dump::snake_case(live.dump);
    let mut problems = Vec::new();
    let listeners = dump::listeners(&dump);
    for port in [rendered.http_port, rendered.tunnel_port] {
        if !listeners
            .iter()
            .any(|listener| chains::port(listener) == Some(port))
        {
            problems.push(Problem::new("listeners", format!("none for port {port}")));
        }
    }
    if !listeners.iter().any(|listener| chains::is_inner(listener)) {
        problems.push(Problem::new("listeners", "none for TLS inside tunnels"));
    }
    for device in &rendered.devices {
        let wanted = inspection::listener_name(device);
        if !listeners.iter().any(|listener| name(listener) == wanted) {
            problems.push(Problem::new(
                "listeners",
                format!("none for the device {device}"),
            ));
        }
    }
    for listener in listeners {
        chains::check(listener, &rendered, &mut problems);
    }
    for config in dump::routes(&dump) {
        routes::check(config, &rendered, &mut problems);
    }
    routes::check_clusters(&dump::clusters(&dump), &rendered, &mut problems);
    policies::check(&dump, live.stats, &wanted.module, &mut problems)?;
    Ok(problems)
}

impl Rendered {
    fn of(install: &Install, traffic: &Traffic) -> Self {
        let ports = install.spec.gateway.ports;
        let originating: BTreeSet<_> = traffic
            .originations
            .iter()
            .map(|origination| origination.cluster.clone())
            .collect();
        let fixed = ["warden-tcp", "warden-tls-inner"].map(str::to_owned);
        let devices = install.spec.inspection.iter();
        let devices: Vec<_> = devices.map(|device| device.name.clone()).collect();
        let ways = devices.iter().map(|device| inspection::cluster(device));
        Self {
            http_port: ports.http.into(),
            tunnel_port: ports.tunnel.into(),
            labels: !traffic.labels.is_empty(),
            http: traffic
                .http
                .iter()
                .map(|port| http_cluster(*port))
                .chain(originating.iter().cloned())
                .chain(ways)
                .collect(),
            originating,
            tunnel: fixed
                .into_iter()
                .chain(
                    devices
                        .iter()
                        .map(|device| inspection::device_cluster(device)),
                )
                .collect(),
            devices,
        }
    }
}

impl Rendered {
    /// The verdict that alone may go by a cluster, where that is not `accept`.
    fn only_verdict(&self, cluster: &str) -> Option<String> {
        if cluster == "warden-tls-inner" {
            return Some("forward".to_owned());
        }
        let mut devices = self.devices.iter();
        let device = devices.find(|device| {
            cluster == inspection::cluster(device) || cluster == inspection::device_cluster(device)
        });
        device.map(|device| inspection::word(device))
    }
}

fn name(value: &Value) -> &str {
    value
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn items<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests;
