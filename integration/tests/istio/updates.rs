//! Updates of the policy that do not arrive everywhere, or that the module refuses: the audit of
//! the running gateway finds every place that has another policy.

use anyhow::{Context, Result, ensure};
use egress_render::audit::Live;
use egress_render::{EmbeddedPolicies, Object, RenderError, Rendered};
use integration::client::Heard;
use integration::envoy::eventually;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install, install_file};
use integration::istio::tools::Program;
use integration::mesh::address_of;
use integration::workspace;
use serde_json::Value;

cases!(
    &[Program::Istiod];
    a_place_that_keeps_an_old_policy_is_found,
    an_update_that_the_module_refuses_is_found,
);

/// The reference policy without the rule for SSH.
fn tighter() -> Result<Value> {
    let mut policy = reference::policy()?;
    let rules = policy.pointer_mut("/spec/tiers/1/rules");
    let rules = rules.and_then(Value::as_array_mut).context("no rules")?;
    rules.retain(|rule| rule.get("name") != Some(&Value::from("app1-partner-ssh")));
    Ok(policy)
}

fn has_another_policy(problem: &RenderError) -> bool {
    problem.message().starts_with("it has the policies ")
}

/// An update that misses one object: the place that keeps the old policy is named, by the command
/// too.
fn a_place_that_keeps_an_old_policy_is_found() -> Result<()> {
    let old = reference::of(&install()?, &[reference::policy()?])?;
    let mut bench = Bench::start(&Plan::of(&old))?;
    let new = reference::of(&install()?, &[tighter()?])?;
    // Before it is applied, nothing has it.
    for dump in [bench.dump()?, bench.generated()?] {
        let found = reference::audited(&dump, &install()?, &[tighter()?])?;
        ensure!(
            found.len() == 4 && found.iter().all(has_another_policy),
            "{found:?}"
        );
    }
    let is_kept =
        |object: &&Object| (object.kind(), object.name()) == ("WasmPlugin", "egress-warden-tunnel");
    let mut objects: Vec<_> = new
        .objects()
        .iter()
        .filter(|object| !is_kept(object))
        .collect();
    objects.extend(old.objects().iter().filter(is_kept));
    let texts: Vec<_> = objects.iter().map(|object| object.yaml()).collect();
    let mut plan = Plan::of(&new);
    plan.manifests = texts.join("---\n");
    bench.update(&plan)?;
    let mut found = Vec::new();
    eventually("the update in all places but one", || {
        let dump = bench.dump();
        let audited = dump.and_then(|dump| reference::audited(&dump, &install()?, &[tighter()?]));
        found = audited.unwrap_or_default();
        found.len() == 1
    })
    .with_context(|| format!("{found:?}"))?;
    let [kept] = found.as_slice() else {
        anyhow::bail!("{found:?}");
    };
    let both = [&old, &new].map(Rendered::policy_hash);
    ensure!(
        kept.path().contains("egress-warden-tunnel")
            && has_another_policy(kept)
            && both.iter().all(|hash| kept.message().contains(hash)),
        "{kept}"
    );
    by_the_command(&bench)
}

/// A dump shows what arrived last, refused or not. What is in force the gateway's statistics know.
fn an_update_that_the_module_refuses_is_found() -> Result<()> {
    let old = reference::of(&install()?, &[reference::policy()?])?;
    let mut bench = Bench::start(&Plan::of(&old))?;
    // Policies that this module does not carry.
    let (sound, policies) = (install()?, [tighter()?]);
    let mut install = sound.clone();
    let carried = EmbeddedPolicies::of(&install, &policies);
    let carried = carried.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    install.spec.module.policy = Some(carried.hash().to_owned());
    bench.update(&Plan::of(&reference::of(&install, &policies)?))?;
    let in_force = || -> Result<Vec<RenderError>> {
        let (dump, stats) = (bench.dump()?, bench.gateway.get("/stats")?);
        let stats = Some(&*stats);
        reference::audited(
            Live {
                stats,
                ..Live::from(&dump)
            },
            &install,
            &policies,
        )
    };
    let mut found = Vec::new();
    eventually("the update to be refused", || {
        found = in_force().unwrap_or_default();
        let refused = |problem: &RenderError| problem.message().ends_with("the update was refused");
        found.iter().any(refused)
    })
    .with_context(|| format!("{found:?}"))?;
    let old_hash = old.policy_hash().get(..12).context("no hash")?;
    let hash = |problem: &&RenderError| problem.message().contains(old_hash);
    // The gate may have the new one, or not have been looked at behind what was refused.
    found.retain(|problem| !problem.path().contains("egress-warden.ready"));
    // Policies in the objects have machines of their own, those in the image share one.
    let machine = |problem: &RenderError| problem.message().contains("vm_config.vm_id is");
    ensure!(
        found.iter().filter(hash).count() == 3
            && found
                .iter()
                .all(|problem| hash(&problem) || machine(problem)),
        "{found:#?}"
    );
    let heard = bench.tcp("app1", address_of("partner.example")?, 22)?;
    ensure!(
        matches!(heard, Heard::Bytes(_)),
        "the old policy is not in force"
    );
    bench.update(&Plan::of(&old))?;
    eventually("the old one to be whole again", || {
        let (dump, stats) = (bench.dump(), bench.gateway.get("/stats"));
        let (Ok(dump), Ok(stats), Ok(policy)) = (dump, stats, reference::policy()) else {
            return false;
        };
        let live = Live {
            stats: Some(&stats),
            ..Live::from(&dump)
        };
        reference::audited(live, &sound, &[policy]).is_ok_and(|found| found.is_empty())
    })
}

/// `warden verify` with the files of the old policy: the other two places have another one, and
/// the gate for probes waits for it.
fn by_the_command(bench: &Bench) -> Result<()> {
    let files = bench.files();
    std::fs::write(files.join("dump.json"), bench.dump()?.to_string())?;
    std::fs::write(files.join("stats.txt"), bench.gateway.get("/stats")?)?;
    let settings = files.join("install.yaml");
    std::fs::write(&settings, install_file()?)?;
    let policy = workspace::root().join("cases/policies/reference.yaml");
    let (settings, policy) = (settings.to_string_lossy(), policy.to_string_lossy());
    let line = "warden verify --gateway dump.json --stats stats.txt --install";
    let line = line.split(' ');
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = warden::run(
        line.chain([&*settings, &*policy]),
        &mut warden::Console {
            stdin: &mut std::io::empty(),
            stdout: &mut stdout,
            stderr: &mut stderr,
            now: None,
            directory: files,
            color: false,
        },
    );
    let said = String::from_utf8_lossy(&stdout);
    let lines: Vec<_> = said.lines().collect();
    let (last, places) = lines.split_last().context("nothing was said")?;
    let all = ["-http", ".tls", ".ready"].iter().all(|place| {
        let place = format!("egress-warden{place}");
        places.iter().any(|line| line.contains(&place))
    });
    ensure!(
        exit == warden::Exit::Defects && *last == "3 findings" && all,
        "{exit:?}: {said}{}",
        String::from_utf8_lossy(&stderr)
    );
    Ok(())
}
