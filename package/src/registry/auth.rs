//! Being let in: `Basic`, or a `Bearer` token from the service that the registry names
//! (distribution's token specification).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{Method, Request, StatusCode};

use super::{PushError, Registry, read, unsent};
use crate::credentials::Credentials;

/// Why there is no way in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAccess {
    /// Nothing to show.
    #[error("{0} wants credentials and there are none: `docker login {0}`, or --registry-config")]
    NoCredentials(String),
    /// A way that is not spoken here.
    #[error("{0} asks for credentials in no way that is known here")]
    Unknown(String),
    /// A token service that must not be told any secret.
    #[error("the token service `{0}` is not reached over TLS")]
    Insecure(String),
    /// The token service says no.
    #[error("the token service {0} answers {1}")]
    Refused(String, StatusCode),
}

/// One challenge of a `WWW-Authenticate` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from `realm`; `service` is optional (distribution's token specification).
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a challenge (RFC 9110 §11.6.1) of the two kinds that registries use.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, parameters) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        Some(Self::Bearer {
            realm: parameter(parameters, "realm")?,
            service: parameter(parameters, "service"),
        })
    }
}

fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key
            .trim_start_matches([',', ' '])
            .trim()
            .eq_ignore_ascii_case(name)
        {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// The value of an `Authorization` header that answers one of these challenges.
    pub(super) fn authorize(&self, challenges: &[Challenge]) -> Result<String, PushError> {
        let host = self.reference.registry().to_owned();
        if let Some(Credentials::Registry(token)) = &self.access.credentials {
            return Ok(format!("Bearer {token}"));
        }
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service.as_deref())),
            Challenge::Basic => None,
        });
        if let Some((realm, service)) = bearer {
            return self.token(realm, service);
        }
        if !challenges.contains(&Challenge::Basic) {
            return Err(NoAccess::Unknown(host).into());
        }
        match &self.access.credentials {
            Some(Credentials::Basic { user, password }) => Ok(basic(user, password)),
            Some(_) | None => Err(NoAccess::NoCredentials(host).into()),
        }
    }

    /// A token for pulling from and pushing to this repository.
    fn token(&self, realm: &str, service: Option<&str>) -> Result<String, PushError> {
        let secure = realm.starts_with("https://");
        let plain = realm.starts_with("http://") && self.base.starts_with("http://");
        if !secure && !plain {
            return Err(NoAccess::Insecure(realm.to_owned()).into());
        }
        let scope = format!("repository:{}:pull,push", self.reference.name());
        let service =
            service.map_or_else(String::new, |name| format!("service={}&", encoded(name)));
        let asked = format!("{service}scope={}", encoded(&scope));
        let request = match &self.access.credentials {
            Some(Credentials::Identity(token)) => {
                let form = format!(
                    "grant_type=refresh_token&{asked}&client_id=warden&refresh_token={}",
                    encoded(token)
                );
                Request::builder()
                    .method(Method::POST)
                    .uri(realm)
                    .header("Content-Type", "application/x-www-form-urlencoded")
                    .body(form.into_bytes())
            }
            credentials => {
                let separator = if realm.contains('?') { '&' } else { '?' };
                let url = format!("{realm}{separator}{asked}");
                let mut request = Request::builder().method(Method::GET).uri(url);
                if let Some(Credentials::Basic { user, password }) = credentials {
                    request = request.header("Authorization", basic(user, password));
                }
                request.body(Vec::new())
            }
        };
        let answer = request
            .map_err(ureq::Error::from)
            .and_then(|request| self.agent.run(request));
        let answer = answer.map_err(|source| unsent(realm.to_owned(), realm, source))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(NoAccess::Refused(realm.to_owned(), status).into());
        }
        let unreadable = |reason: String| PushError::Unreadable {
            what: realm.to_owned(),
            reason,
        };
        let token: Token = serde_json::from_slice(&read(answer, realm)?)
            .map_err(|error| unreadable(error.to_string()))?;
        token
            .token
            .or(token.access_token)
            .map(|token| format!("Bearer {token}"))
            .ok_or_else(|| unreadable("no token".to_owned()))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Percent-encodes what is not unreserved (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (text, expected) in [
            ("Basic realm=\"r\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.example/token\",service=\"r.example\",scope=\"repository:a:pull,push\"",
                bearer("https://auth.example/token", Some("r.example")),
            ),
            (
                "bearer scope=\"a,b=c\", service=r.example, realm=\"https://auth.example/\"",
                bearer("https://auth.example/", Some("r.example")),
            ),
            (
                "Bearer realm=\"https://auth.example/\"",
                bearer("https://auth.example/", None),
            ),
            ("Bearer service=\"r.example\"", None),
            ("Bearer realm=\"unclosed", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_goes_into_a_query_is_encoded() {
        assert_eq!(
            encoded("repository:a/b:pull,push"),
            "repository%3Aa%2Fb%3Apull%2Cpush"
        );
    }
}
