//! The reference matrix by `kubectl exec`, through really injected sidecars and the gateway's
//! Deployment.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use egress_policy::verdict::{DecidedBy, ReasonCode};
use serde::Serialize;
use serde_json::Value;

use super::exec::{PodShell, ProbeResult};
use super::node::Node;
use super::{GATEWAY, kubectl, world};
use crate::envoy::eventually_within;
use crate::hosts::address_of;
use crate::istio::matrix::{ROWS, Try};
use crate::mesh::{SMTP_BANNER, SSH_BANNER};
use crate::report::{self, cell};

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Who tried.
    pub workload: String,
    /// What.
    pub destination: String,
    /// `reached` or `not reached`.
    pub expected: &'static str,
    /// What came of it, in words.
    pub seen: String,
    /// What the gateway or the guard gives as its reason.
    pub rule: String,
    /// Whether what came is what was expected.
    pub as_expected: bool,
}

impl Row {
    /// A row: what was seen, beside what was expected.
    #[must_use]
    pub fn new(
        workload: &str,
        destination: String,
        reached: bool,
        seen: &ProbeResult,
        rule: String,
    ) -> Self {
        Self {
            workload: workload.to_owned(),
            destination,
            expected: if reached { "reached" } else { "not reached" },
            seen: seen.words(),
            rule,
            as_expected: (*seen == ProbeResult::Reached) == reached,
        }
    }
}

/// What is tried over UDP, which no rule lets anybody do: a host's echo, and another resolver.
const PACKETS: [(&str, &str, u16); 3] = [
    ("app1", "partner.example", world::UDP),
    ("app1", "mail.example", 53),
    ("app2", "api.weather.gov", world::UDP),
];

/// Tries every row of the reference matrix, and UDP.
///
/// # Errors
/// If something cannot be tried.
pub fn run(node: &Node, mut tell: impl FnMut(&Row)) -> Result<Vec<Row>> {
    let (mut rows, mut log) = (Vec::new(), Log::default());
    for (app, attempt, expected) in ROWS {
        let seen = tried(node, app, *attempt)?;
        let row = Row::new(app, attempt.words(), *expected, &seen, log.rule(node, app)?);
        tell(&row);
        rows.push(row);
    }
    for (app, name, port) in PACKETS {
        let (namespace, of) = place(app);
        let place = PodShell {
            namespace: &namespace,
            of: &of,
        };
        let seen = place.packet(node, address_of(name)?, port)?;
        let destination = format!("udp  {name}:{port} by address");
        let row = Row::new(app, destination, false, &seen, "node guard".to_owned());
        tell(&row);
        rows.push(row);
    }
    Ok(rows)
}

fn place(app: &str) -> (String, String) {
    (format!("{app}-ns"), format!("deploy/{app}"))
}

fn tried(node: &Node, app: &str, attempt: Try) -> Result<ProbeResult> {
    let (namespace, of) = place(app);
    let place = PodShell {
        namespace: &namespace,
        of: &of,
    };
    match attempt {
        Try::Http(name) => place.url(node, &format!("http://{name}/"), None, name),
        Try::HttpAs(name, authority) => {
            place.url(node, &format!("http://{name}/"), Some(authority), name)
        }
        Try::Tls(name) => place.url(node, &format!("https://{name}/"), None, name),
        Try::Tcp(name, port) | Try::Named(name, port) => {
            let banner = if port == 22 { SSH_BANNER } else { SMTP_BANNER };
            place.banner(node, address_of(name)?, port, banner)
        }
    }
}

/// The lines of the gateway's pods that have been read already.
#[derive(Default)]
struct Log {
    read: BTreeSet<String>,
}

impl Log {
    /// The rule of this workload's last verdict since the last time; `-` if there is none.
    fn rule(&mut self, node: &Node, app: &str) -> Result<String> {
        let caller = format!("/sa/{app}");
        let mut found = None;
        let mut failed = None;
        // A line is there a moment after the caller has its answer.
        let patience = Duration::from_secs(3);
        let _ = eventually_within(patience, "a verdict", || {
            let lines = match lines(node) {
                Ok(lines) => lines,
                Err(error) => {
                    failed = Some(error);
                    return true;
                }
            };
            let new = lines
                .into_iter()
                .filter(|line| self.read.insert(line.clone()));
            let mine = new.filter(|line| line.contains(&caller));
            found = mine.filter_map(|line| rule(&line)).last().or(found.take());
            found.is_some()
        });
        failed.map_or(Ok(()), Err)?;
        Ok(found.unwrap_or_else(|| "-".to_owned()))
    }
}

/// What a line of the module says that decided, as people read it.
fn rule(line: &str) -> Option<String> {
    let (start, end) = (line.find('{')?, line.rfind('}')?);
    let event: Value = serde_json::from_str(line.get(start..=end)?).ok()?;
    let field = |name: &str| event.get(name).and_then(Value::as_str);
    let by = DecidedBy {
        policy: field("policy"),
        tier: field("tier"),
        rule: field("rule"),
        reason: ReasonCode::parse(field("reason")?)?,
    };
    Some(by.to_string())
}

fn lines(node: &Node) -> Result<Vec<String>> {
    let arguments = ["-n", GATEWAY, "logs", "-l", "istio=egressgateway"];
    let more = ["-c", "istio-proxy", "--tail=-1"];
    let text = kubectl::text(node, &[&arguments[..], &more].concat())?;
    let lines = text
        .lines()
        .filter(|line| line.contains("\"event\":\"verdict\""));
    Ok(lines.map(str::to_owned).collect())
}

/// The rows for people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    report::table(rows.iter().map(|row| {
        let (rule, code) = rule_and_code(&row.rule);
        report::Row {
            as_expected: row.as_expected,
            workload: row.workload.clone(),
            destination: row.destination.clone(),
            expected: row.expected.to_owned(),
            seen: row.seen.clone(),
            rule: cell(Some(rule)),
            code: cell(code),
        }
    }))
}

/// What is given as the reason, as a rule and a code: of a verdict, both; of others, that who gives it.
fn rule_and_code(reason: &str) -> (&str, Option<&str>) {
    let split = reason
        .strip_suffix(')')
        .and_then(|text| text.rsplit_once(" ("));
    match split {
        Some(("no rule", code)) => ("", Some(code)),
        Some((rule, code)) => (rule, Some(code)),
        None if reason.contains('/') => (reason, Some(ReasonCode::Rule.as_str())),
        None => (reason, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{ProbeResult, Row, rule, rule_and_code, table};

    #[test]
    fn a_line_of_the_module_names_its_rule() {
        for (line, expected) in [
            (
                r#"wasm log x: {"event":"verdict","policy":"seed","tier":"apps","rule":"app1-github","reason":"rule"} thread=1"#,
                Some("seed/apps/app1-github"),
            ),
            (
                r#"wasm log x: {"event":"verdict","policy":"seed","tier":null,"rule":null,"reason":"default"} thread=1"#,
                Some("seed (default)"),
            ),
            (
                r#"{"event":"verdict","policy":null,"tier":null,"rule":null,"reason":"route_mismatch"}"#,
                Some("no rule (route_mismatch)"),
            ),
            (r#"{"event":"verdict"}"#, None),
            ("nothing", None),
        ] {
            assert_eq!(rule(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_reason_is_a_rule_and_a_code() {
        for (reason, expected) in [
            (
                "seed/apps/app1-github",
                ("seed/apps/app1-github", Some("rule")),
            ),
            ("seed (default)", ("seed", Some("default"))),
            ("no rule (route_mismatch)", ("", Some("route_mismatch"))),
            ("node guard", ("node guard", None)),
            ("-", ("-", None)),
        ] {
            assert_eq!(rule_and_code(reason), expected, "{reason}");
        }
    }

    #[test]
    fn a_row_that_differs_is_marked() {
        let row = |reached, seen| Row::new("app1", "x".to_owned(), reached, &seen, "-".to_owned());
        assert!(row(true, ProbeResult::Reached).as_expected);
        assert!(row(false, ProbeResult::Closed).as_expected);
        let leak = row(false, ProbeResult::Reached);
        assert!(!leak.as_expected);
        assert!(table(&[leak]).contains("DIFFERS  app1"));
    }
}
