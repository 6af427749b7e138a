//! Facts: who asks, for what, and how much of that is known yet.
//!
//! [`Facts`] borrow from whoever has them. Three types own facts, because they know them in different
//! ways: the filter's `StreamFacts` are what a stream has shown so far, and travel in filter state;
//! the analysis's `OwnedFacts` are [`Facts`] field by field, in any combination, for questions and
//! witnesses; [`crate::case::CaseInput`] is what an adapter is given, from which facts are built.

mod owned;

use std::net::IpAddr;

use crate::name::Name;
use crate::path::RequestPath;
use crate::reason::ReasonCode;

pub use owned::OwnedClaims;

/// How much is known of one fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is this.
    Known(T),
    /// It may still come.
    Pending,
    /// It can no longer come, or could not be read. Never the same as "does not match".
    Missing,
}

impl<T> Fact<T> {
    /// The value, if known.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Pending | Self::Missing => None,
        }
    }

    /// The same state of knowledge about `f(value)`.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(f(value)),
            Self::Pending => Fact::Pending,
            Self::Missing => Fact::Missing,
        }
    }

    /// Borrows the value.
    pub const fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::Known(value) => Fact::Known(value),
            Self::Pending => Fact::Pending,
            Self::Missing => Fact::Missing,
        }
    }
}

/// What carries the payload. The chain's configuration says which; nothing is sniffed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Judged per request.
    Http,
    /// The first bytes are a ClientHello.
    Tls,
    /// Opaque bytes.
    Tcp,
    /// For the node guard; no gateway fact ever carries it.
    Udp,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 4] = [Self::Http, Self::Tls, Self::Tcp, Self::Udp];

    /// The word that the policy file uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// The protocol of a word that the policy file uses.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

/// A workload's SPIFFE id in Istio's form, `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId<'a> {
    /// Trust domain.
    pub trust_domain: &'a str,
    /// Kubernetes namespace.
    pub namespace: &'a str,
    /// Kubernetes service account.
    pub service_account: &'a str,
}

impl<'a> SpiffeId<'a> {
    /// Parses one URI SAN.
    ///
    /// # Errors
    /// [`ReasonCode::IdentityMalformed`] for everything outside the form. A NUL, a percent escape or an
    /// extra segment is outside it.
    pub fn parse(uri: &'a [u8]) -> Result<Self, ReasonCode> {
        let text = std::str::from_utf8(uri).map_err(|_| ReasonCode::IdentityMalformed)?;
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or(ReasonCode::IdentityMalformed)?;
        let mut parts = rest.split('/');
        let mut next = || parts.next().ok_or(ReasonCode::IdentityMalformed);
        let (trust_domain, ns, namespace, sa, service_account) =
            (next()?, next()?, next()?, next()?, next()?);
        let well_formed = parts.next().is_none()
            && ns == "ns"
            && sa == "sa"
            && [trust_domain, namespace, service_account]
                .into_iter()
                .all(is_spiffe_segment);
        if well_formed {
            Ok(Self {
                trust_domain,
                namespace,
                service_account,
            })
        } else {
            Err(ReasonCode::IdentityMalformed)
        }
    }
}

/// SPIFFE-ID §2: letters, digits, `.`, `-`, `_`; a segment is not empty, `.` or `..`.
pub(crate) fn is_spiffe_segment(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Who the connection proved to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// mTLS with this identity.
    Workload(SpiffeId<'a>),
    /// TLS without a client certificate: the known fact that there is no identity.
    NoCertificate,
    /// No TLS at all.
    Plaintext,
    /// A certificate that names no single workload. Denied whatever the rules say.
    Malformed,
}

impl<'a> Caller<'a> {
    /// The caller of a verified client certificate with these URI SANs.
    pub fn from_uri_sans(sans: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut sans = sans.into_iter();
        match (sans.next(), sans.next()) {
            (Some(uri), None) => SpiffeId::parse(uri).map_or(Self::Malformed, Self::Workload),
            _ => Self::Malformed,
        }
    }

    /// The proven workload, if there is one.
    #[must_use]
    pub const fn workload(self) -> Option<SpiffeId<'a>> {
        match self {
            Self::Workload(id) => Some(id),
            Self::NoCertificate | Self::Plaintext | Self::Malformed => None,
        }
    }
}

/// What the caller claims of itself by Istio's peer metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims<'a> {
    /// The claimed namespace. Unless it equals the certificate's, nothing here counts.
    pub namespace: &'a str,
    /// The claimed cluster, if any.
    pub cluster: Option<&'a str>,
    /// Labels, at least those that the policies select by and the workload has.
    pub labels: &'a [(&'a str, &'a str)],
}

impl<'a> Claims<'a> {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }
}

/// Where to. The port and the address are those at the outside, not the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationFacts<'a> {
    /// The name (authority, inner SNI, or the host of the route); `Known(None)` where the
    /// destination is an address literal.
    pub name: Fact<Option<&'a Name>>,
    /// Where the gateway really connects.
    pub address: Fact<IpAddr>,
    /// The port there.
    pub port: Fact<u16>,
}

/// The request line of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method, as sent.
    pub method: Fact<&'a str>,
    /// The path as Envoy normalised it.
    pub path: Fact<RequestPath<'a>>,
    /// The token of the Upgrade header or of `:protocol`, lower case; `Known(None)` without one.
    pub upgrade: Fact<Option<&'a str>>,
}

/// Everything that a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// What the port carries.
    pub protocol: Protocol,
    /// Who asks.
    pub caller: Fact<Caller<'a>>,
    /// What the caller claims.
    pub claims: Fact<Claims<'a>>,
    /// Where to.
    pub destination: DestinationFacts<'a>,
    /// The request line; read only where `protocol` is HTTP.
    pub request: Request<'a>,
    /// Seconds since the Unix epoch.
    pub now: Fact<i64>,
    /// A refusal that reading the facts already found: final, whatever the rules say.
    pub refused: Option<ReasonCode>,
}

impl<'a> Facts<'a> {
    /// Facts of which nothing is known yet.
    #[must_use]
    pub const fn pending(protocol: Protocol) -> Self {
        Self {
            protocol,
            caller: Fact::Pending,
            claims: Fact::Pending,
            destination: DestinationFacts {
                name: Fact::Pending,
                address: Fact::Pending,
                port: Fact::Pending,
            },
            request: Request {
                method: Fact::Pending,
                path: Fact::Pending,
                upgrade: Fact::Pending,
            },
            now: Fact::Pending,
            refused: None,
        }
    }

    /// The claims as far as they count: they must not contradict the certificate, and without a
    /// verified identity there is nobody to make them.
    #[must_use]
    pub fn counting_claims(&self) -> Fact<Claims<'a>> {
        match (self.caller, self.claims) {
            (Fact::Known(Caller::Workload(id)), Fact::Known(claims)) => {
                if id.namespace == claims.namespace {
                    Fact::Known(claims)
                } else {
                    Fact::Missing
                }
            }
            (Fact::Known(Caller::Workload(_)), claims) => claims,
            (Fact::Pending, Fact::Known(_) | Fact::Pending) => Fact::Pending,
            (Fact::Pending, Fact::Missing) | (Fact::Known(_) | Fact::Missing, _) => Fact::Missing,
        }
    }
}

#[cfg(test)]
mod tests;
