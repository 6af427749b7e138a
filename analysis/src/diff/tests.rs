//! The comparison against brute force: every combination of a small universe of facts.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{Comparison, Options, Outcome, Side, compare};
use crate::bundle::PolicyBundle;
use crate::owned_facts::OwnedFacts;
use crate::tests::NOW;
use crate::tests::random::{Shape, Tier, layers, rule, shapes, universe};

mod examples;
mod ranges;

/// One change: a rule added, removed, replaced or moved, a default, whom it is for, one policy more
/// or fewer; or policies of their own.
fn changed(old: &[Shape], kind: u8, at: usize, with: Value, other: Vec<Shape>) -> Vec<Shape> {
    let mut all = old.to_vec();
    let policy = at / 4 % all.len();
    let new = &mut all[policy];
    let tier = at % new.tiers.len();
    let rules = &mut new.tiers[tier].rules;
    let place = at / 2 % rules.len();
    match kind {
        0 => rules.insert(place, with),
        1 if rules.len() > 1 => drop(rules.remove(place)),
        2 => rules[place] = with,
        3 => rules.reverse(),
        4 => {
            new.default = if new.default == "Accept" {
                "Deny"
            } else {
                "Accept"
            }
        }
        5 => new.some = !new.some,
        6 => new.tiers.reverse(),
        7 => return other,
        8 if all.len() > 1 => drop(all.remove(policy)),
        8 => all.extend(other.into_iter().take(1)),
        9 => all.reverse(),
        _ => {}
    }
    all
}

#[derive(Default, Debug)]
struct Tally {
    same: usize,
    different: usize,
    undecided: usize,
}

/// What was missed once: rules of which one is taken away, which matters for one kind of facts
/// alone.
#[test]
fn differences_that_were_missed_once() {
    let rows = [
        (
            // Plain requests are passed on before the Deny is reached; upgrades are not.
            "an upgrade that no rule lists",
            "Accept",
            &[
                r#"{"action": "Pass"}"#,
                r#"{"action": "Deny", "to": [{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "methods": ["GET"]}]}"#,
            ],
            1,
        ),
        (
            "a Deny of IPv4 before an Accept of the NAT64 form",
            "Deny",
            &[
                r#"{"action": "Deny", "to": [{"networks": ["203.0.113.0/24"]}]}"#,
                r#"{"action": "Accept", "to": [{"networks": ["64:ff9b::/96"]}]}"#,
            ],
            0,
        ),
    ];
    for (case, default, texts, out) in rows {
        let mut rules: Vec<Value> = texts
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        let old = one_tier(rules.clone(), default);
        rules.remove(out);
        let new = one_tier(rules, default);
        assert_eq!(compared(&old, &new).result(), Outcome::Different, "{case}");
    }
}

fn one_tier(rules: Vec<Value>, default: &'static str) -> PolicyBundle {
    let tier = Tier {
        rules,
        closed: false,
        shadow: false,
    };
    layers(&[Shape {
        tiers: vec![tier],
        default,
        shadow_workloads: false,
        plaintext: false,
        some: false,
    }])
}

fn compared(old: &PolicyBundle, new: &PolicyBundle) -> Comparison {
    let (old_set, new_set) = (old.compile().unwrap(), new.compile().unwrap());
    let side = |layers, set| Side { layers, set };
    compare(&side(old, &old_set), &side(new, &new_set), NOW, &UNLIMITED)
}

/// A clock that stands still.
const UNLIMITED: Options<'_> = Options {
    elapsed: &|| Duration::ZERO,
    limit: Duration::from_secs(1),
    progress: &|_| {},
    all: false,
};

/// No verdict changes with how the gateway speaks to a server, and it is told all the same.
#[test]
fn tls_of_the_gateways_own_is_told() {
    let system = json!({"originate": true});
    let own = json!({"originate": true, "caCertificates": "bank-ca", "sni": "x.example"});
    let client = json!({"originate": true, "clientCertificate": "shop"});
    let plain = "as the application sends them";
    let all = "TLS verified by the system's authorities";
    for (old, new, before, after) in [
        (Some(&system), None, all, plain),
        (None, Some(&system), plain, all),
        (
            Some(&system),
            Some(&own),
            all,
            "TLS verified by secret bank-ca, as x.example",
        ),
        (
            Some(&client),
            Some(&system),
            "TLS verified by the system's authorities, with the certificate of secret shop",
            all,
        ),
        (Some(&own), Some(&own), "", ""),
    ] {
        let side = |tls: Option<&Value>| {
            let mut to =
                json!({"domainNames": ["*.pay.example"], "protocols": ["HTTP"], "ports": [8443]});
            if let Some(tls) = tls {
                to["tls"] = tls.clone();
            }
            one_tier(vec![json!({"action": "Accept", "to": [to]})], "Deny")
        };
        let comparison = compared(&side(old), &side(new));
        let told: Vec<String> = comparison.tls.iter().map(super::TlsChange::words).collect();
        if old == new {
            assert_eq!((comparison.result(), told), (Outcome::Same, Vec::new()));
            continue;
        }
        let words = format!("requests to *.pay.example port 8443: {before} -> {after}");
        assert_eq!(
            (comparison.result(), told),
            (Outcome::Different, vec![words])
        );
        assert!(comparison.differences.is_empty());
    }
}

/// A request that the gateway sends on in TLS of its own is judged at 443, which carries none.
#[test]
fn what_is_judged_where_the_gateway_speaks_tls() {
    let side = |tls: bool, paths: &[&str]| {
        let mut to = json!({"domainNames": ["*.pay.example"], "protocols": ["HTTP"], "ports": [443], "paths": paths});
        if tls {
            to["tls"] = json!({"originate": true});
        } else {
            to["ports"] = json!([80]);
        }
        one_tier(vec![json!({"action": "Accept", "to": [to]})], "Deny")
    };
    let told = [
        ("nothing", side(true, &["/v1/**"]), side(true, &["/v1/**"])),
        (
            "more paths",
            side(true, &["/v1/**"]),
            side(true, &["/v1/**", "/v2/*"]),
        ),
        (
            "fewer paths",
            side(true, &["/v1/**", "/v2/*"]),
            side(true, &["/v1/**"]),
        ),
        ("any path", side(true, &["/v1/**"]), side(true, &["/**"])),
        (
            "TLS from now on",
            side(false, &["/**"]),
            side(true, &["/**"]),
        ),
        ("TLS no more", side(true, &["/**"]), side(false, &["/**"])),
    ];
    let told = told.map(|(change, old, new)| {
        let comparison = compared(&old, &new);
        let undecided = comparison.undecided.iter();
        let undecided = undecided.map(|why| format!("{change}: {why}"));
        let lines = comparison.differences.iter();
        let lines = lines.map(|one| {
            format!(
                "{change}: {} -> {}: {}",
                one.old,
                one.new,
                one.what.join(" | ")
            )
        });
        lines.chain(undecided).collect::<Vec<_>>()
    });
    let pay = "from every workload; to *.pay.example; protocol HTTP";
    let (default, rule) = ("Deny by p0 (default)", "Accept by p0/t0/r0");
    let none = "Deny by no rule (hello_malformed)";
    assert_eq!(
        told.concat(),
        [
            format!("more paths: {default} -> {rule}: {pay}; port 443; path like /v2/"),
            format!("fewer paths: {rule} -> {default}: {pay}; port 443; path like /v2/"),
            format!("any path: {default} -> {rule}: {pay}; port 443; path like /"),
            "any path: the two may differ where several globs match at once".to_owned(),
            format!("TLS from now on: {none} -> {rule}: {pay}; port 443; path /**"),
            format!("TLS from now on: {rule} -> {default}: {pay}; port 80; path /**"),
            format!("TLS no more: {default} -> {rule}: {pay}; port 80; path /**"),
            format!("TLS no more: {rule} -> {none}: {pay}; port 443; path /**"),
        ]
    );
}

/// `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make it longer, and repeat it.
#[test]
fn the_comparison_agrees_with_brute_force() {
    let facts = universe();
    let mut tally = Tally::default();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let inputs = (shapes(), 0..11_u8, 0..12_usize, rule(), shapes());
    let tally_cell = std::cell::RefCell::new(&mut tally);
    runner
        .run(&inputs, |(old, kind, at, with, other)| {
            let new = changed(&old, kind, at, with, other);
            let (old, new) = (layers(&old), layers(&new));
            let (old_set, new_set) = (old.compile().unwrap(), new.compile().unwrap());
            let side = |layers, set| Side { layers, set };
            let (left, right) = (side(&old, &old_set), side(&new, &new_set));
            let comparison = compare(&left, &right, NOW, &UNLIMITED);
            let enforced = |d: &&super::Difference| !d.shadow;
            let found = comparison.differences.iter().find(enforced);
            let ports = super::CarriedPorts::of(&left, &right);
            // What a client asks for, as each side's mesh carries it; `None` where neither does.
            let carried = |facts: &OwnedFacts| {
                let carriage = ports.carriage(facts.protocol, facts.port.known()?)?;
                Some(carriage.map(|carriage| carriage.judged(facts)))
            };
            let carried: Vec<_> = facts.iter().filter_map(carried).collect();
            let seen = |set: &egress_policy::PolicySet, situation: &OwnedFacts, view| {
                let evaluation = situation.with_facts(|facts| set.evaluate(facts));
                super::ruling(evaluation, view).unwrap().action.as_str()
            };
            let action = |set: &_, situation: &_| seen(set, situation, super::View::Enforced);
            for difference in comparison.differences.iter().filter(enforced) {
                let witness = &difference.witness;
                let carriage = ports.carriage(witness.protocol, witness.port.known().unwrap());
                let [old, new] = carriage.unwrap().map(|carriage| carriage.judged(witness));
                prop_assert_ne!(action(&old_set, &old), action(&new_set, &new));
            }
            let brute = carried
                .iter()
                .find(|[old, new]| action(&old_set, old) != action(&new_set, new));
            if let Some([facts, _]) = brute {
                let missed = comparison.undecided.is_empty() && found.is_none();
                prop_assert!(!missed, "missed: {:#}", facts.to_json());
            }
            let lifted = |set: &_, facts: &_| seen(set, facts, super::View::Lifted);
            let brute = carried
                .iter()
                .find(|[old, new]| lifted(&old_set, old) != lifted(&new_set, new));
            if let Some([facts, _]) = brute {
                let missed = comparison.result() == Outcome::Same;
                prop_assert!(!missed, "missed without shadow: {:#}", facts.to_json());
            }
            count(&comparison, &mut tally_cell.borrow_mut());
            Ok(())
        })
        .unwrap();
    println!("{tally:?}");
    // The test must see all three, and the comparison must seldom give up.
    assert!(tally.same > 40 && tally.different > 40, "{tally:?}");
    assert!(tally.undecided * 2 < tally.different, "{tally:?}");
}

fn count(comparison: &Comparison, tally: &mut Tally) {
    if !comparison.undecided.is_empty() {
        tally.undecided += 1;
    } else if comparison.differences.is_empty() {
        tally.same += 1;
    } else {
        tally.different += 1;
    }
}
