//! A workload's peer metadata, as its sidecar sends it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// What a sidecar claims.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// The workload's name.
    pub workload: &'a str,
    /// Its namespace; counts only if the certificate says the same.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a [(&'a str, &'a str)],
    /// Its cluster, if it names one.
    pub cluster: Option<&'a str>,
}

impl Peer<'_> {
    /// The value of `x-envoy-peer-metadata`: base64 of a protobuf `Struct`.
    #[must_use]
    pub fn header(&self) -> String {
        let labels = self.labels.iter().map(|(key, value)| text(key, value));
        let labels = Struct {
            fields: labels.collect(),
        };
        let cluster = self.cluster.map(|cluster| text("CLUSTER_ID", cluster));
        let fields = [
            text("NAME", self.workload),
            text("NAMESPACE", self.namespace),
            text("WORKLOAD_NAME", self.workload),
            (
                "LABELS".to_owned(),
                Value {
                    kind: Some(Kind::StructValue(labels)),
                },
            ),
        ];
        let claim = Struct {
            fields: fields.into_iter().chain(cluster).collect(),
        };
        STANDARD.encode(claim.encode_to_vec())
    }
}

fn text(key: &str, value: &str) -> (String, Value) {
    let kind = Some(Kind::StringValue(value.to_owned()));
    (key.to_owned(), Value { kind })
}
