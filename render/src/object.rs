//! Rendered objects, their order and their text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use egress_policy::contract;
use serde::Serialize;
use serde_json::{Value, json};

use crate::NAME;
use crate::error::RenderError;
use crate::gateway::CLASS_OBJECT;
use crate::install::Install;
use crate::module::{Module, PluginSite};

/// The largest object. The API server refuses requests above etcd's 1.5 MiB, and adds to each
/// object what it keeps of its own.
pub(crate) const LARGEST: usize = 1400 * 1024;

/// One Kubernetes object with a word on what it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    about: &'static str,
    /// Earlier objects are applied first and removed last.
    stage: Stage,
    manifest: Value,
    /// The manifest as YAML, once it is complete.
    written: String,
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

    fn key(&self) -> (Stage, &str, &str, &str) {
        (self.stage, self.kind(), self.namespace(), self.name())
    }
}

/// Everything that one rendering applies, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    objects: Vec<Object>,
    policy_hash: String,
    /// Bytes of the module's configuration in every push to a gateway pod.
    push: usize,
    carried: bool,
}

impl Rendered {
    pub(crate) fn new(
        install: &Install,
        module: &Module,
        mut objects: Vec<Object>,
    ) -> Result<Self, Vec<RenderError>> {
        for object in &mut objects {
            stamp(&mut object.manifest, install, module.policy_hash());
            object.written = written(object.file_name(), &canonical(&object.manifest))?;
        }
        objects.sort_by(|a, b| a.key().cmp(&b.key()));
        Ok(Self {
            objects,
            policy_hash: module.policy_hash().to_owned(),
            push: PluginSite::ALL
                .map(|place| module.text(place).len())
                .iter()
                .sum(),
            carried: module.is_carried(),
        })
    }

    /// The objects, in the order in which they are applied.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// SHA-256 of the policies, as the gateway reports it.
    #[must_use]
    pub fn policy_hash(&self) -> &str {
        &self.policy_hash
    }

    /// All objects as one YAML stream.
    #[must_use]
    pub fn yaml(&self) -> String {
        let texts: Vec<_> = self.objects.iter().map(Object::yaml).collect();
        texts.join("---\n")
    }

    /// What to remove and in which order: routes first, the lock and the guards last. One
    /// `KIND NAMESPACE NAME` per line, `-` for no namespace.
    #[must_use]
    pub fn prune_list(&self) -> String {
        let mut text = String::new();
        for object in self.objects.iter().rev() {
            let namespace = match object.namespace() {
                "" => "-",
                namespace => namespace,
            };
            // Writing to a String does not fail.
            let _ = writeln!(text, "{} {namespace} {}", object.kind(), object.name());
        }
        text
    }

    /// Every object's file name and its size, the largest first. Client-side `kubectl apply` refuses
    /// objects above 256 KiB.
    #[must_use]
    pub fn sizes(&self) -> Vec<(String, usize)> {
        let mut sizes: Vec<_> = self
            .objects
            .iter()
            .map(|object| (object.file_name(), object.size()))
            .collect();
        sizes.sort_by(|(a, left), (b, right)| right.cmp(left).then(a.cmp(b)));
        sizes
    }

    /// Bytes of the module's configuration that Istio sends to a gateway pod at once: one for each
    /// place where the module stands.
    #[must_use]
    pub fn push(&self) -> usize {
        self.push
    }

    /// How many address classes have an object.
    pub(crate) fn classes(&self) -> usize {
        let names = self.objects.iter().map(Object::name);
        names.filter(|name| name.starts_with(CLASS_OBJECT)).count()
    }

    /// Whether the objects only name the policies, which are in the module's image.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        self.carried
    }

    /// Two objects of one kind, namespace and name: the later one would replace the other, on the
    /// disk and in the cluster.
    pub(crate) fn check_names(&self) -> Result<(), Vec<RenderError>> {
        let mut seen = BTreeSet::new();
        let names = self.objects.iter().map(Object::file_name);
        let twice = names.filter(|name| !seen.insert(name.clone()));
        let problems: Vec<_> = twice
            .map(|name| {
                let message = "two objects would have this kind, namespace and name: rename a \
                               policy, tier, rule or device";
                RenderError::new(name, message)
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    /// What the API server would refuse.
    pub(crate) fn check_sizes(&self) -> Result<(), Vec<RenderError>> {
        let large = self.sizes().into_iter().filter(|(_, size)| *size > LARGEST);
        let problems: Vec<_> = large
            .map(|(name, size)| {
                let message = format!(
                    "{} KiB, and an object takes {} KiB: put the policies into the module's image \
                     with `warden package`",
                    size / 1024,
                    LARGEST / 1024
                );
                RenderError::new(name, message)
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

/// A manifest as YAML. What cannot be written is an error: an empty file would be applied, and
/// close or open nothing.
fn written(name: String, manifest: &impl Serialize) -> Result<String, Vec<RenderError>> {
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
fn stamp(manifest: &mut Value, install: &Install, policy_hash: &str) {
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
        ("app.kubernetes.io/managed-by", "warden".to_owned()),
        ("app.kubernetes.io/part-of", NAME.to_owned()),
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
