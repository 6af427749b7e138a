//! Large policies in the VM of a real Envoy: that they load, decide, and how much memory they take.

use anyhow::{Context, Result, ensure};
use egress_bench::Shape;
use integration::sandbox::FIGURE;
use integration::{demo, policy, sandboxed};
use serde_json::Value;

/// "Peak memory at most three times the configuration's size plus 8 MiB."
const FACTOR: usize = 3;
const BASE: usize = 8 << 20;

fn load(rules: u32) -> Result<()> {
    let mesh = demo::start(|_| {})?;
    let large: Value = serde_json::from_str(&Shape::Realistic.policy(rules))?;
    let extension = policy::at("warden-http", &[large]);
    let size = extension.configuration.len();
    let start = std::time::Instant::now();
    ensure!(mesh.update(&extension)?, "Envoy refuses {rules} rules");
    let taken = start.elapsed().as_millis();
    let gauge = |what: &str| -> Result<usize> {
        let name = format!("wasmcustom.{what}");
        usize::try_from(mesh.gateway.stat(&name)?).context(name)
    };
    assert_eq!(gauge("warden_rules")?, usize::try_from(rules)?);
    let peak = gauge("warden_memory_bytes")?;
    let bound = FACTOR * size + BASE;
    eprintln!(
        "{FIGURE}{rules} rules: {} KiB of configuration, {} KiB at most, bound {} KiB, loaded in {taken} ms",
        size >> 10,
        peak >> 10,
        bound >> 10,
    );
    assert!(
        peak <= bound,
        "{peak} bytes for {size} bytes of configuration"
    );
    Ok(())
}

// Linear memory never shrinks, so each size gets an Envoy, and so VMs, of its own.
sandboxed! {
    fn ten_thousand_rules_stay_within_the_bound() -> Result<()> {
        load(10_000)
    }

    fn a_hundred_thousand_rules_stay_within_the_bound() -> Result<()> {
        load(100_000)
    }
}
