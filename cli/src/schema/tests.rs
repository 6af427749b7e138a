use std::collections::BTreeSet;

use egress_policy::model::Policy;
use egress_policy::tree::Json;
use serde_json::{Map, Value, json};

use super::policy_schema;

#[test]
fn the_committed_schema_is_this_one() {
    let committed = include_str!("../../../docs/policy.schema.json");
    let now = format!("{:#}\n", policy_schema());
    assert_eq!(
        committed, now,
        "run `warden schema > docs/policy.schema.json`"
    );
}

/// A document in which every field of the schema is there, as far as one document can say it.
fn example(schema: &Value, root: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return example(&root["$defs"][reference.rsplit('/').next().unwrap()], root);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return example(&any[0], root);
    }
    if let Some(value) = schema["const"].as_object().map(|_| &schema["const"]) {
        return value.clone();
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words[0].clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let mut object = Map::new();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                object.insert(name.clone(), example(property, root));
            }
            if schema["additionalProperties"].is_object() {
                object.insert("x".into(), example(&schema["additionalProperties"], root));
            }
            Value::Object(object)
        }
        Some("array") => json!([example(&schema["items"], root)]),
        Some("boolean") => json!(true),
        Some("integer") => json!(443),
        _ => json!("x"),
    }
}

/// Every mapping of the schema with fixed fields: its path in the example, and its fields.
fn mappings(
    schema: &Value,
    root: &Value,
    path: Vec<String>,
    found: &mut Vec<(Vec<String>, BTreeSet<String>)>,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        return mappings(
            &root["$defs"][reference.rsplit('/').next().unwrap()],
            root,
            path,
            found,
        );
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return mappings(&any[0], root, path, found);
    }
    if let Some(properties) = schema["properties"].as_object() {
        found.push((path.clone(), properties.keys().cloned().collect()));
        for (name, property) in properties {
            mappings(
                property,
                root,
                [path.clone(), vec![name.clone()]].concat(),
                found,
            );
        }
    } else if schema["additionalProperties"].is_object() {
        mappings(
            &schema["additionalProperties"],
            root,
            [path, vec!["x".into()]].concat(),
            found,
        );
    } else if schema["items"].is_object() {
        mappings(
            &schema["items"],
            root,
            [path, vec!["0".into()]].concat(),
            found,
        );
    }
}

fn at<'v>(value: &'v mut Value, path: &[String]) -> &'v mut Value {
    path.iter()
        .fold(value, |value, step| match step.parse::<usize>() {
            Ok(index) => &mut value[index],
            Err(_) => &mut value[step.as_str()],
        })
}

/// The decoder names all fields that it knows when it meets one that it does not.
#[test]
fn the_schema_and_the_decoder_know_the_same_fields() {
    let schema = policy_schema();
    let mut found = Vec::new();
    mappings(&schema, &schema, Vec::new(), &mut found);
    assert!(found.len() >= 12, "{found:?}");
    for (path, fields) in found {
        let mut document = example(&schema, &schema);
        at(&mut document, &path)["qqqqqqqqqqqq"] = json!(1);
        let text = document.to_string();
        let defects = Policy::read(&Json::parse(&text).unwrap()).unwrap_err();
        let unknown = defects
            .iter()
            .find(|defect| defect.message == "unknown field `qqqqqqqqqqqq`")
            .unwrap_or_else(|| panic!("{path:?} takes any field: {defects:#?}"));
        let hint = unknown.hint.clone().unwrap();
        let known: BTreeSet<String> = hint
            .trim_start_matches("one of ")
            .split(", ")
            .map(|name| name.trim_matches('`').to_owned())
            .collect();
        assert_eq!(known, fields, "at {path:?}");
    }
}

/// What the schema requires, the decoder requires; what has words, has the same words.
#[test]
fn the_schema_and_the_decoder_require_and_accept_the_same() {
    let text = std::fs::read_to_string("../cases/policies/reference.yaml").unwrap();
    let source = std::sync::Arc::new(egress_analysis::document::Source::new(
        "reference.yaml",
        text,
    ));
    let documents = egress_analysis::document::Documents::parse(source).unwrap();
    let root = documents.roots().next().unwrap();
    let reference: Value =
        serde_json::from_str(&egress_analysis::document::to_json(&root).unwrap()).unwrap();
    let schema = policy_schema();
    assert!(valid(&schema, &schema, &reference));
    let changes: &[(&str, Value)] = &[
        ("/kind", json!("Policy")),
        ("/metadata", json!({})),
        ("/spec/identity/trustDomains", json!([])),
        ("/spec/tiers", json!([])),
        ("/spec/tiers/0/rules", json!([])),
        ("/spec/tiers/0/default", json!("Accept")),
        ("/spec/tiers/1/rules/0/action", json!("accept")),
        ("/spec/tiers/1/rules/0/name", json!("No Spaces")),
        ("/spec/tiers/1/rules/0/from", json!([])),
        ("/spec/tiers/1/rules/0/from/0/namespaces/0", json!("UPPER")),
        ("/spec/tiers/1/rules/0/to/0", json!({})),
        (
            "/spec/tiers/1/rules/0/from/0/matchLabels",
            json!({"a": true}),
        ),
        ("/spec/tiers/1/rules/1/to/0/ports/0", json!(70_000)),
        ("/spec/tiers/1/rules/1/to/0/ports/0", json!("22-")),
        ("/spec/tiers/1/rules/1/to/0/protocols/0", json!("ssh")),
        ("/spec/default", json!("Pass")),
    ];
    for (pointer, value) in changes {
        let mut document = reference.clone();
        if let Some(place) = document.pointer_mut(pointer) {
            *place = value.clone();
        } else {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        let text = document.to_string();
        let decoded = Policy::read(&Json::parse(&text).unwrap());
        assert!(decoded.is_err(), "the decoder takes {pointer} = {value}");
        assert!(
            !valid(&schema, &schema, &document),
            "the schema takes {pointer} = {value}"
        );
    }
}

/// As much of JSON Schema as the policy's needs.
fn valid(schema: &Value, root: &Value, value: &Value) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return valid(
            &root["$defs"][reference.rsplit('/').next().unwrap()],
            root,
            value,
        );
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().any(|one| valid(one, root, value));
    }
    if !schema["const"].is_null() {
        return schema["const"] == *value;
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.contains(value);
    }
    match (schema["type"].as_str(), value) {
        (Some("object"), Value::Object(object)) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let all = required
                .into_iter()
                .all(|name| object.contains_key(name.as_str().unwrap()));
            all && !object.is_empty()
                && object
                    .iter()
                    .all(|(name, value)| match &schema["properties"][name] {
                        Value::Null => {
                            schema["additionalProperties"].is_object()
                                && valid(&schema["additionalProperties"], root, value)
                        }
                        property => valid(property, root, value),
                    })
        }
        (Some("array"), Value::Array(items)) => {
            !items.is_empty() && items.iter().all(|item| valid(&schema["items"], root, item))
        }
        (Some("string"), Value::String(text)) => {
            // Of the patterns, only what the cases above need.
            let lower = schema["pattern"]
                .as_str()
                .is_some_and(|p| p.starts_with("^[a-z0-9"));
            let digits = schema["pattern"]
                .as_str()
                .is_some_and(|p| p.starts_with("^[1-9]"));
            let odd = text.chars().any(|c| c.is_ascii_uppercase() || c == ' ');
            let open = text.ends_with('-');
            (!lower || !odd) && (!digits || !open)
        }
        (Some("integer"), Value::Number(number)) => {
            number.as_u64().is_some_and(|n| (1..=65535).contains(&n))
        }
        (Some("boolean"), Value::Bool(_)) => true,
        _ => false,
    }
}
