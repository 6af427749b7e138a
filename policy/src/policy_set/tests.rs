//! The laws must be able to fail: faults put into the compiled policies, or into the facts on their
//! way to them, are each told from the reference evaluator.

use super::PolicySet;
use crate::facts::{Caller, Fact, Facts};
use crate::index::mutations::Fault;
use crate::path::RequestPath;
use crate::reference;
use crate::settings::AddressCheck;

#[path = "../../tests/support/generate.rs"]
mod generate;

use generate::{DEVICES, Rng, World, hide};

/// Most pairs of policies and facts after which a fault must have been noticed: a fiftieth of what
/// the law itself takes.
const WORLDS: usize = 500;
const FACTS: usize = 40;

/// A faulty engine.
enum Mutation {
    Index(Fault),
    Set(fn(&mut PolicySet)),
    Facts(for<'f> fn(&mut Facts<'f>)),
}

const MUTATIONS: [(&str, Mutation); 21] = [
    (
        "shadow is enforced",
        Mutation::Index(Fault::ShadowIsEnforced),
    ),
    (
        "an expired rule accepts",
        Mutation::Index(Fault::ExpiredRulesAccept),
    ),
    ("except is ignored", Mutation::Index(Fault::ExceptIsIgnored)),
    (
        "a tier's default Deny passes",
        Mutation::Index(Fault::TierDefaultDenyPasses),
    ),
    ("Pass accepts", Mutation::Index(Fault::PassAccepts)),
    ("Inspect accepts", Mutation::Index(Fault::InspectAccepts)),
    (
        "no identity is needed",
        Mutation::Index(Fault::NoIdentityIsNeeded),
    ),
    (
        "the last rule of a tier is lost",
        Mutation::Index(Fault::LastRuleOfATierIsLost),
    ),
    (
        "a rule moves to the next tier",
        Mutation::Index(Fault::RuleMovesToTheNextTier),
    ),
    (
        "listed ports match nothing",
        Mutation::Index(Fault::PortsAreIgnored),
    ),
    (
        "the address guard is skipped",
        Mutation::Set(|set| set.settings.address_check = AddressCheck::None),
    ),
    (
        "later policies are not consulted",
        Mutation::Set(|set| set.policies.truncate(1)),
    ),
    (
        "later policies are consulted for everybody",
        Mutation::Set(|set| {
            set.policies
                .iter_mut()
                .for_each(|(head, _)| head.applies_to = None);
        }),
    ),
    (
        "trust domains are not compared",
        Mutation::Set(|set| {
            set.policies
                .iter_mut()
                .for_each(|(head, _)| head.trust_domains.push("other.example".to_owned()));
        }),
    ),
    (
        "plaintext is judged like anything else",
        Mutation::Set(|set| {
            set.policies
                .iter_mut()
                .for_each(|(head, _)| head.allow_plaintext = true);
        }),
    ),
    (
        "shadow for workloads never ends",
        Mutation::Set(|set| {
            let heads = set.policies.iter_mut().map(|(head, _)| head);
            heads
                .flat_map(|head| &mut head.shadow_workloads)
                .for_each(|entry| entry.expires = i64::MAX);
        }),
    ),
    (
        "labels count whatever namespace they claim",
        Mutation::Facts(|facts| {
            if let (Fact::Known(Caller::Workload(id)), Fact::Known(claims)) =
                (facts.caller, &mut facts.claims)
            {
                claims.namespace = id.namespace;
            }
        }),
    ),
    (
        "what cannot come may still come",
        Mutation::Facts(|facts| {
            if facts.claims == Fact::Missing {
                facts.claims = Fact::Pending;
            }
        }),
    ),
    (
        "CONNECT is a method like any other",
        Mutation::Facts(|facts| {
            if facts.request.method == Fact::Known("CONNECT") {
                facts.request.method = Fact::Known("PATCH");
            }
        }),
    ),
    (
        "a malformed path does not match",
        Mutation::Facts(|facts| {
            if facts.request.path == Fact::Known(RequestPath::Malformed) {
                facts.request.path = Fact::Known(RequestPath::Absent);
            }
        }),
    ),
    (
        "an address to come is taken for harmless",
        Mutation::Facts(|facts| {
            if facts.destination.address == Fact::Pending {
                facts.destination.address = Fact::Known([198, 51, 100, 1].into());
            }
        }),
    ),
];

/// How many pairs it takes to notice, if it is noticed.
fn noticed(mutation: &Mutation) -> Option<usize> {
    let mut rng = Rng::new(7);
    for world in 0..WORLDS {
        let generated = World::generate(&mut rng);
        let World { policies, settings } = &generated;
        let devices = DEVICES.iter().map(|name| (*name).to_owned());
        let mut set = PolicySet::compile(policies, *settings, devices).expect("generated policies");
        match mutation {
            Mutation::Index(fault) => {
                set.policies
                    .iter_mut()
                    .for_each(|(_, index)| index.spoil(*fault));
            }
            Mutation::Set(spoil) => spoil(&mut set),
            Mutation::Facts(_) => {}
        }
        for pair in 0..FACTS {
            let whole = generated.facts(&mut rng);
            let facts = hide(&mut rng, whole);
            let mut spoilt = facts;
            if let Mutation::Facts(spoil) = mutation {
                spoil(&mut spoilt);
            }
            if set.spelt_out(set.evaluate(&spoilt))
                != reference::evaluate(policies, *settings, &facts)
            {
                return Some(world * FACTS + pair + 1);
            }
        }
    }
    None
}

#[test]
fn the_laws_notice_every_listed_fault() {
    let mut unnoticed = Vec::new();
    for (name, mutation) in &MUTATIONS {
        match noticed(mutation) {
            Some(pairs) => println!("{name}: after {pairs} pairs"),
            None => unnoticed.push(*name),
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}

#[test]
fn without_a_fault_there_is_nothing_to_notice() {
    assert_eq!(noticed(&Mutation::Set(|_| {})), None);
}
