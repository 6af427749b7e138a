//! The compiled form of one policy: from facts to the few rules that could match, and the walk
//! over those.
//!
//! The reference evaluator reads the rules straight; this one has to come to the same outcome, and
//! the property tests hold it to that.

mod build;
mod candidates;
mod held;
#[cfg(test)]
pub(crate) mod mutations;
mod names;
mod networks;
mod pool;
mod postings;
mod rules;
mod strings;
mod truth;
mod walk;

pub(crate) use build::{Full, IndexBuilder};
pub(crate) use rules::{Actions, MAX_INSPECTION_PROXIES};
pub(crate) use truth::Truth;
pub(crate) use walk::{PolicyOutcome, View, listed};

use held::Runs;
use ipnet::IpNet;
use postings::Postings;
use rules::{Store, Tier};

/// One policy, compiled.
#[derive(Debug)]
pub(crate) struct Index {
    tables: Tables,
    tiers: Vec<Tier>,
    /// Some rule or tier is in shadow.
    shadows: bool,
}

#[derive(Debug)]
struct Tables {
    store: Store,
    postings: Postings,
    runs: Runs,
}

impl Index {
    /// Whether lifting the shadow could change anything.
    pub(crate) const fn has_shadows(&self) -> bool {
        self.shadows
    }

    /// The networks that a verdict's key means by so many rules of a run.
    pub(crate) fn held(&self, run: u32, count: u32, into: &mut Vec<IpNet>) {
        let Tables { store, runs, .. } = &self.tables;
        runs.networks(store, run, count, into);
    }
}
