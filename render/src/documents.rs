//! Policy documents: decoded, and in the order of the install settings.

use egress_policy::model::Policy;
use egress_policy::ports::MeshPorts;
use egress_policy::tree::Json;
use serde_json::Value;

use crate::error::{RenderError, problems};
use crate::install::Install;
use crate::object::canonical;

/// Reads a policy document.
pub(crate) fn policy(document: &Value) -> Result<Policy, Vec<RenderError>> {
    let text = canonical(document).to_string();
    let tree = Json::parse(&text).map_err(|message| vec![RenderError::new("policy", message)])?;
    Policy::read(&tree).map_err(|defects| problems(&defects))
}

/// The documents as the install settings order them; without an order a single one stands as it
/// is.
pub(crate) fn in_order(
    install: &Install,
    documents: &[Value],
    problems: &mut Vec<RenderError>,
) -> Vec<Value> {
    arranged(
        documents,
        &order(install, documents.iter().map(name), problems),
    )
}

/// Items in the order that their places say.
pub(crate) fn arranged<T: Clone>(items: &[T], order: &[usize]) -> Vec<T> {
    let places = order.iter();
    places.filter_map(|at| items.get(*at).cloned()).collect()
}

/// What ports carry, by policies in their order and by the settings.
pub(crate) fn mesh_ports(
    install: &Install,
    policies: &[Policy],
    problems: &mut Vec<RenderError>,
) -> MeshPorts {
    let settings = install.spec.gateway.protocols.stated();
    let mut defects = Vec::new();
    let ports = MeshPorts::of(policies, &settings, &mut defects);
    problems.extend(defects.into_iter().map(RenderError::from));
    ports
}

pub(crate) fn name(document: &Value) -> String {
    let name = document.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default().to_owned()
}

/// Which of these policies come in which order.
pub(crate) fn order(
    install: &Install,
    names: impl Iterator<Item = String>,
    problems: &mut Vec<RenderError>,
) -> Vec<usize> {
    let names: Vec<String> = names.collect();
    let order = &install.spec.policies;
    if order.is_empty() {
        if names.len() > 1 {
            problems.push(RenderError::new(
                "spec.policies",
                "several policies need an order: the install settings must list their names, the \
                 security team's first",
            ));
        }
        return (0..names.len()).collect();
    }
    for name in &names {
        if !order.iter().any(|entry| entry.name == *name) {
            problems.push(RenderError::new(
                "spec.policies",
                format!("policy `{name}` is not in the install settings' order"),
            ));
        }
    }
    let mut sorted = Vec::new();
    for entry in order {
        let found = names.iter().enumerate();
        let mut found = found.filter(|(_, name)| **name == entry.name);
        match (found.next(), found.next()) {
            (Some((at, _)), None) => sorted.push(at),
            (None, _) => problems.push(RenderError::new(
                "spec.policies",
                format!("policy `{}` was not given", entry.name),
            )),
            (Some(_), Some(_)) => problems.push(RenderError::new(
                "spec.policies",
                format!("policy `{}` was given twice", entry.name),
            )),
        }
    }
    sorted
}

pub(crate) fn read(documents: &[Value], problems: &mut Vec<RenderError>) -> Vec<Policy> {
    let mut policies = Vec::new();
    for document in documents {
        match policy(document) {
            Ok(policy) => policies.push(policy),
            Err(found) => problems.extend(found),
        }
    }
    policies
}
