//! The small grammars: names of objects, namespaces, labels, methods, times.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::decode::{Fields, list, text, texts, unique, word};
use crate::defect::{At, DefectKind, Defects};
use crate::facts::is_spiffe_segment;
use crate::model::{Mode, ServiceAccount};
use crate::tree::Node;

/// The name of a policy, tier, rule, destination or inspection proxy: `[a-z0-9-]{1,63}`, so that
/// it needs no quoting in ids, metrics and headers.
pub(crate) fn object_name<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<String> {
    let name = text(node, at, defects)?;
    check_object_name(&name, at, defects).then_some(name)
}

pub(super) fn check_object_name(name: &str, at: &At<'_>, defects: &mut Defects) -> bool {
    let fine = (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fine {
        let hint = "lower-case letters, digits and `-`, at most 63".to_owned();
        defects.add(
            DefectKind::BadValue,
            at,
            format!("`{name}` is not a name"),
            hint,
        );
    }
    fine
}

/// Names seen so far, as 64-bit hashes: a large policy's names are not held twice. Two names that
/// share a hash would be refused as one, which closes and never opens.
#[derive(Default)]
pub(super) struct UniqueNames(HashSet<u64>);

impl UniqueNames {
    fn insert(&mut self, name: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        self.0.insert(hasher.finish())
    }
}

/// Takes the required `name`, unique among its siblings.
pub(super) fn take_unique_name<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
    seen: &mut UniqueNames,
    what: &str,
) -> Option<String> {
    let node = fields.require("name", at, defects)?;
    let at = at.field("name");
    let name = object_name(&node, &at, defects)?;
    if !seen.insert(&name) {
        defects.add(
            DefectKind::DuplicateName,
            &at,
            format!("another {what} is named `{name}`"),
            None,
        );
    }
    Some(name)
}

pub(super) fn take_mode<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Mode {
    fields
        .take("mode")
        .and_then(|node| {
            let words = [("Enforce", Mode::Enforce), ("Shadow", Mode::Shadow)];
            word(&node, &at.field("mode"), defects, &words)
        })
        .unwrap_or(Mode::Enforce)
}

/// An RFC 3339 time, as seconds since the Unix epoch.
pub(crate) fn timestamp<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<i64> {
    let value = text(node, at, defects)?;
    let parsed = OffsetDateTime::parse(&value, &Rfc3339);
    if parsed.is_err() {
        let hint = "RFC 3339, for example \"2027-01-31T00:00:00Z\"".to_owned();
        defects.add(
            DefectKind::BadValue,
            at,
            format!("`{value}` is not a time"),
            hint,
        );
    }
    parsed.ok().map(OffsetDateTime::unix_timestamp)
}

/// Takes an optional list of unique checked texts.
pub(super) fn take_texts<N: Node>(
    fields: &mut Fields<'_, N>,
    name: &'static str,
    at: &At<'_>,
    defects: &mut Defects,
    check: impl Fn(&str) -> Result<(), String>,
) -> Vec<String> {
    let Some(node) = fields.take(name) else {
        return Vec::new();
    };
    let at = at.field(name);
    let found = texts(&node, &at, defects, check);
    unique(&found, &at, defects);
    found
}

pub(super) fn take_service_accounts<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Vec<ServiceAccount> {
    let Some(node) = fields.take("serviceAccounts") else {
        return Vec::new();
    };
    let at = at.field("serviceAccounts");
    let found = list(&node, &at, defects, |node, at, defects| {
        let value = text(node, at, defects)?;
        let parsed = value.split_once('/').filter(|(namespace, name)| {
            check_namespace(namespace).is_ok() && is_spiffe_segment(name)
        });
        if parsed.is_none() {
            let hint = "write NAMESPACE/NAME; no wildcards in identities".to_owned();
            defects.add(
                DefectKind::BadValue,
                at,
                format!("`{value}` is not a service account"),
                hint,
            );
        }
        parsed.map(|(namespace, name)| ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    });
    let spelt: Vec<String> = found
        .iter()
        .map(|sa| format!("{}/{}", sa.namespace, sa.name))
        .collect();
    unique(&spelt, &at, defects);
    found
}

/// RFC 1123 label, as Kubernetes namespaces are.
pub(super) fn check_namespace(text: &str) -> Result<(), String> {
    let fine = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fine {
        Ok(())
    } else {
        Err("a namespace is lower-case letters, digits and `-`, at most 63; no wildcards in identities".to_owned())
    }
}

pub(super) fn check_spiffe_segment(text: &str) -> Result<(), String> {
    if is_spiffe_segment(text) {
        Ok(())
    } else {
        Err("letters, digits, `.`, `-` and `_`; no wildcards in identities".to_owned())
    }
}

/// Kubernetes label keys: `[prefix/]name`.
pub(super) fn check_label_key(text: &str) -> Result<(), String> {
    let (prefix, name) = text.rsplit_once('/').unwrap_or(("x", text));
    if prefix.len() <= 253 && is_label_text(prefix) && name.len() <= 63 && is_label_text(name) {
        Ok(())
    } else {
        Err("a label key is `name` or `prefix/name`, as in Kubernetes".to_owned())
    }
}

/// Kubernetes label values; the empty one is a value too.
pub(super) fn check_label_value(text: &str) -> Result<(), String> {
    if text.is_empty() || (text.len() <= 63 && is_label_text(text)) {
        Ok(())
    } else {
        Err("a label value is letters, digits, `-`, `_` and `.`, at most 63".to_owned())
    }
}

fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// An HTTP method in its registered spelling (RFC 9110 §9.1: methods are case-sensitive).
pub(super) fn check_method(text: &str) -> Result<(), String> {
    if text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        Ok(())
    } else if text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-') {
        let upper = text.to_ascii_uppercase();
        Err(format!(
            "methods are case-sensitive; did you mean `{upper}`?"
        ))
    } else {
        Err("a method is one word in capitals, such as GET".to_owned())
    }
}

/// An upgrade token that the gateway can pass on.
pub(super) fn check_upgrade(text: &str) -> Result<(), String> {
    if text == "websocket" {
        Ok(())
    } else {
        Err("the upgrade that can be allowed is `websocket`".to_owned())
    }
}
