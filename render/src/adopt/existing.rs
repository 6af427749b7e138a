//! Objects of a mesh, as `kubectl get -o yaml` prints them.

use serde_json::Value;

use super::{Collision, CollisionCode};
use crate::error::RenderError;
use crate::install::Install;

/// Reads the objects of a file: YAML documents or JSON, `List`s opened.
///
/// # Errors
/// If it is neither.
pub fn read(text: &str) -> Result<Vec<Value>, RenderError> {
    let documents: Vec<Value> = if text.trim_start().starts_with('{') {
        let one = serde_json::from_str(text);
        vec![one.map_err(|error| RenderError::new("objects", error.to_string()))?]
    } else {
        serde_saphyr::from_multiple(text).map_err(|error| {
            // The reader's bounds for YAML, which a large mesh is beyond.
            let hint = "YAML is read up to 250,000 nodes: give it as JSON (kubectl get -o json)";
            let error = error.to_string();
            let large = error.contains("budget breached");
            RenderError::new("objects", if large { hint.to_owned() } else { error })
        })?
    };
    let mut objects = Vec::new();
    for document in documents {
        match document.get("items").and_then(Value::as_array) {
            Some(items) => objects.extend(items.iter().cloned()),
            None if document.is_null() => {}
            None if document.get("kind").is_some() => objects.push(document),
            None => return Err(RenderError::new("objects", "a document has no `kind`")),
        }
    }
    Ok(objects)
}

/// One object of the mesh.
pub(super) struct Existing<'v>(pub(super) &'v Value);

impl<'v> Existing<'v> {
    pub(super) fn at(&self, pointer: &str) -> Option<&'v Value> {
        self.0.pointer(pointer)
    }

    pub(super) fn text(&self, pointer: &str) -> &'v str {
        self.at(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &'v str {
        self.text("/kind")
    }

    pub(super) fn name(&self) -> &'v str {
        self.text("/metadata/name")
    }

    pub(super) fn namespace(&self) -> &'v str {
        self.text("/metadata/namespace")
    }

    pub(super) fn label(&self, key: &str) -> Option<&'v str> {
        self.at("/metadata/labels")?.get(key)?.as_str()
    }

    /// The texts of a list.
    pub(super) fn texts(&self, pointer: &str) -> Vec<&'v str> {
        let items = self.items(pointer);
        items.filter_map(Value::as_str).collect()
    }

    pub(super) fn items(&self, pointer: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
        let list = self.at(pointer).and_then(Value::as_array);
        list.into_iter().flatten()
    }

    /// The enforced namespaces that see it. Istio exports everything everywhere unless `exportTo`
    /// says otherwise.
    pub(super) fn seen_in<'i>(&self, install: &'i Install) -> Vec<&'i str> {
        let export = self.texts("/spec/exportTo");
        let sees = |namespace: &str| {
            export.is_empty()
                || export.contains(&"*")
                || export.contains(&namespace)
                || (export.contains(&".") && namespace == self.namespace())
        };
        let namespaces = install.spec.workloads.namespaces.iter();
        namespaces
            .map(String::as_str)
            .filter(|namespace| sees(namespace))
            .collect()
    }

    pub(super) fn collides(
        &self,
        code: CollisionCode,
        message: impl Into<String>,
        remedy: &'static str,
    ) -> Collision {
        let object = match self.namespace() {
            "" => format!("{} {}", self.kind(), self.name()),
            namespace => format!("{} {namespace}/{}", self.kind(), self.name()),
        };
        Collision {
            object,
            code,
            message: message.into(),
            remedy,
        }
    }
}
