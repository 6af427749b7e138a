//! The address classes of an earlier render, which stay for one generation: a gateway that has not
//! yet got the new policy goes on by them.

use std::collections::BTreeSet;

use egress_policy::contract;
use serde_json::{Value, json};

use crate::install::Install;
use crate::object::CLASS_OBJECT;
use crate::object::{Object, Stage};

const ABOUT: &str = "\
The ways out of one address class of the render before. A gateway that still has that policy goes on by
them; delete this object when all of them have the new one.";

/// What a render that was kept says of a gateway's address classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    policy_hash: String,
    /// The classes that its own policy names.
    names: BTreeSet<String>,
    /// Their objects.
    objects: Vec<Value>,
}

impl Earlier {
    /// Reads the objects of a render; `None` if it is of another gateway.
    #[must_use]
    pub fn read(install: &Install, objects: &[Value]) -> Option<Self> {
        let text = |object: &Value, pointer: &str| -> Option<String> {
            Some(object.pointer(pointer)?.as_str()?.to_owned())
        };
        let here = |object: &&Value| {
            text(object, "/metadata/namespace").as_ref() == Some(&install.spec.gateway.namespace)
        };
        let config = |object: &Value| {
            let spec = object.get("spec")?;
            let config = spec.pointer("/wasm/pluginConfig");
            config.or_else(|| spec.get("pluginConfig")).cloned()
        };
        let plugin = objects.iter().filter(here).find(|object| {
            text(object, "/metadata/name").as_deref() == Some("egress-warden-http")
        })?;
        let listed = config(plugin)?;
        // Renders from before there were classes have none to keep.
        let listed = listed.get("addressClasses").and_then(Value::as_array);
        let names: BTreeSet<_> = listed
            .into_iter()
            .flatten()
            .filter_map(|class| text(class, "/name"))
            .collect();
        let own = |object: &&Value| {
            let name = text(object, "/metadata/name").unwrap_or_default();
            let class = name.strip_prefix(CLASS_OBJECT);
            class.is_some_and(|class| names.contains(class))
        };
        let objects = objects.iter().filter(here).filter(own).cloned().collect();
        Some(Self {
            policy_hash: text(plugin, contract::POLICY_HASH_POINTER)?,
            names,
            objects,
        })
    }

    /// Whether it has these policies and these classes: the same render, made again.
    pub(crate) fn is_of(&self, policy_hash: &str, names: &BTreeSet<String>) -> bool {
        self.policy_hash == policy_hash && self.names == *names
    }

    /// The objects of classes that are not among these.
    pub(crate) fn beside(&self, names: &BTreeSet<String>) -> Vec<Object> {
        let others = self.objects.iter().filter(|object| {
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            let class = name.and_then(|name| name.strip_prefix(CLASS_OBJECT));
            class.is_some_and(|class| !names.contains(class))
        });
        others.filter_map(once_more).collect()
    }
}

/// The DNS cache of a class, by the class's name. All clusters of the class have it.
pub(crate) fn cache(object: &Object) -> Option<(String, Value)> {
    let class = object.name().strip_prefix(CLASS_OBJECT)?;
    let patches = object.manifest().pointer("/spec/configPatches")?;
    let cache = "/patch/value/cluster_type/typed_config/dns_cache_config";
    let mut caches = patches.as_array()?.iter();
    let cache = caches.find_map(|patch| patch.pointer(cache))?;
    Some((class.to_owned(), cache.clone()))
}

fn once_more(manifest: &Value) -> Option<Object> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
    let metadata = json!({
        "name": text("/metadata/name")?,
        "namespace": text("/metadata/namespace")?,
    });
    Some(Object::new(
        Stage::Classes,
        ABOUT,
        (text("/apiVersion")?, text("/kind")?),
        metadata,
        json!({"spec": manifest.get("spec")?}),
    ))
}

#[cfg(test)]
mod tests;
