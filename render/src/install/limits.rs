//! What one workload may take of a gateway pod, and what a pod may take at all.

use egress_policy::limits::Limits as Budget;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Install;
use crate::deployment::memory;
use crate::error::RenderError;

/// Limits. Those of a workload apply to each identity (namespace and service account) at each
/// gateway pod. What exceeds them is denied with the code in parentheses.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Limits {
    /// Open requests and tunnels of a workload (`limit_streams`).
    pub streams: u32,
    /// Open tunnels of a workload that have received no byte yet (`limit_undecided`).
    pub undecided_tunnels: u32,
    /// Names per minute that a workload asks for the first time (`limit_names`).
    pub new_names_per_minute: u32,
    /// Names of a workload in the gateway's DNS caches (`limit_names`).
    pub names: u32,
    /// Log lines per minute about a workload's denials. Further denials are summed up in one line.
    pub denial_lines_per_minute: u32,
    /// Seconds that an unused name stays in the DNS caches.
    pub name_lifetime_seconds: u32,
    /// Connections of all workloads together at one pod of a rendered gateway.
    pub connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let Budget {
            streams,
            undecided_tunnels,
            new_names_per_minute,
            names,
            denial_lines_per_minute,
            name_lifetime_seconds,
            workers: _,
            machines: _,
            stream_machines: _,
        } = Budget::DEFAULT;
        Self {
            streams,
            undecided_tunnels,
            new_names_per_minute,
            names,
            denial_lines_per_minute,
            name_lifetime_seconds,
            connections: 10_000,
        }
    }
}

impl Install {
    /// The gateway's worker threads, as far as anybody has said.
    fn workers(&self) -> Option<u32> {
        let gateway = &self.spec.gateway;
        let own = gateway.deployment.as_ref().map(|own| own.workers);
        gateway.workers.or(own)
    }

    /// What the module is told: the settings, and by what each of its machines divides them. Where
    /// nobody has said how many workers there are, it takes them for more than most gateways have.
    pub(crate) fn module_limits(&self) -> Value {
        let limits = &self.spec.limits;
        let (machines, stream_machines) = memory::counting(self);
        let mut told = json!({
            "streams": limits.streams,
            "undecidedTunnels": limits.undecided_tunnels,
            "newNamesPerMinute": limits.new_names_per_minute,
            "names": limits.names,
            "denialLinesPerMinute": limits.denial_lines_per_minute,
            "nameLifetimeSeconds": limits.name_lifetime_seconds,
            "machines": machines,
            "streamMachines": stream_machines,
        });
        if let Some(workers) = self.workers() {
            crate::object::set(&mut told, "workers", json!(workers));
        }
        told
    }

    /// What is wrong with them.
    pub(super) fn check_limits(&self, problems: &mut Vec<RenderError>) {
        let limits = &self.spec.limits;
        for (name, value) in [
            ("streams", limits.streams),
            ("undecidedTunnels", limits.undecided_tunnels),
            ("newNamesPerMinute", limits.new_names_per_minute),
            ("names", limits.names),
            ("denialLinesPerMinute", limits.denial_lines_per_minute),
            ("nameLifetimeSeconds", limits.name_lifetime_seconds),
            ("connections", limits.connections),
        ] {
            if value == 0 {
                problems.push(RenderError::new(
                    format!("spec.limits.{name}"),
                    "expected one or more: none at all would be an outage",
                ));
            }
        }
        let gateway = &self.spec.gateway;
        let own = gateway.deployment.as_ref().map(|own| own.workers);
        match (gateway.workers, own) {
            (Some(0), _) => problems.push(RenderError::new(
                "spec.gateway.workers",
                "expected the number of Envoy's worker threads",
            )),
            (Some(stated), Some(own)) if stated != own => problems.push(RenderError::new(
                "spec.gateway.workers",
                format!("`gateway.deployment.workers` says {own}: state one of the two"),
            )),
            (Some(_) | None, _) => {}
        }
    }
}
