//! The record of verdicts: one structured log line and one counter each.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use egress_policy::facts::Fact;
use egress_policy::limits::Limits;
use egress_policy::verdict::{Action, DecidedBy, Decision, RuleRef, Verdict};
use serde::{Serialize, Serializer};

use crate::budget::{Budgets, Untold};
use crate::caller::Identity;
use crate::host::{Host, Level, Metric, MetricKind};
use crate::log_line;
use crate::metric::MetricFamily;
use crate::stream_facts::{OwnedPath, StreamFacts};
use egress_policy::facts::OwnedClaims;

/// Rules that get counters of their own; the rest count as `other`. A counter lives as long as
/// Envoy does.
pub const MAX_RULES: usize = 1_000;

/// Bytes of a path in a log line; what is longer is cut, and its length is said.
pub const LONGEST_PATH: usize = 512;
/// The same of a method.
const LONGEST_METHOD: usize = 32;

/// Counters and sampling of one instance of the module.
///
/// Each addition is a host call, so what opens is added up and told at the next tick; its first
/// time, and every denial, is told at once.
#[derive(Debug, Default)]
pub struct Record {
    counters: RefCell<BTreeMap<String, Counter>>,
    accepts: Cell<u32>,
}

/// A counter, and what it has not been told yet.
#[derive(Clone, Copy, Debug)]
struct Counter {
    metric: Metric,
    untold: i64,
}

/// Where a verdict fell.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The context, as the configuration names it.
    pub context: &'static str,
    /// The hash of the policy in force.
    pub policy_hash: &'a str,
    /// One accept in this many is logged; 0 is none.
    pub log_accepts: u32,
    /// How many lines there are for what is denied; all, without.
    pub lines: Option<Lines<'a>>,
}

/// The budget for lines.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    /// This VM's budgets.
    pub budgets: &'a Budgets,
    /// The limits.
    pub limits: &'a Limits,
    /// Seconds.
    pub now: i64,
}

impl Lines<'_> {
    /// Whether there is a line for this; else it is counted and summed up.
    fn one_for(&self, facts: &StreamFacts, decision: &Decision<'_>) -> bool {
        let code = decision.reason.as_str();
        self.budgets
            .line(workload(facts), code, self.limits, self.now)
    }
}

impl Record {
    /// Counts and logs a final verdict.
    pub fn verdict(
        &self,
        host: &impl Host,
        setting: Setting<'_>,
        facts: &StreamFacts,
        verdict: &Verdict<'_>,
    ) {
        let at_once = verdict.enforced.action == Action::Deny;
        self.count(host, MetricFamily::Verdicts, &verdict.enforced, at_once);
        if let Some(would_be) = &verdict.shadow {
            self.count(host, MetricFamily::ShadowVerdicts, would_be, true);
        }
        // Istio's proxies log warnings and above unless they are told otherwise, and what a shadow
        // would deny is what it is there to show.
        let level = match (verdict.enforced.action, verdict.shadow) {
            (Action::Deny, _) | (_, Some(_)) => Level::Warn,
            (Action::Inspect(_) | Action::Accept, None) => Level::Info,
        };
        // A line that the host would drop is not made: Istio's proxies drop every accept's.
        let worth_a_line =
            level == Level::Warn || (host.logs(level) && self.sampled(setting.log_accepts));
        let within_budget = || match (level, setting.lines) {
            (Level::Warn, Some(lines)) => {
                let decision = verdict.shadow.as_ref().unwrap_or(&verdict.enforced);
                lines.one_for(facts, decision)
            }
            _ => true,
        };
        if worth_a_line && within_budget() {
            host.log(level, &line(setting, facts, verdict));
        }
    }

    /// Counts an event that is no verdict.
    pub fn event(&self, host: &impl Host, counter: MetricFamily) {
        self.add(host, counter.name().to_owned(), true);
    }

    /// Tells what was added up.
    pub fn flush(&self, host: &impl Host) {
        let Ok(mut counters) = self.counters.try_borrow_mut() else {
            return;
        };
        for counter in counters.values_mut() {
            let by = std::mem::take(&mut counter.untold);
            if by > 0 {
                // A count that is lost changes no verdict.
                let _ = host.increment(counter.metric, by);
            }
        }
    }

    fn count(
        &self,
        host: &impl Host,
        family: MetricFamily,
        decision: &Decision<'_>,
        at_once: bool,
    ) {
        let action = match decision.action {
            Action::Deny => "deny",
            Action::Inspect(_) => "inspect",
            Action::Accept => "accept",
        };
        let (family, code) = (family.name(), decision.reason);
        let rule = match decision.rule {
            RuleRef::None => "none".to_owned(),
            basis => basis.to_string(),
        };
        let name = format!("{family}.{action}.{code}.{rule}");
        let known = self
            .counters
            .try_borrow()
            .is_ok_and(|counters| counters.len() < MAX_RULES || counters.contains_key(&name));
        if known {
            self.add(host, name, at_once);
        } else {
            self.add(host, format!("{family}.{action}.{code}.other"), at_once);
        }
    }

    fn add(&self, host: &impl Host, name: String, at_once: bool) {
        let Ok(mut counters) = self.counters.try_borrow_mut() else {
            return;
        };
        let metric = match counters.get_mut(&name) {
            Some(counter) if !at_once => {
                counter.untold = counter.untold.saturating_add(1);
                return;
            }
            Some(counter) => counter.metric,
            None => {
                let Ok(metric) = host.define_metric(MetricKind::Counter, &name) else {
                    return;
                };
                counters.insert(name, Counter { metric, untold: 0 });
                metric
            }
        };
        // A count that is lost changes no verdict.
        let _ = host.increment(metric, 1);
    }

    fn sampled(&self, one_in: u32) -> bool {
        if one_in == 0 {
            return false;
        }
        let seen = self.accepts.get();
        self.accepts.set(seen.wrapping_add(1));
        seen.is_multiple_of(one_in)
    }
}

/// The log line: a JSON object with nothing in it that a client could break a line with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    event: &'static str,
    context: &'static str,
    policy_hash: &'a str,
    action: &'static str,
    #[serde(flatten)]
    decided_by: DecidedBy<&'a str>,
    protocol: &'static str,
    workload: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Labels<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_be: Option<WouldBe<'a>>,
}

struct Labels<'a>(&'a OwnedClaims);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.pairs())
    }
}

#[derive(Serialize)]
struct WouldBe<'a> {
    action: &'static str,
    #[serde(flatten)]
    decided_by: DecidedBy<&'a str>,
}

fn line(setting: Setting<'_>, facts: &StreamFacts, verdict: &Verdict<'_>) -> String {
    let destination = facts.destination.known();
    let path = match &facts.request.path {
        OwnedPath::Clean(path) => Some(path.as_str()),
        OwnedPath::Malformed | OwnedPath::Absent | OwnedPath::Pending => None,
    };
    let line = Line {
        event: log_line::VERDICT,
        context: setting.context,
        policy_hash: setting.policy_hash,
        action: verdict.enforced.action.as_str(),
        decided_by: verdict.enforced.decided_by(),
        protocol: facts.protocol.as_str(),
        workload: workload(facts),
        labels: match &facts.claims {
            Fact::Known(claims) => Some(Labels(claims)),
            Fact::Pending | Fact::Missing => None,
        },
        host: destination.map(|destination| destination.host.to_string()),
        port: destination.map(|destination| destination.port),
        method: match &facts.request.method {
            Fact::Known(method) => Some(cut(method, LONGEST_METHOD)),
            Fact::Pending | Fact::Missing => None,
        },
        path: path.map(|path| cut(path, LONGEST_PATH)),
        path_bytes: path.map(str::len).filter(|length| *length > LONGEST_PATH),
        would_be: verdict.shadow.map(|would_be| WouldBe {
            action: would_be.action.as_str(),
            decided_by: would_be.decided_by(),
        }),
    };
    json(&line)
}

/// At most so many bytes, whole characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default().min(text.len()))
        .unwrap_or(text)
}

/// The line for denials that had none of their own.
pub(crate) fn untold_line(untold: &Untold) -> String {
    json(&Sum {
        event: log_line::DENIALS,
        workload: &untold.workload,
        reason: untold.code,
        count: untold.count,
    })
}

#[derive(Serialize)]
struct Sum<'a> {
    event: &'static str,
    workload: &'a str,
    reason: &'static str,
    count: u64,
}

/// As JSON text. Nothing that this module writes fails to serialise: there are no maps with other
/// keys than strings.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Sets a gauge, as far as the host lets it. Visibility only: what is in force does not depend on it.
pub(crate) fn gauge(host: &impl Host, name: &str, value: u64) {
    if let Ok(gauge) = host.define_metric(MetricKind::Gauge, name) {
        let _ = host.record(gauge, value);
    }
}

/// The caller in words.
#[must_use]
pub fn workload(facts: &StreamFacts) -> &str {
    match &facts.identity {
        Fact::Known(identity) => Identity::as_str(identity),
        Fact::Pending | Fact::Missing => "unknown",
    }
}

#[cfg(test)]
mod tests;
