//! What a denied client is told: who asked for what, which rule said no, and how to ask.

use std::net::IpAddr;

use egress_policy::destination::Destination;
use egress_policy::name::Host;
use egress_policy::verdict::{Decision, ReasonCode, RuleRef};
use serde::Serialize;

use crate::host::Response;
use crate::record::json;

/// gRPC's `PERMISSION_DENIED`.
const PERMISSION_DENIED: i32 = 7;
/// gRPC's `RESOURCE_EXHAUSTED`.
const RESOURCE_EXHAUSTED: i32 = 8;

/// What the answer says besides the ruling.
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
pub fn response(subject: Subject<'_>, ruling: &Decision<'_>, wants_json: bool) -> Response {
    let rule = rule_words(ruling);
    let ask = how_to_ask(ruling);
    let Subject {
        workload,
        destination,
    } = subject;
    let (content_type, body) = if wants_json {
        let body = json(&Body {
            workload,
            destination,
            rule: &rule,
            code: ruling.reason.as_str(),
            reason: ruling.reason.explanation(),
            ask: &ask,
        });
        ("application/json", format!("{body}\n"))
    } else {
        let reason = ruling.reason.explanation();
        let code = ruling.reason.as_str();
        let body = format!(
            "egress denied: {reason}\nworkload: {workload}\ndestination: {destination}\n\
             rule: {rule}\ncode: {code}\nask: {ask}\n"
        );
        ("text/plain; charset=utf-8", body)
    };
    let (status, grpc_status) = if ruling.reason.is_limit() {
        (429, RESOURCE_EXHAUSTED)
    } else {
        (403, PERMISSION_DENIED)
    };
    Response {
        status,
        details: format!("warden_{}", ruling.reason),
        headers: vec![
            ("content-type", content_type.to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
        ],
        body,
        grpc_status,
    }
}

/// The rule that decided, or that none did.
fn rule_words(ruling: &Decision<'_>) -> String {
    match ruling.rule {
        RuleRef::Rule { .. } => ruling.rule.to_string(),
        RuleRef::None | RuleRef::Policy { .. } | RuleRef::Tier { .. } => "default".to_owned(),
    }
}

fn how_to_ask(ruling: &Decision<'_>) -> String {
    let policy = match ruling.rule {
        RuleRef::Policy { policy }
        | RuleRef::Tier { policy, .. }
        | RuleRef::Rule { policy, .. } => policy,
        RuleRef::None => {
            return "this is refused whatever the policy says; send this text to whoever runs the egress gateway"
                .to_owned();
        }
    };
    match ruling.reason {
        ReasonCode::Rule | ReasonCode::Default | ReasonCode::ConnectNotAllowed => format!(
            "propose a rule for this workload and destination in egress policy `{policy}`, and send this text with it"
        ),
        _ => format!("send this text to the owners of egress policy `{policy}`"),
    }
}

/// A destination as host and port.
#[must_use]
pub fn written(agreed: &Destination) -> String {
    let port = agreed.port;
    match &agreed.host {
        Host::Address(IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
        host => format!("{host}:{port}"),
    }
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
