use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use egress_analysis::document::{Documents, Source};
use egress_policy::case::CaseFile;
use egress_policy::defect::Defect;
use egress_policy::model::Policy;
use egress_policy::tree::Json;
use serde_json::{Map, Value, json};

use super::{cases_schema, policy_schema, settings_schema};
use crate::tests::outputs::wrong;
use crate::tests::support::Folder;

#[test]
fn the_committed_schemas_are_these() {
    for (flag, schema, committed) in [
        (
            "",
            policy_schema(),
            include_str!("../../../docs/policy.schema.json"),
        ),
        (
            " --settings",
            settings_schema(),
            include_str!("../../../docs/settings.schema.json"),
        ),
        (
            " --cases",
            cases_schema(),
            include_str!("../../../docs/cases.schema.json"),
        ),
    ] {
        let now = format!("{schema:#}\n");
        let (_, name) = schema["$id"].as_str().unwrap().rsplit_once('/').unwrap();
        assert!(
            committed == now,
            "run `warden schema{flag} > docs/{name}`: {:#?}",
            committed.lines().zip(now.lines()).find(|(a, b)| a != b)
        );
        let ran = Folder::with(&[]).warden(&format!("schema{flag}"));
        assert_eq!(ran.stdout, now);
    }
}

/// An editor shows the description of a field: every field has one, itself or by what it refers to.
#[test]
fn every_field_is_described() {
    for schema in [policy_schema(), settings_schema(), cases_schema()] {
        let mut silent = Vec::new();
        undescribed(&schema, "", &mut silent);
        assert!(silent.is_empty(), "{}: {silent:#?}", schema["$id"]);
    }
}

fn undescribed(schema: &Value, at: &str, silent: &mut Vec<String>) {
    let described = |field: &Value| {
        let own = field["description"].as_str();
        own.is_some_and(|text| !text.is_empty()) || field["$ref"].is_string()
    };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if !described(field) {
            silent.push(format!("{at}/{name}"));
        }
    }
    let children: Vec<(String, &Value)> = match schema {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.map(|(i, v)| (i.to_string(), v)).collect()
        }
        _ => Vec::new(),
    };
    for (name, child) in children {
        undescribed(child, &format!("{at}/{name}"), silent);
    }
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
    if let Some(examples) = schema["examples"].as_array() {
        return examples[0].clone();
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
fn the_schemas_and_the_decoders_know_the_same_fields() {
    let policy = |json: &Json<'_>| Policy::read(json).map(drop);
    know_the_same_fields(&policy_schema(), 12, policy);
    let cases = |json: &Json<'_>| CaseFile::read(json).map(drop);
    know_the_same_fields(&cases_schema(), 10, cases);
}

fn know_the_same_fields(
    schema: &Value,
    least: usize,
    read: impl Fn(&Json<'_>) -> Result<(), Vec<Defect>>,
) {
    let mut found = Vec::new();
    mappings(schema, schema, Vec::new(), &mut found);
    assert!(found.len() >= least, "{found:?}");
    for (path, fields) in found {
        let mut document = example(schema, schema);
        at(&mut document, &path)["qqqqqqqqqqqq"] = json!(1);
        let text = document.to_string();
        let defects = read(&Json::parse(&text).unwrap()).unwrap_err();
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

/// The case files here fit the schema; what the decoder refuses for its form, the schema refuses.
#[test]
fn case_files_are_read_as_their_schema_says() {
    let schema = cases_schema();
    let mut files = 0;
    for entry in std::fs::read_dir("../cases").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let found = wrong(&schema, &schema, &document(&path), "");
            assert!(found.is_empty(), "{}: {found:#?}", path.display());
            files += 1;
        }
    }
    assert!(files > 20, "{files}");
    let fine = json!({
        "policies": ["p.yaml"],
        "settings": {"addressCheck": "none", "ports": [{"port": 80, "protocol": "HTTP"}]},
        "cases": [
            {"from": "a/b", "to": "https://a.example", "expect": "Accept"},
            {
                "name": "fields",
                "from": {"workload": "a/b", "labels": "pending"},
                "to": {"authority": {"hex": "61"}, "port": 80},
                "expect": {"verdict": "Undecided"},
                "then": [{"from": {"labels": {}}, "expect": {"verdict": "Deny", "reason": "default"}}],
            },
        ],
    });
    let agree = |document: &Value, is_fine: bool| {
        let found = wrong(&schema, &schema, document, "");
        assert_eq!(found.is_empty(), is_fine, "{found:?}\n{document:#}");
        let text = document.to_string();
        let read = CaseFile::read(&Json::parse(&text).unwrap());
        assert_eq!(read.is_ok(), is_fine, "{read:?}\n{document:#}");
    };
    agree(&fine, true);
    for (pointer, value) in [
        ("/policies", json!(null)),
        ("/policies/0", json!(1)),
        ("/settings/addressCheck", json!("off")),
        ("/settings/ports/0/protocol", json!("UDP")),
        ("/settings/ports/0/port", json!(0)),
        ("/cases", json!([])),
        ("/cases/0/expect", json!("Allow")),
        ("/cases/0/to", json!(7)),
        ("/cases/1/name", json!(["x"])),
        ("/cases/1/from/labels", json!("none")),
        ("/cases/1/from/caller", json!("anyone")),
        ("/cases/1/to/port", json!("80")),
        ("/cases/1/to/authority/hex", json!(61)),
        ("/cases/1/expect/verdict", json!("Pass")),
        ("/cases/1/then", json!([])),
        ("/cases/1/then/0/expect/reason", json!("unknown")),
        ("/cases/1/then/0/expected", json!(1)),
    ] {
        let mut document = fine.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        match name.parse::<usize>() {
            Ok(index) => parent[index] = value,
            Err(_) => parent[name] = value,
        }
        agree(&document, false);
    }
}

fn document(path: &Path) -> Value {
    parsed("", std::fs::read_to_string(path).unwrap())
}

/// The first document of a text, as JSON.
pub(crate) fn parsed(name: &str, text: String) -> Value {
    let source = Source::new(name, text);
    let documents = Documents::parse(Arc::new(source)).unwrap();
    let root = documents.roots().next().unwrap();
    serde_json::from_str(&egress_analysis::document::to_json(&root).unwrap()).unwrap()
}

/// What the schema requires, the decoder requires; what has words, has the same words.
#[test]
fn the_schema_and_the_decoder_require_and_accept_the_same() {
    let reference = document("../cases/policies/reference.yaml".as_ref());
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
