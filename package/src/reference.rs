//! Where an image goes: `REGISTRY/NAME:TAG`.
//!
//! `oci-spec` reads references too, and is not used for these: it knows no IPv6 address as a
//! registry, puts `docker.io` and `latest` where the text has no registry or no tag, and takes
//! letters beyond ASCII for a tag's. A test compares the two.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An image's place in a registry, with a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    name: String,
    tag: String,
}

/// What is wrong with a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl Reference {
    /// Host and port.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The host whose API is asked: Docker Hub answers under another name than its images have.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        match self.registry.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            registry => registry,
        }
    }

    /// Whether the registry is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let (registry, end) = match self.registry.strip_prefix('[') {
            Some(rest) => (rest, ']'),
            None => (self.registry.as_str(), ':'),
        };
        let host = registry.split_once(end).map_or(registry, |(host, _)| host);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}:{}", self.registry, self.name, self.tag)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| ReferenceError {
            text: text.to_owned(),
            reason,
        };
        let plain = text.strip_prefix("oci://").unwrap_or(text);
        let (registry, rest) = plain
            .split_once('/')
            .ok_or_else(|| wrong("expected REGISTRY/NAME:TAG"))?;
        let host = registry.contains(['.', ':']) || registry == "localhost";
        let plain_host =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if !host || !registry.chars().all(plain_host) {
            return Err(wrong("the registry's host comes first"));
        }
        let (name, tag) = rest
            .rsplit_once(':')
            .ok_or_else(|| wrong("the tag is missing"))?;
        if !name.split('/').all(is_component) {
            return Err(wrong(
                "a name is lower-case letters, digits and `.`, `_`, `-` between them",
            ));
        }
        if !is_tag(tag) {
            return Err(wrong(
                "a tag is at most 128 letters, digits, `_`, `.` and `-`",
            ));
        }
        Ok(Self {
            registry: registry.to_owned(),
            name: name.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

/// OCI distribution specification, "Pulling manifests":
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator =
        |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    text.starts_with(plain) && text.ends_with(plain) && text.split(plain).all(separator)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (text, registry, name, tag, loopback) in [
            (
                "registry.example/egress-warden:0.1.0",
                "registry.example",
                "egress-warden",
                "0.1.0",
                false,
            ),
            (
                "oci://127.0.0.1:5000/a/b:latest",
                "127.0.0.1:5000",
                "a/b",
                "latest",
                true,
            ),
            (
                "r.example/a.b_c__d---e/f:_1.-",
                "r.example",
                "a.b_c__d---e/f",
                "_1.-",
                false,
            ),
            ("localhost:5000/a:1", "localhost:5000", "a", "1", true),
            ("[::1]:5000/a:1", "[::1]:5000", "a", "1", true),
            (
                "localhost.evil.example/a:1",
                "localhost.evil.example",
                "a",
                "1",
                false,
            ),
            (
                "127.0.0.1.evil.example/a:1",
                "127.0.0.1.evil.example",
                "a",
                "1",
                false,
            ),
        ] {
            let read: Reference = text.parse().unwrap();
            let parts = (read.registry(), read.name(), read.tag());
            assert_eq!(parts, (registry, name, tag));
            match read
                .to_string()
                .parse::<oci_spec::distribution::Reference>()
            {
                Ok(same) => assert_eq!(
                    parts,
                    (same.registry(), same.repository(), same.tag().unwrap())
                ),
                Err(_) => assert!(registry.starts_with('['), "{text}"),
            }
            assert_eq!(read.is_loopback(), loopback, "{text}");
            assert_eq!(read.to_string(), text.trim_start_matches("oci://"));
        }
    }

    #[test]
    fn what_is_no_reference() {
        // `oci-spec` takes these.
        for text in [
            "egress-warden:1",
            "library/egress-warden:1",
            "registry.example/egress-warden",
            "registry.example/a:\u{e9}",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
            let other = text.parse::<oci_spec::distribution::Reference>();
            assert!(other.is_ok(), "{text}");
        }
        for text in [
            "",
            "registry.example/:1",
            "registry.example/Upper:1",
            "registry.example/a//b:1",
            "registry.example/a..b:1",
            "registry.example/a.-b:1",
            "registry.example/a___b:1",
            "registry.example/-a:1",
            "registry.example/a-:1",
            "registry.example/a:.1",
            "registry.example/a:b c",
            "registry.example/../a:1",
            "user@registry.example/a:1",
            "https://registry.example/a:1",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
            let other = text.parse::<oci_spec::distribution::Reference>();
            assert!(other.is_err(), "{text}");
        }
    }
}
