//! Regions in words: who, and where to.

mod callers;
mod destinations;

use super::explore::Region;
use super::partition::{Classes, Dimension, PROTOCOLS, Partition, PathAtom};
use super::set::Set;
use crate::owned_facts::time_text;
use crate::words::list_words;

/// Most values of one fact that are written out where not all are wanted.
const MAX_VALUES: usize = 4;

/// A region in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) text: String,
    /// It holds callers, names or addresses that no rule names.
    pub(super) broad: bool,
    /// Sorts the broadest first.
    pub(super) rank: (u8, usize),
}

impl Words {
    /// Facts that fit a rule, where not all classes were looked at.
    pub(super) fn sampled(rule: &str) -> Self {
        Self {
            text: format!("facts that fit `{rule}`"),
            broad: false,
            rank: (4, 0),
        }
    }
}

/// How much is written out.
#[derive(Clone, Copy)]
pub(super) struct Speech<'s> {
    partition: &'s Partition,
    region: &'s Region,
    /// Every value, however many.
    all: bool,
}

/// A region in words; with `all`, every value is written out.
pub(super) fn words(partition: &Partition, region: &Region, all: bool) -> Words {
    let speech = Speech {
        partition,
        region,
        all,
    };
    let mut parts = vec![format!("from {}", speech.callers())];
    for dim in partition.dims.keys().filter(|dim| dim.is_of_claims()) {
        parts.extend(speech.claimed(dim));
    }
    parts.push(speech.destinations());
    parts.extend(speech.protocols());
    parts.extend(speech.ports());
    parts.extend(speech.requests());
    parts.extend(speech.times());
    let (callers, destinations) = (speech.any_other_caller(), speech.any_other_destination());
    let rank = match (callers, destinations) {
        (true, true) => 0,
        (false, true) => 1,
        (true, false) => 2,
        (false, false) => 3,
    };
    // Of two that are as broad, the one with more values comes first.
    let counted = [Dimension::Account, Dimension::Name, Dimension::Address];
    let values = counted.iter().filter_map(|dim| region.0.get(dim));
    let values: usize = values.map(|set| set.len()).sum();
    Words {
        text: parts.join("; "),
        broad: callers || destinations,
        rank: (rank, usize::MAX - values),
    }
}

impl Speech<'_> {
    fn set(&self, dim: &Dimension) -> Option<&Set> {
        self.region.0.get(dim).map(|set| &**set)
    }

    fn classes(&self, dim: &Dimension) -> Option<&Classes> {
        self.partition.dims.get(dim)
    }

    /// The values, cut with their count where not all are wanted.
    fn list(&self, values: &[String]) -> String {
        let most = if self.all { values.len() } else { MAX_VALUES };
        list_words(values.iter().map(String::as_str), most)
    }

    /// What is in a set that holds the rest too, first: by what is missing, where that is shorter.
    fn others(&self, all_but: &str, rest: &str, listed: &[String], missing: &[String]) -> String {
        if missing.len() <= listed.len().max(MAX_VALUES) {
            format!("{all_but} (all but {})", self.list(missing))
        } else if listed.is_empty() {
            format!("{rest} (none that a rule names)")
        } else {
            format!("{rest}, {}", self.list(listed))
        }
    }

    fn protocols(&self) -> Option<String> {
        let set = self.set(&Dimension::Protocol)?;
        let words: Vec<&str> = set
            .iter()
            .filter_map(|i| PROTOCOLS.get(i).map(|protocol| protocol.as_str()))
            .collect();
        match words[..] {
            [_, _, _, _] | ["HTTP", "TLS", "TCP"] => None,
            _ => Some(format!("protocol {}", words.join(", "))),
        }
    }

    fn ports(&self) -> Option<String> {
        let set = self.set(&Dimension::Port).filter(|set| !set.is_all())?;
        let Some(Classes::Ports(ports)) = self.classes(&Dimension::Port) else {
            return None;
        };
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for (first, last) in set.iter().filter_map(|i| ports.get(i)) {
            match ranges.last_mut() {
                Some((_, end)) if end.checked_add(1) == Some(*first) => *end = *last,
                _ => ranges.push((*first, *last)),
            }
        }
        let texts: Vec<String> = ranges
            .iter()
            .map(|(first, last)| range(*first, *last))
            .collect();
        Some(format!("port {}", self.list(&texts)))
    }

    /// Methods, upgrades and paths, where they are not those of ordinary requests.
    fn requests(&self) -> Vec<String> {
        let mut parts = Vec::new();
        if let (Some(set), Some(Classes::Texts(texts))) = (
            self.set(&Dimension::Method),
            self.classes(&Dimension::Method),
        ) {
            let connect = texts.iter().position(|text| text == "CONNECT");
            let ordinary =
                set.len() + 1 == texts.len() && connect.is_some_and(|i| !set.contains(i));
            if !set.is_all() && !ordinary {
                parts.push(format!("method {}", self.texts(set, texts)));
            }
        }
        if let (Some(set), Some(Classes::Optional(texts))) = (
            self.set(&Dimension::Upgrade),
            self.classes(&Dimension::Upgrade),
        ) {
            // The first class is no upgrade.
            let ordinary = set.len() == 1 && set.contains(0);
            if !set.is_all() && !ordinary {
                parts.push(format!("upgrade {}", self.optional(set, texts)));
            }
        }
        if let (Some(set), Some(Classes::Paths(paths))) =
            (self.set(&Dimension::Path), self.classes(&Dimension::Path))
            && !set.is_all()
        {
            let texts = set
                .iter()
                .filter_map(|i| paths.get(i))
                .map(|atom| match atom {
                    PathAtom::Absent => "absent".to_owned(),
                    PathAtom::Malformed => "malformed".to_owned(),
                    PathAtom::Clean { witness, .. } => witness.as_deref().map_or_else(
                        || "several globs at once".to_owned(),
                        |path| format!("like {path}"),
                    ),
                });
            parts.push(format!("path {}", self.list(&texts.collect::<Vec<_>>())));
        }
        parts
    }

    fn times(&self) -> Option<String> {
        let set = self.set(&Dimension::Time).filter(|set| !set.is_all())?;
        let Some(Classes::Times(times)) = self.classes(&Dimension::Time) else {
            return None;
        };
        let mut texts = Vec::new();
        let mut last = None;
        for i in set.iter() {
            if last.is_none_or(|last| last + 1 != i) {
                let end = (i..=times.len()).find(|j| !set.contains(*j));
                let from = times
                    .get(i)
                    .map(|time| time_text(*time))
                    .unwrap_or_default();
                let to = end
                    .and_then(|end| times.get(end))
                    .map(|time| time_text(*time));
                texts.push(match to {
                    Some(to) if i == 0 => format!("until {to}"),
                    Some(to) => format!("from {from} to {to}"),
                    None => format!("from {from} on"),
                });
            }
            last = Some(i);
        }
        Some(format!("time {}", self.list(&texts)))
    }

    /// Texts, the one that no rule names first.
    fn texts(&self, set: &Set, texts: &[String]) -> String {
        let texts: Vec<Option<String>> = texts.iter().cloned().map(Some).collect();
        self.optional(set, &texts)
    }

    fn optional(&self, set: &Set, texts: &[Option<String>]) -> String {
        let is_other = |i: &usize| {
            let text = texts.get(*i).and_then(Option::as_deref);
            text == Some(super::compiled::fresh())
        };
        let (others, named): (Vec<usize>, Vec<usize>) = set.iter().partition(is_other);
        let word = |i: usize| match texts.get(i) {
            Some(Some(text)) => text.clone(),
            Some(None) | None => "absent".to_owned(),
        };
        let other = (!others.is_empty()).then(|| "any other".to_owned());
        let named = named.into_iter().map(word);
        self.list(&other.into_iter().chain(named).collect::<Vec<_>>())
    }
}

fn range(first: u16, last: u16) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}
