//! Deny networks, as far as they are left out of a name's answers instead of deciding.
//!
//! Elements of one tier with the same callers and the same narrowing are alike for every caller
//! and request whose address is not known: all of them stand on the way of a walk, or none. They
//! make a run, in the order of their rules, so what a walk leaves behind is the beginning of a run,
//! and one number says how much of it, however long it is.

use hashbrown::HashMap;
use ipnet::IpNet;

use super::names::ClassId;
use super::pool::Slice;
use super::rules::{From, HostSet, Store};
use crate::address::Ranges;

/// Where an element with networks stands: tier, callers, narrowing.
type Stand = (u32, From, u32);

/// The same by what is proven of the callers.
type Unclaimed = (u32, Slice<(u32, bool)>, u32);

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    narrowing: u32,
    /// Its rules, ascending.
    pub(super) rules: Vec<u32>,
}

/// All runs of a policy.
#[derive(Debug, Default)]
#[cfg_attr(
    test,
    expect(
        clippy::struct_field_names,
        reason = "with the fault's field it has three"
    )
)]
pub(super) struct Runs {
    pub(super) runs: Vec<Run>,
    /// The run of an element, and its run where what callers claim is not known, if that is
    /// another.
    pub(super) of: HashMap<Stand, (u32, Option<u32>)>,
    /// A fault, for the test that the laws notice it.
    #[cfg(test)]
    pub(super) all_before_everything: bool,
}

/// Collects them; rules come in ascending order.
#[derive(Debug, Default)]
pub(super) struct RunsBuilder {
    runs: Runs,
    unclaimed: HashMap<Unclaimed, u32>,
}

impl RunsBuilder {
    /// Notes an element of a Deny rule. `unclaimed` is what is proven of its callers, where they
    /// are known by claims too.
    pub(super) fn note(
        &mut self,
        (tier, from, narrowing): Stand,
        unclaimed: Option<Slice<(u32, bool)>>,
        rule: u32,
    ) -> Option<()> {
        let Self {
            runs: Runs { runs, of, .. },
            unclaimed: known,
        } = self;
        let (run, other) = if let Some(found) = of.get(&(tier, from, narrowing)) {
            *found
        } else {
            let run = begin(runs, narrowing)?;
            let mut other = None;
            if let Some(proven) = unclaimed {
                other = known.get(&(tier, proven, narrowing)).copied();
                if other.is_none() {
                    let begun = begin(runs, narrowing)?;
                    known.insert((tier, proven, narrowing), begun);
                    other = Some(begun);
                }
            }
            of.insert((tier, from, narrowing), (run, other));
            (run, other)
        };
        for run in std::iter::once(run).chain(other) {
            let rules = &mut runs.get_mut(usize::try_from(run).ok()?)?.rules;
            if rules.last() != Some(&rule) {
                rules.push(rule);
            }
        }
        Some(())
    }

    pub(super) fn finish(mut self) -> Runs {
        for run in &mut self.runs.runs {
            run.rules.shrink_to_fit();
        }
        self.runs
    }
}

fn begin(runs: &mut Vec<Run>, narrowing: u32) -> Option<u32> {
    let number = u32::try_from(runs.len()).ok()?;
    runs.push(Run {
        narrowing,
        rules: Vec::new(),
    });
    Some(number)
}

impl Runs {
    /// The run of an element.
    pub(super) fn run(&self, stand: Stand, claims_known: bool) -> Option<u32> {
        let (run, unclaimed) = *self.of.get(&stand)?;
        Some(unclaimed.filter(|_| !claims_known).unwrap_or(run))
    }

    /// How many of a run's rules come before this one.
    pub(super) fn before(&self, run: u32, end: u32) -> u32 {
        #[cfg(test)]
        let end = if self.all_before_everything {
            u32::MAX
        } else {
            end
        };
        let run = usize::try_from(run).ok().and_then(|run| self.runs.get(run));
        let count = run.map_or(0, |run| run.rules.partition_point(|rule| *rule < end));
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The networks of the first so many rules of a run.
    pub(super) fn networks(&self, store: &Store, run: u32, count: u32, into: &mut Vec<IpNet>) {
        let run = usize::try_from(run).ok().and_then(|run| self.runs.get(run));
        let Some(run) = run else { return };
        let all: HashMap<ClassId, IpNet> = store.networks.all().collect();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let rules = run.rules.iter().take(count);
        for rule in rules.filter_map(|number| store.rule(*number)) {
            for id in rule.to.get(&store.numbers) {
                let Some(to) = store.tos.get(*id) else {
                    continue;
                };
                let HostSet::Networks(classes, except) = to.place else {
                    continue;
                };
                if to.narrowing != run.narrowing {
                    continue;
                }
                let classes = store.classes.get(classes).iter();
                let networks = classes.filter_map(|class| all.get(class));
                let except = store.exceptions.get(except);
                if except.is_empty() {
                    into.extend(networks);
                } else {
                    let networks: Ranges = networks.collect();
                    into.extend(networks.without(&except.iter().collect()).networks());
                }
            }
        }
    }
}
