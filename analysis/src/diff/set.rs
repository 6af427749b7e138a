//! Sets of small numbers.

/// A set of numbers below a fixed size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
        Self::none(size).complement()
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
        let counts = self.words.iter().map(|word| word.count_ones());
        counts.filter_map(|count| usize::try_from(count).ok()).sum()
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
        self.with(other, |a, b| a & b)
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        self.with(other, |a, b| a | b)
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & !b)
    }

    /// The numbers below the size that are not in it.
    pub(super) fn complement(&self) -> Self {
        let mut words: Vec<u64> = self.words.iter().map(|word| !word).collect();
        if let (Some(last), used @ 1..) = (words.last_mut(), self.size % 64) {
            *last &= (1 << used) - 1;
        }
        Self {
            words,
            size: self.size,
        }
    }

    /// The numbers in it, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(place, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = usize::try_from(left.trailing_zeros()).ok()?;
                // Clears the lowest bit; of zero nothing is left.
                left &= left.checked_sub(1)?;
                Some(place * 64 + bit)
            })
        })
    }

    fn with(&self, other: &Self, both: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            words: self.pairs(other).map(|(a, b)| both(a, b)).collect(),
            size: self.size,
        }
    }

    fn pairs<'s>(&'s self, other: &'s Self) -> impl Iterator<Item = (u64, u64)> + 's {
        self.words.iter().copied().zip(other.words.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_every_size() {
        for size in [0, 1, 63, 64, 65, 200] {
            let all = Set::all(size);
            assert_eq!(
                all.iter().collect::<Vec<_>>(),
                (0..size).collect::<Vec<_>>()
            );
            assert!(all.is_all());
            let odd = Set::of(size, |i| i % 2 == 1);
            let even = odd.complement();
            assert_eq!(even, all.minus(&odd));
            assert_eq!(odd.or(&even), all);
            assert!(odd.and(&even).is_empty());
            assert_eq!(odd.len() + even.len(), size);
            assert!(odd.iter().all(|i| i % 2 == 1 && !even.contains(i)));
        }
    }
}
