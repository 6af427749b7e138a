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

fn feed(node: &impl Node, hasher: &mut Sha256) -> Result<(), String> {
    match node.shape()? {
        Shape::Null => hasher.update(b"null"),
        Shape::Bool(value) => hasher.update(if value { b"true".as_slice() } else { b"false" }),
        Shape::Number(text) => hasher.update(text.as_bytes()),
        Shape::Text(text) => feed_text(&text, hasher)?,
        Shape::List(items) => {
            hasher.update(b"[");
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    hasher.update(b",");
                }
                feed(item, hasher)?;
            }
            hasher.update(b"]");
        }
        Shape::Map(mut pairs) => {
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            hasher.update(b"{");
            for (i, (key, value)) in pairs.iter().enumerate() {
                if i > 0 {
                    hasher.update(b",");
                }
                feed_text(key, hasher)?;
                hasher.update(b":");
                feed(value, hasher)?;
            }
            hasher.update(b"}");
        }
    }
    Ok(())
}

fn feed_text(text: &str, hasher: &mut Sha256) -> Result<(), String> {
    let quoted = serde_json::to_string(text).map_err(|error| error.to_string())?;
    hasher.update(quoted.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
