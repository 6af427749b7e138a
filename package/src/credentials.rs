//! Credentials for a registry, as `docker login` and `skopeo login` leave them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    /// A token that is exchanged for others (`identitytoken`).
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
    /// The secret lies with another program.
    #[error("the credentials for {0} are kept by `docker-credential-{1}`, which is not asked")]
    Helper(String, String),
}

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
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

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

/// The credentials for a registry in the text of such a file.
///
/// # Errors
/// If the file is malformed, or names a helper that keeps them.
pub fn find(
    file: &str,
    text: &str,
    registry: &str,
) -> Result<Option<Credentials>, CredentialsError> {
    let malformed = |reason: String| CredentialsError::Malformed(file.to_owned(), reason);
    let read: File = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let host = |key: &str| {
        let key = key
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        key.split('/').next().unwrap_or_default().to_owned()
    };
    // Docker Hub's key is the address of an interface that it no longer has.
    let names = match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            vec!["docker.io", "index.docker.io"]
        }
        registry => vec![registry],
    };
    let mut entries = read.auths.iter();
    let entry = entries.find(|(key, _)| names.contains(&host(key).as_str()));
    if let Some((_, entry)) = entry
        && let Some(found) = entry.credentials().map_err(malformed)?
    {
        return Ok(Some(found));
    }
    let helper = read.cred_helpers.get(registry).or_else(|| {
        // A store holds what has an entry without a secret.
        entry.and(read.creds_store.as_ref())
    });
    match helper {
        Some(helper) => Err(CredentialsError::Helper(
            registry.to_owned(),
            helper.clone(),
        )),
        None => Ok(None),
    }
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::Registry(token)));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::Identity(token)));
        }
        if let (Some(user), Some(password)) = (given(&self.username), given(&self.password)) {
            return Ok(Some(Credentials::Basic { user, password }));
        }
        let Some(auth) = given(&self.auth) else {
            return Ok(None);
        };
        let plain = STANDARD.decode(auth).map_err(|_| "`auth` is no base64")?;
        let plain = String::from_utf8(plain).map_err(|_| "`auth` is no UTF-8")?;
        let (user, password) = plain.split_once(':').ok_or("`auth` is no USER:PASSWORD")?;
        Ok(Some(Credentials::Basic {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
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
            (r#"{"credsStore":"desktop"}"#, "r.example", None),
        ] {
            assert_eq!(find("f", text, registry), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for (text, expected) in [
            ("{", "f is no file of registry credentials"),
            (
                r#"{"auths":{"r.example":{"auth":"*"}}}"#,
                "`auth` is no base64",
            ),
            (
                r#"{"auths":{"r.example":{"auth":"dQ=="}}}"#,
                "`auth` is no USER:PASSWORD",
            ),
            (
                r#"{"auths":{"r.example":{}},"credsStore":"desktop"}"#,
                "docker-credential-desktop",
            ),
            (
                r#"{"credHelpers":{"r.example":"gcr"}}"#,
                "docker-credential-gcr",
            ),
        ] {
            let error = find("f", text, "r.example").unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let secret = basic("u", "secret");
        assert!(!format!("{secret:?}").contains("secret"));
    }
}
