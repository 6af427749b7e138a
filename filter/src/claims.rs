//! What the caller's sidecar says of its workload: namespace, cluster, labels.
//!
//! Claims, not proofs. The engine counts them only where the namespace is the certificate's, and a
//! claim that could not be read whole is not known at all: a label that was cut off must not look
//! absent.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use egress_policy::facts::{Claims, Fact};
use prost::Message;

use crate::host::{Host, HostError};

/// Longest value of the header that is decoded.
pub const MAX_HEADER: usize = 16 * 1024;
/// Longest single value that counts. Kubernetes allows 63 octets in a label, 253 in a name.
pub const MAX_VALUE: usize = 253;

/// Where Istio keeps the peer's metadata: the filter state object of current releases, and the
/// property of older ones, which is filter state `wasm.downstream_peer`.
const OBJECTS: [&[&str]; 2] = [&["filter_state", "downstream_peer"], &["downstream_peer"]];

/// Claims, owned: those labels that the policies select by and the workload has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedClaims {
    /// The claimed namespace.
    pub namespace: String,
    /// The claimed cluster.
    pub cluster: Option<String>,
    /// The labels.
    pub labels: Vec<(String, String)>,
}

impl OwnedClaims {
    /// The labels in the form that [`Claims`] borrows.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }
}

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

/// Decodes the claims in `x-envoy-peer-metadata`: base64 of a `google.protobuf.Struct` with
/// `NAMESPACE`, `CLUSTER_ID` and `LABELS`. `None` for everything else, a key given twice included:
/// readers differ over which one counts.
#[must_use]
pub fn from_header(value: &[u8], label_keys: &[String]) -> Option<OwnedClaims> {
    if value.len() > MAX_HEADER {
        return None;
    }
    // Istio's writers differ over the padding.
    let engine = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let peer = Struct::decode(engine.decode(value).ok()?.as_slice()).ok()?;
    let labels = match peer.only("LABELS")? {
        None => Vec::new(),
        Some(Kind::Struct(labels)) => labels.selected(label_keys)?,
        Some(Kind::Text(_)) => return None,
    };
    Some(OwnedClaims {
        namespace: peer.text("NAMESPACE")??,
        cluster: peer.text("CLUSTER_ID")?.filter(|id| !id.is_empty()),
        labels,
    })
}

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
    /// The one value of this key: outer `None` for a duplicate or a value of another kind.
    fn only(&self, key: &str) -> Option<Option<&Kind>> {
        let mut found = self.fields.iter().filter(|entry| entry.key == key);
        match (found.next(), found.next()) {
            (None, _) => Some(None),
            (Some(entry), None) => entry.value.as_ref()?.kind.as_ref().map(Some),
            (Some(_), Some(_)) => None,
        }
    }

    fn text(&self, key: &str) -> Option<Option<String>> {
        match self.only(key)? {
            None => Some(None),
            Some(Kind::Text(text)) if text.len() <= MAX_VALUE => Some(Some(text.clone())),
            Some(_) => None,
        }
    }

    fn selected(&self, keys: &[String]) -> Option<Vec<(String, String)>> {
        let mut labels = Vec::new();
        for key in keys {
            if let Some(value) = self.text(key)? {
                labels.push((key.clone(), value));
            }
        }
        Some(labels)
    }
}

/// Borrowed claims over `labels`, which [`OwnedClaims::pairs`] made.
#[must_use]
pub fn borrowed<'a>(
    claims: &'a Fact<OwnedClaims>,
    labels: &'a [(&'a str, &'a str)],
) -> Fact<Claims<'a>> {
    claims.as_ref().map(|claims| Claims {
        namespace: &claims.namespace,
        cluster: claims.cluster.as_deref(),
        labels,
    })
}

#[cfg(test)]
mod tests;
