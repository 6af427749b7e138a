//! Parts put into a document after it was read: from another source, or in place of what stood
//! there.

use std::ops::Range;
use std::sync::Arc;

use super::{Documents, Id, Source, Value, push};

impl Documents {
    /// Parts that are added from now on stand in this source.
    pub(crate) fn append_source(&mut self, source: &Arc<Source>) {
        let next = Id::try_from(self.entries.len()).unwrap_or(Id::MAX);
        self.others.push((next, Arc::clone(source)));
    }

    /// Adds a text, for a list or mapping that is yet to come.
    pub(crate) fn add_text(&mut self, text: &str, span: Range<usize>) -> Option<u32> {
        self.add(Value::Text(text.into()), span)
    }

    /// Adds a list of parts that are there already.
    pub(crate) fn add_list(&mut self, items: Vec<u32>, span: Range<usize>) -> Option<u32> {
        self.add(Value::List(items.into()), span)
    }

    /// Adds a mapping of parts that are there already.
    pub(crate) fn add_map(&mut self, pairs: Vec<(u32, u32)>, span: Range<usize>) -> Option<u32> {
        self.add(Value::Map(pairs.into()), span)
    }

    /// Puts a list where something else stood.
    pub(crate) fn set_list(&mut self, id: u32, items: Vec<u32>) {
        self.set(id, Value::List(items.into()));
    }

    /// Puts a mapping where something else stood.
    pub(crate) fn set_map(&mut self, id: u32, pairs: Vec<(u32, u32)>) {
        self.set(id, Value::Map(pairs.into()));
    }

    fn set(&mut self, id: Id, value: Value) {
        let entry = usize::try_from(id)
            .ok()
            .and_then(|i| self.entries.get_mut(i));
        if let Some(entry) = entry {
            entry.value = value;
        }
    }

    /// `None` when there are more than an [`Id`] can count.
    fn add(&mut self, value: Value, span: Range<usize>) -> Option<Id> {
        push(&mut self.entries, value, span)
    }
}
