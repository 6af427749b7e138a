//! Texts of the policies, each held once and known by its place.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// The place of a text. Equal texts have equal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StrId(u32);

impl StrId {
    /// A text that no policy mentions, and so equals none that one does.
    pub(crate) const UNMENTIONED: Self = Self(u32::MAX);
}

/// Texts in one arena, each behind its length, so that a look-up touches one place of it.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    arena: String,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// A length is two characters of seven bits.
const LENGTH_BITS: u32 = 7;
const PREFIX: usize = 2;

impl Strings {
    /// The text of a place.
    pub(crate) fn get(&self, id: StrId) -> &str {
        text(&self.arena, id.0)
    }

    /// The place of a text, if a policy mentions it.
    pub(crate) fn find(&self, wanted: &str) -> Option<StrId> {
        let hash = self.hasher.hash_one(wanted);
        self.table
            .find(hash, |id| text(&self.arena, *id) == wanted)
            .copied()
            .map(StrId)
    }

    /// The place of a text, or [`StrId::UNMENTIONED`].
    pub(crate) fn known(&self, wanted: &str) -> StrId {
        self.find(wanted).unwrap_or(StrId::UNMENTIONED)
    }

    /// The place of a text, new or not. `None` where the arena is full (4 GiB), or the text longer
    /// than 16 KiB.
    pub(crate) fn intern(&mut self, wanted: &str) -> Option<StrId> {
        if let Some(id) = self.find(wanted) {
            return Some(id);
        }
        let id = u32::try_from(self.arena.len())
            .ok()
            .filter(|id| *id < u32::MAX)?;
        let length = u32::try_from(wanted.len())
            .ok()
            .filter(|length| length >> (2 * LENGTH_BITS) == 0)?;
        let low_mask = (1 << LENGTH_BITS) - 1;
        self.arena.push(char::from_u32(length >> LENGTH_BITS)?);
        self.arena.push(char::from_u32(length & low_mask)?);
        self.arena.push_str(wanted);
        let Self {
            arena,
            table,
            hasher,
        } = self;
        table.insert_unique(hasher.hash_one(wanted), id, |id| {
            hasher.hash_one(text(arena, *id))
        });
        Some(StrId(id))
    }

    /// Gives back what building over-allocated.
    pub(crate) fn shrink(&mut self) {
        self.arena.shrink_to_fit();
    }
}

fn text(arena: &str, id: u32) -> &str {
    let found = usize::try_from(id).ok().and_then(|start| {
        let [high, low] = arena.as_bytes().get(start..)?.first_chunk::<PREFIX>()?;
        let length = (usize::from(*high) << LENGTH_BITS) | usize::from(*low);
        let start = start.checked_add(PREFIX)?;
        arena.get(start..start.checked_add(length)?)
    });
    found.unwrap_or_default()
}
