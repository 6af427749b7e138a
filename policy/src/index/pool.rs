//! Slices packed into one vector, and equal ones held once.

use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::num::NonZeroU32;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A slice of a [`Pool`].
#[derive(Debug)]
pub(crate) struct Slice<T> {
    start: u32,
    len: u32,
    of: PhantomData<fn() -> T>,
}

// Not derived: a derive would ask the same of `T`.
impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<T> {}

impl<T> PartialEq for Slice<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.len) == (other.start, other.len)
    }
}

impl<T> Eq for Slice<T> {}

impl<T> Hash for Slice<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.start, self.len).hash(state);
    }
}

impl<T> Slice<T> {
    pub(crate) const EMPTY: Self = Self {
        start: 0,
        len: 0,
        of: PhantomData,
    };

    pub(crate) const fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Slices of `T`, each content held once, so that equal slices have equal handles.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    items: Vec<T>,
    table: HashTable<Slice<T>>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<T> Pool<T> {
    pub(crate) fn get(&self, slice: Slice<T>) -> &[T] {
        content(&self.items, slice)
    }

    /// Forgets how to find equal slices; nothing can be added well after this.
    pub(crate) fn seal(&mut self) {
        self.table = HashTable::new();
        self.items.shrink_to_fit();
    }
}

impl<T: Hash + Eq + Clone> Pool<T> {
    /// The handle of a slice with this content; `None` where the pool is full.
    pub(crate) fn intern(&mut self, wanted: &[T]) -> Option<Slice<T>> {
        if wanted.is_empty() {
            return Some(Slice::EMPTY);
        }
        let Self {
            items,
            table,
            hasher,
        } = self;
        let hash = hasher.hash_one(wanted);
        if let Some(found) = table.find(hash, |slice| content(items, *slice) == wanted) {
            return Some(*found);
        }
        let start = u32::try_from(items.len()).ok()?;
        let len = u32::try_from(wanted.len()).ok()?;
        items.extend_from_slice(wanted);
        let slice = Slice {
            start,
            len,
            of: PhantomData,
        };
        table.insert_unique(hash, slice, |slice| hasher.hash_one(content(items, *slice)));
        Some(slice)
    }
}

fn content<T>(items: &[T], slice: Slice<T>) -> &[T] {
    let range = usize::try_from(slice.start)
        .ok()
        .zip(usize::try_from(slice.len).ok())
        .and_then(|(start, len)| Some(start..start.checked_add(len)?));
    range.and_then(|range| items.get(range)).unwrap_or_default()
}

/// Numbers in a [`Pool`], but that a list of one, which nearly all are, is its own number: a
/// look-up in a large policy costs a cache miss for every step away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Numbers {
    One(u32),
    Pooled(Slice<u32>),
}

impl Numbers {
    pub(crate) const NONE: Self = Self::Pooled(Slice::EMPTY);

    pub(crate) const fn is_empty(self) -> bool {
        matches!(self, Self::Pooled(slice) if slice.is_empty())
    }

    pub(crate) fn intern(numbers: &[u32], pool: &mut Pool<u32>) -> Option<Self> {
        match numbers {
            [one] => Some(Self::One(*one)),
            _ => pool.intern(numbers).map(Self::Pooled),
        }
    }

    pub(crate) fn get<'n>(&'n self, pool: &'n Pool<u32>) -> &'n [u32] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Pooled(slice) => pool.get(*slice),
        }
    }
}

/// Single values, each held once and known by number.
#[derive(Debug)]
pub(crate) struct Distinct<T> {
    items: Vec<T>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<T> Distinct<T> {
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.items.get(usize::try_from(id).ok()?)
    }

    pub(crate) fn seal(&mut self) {
        self.table = HashTable::new();
        self.items.shrink_to_fit();
    }

    /// As [`Distinct::get`], counted from one.
    pub(crate) fn get_nonzero(&self, id: NonZeroU32) -> Option<&T> {
        self.get(id.get() - 1)
    }
}

impl<T: Hash + Eq> Distinct<T> {
    /// As [`Distinct::intern`], counted from one.
    pub(crate) fn intern_nonzero(&mut self, wanted: T) -> Option<NonZeroU32> {
        self.intern(wanted)?
            .checked_add(1)
            .and_then(NonZeroU32::new)
    }

    pub(crate) fn intern(&mut self, wanted: T) -> Option<u32> {
        let Self {
            items,
            table,
            hasher,
        } = self;
        let at = |items: &[T], id: u32| usize::try_from(id).ok().filter(|i| *i < items.len());
        let hash = hasher.hash_one(&wanted);
        let same = |id: &u32| at(items, *id).and_then(|i| items.get(i)) == Some(&wanted);
        if let Some(id) = table.find(hash, same) {
            return Some(*id);
        }
        let id = u32::try_from(items.len()).ok()?;
        items.push(wanted);
        table.insert_unique(hash, id, |id| {
            at(items, *id)
                .and_then(|i| items.get(i))
                .map_or(0, |item| hasher.hash_one(item))
        });
        Some(id)
    }
}
