//! One pass over the request's headers: the request line, and what else this filter looks at.

use egress_policy::contract::{
    LABELS_HEADER, MESH_HEADERS, NAMESPACE_HEADER, PEER_METADATA_HEADER,
};
use egress_policy::facts::Fact;

use crate::claims::ClaimHeaders;
use crate::host::Headers;
use crate::stream_facts::{OwnedPath, RequestLine};

/// Longest method and upgrade token. Longer ones match no rule.
const MAX_TOKEN: usize = 64;

/// What was found.
#[derive(Debug)]
pub struct ParsedHeaders<'h> {
    /// The bytes of `:authority`.
    pub authority: Option<&'h [u8]>,
    /// The request line.
    pub line: RequestLine,
    /// What the caller's sidecar wrote about its workload.
    pub claims: ClaimHeaders<'h>,
    /// Whether the denial should be JSON.
    pub wants_json: bool,
    /// Headers to be removed before the request goes on.
    pub inward: Vec<&'static str>,
}

impl<'h> ParsedHeaders<'h> {
    /// Looks through the headers. Envoy gives names in lower case.
    #[must_use]
    pub fn of(headers: &'h Headers) -> Self {
        let all = |name: &'static str| {
            headers
                .iter()
                .filter(move |(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
                .map(|(_, value)| value)
        };
        let one = |name| at_most_one(all(name));
        let line = RequestLine {
            method: one(":method")
                .known()
                .flatten()
                .and_then(token)
                .map_or(Fact::Missing, |method| Fact::Known(method.to_owned())),
            path: match one(":path") {
                Fact::Known(path) => OwnedPath::parse(path),
                Fact::Pending | Fact::Missing => OwnedPath::Malformed,
            },
            upgrade: upgrade(one("upgrade"), one(":protocol")),
        };
        Self {
            authority: one(":authority").known().flatten(),
            line,
            claims: ClaimHeaders {
                peer_metadata: one(PEER_METADATA_HEADER),
                namespace: one(NAMESPACE_HEADER),
                labels: one(LABELS_HEADER),
            },
            wants_json: all("accept").any(names_json),
            inward: MESH_HEADERS
                .into_iter()
                .filter(|name| all(name).next().is_some())
                .collect(),
        }
    }

    /// Whether this is CONNECT.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(&self.line.method, Fact::Known(method) if method == "CONNECT")
    }
}

fn at_most_one<'h>(mut values: impl Iterator<Item = &'h [u8]>) -> Fact<Option<&'h [u8]>> {
    match (values.next(), values.next()) {
        (value, None) => Fact::Known(value),
        (_, Some(_)) => Fact::Missing,
    }
}

/// RFC 9110 §5.6.2.
fn token(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let well_formed = !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(allowed);
    well_formed.then_some(text)
}

/// The token of the Upgrade header (RFC 9110 §7.8) or of `:protocol` (RFC 8441 §4). A list, or both
/// at once, is not one known thing.
fn upgrade(
    header: Fact<Option<&[u8]>>,
    pseudo_header: Fact<Option<&[u8]>>,
) -> Fact<Option<String>> {
    let (Fact::Known(header), Fact::Known(pseudo_header)) = (header, pseudo_header) else {
        return Fact::Missing;
    };
    match (header, pseudo_header) {
        (None, None) => Fact::Known(None),
        (Some(one), None) | (None, Some(one)) => token(one).map_or(Fact::Missing, |token| {
            Fact::Known(Some(token.to_ascii_lowercase()))
        }),
        (Some(_), Some(_)) => Fact::Missing,
    }
}

/// Whether one Accept header (RFC 9110 §12.5.1) lists JSON with a weight above zero.
fn names_json(accept: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(accept) else {
        return false;
    };
    text.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let json = parts.next().is_some_and(|range| {
            range.eq_ignore_ascii_case("application/json")
                || range.eq_ignore_ascii_case("application/problem+json")
        });
        let refused = parts.any(|part| {
            let weight = part.split_once('=');
            weight.is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("q") && value.bytes().all(|b| b == b'0' || b == b'.')
            })
        });
        json && !refused
    })
}

#[cfg(test)]
mod tests;
