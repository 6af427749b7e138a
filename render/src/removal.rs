//! What is to be deleted from a cluster: what an earlier rendering has and a newer one has not.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use egress_policy::contract::{MANAGED_BY, PART_OF};
use serde_json::Value;

use crate::install::Install;
use crate::object::Object;
use crate::{NAME, RENDERER};

/// One object as `KIND.GROUP NAMESPACE NAME`, as `kubectl delete` takes them: `-` for no namespace, no
/// group for the core one.
#[must_use]
pub fn line(manifest: &Value) -> String {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or_default();
    let group = text("/apiVersion").and_then(|version| version.split_once('/'));
    let group = group.map_or_else(String::new, |(group, _)| format!(".{group}"));
    let namespace = text("/metadata/namespace").filter(|name| !name.is_empty());
    let name = text("/metadata/name").unwrap_or_default();
    format!("{kind}{group} {} {name}", namespace.unwrap_or("-"))
}

/// The objects of an earlier rendering, in the order in which it is applied, that a newer one has not:
/// routes first, the lock and the guards last.
#[must_use]
pub fn between<'v>(
    earlier: impl DoubleEndedIterator<Item = &'v Value>,
    newer: impl Iterator<Item = &'v Value>,
) -> Vec<String> {
    let kept: BTreeSet<String> = newer.map(line).collect();
    let gone = earlier.rev().map(line);
    gone.filter(|line| !kept.contains(line)).collect()
}

/// Kubernetes makes a Service's Endpoints with the Service's labels, and names no owner.
fn is_made_from_service(object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str) == Some("Endpoints")
}

/// The objects of a cluster that were rendered for this gateway and are not among these any more, as `kubectl get`
/// prints them: with the labels of what is rendered, of the same revision, and made by nothing else.
#[must_use]
pub fn from_cluster(install: &Install, objects: &[Value], rendered: &[Object]) -> Vec<String> {
    let label = |object: &Value, key: &str| {
        let labels = object.pointer("/metadata/labels")?;
        labels.get(key)?.as_str().map(str::to_owned)
    };
    let own = |object: &&Value| {
        label(object, PART_OF).as_deref() == Some(NAME)
            && label(object, MANAGED_BY).as_deref() == Some(RENDERER)
            && !is_made_from_service(object)
            && label(object, "istio.io/rev") == install.spec.istio.revision
            && object.pointer("/metadata/ownerReferences").is_none()
    };
    let place = |object: &Value| {
        let kind = object.get("kind").and_then(Value::as_str);
        rendered.iter().rposition(|one| Some(one.kind()) == kind)
    };
    let kept: BTreeSet<String> = rendered.iter().map(|one| line(one.manifest())).collect();
    let mut objects: Vec<&Value> = objects.iter().filter(own).collect();
    // Against the order of the rendering. Kinds that it has not go first.
    objects.sort_by_key(|object| place(object).map_or((0, Reverse(0)), |at| (1, Reverse(at))));
    let gone = objects.into_iter().map(line);
    gone.filter(|line| !kept.contains(line)).collect()
}
