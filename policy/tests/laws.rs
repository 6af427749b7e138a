//! Laws of the engine, over generated policies and facts.
//!
//! `LAWS_SEED` repeats a run, `LAWS_POLICIES` sets how many policies it takes.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

#[cfg(test)]
#[path = "support/generate.rs"]
mod generate;

#[cfg(test)]
#[path = "laws/addresses.rs"]
mod addresses;

#[cfg(test)]
#[path = "laws/names.rs"]
mod names;

#[cfg(test)]
#[path = "laws/udp.rs"]
mod udp;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Write as _;

use egress_policy::PolicySet;
use egress_policy::classes::{AddressClass, Addresses};
use egress_policy::facts::{Fact, Facts};
use egress_policy::model::{Mode, Policy};
use egress_policy::reference;
use egress_policy::verdict::{Action, Evaluation, Verdict};

use generate::{INSPECTION_PROXIES, Rng, World, hide};

const POLICIES: usize = 5_000;
const FACTS: usize = 200;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// The seed, said on the real standard error so that a passing run shows it too.
fn seed(law: &str) -> u64 {
    let seed = setting("LAWS_SEED").unwrap_or_else(|| RandomState::new().hash_one(law) >> 1);
    let _ = writeln!(std::io::stderr(), "{law}: LAWS_SEED={seed}");
    seed
}

fn policies() -> usize {
    setting("LAWS_POLICIES").map_or(POLICIES, |n| usize::try_from(n).expect("a small number"))
}

fn proxies() -> impl Iterator<Item = String> {
    INSPECTION_PROXIES.iter().map(|name| (*name).to_owned())
}

fn compile(world: &World) -> PolicySet {
    PolicySet::compile(&world.policies, world.settings, proxies()).expect("a generated policy")
}

/// Openness: Deny, then inspection, then Accept.
fn openness(action: Action<'_>) -> u8 {
    match action {
        Action::Deny => 0,
        Action::Inspect(_) => 1,
        Action::Accept => 2,
    }
}

fn verdict<C>(evaluation: Evaluation<'_, C>) -> Option<Verdict<'_, C>> {
    match evaluation {
        Evaluation::Final(verdict) => Some(verdict),
        Evaluation::Undecided => None,
    }
}

/// Adds facts: what is pending comes true as in `whole`, or can no longer come, or stays pending.
fn reveal(
    rng: &mut Rng,
    partial: Facts<'static>,
    whole: Facts<'static>,
    everything: bool,
) -> Facts<'static> {
    let mut more = partial;
    let destination = &mut more.destination;
    let request = &mut more.request;
    come(rng, &mut more.caller, whole.caller, everything);
    come(rng, &mut more.claims, whole.claims, everything);
    come(
        rng,
        &mut destination.name,
        whole.destination.name,
        everything,
    );
    come(
        rng,
        &mut destination.port,
        whole.destination.port,
        everything,
    );
    come(
        rng,
        &mut destination.address,
        whole.destination.address,
        everything,
    );
    come(rng, &mut request.method, whole.request.method, everything);
    come(rng, &mut request.path, whole.request.path, everything);
    come(rng, &mut request.upgrade, whole.request.upgrade, everything);
    come(rng, &mut more.now, whole.now, everything);
    more
}

fn come<T>(rng: &mut Rng, fact: &mut Fact<T>, value: Fact<T>, everything: bool) {
    if matches!(fact, Fact::Pending) {
        match rng.below(10) {
            0 => *fact = Fact::Missing,
            1..=5 => *fact = value,
            _ if everything => *fact = value,
            _ => {}
        }
    }
}

/// A smaller world in which two evaluators still differ on these facts.
fn shrink(world: &World, differs: impl Fn(&World) -> bool) -> World {
    let mut smallest = world.clone();
    loop {
        let mut smaller = Vec::new();
        for p in 0..smallest.policies.len() {
            for t in 0..smallest.policies[p].tiers.len() {
                let mut without = smallest.clone();
                without.policies[p].tiers.remove(t);
                smaller.push(without);
                for r in 0..smallest.policies[p].tiers[t].rules.len() {
                    let mut without = smallest.clone();
                    without.policies[p].tiers[t].rules.remove(r);
                    smaller.push(without);
                }
            }
        }
        match smaller.into_iter().find(&differs) {
            Some(found) => smallest = found,
            None => return smallest,
        }
    }
}

/// The index's answer, its class spelt out.
fn answer<'p>(set: &'p PolicySet, facts: &Facts<'_>) -> Evaluation<'p, AddressClass> {
    set.spelt_out(set.evaluate(facts))
}

fn differs(world: &World, facts: &Facts<'_>) -> bool {
    answer(&compile(world), facts) != reference::evaluate(&world.policies, world.settings, facts)
}

/// The index answers as the reference evaluator does (action, code, basis and what shadow would
/// have done); a final verdict stays as facts come; what can no longer change is final.
#[test]
fn the_index_is_the_reference_and_final_is_final() {
    let mut rng = Rng::new(seed("index"));
    let (mut accepted, mut denied, mut inspected, mut undecided) = (0_usize, 0, 0, 0);
    let policies = policies();
    for _ in 0..policies {
        let world = World::generate(&mut rng);
        let set = compile(&world);
        for _ in 0..FACTS {
            let whole = world.facts(&mut rng);
            let facts = hide(&mut rng, whole);
            let answer = answer(&set, &facts);
            let straight = reference::evaluate(&world.policies, world.settings, &facts);
            if answer != straight {
                let small = shrink(&world, |world| differs(world, &facts));
                let straight = reference::evaluate(&small.policies, small.settings, &facts);
                let set = compile(&small);
                let answer = set.spelt_out(set.evaluate(&facts));
                panic!(
                    "index {answer:#?}\nreference {straight:#?}\non {facts:#?}\nunder {small:#?}"
                );
            }
            let Some(before) = verdict(answer) else {
                undecided += 1;
                let last = reveal(&mut rng, facts, whole, true);
                let end = set.evaluate(&last);
                assert!(
                    verdict(end).is_some(),
                    "nothing is pending, and still undecided: {last:#?} under {world:#?}"
                );
                continue;
            };
            match before.enforced.action {
                Action::Accept => accepted += 1,
                Action::Deny => denied += 1,
                Action::Inspect(_) => inspected += 1,
            }
            let mut more = reveal(&mut rng, facts, whole, false);
            if matches!(before.addresses, Addresses::Class(_)) {
                // Where a name leads is held against the verdict's class, not judged again.
                more.destination.address = facts.destination.address;
            }
            let after = verdict(set.evaluate(&more)).map(|verdict| verdict.enforced.action);
            assert_eq!(
                Some(before.enforced.action),
                after,
                "a final verdict changed from {facts:#?} to {more:#?} under {world:#?}"
            );
        }
    }
    let all = policies * FACTS;
    let _ = writeln!(
        std::io::stderr(),
        "{all} pairs: {accepted} Accept, {denied} Deny, {inspected} Inspect, {undecided} Undecided"
    );
    for (what, count) in [
        ("Accept", accepted),
        ("Deny", denied),
        ("Undecided", undecided),
    ] {
        assert!(count * 5 >= all, "{what} only {count} times of {all}");
    }
}

/// "Nothing is accepted that the first does not accept, by construction."
#[test]
fn composed_policies_never_open_what_the_first_does_not() {
    let mut rng = Rng::new(seed("composition"));
    let mut opened = 0;
    for _ in 0..policies() / 5 {
        let world = World::generate(&mut rng);
        if world.policies.len() < 2 {
            continue;
        }
        let first = World {
            policies: vec![world.policies[0].clone()],
            settings: world.settings,
        };
        let (all, alone) = (compile(&world), compile(&first));
        for _ in 0..FACTS / 4 {
            let whole = world.facts(&mut rng);
            let facts = hide(&mut rng, whole);
            let Some(together) = verdict(all.evaluate(&facts)) else {
                continue;
            };
            let alone = verdict(alone.evaluate(&facts)).map(|v| openness(v.enforced.action));
            if together.enforced.action == Action::Accept {
                opened += 1;
                assert_eq!(alone, Some(2), "{facts:#?} under {world:#?}");
            } else if let Some(alone) = alone {
                assert!(
                    openness(together.enforced.action) <= alone,
                    "{facts:#?} under {world:#?}"
                );
            }
        }
    }
    assert!(opened > 0, "no composed policies accepted anything");
}

fn without_shadow(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    policy.tiers.retain(|tier| tier.mode == Mode::Enforce);
    for tier in &mut policy.tiers {
        tier.rules.retain(|rule| rule.mode == Mode::Enforce);
    }
    policy
}

fn lifted(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    policy.head.shadow_workloads.clear();
    for tier in &mut policy.tiers {
        tier.mode = Mode::Enforce;
        for rule in &mut tier.rules {
            rule.mode = Mode::Enforce;
        }
    }
    policy
}

/// "The enforced verdict is that of the policy with every Shadow rule and tier deleted; the shadow
/// verdict is that of the policy with the word Shadow deleted."
#[test]
fn shadow_is_reported_and_never_enforced() {
    let mut rng = Rng::new(seed("shadow"));
    let mut reported = 0;
    for _ in 0..policies() / 5 {
        let world = World::generate(&mut rng);
        let rewrite = |rewrite: fn(&Policy) -> Policy| World {
            policies: world.policies.iter().map(rewrite).collect(),
            settings: world.settings,
        };
        let (set, deleted) = (compile(&world), compile(&rewrite(without_shadow)));
        let enforcing = compile(&rewrite(lifted));
        for _ in 0..FACTS / 4 {
            let whole = world.facts(&mut rng);
            let facts = hide(&mut rng, whole);
            let here = verdict(set.evaluate(&facts));
            let bare = verdict(deleted.evaluate(&facts));
            assert_eq!(
                here.as_ref().map(|verdict| verdict.enforced),
                bare.map(|verdict| verdict.enforced),
                "{facts:#?} under {world:#?}"
            );
            let Some(here) = here else { continue };
            let lifted_ruling = verdict(enforcing.evaluate(&facts))
                .map(|verdict| verdict.enforced)
                .filter(|ruling| ruling.action != here.enforced.action);
            assert_eq!(here.shadow, lifted_ruling, "{facts:#?} under {world:#?}");
            reported += usize::from(lifted_ruling.is_some());
        }
    }
    assert!(reported > 0, "nothing in shadow ever differed");
}
