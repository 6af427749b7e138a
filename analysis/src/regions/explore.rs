//! The comparison itself: regions of classes, split until both policies are decided in each.

use std::collections::BTreeMap;
use std::rc::Rc;

use egress_policy::verdict::Action;

use egress_policy::facts::Protocol;

use super::compiled::{CompiledPolicy, Cond, Effect, Entry};
use super::partition::{Dimension, Partition};
use super::set::Set;
use crate::carriage::Carriage;

/// A product of classes: for every fact those that are left.
#[derive(Clone, Debug)]
pub(crate) struct Region(pub(crate) BTreeMap<Dimension, Rc<Set>>);

/// The class of known claims.
pub(crate) const CLAIMS_KNOWN: usize = 0;

impl Region {
    pub(crate) fn all(partition: &Partition) -> Self {
        let sets = partition.dims.keys();
        Self(
            sets.map(|dim| (dim.clone(), Rc::new(Set::all(partition.size(dim)))))
                .collect(),
        )
    }

    /// What is left of it under these constraints; `None` for nothing.
    pub(crate) fn within(&self, cond: &Cond) -> Option<Self> {
        let mut region = self.clone();
        for (dim, set) in cond {
            let here = region.0.get_mut(dim)?;
            if !here.within(set) {
                *here = Rc::new(here.and(set));
            }
            if here.is_empty() {
                return None;
            }
        }
        Some(region)
    }

    fn split(self, dim: &Dimension, set: &Set) -> [Self; 2] {
        let mut inside = self.clone();
        let mut outside = self;
        if let Some(here) = inside.0.get_mut(dim) {
            *here = Rc::new(here.and(set));
        }
        if let Some(here) = outside.0.get_mut(dim) {
            *here = Rc::new(here.minus(set));
        }
        [inside, outside]
    }
}

/// A region as one side judges it: what a client asks for at a port that carries opaque TCP goes
/// by address.
struct Judged<'r> {
    region: &'r Region,
    by_address: Option<&'r ByAddress>,
}

/// The classes of a destination that is asked for by address over opaque TCP.
struct ByAddress {
    protocol: Rc<Set>,
    name: Rc<Set>,
}

impl Judged<'_> {
    fn set(&self, dim: &Dimension) -> Option<&Set> {
        match (self.by_address, dim) {
            (Some(instead), Dimension::Protocol) => Some(&instead.protocol),
            (Some(instead), Dimension::Name) => Some(&instead.name),
            _ => self.region.0.get(dim).map(|set| &**set),
        }
    }

    fn relation<'c>(&self, cond: &'c Cond) -> Relation<'c> {
        let mut partial = None;
        for (dim, set) in cond {
            let Some(here) = self.set(dim) else {
                continue;
            };
            if !here.meets(set) {
                return Relation::Outside;
            }
            if partial.is_none() && !here.within(set) {
                partial = Some((dim, &**set));
            }
        }
        partial.map_or(Relation::Inside, |(dim, set)| Relation::Partly(dim, set))
    }
}

enum Relation<'c> {
    Outside,
    Inside,
    Partly(&'c Dimension, &'c Set),
}

/// How far one side has come in a region.
#[derive(Clone, Debug)]
struct Walk<'p> {
    carriage: Carriage,
    policy: usize,
    /// `appliesTo` of this policy holds.
    entered: bool,
    tier: usize,
    entry: usize,
    goes_on: bool,
    /// The most restrictive action of this policy so far.
    here: Option<Action<'p>>,
    /// The most restrictive action of all policies before it.
    overall: Action<'p>,
    done: bool,
}

impl Walk<'_> {
    const fn new(carriage: Carriage) -> Self {
        Self {
            carriage,
            policy: 0,
            entered: false,
            tier: 0,
            entry: 0,
            goes_on: false,
            here: None,
            overall: Action::Accept,
            done: false,
        }
    }
}

enum Next {
    /// This side is decided.
    Done,
    /// The region has to be split.
    Split(Dimension, Set),
}

/// A region in which both sides are decided.
pub(crate) struct Leaf<'p> {
    pub(crate) region: Region,
    pub(crate) old: Action<'p>,
    pub(crate) new: Action<'p>,
}

/// Why an exploration ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// There are more regions than its budget.
    Budget,
    /// The caller's time is over.
    Time,
}

/// Both sides of a comparison over one partition.
pub(crate) struct Explorer<'e, 'p> {
    partition: &'e Partition,
    sides: [Vec<CompiledPolicy<'p>>; 2],
    by_address: ByAddress,
    /// Regions that may still be looked at.
    budget: usize,
    /// Asked now and then.
    stop: &'e dyn Fn() -> bool,
}

impl<'e, 'p> Explorer<'e, 'p> {
    pub(crate) fn new(
        partition: &'e Partition,
        sides: [Vec<CompiledPolicy<'p>>; 2],
        budget: usize,
        stop: &'e dyn Fn() -> bool,
    ) -> Self {
        let by_address = ByAddress {
            protocol: partition.protocols(|protocol| protocol == Protocol::Tcp),
            name: partition.named(false),
        };
        Self {
            partition,
            sides,
            by_address,
            budget,
            stop,
        }
    }

    /// Splits `region` until both sides are decided everywhere in it.
    pub(crate) fn explore(
        &mut self,
        region: Region,
        carriage: [Carriage; 2],
        mut leaf: impl FnMut(&Partition, Leaf<'p>),
    ) -> Result<(), Stopped> {
        let mut work = vec![(region, carriage.map(Walk::new))];
        while let Some((region, mut walks)) = work.pop() {
            self.budget = self.budget.checked_sub(1).ok_or(Stopped::Budget)?;
            if self.budget.is_multiple_of(256) && (self.stop)() {
                return Err(Stopped::Time);
            }
            let mut split = None;
            for (walk, programs) in walks.iter_mut().zip(&self.sides) {
                let by_address = (walk.carriage == Carriage::ByAddress).then_some(&self.by_address);
                let judged = Judged {
                    region: &region,
                    by_address,
                };
                if let Next::Split(dim, set) = advance(&judged, programs, walk) {
                    split = Some((dim, set));
                    break;
                }
            }
            let Some((dim, set)) = split else {
                let [old, new] = walks;
                let (old, new) = (old.overall, new.overall);
                leaf(self.partition, Leaf { region, old, new });
                continue;
            };
            let [inside, outside] = region.split(&dim, &set);
            work.push((outside, walks.clone()));
            work.push((inside, walks));
        }
        Ok(())
    }
}

/// Walks on until the side is decided or the region has to be split.
fn advance<'p>(region: &Judged<'_>, programs: &[CompiledPolicy<'p>], walk: &mut Walk<'p>) -> Next {
    if matches!(walk.carriage, Carriage::Refused(_)) {
        walk.overall = Action::Deny;
        walk.done = true;
    }
    while !walk.done {
        let Some(program) = programs.get(walk.policy) else {
            if programs.is_empty() {
                walk.overall = Action::Deny;
            }
            walk.done = true;
            break;
        };
        if !walk.entered {
            match program.applies.as_ref().map(|cond| region.relation(cond)) {
                None | Some(Relation::Inside) => walk.entered = true,
                Some(Relation::Outside) => {
                    walk.policy += 1;
                    continue;
                }
                Some(Relation::Partly(dim, set)) => return Next::Split(dim.clone(), set.clone()),
            }
        }
        let tier = program.tiers.get(walk.tier);
        let Some(entry) = tier.and_then(|tier| tier.get(walk.entry)) else {
            // Past the end of a tier that nothing ended for certain, or past the last one.
            next_tier(program, walk);
            continue;
        };
        match judge(region, entry) {
            Holds::False => walk.entry += 1,
            Holds::Split(dim, set) => return Next::Split(dim, set),
            Holds::Maybe => {
                apply(entry.effect, walk);
                walk.entry += 1 + entry.instead_of;
            }
            Holds::True => {
                apply(entry.effect, walk);
                next_tier(program, walk);
            }
        }
    }
    Next::Done
}

enum Holds {
    False,
    True,
    /// It rests on claims that are missing.
    Maybe,
    Split(Dimension, Set),
}

fn judge(region: &Judged<'_>, entry: &Entry<'_>) -> Holds {
    match region.relation(&entry.cond) {
        Relation::Outside => return Holds::False,
        Relation::Partly(dim, set) => return Holds::Split(dim.clone(), set.clone()),
        Relation::Inside => {}
    }
    if entry.claims.is_empty() {
        return Holds::True;
    }
    let known = Set::of(2, |i| i == CLAIMS_KNOWN);
    match region.set(&Dimension::Claims) {
        Some(here) if !here.meets(&known) => return Holds::Maybe,
        Some(here) if !here.within(&known) => return Holds::Split(Dimension::Claims, known),
        Some(_) | None => {}
    }
    match region.relation(&entry.claims) {
        Relation::Outside => Holds::False,
        Relation::Inside => Holds::True,
        Relation::Partly(dim, set) => Holds::Split(dim.clone(), set.clone()),
    }
}

fn apply<'p>(effect: Effect<'p>, walk: &mut Walk<'p>) {
    match effect {
        Effect::Pass => walk.goes_on = true,
        Effect::End(action) => {
            walk.here = Some(walk.here.map_or(action, |here| here.min(action)));
        }
    }
}

/// Goes on with the next tier if something in this one passed, else ends the policy.
fn next_tier<'p>(program: &CompiledPolicy<'p>, walk: &mut Walk<'p>) {
    let more = walk.goes_on && walk.tier + 1 < program.tiers.len();
    walk.entry = 0;
    walk.goes_on = false;
    if more {
        walk.tier += 1;
        return;
    }
    let here = walk.here.take().unwrap_or(Action::Deny);
    // Two different inspection proxies cannot both be passed; the earlier policy's is.
    walk.overall = match (walk.overall, here) {
        (Action::Inspect(proxy), Action::Inspect(_)) => Action::Inspect(proxy),
        (overall, here) => overall.min(here),
    };
    walk.policy += 1;
    walk.tier = 0;
    walk.entered = false;
}
