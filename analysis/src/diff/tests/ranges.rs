//! Networks, port ranges and defaults against brute force: what is written out is exactly what the
//! engines decide otherwise.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::examples::told;
use crate::diff::{Comparison, Direction};

/// A rule's networks, what is taken out of them, and its ports.
type Element = (Vec<Ipv4Net>, Vec<Ipv4Net>, Vec<(u16, u16)>);

const FIRST: u32 = u32::from_be_bytes([203, 0, 113, 0]);
const ADDRESSES: u32 = 64;
const PORTS: u16 = 40;

fn network() -> impl Strategy<Value = Ipv4Net> {
    (0..ADDRESSES, 26_u8..=32).prop_map(|(offset, length)| {
        let address = Ipv4Addr::from_bits(FIRST + offset);
        Ipv4Net::new(address, length).unwrap().trunc()
    })
}

fn element() -> impl Strategy<Value = Element> {
    let ports = (1..PORTS, 0_u16..6).prop_map(|(first, more)| (first, (first + more).min(PORTS)));
    (
        prop::collection::vec(network(), 1..4),
        prop::option::of(network()),
        prop::collection::vec(ports, 1..3),
    )
        .prop_map(|(networks, except, ports)| {
            // An exception lies inside one of the networks and leaves something of each.
            let fits = |hole: &Ipv4Net| {
                networks.iter().any(|net| net.contains(hole))
                    && !networks.iter().any(|net| hole.contains(net))
            };
            let except = except.filter(fits).into_iter().collect();
            (networks, except, ports)
        })
}

fn rule((networks, except, ports): &Element, from: &str, action: &str) -> String {
    let texts = |networks: &[Ipv4Net]| -> Vec<String> {
        let mut texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
        texts.sort();
        texts.dedup();
        texts
    };
    let ports: Vec<Value> = ports
        .iter()
        .map(|(first, last)| {
            if first == last {
                json!(first)
            } else {
                json!(format!("{first}-{last}"))
            }
        })
        .collect();
    let mut to = json!({"networks": texts(networks), "ports": ports, "protocols": ["TCP"]});
    let except = texts(except);
    if !except.is_empty() {
        to["except"] = json!(except);
    }
    json!({"from": [{"namespaces": [from]}], "to": [to], "action": action}).to_string()
}

fn holds((networks, except, ports): &Element, address: Ipv4Addr, port: u16) -> bool {
    networks.iter().any(|net| net.contains(&address))
        && !except.iter().any(|net| net.contains(&address))
        && ports
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&port))
}

/// Whether a part, as it is written out, holds this.
fn written(told: &str, address: Ipv4Addr, port: u16) -> bool {
    let networks = told
        .split("; ")
        .find_map(|part| part.strip_prefix("to networks "));
    let networks = networks.unwrap_or_else(|| panic!("{told}"));
    let (inside, outside) = networks.split_once(" except ").unwrap_or((networks, ""));
    let any = |list: &str| {
        let mut nets = list
            .split(", ")
            .filter_map(|net| net.parse::<Ipv4Net>().ok());
        nets.any(|net| net.contains(&address))
    };
    let ports = told.split("; ").find_map(|part| part.strip_prefix("port "));
    let at_port = ports.is_none_or(|ports| {
        ports.split(", ").any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            (first.parse().unwrap()..=last.parse::<u16>().unwrap()).contains(&port)
        })
    });
    any(inside) && !any(outside) && at_port
}

fn parts(found: &Comparison, direction: Direction) -> Vec<&str> {
    let differences = found.differences.iter();
    let wanted = differences.filter(|difference| difference.direction() == direction);
    wanted
        .flat_map(|difference| difference.what.iter().map(String::as_str))
        .collect()
}

/// The fewest networks that hold these addresses.
fn fewest(addresses: &[u32]) -> usize {
    let mut nets: Vec<Ipv4Net> = addresses
        .iter()
        .map(|bits| Ipv4Net::from(Ipv4Addr::from_bits(*bits)))
        .collect();
    nets = Ipv4Net::aggregate(&nets);
    nets.len()
}

/// One random rule becomes another: what is gained and lost, address by address and
/// port by port.
#[test]
fn ranges_are_written_out_exactly() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(case_count())
    });
    let inputs = (element(), element());
    runner
        .run(&inputs, |(old, new)| {
            let (before, after) = (rule(&old, "ci", "Accept"), rule(&new, "ci", "Accept"));
            let found = told((&[&before], "Deny"), (&[&after], "Deny"), true);
            let (gains, loses) = (
                parts(&found, Direction::Gains),
                parts(&found, Direction::Loses),
            );
            for port in 1..=PORTS + 1 {
                for bits in FIRST..FIRST + ADDRESSES {
                    let address = Ipv4Addr::from_bits(bits);
                    let (had, has) = (holds(&old, address, port), holds(&new, address, port));
                    let told =
                        |parts: &[&str]| parts.iter().any(|part| written(part, address, port));
                    prop_assert_eq!(
                        told(&gains),
                        has && !had,
                        "{} {}: {:?}",
                        address,
                        port,
                        gains
                    );
                    prop_assert_eq!(
                        told(&loses),
                        had && !has,
                        "{} {}: {:?}",
                        address,
                        port,
                        loses
                    );
                }
            }
            // Where every port is alike, the networks are the fewest.
            if old.2 == new.2 {
                let gained: Vec<u32> = (FIRST..FIRST + ADDRESSES)
                    .filter(|bits| {
                        let address = Ipv4Addr::from_bits(*bits);
                        let port = new.2[0].0;
                        holds(&new, address, port) && !holds(&old, address, port)
                    })
                    .collect();
                let listed: usize = gains
                    .iter()
                    .map(|part| {
                        part.split("; ")
                            .find(|part| part.starts_with("to "))
                            .unwrap()
                    })
                    .map(|networks| networks.split(", ").count())
                    .sum();
                prop_assert!(listed <= fewest(&gained), "{gains:?}");
            }
            Ok(())
        })
        .unwrap();
}

/// `PROPTEST_CASES`, if it is set.
fn case_count() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

/// Callers and names that rules write, and of each one that none does, below what they write too.
const CALLERS: [&str; 3] = ["a", "b", "other"];
const NAMES: [&str; 6] = [
    "x.t.example",
    "y.x.t.example",
    "w.x.t.example",
    "z.t.example",
    "w.t.example",
    "o.test",
];

/// Random rules and defaults: who or what no rule names is told in words, and first.
#[test]
fn the_rest_is_told_in_words_and_first() {
    let rule = (0..4_usize, 0..5_usize, any::<bool>());
    let side = || (prop::collection::vec(rule.clone(), 1..4), any::<bool>());
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(case_count())
    });
    let mut told_of = [0, 0];
    let counted = std::cell::RefCell::new(&mut told_of);
    runner
        .run(&(side(), side()), |(old, new)| {
            let (before, after) = (texts(&old.0), texts(&new.0));
            let default = |accepts: bool| if accepts { "Accept" } else { "Deny" };
            let found = told(
                (
                    &before.iter().map(String::as_str).collect::<Vec<_>>(),
                    default(old.1),
                ),
                (
                    &after.iter().map(String::as_str).collect::<Vec<_>>(),
                    default(new.1),
                ),
                false,
            );
            let differs = |caller: &str, name: &str| {
                decides(&old, caller, name) != decides(&new, caller, name)
            };
            let any_name = CALLERS.iter().any(|caller| differs(caller, "o.test"));
            let anyone = NAMES.iter().any(|name| differs("other", name));
            let all = || found.differences.iter();
            let first = |words: &[&str]| {
                all().any(|one| {
                    let first = one.what.iter().take_while(|part| broad(part));
                    let first = first.filter(|part| is_of_workloads_in_tls(part));
                    let mut first = first;
                    first.any(|part| words.iter().any(|word| part.contains(word)))
                })
            };
            let names = [
                "to every other name (",
                "to every other name,",
                "to any name",
            ];
            let callers = ["from everyone", "from every workload"];
            prop_assert_eq!(
                first(&names),
                any_name,
                "{:?}",
                all().map(|d| &d.what).collect::<Vec<_>>()
            );
            prop_assert_eq!(
                first(&callers),
                anyone,
                "{:?}",
                all().map(|d| &d.what).collect::<Vec<_>>()
            );
            let mut counted = counted.borrow_mut();
            counted[0] += usize::from(any_name);
            counted[1] += usize::from(anyone);
            Ok(())
        })
        .unwrap();
    assert!(told_of.iter().all(|seen| *seen > 5), "{told_of:?}");
}

fn is_of_workloads_in_tls(part: &str) -> bool {
    let protocols = part
        .split("; ")
        .find_map(|part| part.strip_prefix("protocol "));
    // Callers without a certificate are not among those that are compared.
    !part.starts_with("from callers") && protocols.is_none_or(|protocols| protocols.contains("TLS"))
}

fn broad(part: &str) -> bool {
    ["every", "any ", "callers ", "except"]
        .iter()
        .any(|word| part.contains(word))
}

const FROM: [&str; 4] = [
    r#"[{"namespaces": ["a"]}]"#,
    r#"[{"namespaces": ["b"]}]"#,
    r#"[{"namespaces": ["a", "b"]}]"#,
    "null",
];
const TO: [&str; 5] = [
    r#"[{"domainNames": ["x.t.example"], "protocols": ["TLS"]}]"#,
    r#"[{"domainNames": ["*.x.t.example"], "protocols": ["TLS"]}]"#,
    r#"[{"domainNames": ["z.t.example", "x.t.example"], "protocols": ["TLS"]}]"#,
    r#"[{"domainNames": ["*.t.example"], "protocols": ["TLS"]}]"#,
    r#"[{"protocols": ["TLS"], "ports": [443]}]"#,
];

/// The place in [`FROM`], the place in [`TO`], and whether it accepts.
type Rule = (usize, usize, bool);

fn texts(rules: &[Rule]) -> Vec<String> {
    rules
        .iter()
        .map(|(from, to, accepts)| {
            let to: Value = serde_json::from_str(TO[*to]).unwrap();
            let mut rule = json!({"to": to, "action": if *accepts { "Accept" } else { "Deny" }});
            // A Deny without `from` is about callers without a certificate too.
            let from: Value = serde_json::from_str(FROM[*from]).unwrap();
            if !from.is_null() {
                rule["from"] = from;
            }
            rule.to_string()
        })
        .collect()
}

/// What such rules decide about a workload that speaks TLS to a name, said once more.
fn decides((rules, default): &(Vec<Rule>, bool), caller: &str, name: &str) -> bool {
    let matches = |(from, to, _): &&Rule| {
        let who = match from {
            0 => caller == "a",
            1 => caller == "b",
            2 => caller != "other",
            _ => true,
        };
        let place = match to {
            0 => name == "x.t.example",
            1 => name.ends_with(".x.t.example"),
            2 => name == "z.t.example" || name == "x.t.example",
            3 => name.ends_with(".t.example"),
            _ => true,
        };
        who && place
    };
    rules.iter().find(matches).map_or(*default, |rule| rule.2)
}
