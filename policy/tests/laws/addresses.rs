//! Laws that tie a verdict's class to the verdicts for known addresses, and the list of classes to
//! the verdicts.

use super::generate::{ADDRESSES, Rng, World, hide};
use super::*;
use egress_policy::address::{Environment, Nat64Prefixes, SPECIAL};
use egress_policy::classes::{Classes, MAX_CLASSES};
use egress_policy::facts::DestinationFacts;
use egress_policy::model::{Hosts, Networks};
use egress_policy::settings::{AddressCheck, Settings};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Addresses at which something may change: the first and last of every network and special range,
/// and their neighbours.
fn addresses(world: &World) -> BTreeSet<IpAddr> {
    let rules = world.policies.iter().flat_map(Policy::rules);
    let listed = rules.flat_map(|placed| &placed.rule.to);
    let listed = listed.filter_map(|to| match &to.hosts {
        Hosts::Networks(networks) => Some(networks),
        Hosts::Anywhere | Hosts::Names(_) => None,
    });
    let listed = listed.flat_map(|networks| networks.networks.iter().chain(&networks.except));
    let mut found: BTreeSet<IpAddr> = ADDRESSES.iter().copied().collect();
    for net in listed {
        found.extend(borders(net));
    }
    found
}

fn borders(net: &IpNet) -> impl Iterator<Item = IpAddr> {
    let before = match net.network() {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_sub(1)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_sub(1)
            .map(|bits| IpAddr::V6(bits.into())),
    };
    let after = match net.broadcast() {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V6(bits.into())),
    };
    [net.network(), net.broadcast()]
        .into_iter()
        .chain(before)
        .chain(after)
}

fn environment(settings: Settings) -> Environment {
    Environment {
        networks: Vec::new(),
        nat64: settings.nat64,
    }
}

/// Everything is known but where the name leads.
fn named(rng: &mut Rng, world: &World) -> Option<Facts<'static>> {
    let mut facts = world.facts(rng);
    if !matches!(facts.destination.name, Fact::Known(Some(_))) {
        return None;
    }
    facts.destination.address = if rng.chance(90) {
        Fact::Pending
    } else {
        Fact::Missing
    };
    match facts.counting_claims() {
        Fact::Known(claims) if claims.cluster.is_none() => None,
        Fact::Missing if matches!(facts.caller, Fact::Known(caller) if caller.workload().is_some()) => {
            None
        }
        _ => Some(facts),
    }
}

fn at(facts: &Facts<'static>, address: IpAddr) -> Facts<'static> {
    Facts {
        destination: DestinationFacts {
            address: Fact::Known(address),
            ..facts.destination
        },
        ..*facts
    }
}

/// "verdict(no address) = Accept with class C implies for every address a: verdict(a) = Accept iff a
/// is not in C's refused ranges." The same for Inspect; and what is denied without an address is
/// denied with every one.
#[test]
fn a_class_is_what_known_addresses_are_denied() {
    let mut rng = Rng::new(seed("class"));
    let (mut opened, mut refused, mut admitted, mut denied) = (0, 0, 0, 0);
    for _ in 0..policies() / 10 {
        let world = World::generate(&mut rng);
        if world.settings.address_check != AddressCheck::Classes {
            continue;
        }
        let set = compile(&world);
        let addresses = addresses(&world);
        for _ in 0..FACTS / 10 {
            let Some(facts) = named(&mut rng, &world) else {
                continue;
            };
            let Some(before) = verdict(answer(&set, &facts)) else {
                panic!("undecided: {facts:#?} under {world:#?}");
            };
            let class = match &before.addresses {
                Addresses::NotNamed => {
                    assert_eq!(before.enforced.action, Action::Deny, "{facts:#?}");
                    None
                }
                Addresses::Class(class) => Some(class.refused_ranges(&environment(world.settings))),
            };
            opened += usize::from(class.is_some());
            for address in &addresses {
                let after = verdict(set.evaluate(&at(&facts, *address))).expect("all is known");
                let admits = class
                    .as_ref()
                    .is_some_and(|ranges| !ranges.iter().any(|net| net.contains(address)));
                let expected = if admits {
                    admitted += 1;
                    before.enforced.action
                } else {
                    refused += usize::from(class.is_some());
                    denied += usize::from(class.is_none());
                    Action::Deny
                };
                assert_eq!(
                    after.enforced.action, expected,
                    "{address}: {before:#?} by {facts:#?} under {world:#?}"
                );
            }
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "{opened} classes: {refused} addresses refused, {admitted} admitted, {denied} denied anyway"
    );
    assert!(
        refused > opened && admitted > opened && denied > 0,
        "{opened}"
    );
}

/// What comes to be known can only take out of what is refused.
#[test]
fn a_class_refuses_no_more_as_facts_come() {
    let mut rng = Rng::new(seed("narrower"));
    let mut less = 0;
    for _ in 0..policies() / 2 {
        let world = World::generate(&mut rng);
        let set = compile(&world);
        for _ in 0..FACTS / 4 {
            let Some(whole) = named(&mut rng, &world) else {
                continue;
            };
            let facts = hide(&mut rng, whole);
            let class = |facts| match verdict(answer(&set, facts))?.addresses {
                Addresses::Class(class) => Some(class),
                Addresses::NotNamed => None,
            };
            let Some(before) = class(&facts) else {
                continue;
            };
            let mut more = reveal(&mut rng, facts, whole, true);
            more.destination.address = facts.destination.address;
            let after = class(&more).expect("a final verdict with a class keeps one");
            let environment = environment(world.settings);
            let ranges = before.refused_ranges(&environment);
            for net in after.refused_ranges(&environment) {
                assert!(
                    ranges.iter().any(|wide| wide.contains(&net)),
                    "{net} by {more:#?}, not by {facts:#?} under {world:#?}"
                );
            }
            less += usize::from(before != after);
        }
    }
    assert!(less > 0, "no class ever changed");
}

/// `Classes::of` lists every class that a verdict has, facts that are missing included; and more
/// than there can be are an error that names rules.
#[test]
fn every_class_of_a_verdict_is_listed() {
    let mut rng = Rng::new(seed("listed"));
    let (mut had, mut too_many, mut worlds) = (0, 0, 0);
    let mut used: BTreeMap<usize, usize> = BTreeMap::new();
    for _ in 0..policies() / 2 {
        let mut world = World::generate(&mut rng);
        world.settings = Settings::new(AddressCheck::Classes);
        worlds += 1;
        let listed = Classes::within(&world.policies, 256);
        match (&listed, Classes::of(&world.policies)) {
            (Ok(all), Ok(few)) => assert_eq!(*all, few),
            (Ok(all), Err(error)) => {
                assert!(all.len() > MAX_CLASSES, "{error}");
                assert!(!error.rules.is_empty());
            }
            (Err(_), Err(error)) => assert!(!error.rules.is_empty()),
            (Err(error), Ok(_)) => panic!("{error}"),
        }
        let Ok(listed) = listed else {
            too_many += 1;
            continue;
        };
        let listed: BTreeSet<AddressClass> = listed.into_iter().collect();
        let mut seen: BTreeSet<AddressClass> = BTreeSet::new();
        let set = compile(&world);
        for _ in 0..FACTS / 2 {
            let mut whole = world.facts(&mut rng);
            whole.destination.address = Fact::Pending;
            let facts = hide(&mut rng, whole);
            let Some(verdict) = verdict(answer(&set, &facts)) else {
                continue;
            };
            if let Addresses::Class(class) = verdict.addresses {
                had += 1;
                assert!(
                    listed.contains(&class),
                    "{class} of {facts:#?} under {world:#?}: {listed:#?}"
                );
                seen.insert(class);
            }
        }
        *used.entry(listed.len().min(MAX_CLASSES + 1)).or_default() += 1;
        // Sound, and not far from exact: most of what is listed is there for a verdict.
        if std::env::var_os("LAWS_SHOW").is_some() && listed.len() > 2 * seen.len() + 2 {
            let _ = writeln!(std::io::stderr(), "{} of {}", seen.len(), listed.len());
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "{had} classes of verdicts; {worlds} policy sets, {too_many} with too many; classes listed: {used:?}"
    );
    assert!(had > worlds, "{had}");
    assert!(too_many * 20 < worlds, "{too_many} of {worlds}");
}

/// The rows that `allowPrivate` opens hold none that it does not, but where a longer prefix says so.
#[test]
fn set_arithmetic_over_the_special_ranges_is_the_longest_prefix() {
    let mut compared = 0;
    for row in &SPECIAL {
        for address in borders(&row.network) {
            for allow_private in [false, true] {
                let class = AddressClass::new(allow_private, []);
                let kind = Nat64Prefixes::NONE.special(address);
                let refused =
                    kind.is_some_and(|kind| !(allow_private && kind.opened_by_allow_private()));
                assert_eq!(
                    class.admits(address, &Environment::default()),
                    !refused,
                    "{address} {allow_private}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared}");
    let everything = Networks {
        networks: vec!["0.0.0.0/0".parse().expect("a network")],
        except: vec!["128.0.0.0/1".parse().expect("a network")],
    };
    assert_eq!(
        everything.spread(),
        ["0.0.0.0/1".parse::<IpNet>().expect("a network")]
    );
}
