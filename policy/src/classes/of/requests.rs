//! Requests to a name, as far as the conditions on Deny networks tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use super::MOST_KINDS;
use crate::facts::Protocol;
use crate::model::{Hosts, To};
use crate::path::PathPattern;

/// A kind of requests: what carries them, and a range of ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    protocol: Protocol,
    ports: (u16, u16),
}

impl Request {
    /// Whether some of them can be what an element of a rule that opens or passes is about.
    pub(super) fn may_be(self, to: &To) -> bool {
        let ports = to.ports.is_any()
            || to
                .ports
                .ranges()
                .any(|range| *range.start() <= self.ports.1 && self.ports.0 <= *range.end());
        carries(to, self.protocol) && ports
    }
}

/// Whether an element can be about a named destination at all, outside Deny rules.
pub(super) const fn is_about_names(to: &To) -> bool {
    !matches!(to.hosts, Hosts::Networks(_))
}

fn carries(to: &To, protocol: Protocol) -> bool {
    to.protocols().contains(&protocol)
}

/// Every kind by the narrowings that hold or are not known for it; `None` if they are too many.
pub(super) fn requests(narrowings: &[&To]) -> Option<BTreeMap<BTreeSet<usize>, Vec<Request>>> {
    let mut starts: BTreeSet<u32> = BTreeSet::from([1]);
    for range in narrowings.iter().flat_map(|to| to.ports.ranges()) {
        starts.insert(u32::from(*range.start()));
        starts.insert(u32::from(*range.end()) + 1);
    }
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([65_535]);
    let ports: Vec<(u16, u16)> = starts
        .iter()
        .zip(ends)
        .filter(|(first, last)| **first <= *last)
        .filter_map(|(first, last)| Some((u16::try_from(*first).ok()?, u16::try_from(last).ok()?)))
        .collect();
    let mut kinds: BTreeMap<BTreeSet<usize>, Vec<Request>> = BTreeMap::new();
    for protocol in [Protocol::Http, Protocol::Tls, Protocol::Tcp] {
        for ports in &ports {
            let request = Request {
                protocol,
                ports: *ports,
            };
            let here: Vec<(usize, &To)> = narrowings
                .iter()
                .enumerate()
                .filter(|(_, to)| request.may_be(to))
                .map(|(i, to)| (i, *to))
                .collect();
            for active in lines(&here)? {
                kinds.entry(active).or_default().push(request);
            }
            if kinds.len() > MOST_KINDS {
                return None;
            }
        }
    }
    Some(kinds)
}

/// The narrowings that hold for what a request's line can be.
fn lines(here: &[(usize, &To)]) -> Option<BTreeSet<BTreeSet<usize>>> {
    let mut methods: BTreeSet<&str> = BTreeSet::new();
    let mut upgrades: BTreeSet<&str> = BTreeSet::new();
    let mut paths: Vec<&[PathPattern]> = Vec::new();
    for (_, to) in here {
        methods.extend(to.methods.iter().map(String::as_str));
        upgrades.extend(to.upgrades.iter().map(String::as_str));
        if !to.paths.is_empty() && !paths.contains(&to.paths.as_slice()) {
            paths.push(&to.paths);
        }
    }
    let methods = words(&methods);
    let upgrades = words(&upgrades);
    // Globs overlap as they like.
    let choices = 1_usize.checked_shl(u32::try_from(paths.len()).ok()?)?;
    let all = methods.len().checked_mul(upgrades.len())?;
    if all.checked_mul(choices)? > MOST_KINDS {
        return None;
    }
    let mut found = BTreeSet::new();
    for method in &methods {
        for upgrade in &upgrades {
            for choice in 0..choices {
                let path = |to: &To| {
                    let place = paths.iter().position(|one| *one == to.paths.as_slice());
                    place.is_none_or(|place| (choice >> place) & 1 == 1)
                };
                let holds = |to: &To| {
                    method.may_be(&to.methods) && upgrade.may_be(&to.upgrades) && path(to)
                };
                let active = here.iter().filter(|(_, to)| holds(to));
                found.insert(active.map(|(i, _)| *i).collect());
            }
        }
    }
    Some(found)
}

/// A word of the request line.
enum Line<'p> {
    Is(&'p str),
    Other,
    Unknown,
}

fn words<'p>(mentioned: &BTreeSet<&'p str>) -> Vec<Line<'p>> {
    let mentioned = mentioned.iter().map(|word| Line::Is(word));
    mentioned.chain([Line::Other, Line::Unknown]).collect()
}

impl Line<'_> {
    fn may_be(&self, listed: &[String]) -> bool {
        listed.is_empty()
            || match self {
                Self::Is(word) => listed.iter().any(|one| one == word),
                Self::Other => false,
                Self::Unknown => true,
            }
    }
}
