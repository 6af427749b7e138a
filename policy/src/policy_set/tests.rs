//! The laws must be able to fail: faults put into the compiled policies, or into the facts on their
//! way to them, are each told from the reference evaluator.

use super::PolicySet;
use crate::address::{Environment, Nat64Prefixes};
use crate::classes::{AddressClass, Addresses, Classes};
use crate::facts::{Caller, Fact, Facts, Protocol};
use crate::index::mutations::Fault;
use crate::model::Policy;
use crate::name::Name;
use crate::path::RequestPath;
use crate::reference;
use crate::settings::{AddressCheck, Settings};
use crate::tree::Json;
use crate::verdict::{Action, Evaluation};

#[path = "../../tests/support/generate.rs"]
mod generate;

use generate::{INSPECTION_PROXIES, Rng, World, hide};

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

const MUTATIONS: [(&str, Mutation); 24] = [
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
        "Deny networks hold no name",
        Mutation::Index(Fault::NetworksHoldNobody),
    ),
    (
        "the first of several Deny networks holds no name",
        Mutation::Index(Fault::TheFirstNetworkOfARunIsForgotten),
    ),
    (
        "a network's own NAT64 prefix is not seen through",
        Mutation::Set(|set| set.settings.nat64 = Nat64Prefixes::NONE),
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
        let proxies = INSPECTION_PROXIES.iter().map(|name| (*name).to_owned());
        let mut set = PolicySet::compile(policies, *settings, proxies).expect("generated policies");
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

/// Pairs of facts and an address for which the class says another thing than the verdict for that
/// address, in worlds that are all the same for every fault.
fn class_against_address(spoil: fn(&mut AddressClass), fault: Option<Fault>) -> usize {
    let mut rng = Rng::new(11);
    let mut found = 0;
    for _ in 0..WORLDS {
        let mut generated = World::generate(&mut rng);
        generated.settings = Settings::new(AddressCheck::Classes);
        let World { policies, settings } = &generated;
        let proxies = INSPECTION_PROXIES.iter().map(|name| (*name).to_owned());
        let mut set = PolicySet::compile(policies, *settings, proxies).expect("generated policies");
        if let Some(fault) = fault {
            let indexes = set.policies.iter_mut().map(|(_, index)| index);
            indexes.for_each(|index| index.spoil(fault));
        }
        for _ in 0..FACTS {
            let mut facts = generated.facts(&mut rng);
            let Fact::Known(address) = facts.destination.address else {
                continue;
            };
            let known = facts;
            facts.destination.address = Fact::Pending;
            let claims = match facts.counting_claims() {
                Fact::Known(claims) => claims.cluster.is_some(),
                Fact::Pending | Fact::Missing => false,
            };
            let Evaluation::Final(verdict) = set.evaluate(&facts) else {
                continue;
            };
            if let Addresses::Class(key) = &verdict.addresses
                && claims
            {
                let mut class = set.class(key);
                spoil(&mut class);
                let straight = reference::evaluate(policies, *settings, &known).at_limit();
                let opens = straight.enforced.action != Action::Deny;
                found += usize::from(opens != class.admits(address, &Environment::default()));
            }
        }
    }
    found
}

/// The law that ties a class to the verdicts for known addresses can fail.
#[test]
fn a_wrong_class_is_noticed_by_known_addresses() {
    assert_eq!(class_against_address(|_| {}, None), 0);
    let nothing_refused: fn(&mut AddressClass) = |class| class.refused.clear();
    let private: fn(&mut AddressClass) = |class| class.allow_private = true;
    let no_private: fn(&mut AddressClass) = |class| class.allow_private = false;
    let nothing: fn(&mut AddressClass) = |_| {};
    for (name, spoil, fault) in [
        ("Deny networks are left in", nothing_refused, None),
        ("private addresses are left in", private, None),
        ("allowPrivate does nothing", no_private, None),
        ("nobody is held", nothing, Some(Fault::NetworksHoldNobody)),
    ] {
        assert!(
            class_against_address(spoil, fault) > 0,
            "not noticed: {name}"
        );
    }
}

/// Random policies seldom have Deny networks alike on both sides of the rule that decides, or alike
/// but for their labels, so this one is written out. What stands behind the deciding rule is not in
/// the class, and where labels are not known the networks for all of them are; a fault in either is
/// noticed.
#[test]
fn deny_networks_hold_before_the_rule_that_decides_and_for_labels_that_are_not_known() {
    const POLICY: &str = r#"{"apiVersion": "egress-warden.io/v1alpha1", "kind": "ClusterEgressPolicy",
        "metadata": {"name": "p"}, "spec": {"identity": {"trustDomains": ["cluster.local"]},
        "tiers": [{"name": "t", "rules": [
            {"name": "one", "to": [{"networks": ["203.0.113.0/28"]}], "action": "Deny"},
            {"name": "a", "to": [{"domainNames": ["a.example"]}], "action": "Accept"},
            {"name": "two", "to": [{"networks": ["203.0.113.16/28"]}], "action": "Deny"},
            {"name": "b", "to": [{"domainNames": ["b.example"]}], "action": "Accept"},
            {"name": "x", "from": [{"namespaces": ["n"], "matchLabels": {"k": "x"}}],
             "to": [{"networks": ["203.0.113.32/28"]}], "action": "Deny"},
            {"name": "y", "from": [{"namespaces": ["n"], "matchLabels": {"k": "y"}}],
             "to": [{"networks": ["203.0.113.48/28"]}], "action": "Deny"},
            {"name": "c", "to": [{"domainNames": ["c.example"]}], "action": "Accept"}]}]}}"#;
    let policy = Policy::read(&Json::parse(POLICY).unwrap()).unwrap();
    let settings = Settings::new(AddressCheck::Classes);
    let refused = |host: &str, fault: Option<Fault>| {
        let policies = std::slice::from_ref(&policy);
        let mut set = PolicySet::compile(policies, settings, []).unwrap();
        if let Some(fault) = fault {
            let indexes = set.policies.iter_mut().map(|(_, index)| index);
            indexes.for_each(|index| index.spoil(fault));
        }
        let name = Name::parse(host.as_bytes()).unwrap();
        let mut facts = Facts::pending(Protocol::Tls);
        facts.caller = Fact::Known(Caller::from_uri_sans([
            b"spiffe://cluster.local/ns/n/sa/s".as_slice()
        ]));
        facts.destination.name = Fact::Known(Some(&name));
        facts.destination.port = Fact::Known(443);
        facts.claims = Fact::Missing;
        let Evaluation::Final(verdict) = set.evaluate(&facts) else {
            panic!("undecided");
        };
        let Addresses::Class(key) = &verdict.addresses else {
            panic!("no class");
        };
        let refused = set.class(key).refused;
        refused.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(refused("a.example", None), ["203.0.113.0/28"]);
    assert_eq!(refused("b.example", None), ["203.0.113.0/27"]);
    let fault = Some(Fault::NetworksBehindTheEndHold);
    assert_eq!(refused("a.example", fault), ["203.0.113.0/27"]);
    assert_eq!(refused("c.example", None), ["203.0.113.0/26"]);
    let fault = Some(Fault::NetworksOfUnknownClaimsAreForgotten);
    assert_ne!(refused("c.example", fault), ["203.0.113.0/26"]);
}

/// The law that every class of a verdict is listed can fail: whichever class is left out of the
/// list, some verdict has it, but for a few.
#[test]
fn a_list_without_one_of_its_classes_is_noticed() {
    let mut rng = Rng::new(13);
    let (mut listed, mut had) = (0, 0);
    for _ in 0..WORLDS / 5 {
        let mut generated = World::generate(&mut rng);
        generated.settings = Settings::new(AddressCheck::Classes);
        let World { policies, settings } = &generated;
        let Ok(classes) = Classes::within(policies, 8) else {
            continue;
        };
        let proxies = INSPECTION_PROXIES.iter().map(|name| (*name).to_owned());
        let set = PolicySet::compile(policies, *settings, proxies).expect("generated policies");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..FACTS * 10 {
            let mut facts = generated.facts(&mut rng);
            facts.destination.address = Fact::Pending;
            if let Evaluation::Final(verdict) = set.evaluate(&facts)
                && let Addresses::Class(key) = &verdict.addresses
            {
                seen.insert(set.class(key));
            }
        }
        listed += classes.len();
        had += classes.iter().filter(|class| seen.contains(class)).count();
    }
    println!("{had} of {listed} listed classes are a verdict's");
    assert!(had * 2 > listed && had > 0, "{had} of {listed}");
}
