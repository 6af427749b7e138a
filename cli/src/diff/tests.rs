//! The comparison against brute force: every combination of a small universe of facts.

use std::net::IpAddr;
use std::time::Duration;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::Policy;
use egress_policy::name::Name;
use egress_policy::settings::{AddressCheck, Settings};
use egress_policy::tree::Json;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{Comparison, Side, compare};
use crate::load::Layers;
use crate::situation::{Metadata, Situation, Who};

const NOW: i64 = 1_796_083_200;

fn layers(document: &Value) -> Layers {
    let text = document.to_string();
    let policy = Policy::read(&Json::parse(&text).unwrap())
        .unwrap_or_else(|defects| panic!("{defects:?}\n{document:#}"));
    let settings = Settings {
        address_check: AddressCheck::Upstream,
    };
    let mut layers = Layers::new("test");
    layers.policies.push(policy);
    layers.settings = settings;
    layers
}

fn pick(choices: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(choices).prop_map(|text| serde_json::from_str(text).unwrap())
}

const FROM: &[&str] = &[
    "null",
    r#"[{"anyone": true}]"#,
    r#"[{"namespaces": ["a"]}]"#,
    r#"[{"namespaces": ["a", "b"]}]"#,
    r#"[{"namespaces": ["b"]}, {"namespaces": ["a"], "matchLabels": {"k": "v"}}]"#,
    r#"[{"serviceAccounts": ["a/s"]}]"#,
    r#"[{"matchLabels": {"k": "v"}}]"#,
    r#"[{"matchLabels": {"k": "w"}}]"#,
    r#"[{"namespaces": ["a"], "matchExpressions": [{"key": "k", "operator": "Exists"}]}]"#,
    r#"[{"namespaces": ["a"], "matchExpressions": [{"key": "k", "operator": "In", "values": ["v", "w"]}]}]"#,
    r#"[{"namespaces": ["a"], "matchExpressions": [{"key": "k", "operator": "Exists"}, {"key": "k", "operator": "NotIn", "values": ["v"]}]}]"#,
];
const TO: &[&str] = &[
    "null",
    r#"[{"domainNames": ["x.test.example"]}]"#,
    r#"[{"domainNames": ["*.test.example"]}]"#,
    r#"[{"domainNames": ["+.test.example"], "ports": [443]}]"#,
    r#"[{"domainNames": ["x*.test.example"]}]"#,
    r#"[{"domainNames": ["*y.test.example", "test.example"]}]"#,
    r#"[{"domainNames": ["*.test.example"], "allowPrivate": true}]"#,
    r#"[{"domainNames": ["*.test.example"], "ports": ["80-443"]}, {"ports": [22], "protocols": ["TCP"]}]"#,
    r#"[{"networks": ["10.0.0.0/8"]}]"#,
    r#"[{"networks": ["203.0.113.0/24"], "except": ["203.0.113.8/29"]}]"#,
    r#"[{"networks": ["0.0.0.0/0"], "ports": [22, 80]}]"#,
    r#"[{"domainNames": ["*.test.example"], "protocols": ["TLS"]}]"#,
    r#"[{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "methods": ["GET"]}]"#,
    r#"[{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "paths": ["/a/**"]}]"#,
    r#"[{"domainNames": ["*.test.example"], "protocols": ["HTTP"], "paths": ["/a/*", "/b"]}]"#,
    r#"[{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "methods": ["CONNECT"]}]"#,
    r#"[{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "upgrades": ["websocket"]}]"#,
];

fn rule() -> impl Strategy<Value = Value> {
    let action = prop::sample::select(&["Accept", "Accept", "Deny", "Pass", "Inspect"][..]);
    let lasting = prop::sample::select(&[0_u8, 0, 0, 1, 2][..]);
    (pick(FROM), pick(TO), action, lasting, any::<bool>()).prop_map(
        |(from, to, action, lasting, shadow)| {
            let mut rule = json!({"action": action});
            let object = rule.as_object_mut().unwrap();
            if !from.is_null() {
                object.insert("from".into(), from);
            }
            if !to.is_null() {
                object.insert("to".into(), to);
            }
            if action == "Inspect" {
                object.insert("inspection".into(), json!("dlp"));
            }
            if action == "Accept" && lasting > 0 {
                let when =
                    ["2026-01-01T00:00:00Z", "2027-06-01T00:00:00Z"][usize::from(lasting - 1)];
                object.insert("expires".into(), json!(when));
            }
            if shadow && lasting == 2 {
                object.insert("mode".into(), json!("Shadow"));
            }
            rule
        },
    )
}

#[derive(Clone, Debug)]
struct Shape {
    tiers: Vec<(Vec<Value>, bool)>,
    default_accept: bool,
    shadow_workloads: bool,
    plaintext: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let tier = (
        prop::collection::vec(rule(), 1..4),
        prop::bool::weighted(0.15),
    );
    let tiers = prop::collection::vec(tier, 1..3);
    let odd = || prop::bool::weighted(0.1);
    (tiers, odd(), odd(), odd()).prop_map(|(tiers, default_accept, shadow_workloads, plaintext)| {
        Shape {
            tiers,
            default_accept,
            shadow_workloads,
            plaintext,
        }
    })
}

fn document(shape: &Shape) -> Value {
    let tiers: Vec<Value> = shape
        .tiers
        .iter()
        .enumerate()
        .map(|(t, (rules, closed))| {
            let rules: Vec<Value> = rules
                .iter()
                .enumerate()
                .map(|(r, rule)| {
                    let mut rule = rule.clone();
                    rule["name"] = json!(format!("r{r}"));
                    rule
                })
                .collect();
            let default = if *closed { "Deny" } else { "Pass" };
            json!({"name": format!("t{t}"), "rules": rules, "default": default})
        })
        .collect();
    let mut document = json!({
        "apiVersion": "warden.egress/v1alpha1",
        "kind": "EgressPolicy",
        "metadata": {"name": "p"},
        "spec": {
            "identity": {"trustDomains": ["cluster.local"], "allowPlaintext": shape.plaintext},
            "tiers": tiers,
            "default": if shape.default_accept { "Accept" } else { "Deny" },
        },
    });
    if shape.shadow_workloads {
        document["spec"]["shadowWorkloads"] =
            json!([{"namespaces": ["b"], "expires": "2027-03-01T00:00:00Z"}]);
    }
    document
}

/// One change: a rule added, removed, replaced or moved; or a policy of its own.
fn changed(shape: &Shape, kind: u8, at: usize, with: Value, other: Shape) -> Shape {
    let mut new = shape.clone();
    let tier = at % new.tiers.len();
    let rules = &mut new.tiers[tier].0;
    let place = at / 2 % rules.len();
    match kind {
        0 => rules.insert(place, with),
        1 if rules.len() > 1 => drop(rules.remove(place)),
        2 => rules[place] = with,
        3 => rules.reverse(),
        4 => new.default_accept = !new.default_accept,
        5 => return other,
        _ => {}
    }
    new
}

fn universe() -> Vec<Situation> {
    let name = |text: &str| Some(Name::parse(text.as_bytes()).unwrap());
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut callers = vec![(Who::NoCertificate, None), (Who::Plaintext, None)];
    for (namespace, account) in [("a", "s"), ("a", "t"), ("b", "s"), ("c", "s")] {
        let labels: [Option<&[(&str, &str)]>; 5] = [
            None,
            Some(&[]),
            Some(&[("k", "v")]),
            Some(&[("k", "w")]),
            Some(&[("k", "u")]),
        ];
        for labels in labels {
            let who = Who::Workload {
                trust_domain: "cluster.local".into(),
                namespace: namespace.into(),
                service_account: account.into(),
            };
            let claims = labels.map(|labels| Metadata {
                namespace: namespace.into(),
                cluster: Some("c".into()),
                labels: labels
                    .iter()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
            });
            callers.push((who, claims));
        }
    }
    let mut destinations = Vec::new();
    for text in [
        "test.example",
        "x.test.example",
        "xy.test.example",
        "z.test.example",
        "y.x.test.example",
        "o.example",
    ] {
        for address in ["198.51.100.1", "10.0.0.1", "203.0.113.1"] {
            destinations.push((name(text), ip(address)));
        }
    }
    for address in [
        "198.51.100.1",
        "10.0.0.1",
        "203.0.113.1",
        "203.0.113.9",
        "64:ff9b::cb00:7101",
        "2001:db8::1",
    ] {
        destinations.push((None, ip(address)));
    }
    let requests: [(Protocol, &str, Option<&str>, Option<&str>); 9] = [
        (Protocol::Tls, "", None, None),
        (Protocol::Tcp, "", None, None),
        (Protocol::Http, "GET", Some("/"), None),
        (Protocol::Http, "GET", Some("/a/b"), None),
        (Protocol::Http, "POST", Some("/a/b/c"), None),
        (Protocol::Http, "POST", Some("/b"), None),
        (Protocol::Http, "GET", Some("/a/..;/b"), None),
        (Protocol::Http, "CONNECT", None, None),
        (Protocol::Http, "GET", Some("/a/b"), Some("websocket")),
    ];
    let mut all = Vec::new();
    for (who, claims) in &callers {
        for (name, address) in &destinations {
            for (protocol, method, path, upgrade) in &requests {
                for (port, now) in [
                    (22, NOW),
                    (80, NOW),
                    (443, NOW),
                    (443, NOW + 40_000_000),
                    (443, NOW + 10_000_000),
                ] {
                    let mut situation = Situation::pending(*protocol);
                    situation.caller = Fact::Known(who.clone());
                    situation.claims = claims.clone().map_or(Fact::Missing, Fact::Known);
                    situation.name = Fact::Known(name.clone());
                    situation.address = Fact::Known(*address);
                    situation.port = Fact::Known(port);
                    situation.method = Fact::Known((*method).into());
                    situation.path = Fact::Known(path.map(str::to_owned));
                    situation.upgrade = Fact::Known(upgrade.map(str::to_owned));
                    situation.now = Fact::Known(now);
                    all.push(situation);
                }
            }
        }
    }
    all
}

#[derive(Default, Debug)]
struct Tally {
    same: usize,
    different: usize,
    undecided: usize,
}

/// What random policies once found missing: rules before and after that differ for one kind of
/// request alone.
#[test]
fn differences_that_were_missed_once() {
    let shape = |rules: Vec<Value>| Shape {
        tiers: vec![(rules, false)],
        default_accept: true,
        shadow_workloads: false,
        plaintext: false,
    };
    // Plain requests are passed on before the Deny is reached; upgrades, which nothing lists, are not.
    let pass = json!({"action": "Pass"});
    let deny = json!({"action": "Deny", "to": [{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "methods": ["GET"]}]});
    let rows = [(
        "an upgrade that no rule lists",
        vec![pass.clone()],
        vec![pass, deny],
    )];
    for (case, old, new) in rows {
        let (old, new) = (
            layers(&document(&shape(old))),
            layers(&document(&shape(new))),
        );
        let (old_set, new_set) = (old.compile().unwrap(), new.compile().unwrap());
        let left = Side {
            layers: &old,
            set: &old_set,
        };
        let right = Side {
            layers: &new,
            set: &new_set,
        };
        let comparison = compare(&left, &right, NOW, Duration::from_mins(1));
        assert!(comparison.undecided.is_empty(), "{case}");
        assert!(!comparison.differences.is_empty(), "{case}");
    }
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
    let inputs = (shape(), 0..7_u8, 0..12_usize, rule(), shape());
    let tally_cell = std::cell::RefCell::new(&mut tally);
    runner
        .run(&inputs, |(old, kind, at, with, other)| {
            let new = changed(&old, kind, at, with, other);
            let (old, new) = (layers(&document(&old)), layers(&document(&new)));
            let (old_set, new_set) = (old.compile().unwrap(), new.compile().unwrap());
            let side = |layers, set| Side { layers, set };
            let (left, right) = (side(&old, &old_set), side(&new, &new_set));
            let comparison = compare(&left, &right, NOW, Duration::from_mins(1));
            let enforced = |d: &&super::Difference| !d.shadow;
            let found = comparison.differences.iter().find(enforced);
            let action = |set: &egress_policy::PolicySet, situation: &Situation| {
                let evaluation = situation.with_facts(|facts| set.evaluate(facts));
                super::ruling(evaluation, super::View::Enforced)
                    .unwrap()
                    .action
                    .as_str()
            };
            for difference in comparison.differences.iter().filter(enforced) {
                let facts = &difference.witness;
                prop_assert_ne!(action(&old_set, facts), action(&new_set, facts));
            }
            let brute = facts
                .iter()
                .find(|facts| action(&old_set, facts) != action(&new_set, facts));
            if let Some(facts) = brute {
                let missed = comparison.undecided.is_empty() && found.is_none();
                prop_assert!(!missed, "missed: {:#}", facts.to_json());
            }
            count(&comparison, &mut tally_cell.borrow_mut());
            Ok(())
        })
        .unwrap();
    println!("{tally:?}");
    // The test must see all three, and the comparison must seldom give up.
    assert!(tally.same > 20 && tally.different > 100, "{tally:?}");
    assert!(tally.undecided * 4 < tally.different, "{tally:?}");
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
