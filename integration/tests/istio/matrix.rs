//! The reference matrix over both hops: stock Envoys as sidecars and gateway, with the
//! configuration that a real control plane makes of the rendered manifests.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use integration::client::Heard;
use integration::istio::bench::{Bench, Plan, install};
use integration::istio::reference;
use integration::istio::tools::Program;
use integration::mesh::{SMTP_BANNER, SSH_BANNER, address_of};
use integration::sandbox;

use crate::Case;

pub(crate) const CASES: &[Case] = &[Case {
    name: "the_reference_matrix_holds_over_both_hops",
    needs: &[Program::Istiod],
    body: || sandbox::test("the_reference_matrix_holds_over_both_hops", matrix),
}];

/// What an application tries.
enum Try {
    /// An HTTP request for this name, to its own address.
    Http(&'static str),
    /// The same with another name in Host than the address belongs to.
    HttpAs(&'static str, &'static str),
    /// A TLS handshake.
    Tls(&'static str),
    /// A connection to a server that speaks first.
    Tcp(&'static str, u16),
}

use Try::{Http, HttpAs, Tcp, Tls};

const ROWS: &[(&str, Try, bool)] = &[
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

fn matrix() -> Result<()> {
    let rendered = reference::of(&install()?, &[reference::policy()?])?;
    let bench = Bench::start(&Plan::of(&rendered))?;
    let mut wrong = Vec::new();
    for (app, attempt, allowed) in ROWS {
        let (name, came) = attempt.by(&bench, app).with_context(|| app.to_owned())?;
        if came != *allowed {
            wrong.push(format!(
                "{app} {name}: expected {allowed}, came through: {came}"
            ));
        }
    }
    if !wrong.is_empty() {
        let log = bench.gateway.log()?;
        let told = |line: &&str| line.contains("verdict") || line.contains("rejected");
        let lines: Vec<_> = log.lines().filter(told).collect();
        anyhow::bail!("{}\n{}", wrong.join("\n"), lines.join("\n"));
    }
    nothing_else_arrived(&bench)
}

impl Try {
    /// What was tried, in words, and whether the right server answered.
    fn by(&self, bench: &Bench, app: &str) -> Result<(String, bool)> {
        Ok(match self {
            Http(name) => {
                let answer = bench.http(app, address_of(name)?, name)?;
                let came = answer.is_some_and(|answer| answer.body == format!("{name}\n"));
                (format!("http {name}"), came)
            }
            HttpAs(name, authority) => {
                let answer = bench.http(app, address_of(name)?, authority)?;
                let came = answer.is_some_and(|answer| answer.status == 200);
                (format!("http {authority} at {name}"), came)
            }
            Tls(name) => (
                format!("tls {name}"),
                bench.tls(app, address_of(name)?, name)?,
            ),
            Tcp(name, port) => {
                let heard = bench.tcp(app, address_of(name)?, *port)?;
                let banner = if *port == 22 { SSH_BANNER } else { SMTP_BANNER };
                let came = heard == Heard::Bytes(banner.as_bytes().to_vec());
                (format!("tcp {name}:{port}"), came)
            }
        })
    }
}

/// No byte of a denied attempt reached the outside, not even as a question for a name.
fn nothing_else_arrived(bench: &Bench) -> Result<()> {
    for name in ["github.com", "evilgithub.com", "alerts.weather.gov"] {
        let address: Ipv4Addr = address_of(name)?;
        let seen = bench.outside.seen();
        let reached = seen
            .iter()
            .any(|seen| seen.address.is_some_and(|(ip, _)| ip == address));
        ensure!(!reached, "{name} was reached");
        ensure!(
            !bench.dns.asked().iter().any(|asked| asked == name),
            "{name} was asked for"
        );
    }
    Ok(())
}
