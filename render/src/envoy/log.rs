//! The access log: a line of JSON on standard output for each request, tunnel and connection that the
//! gateway has taken, written when it ends. It alone has the address that was connected to.
//!
//! Its fields are documented in `docs/reference/log.md`, and change as the module's lines do.

use egress_policy::contract::{InspectionFact, PRINCIPAL, RULING_STATE, VERDICT_STATE};
use serde_json::{Value, json};

use super::named;
use crate::install::Install;
use crate::object::set;

/// What an entry of ours is called, beside those that the mesh's settings ask for.
pub(crate) const ACCESS_LOG: &str = "egress-warden.access";

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
    /// On its way to an inspection device: what the device is told is known.
    ToDevice,
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
        LogSite::ToDevice => (
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
