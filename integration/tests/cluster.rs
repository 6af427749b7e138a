//! On a real Kubernetes with the real Istio: one cluster, which all tests share.
//!
//! Where its programs are missing the tests are listed as ignored, with what enables them, unless
//! `WARDEN_KUBERNETES_REQUIRED` is set, as in CI.

use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use integration::cluster::matrix::{self, Row};
use integration::cluster::node::{Life, Node};
use integration::cluster::{
    GATEWAY, admission, around, folder, inside, install_page, kubectl, mesh, ordinary, tools, world,
};
use integration::hosts::address_of;
use libtest_mimic::{Arguments, Failed, Trial};

type Body = fn(&Node) -> Result<()>;

/// The page Install is followed before the reference case is on the cluster.
const INSTALL_PAGE: (&str, Body) = ("the_install_page_works_as_it_is_written", install_page);

/// Every test, by name.
const CASES: [(&str, Body); 5] = [
    INSTALL_PAGE,
    ("who_reaches_what_by_kubectl_exec", who_reaches_what),
    ("what_stays_in_the_cluster_goes_on", what_stays),
    ("no_way_around_leads_out_of_a_real_pod", no_way_around),
    ("the_api_server_answers_as_the_tables_say", tables),
];

fn main() -> Result<ExitCode> {
    inside::run()?;
    let mut arguments = Arguments::from_args();
    // They share one cluster.
    arguments.test_threads = Some(1);
    let missing = tools::missing();
    let ignored = !missing.is_empty() && tools::dispensable();
    if ignored {
        let names: Vec<_> = CASES.iter().map(|(name, _)| *name).collect();
        eprintln!("skipped: {}: {}", names.join(", "), missing.join("; "));
    }
    let trials = CASES.iter().map(|(name, body)| {
        let run = || with_cluster(name, *body).map_err(|error| Failed::from(format!("{error:#}")));
        Trial::test(*name, run).with_ignored_flag(ignored)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Some(Ok(cluster)) = CLUSTER.get() {
        let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.node.stop()?;
        // Logs are of use where something failed; images and volumes take a gigabyte.
        if !conclusion.has_failed() {
            std::fs::remove_dir_all(folder().join("test"))?;
        }
    }
    Ok(conclusion.exit_code())
}

struct Cluster {
    node: Node,
    /// Whether the reference case is on it.
    enforced: bool,
}

/// The cluster, or why there is none.
static CLUSTER: OnceLock<Result<Mutex<Cluster>, String>> = OnceLock::new();

fn with_cluster(name: &str, body: Body) -> Result<()> {
    let cluster = CLUSTER.get_or_init(|| {
        start()
            .map(Mutex::new)
            .map_err(|error| format!("{error:#}"))
    });
    let cluster = cluster.as_ref().map_err(|error| anyhow!(error.clone()))?;
    let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    if name != INSTALL_PAGE.0 && !cluster.enforced {
        mesh::enforce(&cluster.node, &mut |step| eprintln!("cluster: {step}"))?;
        cluster.enforced = true;
    }
    let start = Instant::now();
    let outcome = body(&cluster.node);
    eprintln!("cluster: {} s  {name}", start.elapsed().as_secs());
    outcome
}

fn start() -> Result<Cluster> {
    let missing = tools::missing();
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    let mut steps = |step: &str| eprintln!("cluster: {step}");
    let node = mesh::up(&folder().join("test"), Life::Ours, &mut steps)?;
    Ok(Cluster {
        node,
        enforced: false,
    })
}

/// Prints the table, and fails on a row that differs.
fn as_expected(rows: &[Row]) -> Result<()> {
    let table = matrix::table(rows);
    eprintln!("{table}");
    ensure!(rows.iter().all(|row| row.as_expected), "{table}");
    Ok(())
}

fn who_reaches_what(node: &Node) -> Result<()> {
    gateway_was_known(node)?;
    as_expected(&matrix::run(node, |_| {})?)?;
    nothing_denied(node)
}

/// The node guard took no gateway pod for a workload: nothing of theirs was refused.
fn gateway_was_known(node: &Node) -> Result<()> {
    let events = [
        "get",
        "events",
        "-n",
        GATEWAY,
        "--field-selector",
        "reason=EgressBypassDropped",
    ];
    let messages = ["-o", "jsonpath={.items[*].message}"];
    let events = kubectl::text(node, &[&events[..], &messages].concat())?;
    ensure!(events.is_empty(), "refused to a gateway pod: {events}");
    Ok(())
}

fn install_page(node: &Node) -> Result<()> {
    install_page::run(node, &mut |line| eprintln!("{line}"))
}

fn what_stays(node: &Node) -> Result<()> {
    as_expected(&ordinary::run(node, |_| {})?)
}

fn no_way_around(node: &Node) -> Result<()> {
    as_expected(&around::run(node, |_| {})?)
}

fn tables(node: &Node) -> Result<()> {
    let outcomes = admission::run(node)?;
    let mut differ = Vec::new();
    for outcome in outcomes {
        let (table, agree) = (&outcome.table, outcome.agree);
        eprintln!(
            "{table}: {agree} as the table says, {} not",
            outcome.differ.len()
        );
        differ.extend(outcome.differ.iter().map(|row| format!("{table}: {row}")));
    }
    ensure!(differ.is_empty(), "{}", differ.join("\n"));
    Ok(())
}

/// What the outside world saw of all that was tried: no connection to a host that no rule allows
/// anybody, and no packet at all.
fn nothing_denied(node: &Node) -> Result<()> {
    let seen = world::WorldRecord::read(node.folder())?;
    let allowed = address_of("api.github.com")?;
    ensure!(
        seen.reached.iter().any(|(address, _)| *address == allowed),
        "what is allowed did not arrive either"
    );
    for name in [
        "github.com",
        "evilgithub.com",
        "alerts.weather.gov",
        "rebind.github.com",
    ] {
        let address = address_of(name)?;
        let reached = seen.reached.iter().any(|(to, _)| *to == address);
        ensure!(!reached, "{name} was reached");
    }
    ensure!(seen.packets.is_empty(), "packets: {:?}", seen.packets);
    Ok(())
}
