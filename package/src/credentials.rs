//! Credentials for a registry, as `docker login`, `skopeo login` and the cloud providers' helpers
//! leave them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;

/// Who to be at a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others (`identitytoken`, or a helper's `<token>`).
    Identity(String),
    /// A token for the registry itself (`registrytoken`).
    Registry(String),
}

/// Never the secret itself: this ends up in messages.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials")
    }
}

/// Why there are no credentials where there should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CredentialsError {
    /// The file is of another form.
    #[error("{0} is no file of registry credentials: {1}")]
    Malformed(String, String),
    /// The program that keeps the secret does not hand it out.
    #[error("`{program}`, which keeps the credentials for {registry}, {problem}")]
    Helper {
        /// The registry.
        registry: String,
        /// The program's name.
        program: String,
        /// What it did instead.
        problem: String,
    },
}

impl CredentialsError {
    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Malformed(..) => None,
            Self::Helper { program, .. } => Some(format!(
                "`{program} get`, run by hand, reads the registry's name from standard input"
            )),
        }
    }
}

/// How long a credential helper may take: it may have to sign in over the network, or ask a person
/// for a passphrase.
pub const HELPER_LIMIT: Duration = Duration::from_mins(1);

/// What is read here of such a file; the rest is `docker_credential`'s.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    registrytoken: Option<String>,
}

/// What a helper says that has nothing (`docker-credential-helpers`, `credentials/error.go`). The
/// providers' own helpers say it too, some with more around it.
const NOTHING_KEPT: &str = "credentials not found";

/// How much of what a helper says is repeated.
const MAX_MESSAGE: usize = 300;

/// Where credentials are looked for: what the variable `REGISTRY_AUTH_FILE` names, then Docker's
/// file (the folder `DOCKER_CONFIG`, else `~/.docker`).
#[must_use]
pub fn files(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Vec<PathBuf> {
    let named = variable("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let docker = variable("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".docker")))
        .map(|folder| folder.join("config.json"));
    named.into_iter().chain(docker).collect()
}

/// The credentials for a registry by the text of such a file: those in it, or those that the
/// helper has that it names (`credHelpers`, `credsStore`), a program `docker-credential-NAME` on
/// PATH. A helper that takes longer than `limit` is left behind.
///
/// # Errors
/// If the file is malformed, or the helper does not answer.
pub fn find(
    file: &str,
    text: &str,
    registry: &str,
    limit: Duration,
) -> Result<Option<Credentials>, CredentialsError> {
    let malformed = |reason: String| CredentialsError::Malformed(file.to_owned(), reason);
    let read: File = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    for name in names(registry) {
        // Which the library does not know.
        let token = read
            .auths
            .get(name)
            .and_then(|entry| entry.registrytoken.as_ref());
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::Registry(token.clone())));
        }
        let helper = [read.cred_helpers.get(name), read.creds_store.as_ref()]
            .into_iter()
            .flatten()
            .find(|helper| !helper.is_empty());
        let refused = |problem: String| CredentialsError::Helper {
            registry: registry.to_owned(),
            program: format!("docker-credential-{}", helper.map_or("", String::as_str)),
            problem,
        };
        let Some(found) = retrieve(text, name, limit) else {
            return Err(refused(format!(
                "does not answer within {} s",
                limit.as_secs()
            )));
        };
        match found {
            Ok(DockerCredential::IdentityToken(token)) => {
                return Ok(Some(Credentials::Identity(token)));
            }
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(Some(Credentials::Basic { user, password }));
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            // `"credsStore": ""` means no store; the library looks for a program without a name.
            Err(CredentialRetrievalError::HelperCommunicationError) if helper.is_none() => {}
            Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. }) => {
                let said = format!("{stdout} {stderr}");
                if !said.contains(NOTHING_KEPT) {
                    return Err(refused(format!("fails: {}", line(&said))));
                }
            }
            Err(CredentialRetrievalError::HelperCommunicationError) => {
                return Err(refused(
                    "is not on PATH, does not start, or does not read what it is asked".to_owned(),
                ));
            }
            Err(CredentialRetrievalError::MalformedHelperResponse) => {
                return Err(refused("answers no `Username` and `Secret`".to_owned()));
            }
            Err(CredentialRetrievalError::CredentialDecodingError) => {
                return Err(malformed("`auth` is no base64 of USER:PASSWORD".to_owned()));
            }
            Err(
                error @ (CredentialRetrievalError::CredentialMismatchError
                | CredentialRetrievalError::ConfigNotFound
                | CredentialRetrievalError::ConfigReadError),
            ) => return Err(malformed(error.to_string())),
        }
    }
    Ok(None)
}

/// What the library finds, unless the helper that it runs takes too long: the library waits for it.
fn retrieve(
    text: &str,
    name: &str,
    limit: Duration,
) -> Option<Result<DockerCredential, CredentialRetrievalError>> {
    let (sender, receiver) = mpsc::channel();
    let (text, name) = (text.to_owned(), name.to_owned());
    thread::spawn(move || {
        let found = docker_credential::get_credential_from_reader(text.as_bytes(), &name);
        // Whoever does not wait any more does not want it.
        let _ = sender.send(found);
    });
    match receiver.recv_timeout(limit) {
        Ok(found) => Some(found),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            Some(Err(CredentialRetrievalError::MalformedHelperResponse))
        }
    }
}

/// What a registry is called in such files, and by helpers. Docker Hub's key is the address of an
/// interface that it no longer has.
fn names(registry: &str) -> Vec<&str> {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            vec!["https://index.docker.io/v1/", "docker.io"]
        }
        registry => vec![registry],
    }
}

/// The first words of what a program says, in a line.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_MESSAGE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn credentials_of_a_registry() {
        for (text, registry, expected) in [
            ("{}", "r.example", None),
            (r#"{"credsStore":"","credHelpers":{}}"#, "r.example", None),
            (r#"{"credHelpers":{"r.example":""}}"#, "r.example", None),
            (
                r#"{"auths":{"r.example":{"auth":"dTpwOnE="}}}"#,
                "r.example",
                Some(basic("u", "p:q")),
            ),
            (
                r#"{"auths":{"https://r.example/v2/":{"auth":"dTpw"}}}"#,
                "r.example",
                Some(basic("u", "p")),
            ),
            (
                r#"{"auths":{"r.example:5000":{"auth":"dTpw"}}}"#,
                "r.example",
                None,
            ),
            (
                r#"{"auths":{"other.example":{"auth":"dTpw"}}}"#,
                "r.example",
                None,
            ),
            (
                r#"{"auths":{"r.example":{"username":"u","password":"p"}}}"#,
                "r.example",
                Some(basic("u", "p")),
            ),
            (
                r#"{"auths":{"r.example":{"auth":"dTpw","identitytoken":"t"}}}"#,
                "r.example",
                Some(Credentials::Identity("t".to_owned())),
            ),
            (
                r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#,
                "docker.io",
                Some(basic("u", "p")),
            ),
            (
                r#"{"auths":{"docker.io":{"auth":"dTpw"}}}"#,
                "registry-1.docker.io",
                Some(basic("u", "p")),
            ),
            (
                r#"{"auths":{"r.example":{"auth":"dTpw","registrytoken":"t"}}}"#,
                "r.example",
                Some(Credentials::Registry("t".to_owned())),
            ),
        ] {
            assert_eq!(
                find("f", text, registry, HELPER_LIMIT),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for (text, expected) in [
            ("{", "f is no file of registry credentials"),
            (
                r#"{"auths":{"r.example":{"auth":"*"}}}"#,
                "`auth` is no base64 of USER:PASSWORD",
            ),
            (
                r#"{"auths":{"r.example":{"auth":"dQ=="}}}"#,
                "`auth` is no base64 of USER:PASSWORD",
            ),
            (
                r#"{"auths":{"r.example":{"auth":"dTpw","username":"v","password":"p"}}}"#,
                "does not match",
            ),
            (
                r#"{"auths":{"r.example":{}},"credsStore":"that-is-not-there"}"#,
                "`docker-credential-that-is-not-there`, which keeps the credentials for r.example, is not on PATH",
            ),
            (
                r#"{"credHelpers":{"r.example":"nor-this"},"auths":{"r.example":{"auth":"dTpw"}}}"#,
                "`docker-credential-nor-this`",
            ),
        ] {
            let error = find("f", text, "r.example", HELPER_LIMIT).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let secret = basic("u", "secret");
        assert!(!format!("{secret:?}").contains("secret"));
    }
}
