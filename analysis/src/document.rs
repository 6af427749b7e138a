//! Documents with places: YAML or JSON as a tree that keeps every key and remembers where each
//! part stands, so that a defect's path becomes a line, a column and an underline.

mod edit;
mod json;
mod names;
mod yaml;

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use egress_policy::defect::{FieldPath, Segment};
use egress_policy::tree::{Node as TreeNode, Shape};

pub use names::{pasted_sign, to_a_labels, to_unicode, undecodable};

/// Deepest nesting that is read. A policy needs ten levels.
const MAX_DEPTH: usize = 64;
/// Most nodes that a document may have with its aliases written out: what stops a document of a
/// few hundred bytes from becoming a tree of billions.
const MAX_NODES: u64 = 50_000_000;

/// A text and the name that messages call it by.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    line_starts: OnceLock<Vec<usize>>,
}

impl Source {
    /// A source with its name: a path as the user wrote it, or `<stdin>`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            line_starts: OnceLock::new(),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The content.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    #[must_use]
    pub fn line_column(&self, at: usize) -> (usize, usize) {
        let starts = self.line_starts.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
            std::iter::once(0).chain(ends.map(|(i, _)| i + 1)).collect()
        });
        let line = starts.partition_point(|start| *start <= at);
        let start = line.checked_sub(1).and_then(|i| starts.get(i));
        let before = self.text.get(start.copied().unwrap_or(0)..at);
        (line, before.map_or(0, |text| text.chars().count()) + 1)
    }
}

/// What is wrong with a text that is neither YAML nor JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where, in bytes.
    pub span: Range<usize>,
    /// What, in the parser's words.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// The index of a node in its document.
type Id = u32;

#[derive(Clone, Debug)]
enum Value {
    Null,
    Bool(bool),
    Number(Box<str>),
    Text(Box<str>),
    List(Box<[Id]>),
    Map(Box<[(Id, Id)]>),
}

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    span: Range<u32>,
}

/// All documents of one source, with what was put into them from others.
#[derive(Debug)]
pub struct Documents {
    source: Arc<Source>,
    /// Nodes from this number on, up to the next one's, stand in another source.
    others: Vec<(Id, Arc<Source>)>,
    entries: Vec<Entry>,
    roots: Vec<Id>,
}

impl Documents {
    /// Reads every document of a source. A text that starts with `{` and is JSON is read as JSON,
    /// everything else as YAML 1.2.
    ///
    /// # Errors
    /// What keeps the text from being read. Unquoted `*` are all reported, since they are the
    /// usual mistake in a list of name patterns; other mistakes of syntax end the reading.
    pub fn parse(source: Arc<Source>) -> Result<Self, Vec<SyntaxError>> {
        if u32::try_from(source.text.len()).is_err() {
            return Err(vec![SyntaxError {
                span: 0..0,
                message: "this file is larger than 4 GiB".to_owned(),
                hint: None,
            }]);
        }
        let is_json = Path::new(&source.name)
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let builder = if is_json {
            json::parse(&source.text)?
        } else if source.text.trim_start().starts_with(['{', '[']) {
            // JSON is almost a part of YAML; surrogate escapes and tabs are the exceptions.
            match json::parse(&source.text) {
                Ok(builder) => builder,
                Err(_) => yaml::parse(&source.text)?,
            }
        } else {
            yaml::parse(&source.text)?
        };
        Ok(Self {
            source,
            others: Vec::new(),
            entries: builder.entries,
            roots: builder.roots,
        })
    }

    /// The documents, in order. One that holds nothing at all is left out.
    pub fn roots(&self) -> impl Iterator<Item = Node<'_>> {
        self.roots
            .iter()
            .map(|id| Node {
                documents: self,
                id: *id,
            })
            .filter(|place| !matches!(place.entry().map(|e| &e.value), None | Some(Value::Null)))
    }

    /// The place with this number, as [`Node::id`] gave it.
    #[must_use]
    pub fn place(&self, id: u32) -> Node<'_> {
        Node {
            documents: self,
            id,
        }
    }
}

/// A part of a document and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Node<'d> {
    documents: &'d Documents,
    id: Id,
}

impl<'d> Node<'d> {
    fn entry(&self) -> Option<&'d Entry> {
        usize::try_from(self.id)
            .ok()
            .and_then(|i| self.documents.entries.get(i))
    }

    const fn at(self, id: Id) -> Self {
        Self {
            documents: self.documents,
            id,
        }
    }

    /// The number of this place in its documents.
    #[must_use]
    pub const fn id(self) -> u32 {
        self.id
    }

    /// The text that it was read from.
    #[must_use]
    pub fn source(self) -> &'d Arc<Source> {
        let others = &self.documents.others;
        let next = others.partition_point(|(first, _)| *first <= self.id);
        let other = next.checked_sub(1).and_then(|i| others.get(i));
        other.map_or(&self.documents.source, |(_, source)| source)
    }

    /// Where it stands, in bytes.
    #[must_use]
    pub fn span(self) -> Range<usize> {
        self.entry().map_or(0..0, |entry| widen(&entry.span))
    }

    /// A field of the mapping here; of two with one name, the first.
    #[must_use]
    pub fn field(self, name: &str) -> Option<Self> {
        self.fields()
            .find(|(key, _)| key.text() == Some(name))
            .map(|(_, value)| value)
    }

    /// The fields of the mapping here: key and value.
    #[must_use]
    pub fn fields(self) -> impl DoubleEndedIterator<Item = (Self, Self)> {
        let pairs: &'d [(Id, Id)] = match self.entry().map(|entry| &entry.value) {
            Some(Value::Map(pairs)) => pairs,
            _ => &[],
        };
        pairs
            .iter()
            .map(move |(key, value)| (self.at(*key), self.at(*value)))
    }

    /// The elements of the list here.
    #[must_use]
    pub fn items(self) -> impl DoubleEndedIterator<Item = Self> {
        let items: &'d [Id] = match self.entry().map(|entry| &entry.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        };
        items.iter().map(move |id| self.at(*id))
    }

    /// The text here.
    #[must_use]
    pub fn text(self) -> Option<&'d str> {
        match &self.entry()?.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                None
            }
        }
    }

    /// Where a path below this place leads: as deep as the document goes, and what to underline
    /// there, with its source.
    #[must_use]
    pub fn resolve(self, path: &FieldPath, target: Target) -> (&'d Arc<Source>, Range<usize>) {
        let mut here = self;
        let mut key: Option<Self> = None;
        let segments = path.segments();
        for (i, segment) in segments.iter().enumerate() {
            let last = i + 1 == segments.len();
            let next = match segment {
                Segment::Field(name) => {
                    let mut named = here
                        .fields()
                        .filter(|(key, _)| key.scalar().as_deref() == Some(name));
                    let found = if last && target == Target::LastKey {
                        named.next_back()
                    } else {
                        named.next()
                    };
                    found.map(|(key, value)| (Some(key), value))
                }
                Segment::Index(index) => here.items().nth(*index).map(|item| (None, item)),
            };
            let Some((next_key, next)) = next else {
                return (here.source(), here.first_line());
            };
            (key, here) = (next_key, next);
        }
        match (target, key) {
            (Target::Key | Target::LastKey, Some(key)) => (key.source(), key.span()),
            _ => (here.source(), here.first_line()),
        }
    }

    /// The span up to the end of its first line, without the white space there.
    #[must_use]
    pub fn first_line(self) -> Range<usize> {
        let span = self.span();
        let text = self.source().text.get(span.clone()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default().trim_end();
        span.start..span.start + line.len()
    }

    fn scalar(self) -> Option<Cow<'d, str>> {
        Some(match &self.entry()?.value {
            Value::Null => Cow::Borrowed("null"),
            Value::Bool(value) => Cow::Owned(value.to_string()),
            Value::Number(text) | Value::Text(text) => Cow::Borrowed(&**text),
            Value::List(_) | Value::Map(_) => return None,
        })
    }
}

/// What of a field is underlined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Its value.
    Value,
    /// Its key.
    Key,
    /// The key of the last field with its name.
    LastKey,
}

impl TreeNode for Node<'_> {
    fn shape(&self) -> Result<Shape<'_, Self>, String> {
        let Some(entry) = self.entry() else {
            return Err("this part of the document is gone".to_owned());
        };
        Ok(match &entry.value {
            Value::Null => Shape::Null,
            Value::Bool(value) => Shape::Bool(*value),
            Value::Number(text) => Shape::Number(Cow::Borrowed(text)),
            Value::Text(text) => Shape::Text(Cow::Borrowed(text)),
            Value::List(_) => Shape::List(self.items().collect()),
            Value::Map(_) => Shape::Map(
                self.fields()
                    .map(|(key, value)| (key.scalar().unwrap_or_default(), value))
                    .collect(),
            ),
        })
    }
}

fn widen(span: &Range<u32>) -> Range<usize> {
    let wide = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    wide(span.start)..wide(span.end)
}

fn narrow(span: Range<usize>) -> Range<u32> {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    narrow(span.start)..narrow(span.end)
}

/// Collects nodes while a parser runs.
#[derive(Default)]
struct Builder {
    entries: Vec<Entry>,
    roots: Vec<Id>,
}

impl Builder {
    /// Adds a node. `None` when there are more than an [`Id`] can count.
    fn add(&mut self, value: Value, span: Range<usize>) -> Option<Id> {
        push(&mut self.entries, value, span)
    }
}

/// Adds a node. `None` when there are more than an [`Id`] can count.
fn push(entries: &mut Vec<Entry>, value: Value, span: Range<usize>) -> Option<Id> {
    let id = Id::try_from(entries.len()).ok()?;
    entries.push(Entry {
        value,
        span: narrow(span),
    });
    Some(id)
}

/// The document below a node as JSON: keys in their order, duplicates kept, numbers as written.
///
/// # Errors
/// A number that JSON cannot write, such as `0x10` or `.inf`.
pub fn to_json(node: &impl TreeNode) -> Result<String, String> {
    let mut text = String::new();
    write_json(node, &mut text)?;
    Ok(text)
}

fn write_json(node: &impl TreeNode, out: &mut String) -> Result<(), String> {
    let quoted = |text: &str| serde_json::to_string(text).map_err(|error| error.to_string());
    match node.shape()? {
        Shape::Null => out.push_str("null"),
        Shape::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Shape::Number(text) => {
            serde_json::from_str::<serde_json::Number>(&text)
                .map_err(|_| format!("`{text}` is no number in JSON"))?;
            out.push_str(&text);
        }
        Shape::Text(text) => out.push_str(&quoted(&text)?),
        Shape::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, out)?;
            }
            out.push(']');
        }
        Shape::Map(pairs) => {
            out.push('{');
            for (i, (key, value)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(key)?);
                out.push(':');
                write_json(value, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}
