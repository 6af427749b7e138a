//! Small decoders over a document tree: every defect noted, decoding goes on.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use crate::defect::{At, DefectKind, Defects, one_of, suggestion};
use crate::name::NamePattern;
use crate::tree::{Node, Shape};

/// The fields of a mapping, taken one by one; what is left over is unknown.
pub(crate) struct Fields<'n, N> {
    pairs: Vec<(Cow<'n, str>, Option<N>)>,
    known: Vec<&'static str>,
}

impl<'n, N: Node> Fields<'n, N> {
    /// The fields of the mapping at `at`; notes a defect and gives `None` for anything else, and
    /// for an empty mapping.
    pub(crate) fn of(node: &'n N, at: &At<'_>, defects: &mut Defects) -> Option<Self> {
        let pairs = match shape(node, at, defects)? {
            Shape::Map(pairs) => pairs,
            other => {
                wrong_type(at, "a mapping", &other, defects);
                return None;
            }
        };
        if pairs.is_empty() {
            defects.add(
                DefectKind::Empty,
                at,
                "this mapping is empty",
                "remove it, or fill it in".to_owned(),
            );
            return None;
        }
        let mut fields = Self {
            pairs: Vec::with_capacity(pairs.len()),
            known: Vec::new(),
        };
        for (key, value) in pairs {
            if fields.pairs.iter().any(|(seen, _)| *seen == key) {
                defects.add(
                    DefectKind::DuplicateField,
                    &at.field(&key),
                    format!("`{key}` is given twice"),
                    None,
                );
            } else {
                fields.pairs.push((key, Some(value)));
            }
        }
        Some(fields)
    }

    /// True if the field is there and was not taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs
            .iter()
            .any(|(key, value)| *key == name && value.is_some())
    }

    /// Takes a field if it is there.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<N> {
        self.known.push(name);
        self.pairs
            .iter_mut()
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.take())
    }

    /// Takes a field that must be there.
    pub(crate) fn require(
        &mut self,
        name: &'static str,
        at: &At<'_>,
        defects: &mut Defects,
    ) -> Option<N> {
        let value = self.take(name);
        if value.is_none() {
            defects.add(
                DefectKind::MissingField,
                at,
                format!("`{name}` is missing"),
                None,
            );
        }
        value
    }

    /// Takes a field that must be there and decodes it.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        at: &At<'_>,
        defects: &mut Defects,
        decode: impl FnOnce(&N, &At<'_>, &mut Defects) -> Option<T>,
    ) -> Option<T> {
        let node = self.require(name, at, defects)?;
        decode(&node, &at.field(name), defects)
    }

    /// Takes a field if it is there and decodes it.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        at: &At<'_>,
        defects: &mut Defects,
        decode: impl FnOnce(&N, &At<'_>, &mut Defects) -> Option<T>,
    ) -> Option<T> {
        let node = self.take(name)?;
        decode(&node, &at.field(name), defects)
    }

    /// Notes every field that nobody took.
    pub(crate) fn finish(self, at: &At<'_>, defects: &mut Defects) {
        let Self { pairs, known } = self;
        for (key, _) in pairs
            .into_iter()
            .filter(|(key, _)| !known.contains(&&**key))
        {
            let hint = suggestion(&key, known.iter().copied()).unwrap_or_else(|| one_of(&known));
            defects.add(
                DefectKind::UnknownField,
                &at.field(&key),
                format!("unknown field `{key}`"),
                hint,
            );
        }
    }
}

/// The shape of a node; a node whose text cannot be read is a defect.
pub(crate) fn shape<'n, N: Node>(
    node: &'n N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<Shape<'n, N>> {
    node.shape()
        .map_err(|message| defects.add(DefectKind::Syntax, at, message, None))
        .ok()
}

fn wrong_type<N>(at: &At<'_>, wanted: &str, found: &Shape<'_, N>, defects: &mut Defects) {
    defects.add(
        DefectKind::WrongType,
        at,
        format!("expected {wanted}, found {}", found.describe()),
        None,
    );
}

/// A text that is not empty.
pub(crate) fn text<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<String> {
    match shape(node, at, defects)? {
        Shape::Text(text) if text.trim().is_empty() => {
            defects.add(DefectKind::Empty, at, "this text is empty", None);
            None
        }
        Shape::Text(text) => Some(text.into_owned()),
        other => {
            wrong_type(at, "a text", &other, defects);
            None
        }
    }
}

/// What a text's own grammar makes of it; where it does not fit, the grammar says why and how else.
pub(crate) fn fitting<T, E: Display, H: Into<String>>(
    value: &str,
    parsed: Result<T, E>,
    hint: impl FnOnce(&E) -> H,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<T> {
    parsed
        .map_err(|error| {
            let message = format!("`{value}`: {error}");
            defects.add(DefectKind::BadValue, at, message, hint(&error).into());
        })
        .ok()
}

/// A pattern of names.
pub(crate) fn name_pattern<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<NamePattern> {
    let value = text(node, at, defects)?;
    let parsed = NamePattern::parse(&value);
    fitting(&value, parsed, |error| error.hint(), at, defects)
}

/// A boolean.
pub(crate) fn boolean<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<bool> {
    match shape(node, at, defects)? {
        Shape::Bool(value) => Some(value),
        other => {
            wrong_type(at, "true or false", &other, defects);
            None
        }
    }
}

/// A list that is not empty, decoded element by element; elements with defects are left out.
pub(crate) fn list<N: Node, T>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    mut element: impl FnMut(&N, &At<'_>, &mut Defects) -> Option<T>,
) -> Vec<T> {
    let mut decoded = Vec::new();
    each(node, at, defects, |node, at, defects| {
        decoded.extend(element(node, at, defects));
    });
    decoded
}

/// Visits the elements of a list that is not empty.
pub(crate) fn each<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    mut element: impl FnMut(&N, &At<'_>, &mut Defects),
) {
    for (i, item) in items(node, at, defects).iter().enumerate() {
        element(item, &at.index(i), defects);
    }
}

/// The elements of a list that is not empty; notes a defect for anything else.
pub(crate) fn items<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Vec<N> {
    match shape(node, at, defects) {
        None => Vec::new(),
        Some(Shape::List(items)) => {
            if items.is_empty() {
                let hint = "an empty list would be read as everything by one reader and as nothing by another; leave the field out or fill it in";
                defects.add(DefectKind::Empty, at, "this list is empty", hint.to_owned());
            }
            items
        }
        Some(other) => {
            wrong_type(at, "a list", &other, defects);
            Vec::new()
        }
    }
}

/// A list of texts, each checked.
pub(crate) fn texts<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    check: impl Fn(&str) -> Result<(), String>,
) -> Vec<String> {
    list(node, at, defects, |node, at, defects| {
        let value = text(node, at, defects)?;
        match check(&value) {
            Ok(()) => Some(value),
            Err(hint) => {
                defects.add(
                    DefectKind::BadValue,
                    at,
                    format!("`{value}` is not allowed here"),
                    hint,
                );
                None
            }
        }
    })
}

/// One word of a few.
pub(crate) fn word<N: Node, T: Copy>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    words: &[(&str, T)],
) -> Option<T> {
    let value = text(node, at, defects)?;
    let found = words
        .iter()
        .find(|(word, _)| *word == value)
        .map(|(_, meaning)| *meaning);
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let lower = value.to_ascii_lowercase();
        let hint = known
            .iter()
            .find(|k| k.to_ascii_lowercase() == lower)
            .map(|k| format!("did you mean `{k}`?"))
            .or_else(|| suggestion(&value, known.iter().copied()))
            .unwrap_or_else(|| one_of(&known));
        defects.add(
            DefectKind::BadValue,
            at,
            format!("unknown value `{value}`"),
            hint,
        );
    }
    found
}

/// Notes every entry that occurs twice in a list of unique things, as [`list`] decoded it.
pub(crate) fn unique<T: Eq + Hash + Display>(entries: &[T], at: &At<'_>, defects: &mut Defects) {
    // What was left out for its defects still counts for where the others stand.
    let left_out = defects.items(at);
    let stand = (0..).filter(|index| !left_out.contains(index));
    let mut seen = HashSet::with_capacity(entries.len());
    for (i, entry) in stand.zip(entries) {
        if !seen.insert(entry) {
            defects.add(
                DefectKind::DuplicateName,
                &at.index(i),
                format!("`{entry}` is listed twice"),
                None,
            );
        }
    }
}
