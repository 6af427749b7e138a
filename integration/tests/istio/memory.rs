//! What the module takes of a gateway pod: how many machines Envoy makes of it, and how large one is.

use anyhow::{Result, ensure};
use egress_render::{Install, machines};
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;

use crate::ready::becomes_ready;

cases!(
    &[Program::Istiod];
    a_gateway_has_the_machines_that_its_memory_is_planned_for,
);

/// The bench's Envoys have one worker thread.
const WORKERS: u32 = 1;
/// Of the stand-in for Istio's peer metadata, which a real proxy has built in.
const OTHERS: u64 = 3;
/// What a machine with a small policy is planned to take.
const MACHINE: u64 = 2 << 20;

/// Whether the gateway has as many machines as `render` plans memory for.
pub(crate) fn as_planned(bench: &Bench, install: &Install) -> Result<()> {
    let active = bench.gateway.stat("wasm.envoy.wasm.runtime.v8.active")?;
    let planned = machines(install, WORKERS) + OTHERS;
    ensure!(active == planned, "{active} machines, {planned} planned");
    let size = bench.gateway.stat("wasmcustom.warden_memory_bytes")?;
    ensure!((1..=MACHINE).contains(&size), "{size} bytes in a machine");
    Ok(())
}

fn a_gateway_has_the_machines_that_its_memory_is_planned_for() -> Result<()> {
    let install = install()?;
    let rendered = reference::of(&install, &[reference::policy()?])?;
    let bench = Bench::start(&Plan::of(&rendered))?;
    becomes_ready(&install, &rendered)?;
    as_planned(&bench, &install)
}
