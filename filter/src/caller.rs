//! Who the connection comes from, by its certificate alone.

use egress_policy::contract::PRINCIPAL;
use egress_policy::facts::{Caller, Fact, SpiffeId};

use crate::host::{Host, HostError};

/// Filter state that the gateway's configuration may fill with every URI SAN of the certificate
/// (`%DOWNSTREAM_PEER_URI_SAN%`, joined by commas).
///
/// The attribute `connection.uri_san_peer_certificate` holds only the first, so a second one is
/// seen through this key alone. In an internal listener, whose own connection has no certificate,
/// it is what the outer chain shared.
const ALL_URI_SANS: &[&str] = &["filter_state", PRINCIPAL];
const FIRST_URI_SAN: &[&str] = &["connection", "uri_san_peer_certificate"];
const MTLS: &[&str] = &["connection", "mtls"];
const TLS_VERSION: &[&str] = &["connection", "tls_version"];

/// A caller, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// mTLS; the one URI SAN, well-formed.
    Workload(Box<str>),
    /// TLS without a client certificate.
    NoCertificate,
    /// No TLS.
    Plaintext,
    /// A certificate that names no single workload.
    Malformed,
}

impl Identity {
    /// The identity of a certificate with these URI SANs.
    pub fn from_uri_sans<'a>(sans: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut only = None;
        let sans = sans.into_iter().inspect(|san| only = Some(*san));
        match Caller::from_uri_sans(sans) {
            Caller::Workload(_) => only
                .and_then(|uri| std::str::from_utf8(uri).ok())
                .map_or(Self::Malformed, |uri| Self::Workload(uri.into())),
            Caller::NoCertificate | Caller::Plaintext | Caller::Malformed => Self::Malformed,
        }
    }

    /// As the engine's fact.
    #[must_use]
    pub fn caller(&self) -> Caller<'_> {
        match self {
            Self::Workload(uri) => {
                SpiffeId::parse(uri.as_bytes()).map_or(Caller::Malformed, Caller::Workload)
            }
            Self::NoCertificate => Caller::NoCertificate,
            Self::Plaintext => Caller::Plaintext,
            Self::Malformed => Caller::Malformed,
        }
    }

    /// For logs and denials.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Workload(uri) => uri,
            Self::NoCertificate => "without certificate",
            Self::Plaintext => "without mTLS",
            Self::Malformed => "malformed identity",
        }
    }
}

/// Reads the identity of the current connection once its handshake is complete. What cannot be
/// read stays unknown.
pub fn identity(host: &impl Host) -> Fact<Identity> {
    read(host).map_or(Fact::Missing, Fact::Known)
}

/// Reads the identity if the certificate is known by now.
pub fn identity_so_far(host: &impl Host) -> Fact<Identity> {
    match certificate(host) {
        Ok(Some(identity)) => Fact::Known(identity),
        Ok(None) => Fact::Pending,
        Err(HostError) => Fact::Missing,
    }
}

fn certificate(host: &impl Host) -> Result<Option<Identity>, HostError> {
    if let Some(all) = present(host.property(ALL_URI_SANS)?) {
        return Ok(Some(Identity::from_uri_sans(all.split(|b| *b == b','))));
    }
    let first = present(host.property(FIRST_URI_SAN)?);
    Ok(first.map(|uri| Identity::from_uri_sans([uri.as_slice()])))
}

fn read(host: &impl Host) -> Result<Identity, HostError> {
    if let Some(identity) = certificate(host)? {
        return Ok(identity);
    }
    if boolean(host.property(MTLS)?.as_deref())? {
        // A certificate was presented, and it names nobody.
        return Ok(Identity::Malformed);
    }
    Ok(match present(host.property(TLS_VERSION)?) {
        Some(_) => Identity::NoCertificate,
        None => Identity::Plaintext,
    })
}

/// Envoy's formatters write `-` for what is not there.
fn present(value: Option<Vec<u8>>) -> Option<Vec<u8>> {
    value.filter(|bytes| !matches!(bytes.as_slice(), b"" | b"-"))
}

/// Attributes of type bool are one byte.
fn boolean(value: Option<&[u8]>) -> Result<bool, HostError> {
    match value {
        None | Some([0]) => Ok(false),
        Some([1]) => Ok(true),
        Some(_) => Err(HostError),
    }
}

#[cfg(test)]
mod tests;
