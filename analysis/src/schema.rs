//! A document held against a JSON Schema: everything that is wrong with its form at once, each where it
//! stands.
//!
//! Of JSON Schema 2020-12 only what `schemars` writes for the install settings: `$ref`, `anyOf`,
//! `oneOf`, `type`, `const`, `enum`, `properties`, `required`, `additionalProperties`, `items`,
//! `minimum` and `maximum`. The reader of the settings has the last word.

use egress_policy::defect::{At, DefectKind, Defects, one_of, suggestion};
use egress_policy::tree::{Node as _, Shape};
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::document::Node;

/// Everything in which a document is not what the schema says.
#[must_use]
pub fn check(document: Node<'_>, schema: &Value) -> Vec<Diagnostic> {
    let mut defects = Defects::default();
    let checker = Checker { whole: schema };
    checker.node(document, schema, &At::root(), &mut defects);
    let defects = defects.into_vec();
    defects
        .iter()
        .map(|defect| Diagnostic::of_defect(defect, document))
        .collect()
}

/// A document as JSON, where the schema says which scalars are texts: `1.30` is one of them, and as a
/// number it would be 1.3.
///
/// # Errors
/// A part that JSON cannot say.
pub fn value(document: Node<'_>, schema: &Value) -> Result<Value, String> {
    Checker { whole: schema }.value(document, schema)
}

struct Checker<'s> {
    whole: &'s Value,
}

impl<'s> Checker<'s> {
    fn node(&self, node: Node<'_>, schema: &'s Value, at: &At<'_>, defects: &mut Defects) {
        let schema = self.resolved(schema);
        for list in ["anyOf", "oneOf"] {
            if let Some(list) = schema.get(list).and_then(Value::as_array) {
                return self.alternatives(node, list, at, defects);
            }
        }
        let Ok(shape) = node.shape() else { return };
        if !types(schema).is_empty() && !types(schema).iter().any(|one| is_type(&shape, one)) {
            let wanted = types(schema).into_iter().filter(|one| *one != "null");
            let wanted: Vec<_> = wanted.map(in_words).collect();
            let message = format!(
                "expected {}, found {}",
                wanted.join(" or "),
                shape.describe()
            );
            let hint = match &shape {
                Shape::Bool(_) if wanted == ["a text"] => Some("put it in quotes".to_owned()),
                Shape::Text(text) if text.parse::<i64>().is_ok() => {
                    Some("leave the quotes out".to_owned())
                }
                _ => None,
            };
            defects.add(DefectKind::WrongType, at, message, hint);
            return;
        }
        match &shape {
            Shape::Map(_) => self.mapping(node, schema, at, defects),
            Shape::List(_) => {
                if let Some(items) = schema.get("items") {
                    for (i, item) in node.items().enumerate() {
                        self.node(item, items, &at.index(i), defects);
                    }
                }
            }
            Shape::Text(text) => words(text, schema, at, defects),
            Shape::Number(text) => bounds(text, schema, at, defects),
            Shape::Null | Shape::Bool(_) => {}
        }
    }

    /// The one that fits, or what is wrong by the only one that could.
    fn alternatives(&self, node: Node<'_>, list: &'s [Value], at: &At<'_>, defects: &mut Defects) {
        let mut said = None;
        let mut known = Vec::new();
        for one in list {
            let mut found = Defects::default();
            self.node(node, one, at, &mut found);
            if found.is_empty() {
                return;
            }
            let one = self.resolved(one);
            known.extend(one.get("const").and_then(Value::as_str));
            if types(one) != ["null"] {
                said = Some(found);
            }
        }
        match node.text() {
            // An enumeration whose values have a description each.
            Some(text) if !known.is_empty() => {
                let is_list = |one: &Value| types(self.resolved(one)) == ["array"];
                if list.iter().any(is_list) && !text.is_empty() {
                    let message = format!("expected a list, found `{text}`");
                    let hint = format!("write `[{text}]`, or {}", one_of(&known));
                    defects.add(DefectKind::WrongType, at, message, Some(hint));
                } else {
                    unknown_word(text, &known, at, defects);
                }
            }
            _ => said.into_iter().for_each(|said| defects.append(said)),
        }
    }

    fn mapping(&self, node: Node<'_>, schema: &'s Value, at: &At<'_>, defects: &mut Defects) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let known: Vec<&str> = properties
            .into_iter()
            .flat_map(|fields| fields.keys().map(String::as_str))
            .collect();
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in node.fields() {
            let Some(name) = key.text() else { continue };
            let here = at.field(name);
            if seen.contains(&name) {
                let message = format!("`{name}` is given twice");
                defects.add(DefectKind::DuplicateField, &here, message, None);
            }
            seen.push(name);
            match properties.and_then(|fields| fields.get(name)) {
                Some(field) => self.node(value, field, &here, defects),
                None => match schema.get("additionalProperties") {
                    Some(Value::Bool(false)) => {
                        let hint = suggestion(name, known.iter().copied());
                        let hint = hint.unwrap_or_else(|| one_of(&known));
                        let message = format!("unknown field `{name}`");
                        defects.add(DefectKind::UnknownField, &here, message, Some(hint));
                    }
                    Some(Value::Bool(true)) | None => {}
                    Some(any) => self.node(value, any, &here, defects),
                },
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !seen.contains(&name) {
                let field = properties.and_then(|fields| fields.get(name));
                let about = field.and_then(|field| field.get("description")?.as_str());
                let message = format!("`{name}` is missing");
                let hint = about.map(|text| text.replace('\n', " "));
                defects.add(DefectKind::MissingField, at, message, hint);
            }
        }
    }

    fn value(&self, node: Node<'_>, schema: &'s Value) -> Result<Value, String> {
        let schema = self.stated(schema);
        Ok(match node.shape()? {
            Shape::Null => Value::Null,
            Shape::Bool(value) => Value::Bool(value),
            Shape::Text(text) => Value::String(text.into_owned()),
            Shape::Number(text) if types(schema).contains(&"string") => {
                Value::String(text.into_owned())
            }
            Shape::Number(text) => {
                let number = serde_json::from_str(&text);
                number.map_err(|_| format!("`{text}` is no number in JSON"))?
            }
            Shape::List(_) => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                let values = node.items().map(|item| self.value(item, items));
                values.collect::<Result<_, _>>()?
            }
            Shape::Map(_) => {
                let field = |name: &str| schema.get("properties")?.get(name);
                let any = schema.get("additionalProperties");
                let any = any.filter(|any| any.is_object()).unwrap_or(&Value::Null);
                let values = node.fields().map(|(key, value)| {
                    let name = key.text().ok_or("a key is no text")?.to_owned();
                    let value = self.value(value, field(&name).unwrap_or(any))?;
                    Ok::<_, String>((name, value))
                });
                Value::Object(values.collect::<Result<_, _>>()?)
            }
        })
    }

    /// The schema itself, or the one alternative beside `null`.
    fn stated(&self, schema: &'s Value) -> &'s Value {
        let schema = self.resolved(schema);
        let list = schema.get("anyOf").and_then(Value::as_array);
        let mut list = list.into_iter().flatten().map(|one| self.resolved(one));
        list.find(|one| types(one) != ["null"]).unwrap_or(schema)
    }

    fn resolved(&self, schema: &'s Value) -> &'s Value {
        let reference = schema.get("$ref").and_then(Value::as_str);
        reference
            .and_then(|reference| self.whole.pointer(reference.strip_prefix('#')?))
            .unwrap_or(schema)
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_type<N>(shape: &Shape<'_, N>, word: &str) -> bool {
    match shape {
        Shape::Null => word == "null",
        Shape::Bool(_) => word == "boolean",
        // As written: a version or a digest may be all digits.
        Shape::Number(text) => {
            matches!(word, "number" | "string") || word == "integer" && text.parse::<i64>().is_ok()
        }
        Shape::Text(_) => word == "string",
        Shape::List(_) => word == "array",
        Shape::Map(_) => word == "object",
    }
}

fn in_words(word: &str) -> &str {
    match word {
        "boolean" => "a boolean",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a text",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

fn words(text: &str, schema: &Value, at: &At<'_>, defects: &mut Defects) {
    let known: Vec<&str> = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(list)), _) => list.iter().filter_map(Value::as_str).collect(),
        (_, Some(Value::String(one))) => vec![one],
        _ => return,
    };
    if !known.contains(&text) {
        unknown_word(text, &known, at, defects);
    }
}

fn unknown_word(text: &str, known: &[&str], at: &At<'_>, defects: &mut Defects) {
    let message = format!("unknown value `{text}`");
    let alike = known.iter().find(|one| one.eq_ignore_ascii_case(text));
    let hint = match alike {
        Some(one) => format!("did you mean `{one}`?"),
        None => suggestion(text, known.iter().copied()).unwrap_or_else(|| one_of(known)),
    };
    defects.add(DefectKind::BadValue, at, message, Some(hint));
}

fn bounds(text: &str, schema: &Value, at: &At<'_>, defects: &mut Defects) {
    let Ok(number) = text.parse::<i64>() else {
        return;
    };
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    let fits = least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
    if !fits {
        let message = match (least, most) {
            (Some(least), Some(most)) => format!("`{text}` is not in {least} to {most}"),
            (Some(least), None) => format!("`{text}` is less than {least}"),
            (None, _) => format!("`{text}` is too large"),
        };
        defects.add(DefectKind::BadValue, at, message, None);
    }
}

#[cfg(test)]
mod tests;
