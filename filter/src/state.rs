//! Filter state: how a verdict reaches routes and locks, and facts the context that ends the
//! judgement.

use egress_policy::contract::{
    DENY, DESTINATION, DEVICE, DYNAMIC_HOST, DYNAMIC_PORT, FACTS, FORWARD, HOST, RULE, RULING,
    TCP_CLUSTER, VERDICT, WORKLOAD, accept_word, entry_prefix, inspect_word, resolve_property,
};
use egress_policy::destination::Destination;
use egress_policy::verdict::Decision;

use crate::denial::written;
use crate::host::{Host, HostError};
use crate::owned_facts::OwnedFacts;
use crate::record::workload;

/// Where the facts of the outer connection are, as the gateway's configuration shares them.
const CARRIED: &[&str] = &["filter_state", FACTS];

/// What routes and locks read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictToken<'d> {
    /// Opens the ways out of this class.
    Accept(&'d str),
    /// Opens only the way to the internal listener that ends the judgement.
    Forward,
    /// Opens only the way to this inspection cluster in this class.
    Inspect(&'d str, &'d str),
    /// Opens none.
    Deny,
}

impl VerdictToken<'_> {
    /// The word that a verdict begins with.
    #[must_use]
    pub fn word(self) -> String {
        match self {
            Self::Accept(class) => accept_word(class),
            Self::Forward => FORWARD.to_owned(),
            Self::Inspect(device, class) => inspect_word(device, class),
            Self::Deny => DENY.to_owned(),
        }
    }
}

/// Writes the verdict.
///
/// # Errors
/// If it is not written, which leaves the lock closed.
pub fn store_verdict(host: &impl Host, mark: VerdictToken<'_>) -> Result<(), HostError> {
    store_verdict_word(host, &mark.word())
}

/// The same by its word.
///
/// # Errors
/// As [`store_verdict`].
pub fn store_verdict_word(host: &impl Host, word: &str) -> Result<(), HostError> {
    // A space follows also where nothing else does: no name opens for a longer one.
    host.set_property(VERDICT, entry_prefix(word).as_bytes())
}

/// Sends a tunnel inward, with the facts behind the token: one entry, because each costs a host
/// call.
///
/// # Errors
/// If it is not written, which leaves the lock closed.
pub fn forward(host: &impl Host, gathered: &OwnedFacts) -> Result<(), HostError> {
    let mut entry = entry_prefix(&VerdictToken::Forward.word()).into_bytes();
    entry.extend(gathered.to_wire().ok_or(HostError)?);
    host.set_property(VERDICT, &entry)
}

/// Writes a denial. Nothing depends on it: without a word the lock is closed.
pub fn store_denial(host: &impl Host, ruling: &Decision<'_>) {
    let _ = store_verdict(host, VerdictToken::Deny);
    let words = format!("{} {}", ruling.reason, ruling.rule);
    let _ = host.set_property(RULING, words.trim_end().as_bytes());
}

/// The facts that the filter of the outer connection sent inward with it; `None` if there is no
/// outer connection.
///
/// # Errors
/// If they cannot be read, or nothing was sent inward.
pub fn read_from_tunnel(host: &impl Host) -> Result<Option<OwnedFacts>, HostError> {
    let Some(entry) = host.property(CARRIED)? else {
        return Ok(None);
    };
    let prefix = entry_prefix(&VerdictToken::Forward.word());
    let facts = entry.strip_prefix(prefix.as_bytes()).ok_or(HostError)?;
    OwnedFacts::from_wire(facts).map(Some).ok_or(HostError)
}

/// Says what the device is to be told.
///
/// # Errors
/// If it is not written.
pub fn set_inspection_metadata(
    host: &impl Host,
    device: &str,
    rule: &Decision<'_>,
    gathered: &OwnedFacts,
) -> Result<(), HostError> {
    let destination = written(gathered.destination.known().ok_or(HostError)?);
    host.set_property(DEVICE, device.as_bytes())?;
    host.set_property(RULE, rule.rule.to_string().as_bytes())?;
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
pub fn connect_to(host: &impl Host, judged: &Destination) -> Result<(), HostError> {
    host.set_envoy_filter_state(DYNAMIC_HOST, &written(judged))
}

/// Has the judged name of TLS resolved by the class's cache, and `tcp_proxy` connect to it and its
/// port: the gateway's configuration copies both names to where Envoy reads them.
///
/// # Errors
/// If it is not set.
pub fn connect_tls_to(
    host: &impl Host,
    judged: &Destination,
    class: &str,
) -> Result<(), HostError> {
    let name = judged.host.to_string();
    host.set_property(&resolve_property(class), name.as_bytes())?;
    host.set_property(HOST, name.as_bytes())?;
    host.set_envoy_filter_state(DYNAMIC_PORT, &judged.port.to_string())
}
