//! The reference matrix as an application sees it, over both hops.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use egress_render::install::Names;
use serde_json::{Value, json};

use super::pod::{self, Capture};
use super::reference;
use super::testbed::{Bench, CLUSTER_DNS, Plan, install};
use super::tools::{Missing, Program};
use crate::certificates::Authority;
use crate::client::{self, Heard};
use crate::dns;
use crate::envoy::eventually;
use crate::mesh::{SMTP_BANNER, SSH_BANNER, address_of};
use crate::outside::{Outside, Speech};
use crate::report::{self, Row, cell};
use crate::sandbox;

/// What an application tries.
#[derive(Clone, Copy, Debug)]
pub enum Try {
    /// An HTTP request for this name, to its own address.
    Http(&'static str),
    /// A request to the first name's address with the second in Host.
    HttpAs(&'static str, &'static str),
    /// A TLS handshake.
    Tls(&'static str),
    /// A connection to a server that speaks first.
    Tcp(&'static str, u16),
    /// The same, to the address that the pod is told of the name.
    Named(&'static str, u16),
}

use Try::{Http, HttpAs, Named, Tcp, Tls};

/// Who tries what, and whether it comes through.
pub const ROWS: &[(&str, Try, bool)] = &[
    ("app1", Http("api.github.com"), true),
    ("app1", Http("codeload.github.com"), true),
    ("app1", Http("github.com"), false),
    ("app1", Http("evilgithub.com"), false),
    ("app1", Http("api.github.com.evil.example"), false),
    ("app1", Http("api.weather.gov"), false),
    ("app1", Http("rebind.github.com"), false),
    ("app1", HttpAs("evilgithub.com", "api.github.com:22"), false),
    ("app1", Tls("api.github.com"), true),
    ("app1", Tls("codeload.github.com"), true),
    ("app1", Tls("github.com"), false),
    ("app1", Tls("evilgithub.com"), false),
    ("app1", Tls("api.weather.gov"), false),
    ("app1", Tcp("partner.example", 22), true),
    ("app1", Tcp("partner.example", 25), false),
    ("app1", Tcp("other-partner.example", 22), false),
    ("app1", Tcp("mail.example", 25), false),
    ("app2", Http("api.weather.gov"), true),
    ("app2", Http("alerts.weather.gov"), false),
    ("app2", Http("api.github.com"), false),
    ("app2", Tls("api.weather.gov"), true),
    ("app2", Tls("alerts.weather.gov"), false),
    ("app2", Tls("api.github.com"), false),
    ("app2", Tcp("mail.example", 25), true),
    ("app2", Tcp("partner.example", 22), false),
];

/// Names over opaque TCP, with the rules of [`with_names`] and Istio's DNS capture.
pub const NAMED: &[(&str, Try, bool)] = &[
    ("app1", Named("partner.example", 22), true),
    ("app1", Named("other-partner.example", 22), false),
    ("app1", Named("inside.payments.example", 22), false),
    ("app2", Named("other-partner.example", 22), true),
    ("app2", Named("partner.example", 22), false),
];

/// The policy, and beside it names over opaque TCP.
///
/// # Errors
/// If it has no rules.
pub fn with_names(policy: &Value) -> Result<Value> {
    let mut policy = policy.clone();
    let rules = policy.pointer_mut("/spec/tiers/1/rules");
    let rules = rules.and_then(Value::as_array_mut).context("no rules")?;
    for (namespace, names) in [
        (
            "app1-ns",
            vec!["partner.example", "inside.payments.example"],
        ),
        ("app2-ns", vec!["other-partner.example"]),
    ] {
        rules.push(json!({
            "name": format!("{namespace}-by-name"),
            "from": [{"namespaces": [namespace]}],
            "to": [{"domainNames": names, "ports": [22], "protocols": ["TCP"]}],
            "action": "Accept",
        }));
    }
    // Registered for app1 too, which no rule lets there: what is denied is the name.
    rules.push(json!({
        "name": "others-by-name",
        "from": [{"serviceAccounts": ["app1-ns/other", "app2-ns/other"]}],
        "to": [{
            "domainNames": ["partner.example", "other-partner.example"],
            "ports": [22],
            "protocols": ["TCP"],
        }],
        "action": "Accept",
    }));
    Ok(policy)
}

/// Names that no rule allows anybody: neither they nor their addresses may ever be asked for.
const NEVER: [&str; 3] = ["github.com", "evilgithub.com", "alerts.weather.gov"];

/// What came of one row.
#[derive(Clone, Debug)]
pub struct MatrixOutcome {
    /// Who tried.
    pub app: &'static str,
    /// What, in words.
    pub attempt: String,
    /// Whether the policy lets it through.
    pub expected: bool,
    /// Whether the right server answered.
    pub came: bool,
}

/// Tries every row of [`ROWS`].
///
/// # Errors
/// If an attempt neither comes through nor is refused.
pub fn run(bench: &Bench) -> Result<Vec<MatrixOutcome>> {
    run_rows(bench, ROWS)
}

/// Tries every one of these rows.
///
/// # Errors
/// As [`run`].
pub fn run_rows(bench: &Bench, rows: &[(&'static str, Try, bool)]) -> Result<Vec<MatrixOutcome>> {
    let rows = rows.iter().map(|(app, attempt, expected)| {
        let came = attempt
            .by(bench, app)
            .with_context(|| format!("{app} {attempt:?}"))?;
        Ok(MatrixOutcome {
            app,
            attempt: attempt.words(),
            expected: *expected,
            came,
        })
    });
    rows.collect()
}

/// Everything that `cargo xtask demo --istio` shows, and what came through although nobody may: the
/// matrix, a pod dialled by its address, and names over opaque TCP. What the machine lacks for one of
/// them is told, and its rows are left out.
///
/// # Errors
/// If the bench cannot be started, or an attempt is neither answered nor refused.
pub fn whole(mut tell: impl FnMut(&str)) -> Result<(Vec<MatrixOutcome>, Vec<String>)> {
    let (mut install, mut policy) = (install()?, reference::policy()?);
    // Istio's agent tells pods of the names that have an address.
    let agent = Program::PilotAgent.find().is_some();
    if agent {
        install.spec.tunnel.names = Some(Names::DnsCapture);
        policy = with_names(&policy)?;
    } else {
        let missing = Missing(Program::PilotAgent);
        tell(&format!("without names over TCP: {missing}"));
    }
    let mut plan = Plan::of(&reference::of(&install, &[policy])?);
    plan.dns_capture = agent;
    // Without a user for applications, what stays in the mesh is not redirected at all.
    if pod::has_applications() {
        plan.capture = Capture::Everything;
        sandbox::forward()?;
    } else {
        tell("without root the row about a pod's address shows nothing");
    }
    let bench = Bench::start(&plan)?;
    let mut outcomes = run(&bench)?;
    outcomes.push(self::pod(&bench)?);
    if agent {
        outcomes.extend(run_rows(&bench, NAMED)?);
    }
    let leaks = leaks(&bench)?;
    Ok((outcomes, leaks))
}

/// The row about another pod's address, which is no egress: app1 asks app2's pod itself, in a bench
/// where nothing of the cluster is left out of redirection.
///
/// # Errors
/// If app2 cannot serve, or the attempt is neither answered nor refused.
pub fn pod(bench: &Bench) -> Result<MatrixOutcome> {
    const PORT: u16 = 9090;
    let address = bench.address("app2")?;
    bench.inside("app2", move || {
        let authority = Authority::new("pods")?;
        Outside::default().serve(&authority, address, PORT, &Speech::Http("app2"))
    })?;
    let came = bench.inside("app1", move || {
        let mut stream = client::connect(SocketAddrV4::new(address, PORT))?;
        let headers = [("Host", b"api.weather.gov".as_slice())];
        let answer = client::request(&mut stream, "GET", "/", &headers)?;
        Ok(answer.is_some_and(|answer| answer.body == "app2\n"))
    })?;
    Ok(MatrixOutcome {
        app: "app1",
        attempt: format!("http api.weather.gov at pod {address}:{PORT}"),
        expected: true,
        came,
    })
}

/// What reached the outside that should not have, down to questions for a name.
///
/// # Errors
/// If a name is unknown.
pub fn leaks(bench: &Bench) -> Result<Vec<String>> {
    let (seen, asked) = (bench.outside.seen(), bench.dns.asked());
    let mut leaks = Vec::new();
    for name in NEVER {
        let address: Ipv4Addr = address_of(name)?;
        if seen
            .iter()
            .any(|seen| seen.address.is_some_and(|(ip, _)| ip == address))
        {
            leaks.push(format!("{name} was reached"));
        }
        if asked.iter().any(|asked| asked == name) {
            leaks.push(format!("{name} was asked for"));
        }
    }
    Ok(leaks)
}

impl Try {
    /// What it is, for tables.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Http(name) => format!("http {name}"),
            HttpAs(name, authority) => format!("http {authority} at {name}"),
            Tls(name) => format!("tls  {name}"),
            Tcp(name, port) => format!("tcp  {name}:{port} by address"),
            Named(name, port) => format!("tcp  {name}:{port} by name"),
        }
    }

    /// Whether the right server answered.
    fn by(self, bench: &Bench, app: &str) -> Result<bool> {
        Ok(match self {
            Http(name) => {
                let answer = bench.http(app, address_of(name)?, name)?;
                answer.is_some_and(|answer| answer.body == format!("{name}\n"))
            }
            HttpAs(name, authority) => {
                let answer = bench.http(app, address_of(name)?, authority)?;
                answer.is_some_and(|answer| answer.status == 200)
            }
            Tls(name) => bench.tls(app, address_of(name)?, name)?,
            Named(name, port) => {
                let mut told = None;
                eventually("the pod to be told of the name", || {
                    let asked = bench.inside(app, move || dns::ask(CLUSTER_DNS, name));
                    told = asked.ok().flatten();
                    told.is_some()
                })?;
                let heard = bench.tcp(app, told.context("no address")?, port)?;
                heard == Heard::Bytes(SSH_BANNER.as_bytes().to_vec())
            }
            Tcp(name, port) => {
                let banner = if port == 22 { SSH_BANNER } else { SMTP_BANNER };
                let heard = bench.tcp(app, address_of(name)?, port)?;
                heard == Heard::Bytes(banner.as_bytes().to_vec())
            }
        })
    }
}

/// The rows for people. An application is not told what decided.
#[must_use]
pub fn table(outcomes: &[MatrixOutcome]) -> String {
    let word = |came| if came { "reached" } else { "not reached" };
    report::table(outcomes.iter().map(|outcome| Row {
        as_expected: outcome.came == outcome.expected,
        workload: outcome.app.to_owned(),
        destination: outcome.attempt.clone(),
        expected: word(outcome.expected).to_owned(),
        seen: word(outcome.came).to_owned(),
        rule: cell(None),
        code: cell(None),
    }))
}

/// The rows for machines.
#[must_use]
pub fn json(outcomes: &[MatrixOutcome]) -> Value {
    outcomes
        .iter()
        .map(|outcome| {
            json!({
                "app": outcome.app,
                "attempt": outcome.attempt,
                "expected": outcome.expected,
                "came": outcome.came,
            })
        })
        .collect()
}
