//! [`Facts`] field by field, owned and in any combination: what questions, cases and witnesses are
//! made of.

mod parse;
mod written;

use std::net::IpAddr;

use egress_policy::facts::{
    Caller, DestinationFacts, Fact, Facts, OwnedClaims, Protocol, Request, SpiffeId,
};
use egress_policy::name::Name;
use egress_policy::path::RequestPath;
use egress_policy::verdict::ReasonCode;
use serde::Serialize;
use serde_json::Value;

pub use parse::{parse_address, parse_caller, parse_time, parse_to, time_text};
pub use written::WrittenFacts;

/// A path that no server should be asked for.
pub const MALFORMED_PATH: &str = "/..;/";

/// Who asks, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// mTLS with this identity.
    Workload {
        /// Trust domain.
        trust_domain: String,
        /// Namespace.
        namespace: String,
        /// Service account.
        service_account: String,
    },
    /// TLS without a client certificate.
    NoCertificate,
    /// No TLS.
    Plaintext,
    /// A certificate that names no single workload.
    Malformed,
}

/// Everything that a verdict rests on, owned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "WrittenFacts")]
pub struct OwnedFacts {
    /// What the port carries.
    pub protocol: Protocol,
    /// Who asks.
    pub caller: Fact<Who>,
    /// What it claims.
    pub claims: Fact<OwnedClaims>,
    /// The destination's name; `Known(None)` for an address literal.
    pub name: Fact<Option<Name>>,
    /// Where the gateway really connects.
    pub address: Fact<IpAddr>,
    /// The port there.
    pub port: Fact<u16>,
    /// The HTTP method.
    pub method: Fact<String>,
    /// The path as it was sent; `Known(None)` where there is none.
    pub path: Fact<Option<String>>,
    /// The upgrade token.
    pub upgrade: Fact<Option<String>>,
    /// The time.
    pub now: Fact<i64>,
    /// A refusal that reading the facts already found.
    pub refused: Option<ReasonCode>,
}

impl OwnedFacts {
    /// Nothing is known.
    #[must_use]
    pub const fn pending(protocol: Protocol) -> Self {
        Self {
            protocol,
            caller: Fact::Pending,
            claims: Fact::Pending,
            name: Fact::Pending,
            address: Fact::Pending,
            port: Fact::Pending,
            method: Fact::Pending,
            path: Fact::Pending,
            upgrade: Fact::Pending,
            now: Fact::Pending,
            refused: None,
        }
    }

    /// Calls `judge` with these facts.
    pub fn with_facts<R>(&self, judge: impl FnOnce(&Facts<'_>) -> R) -> R {
        let labels = self.claims.pairs();
        let facts = Facts {
            protocol: self.protocol,
            caller: self.caller.as_ref().map(borrow_caller),
            claims: self.claims.lend(&labels),
            destination: DestinationFacts {
                name: self.name.as_ref().map(Option::as_ref),
                address: self.address,
                port: self.port,
            },
            request: Request {
                method: self.method.as_ref().map(String::as_str),
                path: self
                    .path
                    .as_ref()
                    .map(|path| RequestPath::parse(path.as_deref().map(str::as_bytes))),
                upgrade: self.upgrade.as_ref().map(Option::as_deref),
            },
            now: self.now,
            refused: self.refused,
        };
        judge(&facts)
    }

    /// The same facts, owned. A path that was refused keeps only that it was.
    #[must_use]
    pub fn from_facts(facts: &Facts<'_>) -> Self {
        Self {
            protocol: facts.protocol,
            caller: facts.caller.map(Who::from),
            claims: facts.claims.map(OwnedClaims::from),
            name: facts.destination.name.map(Option::<&Name>::cloned),
            address: facts.destination.address,
            port: facts.destination.port,
            method: facts.request.method.map(str::to_owned),
            path: facts.request.path.map(|path| match path {
                RequestPath::Clean(path) => Some(path.to_owned()),
                RequestPath::Malformed => Some(MALFORMED_PATH.to_owned()),
                RequestPath::Absent => None,
            }),
            upgrade: facts
                .request
                .upgrade
                .map(|upgrade| upgrade.map(str::to_owned)),
            now: facts.now,
            refused: facts.refused,
        }
    }

    /// The namespace that the certificate proves.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match &self.caller {
            Fact::Known(Who::Workload { namespace, .. }) => Some(namespace),
            Fact::Known(_) | Fact::Pending | Fact::Missing => None,
        }
    }

    /// The facts as JSON, in the words of the documentation.
    #[must_use]
    pub fn to_json(&self) -> Value {
        // Texts, numbers and mappings of texts: nothing that JSON cannot hold.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl From<Caller<'_>> for Who {
    fn from(caller: Caller<'_>) -> Self {
        match caller {
            Caller::Workload(id) => Self::Workload {
                trust_domain: id.trust_domain.to_owned(),
                namespace: id.namespace.to_owned(),
                service_account: id.service_account.to_owned(),
            },
            Caller::NoCertificate => Self::NoCertificate,
            Caller::Plaintext => Self::Plaintext,
            Caller::Malformed => Self::Malformed,
        }
    }
}

fn borrow_caller(who: &Who) -> Caller<'_> {
    match who {
        Who::Workload {
            trust_domain,
            namespace,
            service_account,
        } => Caller::Workload(SpiffeId {
            trust_domain,
            namespace,
            service_account,
        }),
        Who::NoCertificate => Caller::NoCertificate,
        Who::Plaintext => Caller::Plaintext,
        Who::Malformed => Caller::Malformed,
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workload {
                trust_domain,
                namespace,
                service_account,
            } => write!(
                f,
                "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
            ),
            Self::NoCertificate => f.write_str("no-certificate"),
            Self::Plaintext => f.write_str("plaintext"),
            Self::Malformed => f.write_str("malformed"),
        }
    }
}
