//! `warden explain`: one question, the verdict, and why.

mod report;

use std::borrow::Cow;

use egress_policy::facts::{Fact, Facts, Protocol};
use egress_policy::settings::AddressCheck;
use egress_policy::verdict::{Action, Evaluation, ReasonCode};

use crate::Console;
use crate::cases::{first_line, no_case_file, read_cases};
use crate::exit::{Exit, Failure};
use crate::output::{Output, PLAIN};
use crate::progress::Progress;
use crate::sources::{Inputs, load, read_one};
use egress_analysis::bundle::{PolicyBundle, single_bundle};
use egress_analysis::carriage::Mesh;
use egress_analysis::document::to_a_labels;
use egress_analysis::explain::{Assumptions, Explanation, explain};
use egress_analysis::lint::port_conflicts;
use egress_analysis::owned_facts::{OwnedFacts, parse_address, parse_caller, parse_time, parse_to};
use egress_analysis::witness::ordinary_address;

use report::ExplainReport;

/// Explain a verdict: which rule decides, why the ones before it do not, and what facts that are
/// not given would change. Exits 0 for Accept and Inspect, 2 for Deny, 5 for Undecided.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden explain policy.yaml --from app1-ns/app1,label=egress-ruleset=app1 \\
      --to https://api.github.com
  warden explain policy.yaml --from app1-ns/app1,claims=none --to tcp://203.0.113.7:22
  warden explain policy.yaml --from plaintext --to http://example.com/login --method POST")]
pub(crate) struct Explain {
    /// Policies in order, the security team's first: YAML or JSON files, directories, WasmPlugin
    /// manifests, install settings, or `-` for standard input.
    #[arg(value_name = "FILE", required_unless_present = "case")]
    files: Vec<String>,
    /// Take policies, settings and facts from a case file instead.
    #[arg(long, value_name = "CASES", conflicts_with_all = ["files", "from", "to", "method", "sni", "address", "time", "address_check"])]
    case: Option<String>,
    /// Install settings for the case's policies.
    #[arg(long, value_name = "FILE", requires = "case")]
    install: Option<String>,
    /// Which case, by its name.
    #[arg(long, value_name = "NAME", requires = "case")]
    case_name: Option<String>,
    /// Which step of the case, counted from 1.
    #[arg(long, value_name = "N", requires = "case", default_value_t = 1)]
    step: usize,
    /// Who asks: NAMESPACE/SERVICE-ACCOUNT, then `,label=KEY=VALUE`, `,cluster=NAME`,
    /// `,trust-domain=NAME`, `,claims=none|unknown|missing`. Or a spiffe:// id, `plaintext`,
    /// `no-certificate`, `malformed`, `unknown`, `missing`. Labels that are not given are unknown.
    #[arg(
        long,
        required_unless_present = "case",
        default_value = "",
        hide_default_value = true
    )]
    from: String,
    /// Where to, as `http://HOST/PATH`, `https://HOST`, `tls://HOST:PORT`, `ws://HOST`,
    /// `tcp://HOST:PORT` or `udp://ADDRESS:PORT`.
    #[arg(
        long,
        required_unless_present = "case",
        default_value = "",
        hide_default_value = true
    )]
    to: String,
    /// The HTTP method [default: GET], or `unknown` or `missing`.
    #[arg(long)]
    method: Option<String>,
    /// The server name in the ClientHello, where it differs from the host; `none` for no name.
    #[arg(long)]
    sni: Option<String>,
    /// Where a name leads: an address, `unknown`, `missing`, or `public` for an ordinary public
    /// address [default: not known, which asks where the name may lead; public where addresses are
    /// not checked by classes].
    #[arg(long, visible_alias = "resolved")]
    address: Option<String>,
    /// When, as RFC 3339, or `unknown` or `missing` [default: now].
    #[arg(long)]
    time: Option<String>,
    /// Whether the gateway checks the address behind a name [default: as configured, or classes].
    #[arg(long, value_name = "WHERE")]
    address_check: Option<AddressCheckWord>,
    /// How to write the result.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human")]
    pub(super) output: Output,
    /// List every rule on the way, not only the closest.
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum AddressCheckWord {
    /// By address classes.
    Classes,
    /// Not at all, stated.
    None,
    /// Not at all, not stated, so names are denied.
    Unstated,
}

impl Explain {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        if let Some(case) = &self.case {
            return self.explain_case(case, console);
        }
        let clock = Progress::start("explaining");
        let files = self.files.clone();
        let mut loaded = load(&Inputs { files }, console)?;
        clock.report(console, "files read");
        let mut compiled = None;
        if !loaded.has_errors() {
            let mut bundle = single_bundle(std::mem::take(&mut loaded.bundles))?;
            if let Some(word) = self.address_check {
                bundle.settings.address_check = match word {
                    AddressCheckWord::Classes => AddressCheck::Classes,
                    AddressCheckWord::None => AddressCheck::None,
                    AddressCheckWord::Unstated => AddressCheck::Unstated,
                };
            }
            // What is not rendered is not answered: the mesh will not do it.
            let conflicts = port_conflicts(&bundle);
            match bundle.compile() {
                Ok(set) if conflicts.is_empty() => compiled = Some((bundle, set)),
                Ok(_) => loaded.diagnostics.extend(conflicts),
                Err(found) => loaded.diagnostics.extend(found),
            }
        }
        let Some((bundle, set)) = compiled else {
            return Err(Failure::of_files(loaded.diagnostics));
        };
        clock.report(console, "policies compiled");
        let (facts, assumptions) = self.facts(&bundle, console.now)?;
        let answer = self.answer(&explain(&bundle, &set, facts, assumptions), console);
        clock.finish(console);
        answer
    }

    fn answer(
        &self,
        explanation: &Explanation<'_>,
        console: &mut Console<'_>,
    ) -> Result<Exit, Failure> {
        let report = ExplainReport {
            answer: explanation.answer(),
            explanation,
            all: self.all,
        };
        self.output.write(&report, console)?;
        Ok(exit_of(&explanation.evaluation))
    }

    /// A step of a case, as the case file states its facts.
    fn explain_case(&self, shown: &str, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let source = read_one(shown, console)?;
        let first_line = first_line(&source);
        let ready = match read_cases(source, self.install.as_deref(), console)? {
            Ok(Some(ready)) => ready,
            Ok(None) => return Err(no_case_file(shown, &first_line)),
            Err(found) => return Err(Failure::of_files(found)),
        };
        let case = ready.find(self.case_name.as_deref())?;
        let step = self
            .step
            .checked_sub(1)
            .and_then(|index| case.steps.get(index));
        let step =
            step.ok_or_else(|| Failure::new(format!("the case has {} steps", case.steps.len())))?;
        let gateway = &ready.file.gateway;
        let facts = step.input.with_facts(gateway, OwnedFacts::from_facts);
        let mut explanation = explain(&ready.bundle, &ready.set, facts, Assumptions::default());
        if step.limit {
            explanation.evaluation = Evaluation::Final(explanation.evaluation.at_limit());
        }
        let evaluate = |facts: &Facts<'_>| ready.set.evaluate(facts);
        let left = step.input.left(gateway, &explanation.evaluation, evaluate);
        // What a caller sees: a name is refused where nothing is left of its answers.
        if left.is_some_and(|left| left.is_empty())
            && let Evaluation::Final(verdict) = &mut explanation.evaluation
            && verdict.enforced.action != Action::Deny
        {
            verdict.enforced.action = Action::Deny;
            verdict.enforced.reason = ReasonCode::PrivateAddress;
            verdict.shadow = None;
        }
        self.answer(&explanation, console)
    }

    /// The facts that the arguments state, and what was assumed beside them.
    fn facts(
        &self,
        bundle: &PolicyBundle,
        now: Option<i64>,
    ) -> Result<(OwnedFacts, Assumptions), Failure> {
        let mut assumptions = Assumptions::default();
        let to = ascii_host(&self.to);
        if let Cow::Owned(to) = &to {
            let said = &mut assumptions.said;
            said.push(format!("the client asks for `{to}`, the name in A-labels"));
        }
        check_port(&to)?;
        let mesh = Mesh::of(bundle);
        let judged = mesh.judged(&parse_to(&to, self.sni.as_deref())?);
        let mut facts = judged.facts;
        assumptions.said.extend(judged.said);
        assumptions.address = judged.ordinary;
        let first = bundle.policies.first();
        let trust_domain = first
            .and_then(|policy| policy.head.trust_domains.first())
            .map_or("cluster.local", String::as_str);
        (facts.caller, facts.claims) = parse_caller(&self.from, trust_domain)?;
        self.set_request(&mut facts, &mut assumptions.said);
        self.set_address(&mut facts, bundle, &mesh, &mut assumptions)?;
        facts.now = match &self.time {
            Some(text) => parse_time(text)?,
            None => now.map_or(Fact::Missing, Fact::Known),
        };
        Ok((facts, assumptions))
    }

    fn set_request(&self, facts: &mut OwnedFacts, assumptions: &mut Vec<String>) {
        let after_host = self.to.split_once("://").map_or("", |(_, rest)| rest);
        let has_path = after_host
            .split_once('/')
            .is_some_and(|(_, path)| !path.is_empty());
        if facts.protocol != Protocol::Http {
            if facts.protocol == Protocol::Tls && (has_path || self.method.is_some()) {
                assumptions.push(
                    "the application speaks TLS to the outside, and the gateway sees neither method nor path; where the gateway originates TLS, ask for http://"
                        .to_owned(),
                );
            }
            return;
        }
        match self.method.as_deref() {
            None => assumptions.push("the method is GET".to_owned()),
            Some("unknown") => facts.method = Fact::Pending,
            Some("missing") => facts.method = Fact::Missing,
            Some(method) => facts.method = Fact::Known(method.to_owned()),
        }
        if self.method.as_deref() == Some("CONNECT") {
            facts.path = Fact::Known(None);
        }
    }

    fn set_address(
        &self,
        facts: &mut OwnedFacts,
        bundle: &PolicyBundle,
        mesh: &Mesh,
        assumptions: &mut Assumptions,
    ) -> Result<(), Failure> {
        let named = matches!(facts.name, Fact::Known(Some(_)));
        let asked = mesh.asks_by_name(facts);
        assumptions.said.extend(asked.map(str::to_owned));
        match self.address.as_deref() {
            // Where the name leads is no question of the verdict; its class says where it may.
            None if named && bundle.settings.address_check == AddressCheck::Classes => {
                facts.address = Fact::Pending;
            }
            Some("public") | None => {
                if named && !matches!(facts.address, Fact::Known(_)) {
                    assumptions.address = true;
                    facts.address =
                        ordinary_address(&bundle.policies).map_or(Fact::Pending, Fact::Known);
                }
                if let (true, None, Fact::Known(address)) =
                    (assumptions.address, &self.address, facts.address)
                {
                    assumptions.said.push(format!(
                        "the name leads to an ordinary public address, such as {address}"
                    ));
                }
            }
            Some(text) => {
                assumptions.address = false;
                facts.address = parse_address(text)?;
            }
        }
        Ok(())
    }
}

/// The destination with a Unicode host as every client sends it. The gateway itself never maps, so
/// what has no such form stays, and is refused.
fn ascii_host(to: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = to.split_once("://") else {
        return Cow::Borrowed(to);
    };
    let end = rest.find(['/', ':', '?']).unwrap_or(rest.len());
    let (host, after) = rest.split_at(end);
    match to_a_labels(host).filter(|_| !host.is_ascii()) {
        Some(host) => Cow::Owned(format!("{scheme}://{host}{after}")),
        None => Cow::Borrowed(to),
    }
}

/// No client asks for a port that is none, so there is nothing to judge.
fn check_port(to: &str) -> Result<(), Failure> {
    let after = to.split_once("://").map_or(to, |(_, rest)| rest);
    let authority = after.split(['/', '?']).next().unwrap_or_default();
    let Some((host, port)) = authority.rsplit_once(':') else {
        return Ok(());
    };
    // The last part of an address in brackets, or of one without.
    let is_of_address = authority.ends_with(']') || host.contains(':') && !host.ends_with(']');
    if is_of_address || port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Ok(());
    }
    Err(Failure::new(format!("`{port}` in `{to}` is no port"))
        .with_hint("a port is a number from 1 to 65535"))
}

/// The exit code of a verdict.
const fn exit_of(evaluation: &Evaluation<'_>) -> Exit {
    match evaluation {
        Evaluation::Final(verdict) => match verdict.enforced.action {
            Action::Accept | Action::Inspect(_) => Exit::Ok,
            Action::Deny => Exit::Denied,
        },
        Evaluation::Undecided => Exit::Undecided,
    }
}
