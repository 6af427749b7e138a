//! Texts of the policies, each held once and known by number.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// The number of a text. Equal texts have equal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StrId(u32);

impl StrId {
    /// A text that no policy mentions, and so equals none that one does.
    pub(crate) const UNMENTIONED: Self = Self(u32::MAX);
}

/// Texts in one arena.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    arena: String,
    /// Where each text ends; it starts where the one before it ends.
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Strings {
    /// The text of a number.
    pub(crate) fn get(&self, id: StrId) -> &str {
        text(&self.arena, &self.ends, id.0)
    }

    /// The number of a text, if a policy mentions it.
    pub(crate) fn find(&self, wanted: &str) -> Option<StrId> {
        let hash = self.hasher.hash_one(wanted);
        let same = |id: &u32| text(&self.arena, &self.ends, *id) == wanted;
        self.table.find(hash, same).copied().map(StrId)
    }

    /// The number of a text, or [`StrId::UNMENTIONED`].
    pub(crate) fn known(&self, wanted: &str) -> StrId {
        self.find(wanted).unwrap_or(StrId::UNMENTIONED)
    }

    /// The number of a text, new or not. `None` where the arena is full (4 GiB of names).
    pub(crate) fn intern(&mut self, wanted: &str) -> Option<StrId> {
        if let Some(id) = self.find(wanted) {
            return Some(id);
        }
        let id = u32::try_from(self.ends.len())
            .ok()
            .filter(|id| *id < u32::MAX)?;
        let end = u32::try_from(self.arena.len() + wanted.len()).ok()?;
        self.arena.push_str(wanted);
        self.ends.push(end);
        let Self {
            arena,
            ends,
            table,
            hasher,
        } = self;
        table.insert_unique(hasher.hash_one(wanted), id, |id| {
            hasher.hash_one(text(arena, ends, *id))
        });
        Some(StrId(id))
    }

    /// Gives back what building over-allocated.
    pub(crate) fn shrink(&mut self) {
        self.arena.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

fn text<'a>(arena: &'a str, ends: &[u32], id: u32) -> &'a str {
    let at = |i: usize| ends.get(i).and_then(|end| usize::try_from(*end).ok());
    let Ok(i) = usize::try_from(id) else {
        return "";
    };
    let start = i.checked_sub(1).map_or(Some(0), at);
    let range = start.zip(at(i)).map(|(start, end)| start..end);
    range.and_then(|range| arena.get(range)).unwrap_or_default()
}
