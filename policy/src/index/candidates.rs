//! The rules that could match what was seen, in their order.

use smallvec::SmallVec;

use super::Tables;
use super::postings::{List, PlaceKey, SourceKey};
use super::rules::ResolvedFacts;
use crate::facts::Fact;

/// Rule numbers in ascending order, each once.
pub(super) enum Candidates<'i> {
    /// Every rule, where too little is known to leave any out.
    All { next: u32, end: u32 },
    /// The union of these lists.
    Lists {
        many: SmallVec<[&'i [u32]; 8]>,
        /// Lists of one rule, highest first.
        one: SmallVec<[u32; 8]>,
    },
}

impl<'i> Candidates<'i> {
    pub(super) fn of(tables: &'i Tables, seen: &ResolvedFacts<'_>) -> Self {
        let end = u32::try_from(tables.store.rules.len()).unwrap_or(u32::MAX);
        let Some((sources, places)) = source_keys(seen).zip(place_keys(seen)) else {
            return Self::All { next: 0, end };
        };
        let (mut many, mut one) = (SmallVec::new(), SmallVec::<[u32; 8]>::new());
        for source in sources
            .into_iter()
            .filter_map(|key| tables.postings.source(key))
        {
            for place in &places {
                match tables.postings.list(source, *place) {
                    None => {}
                    Some(List::One(rule)) => one.push(rule),
                    Some(List::Many(rules)) => many.push(rules),
                }
            }
        }
        // Popped from the back, so the lowest number last.
        one.sort_unstable();
        one.reverse();
        Self::Lists { many, one }
    }

    /// The next candidate below `end`.
    pub(super) fn next_below(&mut self, end: u32) -> Option<u32> {
        match self {
            Self::All { next, end: all } => {
                let rule = *next;
                (rule < end && rule < *all).then(|| *next += 1)?;
                Some(rule)
            }
            Self::Lists { many, one } => {
                let heads = many.iter().filter_map(|list| list.first());
                let lowest = heads
                    .chain(one.last())
                    .copied()
                    .min()
                    .filter(|rule| *rule < end)?;
                for list in many.iter_mut() {
                    if let Some((first, rest)) = list.split_first()
                        && *first == lowest
                    {
                        *list = rest;
                    }
                }
                while one.last() == Some(&lowest) {
                    one.pop();
                }
                Some(lowest)
            }
        }
    }

    /// Leaves out everything below `start`.
    pub(super) fn skip_to(&mut self, start: u32) {
        match self {
            Self::All { next, .. } => *next = start.max(*next),
            Self::Lists { many, one } => {
                for list in many.iter_mut() {
                    let skipped = list.partition_point(|rule| *rule < start);
                    *list = list.get(skipped..).unwrap_or_default();
                }
                while one.last().is_some_and(|rule| *rule < start) {
                    one.pop();
                }
            }
        }
    }
}

/// The classes of the caller; `None` while the caller is not known.
fn source_keys(seen: &ResolvedFacts<'_>) -> Option<SmallVec<[SourceKey; 8]>> {
    let mut keys = SmallVec::new();
    keys.push(SourceKey::Any);
    let Fact::Known(caller) = seen.caller else {
        return None;
    };
    let Some(caller) = caller else {
        return Some(keys);
    };
    let namespace = caller.namespace;
    keys.push(SourceKey::Account(namespace, caller.account));
    keys.push(SourceKey::Namespace(namespace));
    match &seen.claims {
        Fact::Known(claims) => {
            for (key, value) in &claims.labels {
                keys.push(SourceKey::NamespaceLabel(namespace, *key, *value));
                keys.push(SourceKey::Label(*key, *value));
            }
        }
        Fact::Pending | Fact::Missing => {
            keys.push(SourceKey::NamespaceUnclaimed(namespace));
            keys.push(SourceKey::Unclaimed);
        }
    }
    Some(keys)
}

/// The classes of the destination; `None` for the rare mixtures of known and unknown that have no
/// lists of their own.
fn place_keys(seen: &ResolvedFacts<'_>) -> Option<SmallVec<[PlaceKey; 12]>> {
    let mut keys = SmallVec::new();
    let unresolved = match (seen.facts.destination.name, seen.address) {
        (Fact::Known(_), Fact::Known(_)) => false,
        (Fact::Known(Some(_)), Fact::Pending | Fact::Missing) => true,
        (Fact::Pending | Fact::Missing, Fact::Pending | Fact::Missing) => {
            keys.push(PlaceKey::Unread);
            return Some(keys);
        }
        (Fact::Known(None), _) | (_, Fact::Known(_)) => return None,
    };
    keys.push(PlaceKey::Any);
    let translated = seen.translated.iter().map(|(_, classes)| classes);
    for classes in std::iter::once(&seen.classes).chain(translated) {
        keys.extend(classes.iter().copied().map(PlaceKey::Class));
    }
    if unresolved {
        keys.push(PlaceKey::Unresolved);
    }
    Some(keys)
}
