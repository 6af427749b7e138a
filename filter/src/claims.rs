//! What the caller's sidecar says of its workload: namespace, cluster, labels.
//!
//! Claims, not proofs. The engine counts them only where the namespace is the certificate's, and a
//! claim that could not be read whole is not known at all: a label that was cut off must not look
//! absent.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use egress_policy::contract::DOWNSTREAM_PEER;
use egress_policy::facts::{Fact, OwnedClaims};
use prost::Message;

use crate::host::{Host, HostError};

/// Longest value of the header that is decoded.
pub const MAX_HEADER: usize = 16 * 1024;
/// Longest single value that counts. Kubernetes allows 63 octets in a label, 253 in a name.
pub const MAX_VALUE: usize = 253;

/// Most labels that are looked through.
pub const MAX_LABELS: usize = 512;

/// Where Istio keeps the peer's metadata: the filter state object of current releases, and the
/// property of older ones, which is filter state `wasm.downstream_peer`.
const OBJECTS: [&[&str]; 2] = [&["filter_state", DOWNSTREAM_PEER], &[DOWNSTREAM_PEER]];

/// Reads the claims that Istio's filters left in filter state. `None` if there are none (yet).
///
/// # Errors
/// [`HostError`] if any part cannot be read, is no text, or is over its cap.
pub fn from_filter_state(
    host: &impl Host,
    label_keys: &[String],
) -> Result<Option<OwnedClaims>, HostError> {
    for object in OBJECTS {
        let read = |fields: &[&str]| -> Result<Option<String>, HostError> {
            let path = [object, fields].concat();
            host.property(&path)?.map(text).transpose()
        };
        let Some(namespace) = read(&["namespace"])? else {
            continue;
        };
        let cluster = read(&["cluster"])?.filter(|cluster| !cluster.is_empty());
        let mut labels = Vec::new();
        for key in label_keys {
            if let Some(value) = read(&["labels", key])? {
                labels.push((key.clone(), value));
            }
        }
        return Ok(Some(OwnedClaims {
            namespace,
            cluster,
            labels,
        }));
    }
    Ok(None)
}

fn text(bytes: Vec<u8>) -> Result<String, HostError> {
    if bytes.len() > MAX_VALUE {
        return Err(HostError);
    }
    String::from_utf8(bytes).map_err(|_| HostError)
}

/// What one header said, where several of a name are not one known thing.
pub type Header<'h> = Fact<Option<&'h [u8]>>;

/// The headers in which claims travel.
#[derive(Clone, Copy, Debug)]
pub struct ClaimHeaders<'h> {
    /// `x-envoy-peer-metadata`, as Istio's sidecars write it for HTTP.
    pub peer_metadata: Header<'h>,
    /// The namespace in plain text, as a sidecar can write it for a tunnel.
    pub namespace: Header<'h>,
    /// The labels beside it.
    pub labels: Header<'h>,
}

/// Reads the claims in the request's headers, in either form; both at once contradict each other.
#[must_use]
pub fn from_headers(headers: ClaimHeaders<'_>, label_keys: &[String]) -> Option<OwnedClaims> {
    let (peer_metadata, namespace, labels) = (
        headers.peer_metadata.known()?,
        headers.namespace.known()?,
        headers.labels.known()?,
    );
    match (peer_metadata, namespace, labels) {
        (Some(value), None, None) => from_peer_metadata(value, label_keys).ok(),
        (None, Some(namespace), labels) => {
            // Without the header no label is listed, and one that rules select by makes this none.
            from_text(namespace, labels.unwrap_or_default(), label_keys)
        }
        (Some(_), _, _) | (None, None, _) => None,
    }
}

/// Decodes base64 of a `google.protobuf.Struct` with `NAMESPACE`, `CLUSTER_ID` and `LABELS`. A key
/// given twice is refused: readers differ over which one counts.
fn from_peer_metadata(value: &[u8], label_keys: &[String]) -> Result<OwnedClaims, Unclear> {
    if value.len() > MAX_HEADER {
        return Err(Unclear);
    }
    // Istio's writers differ over the padding.
    let engine = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes = engine.decode(value).map_err(|_| Unclear)?;
    let peer = Struct::decode(bytes.as_slice()).map_err(|_| Unclear)?;
    let labels = match peer.only("LABELS")? {
        None => Vec::new(),
        Some(Kind::Struct(labels)) => labels.selected(label_keys)?,
        Some(Kind::Text(_)) => return Err(Unclear),
    };
    Ok(OwnedClaims {
        namespace: peer.text("NAMESPACE")?.ok_or(Unclear)?,
        cluster: peer.text("CLUSTER_ID")?.filter(|id| !id.is_empty()),
        labels,
    })
}

/// Parses `key=value,key` where a key without `=` says that the workload does not carry that label.
/// A selected label that is not listed at all is not known, and then nothing is.
fn from_text(namespace: &[u8], labels: &[u8], label_keys: &[String]) -> Option<OwnedClaims> {
    if labels.len() > MAX_HEADER {
        return None;
    }
    let namespace = text(namespace.to_vec()).ok()?;
    let mut listed: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let labels = std::str::from_utf8(labels).ok()?;
    for entry in labels.split(',').filter(|entry| !entry.is_empty()) {
        let (key, value) = match entry.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (entry, None),
        };
        let too_long = value.is_some_and(|value| value.len() > MAX_VALUE);
        if too_long || listed.insert(key, value).is_some() {
            return None;
        }
    }
    let mut found = Vec::new();
    for key in label_keys {
        if let Some(value) = listed.get(key.as_str())? {
            found.push((key.clone(), (*value).to_owned()));
        }
    }
    Some(OwnedClaims {
        namespace,
        cluster: None,
        labels: found,
    })
}

/// Not one known thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unclear;

/// `google.protobuf.Struct`; a map is a repeated entry on the wire, and only so a duplicate shows.
#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

/// `google.protobuf.Value`, those kinds that Istio writes.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "3, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Struct(Struct),
}

impl Struct {
    /// The one value of this key, if it is there.
    fn only(&self, key: &str) -> Result<Option<&Kind>, Unclear> {
        let mut found = self.fields.iter().filter(|entry| entry.key == key);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(entry), None) => {
                let kind = entry.value.as_ref().and_then(|value| value.kind.as_ref());
                kind.map(Some).ok_or(Unclear)
            }
            (Some(_), Some(_)) => Err(Unclear),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, Unclear> {
        match self.only(key)? {
            None => Ok(None),
            Some(Kind::Text(text)) if text.len() <= MAX_VALUE => Ok(Some(text.clone())),
            Some(_) => Err(Unclear),
        }
    }

    fn selected(&self, keys: &[String]) -> Result<Vec<(String, String)>, Unclear> {
        if self.fields.len() > MAX_LABELS {
            return Err(Unclear);
        }
        let mut labels = Vec::new();
        for key in keys {
            if let Some(value) = self.text(key)? {
                labels.push((key.clone(), value));
            }
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests;
