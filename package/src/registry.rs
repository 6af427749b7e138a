//! Pushing to a registry, by the OCI distribution specification.

mod auth;
mod error;

use std::time::Duration;

use oci_spec::image::MediaType;
use serde_json::Value;
use ureq::Body;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::credentials::Credentials;
use crate::image::{Blob, Image, canonical};
use crate::layout;
use crate::reference::Reference;

use auth::Challenge;
use error::unsent;

pub use error::PushError;

/// How much of an answer is read: indexes and error messages.
const MAX_ANSWER: u64 = 4 << 20;
/// How much of an error message is repeated.
const MAX_MESSAGE: usize = 300;

/// How a registry is reached.
#[derive(Debug, Default)]
pub struct Access {
    /// Who to be there.
    pub credentials: Option<Credentials>,
    /// Without TLS. A registry on this machine is reached so in any case.
    pub plain_http: bool,
    /// PEM certificates of the authorities to trust, instead of the public ones.
    pub authorities: Option<Vec<u8>>,
}

/// One repository of a registry.
pub struct Registry {
    agent: ureq::Agent,
    reference: Reference,
    /// Scheme, host and port.
    base: String,
    access: Access,
    authorization: Option<String>,
}

impl Registry {
    /// A repository. Nothing is asked yet.
    ///
    /// # Errors
    /// If the authorities to trust are no certificates.
    pub fn new(reference: Reference, access: Access) -> Result<Self, PushError> {
        let plain = access.plain_http || reference.is_loopback();
        let scheme = if plain { "http" } else { "https" };
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &access.authorities {
            tls = tls.root_certs(RootCerts::from(certificates(pem)?));
        }
        let mut config = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .https_only(!plain)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_per_call(Some(Duration::from_mins(5)))
            .user_agent(concat!("egress-warden/", env!("CARGO_PKG_VERSION")));
        if reference.is_loopback() {
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().into(),
            base: format!("{scheme}://{}", reference.endpoint()),
            reference,
            access,
            authorization: None,
        })
    }

    /// Pushes an image under its tag, and what refers to it. `progress` is told each step.
    ///
    /// # Errors
    /// Whatever keeps any of it from being there in the end.
    pub fn push(
        &mut self,
        image: &Image,
        referrers: &[Image],
        mut progress: impl FnMut(&str),
    ) -> Result<(), PushError> {
        for blob in &image.blobs {
            self.put_blob(blob)?;
            progress(&format!(
                "{} ({} KiB)",
                blob.digest(),
                blob.bytes().len() / 1024
            ));
        }
        let tag = self.reference.tag().to_owned();
        self.put_manifest(&image.manifest, &tag)?;
        progress(&format!(
            "{} as {}",
            image.manifest.digest(),
            self.reference
        ));
        for referrer in referrers {
            for blob in &referrer.blobs {
                self.put_blob(blob)?;
            }
            let digest = referrer.manifest.digest().to_owned();
            if !self.put_manifest(&referrer.manifest, &digest)? {
                self.list_referrer(image, referrer)?;
            }
            progress(&format!("{digest}, which refers to it"));
        }
        Ok(())
    }

    /// "Pushing a blob monolithically", by POST, then PUT.
    fn put_blob(&mut self, blob: &Blob) -> Result<(), PushError> {
        let there = self.url(&format!("blobs/{}", blob.digest()));
        if self.send(Method::HEAD, &there, &[], &[])?.status() == StatusCode::OK {
            return Ok(());
        }
        let uploads = self.url("blobs/uploads/");
        let started = self.send(Method::POST, &uploads, &[], &[])?;
        let started = expect(started, &[StatusCode::ACCEPTED], "an upload")?;
        let location = self.location(&started)?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let location = format!("{location}{separator}digest={}", blob.digest());
        let kind = [("Content-Type", "application/octet-stream")];
        let answer = self.send(Method::PUT, &location, &kind, blob.bytes())?;
        expect(answer, &[StatusCode::CREATED], blob.digest()).map(drop)
    }

    /// Whether the registry lists what refers to others by itself.
    fn put_manifest(&mut self, manifest: &Blob, name: &str) -> Result<bool, PushError> {
        self.put_named(
            name,
            manifest.media_type().as_ref(),
            manifest.bytes(),
            manifest.digest(),
        )
    }

    fn put_named(
        &mut self,
        name: &str,
        kind: &str,
        bytes: &[u8],
        digest: &str,
    ) -> Result<bool, PushError> {
        let url = self.url(&format!("manifests/{name}"));
        let answer = self.send(Method::PUT, &url, &[("Content-Type", kind)], bytes)?;
        let answer = expect(answer, &[StatusCode::CREATED], name)?;
        match header(&answer, "Docker-Content-Digest")? {
            Some(found) if found != digest => Err(PushError::Changed {
                expected: digest.to_owned(),
                found,
            }),
            Some(_) | None => Ok(answer.headers().contains_key("OCI-Subject")),
        }
    }

    /// "Referrers Tag Schema": for registries that do not list referrers, the client keeps the
    /// list, under a tag made of the digest. What others have listed stays as it is, with fields
    /// that `oci-spec` does not know: a JSON value, not an `ImageIndex`.
    fn list_referrer(&mut self, image: &Image, referrer: &Image) -> Result<(), PushError> {
        let kind = MediaType::ImageIndex;
        let tag = image.manifest.digest().replace(':', "-");
        let url = self.url(&format!("manifests/{tag}"));
        let answer = self.send(Method::GET, &url, &[("Accept", kind.as_ref())], &[])?;
        let mut listed = if answer.status() == StatusCode::NOT_FOUND {
            Vec::new()
        } else {
            let text = read(expect(answer, &[StatusCode::OK], &tag)?, &url)?;
            // What cannot be read is not written over: it lists what others have signed.
            listed(&text).map_err(|reason| PushError::Unreadable { what: url, reason })?
        };
        let digest = |entry: &Value| {
            entry
                .get("digest")
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let own = referrer.manifest.digest();
        if listed
            .iter()
            .any(|entry| digest(entry).as_deref() == Some(own))
        {
            return Ok(());
        }
        let index = layout::index_of(vec![layout::referrer(referrer)]);
        let index = index.map_err(PushError::Unwritten)?;
        let mut index =
            serde_json::to_value(index).map_err(|error| PushError::Unwritten(error.into()))?;
        if let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) {
            manifests.append(&mut listed);
            manifests.sort_by_cached_key(digest);
        }
        let index = canonical(&index).map_err(PushError::Unwritten)?;
        let kept = format!("sha256:{}", crate::sha256(&index));
        self.put_named(&tag, kind.as_ref(), &index, &kept).map(drop)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.reference.name())
    }

    fn location(&self, answer: &Response<Body>) -> Result<String, PushError> {
        let location = header(answer, "Location")?.ok_or(PushError::NoLocation)?;
        if location.starts_with('/') {
            return Ok(format!("{}{location}", self.base));
        }
        let secure = location.starts_with("https://");
        let plain = location.starts_with("http://") && self.base.starts_with("http://");
        if secure || plain {
            Ok(location)
        } else {
            Err(PushError::Location(location))
        }
    }

    /// Asks, and once more with a token if the registry wants one.
    fn send(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response<Body>, PushError> {
        let answer = self.send_once(method.clone(), url, headers, body)?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.is_own(url) {
            return Ok(answer);
        }
        let challenges: Vec<_> = answer
            .headers()
            .get_all("WWW-Authenticate")
            .iter()
            .filter_map(|value| Challenge::parse(value.to_str().ok()?))
            .collect();
        self.authorization = Some(self.authorize(&challenges)?);
        self.send_once(method, url, headers, body)
    }

    fn send_once(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response<Body>, PushError> {
        let what = format!("{method} {url}");
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // Uploads may go to another host, which has no business with the token.
        if let Some(authorization) = self.authorization.as_ref().filter(|_| self.is_own(url)) {
            request = request.header("Authorization", authorization);
        }
        let sent = request
            .body(body)
            .map_err(ureq::Error::from)
            .and_then(|request| self.agent.run(request));
        sent.map_err(|source| unsent(what, url, source))
    }

    fn is_own(&self, url: &str) -> bool {
        let rest = url.strip_prefix(&self.base);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, PushError> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(PushError::Authorities(error.to_string())),
        }
    }
    if found.is_empty() {
        return Err(PushError::Authorities("the file holds none".to_owned()));
    }
    Ok(found)
}

/// A header's value, if the answer has it.
fn header(answer: &Response<Body>, name: &str) -> Result<Option<String>, PushError> {
    let value = answer.headers().get(name).map(|value| value.to_str());
    match value.transpose() {
        Ok(text) => Ok(text.map(str::to_owned)),
        Err(error) => Err(PushError::Unreadable {
            what: format!("`{name}`"),
            reason: error.to_string(),
        }),
    }
}

fn read(mut answer: Response<Body>, what: &str) -> Result<Vec<u8>, PushError> {
    let body = answer.body_mut().with_config().limit(MAX_ANSWER);
    body.read_to_vec().map_err(|error| PushError::Unreadable {
        what: what.to_owned(),
        reason: error.to_string(),
    })
}

/// What an index lists.
fn listed(text: &[u8]) -> Result<Vec<Value>, String> {
    let index: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match index.get("manifests").and_then(Value::as_array) {
        Some(manifests) => Ok(manifests.clone()),
        None => Err("an index without `manifests`".to_owned()),
    }
}

fn expect(
    answer: Response<Body>,
    wanted: &[StatusCode],
    what: &str,
) -> Result<Response<Body>, PushError> {
    if wanted.contains(&answer.status()) {
        return Ok(answer);
    }
    let status = answer.status();
    let text = match read(answer, what) {
        Ok(text) => text,
        // The status is the news; what went with it is said to be missing.
        Err(error) => format!("what it says cannot be read: {error}").into_bytes(),
    };
    let said: String = String::from_utf8_lossy(&text)
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_MESSAGE)
        .collect();
    Err(PushError::Refused {
        what: what.to_owned(),
        status,
        message: if said.is_empty() {
            said
        } else {
            format!(": {said}")
        },
    })
}

#[cfg(test)]
mod tests;
