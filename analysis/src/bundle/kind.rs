//! What a document is, told by its `kind` or by what is in it.

use egress_policy::contract::{DOMAIN, INSTALL_KIND};
use egress_policy::defect::suggestion;
use egress_policy::read::KINDS;
use schemars::JsonSchema;
use serde::Serialize;

use crate::document::Node;
use crate::settings::is_install;

/// What a document is, as far as this command cares.
pub(super) enum DocumentKind<'d> {
    /// A policy.
    Policy,
    /// A mapping with the module's configuration somewhere in it.
    Configuration(Node<'d>),
    /// Install settings.
    Install,
    /// Decision cases.
    Cases,
    /// Somebody else's object.
    Foreign,
}

/// A document that nothing was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct PassedOver {
    /// Its file.
    pub file: String,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// Its `kind`; null where it has none, and for a file without documents.
    pub kind: Option<String>,
}

fn text<'d>(root: Node<'d>, name: &str) -> Option<&'d str> {
    root.field(name).and_then(Node::text)
}

/// What a document is whose file was named, so that it is a policy unless it is something else.
pub(super) fn named_kind(root: Node<'_>) -> DocumentKind<'_> {
    if root.field("kind").is_none() {
        if root.field("cases").is_some() {
            return DocumentKind::Cases;
        }
        if root.field("policies").is_some() {
            return DocumentKind::Configuration(root);
        }
    }
    if is_install(root) {
        return DocumentKind::Install;
    }
    match (text(root, "apiVersion"), text(root, "kind")) {
        (Some(version), Some(kind))
            if !KINDS.contains(&kind) && version.contains('/') && !is_ours(version) =>
        {
            let config = plugin(root, kind)
                .and_then(|plugin| plugin.field("pluginConfig"))
                .filter(|config| config.field("policies").is_some());
            config.map_or(DocumentKind::Foreign, DocumentKind::Configuration)
        }
        (Some("v1"), Some(_)) => DocumentKind::Foreign,
        _ => DocumentKind::Policy,
    }
}

/// What a document of a folder is: others keep files of their own there.
pub(super) fn found_kind(root: Node<'_>) -> DocumentKind<'_> {
    match named_kind(root) {
        DocumentKind::Policy if !is_like_a_policy(root) => DocumentKind::Foreign,
        kind => kind,
    }
}

fn is_ours(version: &str) -> bool {
    ["warden.", DOMAIN]
        .iter()
        .any(|own| version.starts_with(own))
}

/// Whether a document is meant to be a policy, even if its kind is misspelt or missing.
fn is_like_a_policy(root: Node<'_>) -> bool {
    let is_kind = |kind: &str| {
        let ours = KINDS.into_iter().chain([INSTALL_KIND]);
        KINDS.contains(&kind) || suggestion(kind, ours).is_some()
    };
    let tiers = root.field("spec").and_then(|spec| spec.field("tiers"));
    text(root, "apiVersion").is_some_and(is_ours)
        || text(root, "kind").is_some_and(is_kind)
        || tiers.is_some()
}

/// Whether a text that cannot be read as documents would hold one of ours.
#[must_use]
pub fn names_us(text: &str) -> bool {
    let kinds = KINDS.into_iter().chain([INSTALL_KIND, DOMAIN]);
    kinds.into_iter().any(|word| text.contains(word))
}

/// Where an object of these kinds says what module it loads, and how.
pub(super) fn plugin<'d>(root: Node<'d>, kind: &str) -> Option<Node<'d>> {
    let spec = root.field("spec")?;
    match kind {
        "WasmPlugin" => Some(spec),
        "TrafficExtension" => spec.field("wasm"),
        _ => None,
    }
}

/// The objects of a document: a `List`, as `kubectl get` prints several, is its items.
pub(super) fn objects(root: Node<'_>) -> Vec<Node<'_>> {
    match (text(root, "kind"), root.field("items")) {
        (Some(kind), Some(items)) if kind.ends_with("List") => items.items().collect(),
        _ => vec![root],
    }
}

/// The policies that are written out in a case file.
pub fn inline_policies(root: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    let policies = root.field("policies").into_iter();
    let items = policies.flat_map(Node::items);
    items.filter(|policy| policy.text().is_none())
}
