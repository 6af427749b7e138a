//! Filter state: how a verdict reaches the lock, and facts the context that ends the judgement.

use egress_policy::destination::Agreed;
use egress_policy::verdict::Ruling;

use crate::denial::written;
use crate::gathered::Gathered;
use crate::host::{Host, HostError};
use crate::record::workload;

/// The verdict, and behind a space the facts that it rests on where another context ends the
/// judgement. One entry, because each costs a host call: the RBAC filter behind this one reads its
/// first word as `wasm.warden_verdict`, access logs print it.
const VERDICT: &str = "warden_verdict";
/// Code and rule of a denial, for access logs.
const RULING: &str = "warden_ruling";
/// The inspection cluster, and what the gateway's configuration tells the device: which rule chose
/// it, who asks, and where to. Set for nothing else.
const DEVICE: &str = "warden_device";
const RULE: &str = "warden_rule";
const WORKLOAD: &str = "warden_workload";
const DESTINATION: &str = "warden_destination";
/// The host that Envoy's dynamic forward proxy connects to instead of Host or the SNI.
const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
/// The port, where the host is written without one.
const DYNAMIC_PORT: &str = "envoy.upstream.dynamic_port";
/// The cluster that `tcp_proxy` connects to instead of its own, if it is there at accept.
const TCP_CLUSTER: &str = "envoy.tcp_proxy.cluster";

/// What the lock reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'d> {
    /// Opens every lock but those of inspection clusters.
    Accept,
    /// Opens only the way to the internal listener that ends the judgement.
    Forward,
    /// Opens only the way to this inspection cluster.
    Inspect(&'d str),
    /// Opens none.
    Deny,
}

impl Mark<'_> {
    fn word(self) -> String {
        match self {
            Self::Accept => "accept".to_owned(),
            Self::Forward => "forward".to_owned(),
            Self::Inspect(device) => format!("inspect:{device}"),
            Self::Deny => "deny".to_owned(),
        }
    }
}

/// Writes the verdict.
///
/// # Errors
/// If it is not written, which leaves the lock closed.
pub fn mark(host: &impl Host, mark: Mark<'_>) -> Result<(), HostError> {
    hand_on(host, mark, &[])
}

/// Writes the verdict, and hands on the facts.
///
/// # Errors
/// As [`mark`].
pub fn hand_on(host: &impl Host, mark: Mark<'_>, facts: &[u8]) -> Result<(), HostError> {
    // The space ends the word also where nothing follows: no device's name opens for a longer one.
    let mut value = mark.word().into_bytes();
    value.push(b' ');
    value.extend_from_slice(facts);
    host.set_property(VERDICT, &value)
}

/// Writes a denial. Nothing depends on it: without a word the lock is closed.
pub fn mark_denied(host: &impl Host, ruling: &Ruling<'_>) {
    let _ = mark(host, Mark::Deny);
    let words = format!("{} {}", ruling.code, ruling.basis);
    let _ = host.set_property(RULING, words.trim_end().as_bytes());
}

/// A verdict of an earlier context, and the facts behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOn {
    entry: Vec<u8>,
    space: usize,
}

impl HandedOn {
    fn parse(entry: Vec<u8>) -> Option<Self> {
        let space = entry.iter().position(|byte| *byte == b' ')?;
        Some(Self { entry, space })
    }

    /// Whether the verdict was this.
    #[must_use]
    pub fn is(&self, mark: Mark<'_>) -> bool {
        self.entry.get(..self.space) == Some(mark.word().as_bytes())
    }

    /// The facts.
    #[must_use]
    pub fn facts(&self) -> &[u8] {
        self.entry.get(self.space + 1..).unwrap_or_default()
    }
}

/// What the same request's earlier filter decided.
///
/// # Errors
/// If it cannot be read.
pub fn handed_on(host: &impl Host) -> Result<Option<HandedOn>, HostError> {
    Ok(host.property(&[VERDICT])?.and_then(HandedOn::parse))
}

/// What the filter of the outer connection decided, as the gateway's configuration shares it with
/// an internal listener.
///
/// # Errors
/// If it cannot be read, or is no verdict.
pub fn carried_inward(host: &impl Host) -> Result<Option<HandedOn>, HostError> {
    match host.property(&["filter_state", "warden.facts"])? {
        None => Ok(None),
        Some(entry) => HandedOn::parse(entry).map(Some).ok_or(HostError),
    }
}

/// Says what the device is to be told.
///
/// # Errors
/// If it is not written.
pub fn tell_device(
    host: &impl Host,
    device: &str,
    rule: &Ruling<'_>,
    gathered: &Gathered,
) -> Result<(), HostError> {
    let destination = written(gathered.place.agreed().ok_or(HostError)?);
    host.set_property(DEVICE, device.as_bytes())?;
    host.set_property(RULE, rule.basis.to_string().as_bytes())?;
    host.set_property(WORKLOAD, workload(gathered).as_bytes())?;
    host.set_property(DESTINATION, destination.as_bytes())
}

/// Makes `tcp_proxy` connect to this cluster.
///
/// # Errors
/// If it is not set.
pub fn connect_by(host: &impl Host, cluster: &str) -> Result<(), HostError> {
    host.set_envoy_filter_state(TCP_CLUSTER, cluster)
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
