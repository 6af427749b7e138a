//! `spec.gateway`.

use std::collections::BTreeSet;

use egress_policy::ports::SIDECAR_PORTS;

use crate::error::RenderError;
use crate::install::gateway::LONGEST_STREAM;
use crate::install::{Gateway, PortProtocols};

pub(super) fn check(gateway: &Gateway, problems: &mut Vec<RenderError>) {
    let mut wrong = |path: &str, message: &str| problems.push(RenderError::new(path, message));
    if gateway.selector.is_empty() {
        wrong(
            "spec.gateway.selector",
            "an empty selector would select every pod",
        );
    }
    if !(1..=LONGEST_STREAM).contains(&gateway.max_stream_seconds) {
        wrong(
            "spec.gateway.maxStreamSeconds",
            "expected 1 to 86400: no stream outlives a certificate",
        );
    }
    let deployment = gateway.deployment.as_ref();
    if let Some(seconds) = deployment.and_then(|own| own.drain_seconds)
        && seconds < gateway.max_stream_seconds
    {
        let message = format!(
            "a pod that goes would cut streams, which take up to gateway.maxStreamSeconds ({}): \
             state no less, leave it out, or shorten the streams",
            gateway.max_stream_seconds
        );
        wrong("spec.gateway.deployment.drainSeconds", &message);
    }
    let ports = gateway.ports;
    if ports.http == ports.tunnel || [ports.http, ports.tunnel].contains(&ports.ready) {
        wrong(
            "spec.gateway.ports",
            "HTTP, tunnels and the probe need a port each",
        );
    }
    if !are_distinct(&gateway.protocols) {
        wrong(
            "spec.gateway.protocols",
            "expected ports from 1 to 65535, each once: 80 is HTTP and 443 is TLS",
        );
    }
    let mut routed = gateway.protocols.http.iter().chain(&gateway.protocols.tls);
    if let Some(port) = routed.find(|port| SIDECAR_PORTS.contains(port)) {
        let message = format!(
            "port {port} is one that sidecars listen on themselves: with a listener for it they \
             could refuse all of theirs"
        );
        wrong("spec.gateway.protocols", &message);
    }
    let of_requests = |name: &&String| !is_removable(name);
    if let Some(name) = gateway.remove_headers.iter().find(of_requests) {
        let message = format!(
            "`{name}` cannot be removed: expected the name of a header in lower case, and none that \
             HTTP itself needs"
        );
        wrong("spec.gateway.removeHeaders", &message);
    }
    let folder = &gateway.secrets;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !folder.starts_with('/') || folder.ends_with('/') || !folder.bytes().all(plain) {
        wrong("spec.gateway.secrets", "expected the path of a folder");
    }
}

/// Headers without which a request is another one, or none (RFC 9110 §7.2, RFC 9112 §6). What tells
/// an upgrade is judged.
const OF_HTTP: [&str; 7] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Whether this names a header that Envoy removes as it is written, and that may go.
fn is_removable(name: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=128).contains(&name.len()) && name.bytes().all(is_plain) && !OF_HTTP.contains(&name)
}

/// Whether no port is stated to carry two protocols, 80 and 443 included.
fn are_distinct(protocols: &PortProtocols) -> bool {
    let mut once = BTreeSet::new();
    let stated = [&protocols.http, &protocols.tls, &protocols.tcp].into_iter();
    stated
        .flatten()
        .all(|port| *port != 0 && once.insert(*port))
        && !protocols.tls.contains(&80)
        && !protocols.http.contains(&443)
        && !protocols.tcp.iter().any(|port| [80, 443].contains(port))
}
