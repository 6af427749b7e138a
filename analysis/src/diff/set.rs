//! Sets of small numbers.

/// A set of numbers below a fixed size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    words: Vec<u64>,
    size: usize,
}

impl Set {
    pub(super) fn none(size: usize) -> Self {
        Self {
            words: vec![0; size.div_ceil(64)],
            size,
        }
    }

    pub(super) fn all(size: usize) -> Self {
        (0..size).fold(Self::none(size), |mut set, i| {
            set.insert(i);
            set
        })
    }

    /// The numbers for which `holds`.
    pub(super) fn of(size: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut set = Self::none(size);
        (0..size).filter(|i| holds(*i)).for_each(|i| set.insert(i));
        set
    }

    pub(super) fn insert(&mut self, i: usize) {
        if let Some(word) = self.words.get_mut(i / 64) {
            *word |= 1 << (i % 64);
        }
    }

    pub(super) fn contains(&self, i: usize) -> bool {
        self.words
            .get(i / 64)
            .is_some_and(|word| word >> (i % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn is_all(&self) -> bool {
        self.len() == self.size
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.pairs(other).any(|(a, b)| a & b != 0)
    }

    pub(super) fn within(&self, other: &Self) -> bool {
        self.pairs(other).all(|(a, b)| a & !b == 0)
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            words: self.pairs(other).map(|(a, b)| a & b).collect(),
            size: self.size,
        }
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        Self {
            words: self.pairs(other).map(|(a, b)| a & !b).collect(),
            size: self.size,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.size).filter(|i| self.contains(*i))
    }

    fn pairs<'s>(&'s self, other: &'s Self) -> impl Iterator<Item = (u64, u64)> + 's {
        self.words.iter().copied().zip(other.words.iter().copied())
    }
}
