//! JSON by `serde_json`. Every part is a slice of the text, so its place is where the slice lies.

use std::borrow::Cow;
use std::ops::Range;

use egress_policy::tree::{Json, Node, Shape};

use super::{Builder, Id, MAX_DEPTH, SyntaxError, Value};

pub(super) fn parse(text: &str) -> Result<Builder, Vec<SyntaxError>> {
    let mut builder = Builder::default();
    let root = Json::parse(text).and_then(|json| {
        let mut reader = Reader {
            text,
            builder: &mut builder,
        };
        reader.node(json, MAX_DEPTH)
    });
    match root {
        Ok(root) => {
            builder.roots.push(root);
            Ok(builder)
        }
        Err(message) => Err(vec![located(text, &message)]),
    }
}

/// `serde_json` puts the place into its message: "... at line 3 column 7".
fn located(text: &str, message: &str) -> SyntaxError {
    let place = message.rsplit_once(" at line ").and_then(|(what, place)| {
        let (line, column) = place.split_once(" column ")?;
        Some((what, line.parse().ok()?, column.parse().ok()?))
    });
    let Some((what, line, column)) = place else {
        return SyntaxError {
            span: 0..0,
            message: message.to_owned(),
            hint: None,
        };
    };
    let line: usize = line;
    let column: usize = column;
    let mut start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    start = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let width = text
        .get(start..)
        .and_then(|rest| rest.chars().next())
        .map_or(0, char::len_utf8);
    SyntaxError {
        span: start..start + width,
        message: what.to_owned(),
        hint: None,
    }
}

struct Reader<'t, 'b> {
    text: &'t str,
    builder: &'b mut Builder,
}

impl Reader<'_, '_> {
    fn node(&mut self, json: Json<'_>, depth: usize) -> Result<Id, String> {
        let span = self.span_of(json.text());
        let Some(depth) = depth.checked_sub(1) else {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        };
        let value = match json.shape()? {
            Shape::Null => Value::Null,
            Shape::Bool(value) => Value::Bool(value),
            Shape::Number(text) => Value::Number(text.into()),
            Shape::Text(text) => Value::Text(text.into()),
            Shape::List(items) => {
                let mut ids = Vec::with_capacity(items.len());
                for item in items {
                    ids.push(self.node(item, depth)?);
                }
                Value::List(ids.into())
            }
            Shape::Map(pairs) => {
                let mut ids = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let key_span = match &key {
                        Cow::Borrowed(key) => self.span_of_text(key),
                        // With escapes it is no slice of the text; the value stands in.
                        Cow::Owned(_) => self.span_of(value.text()),
                    };
                    let key = self.add(Value::Text(key.into()), key_span)?;
                    ids.push((key, self.node(value, depth)?));
                }
                Value::Map(ids.into())
            }
        };
        self.add(value, span)
    }

    fn add(&mut self, value: Value, span: Range<usize>) -> Result<Id, String> {
        self.builder
            .add(value, span)
            .ok_or_else(|| "this document has too many parts".to_owned())
    }

    fn span_of(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr().addr()).wrapping_sub(self.text.as_ptr().addr());
        if start <= self.text.len() && part.len() <= self.text.len() - start {
            start..start + part.len()
        } else {
            0..0
        }
    }

    /// A text without escapes, with its quotes.
    fn span_of_text(&self, text: &str) -> Range<usize> {
        let inside = self.span_of(text);
        inside.start.saturating_sub(1)..(inside.end + 1).min(self.text.len())
    }
}
