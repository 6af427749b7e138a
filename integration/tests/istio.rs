//! What an admin applies, against the real Istio: its command, its control plane, its agent.
//!
//! A test that needs a program which is not there is listed as ignored and says how to enable it,
//! unless `WARDEN_ISTIO_REQUIRED` (Istio's) or `WARDEN_TOOLS_REQUIRED` (all others) is set, as in CI.

/// The tests of a module, each in a sandbox of its own, behind the programs that they all need.
macro_rules! cases {
    ($needs:expr; $($name:ident),+ $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$(crate::Case {
            name: stringify!($name),
            needs: $needs,
            body: || integration::sandbox::test(stringify!($name), $name),
        }),+];
    };
}

#[path = "istio/addresses.rs"]
mod addresses;
#[path = "istio/audit.rs"]
mod audit;
#[path = "istio/carries.rs"]
mod carries;
#[path = "istio/chart.rs"]
mod chart;
#[path = "istio/denials.rs"]
mod denials;
#[path = "istio/gateway_api.rs"]
mod gateway_api;
#[path = "istio/image.rs"]
mod image;
#[path = "istio/injection.rs"]
mod injection;
#[path = "istio/inside.rs"]
mod inside;
#[path = "istio/inspect.rs"]
mod inspect;
#[path = "istio/live.rs"]
mod live;
#[path = "istio/manifests.rs"]
mod manifests;
#[path = "istio/matrix.rs"]
mod matrix;
#[path = "istio/memory.rs"]
mod memory;
#[path = "istio/names.rs"]
mod names;
#[path = "istio/origination.rs"]
mod origination;
#[path = "istio/patches.rs"]
mod patches;
#[path = "istio/ready.rs"]
mod ready;
#[path = "istio/registry.rs"]
mod registry;
#[path = "istio/streams.rs"]
mod streams;
#[path = "istio/tenants.rs"]
mod tenants;
#[path = "istio/tunnel.rs"]
mod tunnel;
#[path = "istio/updates.rs"]
mod updates;

use std::process::ExitCode;

use anyhow::Result;
use integration::istio::tools::{Missing, Program};
use libtest_mimic::{Arguments, Failed, Trial};

/// A test and the programs that it needs.
pub(crate) struct Case {
    name: &'static str,
    needs: &'static [Program],
    body: fn() -> Result<()>,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = manifests::CASES
        .iter()
        .chain(matrix::CASES)
        .chain(live::CASES)
        .chain(denials::CASES)
        .chain(patches::CASES)
        .chain(audit::CASES)
        .chain(origination::CASES)
        .chain(ready::CASES)
        .chain(injection::CASES)
        .chain(image::CASES)
        .chain(registry::CASES)
        .chain(streams::CASES)
        .chain(tunnel::CASES)
        .chain(names::CASES)
        .chain(gateway_api::CASES)
        .chain(chart::CASES)
        .chain(carries::CASES)
        .chain(inspect::CASES)
        .chain(inside::CASES)
        .chain(updates::CASES)
        .chain(addresses::CASES)
        .chain(tenants::CASES)
        .chain(memory::CASES);
    for program in Program::ALL {
        let skipped: Vec<_> = cases
            .clone()
            .filter(|case| case.needs.contains(&program) && program.find().is_none())
            .map(|case| case.name)
            .collect();
        if !skipped.is_empty() && program.dispensable() {
            eprintln!("skipped: {}: {}", skipped.join(", "), Missing(program));
        }
    }
    let trials = cases.map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: &'static Case) -> Trial {
    let mut missing = case.needs.iter().filter(|program| program.find().is_none());
    // What is not dispensable fails in its test, with the line that gets it.
    let ignored = missing.clone().count() > 0 && missing.all(|program| program.dispensable());
    let body = || (case.body)().map_err(|error| Failed::from(format!("{error:#}")));
    Trial::test(case.name, body).with_ignored_flag(ignored)
}
