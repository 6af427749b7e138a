//! Filter state: how a verdict reaches the lock, and facts the context that ends the judgement.

use egress_policy::destination::Agreed;
use egress_policy::verdict::Ruling;

use crate::denial::written;
use crate::host::{Host, HostError};

/// The verdict, read by the RBAC filter behind this one as `wasm.warden_verdict` and printed by
/// access logs.
const VERDICT: &str = "warden_verdict";
/// Code and rule of a denial, for access logs.
const RULING: &str = "warden_ruling";
/// Facts on their way to the upstream filter or an internal listener.
const FACTS: &str = "warden_facts";
/// The host that Envoy's dynamic forward proxy connects to instead of Host or the SNI.
const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
/// The port, where the host is written without one.
const DYNAMIC_PORT: &str = "envoy.upstream.dynamic_port";

/// What the lock reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Opens every lock.
    Accept,
    /// Opens only the way to the internal listener that ends the judgement.
    Forward,
    /// Opens none.
    Deny,
}

impl Mark {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::Accept => b"accept",
            Self::Forward => b"forward",
            Self::Deny => b"deny",
        }
    }
}

/// Writes the verdict.
///
/// # Errors
/// If it is not written, which leaves the lock closed.
pub fn mark(host: &impl Host, mark: Mark) -> Result<(), HostError> {
    host.set_property(VERDICT, mark.word())
}

/// Writes a denial. Nothing depends on it: without a word the lock is closed.
pub fn mark_denied(host: &impl Host, ruling: &Ruling<'_>) {
    let _ = mark(host, Mark::Deny);
    let words = format!("{} {}", ruling.code, ruling.basis);
    let _ = host.set_property(RULING, words.trim_end().as_bytes());
}

/// Hands facts on.
///
/// # Errors
/// If they are not written.
pub fn hand_on(host: &impl Host, facts: &[u8]) -> Result<(), HostError> {
    host.set_property(FACTS, facts)
}

/// Facts from the same request's earlier filter.
///
/// # Errors
/// If they cannot be read.
pub fn handed_on(host: &impl Host) -> Result<Option<Vec<u8>>, HostError> {
    host.property(&[FACTS])
}

/// Facts from the outer connection, as the gateway's configuration shares them with an internal
/// listener.
///
/// # Errors
/// If they cannot be read.
pub fn carried_inward(host: &impl Host) -> Result<Option<Vec<u8>>, HostError> {
    host.property(&["filter_state", "warden.facts"])
}

/// Makes the HTTP dynamic forward proxy connect to the judged host and port. A port inside the host
/// wins over every other, the one in Host included.
///
/// # Errors
/// If it is not set.
pub fn connect_to(host: &impl Host, judged: &Agreed) -> Result<(), HostError> {
    host.set_envoy_filter_state(DYNAMIC_HOST, &written(judged))
}

/// Makes the SNI dynamic forward proxy connect to the judged name and port.
///
/// # Errors
/// If it is not set.
pub fn connect_tls_to(host: &impl Host, judged: &Agreed) -> Result<(), HostError> {
    host.set_envoy_filter_state(DYNAMIC_HOST, &judged.host.to_string())?;
    host.set_envoy_filter_state(DYNAMIC_PORT, &judged.port.to_string())
}
