//! What a denied client is told: who asked for what, which rule said no, and how to ask.

use egress_policy::destination::Destination;
use egress_policy::verdict::{Decision, ReasonCode, RuleRef};
use serde::Serialize;

use crate::host::Response;
use crate::record::json;

/// gRPC's `PERMISSION_DENIED`.
const PERMISSION_DENIED: i32 = 7;
/// gRPC's `RESOURCE_EXHAUSTED`.
const RESOURCE_EXHAUSTED: i32 = 8;

/// What the answer says besides the decision.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The caller, as the certificate names it.
    pub workload: &'a str,
    /// Host and port; printable.
    pub destination: &'a str,
}

#[derive(Serialize)]
struct Body<'a> {
    workload: &'a str,
    destination: &'a str,
    rule: &'a str,
    code: &'static str,
    reason: &'static str,
    ask: &'a str,
}

/// The 403, or 429 where the workload has reached a limit. For a gRPC request Envoy turns it into a trailers-only answer whose `grpc-message` is
/// the percent-encoded body.
#[must_use]
pub fn response(subject: Subject<'_>, decision: &Decision<'_>, wants_json: bool) -> Response {
    let rule = rule_words(decision);
    let ask = how_to_ask(decision);
    let Subject {
        workload,
        destination,
    } = subject;
    let (content_type, body) = if wants_json {
        let body = json(&Body {
            workload,
            destination,
            rule: &rule,
            code: decision.reason.as_str(),
            reason: decision.reason.explanation(),
            ask: &ask,
        });
        ("application/json", format!("{body}\n"))
    } else {
        let reason = decision.reason.explanation();
        let code = decision.reason.as_str();
        let body = format!(
            "egress denied: {reason}\nworkload: {workload}\ndestination: {destination}\n\
             rule: {rule}\ncode: {code}\nask: {ask}\n"
        );
        ("text/plain; charset=utf-8", body)
    };
    let (status, grpc_status) = if decision.reason.is_limit() {
        (429, RESOURCE_EXHAUSTED)
    } else {
        (403, PERMISSION_DENIED)
    };
    Response {
        status,
        details: format!("warden_{}", decision.reason),
        headers: vec![
            ("content-type", content_type.to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
        ],
        body,
        grpc_status,
    }
}

/// The rule that decided, or that none did.
fn rule_words(decision: &Decision<'_>) -> String {
    match decision.rule {
        RuleRef::Rule { .. } => decision.rule.to_string(),
        RuleRef::None | RuleRef::Policy { .. } | RuleRef::Tier { .. } => "default".to_owned(),
    }
}

fn how_to_ask(decision: &Decision<'_>) -> String {
    let policy = match decision.rule {
        RuleRef::Policy { policy }
        | RuleRef::Tier { policy, .. }
        | RuleRef::Rule { policy, .. } => policy,
        RuleRef::None => {
            return "this is refused whatever the policy says; send this text to whoever runs the egress gateway"
                .to_owned();
        }
    };
    match decision.reason {
        ReasonCode::Rule | ReasonCode::Default | ReasonCode::ConnectNotAllowed => format!(
            "propose a rule for this workload and destination in egress policy `{policy}`, and send this text with it"
        ),
        _ => format!("send this text to the owners of egress policy `{policy}`"),
    }
}

/// A destination as host and port.
#[must_use]
pub fn written(destination: &Destination) -> String {
    format!("{}:{}", destination.host.in_authority(), destination.port)
}

/// Bytes of a client as printable text, cut at a length that fits a log line.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    const LONGEST: usize = 256;
    let text = bytes.get(..LONGEST).unwrap_or(bytes).escape_ascii();
    text.to_string()
}

#[cfg(test)]
mod tests;
