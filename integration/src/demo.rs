//! The reference case: two applications, what they may reach, and every near miss.

mod attempt;
mod report;
mod rows;

use std::net::Ipv4Addr;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::mesh::{APP1, APP2, APP3, Mesh, Plan, Workload};
use crate::peer::Peer;
use crate::{classes, policy};

pub use report::{json, table};
pub use rows::{Expect, Row, rows};

/// A workload of app1's namespace that carries no label.
pub const UNLABELLED: Workload = Workload {
    name: "app1-unlabelled",
    sidecar: Ipv4Addr::new(127, 0, 3, 1),
    identity: "spiffe://cluster.local/ns/app1-ns/sa/other",
    peer: Peer {
        workload: "other",
        namespace: "app1-ns",
        labels: &[("app", "other")],
        cluster: Some("Kubernetes"),
    },
};

/// A workload of app2's namespace that has replaced its sidecar and claims to be app1.
pub const FORGER: Workload = Workload {
    name: "forger",
    sidecar: Ipv4Addr::new(127, 0, 4, 1),
    identity: "spiffe://cluster.local/ns/app2-ns/sa/app2",
    peer: APP1.peer,
};

/// What was seen of one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DemoOutcome {
    /// Who.
    pub workload: &'static str,
    /// Whereto.
    pub destination: String,
    /// What the policy says.
    pub expected: String,
    /// What happened: `reached`, `denied`, or what else.
    pub seen: String,
    /// What decided: a rule, or the policy whose default did.
    pub rule: String,
    /// The module's code; `-` where it was not asked.
    pub code: String,
    /// Whether what happened, rule and code are as expected.
    pub as_expected: bool,
}

/// Starts gateway, sidecars, inspection proxy and outside world with the reference policy and its
/// inspected workload.
///
/// # Errors
/// If a part does not start.
pub fn start(change: fn(&mut Value)) -> Result<Mesh> {
    let policies = [policy::demo()?];
    Mesh::start(&Plan {
        extensions: &policy::everywhere(&policies),
        workloads: &[APP1, APP2, APP3, UNLABELLED, FORGER],
        classes: &classes::of(&policies),
        workers: 1,
        discovered: false,
        change: &change,
    })
}

/// Whether the module is there to say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// It logs a verdict for every row that reaches it.
    Present,
    /// It has been taken out; only what is reached counts.
    Absent,
}

/// Tries every row, in order.
///
/// # Errors
/// If the bench itself fails; a row that goes wrong is an outcome.
pub fn run(
    mesh: &Mesh,
    module: Module,
    mut progress: impl FnMut(&DemoOutcome),
) -> Result<Vec<DemoOutcome>> {
    let mut outcomes = Vec::new();
    for row in rows() {
        if matches!(row.expect, Expect::ProxyDown(_)) {
            mesh.inspection_proxy.stop()?;
        }
        let outcome = attempt::attempt(mesh, module, &row)?;
        progress(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Names among these that no rule allows anybody: asking for one would tell the outside something.
#[must_use]
pub fn names_that_should_not_be_asked(asked: &[String]) -> Vec<String> {
    let allowed = |name: &str| {
        name == "api.weather.gov"
            || name.ends_with(".github.com")
            || name.ends_with(".payments.example")
    };
    let denied = asked.iter().filter(|name| !allowed(name));
    denied.cloned().collect()
}
