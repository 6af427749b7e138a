//! The proxy-wasm modules.

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, check, progress, say, target};

/// The release module's budget in bytes.
const BUDGET: u64 = 1_300_000;

/// Builds the module and the test fixtures.
pub(crate) fn wasm() -> Result<()> {
    progress("building the proxy-wasm modules");
    check(
        cargo(&[
            "build",
            "--profile",
            "wasm",
            "--target",
            "wasm32-wasip1",
            "--lib",
        ])
        .args([
            "--package=egress-filter",
            "--package=fixture-peer-metadata",
            "--package=fixture-probe",
        ]),
    )
}

/// Prints the module's size and fails above the budget.
pub(crate) fn size() -> Result<()> {
    wasm()?;
    let path = target().join("wasm32-wasip1/wasm/egress_filter.wasm");
    let size = std::fs::metadata(&path)
        .with_context(|| path.display().to_string())?
        .len();
    say(&format!("egress_filter.wasm: {size} bytes of {BUDGET}"));
    ensure!(size <= BUDGET, "the module is over its budget");
    Ok(())
}

/// Runs the engine's benchmark.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let mut command = cargo(&["run", "--quiet", "--package", "egress-bench", "--"]);
    check(command.args(arguments))
}
