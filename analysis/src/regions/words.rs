//! Regions in words: who, and where to.

mod callers;
mod destinations;

use super::explore::Region;
use super::partition::{Classes, Dimension, PROTOCOLS, Partition};
use super::set::Set;
use crate::owned_facts::time_text;
use crate::words::list_words;

/// Most values of one fact that are written out where not all are wanted.
const MAX_VALUES: usize = 4;

/// A region in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// Who asks; empty for all whom the question is about.
    pub(crate) who: String,
    /// For what; empty for all that the question is about.
    pub(crate) to: String,
    /// When, if not always.
    pub(crate) when: Option<String>,
    /// It rests on what callers claim of themselves.
    pub(crate) claimed: bool,
    /// It holds callers, names or addresses that no rule names.
    pub(crate) broad: bool,
    /// Sorts the broadest first.
    pub(crate) rank: (u8, usize),
}

impl Words {
    /// Facts that fit a rule, where not all classes were looked at.
    pub(crate) fn sampled(rule: &str) -> Self {
        Self {
            who: format!("facts that fit `{rule}`"),
            to: String::new(),
            when: None,
            claimed: false,
            broad: false,
            rank: (4, 0),
        }
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        let parts = [Some(&self.who), Some(&self.to), self.when.as_ref()];
        let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
        let parts: Vec<&str> = parts.map(String::as_str).collect();
        parts.join("; ")
    }
}

/// How much is written out.
#[derive(Clone, Copy)]
pub(crate) struct Speech<'s> {
    pub(crate) partition: &'s Partition,
    pub(crate) region: &'s Region,
    /// What the question is about: what is as wide as that is not said again.
    pub(crate) asked: Option<&'s Region>,
    /// Every value, however many.
    pub(crate) all: bool,
}

/// A region in words; with `all`, every value is written out.
pub(crate) fn words(partition: &Partition, region: &Region, all: bool) -> Words {
    let speech = Speech {
        partition,
        region,
        asked: None,
        all,
    };
    let words = speech.words();
    Words {
        who: format!("from {}", words.who),
        ..words
    }
}

impl Speech<'_> {
    /// The region in words.
    pub(crate) fn words(&self) -> Words {
        let mut who: Vec<String> = self.callers().into_iter().collect();
        let claims = self.partition.dims.keys();
        for dim in claims.filter(|dim| dim.is_of_claims()) {
            who.extend(self.claimed(dim));
        }
        let mut to: Vec<String> = self.destinations().into_iter().collect();
        to.extend(self.protocols());
        to.extend(self.ports());
        to.extend(self.requests());
        let (callers, destinations) = (self.any_other_caller(), self.any_other_destination());
        let rank = match (callers, destinations) {
            (true, true) => 0,
            (false, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
        };
        // Of two that are as broad, the one with more values comes first.
        let counted = [Dimension::Account, Dimension::Name, Dimension::Address];
        let values = counted.iter().filter_map(|dim| self.region.0.get(dim));
        let values: usize = values.map(|set| set.len()).sum();
        Words {
            who: who.join("; "),
            to: to.join("; "),
            when: self.times(),
            claimed: self.rests_on_claims(),
            broad: callers || destinations,
            rank: (rank, usize::MAX - values),
        }
    }

    /// Whether labels or clusters tell its callers from others.
    fn rests_on_claims(&self) -> bool {
        let claims = |dim: &&Dimension| matches!(dim, Dimension::Cluster | Dimension::Label(_));
        let mut dims = self.partition.dims.keys().filter(claims);
        dims.any(|dim| self.narrower(dim).is_some())
    }

    fn set(&self, dim: &Dimension) -> Option<&Set> {
        self.region.0.get(dim).map(|set| &**set)
    }

    /// The set of a fact that is not as wide as the question.
    fn narrower(&self, dim: &Dimension) -> Option<&Set> {
        let asked = self.asked.and_then(|asked| asked.0.get(dim));
        let set = self.set(dim).filter(|set| !set.is_all());
        set.filter(|set| asked.is_none_or(|asked| **asked != **set))
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
        let set = self.narrower(&Dimension::Protocol)?;
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
        let set = self.narrower(&Dimension::Port)?;
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
            self.narrower(&Dimension::Method),
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
            self.narrower(&Dimension::Upgrade),
            self.classes(&Dimension::Upgrade),
        ) {
            // The first class is no upgrade.
            let ordinary = set.len() == 1 && set.contains(0);
            if !set.is_all() && !ordinary {
                parts.push(format!("upgrade {}", self.optional(set, texts)));
            }
        }
        if let Some(set) = self.narrower(&Dimension::Path) {
            let texts = self.partition.paths_in_words(set);
            parts.push(format!("path {}", self.list(&texts)));
        }
        parts
    }

    fn times(&self) -> Option<String> {
        let set = self.narrower(&Dimension::Time)?;
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
