//! The access log: a line of JSON on standard output for each request, tunnel and connection that the
//! gateway has taken, written when it ends. It alone has the address that was connected to.
//!
//! Its fields are [`ACCESS_LOG_FIELDS`], from which the reference page is made.

use egress_policy::contract::{InspectionFact, PRINCIPAL, RULING_STATE, VERDICT_STATE};
use serde_json::{Value, json};

use super::named;
use crate::install::Install;
use crate::object::set;

/// What an entry of ours is called, beside those that the mesh's settings ask for.
pub(crate) const ACCESS_LOG: &str = "egress-warden.access";

/// The fields of a line, and what they mean.
pub const ACCESS_LOG_FIELDS: [(&str, &str); 16] = [
    ("event", "`access`. The module's lines have other words."),
    ("start", "When the request, tunnel or connection began."),
    (
        "workload",
        "The caller: every URI SAN of its certificate, also for TLS inside a tunnel and on the way to an inspection proxy.",
    ),
    (
        "authority",
        "The authority of a request or tunnel, as the caller wrote it. On the way to an inspection proxy: what the proxy is asked for.",
    ),
    (
        "serverName",
        "The TLS server name: at the gateway's ports the mesh's own, for TLS inside a tunnel the judged one.",
    ),
    (
        "method",
        "The method of a request, `CONNECT` for a tunnel. Paths are in the module's lines only.",
    ),
    ("status", "Envoy's response code. 0 for TLS and TCP."),
    (
        "flags",
        "[Envoy's response flags](https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage), such as `UF` for a failed connection.",
    ),
    (
        "details",
        "Envoy's response code details. `warden_CODE` is a denial by the module; `address_denied` states that every address of the name is refused.",
    ),
    (
        "connectedTo",
        "The address and port that the gateway connected to; `null` if it did not connect. `envoy://...` is a listener inside the gateway, whose connection has its own line.",
    ),
    (
        "cluster",
        "The Envoy cluster, with the address class at its end. For a denial: the cluster that would have been used.",
    ),
    (
        "bytesReceived",
        "Bytes of the body, or of the connection, from the caller.",
    ),
    (
        "bytesSent",
        "Bytes of the body, or of the connection, to the caller.",
    ),
    ("milliseconds", "The duration."),
    (
        "verdict",
        "`accept`, `inspect`, `deny`, or `forward` for a tunnel whose TLS is judged inside it; `null` if the module was not asked, and on the way to an inspection proxy.",
    ),
    (
        "ruling",
        "For a denial: what decided, as in the answer's line `rule`.",
    ),
];

/// Characters of what a caller writes, so that no line is longer for it.
const LONGEST_AUTHORITY: u32 = 255;
const LONGEST_METHOD: u32 = 32;
/// The same of what names of policies are in.
const LONGEST_RULING: u32 = 255;

/// Where a stream is seen: what is known of it there differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogSite {
    /// At the gateway's ports: the connection is the caller's.
    AtPort,
    /// TLS out of a tunnel: who called came with the connection.
    OutOfTunnel,
    /// To an inspection proxy: what it is told is known.
    ToInspectionProxy,
}

/// Adds the log to an HTTP connection manager or a `tcp_proxy`, if there is to be one.
pub(super) fn write(install: &Install, seen: LogSite, to: &mut Value) {
    if install.spec.gateway.access_log {
        set(to, "access_log", json!([logger(seen)]));
    }
}

fn logger(seen: LogSite) -> Value {
    let known = |key: &str| format!("%FILTER_STATE({key}:PLAIN)%");
    let authority = || format!("%REQ(:AUTHORITY):{LONGEST_AUTHORITY}%");
    let (workload, authority) = match seen {
        LogSite::AtPort => ("%DOWNSTREAM_PEER_URI_SAN%".to_owned(), authority()),
        LogSite::OutOfTunnel => (known(PRINCIPAL), authority()),
        LogSite::ToInspectionProxy => (
            known(InspectionFact::Workload.inward_state()),
            known(InspectionFact::Destination.inward_state()),
        ),
    };
    named(
        ACCESS_LOG,
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        json!({"log_format": {
            "json_format": {
                "event": "access",
                "start": "%START_TIME%",
                "workload": workload,
                "authority": authority,
                "serverName": "%REQUESTED_SERVER_NAME%",
                "method": format!("%REQ(:METHOD):{LONGEST_METHOD}%"),
                "status": "%RESPONSE_CODE%",
                "flags": "%RESPONSE_FLAGS%",
                "details": "%RESPONSE_CODE_DETAILS%",
                "connectedTo": "%UPSTREAM_REMOTE_ADDRESS%",
                "cluster": "%UPSTREAM_CLUSTER_RAW%",
                "bytesReceived": "%BYTES_RECEIVED%",
                "bytesSent": "%BYTES_SENT%",
                "milliseconds": "%DURATION%",
                "verdict": format!("%CEL({})%", word()),
                "ruling": format!("%FILTER_STATE({RULING_STATE}:PLAIN):{LONGEST_RULING}%"),
            },
            "formatters": [named(
                "envoy.formatter.cel",
                "envoy.extensions.formatter.cel.v3.Cel",
                json!({}),
            )],
        }}),
    )
}

/// The verdict's action: what the word begins with. Behind it the entry has the class, which the
/// cluster's name says, and facts of a tunnel, which are the module's own.
fn word() -> String {
    let below = |word: &str| format!("filter_state['{VERDICT_STATE}'] < b'{word}'");
    // By order, since bytes have nothing else to compare them by.
    format!(
        "{} ? 'accept' : {} ? 'deny' : {} ? 'forward' : 'inspect'",
        below("deny"),
        below("forward"),
        below("inspect"),
    )
}

#[cfg(test)]
mod tests;
