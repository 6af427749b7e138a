//! What a stream has shown so far: facts that are owned, and travel to an internal listener with a
//! tunnel. The destination is one state, from which the engine's facts about it follow, so that no
//! combination can arise that no stream has.

use egress_policy::destination::Destination;
use egress_policy::facts::{DestinationFacts, Fact, Facts, OwnedClaims, Protocol, Request};
use egress_policy::name::{Authority, Host as Target};
use egress_policy::path::RequestPath;
use egress_policy::verdict::ReasonCode;
use serde::{Deserialize, Serialize};

use crate::caller::Identity;

/// A path, owned and already classified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedPath {
    /// As [`RequestPath::Clean`].
    Clean(String),
    /// As [`RequestPath::Malformed`].
    Malformed,
    /// As [`RequestPath::Absent`].
    Absent,
    /// Still to be read.
    Pending,
}

impl OwnedPath {
    /// Classifies the bytes of `:path`.
    #[must_use]
    pub fn parse(bytes: Option<&[u8]>) -> Self {
        match RequestPath::parse(bytes) {
            RequestPath::Clean(path) => Self::Clean(path.to_owned()),
            RequestPath::Malformed => Self::Malformed,
            RequestPath::Absent => Self::Absent,
        }
    }

    fn fact(&self) -> Fact<RequestPath<'_>> {
        Fact::Known(match self {
            Self::Clean(path) => RequestPath::Clean(path),
            Self::Malformed => RequestPath::Malformed,
            Self::Absent => RequestPath::Absent,
            Self::Pending => return Fact::Pending,
        })
    }
}

/// The request line. Missing parts could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// The method.
    pub method: Fact<String>,
    /// The path, without its query.
    pub path: OwnedPath,
    /// What is upgraded to, if anything.
    pub upgrade: Fact<Option<String>>,
}

impl RequestLine {
    /// That of a connection that is no HTTP: never read.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            method: Fact::Missing,
            path: OwnedPath::Absent,
            upgrade: Fact::Missing,
        }
    }

    /// That of requests which come later, inside a tunnel.
    #[must_use]
    pub const fn pending() -> Self {
        Self {
            method: Fact::Pending,
            path: OwnedPath::Pending,
            upgrade: Fact::Pending,
        }
    }
}

/// How much is known of where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationState {
    /// Nothing yet.
    Unknown,
    /// What was dialled. The port is the destination's; a name is still to be read.
    Dialled(Destination),
    /// The destination.
    Judged(Destination),
    /// None that could be judged: refused, whatever the rules say.
    Refused(ReasonCode),
}

impl DestinationState {
    /// The destination, or the refusal.
    #[must_use]
    pub fn judged(destination: Result<Destination, ReasonCode>) -> Self {
        destination.map_or_else(Self::Refused, Self::Judged)
    }

    /// Whether it is a name.
    #[must_use]
    pub fn is_named(&self) -> bool {
        let destination = self.known();
        destination.is_some_and(|destination| matches!(destination.host, Target::Name(_)))
    }

    /// What is known of host and port.
    #[must_use]
    pub const fn known(&self) -> Option<&Destination> {
        match self {
            Self::Dialled(destination) | Self::Judged(destination) => Some(destination),
            Self::Unknown | Self::Refused(_) => None,
        }
    }
}

/// What one request or connection has shown so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// What carries the payload.
    pub protocol: Protocol,
    /// Who asks.
    pub identity: Fact<Identity>,
    /// What the caller claims.
    pub claims: Fact<OwnedClaims>,
    /// Where to.
    pub destination: DestinationState,
    /// The request line.
    pub request: RequestLine,
    /// Seconds since the Unix epoch.
    pub now: Fact<i64>,
}

impl StreamFacts {
    /// What is left where nothing could be read: refused.
    #[must_use]
    pub const fn refused(protocol: Protocol, code: ReasonCode) -> Self {
        Self {
            protocol,
            identity: Fact::Missing,
            claims: Fact::Missing,
            destination: DestinationState::Refused(code),
            request: RequestLine::none(),
            now: Fact::Missing,
        }
    }

    /// Lends the facts to the engine.
    pub fn lend<T>(&self, judge: impl FnOnce(&Facts<'_>) -> T) -> T {
        judge(&self.facts(&self.claims.pairs()))
    }

    /// Once in the module, not once for each who borrows.
    #[inline(never)]
    fn facts<'a>(&'a self, labels: &'a [(&'a str, &'a str)]) -> Facts<'a> {
        Facts {
            protocol: self.protocol,
            caller: self.identity.as_ref().map(Identity::caller),
            claims: self.claims.lend(labels),
            destination: self.destination(),
            request: Request {
                method: self.request.method.as_ref().map(String::as_str),
                path: self.request.path.fact(),
                upgrade: self.request.upgrade.as_ref().map(Option::as_deref),
            },
            now: self.now,
            refused: match self.destination {
                DestinationState::Refused(code) => Some(code),
                DestinationState::Unknown
                | DestinationState::Dialled(_)
                | DestinationState::Judged(_) => None,
            },
        }
    }

    fn destination(&self) -> DestinationFacts<'_> {
        match &self.destination {
            DestinationState::Judged(destination) => destination.facts(Fact::Missing),
            DestinationState::Dialled(destination) => DestinationFacts {
                name: Fact::Pending,
                address: Fact::Pending,
                port: Fact::Known(destination.port),
            },
            DestinationState::Unknown => DestinationFacts {
                name: Fact::Pending,
                address: Fact::Pending,
                port: Fact::Pending,
            },
            DestinationState::Refused(_) => DestinationFacts {
                name: Fact::Missing,
                address: Fact::Missing,
                port: Fact::Missing,
            },
        }
    }

    /// The form in which the facts of a tunnel travel inward in filter state, where no client can
    /// write: who calls, and what was dialled.
    #[must_use]
    pub fn to_wire(&self) -> Option<Vec<u8>> {
        let destination = self.destination.known()?;
        let wire = Wire {
            protocol: self.protocol.as_str().to_owned(),
            caller: known(&self.identity).map(|identity| match identity {
                Identity::Workload(uri) => WireCaller::Workload(uri.to_string()),
                Identity::NoCertificate => WireCaller::NoCertificate,
                Identity::Plaintext => WireCaller::Plaintext,
                Identity::Malformed => WireCaller::Malformed,
            }),
            claims: known(&self.claims).map(|claims| WireClaims {
                namespace: claims.namespace.clone(),
                cluster: claims.cluster.clone(),
                labels: claims.labels.clone(),
            }),
            host: destination.host.in_authority(),
            port: destination.port,
        };
        serde_json::to_vec(&wire).ok()
    }

    /// Reads what [`StreamFacts::to_wire`] wrote. The time is the reader's business, and what is inside
    /// the tunnel.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        let host = Authority::parse(wire.host.as_bytes()).ok()?.host;
        Some(Self {
            protocol: Protocol::parse(&wire.protocol)?,
            identity: wire.caller.map_or(Fact::Missing, |caller| {
                Fact::Known(match caller {
                    WireCaller::Workload(uri) => Identity::from_uri_sans([uri.as_bytes()]),
                    WireCaller::NoCertificate => Identity::NoCertificate,
                    WireCaller::Plaintext => Identity::Plaintext,
                    WireCaller::Malformed => Identity::Malformed,
                })
            }),
            claims: wire.claims.map_or(Fact::Missing, |claims| {
                Fact::Known(OwnedClaims {
                    namespace: claims.namespace,
                    cluster: claims.cluster,
                    labels: claims.labels,
                })
            }),
            destination: DestinationState::Judged(Destination {
                host,
                port: wire.port,
            }),
            request: RequestLine::none(),
            now: Fact::Missing,
        })
    }
}

fn known<T>(fact: &Fact<T>) -> Option<&T> {
    fact.as_ref().known()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    protocol: String,
    caller: Option<WireCaller>,
    claims: Option<WireClaims>,
    host: String,
    port: u16,
}

#[derive(Serialize, Deserialize)]
enum WireCaller {
    Workload(String),
    NoCertificate,
    Plaintext,
    Malformed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireClaims {
    namespace: String,
    cluster: Option<String>,
    labels: Vec<(String, String)>,
}

#[cfg(test)]
mod tests;
