//! The comparison itself: regions of classes, split until both policies are decided in each.

use std::collections::BTreeMap;

use egress_policy::verdict::Action;

use super::compiled::{CompiledPolicy, Cond, Effect, Entry};
use super::partition::{Dimension, Partition};
use super::set::Set;

/// A product of classes: for every fact those that are left.
#[derive(Clone, Debug)]
pub(super) struct Region(pub(super) BTreeMap<Dimension, Set>);

/// The class of known claims.
pub(super) const CLAIMS_KNOWN: usize = 0;

impl Region {
    pub(super) fn all(partition: &Partition) -> Self {
        let sets = partition.dims.keys();
        Self(
            sets.map(|dim| (dim.clone(), Set::all(partition.size(dim))))
                .collect(),
        )
    }

    /// What is left of it under these constraints; `None` for nothing.
    pub(super) fn within(&self, cond: &Cond) -> Option<Self> {
        let mut region = self.clone();
        for (dim, set) in cond {
            let here = region.0.get_mut(dim)?;
            *here = here.and(set);
            if here.is_empty() {
                return None;
            }
        }
        Some(region)
    }

    fn relation<'c>(&self, cond: &'c Cond) -> Relation<'c> {
        let mut partial = None;
        for (dim, set) in cond {
            let Some(here) = self.0.get(dim) else {
                continue;
            };
            if !here.meets(set) {
                return Relation::Outside;
            }
            if partial.is_none() && !here.within(set) {
                partial = Some((dim, set));
            }
        }
        partial.map_or(Relation::Inside, |(dim, set)| Relation::Partly(dim, set))
    }

    fn split(self, dim: &Dimension, set: &Set) -> [Self; 2] {
        let mut inside = self.clone();
        let mut outside = self;
        if let Some(here) = inside.0.get_mut(dim) {
            *here = here.and(set);
        }
        if let Some(here) = outside.0.get_mut(dim) {
            *here = here.minus(set);
        }
        [inside, outside]
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
    const fn new() -> Self {
        Self {
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
pub(super) struct Leaf<'p> {
    pub(super) region: Region,
    pub(super) old: Action<'p>,
    pub(super) new: Action<'p>,
}

/// Splits `region` until both sides are decided everywhere in it. False if `budget` ran out.
pub(super) fn explore<'p>(
    region: Region,
    old: &[CompiledPolicy<'p>],
    new: &[CompiledPolicy<'p>],
    budget: &mut usize,
    mut leaf: impl FnMut(Leaf<'p>),
) -> bool {
    let mut work = vec![(region, Walk::new(), Walk::new())];
    while let Some((region, mut left, mut right)) = work.pop() {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        let next = match advance(&region, old, &mut left) {
            Next::Done => advance(&region, new, &mut right),
            split @ Next::Split(..) => split,
        };
        match next {
            Next::Done => leaf(Leaf {
                region,
                old: left.overall,
                new: right.overall,
            }),
            Next::Split(dim, set) => {
                let [inside, outside] = region.split(&dim, &set);
                work.push((outside, left.clone(), right.clone()));
                work.push((inside, left, right));
            }
        }
    }
    true
}

/// Walks on until the side is decided or the region has to be split.
fn advance<'p>(region: &Region, programs: &[CompiledPolicy<'p>], walk: &mut Walk<'p>) -> Next {
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
            Judged::False => walk.entry += 1,
            Judged::Split(dim, set) => return Next::Split(dim, set),
            Judged::Maybe => {
                apply(entry.effect, walk);
                walk.entry += 1;
            }
            Judged::True => {
                apply(entry.effect, walk);
                next_tier(program, walk);
            }
        }
    }
    Next::Done
}

enum Judged {
    False,
    True,
    /// It rests on claims that are missing.
    Maybe,
    Split(Dimension, Set),
}

fn judge(region: &Region, entry: &Entry<'_>) -> Judged {
    match region.relation(&entry.cond) {
        Relation::Outside => return Judged::False,
        Relation::Partly(dim, set) => return Judged::Split(dim.clone(), set.clone()),
        Relation::Inside => {}
    }
    if entry.claims.is_empty() {
        return Judged::True;
    }
    let known = Set::of(2, |i| i == CLAIMS_KNOWN);
    match region.0.get(&Dimension::Claims) {
        Some(here) if !here.meets(&known) => return Judged::Maybe,
        Some(here) if !here.within(&known) => return Judged::Split(Dimension::Claims, known),
        Some(_) | None => {}
    }
    match region.relation(&entry.claims) {
        Relation::Outside => Judged::False,
        Relation::Inside => Judged::True,
        Relation::Partly(dim, set) => Judged::Split(dim.clone(), set.clone()),
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
    // Two different devices cannot both be passed; the earlier policy's is.
    walk.overall = match (walk.overall, here) {
        (Action::Inspect(device), Action::Inspect(_)) => Action::Inspect(device),
        (overall, here) => overall.min(here),
    };
    walk.policy += 1;
    walk.tier = 0;
    walk.entered = false;
}
