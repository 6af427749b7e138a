//! The reference matrix over both hops, and what happens to it when policies and modules change:
//! stock Envoys as sidecars and gateway, with the configuration that a real control plane makes of
//! the rendered manifests.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, ensure};
use integration::client::Heard;
use integration::dns::Dns;
use integration::envoy::eventually;
use integration::istio::testbed::{Bench, GATEWAY, Plan, install, test_patches};
use integration::istio::tools::Program;
use integration::istio::{matrix, reference};
use integration::mesh::{APP1, APP2, HOSTS, address_of};
use integration::{sandbox, verify};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use serde_json::Value;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "the_reference_matrix_holds_over_both_hops",
        needs: &[Program::Istiod],
        body: || {
            sandbox::test(
                "the_reference_matrix_holds_over_both_hops",
                the_reference_matrix_holds_over_both_hops,
            )
        },
    },
    Case {
        name: "everything_that_the_demo_shows_holds",
        needs: &[Program::Istiod, Program::PilotAgent],
        body: || {
            sandbox::test(
                "everything_that_the_demo_shows_holds",
                everything_that_the_demo_shows_holds,
            )
        },
    },
    Case {
        name: "warden_verify_finds_what_the_policy_says_over_both_hops",
        needs: &[Program::Istiod],
        body: || {
            sandbox::test(
                "warden_verify_finds_what_the_policy_says_over_both_hops",
                warden_verify_finds_what_the_policy_says_over_both_hops,
            )
        },
    },
    Case {
        name: "a_new_policy_and_a_broken_module_under_traffic",
        needs: &[Program::Istiod],
        body: || {
            sandbox::test(
                "a_new_policy_and_a_broken_module_under_traffic",
                a_new_policy_and_a_broken_module_under_traffic,
            )
        },
    },
    Case {
        name: "tests_patch_nothing_but_istios_own_filters",
        needs: &[],
        body: tests_patch_nothing_but_istios_own_filters,
    },
];

fn everything_that_the_demo_shows_holds() -> Result<()> {
    let (outcomes, leaks) = matrix::whole(|_| {})?;
    let table = matrix::table(&outcomes);
    ensure!(
        outcomes.iter().all(|row| row.came == row.expected),
        "{table}"
    );
    ensure!(leaks.is_empty(), "{leaks:?}");
    for shown in ["at pod ", "other-partner.example:22"] {
        ensure!(
            outcomes.iter().any(|row| row.attempt.contains(shown)),
            "no {shown}: {table}"
        );
    }
    Ok(())
}

fn warden_verify_finds_what_the_policy_says_over_both_hops() -> Result<()> {
    let rendered = reference::of(&install()?, &[reference::policy()?])?;
    let bench = Bench::start(&Plan::of(&rendered))?;
    // The name server, where pods can ask it too.
    let names = HOSTS
        .iter()
        .map(|(name, address)| ((*name).to_owned(), IpAddr::V4(*address)));
    Dns::start(GATEWAY, names)?;
    sandbox::resolve_with(GATEWAY, &bench.files().join("resolv.conf"))?;
    for (workload, reached) in [
        (APP1, "tls api.github.com at 140.82.112.5:443"),
        (APP2, "tcp 8.8.8.8:25"),
    ] {
        let (exit, report) = bench.inside(workload.name, move || {
            let only = "destinations,near-misses";
            // On a thread of its own, which keeps what is given up here to itself.
            let inside = std::thread::spawn(move || {
                give_up_capabilities()?;
                verify::reference(&workload, &["--only", only, "--output", "json"])
            });
            inside.join().map_err(|_| anyhow!("verify panicked"))?
        })?;
        ensure!(exit == warden::Exit::Ok, "{report}");
        let tried = verify::attempts(&report, "as_expected")?;
        ensure!(tried.iter().any(|one| one == reached), "{report}");
    }
    Ok(())
}

/// As in a container that is made by kubectl's profile `restricted`: none, and no way to any.
fn give_up_capabilities() -> Result<()> {
    let none = CapabilitySet::empty();
    set_no_new_privs(true)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    ensure!(
        effective.map(str::trim) == Some("0000000000000000"),
        "{effective:?}"
    );
    Ok(())
}

fn the_reference_matrix_holds_over_both_hops() -> Result<()> {
    let rendered = reference::of(&install()?, &[reference::policy()?])?;
    let bench = Bench::start(&Plan::of(&rendered))?;
    let outcomes = matrix::run(&bench)?;
    let differ: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.came != outcome.expected)
        .collect();
    if !differ.is_empty() {
        let log = bench.gateway.log()?;
        let told = |line: &&str| line.contains("verdict") || line.contains("rejected");
        let lines: Vec<_> = log.lines().filter(told).collect();
        anyhow::bail!("{differ:#?}\n{}", lines.join("\n"));
    }
    let leaks = matrix::leaks(&bench)?;
    ensure!(leaks.is_empty(), "{leaks:?}");
    Ok(())
}

/// Manifests whose policy has one rule less.
fn tighter() -> Result<Plan> {
    let mut policy = reference::policy()?;
    let rules = policy
        .pointer_mut("/spec/tiers/1/rules")
        .and_then(Value::as_array_mut);
    let rules = rules.context("no rules")?;
    rules.retain(|rule| rule.get("name") != Some(&Value::from("app1-partner-ssh")));
    Ok(Plan::of(&reference::of(&install()?, &[policy])?))
}

/// Manifests whose module cannot be loaded.
fn broken() -> Result<Plan> {
    let mut install = install()?;
    let file = std::env::temp_dir().join("egress-warden-no-module.wasm");
    std::fs::write(&file, b"no module")?;
    install.spec.module.url = format!("file://{}", file.display());
    Ok(Plan::of(&reference::of(&install, &[reference::policy()?])?))
}

fn ssh(bench: &Bench) -> Result<bool> {
    let heard = bench.tcp("app1", address_of("partner.example")?, 22)?;
    Ok(matches!(heard, Heard::Bytes(_)))
}

fn github(bench: &Bench) -> Result<bool> {
    let answer = bench.http("app1", address_of("api.github.com")?, "api.github.com")?;
    Ok(answer.is_some_and(|answer| answer.status == 200))
}

/// Goes on sending what every version allows until `done`; none of it may fail.
fn under_traffic(bench: &Bench, what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
    let mut failed = 0_u32;
    let mut error = None;
    eventually(what, || {
        failed += u32::from(!github(bench).unwrap_or(false));
        done().unwrap_or_else(|found| {
            error = Some(found);
            true
        })
    })?;
    error.map_or(Ok(()), Err)?;
    ensure!(
        failed == 0,
        "{failed} requests failed while waiting for: {what}"
    );
    Ok(())
}

fn a_new_policy_and_a_broken_module_under_traffic() -> Result<()> {
    let rendered = reference::of(&install()?, &[reference::policy()?])?;
    let mut bench = Bench::start(&Plan::of(&rendered))?;
    ensure!(
        github(&bench)? && ssh(&bench)?,
        "the first version does not work"
    );

    bench.update(&tighter()?)?;
    under_traffic(&bench, "the rule to be gone", || Ok(!ssh(&bench)?))?;

    // The broken version would allow SSH again. It never comes into force.
    bench.update(&broken()?)?;
    under_traffic(&bench, "the broken module to be refused", || {
        let stats = bench
            .gateway
            .get("/stats?filter=extension_config_discovery.*(fail|reject)")?;
        Ok(stats
            .lines()
            .any(|line| !line.ends_with(": 0") && line.contains("discovery")))
    })?;
    ensure!(github(&bench)?, "a broken module stops what runs");
    ensure!(!ssh(&bench)?, "a broken module opens");

    bench.update(&Plan::of(&rendered))?;
    under_traffic(&bench, "the first version to be back", || ssh(&bench))
}

/// The list of what tests change is a file; this is what may stand in it.
fn tests_patch_nothing_but_istios_own_filters() -> Result<()> {
    let patches: Vec<Value> = serde_saphyr::from_multiple(&test_patches()?)?;
    for filter in &patches {
        ensure!(
            filter.get("kind") == Some(&Value::from("EnvoyFilter")),
            "{filter}"
        );
        let all = filter
            .pointer("/spec/configPatches")
            .and_then(Value::as_array);
        for patch in all.context("no patches")? {
            let text = |pointer: &str| patch.pointer(pointer).and_then(Value::as_str);
            let filter = text("/match/listener/filterChain/filter/subFilter/name");
            let allowed = match (text("/applyTo"), text("/patch/operation"), filter) {
                (Some("HTTP_FILTER"), Some("REMOVE"), Some("istio.alpn"))
                | (Some("HTTP_FILTER"), Some("REPLACE"), Some("egress-warden.peer-metadata")) => {
                    true
                }
                (Some("ROUTE_CONFIGURATION"), Some("MERGE"), None) => only_a_header(patch),
                _ => false,
            };
            ensure!(allowed, "tests must not change this: {patch}");
        }
    }
    Ok(())
}

/// Whether a patch of sidecars adds Istio's metadata header and nothing else.
fn only_a_header(patch: &Value) -> bool {
    let value = patch.pointer("/patch/value").and_then(Value::as_object);
    let headers = value.and_then(|value| value.get("request_headers_to_add")?.as_array());
    let outbound = patch.pointer("/match/context") == Some(&Value::from("SIDECAR_OUTBOUND"));
    outbound
        && value.is_some_and(|value| value.len() == 1)
        && headers.is_some_and(|headers| {
            headers.iter().all(|header| {
                header.pointer("/header/key") == Some(&Value::from("x-envoy-peer-metadata"))
            })
        })
}
