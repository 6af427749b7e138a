//! How much memory a gateway pod needs for the module.
//!
//! Envoy makes a machine of the module for each of its worker threads, one for its main thread, and
//! one that the others are cloned from; and all of these once for each group of places that does
//! not share (`integration/tests/istio/memory.rs` counts them in a real gateway). A machine takes
//! [`MACHINE`], and for each copy of the policies at most three times their size as canonical JSON
//! (`integration/tests/large_policy.rs`), twice as much while a new policy is there and streams of
//! the old one run.

use serde_json::{Value, json};

use crate::error::RenderError;
use crate::install::{Deployment, Install, PolicyLocation};

const MIB: u64 = 1 << 20;
/// Envoy, Istio's agent, connections.
const PROXY: u64 = 256 * MIB;
/// Istio's agent, stacks, and what an allocator holds beside the heap.
const BESIDE: u64 = 128 * MIB;
/// A machine with a small policy; 1.2 MiB were seen.
const MACHINE: u64 = 2 * MIB;
/// Of the policies' size, in each machine.
const FACTOR: u64 = 3 * 2;

/// The clusters and the empty DNS cache of one address class, for each thread.
const CLASS: u64 = MIB / 4;

/// What a pod asks for if it needs no more.
const LEAST: u64 = 512 * MIB;

/// What the policies are, as far as memory depends on them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Their size as canonical JSON, in bytes.
    pub(crate) policies: usize,
    /// How many address classes they need. For a moment as many older ones are there too.
    pub(crate) classes: usize,
}

/// What each thread has.
struct Thread {
    machines: u64,
    /// Of the policies, in all machines together.
    copies: u64,
    /// The machines that judge: where probes have one of their own, it counts nothing.
    judging: u32,
    /// Those among them that requests and tunnels come to.
    streams: u32,
}

/// The place that no `WasmPlugin` reaches has a machine of its own, unless the image carries the
/// policies; the others share one. Where Istio's agent does not fetch the module, Istio's
/// environment variables keep the two `WasmPlugin`s apart from everything.
fn thread(install: &Install) -> Thread {
    let module = &install.spec.module;
    let carried = matches!(module.policy_location(), Some(PolicyLocation::Image(_)));
    let fetched = module.url.starts_with("oci://");
    let (machines, copies, judging, streams) = match (carried, fetched) {
        (false, true) => (2, 3, 2, 1),
        (false, false) => (4, 3, 3, 2),
        (true, true) => (1, 1, 1, 1),
        (true, false) => (3, 3, 3, 2),
    };
    Thread {
        machines,
        copies,
        judging,
        streams,
    }
}

/// Machines of one worker thread that count a workload's names and log lines, and those that count
/// its requests and tunnels.
pub(crate) fn counting(install: &Install) -> (u32, u32) {
    let thread = thread(install);
    (thread.judging, thread.streams)
}

fn threads(workers: u32) -> u64 {
    u64::from(workers).saturating_add(2)
}

/// Machines of the module in a pod with so many worker threads.
#[must_use]
pub fn machines(install: &Install, workers: u32) -> u64 {
    threads(workers).saturating_mul(thread(install).machines)
}

/// Bytes that a pod needs.
pub(crate) fn need(install: &Install, workers: u32, load: Load) -> u64 {
    let whole = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let Thread {
        machines, copies, ..
    } = thread(install);
    let policies = whole(load.policies)
        .saturating_mul(FACTOR)
        .saturating_mul(copies);
    let classes = whole(load.classes).saturating_mul(2 * CLASS);
    let each = machines
        .saturating_mul(MACHINE)
        .saturating_add(policies)
        .saturating_add(classes);
    threads(workers).saturating_mul(each).saturating_add(PROXY)
}

/// Bytes of a memory limit that are not Envoy's heap: those of the module's machines and of the rest
/// of the pod. And the smallest heap, since limits that were refused for being too little may be
/// anything.
pub(crate) fn beside(install: &Install, workers: u32, load: Load) -> (u64, u64) {
    let machines = need(install, workers, load).saturating_sub(PROXY);
    (machines.saturating_add(BESIDE), PROXY / 2)
}

/// Bytes that Envoy's heap may take within these limits. `None` if they bound no memory.
pub(crate) fn heap(install: &Install, workers: u32, load: Load, resources: &Value) -> Option<u64> {
    let limit = bytes(stated(resources, "limits")?)?;
    let (beside, least) = beside(install, workers, load);
    Some(limit.saturating_sub(beside).max(least))
}

/// What the container asks for and may use: as stated, or as much as is needed.
pub(crate) fn resources(
    install: &Install,
    settings: &Deployment,
    load: Load,
    problems: &mut Vec<RenderError>,
) -> Value {
    let need = need(install, settings.workers, load);
    let Some(resources) = &settings.resources else {
        // Whole steps, so that a rule more is not another Deployment.
        let asked = need.max(LEAST).div_ceil(64 * MIB).saturating_mul(64);
        return json!({
            "requests": {"cpu": "500m", "memory": quantity(asked)},
            "limits": {"memory": quantity(asked.saturating_mul(2))},
        });
    };
    for kind in ["requests", "limits"] {
        let Some(value) = stated(resources, kind) else {
            continue;
        };
        let place = format!("spec.gateway.deployment.resources.{kind}.memory");
        match bytes(value) {
            None => problems.push(RenderError::new(
                place,
                format!("{value} is no quantity of memory"),
            )),
            Some(stated) if stated < need => {
                let message = format!(
                    "{} workers make {} machines of the module, which need {}Mi with these policies \
                     and Envoy itself: state as much, or fewer workers, or leave it out",
                    settings.workers,
                    machines(install, settings.workers),
                    mebibytes(need),
                );
                problems.push(RenderError::new(place, message));
            }
            Some(_) => {}
        }
    }
    resources.clone()
}

fn stated<'v>(resources: &'v Value, kind: &str) -> Option<&'v Value> {
    resources.get(kind)?.get("memory")
}

/// Whole mebibytes that hold so many bytes.
pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

/// Mebibytes as Kubernetes writes them.
fn quantity(count: u64) -> String {
    if count.is_multiple_of(1024) {
        format!("{}Gi", count / 1024)
    } else {
        format!("{count}Mi")
    }
}

/// What a quantity may end with, and how many bytes one of it is.
pub(crate) const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("k", 1000),
    ("M", 1000 * 1000),
    ("G", 1000 * 1000 * 1000),
    ("Ki", 1 << 10),
    ("Mi", MIB),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
];

/// A quantity of memory as Kubernetes writes it: a whole number of bytes, or one with a suffix.
/// Fractions and exponents, which it has too, are not read: nobody states memory so.
fn bytes(value: &Value) -> Option<u64> {
    let text = match value {
        Value::String(text) => text.as_str(),
        other => return other.as_u64(),
    };
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.get(digits.len()..)?;
    let (_, unit) = UNITS.iter().find(|(known, _)| *known == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*unit)
}

#[cfg(test)]
mod tests;
