//! `warden verify`: whether what is running is what the policy says, seen from inside a pod or
//! in a gateway's live configuration.

use std::net::IpAddr;
use std::time::Duration;

use egress_policy::facts::Fact;
use egress_policy::name::Name;
use egress_render::audit::{self, Live};
use egress_render::{Earlier, Prepared, RenderError};
use schemars::JsonSchema;
use serde::Serialize;

use super::manifests::{Read, Settings, read_json, read_text};
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::history::History;
use crate::output::{Output, PLAIN, Report};
use crate::progress::Progress;
use crate::sources::{Inputs, load};
use crate::verify::{
    Direct, Group, Plan, PodReport, Workload, may_ping, redirected, resolve_all, try_all,
};
use egress_analysis::bundle::{PolicyBundle, single_bundle};
use egress_analysis::owned_facts::parse_caller;

/// Compare what is running with the policy: from inside a pod, or a gateway's configuration.
///
/// With --from it is run where the workload runs, in the pod's network, and tries what the policy
/// names, what lies beside it, and the ways around the gateway. What is expected is the engine's
/// verdict. Requests have no body, connections say no more than a ClientHello, and each attempt is
/// made once.
///
/// With --gateway it reads a gateway's live configuration and finds what is neither as rendered nor
/// Istio's own, and every place that judges by another policy than the files given. A dump shows the configuration that
/// arrived last, also where the module refused it; what is in force is in --stats.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits 0 if all is as expected, 3 if something differs, 5 if nothing differs but something could
not be told.

Examples:
  warden verify policy.yaml --from app1-ns/app1,label=egress-ruleset=app1
  warden verify policy.yaml --from app1-ns/app1,label=egress-ruleset=app1 --only bypass
  kubectl -n istio-egress exec deploy/egress-gateway -- pilot-agent request GET stats > stats.txt
  kubectl -n istio-egress exec deploy/egress-gateway -- pilot-agent request GET config_dump |
    warden verify --gateway - --stats stats.txt --install install.yaml policy.yaml
  warden verify --gateway dump.json --history renders --install install.yaml policy.yaml")]
pub(crate) struct Verify {
    /// The gateway's configuration dump, Envoy's or istiod's; `-` is standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "from", conflicts_with_all = ["from", "only", "name", "timeout", "most", "all"])]
    gateway: Option<String>,
    /// The gateway's statistics (`GET stats`), by which an update that the module refused is found;
    /// `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    stats: Option<String>,
    /// The gateway's answer to `GET server_info`, which says the version of its Envoy where the dump is
    /// istiod's; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    server_info: Option<String>,
    /// The folder that `warden render --history` keeps: the address classes of the render before may
    /// still be there.
    #[arg(long, value_name = "FOLDER", conflicts_with = "from")]
    history: Option<String>,
    /// The install settings, which --gateway needs.
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    install: Option<String>,
    #[command(flatten)]
    inputs: Inputs,
    /// The workload that this runs as, as for `explain`; labels that are not given are none.
    #[arg(long, value_name = "WORKLOAD")]
    from: Option<String>,
    /// Only these attempts.
    #[arg(long, value_name = "GROUP", value_delimiter = ',', value_enum)]
    only: Vec<Group>,
    /// A name to try where the policy has a wildcard that matches it.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Seconds that an attempt may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// Most attempts of a group.
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    most: u16,
    /// List every attempt, not only what is not as expected.
    #[arg(long)]
    all: bool,
    /// How to write the result.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human")]
    pub(super) output: Output,
}

impl Verify {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match (&self.gateway, &self.install, &self.from) {
            (Some(dump), Some(install), _) => self.gateway(dump, install, console),
            (None, _, Some(from)) => self.pod(from, console),
            _ => Err(Failure::new("nothing to look at")
                .with_hint("--from WORKLOAD inside a pod, or --gateway FILE --install FILE")),
        }
    }

    fn gateway(
        &self,
        dump: &str,
        install: &str,
        console: &mut Console<'_>,
    ) -> Result<Exit, Failure> {
        let settings = Settings::of(install, &self.inputs);
        let read = settings.read(console)?;
        let dump = read_json(dump, console)?;
        let stats = self.stats.as_ref();
        let stats = stats.map(|file| read_text(file, console)).transpose()?;
        let server_info = self.server_info.as_ref();
        let server_info = server_info
            .map(|file| read_json(file, console))
            .transpose()?;
        let earlier = match self.earlier(&read, console)? {
            Ok(earlier) => earlier,
            Err(problems) => return Err(read.refusal(&problems)),
        };
        let live = Live {
            dump: &dump,
            stats: stats.as_deref(),
            server_info: server_info.as_ref(),
            earlier: earlier.as_ref(),
        };
        let report = match audit::gateway(live, &read.install, &read.policies) {
            Ok(findings) => GatewayReport { findings },
            Err(problems) => return Err(read.refusal(&problems)),
        };
        self.output.write(&report, console)?;
        Ok(if report.findings.is_empty() {
            Exit::Ok
        } else {
            Exit::Defects
        })
    }

    /// The render before the given one.
    fn earlier(
        &self,
        read: &Read,
        console: &Console<'_>,
    ) -> Result<Result<Option<Earlier>, Vec<RenderError>>, Failure> {
        let Some(folder) = &self.history else {
            return Ok(Ok(None));
        };
        let history = History::open(&console.directory.join(folder))?;
        Ok(match Prepared::new(&read.install, &read.policies) {
            Ok(prepared) => Ok(history.before(&read.install, &prepared)?),
            Err(problems) => Err(problems),
        })
    }

    fn pod(&self, from: &str, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut loaded = load(&self.inputs, console)?;
        let mut compiled = None;
        if !loaded.has_errors() {
            let bundle = single_bundle(std::mem::take(&mut loaded.bundles))?;
            match bundle.compile() {
                Ok(set) => compiled = Some((bundle, set)),
                Err(found) => loaded.diagnostics.extend(found),
            }
        }
        let Some((bundle, set)) = compiled else {
            return Err(Failure::of_files(loaded.diagnostics));
        };
        let workload = workload(from, &bundle, console.now)?;
        let mut plan = Plan::new(&bundle, &set, workload, self.names()?);
        self.attempt(from, &mut plan, console)
    }

    /// Plans, tries and reports.
    fn attempt(
        &self,
        from: &str,
        plan: &mut Plan<'_>,
        console: &mut Console<'_>,
    ) -> Result<Exit, Failure> {
        let progress = Progress::start("verify");
        let timeout = Duration::from_secs(self.timeout);
        let most = usize::from(self.most);
        plan.set_resolved(resolve_all(&plan.names(most)));
        progress.report(console, "names are looked up");
        let direct = Direct {
            captured: redirected(timeout.min(Duration::from_secs(2))),
            may_ping: may_ping(),
            resolvers: resolvers(),
        };
        let captured = direct.captured;
        let groups = if self.only.is_empty() {
            Group::ALL.to_vec()
        } else {
            self.only.clone()
        };
        let mut planned = plan.probes(&groups, &direct);
        planned.cut(most);
        let attempts: Vec<_> = planned.probes.iter().map(|probe| &probe.attempt).collect();
        let total = attempts.len();
        let seen = try_all(&attempts, timeout, |done| {
            if done % 50 == 0 {
                progress.report(console, &format!("{done} of {total}"));
            }
        });
        let outcomes = planned.probes.into_iter().zip(seen);
        let report = PodReport::new(from, captured, outcomes, planned.not_tried, self.all);
        self.output.write(&report, console)?;
        Ok(report.exit())
    }

    fn names(&self) -> Result<Vec<Name>, Failure> {
        let parse = |text: &String| {
            Name::parse(text.as_bytes())
                .map_err(|_| Failure::new(format!("`{text}` is no host name")))
        };
        self.name.iter().map(parse).collect()
    }
}

/// A gateway's live configuration (`--gateway`).
#[derive(Serialize, JsonSchema)]
pub(crate) struct GatewayReport {
    /// What is neither as rendered nor Istio's own.
    findings: Vec<RenderError>,
}

impl Report for GatewayReport {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        for finding in &self.findings {
            writeln!(console.stdout, "{finding}")?;
        }
        Ok(writeln!(
            console.stdout,
            "{} findings",
            self.findings.len()
        )?)
    }
}

/// The workload; what is not said about its labels is that it has none, because it is known here.
fn workload(from: &str, bundle: &PolicyBundle, now: Option<i64>) -> Result<Workload, Failure> {
    let first = bundle.policies.first();
    let trust_domain = first
        .and_then(|policy| policy.head.trust_domains.first())
        .map_or("cluster.local", String::as_str);
    let says_claims = ["label=", "cluster=", "claims=", "claimed-namespace="]
        .iter()
        .any(|word| from.contains(word));
    let text = if says_claims {
        from.to_owned()
    } else {
        format!("{from},claims=none")
    };
    let (caller, claims) = parse_caller(&text, trust_domain)?;
    Ok(Workload {
        caller,
        claims,
        now: now.map_or(Fact::Missing, Fact::Known),
    })
}

/// The pod's own resolvers (resolv.conf(5)).
fn resolvers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|address| address.trim().parse().ok())
        .collect()
}
