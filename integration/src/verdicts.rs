//! The module's structured log lines.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::envoy::{Envoy, eventually_within};

/// One verdict, as the gateway's log has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// `Accept`, `Deny` or `Inspect`.
    pub action: String,
    /// The machine's word for why.
    pub code: String,
    /// What decided: `policy/tier/rule`, a tier's or policy's default; empty for a refusal of the
    /// facts themselves.
    #[serde(default)]
    pub rule: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_found_among_other_lines() {
        let log = "[info] starting {}\n\
            [warn] wasm log x: {\"action\":\"Deny\",\"code\":\"default\",\"context\":\"http\",\
            \"event\":\"verdict\",\"policyHash\":\"ab\",\"rule\":\"seed\"}\n";
        let lines = read(log);
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (lines[0].code.as_str(), lines[0].rule.as_str()),
            ("default", "seed")
        );
    }
}
