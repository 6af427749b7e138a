//! The bootstraps in `envoy-config/`, filled in.

use anyhow::{Result, bail};
use serde_json::Value;

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

#[cfg(test)]
mod tests {
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
