//! The answer to a denied request: [`Denial`], its status, and in a header what decided it.

use egress_policy::contract::DENIED_HEADER;
use egress_policy::denial::Denial;
use egress_policy::destination::Destination;

use crate::host::Response;
use crate::record::json;

/// gRPC's `PERMISSION_DENIED`.
const PERMISSION_DENIED: i32 = 7;
/// gRPC's `RESOURCE_EXHAUSTED`.
const RESOURCE_EXHAUSTED: i32 = 8;

/// The 403, or 429 where the workload has reached a limit. For a gRPC request Envoy turns it into a
/// trailers-only answer whose `grpc-message` is the percent-encoded body.
#[must_use]
pub fn response(denial: &Denial<'_>, wants_json: bool) -> Response {
    let (content_type, body) = if wants_json {
        ("application/json", format!("{}\n", json(denial)))
    } else {
        ("text/plain; charset=utf-8", denial.text())
    };
    let reason = denial.decided_by.reason;
    let (status, grpc_status) = if reason.is_limit() {
        (429, RESOURCE_EXHAUSTED)
    } else {
        (403, PERMISSION_DENIED)
    };
    Response {
        status,
        details: format!("warden_{}", denial.decided_by.reason),
        headers: vec![
            ("content-type", content_type.to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
            (DENIED_HEADER, json(&denial.decided_by)),
        ],
        body,
        grpc_status,
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
