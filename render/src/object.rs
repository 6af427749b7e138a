//! Rendered objects, their order and their text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use egress_policy::contract;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::RenderError;
use crate::install::Install;
use crate::{NAME, RENDERER};

/// The largest object. The API server refuses requests above etcd's 1.5 MiB, and adds to each
/// object what it keeps of its own.
pub(crate) const LARGEST: usize = 1400 * 1024;

/// What the object of an address class is called, before the class's name.
pub(crate) const CLASS_OBJECT: &str = "egress-warden-class-";

/// One Kubernetes object with a word on what it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    about: &'static str,
    /// Earlier objects are applied first and removed last.
    stage: Stage,
    pub(crate) manifest: Value,
    /// The manifest as YAML, once it is complete.
    pub(crate) written: String,
}

/// When an object is applied. Removal goes the other way, so that what closes goes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// What closes ways around: applied first, removed last.
    Guard,
    /// The lock, and the ways out of address classes, which only a verdict opens: before the policy
    /// that names them.
    Classes,
    /// The policy and its lock.
    Policy,
    /// The gateway's ports and workload.
    Gateway,
    /// What sends workloads to the gateway.
    Workloads,
}

impl Object {
    pub(crate) fn new(
        stage: Stage,
        about: &'static str,
        api: (&str, &str),
        metadata: Value,
        mut body: Value,
    ) -> Self {
        let (version, kind) = api;
        set(&mut body, "apiVersion", json!(version));
        set(&mut body, "kind", json!(kind));
        set(&mut body, "metadata", metadata);
        Self {
            about,
            stage,
            manifest: body,
            written: String::new(),
        }
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its namespace; empty if it has none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    fn text(&self, pointer: &str) -> &str {
        self.manifest
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Its size as JSON, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.manifest.to_string().len()
    }

    /// A file name that no other object of a rendering has.
    #[must_use]
    pub fn file_name(&self) -> String {
        let namespace = match self.namespace() {
            "" => "cluster",
            namespace => namespace,
        };
        let kind = self.kind().to_ascii_lowercase();
        format!("{namespace}.{kind}.{}.yaml", self.name())
    }

    /// The manifest as YAML, with what it is for as a comment.
    #[must_use]
    pub fn yaml(&self) -> String {
        self.explained(&self.written)
    }

    /// Another manifest with the same comment.
    pub(crate) fn yaml_of(&self, manifest: &Value) -> Result<String, Vec<RenderError>> {
        Ok(self.explained(&written(self.file_name(), &canonical(manifest))?))
    }

    fn explained(&self, yaml: &str) -> String {
        let mut text = String::new();
        for line in self.about.lines() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "# {}", line.trim());
        }
        text + yaml
    }

    pub(crate) fn key(&self) -> (Stage, &str, &str, &str) {
        (self.stage, self.kind(), self.namespace(), self.name())
    }
}

/// A manifest as YAML. What cannot be written is an error: an empty file would be applied, and
/// close or open nothing.
pub(crate) fn written(name: String, manifest: &impl Serialize) -> Result<String, Vec<RenderError>> {
    serde_saphyr::to_string(manifest).map_err(|error| {
        vec![RenderError::new(
            name,
            format!("cannot be written: {error}"),
        )]
    })
}

/// Sets a field of a JSON object; other values have no fields and stay as they are.
pub(crate) fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

/// The name of an object that is the whole cluster's. A cluster can hold several gateways, each
/// with a namespace and a rendering of its own, and one must not replace the guards of another. No
/// namespace has a dot in it, so two different ones never make one name.
pub(crate) fn in_cluster(install: &Install, name: &str) -> String {
    format!("{name}.{}", install.spec.gateway.namespace)
}

/// A selector of namespaces by their names, which Kubernetes keeps in a label.
pub(crate) fn namespaces(operator: &str, names: &[impl AsRef<str>]) -> Value {
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    json!({"matchExpressions": [{
        "key": "kubernetes.io/metadata.name",
        "operator": operator,
        "values": names,
    }]})
}

/// Names, labels and annotations that every object carries.
pub(crate) fn stamp(manifest: &mut Value, install: &Install, policy_hash: &str) {
    let Some(metadata) = manifest.get_mut("metadata") else {
        return;
    };
    if metadata.get("namespace").is_none()
        && let Some(name) = metadata.get("name").and_then(Value::as_str)
    {
        let name = in_cluster(install, name);
        set(metadata, "name", json!(name));
    }
    let mut labels = BTreeMap::from([
        (contract::MANAGED_BY, RENDERER.to_owned()),
        (contract::PART_OF, NAME.to_owned()),
    ]);
    if let Some(revision) = &install.spec.istio.revision {
        labels.insert("istio.io/rev", revision.clone());
    }
    set(metadata, "labels", json!(labels));
    let annotations = json!({contract::POLICY_HASH: policy_hash});
    set(metadata, "annotations", annotations);
}

/// The same document with the keys of every map in order, whatever map type `serde_json` was
/// built with.
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .map(|(key, value)| (key.clone(), canonical(value)))
                    .collect(),
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unwritable;

    impl Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_not_an_empty_manifest() {
        let problems = written("name".to_owned(), &Unwritable).unwrap_err();
        assert!(problems[0].to_string().contains("cannot be written"));
        assert!(!written("name".to_owned(), &json!({})).unwrap().is_empty());
    }
}
