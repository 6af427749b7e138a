//! Canonical JSON and its hash: one policy, one name, however it was indented or quoted.

use sha2::{Digest, Sha256};

use crate::tree::{Node, Shape};

/// SHA-256 over the document's canonical JSON: keys sorted by their bytes, no white space, texts
/// escaped as `serde_json` does, numbers as written.
///
/// # Errors
/// A message where the document cannot be read.
pub fn hash(document: &impl Node) -> Result<[u8; 32], String> {
    let mut hasher = Sha256::new();
    feed(document, &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// The canonical JSON itself, whose plain SHA-256 is [`hash`].
///
/// # Errors
/// As [`hash`].
pub fn text(document: &impl Node) -> Result<String, String> {
    let mut bytes = Vec::new();
    feed(document, &mut bytes)?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// SHA-256 over bytes as they are, as lower-case hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What takes the canonical form, piece by piece.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Sha256 {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Whether this is what [`digest`] writes.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.bytes().all(digit)
}

/// The first 48 bits of what [`digest`] writes, and 0 of anything else: a number that metrics
/// systems, which count in doubles, keep.
#[must_use]
pub fn short(digest: &str) -> u64 {
    digest
        .get(..12)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or_default()
}

/// A hash as lower-case hexadecimal.
#[must_use]
pub fn hex(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter()
        .fold(String::with_capacity(hash.len() * 2), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn feed(node: &impl Node, sink: &mut impl Sink) -> Result<(), String> {
    match node.shape()? {
        Shape::Null => sink.put(b"null"),
        Shape::Bool(value) => sink.put(if value { b"true".as_slice() } else { b"false" }),
        Shape::Number(text) => sink.put(text.as_bytes()),
        Shape::Text(text) => feed_text(&text, sink)?,
        Shape::List(items) => {
            sink.put(b"[");
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    sink.put(b",");
                }
                feed(item, sink)?;
            }
            sink.put(b"]");
        }
        Shape::Map(mut pairs) => {
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            sink.put(b"{");
            for (i, (key, value)) in pairs.iter().enumerate() {
                if i > 0 {
                    sink.put(b",");
                }
                feed_text(key, sink)?;
                sink.put(b":");
                feed(value, sink)?;
            }
            sink.put(b"}");
        }
    }
    Ok(())
}

fn feed_text(text: &str, sink: &mut impl Sink) -> Result<(), String> {
    let quoted = serde_json::to_string(text).map_err(|error| error.to_string())?;
    sink.put(quoted.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
