//! Reading a configuration dump: Envoy writes field names as in the protocol, istiod as in JSON.
//! Whatever part of it cannot be read is a finding.

use serde_json::Value;

use super::compare::brief;
use super::{items, name};
use crate::error::RenderError;

/// The same document with every key in snake case, without underscores before digits, which JSON's
/// spelling does not tell. Keys of maps, such as names of policies, are changed too; none of them
/// matters here.
pub(super) fn snake_case(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(snake_case).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(key, value)| (snake(key), snake_case(value)))
                    .collect(),
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn snake(key: &str) -> String {
    let mut text = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        } else if letter.is_ascii_digit() && text.ends_with('_') {
            text.pop();
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// Everything that a dump says, each with where it stands.
#[derive(Default)]
pub(super) struct Dump<'d> {
    /// Listeners of the bootstrap.
    pub(super) static_listeners: Vec<(String, &'d Value)>,
    /// Listeners of the control plane: in use, about to be, or no longer for new connections.
    pub(super) listeners: Vec<(String, &'d Value)>,
    /// Route configurations that stand in listeners.
    pub(super) inline_routes: Vec<(String, &'d Value)>,
    /// Route configurations of the control plane.
    pub(super) routes: Vec<(String, &'d Value)>,
    /// Clusters of the bootstrap.
    pub(super) static_clusters: Vec<(String, &'d Value)>,
    /// Clusters of the control plane, in use or about to be.
    pub(super) clusters: Vec<(String, &'d Value)>,
    /// Configurations that filters discover by name.
    pub(super) extensions: Vec<(String, &'d Value)>,
    /// The bootstrap, in which Envoy says its version. istiod knows none.
    pub(super) bootstrap: Option<&'d Value>,
}

/// What else stands in an entry, beside the resource itself.
const BESIDE: [&str; 4] = [
    "version_info",
    "last_updated",
    "client_status",
    "error_state",
];

impl<'d> Dump<'d> {
    pub(super) fn read(dump: &'d Value, problems: &mut Vec<RenderError>) -> Self {
        let mut read = Self::default();
        if dump.get("configs").and_then(Value::as_array).is_none() {
            problems.push(RenderError::new("dump", "it has no list of `configs`"));
        }
        for config in items(dump, "configs") {
            let url = config.get("@type").and_then(Value::as_str);
            let kind = url.and_then(|url| url.rsplit('.').next());
            if kind == Some("BootstrapConfigDump") {
                read.bootstrap = config.get("bootstrap").or(read.bootstrap);
            }
            read.section(kind.unwrap_or_default(), config, problems);
        }
        read
    }

    fn section(&mut self, kind: &str, config: &'d Value, problems: &mut Vec<RenderError>) {
        if !kind.ends_with("ConfigDump") {
            let message = format!("a part of no known kind: {}", brief(config));
            problems.push(RenderError::new("dump", message));
        }
        let fields = config.as_object().into_iter().flatten();
        let fields = fields.filter(|(field, _)| *field != "@type" && *field != "version_info");
        for (field, entries) in fields {
            let (into, resource, what) = match (kind, &**field) {
                // Secrets are no way out. Endpoints are those of Istio's clusters, where no route
                // leads. Of the bootstrap, listeners and clusters come again by themselves.
                ("BootstrapConfigDump" | "SecretsConfigDump" | "EndpointsConfigDump", _) => {
                    continue;
                }
                ("ListenersConfigDump", "dynamic_listeners") => {
                    (&mut self.listeners, "listener", "listener")
                }
                ("ListenersConfigDump", "static_listeners") => {
                    (&mut self.static_listeners, "listener", "listener")
                }
                ("RoutesConfigDump", "static_route_configs") => {
                    (&mut self.inline_routes, "route_config", "routes")
                }
                ("RoutesConfigDump", "dynamic_route_configs") => {
                    (&mut self.routes, "route_config", "routes")
                }
                ("ClustersConfigDump", "static_clusters") => {
                    (&mut self.static_clusters, "cluster", "cluster")
                }
                ("ClustersConfigDump", "dynamic_active_clusters" | "dynamic_warming_clusters") => {
                    (&mut self.clusters, "cluster", "cluster")
                }
                ("EcdsConfigDump", "ecds_filters") => {
                    (&mut self.extensions, "ecds_filter", "extension")
                }
                (kind, field) => {
                    let message =
                        format!("`{field}` of {kind} was not rendered, nor is it Istio's");
                    problems.push(RenderError::new("dump", message));
                    continue;
                }
            };
            let Some(entries) = entries.as_array() else {
                problems.push(RenderError::new("dump", format!("`{field}` is no list")));
                continue;
            };
            for entry in entries {
                if field == "dynamic_listeners" {
                    dynamic_listener(entry, into, problems);
                    continue;
                }
                take(entry, resource, what, into, problems);
            }
        }
    }
}

/// A listener in each of its states.
fn dynamic_listener<'d>(
    entry: &'d Value,
    into: &mut Vec<(String, &'d Value)>,
    problems: &mut Vec<RenderError>,
) {
    let place = format!("listener {}", name(entry));
    refused(entry, &place, problems);
    let mut there = false;
    for (field, state) in entry.as_object().into_iter().flatten() {
        let word = match &**field {
            "name" | "client_status" | "error_state" => continue,
            "active_state" => "",
            "warming_state" => " (about to be used)",
            "draining_state" => " (no longer for new connections)",
            _ => {
                let message = format!("its entry in the dump has `{field}`, which cannot be read");
                problems.push(RenderError::new(&*place, message));
                continue;
            }
        };
        there = true;
        unknown(state, "listener", &place, problems);
        match state.get("listener") {
            Some(listener) if name(listener) == name(entry) => {
                into.push((format!("{place}{word}"), listener));
            }
            _ => problems.push(RenderError::new(
                &*place,
                "its entry in the dump has no listener of that name",
            )),
        }
    }
    // One that was refused from the start has no state.
    if !there && entry.get("error_state").is_none() {
        problems.push(RenderError::new(
            place,
            "its entry in the dump cannot be read",
        ));
    }
}

fn take<'d>(
    entry: &'d Value,
    resource: &str,
    what: &str,
    into: &mut Vec<(String, &'d Value)>,
    problems: &mut Vec<RenderError>,
) {
    let Some(found) = entry.get(resource) else {
        let message = format!("an entry has no `{resource}`: {}", brief(entry));
        problems.push(RenderError::new("dump", message));
        return;
    };
    let place = format!("{what} {}", name_of(found));
    refused(entry, &place, problems);
    unknown(entry, resource, &place, problems);
    into.push((place, found));
}

/// Whatever else stands in an entry.
fn unknown(entry: &Value, resource: &str, place: &str, problems: &mut Vec<RenderError>) {
    for (field, _) in entry.as_object().into_iter().flatten() {
        if field != resource && !BESIDE.contains(&&**field) {
            let message = format!("its entry in the dump has `{field}`, which cannot be read");
            problems.push(RenderError::new(place, message));
        }
    }
}

/// An update that Envoy did not take: what runs is what was there before.
fn refused(entry: &Value, place: &str, problems: &mut Vec<RenderError>) {
    if let Some(state) = entry.get("error_state") {
        let details = state.get("details").and_then(Value::as_str);
        let message = format!(
            "an update was refused: {}",
            details.unwrap_or("no reason given")
        );
        problems.push(RenderError::new(place, message));
    }
}

/// Its name, or for a listener of the bootstrap its port.
fn name_of(resource: &Value) -> String {
    let port = resource.pointer("/address/socket_address/port_value");
    match (name(resource), port) {
        ("", Some(port)) => format!("of port {port}"),
        (name, _) => name.to_owned(),
    }
}
