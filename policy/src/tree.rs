//! Documents as trees, whatever they were written in.
//!
//! Decoding goes over a tree instead of a deserialiser so that every defect is found in one pass,
//! duplicate keys included, and so that JSON in Envoy and YAML on a laptop give the same messages.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Shape<'n, N> {
    /// `null`, or a YAML value left out.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, as written.
    Number(Cow<'n, str>),
    /// A text.
    Text(Cow<'n, str>),
    /// A list.
    List(Vec<N>),
    /// A mapping in document order, duplicate keys kept.
    Map(Vec<(Cow<'n, str>, N)>),
}

impl<N> Shape<'_, N> {
    /// The sort of value, for messages.
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A place in a document tree.
pub trait Node: Clone {
    /// What stands here.
    ///
    /// # Errors
    /// A message where the text under this node cannot be read.
    fn shape(&self) -> Result<Shape<'_, Self>, String>;
}

/// JSON whose parts are parsed only when they are looked at, so that a policy of 100,000 rules is
/// never held as a tree beside its text.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a>(&'a RawValue);

/// Deepest nesting of a document; a policy needs a dozen levels. Decoding and hashing recurse.
const MAX_DEPTH: usize = 64;

impl<'a> Json<'a> {
    /// Checks the syntax of the whole text, and that it is not nested deeper than any policy is.
    ///
    /// # Errors
    /// `serde_json`'s message, with line and column.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        if depth(text) > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// The text of this part.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.0.get()
    }

    fn read(self) -> Result<Shape<'a, Self>, serde_json::Error> {
        let text = self.0.get();
        Ok(match text.as_bytes().first() {
            Some(b'{') => Shape::Map(serde_json::from_str::<Pairs<'a>>(text)?.0),
            Some(b'[') => {
                let items: Vec<&'a RawValue> = serde_json::from_str(text)?;
                Shape::List(items.into_iter().map(Self).collect())
            }
            Some(b'"') => Shape::Text(serde_json::from_str::<Text<'a>>(text)?.0),
            Some(b't') => Shape::Bool(true),
            Some(b'f') => Shape::Bool(false),
            Some(b'n') => Shape::Null,
            _ => Shape::Number(Cow::Borrowed(text)),
        })
    }
}

/// How deep brackets nest outside texts. Exact for well-formed JSON, which is checked next.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl Node for Json<'_> {
    fn shape(&self) -> Result<Shape<'_, Self>, String> {
        self.read().map_err(|error| error.to_string())
    }
}

struct Text<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A JSON object as pairs. A map type would silently keep the last of two equal keys.
struct Pairs<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'de> serde::Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    pairs.push((key.0, Json(value)));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// An owned tree, for documents that come from elsewhere than JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A mapping in document order, duplicate keys kept.
    Map(Vec<(String, Tree)>),
}

impl Node for &Tree {
    fn shape(&self) -> Result<Shape<'_, Self>, String> {
        Ok(match *self {
            Tree::Null => Shape::Null,
            Tree::Bool(value) => Shape::Bool(*value),
            Tree::Number(text) => Shape::Number(Cow::Borrowed(text)),
            Tree::Text(text) => Shape::Text(Cow::Borrowed(text)),
            Tree::List(items) => Shape::List(items.iter().collect()),
            Tree::Map(pairs) => Shape::Map(
                pairs
                    .iter()
                    .map(|(k, v)| (Cow::Borrowed(k.as_str()), v))
                    .collect(),
            ),
        })
    }
}

impl<'de> serde::Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;
        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a document")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
                serde::Deserialize::deserialize(inner)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Tree::Map(pairs))
            }
        }
        deserializer.deserialize_any(TreeVisitor)
    }
}

#[cfg(test)]
mod tests;
