//! Reading a configuration dump: Envoy writes field names as in the protocol, istiod as in JSON.

use serde_json::Value;

/// The same document with every key in snake case. Keys of maps, such as names of policies, are
/// changed too; none of them matters here.
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
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// Listeners that come from the control plane, in use or about to be.
pub(super) fn listeners(dump: &Value) -> Vec<&Value> {
    let states = section(dump, "ListenersConfigDump", "dynamic_listeners");
    let state =
        |entry: &'_ Value, name: &str| entry.pointer(&format!("/{name}/listener")).is_some();
    states
        .into_iter()
        .filter_map(|entry| {
            let name = ["active_state", "warming_state"]
                .into_iter()
                .find(|name| state(entry, name))?;
            entry.pointer(&format!("/{name}/listener"))
        })
        .collect()
}

/// Route configurations.
pub(super) fn routes(dump: &Value) -> Vec<&Value> {
    let entries = section(dump, "RoutesConfigDump", "dynamic_route_configs");
    entries
        .into_iter()
        .filter_map(|entry| entry.get("route_config"))
        .collect()
}

/// Clusters, in use or about to be.
pub(super) fn clusters(dump: &Value) -> Vec<&Value> {
    let active = section(dump, "ClustersConfigDump", "dynamic_active_clusters");
    let warming = section(dump, "ClustersConfigDump", "dynamic_warming_clusters");
    active
        .into_iter()
        .chain(warming)
        .filter_map(|entry| entry.get("cluster"))
        .collect()
}

/// Configurations that filters discover by name, each with its name and the text that its module
/// gets, if what stands there is a module that gets one. istiod leaves out the name, or names a
/// module only by its own configuration.
pub(super) fn extensions(dump: &Value) -> Vec<(&str, Option<&str>)> {
    let entries = section(dump, "EcdsConfigDump", "ecds_filters");
    let filters = entries
        .into_iter()
        .filter_map(|entry| entry.get("ecds_filter"));
    filters
        .map(|filter| {
            let config = filter.get("typed_config").unwrap_or(filter).get("config");
            let name = filter.get("name").or_else(|| config?.get("name"));
            let text = config.and_then(|config| config.pointer("/configuration/value"));
            let name = name.and_then(Value::as_str).unwrap_or_default();
            (name, text.and_then(Value::as_str))
        })
        .collect()
}

fn section<'d>(dump: &'d Value, kind: &str, field: &str) -> Vec<&'d Value> {
    let is_kind = |config: &&Value| {
        let url = config.get("@type").and_then(Value::as_str);
        url.is_some_and(|url| url.ends_with(kind))
    };
    let configs = super::items(dump, "configs").filter(is_kind);
    configs
        .flat_map(|config| super::items(config, field))
        .collect()
}
