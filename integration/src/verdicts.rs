//! The module's structured log lines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::envoy::{Envoy, eventually_within};

/// Envoy's word in the access log for a name all of whose addresses its DNS cache leaves out.
const ADDRESS_DENIED: &str = "address_denied";

/// One verdict, as the gateway's log has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// `Accept`, `Deny` or `Inspect`.
    pub action: String,
    /// The machine's word for why.
    pub reason: String,
    /// The policy that decided; none for a refusal of the facts themselves.
    pub policy: Option<String>,
    /// The tier that did; none where the policy as a whole did.
    pub tier: Option<String>,
    /// The rule that did; none for a default.
    pub rule: Option<String>,
    /// The host that was judged.
    #[serde(default)]
    pub host: Option<String>,
    /// The caller's SPIFFE id.
    #[serde(default)]
    pub workload: Option<String>,
    /// Where the module stood.
    pub context: String,
    /// The policies in force.
    pub policy_hash: String,
}

impl Line {
    /// What decided: `policy/tier/rule`, a tier's or policy's default; empty for a refusal of the
    /// facts themselves.
    #[must_use]
    pub fn rule_path(&self) -> String {
        let parts = [&self.policy, &self.tier, &self.rule].into_iter().flatten();
        parts.map(String::as_str).collect::<Vec<_>>().join("/")
    }
}

/// Every verdict in a piece of log: lines that end with a JSON object of `event` `verdict`.
#[must_use]
pub fn read(log: &str) -> Vec<Line> {
    log.lines()
        .filter_map(|line| {
            let json = line.get(line.find('{')?..)?;
            let value: Value = serde_json::from_str(json).ok()?;
            let event = value.get("event").and_then(Value::as_str);
            let verdict = (event == Some("verdict")).then_some(value)?;
            serde_json::from_value(verdict).ok()
        })
        .collect()
}

/// Denials of one workload with one code, as a log tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denials {
    /// Those with a line of their own.
    pub lines: u64,
    /// Those that were summed up.
    pub summed: u64,
}

/// What a piece of log tells of denials, by workload and code.
#[must_use]
pub fn denials(log: &str) -> BTreeMap<(String, String), Denials> {
    let mut all: BTreeMap<(String, String), Denials> = BTreeMap::new();
    for line in log.lines() {
        let json = line.find('{').and_then(|at| line.get(at..));
        let Some(Ok(value)) = json.map(serde_json::from_str::<Value>) else {
            continue;
        };
        let word = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let denied = word("action") == "Deny";
        let key = (word("workload").to_owned(), word("reason").to_owned());
        match word("event") {
            "verdict" if denied => {
                let told = all.entry(key).or_default();
                told.lines = told.lines.saturating_add(1);
            }
            "denials" => {
                let count = value.get("count").and_then(Value::as_u64);
                let told = all.entry(key).or_default();
                told.summed = told.summed.saturating_add(count.unwrap_or_default());
            }
            _ => {}
        }
    }
    all
}

/// The last verdict that was logged after the log's first `start` bytes; `None` if the module has
/// said nothing. It speaks before it answers, so the wait is for the file only.
#[must_use]
pub fn last_since(envoy: &Envoy, start: usize) -> Option<Line> {
    let mut last = None;
    let _ = eventually_within(Duration::from_secs(5), "a verdict", || {
        let log = envoy.log().unwrap_or_default();
        last = log.get(start..).and_then(|new| read(new).pop());
        last.is_some()
    });
    last
}

/// The last verdict after the log's first `start` bytes, and whether Envoy had no address left for
/// what it was about. Of TLS whose name has none left there is no verdict: Envoy closes it before the
/// ClientHello is looked at.
#[must_use]
pub fn told_since(envoy: &Envoy, start: usize) -> (Option<Line>, bool) {
    let mut told = (None, false);
    let _ = eventually_within(Duration::from_secs(5), "a verdict", || {
        let log = envoy.log().unwrap_or_default();
        let new = log.get(start..).unwrap_or_default();
        // Of TLS the line has no details.
        let of_tls = |line: &str| line.contains("chain=tls-inner ") && line.contains(" flags=UH ");
        let no_address_left = |line: &str| line.contains(ADDRESS_DENIED) || of_tls(line);
        told = (read(new).pop(), new.lines().any(no_address_left));
        told.0.is_some() || told.1
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_counted_by_line_and_by_sum() {
        let line = |action: &str, code: &str| {
            format!(
                "[warn] wasm log: {{\"event\":\"verdict\",\"action\":\"{action}\",\
                 \"workload\":\"w\",\"reason\":\"{code}\"}}\n"
            )
        };
        let sum = "[warn] wasm log: {\"event\":\"denials\",\"workload\":\"w\",\
                   \"reason\":\"a\",\"count\":5}\n";
        let log = [
            &line("Deny", "a"),
            sum,
            &line("Deny", "b"),
            &line("Accept", "a"),
            sum,
        ]
        .concat();
        let told = denials(&log);
        let of = |code: &str| told.get(&("w".to_owned(), code.to_owned())).copied();
        let expected = |lines, summed| Some(Denials { lines, summed });
        assert_eq!((of("a"), of("b")), (expected(1, 10), expected(1, 0)));
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn verdicts_are_found_among_other_lines() {
        let log = "[info] starting {}\n\
            [warn] wasm log x: {\"action\":\"Deny\",\"policy\":\"seed\",\"tier\":\"apps\",\
            \"rule\":null,\"reason\":\"default\",\"context\":\"http\",\"event\":\"verdict\",\
            \"policyHash\":\"ab\"}\n";
        let lines = read(log);
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (lines[0].reason.as_str(), lines[0].rule_path().as_str()),
            ("default", "seed/apps")
        );
    }
}
