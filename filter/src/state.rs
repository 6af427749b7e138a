//! Filter state: how a verdict reaches routes and RBAC locks, and facts the context that ends the
//! judgement.

use egress_policy::contract::{
    DENY, DYNAMIC_HOST, DYNAMIC_PORT, FACTS, FORWARD, HOST, InspectionFact, RULING, TCP_CLUSTER,
    VERDICT, accept_word, entry_prefix, inspect_word, resolve_property,
};
use egress_policy::destination::Destination;
use egress_policy::verdict::Decision;

use crate::denial::written;
use crate::host::{Flow, Host, HostError};
use crate::record::workload;
use crate::stream_facts::StreamFacts;

/// Where the facts of the outer connection are, as the gateway's configuration shares them.
const CARRIED: &[&str] = &["filter_state", FACTS];

/// The token of a verdict that admits, as routes and RBAC locks read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictToken<'d> {
    /// Opens the clusters of this address class.
    Accept(&'d str),
    /// Opens only the cluster to this inspection proxy in this address class.
    Inspect(&'d str, &'d str),
}

impl VerdictToken<'_> {
    /// The word that the verdict begins with.
    #[must_use]
    pub fn word(self) -> String {
        match self {
            Self::Accept(class) => accept_word(class),
            Self::Inspect(proxy, class) => inspect_word(proxy, class),
        }
    }
}

/// Proof that a token is written which opens an RBAC lock. Nothing but writing one makes it, and an
/// admitted request or connection goes on by it alone.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Permit(());

impl Permit {
    /// Lets the request or connection go on.
    pub const fn go(&self) -> Flow {
        Flow::Continue
    }
}

/// Writes the verdict token.
///
/// # Errors
/// If it is not written, which leaves the RBAC lock closed.
pub fn store_verdict(host: &impl Host, token: VerdictToken<'_>) -> Result<Permit, HostError> {
    store_entry(host, &token.word(), &[]).map(Permit)
}

/// Sends a tunnel inward to the listener that ends the judgement, with the facts behind the token:
/// one entry, because each costs a host call.
///
/// # Errors
/// If it is not written, which leaves the RBAC lock closed.
pub fn forward(host: &impl Host, facts: &StreamFacts) -> Result<Permit, HostError> {
    let facts = facts.to_wire().ok_or(HostError)?;
    store_entry(host, FORWARD, &facts).map(Permit)
}

/// Writes a denial. Nothing depends on it: without a token the RBAC lock is closed.
pub fn store_denial(host: &impl Host, decision: &Decision<'_>) {
    let _ = store_entry(host, DENY, &[]);
    let words = decision.decided_by().to_string();
    let _ = host.set_property(RULING, words.as_bytes());
}

/// A space follows the word also where no facts do: no name opens for a longer one.
fn store_entry(host: &impl Host, word: &str, facts: &[u8]) -> Result<(), HostError> {
    let mut entry = entry_prefix(word).into_bytes();
    entry.extend_from_slice(facts);
    host.set_property(VERDICT, &entry)
}

/// The facts that the filter of the outer connection sent inward with it; `None` if there is no
/// outer connection.
///
/// # Errors
/// If they cannot be read, or nothing was sent inward.
pub fn read_from_tunnel(host: &impl Host) -> Result<Option<StreamFacts>, HostError> {
    let Some(entry) = host.property(CARRIED)? else {
        return Ok(None);
    };
    let prefix = entry_prefix(FORWARD);
    let facts = entry.strip_prefix(prefix.as_bytes()).ok_or(HostError)?;
    StreamFacts::from_wire(facts).map(Some).ok_or(HostError)
}

/// Writes what the inspection proxy is told of the connection.
///
/// # Errors
/// If it is not written.
pub fn set_inspection_metadata(
    host: &impl Host,
    proxy: &str,
    decision: &Decision<'_>,
    facts: &StreamFacts,
) -> Result<(), HostError> {
    let destination = written(facts.destination.known().ok_or(HostError)?);
    let tell =
        |fact: InspectionFact, value: &str| host.set_property(fact.property(), value.as_bytes());
    tell(InspectionFact::Proxy, proxy)?;
    tell(InspectionFact::Rule, &decision.rule.to_string())?;
    tell(InspectionFact::Workload, workload(facts))?;
    tell(InspectionFact::Destination, &destination)
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
