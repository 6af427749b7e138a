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
    let folder = &gateway.secrets;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !folder.starts_with('/') || folder.ends_with('/') || !folder.bytes().all(plain) {
        wrong("spec.gateway.secrets", "expected the path of a folder");
    }
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
