//! Facts as the command's JSON writes them.

use std::collections::BTreeMap;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::Name;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{OwnedFacts, time_text};
use crate::decision::ReasonWord;
use egress_policy::facts::OwnedClaims;

/// What is judged. Method, path and upgrade are facts of HTTP alone and left out elsewhere.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "facts")]
pub struct WrittenFacts {
    /// What the port carries.
    #[schemars(extend("enum" = Protocol::ALL.map(Protocol::as_str)))]
    protocol: &'static str,
    /// The SPIFFE id, or what there is instead.
    caller: WrittenFact<String>,
    /// What the peer says of itself.
    claims: WrittenFact<WrittenClaims>,
    /// The destination's name; null where it has none.
    name: WrittenFact<Option<String>>,
    /// Where the gateway connects.
    address: WrittenFact<String>,
    /// The destination's port.
    port: WrittenFact<u16>,
    /// The HTTP method.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WrittenFact<String>")]
    method: Option<WrittenFact<String>>,
    /// The path; null where the request has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WrittenFact<Option<String>>")]
    path: Option<WrittenFact<Option<String>>>,
    /// The upgrade that is asked for; null for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WrittenFact<Option<String>>")]
    upgrade: Option<WrittenFact<Option<String>>>,
    /// RFC 3339.
    time: WrittenFact<String>,
    /// Why the facts themselves are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReasonWord")]
    refused: Option<ReasonWord>,
}

/// A value, or that it is not known: the latter cannot be mistaken for a value.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum WrittenFact<T> {
    Known(T),
    Unknown(Unknown),
}

/// A fact that is not known.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "unknown")]
struct Unknown {
    /// `pending` can still arrive, `missing` cannot.
    unknown: Absence,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Absence {
    Pending,
    Missing,
}

/// Peer metadata.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct WrittenClaims {
    /// The namespace.
    namespace: String,
    /// The cluster.
    cluster: Option<String>,
    /// The labels.
    #[schemars(with = "BTreeMap<String, String>")]
    labels: Map<String, Value>,
}

impl<T> From<Fact<T>> for WrittenFact<T> {
    fn from(fact: Fact<T>) -> Self {
        let unknown = |unknown| Self::Unknown(Unknown { unknown });
        match fact {
            Fact::Known(value) => Self::Known(value),
            Fact::Pending => unknown(Absence::Pending),
            Fact::Missing => unknown(Absence::Missing),
        }
    }
}

impl From<OwnedClaims> for WrittenClaims {
    fn from(metadata: OwnedClaims) -> Self {
        let labels = metadata.labels.into_iter();
        Self {
            namespace: metadata.namespace,
            cluster: metadata.cluster,
            labels: labels
                .map(|(key, value)| (key, Value::String(value)))
                .collect(),
        }
    }
}

impl From<OwnedFacts> for WrittenFacts {
    fn from(facts: OwnedFacts) -> Self {
        let is_http = facts.protocol == Protocol::Http;
        let name = |name: Option<Name>| name.map(|name| name.to_string());
        Self {
            protocol: facts.protocol.as_str(),
            caller: facts.caller.map(|who| who.to_string()).into(),
            claims: facts.claims.map(WrittenClaims::from).into(),
            name: facts.name.map(name).into(),
            address: facts.address.map(|address| address.to_string()).into(),
            port: facts.port.into(),
            method: is_http.then(|| facts.method.into()),
            path: is_http.then(|| facts.path.into()),
            upgrade: is_http.then(|| facts.upgrade.into()),
            time: facts.now.map(time_text).into(),
            refused: facts.refused.map(ReasonWord),
        }
    }
}
