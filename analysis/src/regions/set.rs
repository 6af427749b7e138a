//! Sets of small numbers.

use std::cmp::Ordering;

/// A set of numbers below a fixed size. Only words with a number in them are held: most sets of a
/// partition with many classes hold few of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Set {
    /// By place, ascending; none is zero.
    words: Vec<(usize, u64)>,
    size: usize,
}

impl Set {
    pub(crate) const fn none(size: usize) -> Self {
        Self {
            words: Vec::new(),
            size,
        }
    }

    pub(crate) fn all(size: usize) -> Self {
        Self::none(size).complement()
    }

    /// The numbers for which `holds`.
    pub(crate) fn of(size: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut set = Self::none(size);
        (0..size).filter(|i| holds(*i)).for_each(|i| set.insert(i));
        set
    }

    pub(crate) fn insert(&mut self, i: usize) {
        if i >= self.size {
            return;
        }
        let bit = 1 << (i % 64);
        match self.place(i / 64) {
            Ok(place) => {
                if let Some((_, word)) = self.words.get_mut(place) {
                    *word |= bit;
                }
            }
            Err(place) => self.words.insert(place, (i / 64, bit)),
        }
    }

    /// Where a word stands, or would stand.
    fn place(&self, wanted: usize) -> Result<usize, usize> {
        match self.words.last() {
            None => Err(0),
            Some((last, _)) if *last < wanted => Err(self.words.len()),
            Some(_) => self
                .words
                .binary_search_by_key(&wanted, |(place, _)| *place),
        }
    }

    fn word(&self, wanted: usize) -> u64 {
        let place = self.place(wanted).ok();
        place
            .and_then(|place| self.words.get(place))
            .map_or(0, |(_, word)| *word)
    }

    pub(crate) fn contains(&self, i: usize) -> bool {
        self.word(i / 64) >> (i % 64) & 1 == 1
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        let counts = self.words.iter().map(|(_, word)| word.count_ones());
        counts.filter_map(|count| usize::try_from(count).ok()).sum()
    }

    pub(crate) fn is_all(&self) -> bool {
        self.words.len() == self.size.div_ceil(64) && self.len() == self.size
    }

    pub(crate) fn meets(&self, other: &Self) -> bool {
        let (few, many) = if self.words.len() <= other.words.len() {
            (self, other)
        } else {
            (other, self)
        };
        few.words
            .iter()
            .any(|(place, word)| word & many.word(*place) != 0)
    }

    pub(crate) fn within(&self, other: &Self) -> bool {
        self.words.len() <= other.words.len()
            && self
                .words
                .iter()
                .all(|(place, word)| word & !other.word(*place) == 0)
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & b)
    }

    pub(crate) fn or(&self, other: &Self) -> Self {
        self.with(other, |a, b| a | b)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & !b)
    }

    /// The numbers below the size that are not in it.
    pub(crate) fn complement(&self) -> Self {
        let full = |place: usize| match self.size.saturating_sub(place * 64) {
            used @ 0..64 => (1 << used) - 1,
            _ => u64::MAX,
        };
        let all = (0..self.size.div_ceil(64)).map(|place| (place, full(place)));
        let all = Self {
            words: all.collect(),
            size: self.size,
        };
        if self.is_empty() {
            all
        } else {
            all.minus(self)
        }
    }

    /// The numbers in it, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().flat_map(|(place, word)| {
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
        let mut words = Vec::with_capacity(self.words.len().max(other.words.len()));
        let (mut left, mut right) = (self.words.iter().peekable(), other.words.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let own = left.next_if(|_| order != Ordering::Greater);
            let others = right.next_if(|_| order != Ordering::Less);
            let word = |side: Option<&(usize, u64)>| side.map_or(0, |(_, word)| *word);
            let place = own.or(others).map_or(0, |(place, _)| *place);
            let word = both(word(own), word(others));
            if word != 0 {
                words.push((place, word));
            }
        }
        Self {
            words,
            size: self.size,
        }
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
