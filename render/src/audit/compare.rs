//! Comparing what is live with what was rendered, value by value, and with what Istio is known to put
//! beside it.

use serde_json::{Map, Value};

/// A field of what is live that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Which field, from the resource's root on.
    at: String,
    found: String,
    wanted: String,
}

/// What the wanted side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// A rendered value, in which every word stands for itself.
    Rendered,
    /// An entry of the list of what Istio puts there, with the words of `istio.yaml`.
    Known,
}

const ANY: &str = "<any>";
const EACH: &str = "<each>";
const ONE_OF: &str = "<one of>";
const OTHERS: &str = "<others>";

/// What resources are, which a dump says and manifests do not.
const RESOURCES: [&str; 4] = [
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
];

/// Where a live value is not the rendered one. Both are in snake case. What is left out stands for its
/// default, as in every message of proto3; nothing else may be left out or added but the type of the
/// resource itself.
pub(super) fn with_rendered(found: &Value, rendered: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut found = found.clone();
    let kind = found.get("@type").and_then(Value::as_str);
    let is_resource = kind.is_some_and(|kind| RESOURCES.contains(&kind));
    if let (Some(fields), true) = (found.as_object_mut(), is_resource) {
        fields.remove("@type");
    }
    compare(&found, rendered, "", Side::Rendered, &mut differences);
    differences
}

/// Where a live value is not one that Istio puts there.
pub(super) fn with_known(found: &Value, known: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    compare(found, known, "", Side::Known, &mut differences);
    differences
}

/// The differences for people: what is there, and what should be.
pub(super) fn sentence(differences: &[Difference]) -> String {
    const SHOWN: usize = 3;
    let word = |difference: &Difference| {
        let Difference { at, found, wanted } = difference;
        let at = if at.is_empty() { "it" } else { at };
        format!("{at} is {found}, not {wanted}")
    };
    let mut text: Vec<_> = differences.iter().take(SHOWN).map(word).collect();
    if differences.len() > SHOWN {
        text.push(format!("and {} more", differences.len() - SHOWN));
    }
    text.join("; ")
}

/// A value in a few words.
pub(super) fn brief(value: &Value) -> String {
    const LONGEST: usize = 90;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}...")
}

fn compare(found: &Value, wanted: &Value, at: &str, side: Side, into: &mut Vec<Difference>) {
    if side == Side::Known && wanted == ANY {
        return;
    }
    match (found, wanted) {
        (Value::Object(fields), Value::Object(expected)) => {
            match expected.get(ONE_OF).filter(|_| side == Side::Known) {
                Some(choices) => one_of(found, choices, at, into),
                None => objects(fields, expected, at, side, into),
            }
        }
        (_, Value::Object(expected)) if side == Side::Known && expected.contains_key(ONE_OF) => {
            let choices = expected.get(ONE_OF).unwrap_or(&Value::Null);
            one_of(found, choices, at, into);
        }
        (Value::Array(items), Value::Array(expected)) => lists(items, expected, at, side, into),
        // Envoy does not show the paths of private keys.
        (Value::String(text), Value::String(_))
            if text == "[redacted]" && at.ends_with("private_key.filename") => {}
        _ if found == wanted => {}
        _ => into.push(Difference {
            at: at.to_owned(),
            found: brief(found),
            wanted: brief(wanted),
        }),
    }
}

fn objects(
    found: &Map<String, Value>,
    wanted: &Map<String, Value>,
    at: &str,
    side: Side,
    into: &mut Vec<Difference>,
) {
    let below = |key: &str| match key.rsplit_once('.') {
        // The name of a message or a filter.
        Some((_, last)) => format!("{at}[{}]", last.trim_start_matches('_')),
        None if at.is_empty() => key.to_owned(),
        None => format!("{at}.{key}"),
    };
    let optional = |key: &str| {
        let found = wanted.get(&format!("{key}?"));
        found.filter(|_| side == Side::Known)
    };
    for (key, value) in found {
        if let Some(expected) = wanted.get(key).or_else(|| optional(key)) {
            compare(value, expected, &below(key), side, into);
        } else if side == Side::Rendered || !wanted.contains_key(OTHERS) {
            into.push(Difference {
                at: below(key),
                found: brief(value),
                wanted: "left out".to_owned(),
            });
        }
    }
    for (key, expected) in wanted {
        let may_be_left_out = match side {
            Side::Rendered => is_default(key, expected),
            Side::Known => key.ends_with('?') || key == OTHERS,
        };
        if !found.contains_key(key) && !may_be_left_out {
            into.push(Difference {
                at: below(key),
                found: "left out".to_owned(),
                wanted: brief(expected),
            });
        }
    }
}

/// Whether a dump leaves this out. A message, even an empty one, is never left out.
fn is_default(key: &str, value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_u64() == Some(0),
        // The first of RBAC's actions.
        Value::String(text) => text.is_empty() || (key == "action" && text == "ALLOW"),
        Value::Array(items) => items.is_empty(),
        Value::Null => true,
        Value::Object(_) => false,
    }
}

fn lists(found: &[Value], wanted: &[Value], at: &str, side: Side, into: &mut Vec<Difference>) {
    if let ([Value::String(word), each], Side::Known) = (wanted, side)
        && word == EACH
    {
        for (i, item) in found.iter().enumerate() {
            compare(item, each, &format!("{at}[{i}]"), side, into);
        }
        return;
    }
    if found.len() != wanted.len() {
        into.push(Difference {
            at: at.to_owned(),
            found: names(found),
            wanted: names(wanted),
        });
        return;
    }
    for (i, (item, expected)) in found.iter().zip(wanted).enumerate() {
        compare(item, expected, &format!("{at}[{i}]"), side, into);
    }
}

/// A list of named things by their names, any other as it is.
fn names(items: &[Value]) -> String {
    let names: Option<Vec<_>> = items
        .iter()
        .map(|item| item.get("name")?.as_str())
        .collect();
    match names {
        Some(names) => format!("[{}]", names.join(", ")),
        None => brief(&Value::Array(items.to_vec())),
    }
}

/// The choice that comes closest is the one that is shown.
fn one_of(found: &Value, choices: &Value, at: &str, into: &mut Vec<Difference>) {
    let choices = choices.as_array().map(Vec::as_slice).unwrap_or_default();
    if choices
        .iter()
        .all(|choice| !choice.is_object() && !choice.is_array())
    {
        if !choices.contains(found) {
            into.push(Difference {
                at: at.to_owned(),
                found: brief(found),
                wanted: format!("one of {}", brief(&Value::Array(choices.to_vec()))),
            });
        }
        return;
    }
    let differences = choices.iter().map(|choice| {
        let mut differences = Vec::new();
        compare(found, choice, at, Side::Known, &mut differences);
        differences
    });
    into.extend(differences.min_by_key(Vec::len).unwrap_or_default());
}
