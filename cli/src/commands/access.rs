//! `warden who` and `warden what`: who may reach a destination, and what a workload may reach.

mod report;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::sources::{Inputs, load};
use egress_analysis::access::{Access, Inquiry, what, who};
use egress_analysis::bundle::single_bundle;
use egress_analysis::lint::port_conflicts;
use egress_analysis::owned_facts::parse_time;

use report::{AccessReport, Asks};

/// The forms of the result.
const FORMS: [Output; 3] = [Output::Human, Output::Json, Output::Markdown];

/// Which workloads may reach a destination, and by which rule: what holds, with all policies in
/// force together and as the mesh carries the port. Exits 0 where somebody may reach it, 2 where
/// nobody may, 5 where that is not decided.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden who policy.yaml --to https://api.github.com/x
  warden who policy.yaml --to 203.0.113.7:22
  warden who policy.yaml --to '*.github.com'
  warden who policies/ --to http://api.payments.example/v1/refunds --method POST --output markdown")]
pub(crate) struct Who {
    #[command(flatten)]
    pub(super) search: Search,
    /// Where to: a URL as `warden explain --to` takes it (`http://HOST/PATH`, `https://HOST`,
    /// `tcp://ADDRESS:PORT`), or a name, a pattern such as `*.github.com`, an address or a network,
    /// each with or without `:PORT`. Without a port it is every port, without a path every path.
    #[arg(long, value_name = "DESTINATION")]
    to: String,
    /// The HTTP method [default: every method, told where they differ].
    #[arg(long)]
    method: Option<String>,
}

/// Everything that a workload may reach, and by which rule: what holds, with all policies in force
/// together and as the mesh carries the ports. Exits 0 where it may reach something, 2 where it may
/// reach nothing, 5 where that is not decided.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden what policy.yaml --from app1-ns
  warden what policy.yaml --from app1-ns/default,label=egress-ruleset=app1
  warden what policies/ --from app1-ns/default,claims=none --output markdown --all")]
pub(crate) struct What {
    #[command(flatten)]
    pub(super) search: Search,
    /// Who asks: NAMESPACE for every service account in it, or NAMESPACE/SERVICE-ACCOUNT; then
    /// `,label=KEY=VALUE`, `,cluster=NAME`, `,trust-domain=NAME`, `,claims=none|unknown|missing`. Or
    /// a spiffe:// id, `plaintext`, `no-certificate`. Where one label is given, the others are not
    /// there; where none is, they are unknown, and what rests on them says so.
    #[arg(long, value_name = "CALLER")]
    from: String,
}

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub(super) struct Search {
    #[command(flatten)]
    inputs: Inputs,
    /// From when on, as RFC 3339 [default: now]. What ends or begins later says when.
    #[arg(long)]
    time: Option<String>,
    /// Seconds after which the search ends undecided.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    limit: u64,
    /// List every answer, and every name, network and port in it. Without it, lists that are cut
    /// say how many more there are.
    #[arg(long)]
    all: bool,
    /// How to write the result.
    #[arg(long, value_parser = Output::among(&FORMS), default_value = "human")]
    pub(super) output: Output,
}

impl Who {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let ask = |inquiry: &Inquiry<'_>| who(inquiry, &self.to, self.method.as_deref());
        self.search.run(console, Asks::Who, &ask)
    }
}

impl What {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let ask = |inquiry: &Inquiry<'_>| what(inquiry, &self.from);
        self.search.run(console, Asks::What, &ask)
    }
}

impl Search {
    fn run(
        &self,
        console: &mut Console<'_>,
        asks: Asks,
        ask: &dyn Fn(&Inquiry<'_>) -> Result<Access, Failure>,
    ) -> Result<Exit, Failure> {
        let clock = Progress::start("searching");
        let now = match &self.time {
            Some(text) => parse_time(text)?.known(),
            None => console.now,
        };
        let now = now.ok_or_else(|| Failure::new("there is no clock").with_hint("give --time"))?;
        let mut loaded = load(&self.inputs, console)?;
        if loaded.has_errors() {
            return Err(Failure::of_files(loaded.diagnostics));
        }
        let bundle = single_bundle(std::mem::take(&mut loaded.bundles))?;
        // What is not rendered is not answered: the mesh will not do it.
        let conflicts = port_conflicts(&bundle);
        if !conflicts.is_empty() {
            return Err(Failure::of_files(conflicts));
        }
        let set = match bundle.compile() {
            Ok(set) => set,
            Err(found) => return Err(Failure::of_files(found)),
        };
        let limit = Duration::from_secs(self.limit);
        let access = {
            let console = RefCell::new(&mut *console);
            let said = Cell::new(false);
            let stop = || {
                // One line is enough: it says that the run is a long one.
                if clock.elapsed() >= Duration::from_secs(1) && !said.replace(true) {
                    clock.report(&mut console.borrow_mut(), "policies compiled");
                }
                clock.elapsed() > limit
            };
            ask(&Inquiry {
                bundle: &bundle,
                set: &set,
                now,
                stop: &stop,
                all: self.all,
            })?
        };
        let exit = match (access.answers.is_empty(), access.complete) {
            (false, _) => Exit::Ok,
            (true, true) => Exit::Denied,
            (true, false) => Exit::Undecided,
        };
        let report = AccessReport {
            access,
            asks,
            all: self.all,
        };
        self.output.write(&report, console)?;
        clock.finish(console);
        Ok(exit)
    }
}
