//! What holds for the gateway's whole process: Envoy's overload manager.
//!
//! It is configuration that Envoy starts with, which no `EnvoyFilter` reaches. Istio's injector puts
//! a part of one into a pod that names a `ConfigMap` (`sidecar.istio.io/bootstrapOverride`, key
//! `custom_bootstrap.json`), and Envoy merges it over its own (`--config-yaml`): lists are joined,
//! so the monitor of connections that Istio writes itself is left to Istio's own setting
//! (`ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS`).

use std::fmt::Display;

use serde_json::{Value, json};

use super::{Load, memory};
use crate::envoy::edge::monitor;
use crate::gateway::metadata;
use crate::install::Install;
use crate::object::{Object, Stage};

/// The name of the `ConfigMap`.
pub(crate) const BOOTSTRAP: &str = "egress-warden-bootstrap";
/// The pod's annotation that names it.
pub(crate) const OVERRIDE: &str = "sidecar.istio.io/bootstrapOverride";
/// The file that Istio looks for in it.
pub(crate) const FILE: &str = "custom_bootstrap.json";

/// What Envoy does as its heap fills, by the part that is in use. Giving memory back comes first,
/// then the streams that hold most of it go, and only then does everybody wait.
const ACTIONS: [(&str, f64); 3] = [
    ("envoy.overload_actions.shrink_heap", 0.80),
    ("envoy.overload_actions.stop_accepting_connections", 0.95),
    ("envoy.overload_actions.stop_accepting_requests", 0.98),
];

/// The overload manager for a heap of so many bytes.
pub(crate) fn overload_manager(heap: u64) -> Value {
    let monitor_name = "envoy.resource_monitors.fixed_heap";
    let actions = ACTIONS.map(|(name, value)| {
        json!({
            "name": name,
            "triggers": [{"name": monitor_name, "threshold": {"value": value}}],
        })
    });
    let reset = json!({
        "name": "envoy.overload_actions.reset_high_memory_stream",
        "triggers": [{
            "name": monitor_name,
            "scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95},
        }],
    });
    let heap = monitor(
        monitor_name,
        "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        json!({"max_heap_size_bytes": heap}),
    );
    json!({
        "refresh_interval": "0.25s",
        "resource_monitors": [heap],
        "actions": actions.into_iter().chain([reset]).collect::<Vec<_>>(),
        // Streams of less than 512 KiB are nobody's trouble.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
    })
}

/// The part of a bootstrap, as JSON. The number may be a place for a value.
pub(crate) fn text(heap: impl Display) -> String {
    const MARK: u64 = u64::MAX;
    let whole = json!({"overload_manager": overload_manager(MARK)}).to_string();
    whole.replace(&MARK.to_string(), &heap.to_string())
}

/// The `ConfigMap`, if the pod's memory is bounded.
pub(crate) fn object(
    install: &Install,
    workers: u32,
    load: Load,
    resources: &Value,
) -> Option<Object> {
    let text = text(memory::heap(install, workers, load, resources)?);
    Some(Object::new(
        Stage::Gateway,
        "What the gateway does when its memory fills: it gives memory back, then ends the streams that
         hold most, then takes no more. Istio's injector hands it to Envoy as it starts.",
        ("v1", "ConfigMap"),
        metadata(install, BOOTSTRAP),
        json!({"data": {FILE: text}}),
    ))
}

#[cfg(test)]
mod tests;
