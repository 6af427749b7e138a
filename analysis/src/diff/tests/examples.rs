//! Changes as people make them, and what is said of them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Comparison, Options, Outcome, Side, UNLIMITED, compare};
use crate::bundle::PolicyBundle;
use crate::tests::NOW;
use egress_policy::model::Policy;
use egress_policy::tree::Json;

fn bundle(rules: &[&str], default: &str) -> PolicyBundle {
    let rules: Vec<Value> = rules
        .iter()
        .enumerate()
        .map(|(i, text)| {
            let mut rule: Value = serde_json::from_str(text).unwrap();
            rule["name"] = json!(format!("r{i}"));
            rule
        })
        .collect();
    let document = json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": "p"},
        "spec": {
            "identity": {"trustDomains": ["cluster.local"]},
            "tiers": [{"name": "t", "rules": rules}],
            "default": default,
        },
    });
    let text = document.to_string();
    let policy = Policy::read(&Json::parse(&text).unwrap());
    let mut bundle = PolicyBundle::new("test");
    bundle
        .policies
        .push(policy.unwrap_or_else(|defects| panic!("{defects:?}\n{document:#}")));
    bundle
}

/// A comparison that ends undecided would be an error of the test.
pub(super) fn told(old: (&[&str], &str), new: (&[&str], &str), all: bool) -> Comparison {
    let (old, new) = (bundle(old.0, old.1), bundle(new.0, new.1));
    let (old_set, new_set) = (old.compile().unwrap(), new.compile().unwrap());
    let side = |layers, set| Side { layers, set };
    let options = Options { all, ..UNLIMITED };
    let found = compare(&side(&old, &old_set), &side(&new, &new_set), NOW, &options);
    assert_eq!(found.undecided, [""; 0]);
    found
}

/// Every difference on a line of its own: what changes, then who and what, as they are told.
fn lines(found: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    for difference in &found.differences {
        let verdicts = (difference.old.words(), difference.new.words());
        lines.push(format!("{} -> {}", verdicts.0, verdicts.1));
        lines.extend(difference.what.iter().map(|part| format!("  {part}")));
        if difference.more > 0 {
            lines.push(format!("  and {} more", difference.more));
        }
    }
    lines.extend(found.ports.iter().map(super::super::PortChange::words));
    lines
}

const CI: &str = r#"{"from": [{"namespaces": ["ci"]}], "to": [{"domainNames": ["a.example"]}], "action": "Accept"}"#;

/// The old rules and default, the new ones, and what is said.
type Row = (
    &'static str,
    (&'static [&'static str], &'static str),
    (&'static [&'static str], &'static str),
    &'static [&'static str],
);

const ROWS: &[Row] = &[
    (
        "everybody may reach everything",
        (&[CI], "Deny"),
        (&[CI], "Accept"),
        &[
            "Deny -> Accept",
            "  from every workload; to any address",
            "  from callers without a certificate; to any address",
            "  from callers without a certificate; to any name",
            "  from every workload; to every other name (all but a.example)",
            "  from every workload; to a.example; protocol UDP",
            "  from everyone else (all but ci); to a.example",
            "Deny -> Accept",
            "  from ci; to a.example; protocol HTTP; port 80; method CONNECT",
            "  from ci; to a.example; protocol HTTP; port 80; upgrade any other",
        ],
    ),
    (
        "a wildcard becomes any name",
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"domainNames": ["*.x.example"], "ports": [443]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"ports": [443]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        &[
            "Deny -> Accept",
            "  from ci; to any address; port 443",
            "  from ci; to every other name (all but *.x.example); port 443",
        ],
    ),
    (
        "a name becomes a wildcard",
        (&[CI], "Deny"),
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"domainNames": ["a.example", "*.b.example"]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        &["Deny -> Accept", "  from ci; to *.b.example"],
    ),
    (
        "an address becomes a network",
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"networks": ["203.0.113.7/32"], "ports": [22]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"networks": ["203.0.113.0/24"], "ports": [22]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        &[
            "Deny -> Accept",
            "  from ci; to networks 203.0.113.0/30, 203.0.113.4/31, 203.0.113.6/32, 203.0.113.8/29, 203.0.113.16/28, 203.0.113.32/27, 203.0.113.64/26, 203.0.113.128/25; port 22",
        ],
    ),
    (
        "a network becomes every network",
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"networks": ["203.0.113.0/24"], "ports": [22]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"networks": ["0.0.0.0/0"], "ports": [22]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        &[
            "Deny -> Accept",
            "  from ci; to networks 0.0.0.0/0 except 203.0.113.0/24; port 22",
        ],
    ),
    (
        "a port becomes a range",
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"networks": ["203.0.113.0/24"], "ports": [8100]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        (
            &[
                r#"{"from": [{"namespaces": ["ci"]}], "to": [{"networks": ["203.0.113.0/24"], "ports": ["8000-8999"]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        &[
            "Deny -> Accept",
            "  from ci; to networks 203.0.113.0/24; port 8000-8099, 8101-8999",
        ],
    ),
    (
        "requests and TLS at a port that carries neither",
        (&[CI], "Deny"),
        (
            &[
                CI,
                r#"{"from": [{"namespaces": ["b"]}], "to": [{"domainNames": ["api.example"], "ports": [9080], "protocols": ["HTTP", "TLS"]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        &[],
    ),
    (
        "one team's HTTP turns the port for another team",
        (
            &[
                r#"{"from": [{"namespaces": ["a"]}], "to": [{"domainNames": ["a.example"], "ports": [9080]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        (
            &[
                r#"{"from": [{"namespaces": ["a"]}], "to": [{"domainNames": ["a.example"], "ports": [9080]}], "action": "Accept"}"#,
                r#"{"from": [{"namespaces": ["b"]}], "to": [{"domainNames": ["b.example"], "ports": [9080], "protocols": ["HTTP"]}], "action": "Accept"}"#,
            ],
            "Deny",
        ),
        &[
            "Deny -> Accept",
            "  from a; to a.example; protocol HTTP; port 9080",
            "Deny -> Accept",
            "  from b; to b.example; protocol HTTP; port 9080",
            "Accept -> Deny",
            "  from a; to a.example; protocol TCP; port 9080",
            "port 9080: TCP -> HTTP, for every workload",
        ],
    ),
];

#[test]
fn what_is_said_of_a_change() {
    let mut wrong = String::new();
    for (case, old, new, expected) in ROWS {
        let found = told(*old, *new, true);
        let lines = lines(&found);
        if lines != *expected {
            writeln!(wrong, "{case}: {lines:#?}").unwrap();
        }
        let same = found.differences.is_empty() && found.ports.is_empty();
        assert_eq!(found.result() == Outcome::Same, same, "{case}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Where not all is wanted, what no rule names is told all the same, and the rest is counted.
#[test]
fn what_is_cut_is_counted() {
    let rule = |i: usize| {
        format!(
            r#"{{"from": [{{"namespaces": ["team-{i}"]}}], "to": [{{"domainNames": ["n{i}.example.com"], "protocols": ["TLS"]}}], "action": "Accept"}}"#
        )
    };
    let rules: Vec<String> = (0..40).map(rule).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let short = told((&rules, "Deny"), (&rules, "Accept"), false);
    let whole = told((&rules, "Deny"), (&rules, "Accept"), true);
    let (short, whole) = (&short.differences[0], &whole.differences[0]);
    assert_eq!(short.what.len() + short.more, whole.what.len());
    assert!(short.more > 0 && whole.more == 0, "{short:?}");
    for part in [
        "from every workload; to any address",
        "from every workload; to every other name (none that a rule names)",
    ] {
        assert!(
            short.what.iter().any(|told| told.starts_with(part)),
            "{:#?}",
            short.what
        );
    }
    let rest = "from any other namespace";
    let everyone = "from everyone else";
    assert!(
        short
            .what
            .iter()
            .any(|told| told.starts_with(rest) || told.starts_with(everyone)),
        "{:#?}",
        short.what
    );
    // One list in one part is cut in the same way.
    let names: Vec<String> = (0..9).map(|i| format!("n{i}.example.com")).collect();
    let many = json!({"from": [{"namespaces": ["a"]}], "to": [{"domainNames": names}], "action": "Accept"});
    let many = many.to_string();
    for (all, text) in [
        (false, "n3.example.com and 5 more"),
        (true, "n8.example.com"),
    ] {
        let found = told((&[CI], "Deny"), (&[CI, &many], "Deny"), all);
        let part = &found.differences[0].what[0];
        assert!(part.ends_with(text), "{part}");
    }
}
