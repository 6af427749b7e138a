use std::sync::Arc;

use serde_json::{Value, json};

use super::{check, value};
use crate::document::{Documents, Source};

fn schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "What it is called."},
            "port": {"type": ["integer", "null"], "minimum": 0, "maximum": 65535},
            "mode": {"oneOf": [{"const": "On", "type": "string"}, {"const": "Off", "type": "string"}]},
            "kind": {"enum": ["Alpha", "Beta"], "type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "items": {"$ref": "#/$defs/Entry"}},
            "own": {"anyOf": [{"$ref": "#/$defs/Entry"}, {"type": "null"}]},
        },
        "$defs": {"Entry": {
            "type": "object",
            "additionalProperties": false,
            "required": ["at"],
            "properties": {"at": {"type": "integer"}},
        }},
    })
}

/// A document; code, line and column, and message of all that is wrong with it.
#[test]
fn everything_is_told_where_it_stands() {
    for (text, expected) in [
        (
            "name: a\nport: 80\nmode: On\nown: null\nlabels: {a: b}\nlist: [{at: 1}]\n",
            "",
        ),
        (
            "port: 80\n",
            "missing_field 1:1 `name` is missing (What it is called.)",
        ),
        (
            "name: a\nprot: 80\n",
            "unknown_field 2:1 unknown field `prot` (did you mean `port`?)",
        ),
        (
            "name: true\n",
            "wrong_type 1:7 expected a text, found a boolean (put it in quotes)",
        ),
        (
            "name: a\nport: 70000\n",
            "bad_value 2:7 `70000` is not in 0 to 65535",
        ),
        (
            "name: a\nport: 1.5\n",
            "wrong_type 2:7 expected a whole number, found a number",
        ),
        (
            "name: a\nmode: on\n",
            "bad_value 2:7 unknown value `on` (did you mean `On`?)",
        ),
        (
            "name: a\nkind: Gamma\n",
            "bad_value 2:7 unknown value `Gamma` (one of `Alpha`, `Beta`)",
        ),
        (
            "name: a\nlabels: {a: true}\n",
            "wrong_type 2:13 expected a text, found a boolean (put it in quotes)",
        ),
        (
            "name: a\nname: b\n",
            "duplicate_field 2:1 `name` is given twice",
        ),
        (
            "list:\n- {at: x}\n- {to: 1}\nname: a\n",
            "wrong_type 2:8 expected a whole number, found a text\n\
             unknown_field 3:4 unknown field `to` (one of `at`)\n\
             missing_field 3:3 `at` is missing",
        ),
        (
            "name: a\nown: {at: x}\n",
            "wrong_type 2:11 expected a whole number, found a text",
        ),
    ] {
        let source = Arc::new(Source::new("settings.yaml", text));
        let documents = Documents::parse(source).unwrap();
        let found: Vec<_> = check(documents.roots().next().unwrap(), &schema())
            .into_iter()
            .map(|one| {
                let (line, column) = one.location.unwrap().line_column();
                let hint = one
                    .hint
                    .map(|hint| format!(" ({hint})"))
                    .unwrap_or_default();
                format!("{} {line}:{column} {}{hint}", one.code, one.message)
            })
            .collect();
        assert_eq!(found.join("\n"), expected, "{text}");
    }
}

#[test]
fn what_is_a_text_stays_as_it_is_written() {
    let text = "name: 1.30\nport: 80\nlabels: {a: 007}\nown: {at: 2}\nlist: []\n";
    let documents = Documents::parse(Arc::new(Source::new("settings.yaml", text))).unwrap();
    let root = documents.roots().next().unwrap();
    assert!(check(root, &schema()).is_empty());
    let found = value(root, &schema()).unwrap();
    let wanted = json!({
        "name": "1.30", "port": 80, "labels": {"a": "007"}, "own": {"at": 2}, "list": [],
    });
    assert_eq!(found, wanted);
}
