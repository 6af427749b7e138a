//! The bootstraps in `envoy-config/`, filled in.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use egress_policy::contract::{
    CLUSTER_ENDED_OUT, CLUSTER_HTTP, CLUSTER_TCP, CLUSTER_TLS, DYNAMIC_PORT, HOST, LITERAL,
    class_cluster, resolve_property,
};
use serde_json::{Value, json};

const EACH: &str = "# for each class";
const END: &str = "# end";

/// Repeats what stands between the lines `# for each class` and `# end`, once for each of these
/// classes, with its values in place of their `${NAME}`.
///
/// # Errors
/// If a block does not end, or ends before it begins.
pub fn repeat(template: &str, classes: &[Vec<(&str, String)>]) -> Result<String> {
    let mut text = String::with_capacity(template.len());
    let mut block: Option<String> = None;
    for line in template.split_inclusive('\n') {
        match (line.trim(), &mut block) {
            (EACH, None) => block = Some(String::new()),
            (EACH, Some(_)) => bail!("`{EACH}` inside another"),
            (END, _) => {
                let block = block
                    .take()
                    .with_context(|| format!("`{END}` of nothing"))?;
                for values in classes {
                    let fill = |text: String, (name, value): &(&str, String)| {
                        text.replace(&format!("${{{name}}}"), value)
                    };
                    text.push_str(&values.iter().fold(block.clone(), fill));
                }
            }
            (_, Some(block)) => block.push_str(line),
            (_, None) => text.push_str(line),
        }
    }
    ensure!(block.is_none(), "`{EACH}` without `{END}`");
    Ok(text)
}

/// Replaces every `${NAME}`.
///
/// # Errors
/// If a name is not given, or a `${` is not closed.
pub fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else {
            bail!("unclosed placeholder");
        };
        text.push_str(before);
        // A comment speaks of `${...}` itself.
        if name == "..." {
            text.push_str("${...}");
        } else {
            let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
                bail!("no value for ${{{name}}}");
            };
            text.push_str(value);
        }
        rest = tail;
    }
    text.push_str(rest);
    Ok(text)
}

/// A filled-in bootstrap as a value that can be changed and given to Envoy as JSON.
///
/// # Errors
/// If it is not YAML.
pub fn parse(text: &str) -> Result<Value> {
    Ok(serde_saphyr::from_str(text)?)
}

/// Calls `change` for every object, from the outside in.
pub fn each_object(value: &mut Value, change: &mut dyn FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object
                .values_mut()
                .for_each(|value| each_object(value, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Takes every filter with one of these names out of every chain.
pub fn remove_filters(config: &mut Value, names: &[&str]) {
    match config {
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                if let ("filters" | "http_filters", Value::Array(filters)) =
                    (key.as_str(), &mut *value)
                {
                    filters.retain(|filter| {
                        let name = filter.get("name").and_then(Value::as_str);
                        name.is_none_or(|name| !names.contains(&name))
                    });
                }
                remove_filters(value, names);
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| remove_filters(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Lets Envoy read listeners and clusters from files beside the policies', where they can change:
/// the bootstrap then only names them. The files are `cds.json` and `lds.json`; `between` runs when the
/// first is there, because Envoy refuses a listener whose clusters it does not have yet.
///
/// # Errors
/// If there is nothing to read them from.
pub fn discovered(
    config: &mut Value,
    directory: &Path,
    between: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let resources = config
        .get_mut("static_resources")
        .map(Value::take)
        .context("no static resources")?;
    let put = |(kind, file, name): (&str, &str, &str)| -> Result<()> {
        let mut found = resources.get(kind).cloned().unwrap_or_default();
        for resource in found.as_array_mut().into_iter().flatten() {
            let kind = format!("type.googleapis.com/envoy.config.{name}");
            if let Some(fields) = resource.as_object_mut() {
                fields.insert("@type".to_owned(), Value::from(kind));
            }
        }
        write(directory, file, &json!({"resources": found}))
    };
    put(("clusters", "cds", "cluster.v3.Cluster"))?;
    between()?;
    put(("listeners", "lds", "listener.v3.Listener"))?;
    let from = |file: &str| {
        let path = directory.join(format!("{file}.json"));
        json!({"resource_api_version": "V3", "path_config_source": {"path": path}})
    };
    let fields = config.as_object_mut().context("no bootstrap")?;
    fields.remove("static_resources");
    let dynamic = json!({"lds_config": from("lds"), "cds_config": from("cds")});
    fields.insert("dynamic_resources".to_owned(), dynamic);
    Ok(())
}

/// Puts a file in place in one step, which Envoy notices.
fn write(directory: &Path, file: &str, content: &Value) -> Result<()> {
    let staged = directory.join(format!(".{file}.staged"));
    std::fs::write(&staged, serde_json::to_vec(content)?)?;
    std::fs::rename(staged, directory.join(format!("{file}.json")))?;
    Ok(())
}

/// A gateway that keeps nobody from anything: without the module and its locks, and whatever the
/// routes say leads out by a class that refuses nothing.
pub fn open_wide(config: &mut Value) {
    remove_filters(
        config,
        &[
            "warden-http",
            "warden-connect",
            "warden-tls",
            "warden-direct",
            "warden-ended",
            "lock",
        ],
    );
    let Some(class) = some_class(config) else {
        return;
    };
    let by_class = [
        CLUSTER_HTTP,
        CLUSTER_TCP,
        CLUSTER_TLS,
        CLUSTER_ENDED_OUT,
        "warden-originate",
    ];
    each_object(config, &mut |object| {
        object.remove("resolved_address_filter");
        if let Some(Value::String(cluster)) = object.get_mut("cluster")
            && by_class.contains(&cluster.as_str())
        {
            *cluster = class_cluster(cluster, &class);
        }
        // What the module says of TLS else.
        let is_inner = object.get("name").is_some_and(|name| name == "tls-inner");
        if let (true, Some(Value::Array(filters))) = (is_inner, object.get_mut("filters")) {
            filters.insert(0, words_of_tls(&class));
        }
    });
}

/// Some class that resolves.
fn some_class(config: &mut Value) -> Option<String> {
    let mut found = None;
    each_object(config, &mut |object| {
        let name = object.get("name").and_then(Value::as_str);
        let class = name.and_then(|name| name.strip_prefix("warden-tls-"));
        if let Some(class) = class
            && object.contains_key("cluster_type")
            && class != LITERAL
        {
            found.get_or_insert_with(|| class.to_owned());
        }
    });
    found
}

/// Name and port of TLS, as the module would say them.
fn words_of_tls(class: &str) -> Value {
    let text = |key: &str, factory: &str, text: &str| {
        json!({
            "object_key": key,
            "factory_key": factory,
            "format_string": {"text_format_source": {"inline_string": text}},
        })
    };
    let name = "%REQUESTED_SERVER_NAME%";
    let resolve = format!("wasm.{}", resolve_property(class));
    json!({
        "name": "words",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
            "on_new_connection": [
                text(DYNAMIC_PORT, DYNAMIC_PORT, "443"),
                text(&format!("wasm.{HOST}"), "envoy.string", name),
                text(&resolve, "envoy.string", name),
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use egress_policy::contract::{ENVOY_HEADERS, InspectionFact, MESH_HEADERS};

    use super::*;

    #[test]
    fn placeholders_are_filled_and_a_forgotten_one_is_an_error() {
        assert_eq!(
            fill("a ${X} b ${...}", &[("X", "1")]).unwrap(),
            "a 1 b ${...}"
        );
        assert!(fill("${Y}", &[("X", "1")]).is_err());
        assert!(fill("${X", &[("X", "1")]).is_err());
    }

    const GATEWAY: &str = include_str!("../../envoy-config/gateway.yaml");
    const SIDECAR: &str = include_str!("../../envoy-config/sidecar.yaml");

    #[test]
    fn the_bootstrap_removes_the_headers_that_stay_in_the_mesh() {
        let (_, list) = GATEWAY
            .split_once("request_headers_to_remove: &inward\n")
            .unwrap();
        let listed: BTreeSet<_> = list
            .lines()
            .map_while(|line| line.trim_start().strip_prefix("- "))
            .filter(|item| !item.contains(':'))
            .collect();
        let wanted: BTreeSet<_> = MESH_HEADERS.into_iter().chain(ENVOY_HEADERS).collect();
        assert_eq!(listed, wanted);
    }

    /// Filter state, properties and headers that the bootstraps share with the module.
    #[test]
    fn the_bootstraps_have_the_contracts_words() {
        let contract = include_str!("../../policy/src/contract.rs");
        let facts = InspectionFact::ALL.map(InspectionFact::property_state);
        // A class's own, and what only the bootstrap has.
        let others = ["wasm.warden_resolve_", "warden.peer"];
        let mut seen = BTreeSet::new();
        for text in [GATEWAY, SIDECAR] {
            for word in text.split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)) {
                let ours = ["wasm.warden_", "warden.", "x-egress-warden-"];
                if ours.iter().any(|ours| word.starts_with(ours)) {
                    let known = contract.contains(&format!("\"{word}\""))
                        || facts.iter().any(|fact| fact == word)
                        || others.contains(&word)
                        || word == format!("wasm.{HOST}");
                    assert!(known, "{word}");
                    seen.insert(word);
                }
            }
        }
        assert!(seen.len() >= 15, "{seen:?}");
    }

    #[test]
    fn a_block_comes_once_for_each_class() {
        let class = |name: &str| vec![("CLASS", name.to_owned())];
        let template = "a\n  # for each class\n  - ${CLASS} ${CLASS} ${X}\n  # end\nb ${CLASS}\n";
        let twice = repeat(template, &[class("p"), class("q")]).unwrap();
        assert_eq!(twice, "a\n  - p p ${X}\n  - q q ${X}\nb ${CLASS}\n");
        assert_eq!(repeat(template, &[]).unwrap(), "a\nb ${CLASS}\n");
        for wrong in [
            "# for each class\n",
            "# end\n",
            "# for each class\n# for each class\n",
        ] {
            assert!(repeat(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_filter_is_removed_wherever_it_stands() {
        let mut config =
            parse("{a: [{filters: [{name: x, http_filters: [{name: lock}]}, {name: lock}]}]}")
                .unwrap();
        remove_filters(&mut config, &["lock"]);
        assert_eq!(
            config,
            serde_json::json!({"a": [{"filters": [{"name": "x", "http_filters": []}]}]})
        );
    }
}
