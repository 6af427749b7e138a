//! Why an image was not pushed, and what to do about it.

use rustls::CertificateError;
use ureq::http::StatusCode;

use super::auth::NoAccess;

/// Why an image was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry could not be asked.
    #[error("{what}: {source}")]
    Transport {
        /// What was asked.
        what: String,
        /// Why not.
        source: Box<ureq::Error>,
    },
    /// The registry does not show that it is the registry.
    #[error("{registry} is not trusted: {}", said(.cause))]
    Untrusted {
        /// Its host and port.
        registry: String,
        /// What is wrong with its certificate.
        cause: CertificateError,
    },
    /// The registry answers, and not in TLS.
    #[error("{0} does not speak TLS")]
    NoTls(String),
    /// It answered otherwise than it should.
    #[error("{what}: {status}{message}")]
    Refused {
        /// What was asked.
        what: String,
        /// The answer.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// It answered with something that is not what it should be, or is cut off.
    #[error("{what}: the answer cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of what refers to the image cannot be written.
    #[error("the list of referrers cannot be written: {0}")]
    Unwritten(#[source] std::io::Error),
    /// No way to be let in.
    #[error(transparent)]
    NoAccess(#[from] NoAccess),
    /// The registry keeps something else than it was given.
    #[error("the registry says {found} where {expected} was pushed")]
    Changed {
        /// What was pushed.
        expected: String,
        /// What it says that it has.
        found: String,
    },
    /// The registry does not say where an upload goes.
    #[error("the registry gives no place to upload to: its answer has no `Location`")]
    NoLocation,
    /// The registry sends uploads to a place where they must not go.
    #[error("the registry gives no usable place to upload to: `{0}`")]
    Location(String),
    /// No certificates in the file of trusted authorities.
    #[error("no certificates: {0}")]
    Authorities(String),
}

impl PushError {
    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Untrusted { cause, .. } => match cause {
                CertificateError::UnknownIssuer => Some(
                    "`--ca FILE` is the certificate (PEM) of the authority that signs the \
                     registry's; without it the public ones are trusted, with it no others",
                ),
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    Some("push to a name that the registry's certificate has")
                }
                _ => None,
            },
            Self::NoTls(_) => Some(
                "`--plain-http` pushes without TLS, where nobody on the way can change anything",
            ),
            Self::Authorities(_) => Some("PEM: a text with `-----BEGIN CERTIFICATE-----`"),
            Self::Transport { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. }
            | Self::Unwritten(_)
            | Self::NoAccess(_)
            | Self::Changed { .. }
            | Self::NoLocation
            | Self::Location(_) => None,
        }
    }
}

/// What is wrong with a certificate, for people.
fn said(cause: &CertificateError) -> String {
    match cause {
        CertificateError::UnknownIssuer => {
            "no trusted authority has signed its certificate".to_owned()
        }
        other => other.to_string(),
    }
}

/// Why something could not be asked.
pub(super) fn unsent(what: String, url: &str, source: ureq::Error) -> PushError {
    let tls = match &source {
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        ureq::Error::Rustls(error) => Some(error),
        _ => None,
    };
    // Uploads may go to another host than the registry's own.
    let registry = url.split('/').nth(2).unwrap_or(url).to_owned();
    match tls {
        Some(rustls::Error::InvalidCertificate(cause)) => PushError::Untrusted {
            registry,
            cause: cause.clone(),
        },
        Some(rustls::Error::InvalidMessage(_)) => PushError::NoTls(registry),
        _ => PushError::Transport {
            what,
            source: Box::new(source),
        },
    }
}
