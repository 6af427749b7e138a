use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{addresses, earlier};
use crate::{coredns_zone, render, sample, warnings};

const RANGE: &str = "240.241.0.0/16";

fn names(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn assign(
    range: &str,
    kept: &BTreeMap<String, Ipv4Addr>,
    texts: &[&str],
) -> BTreeMap<String, Ipv4Addr> {
    addresses(range.parse().unwrap(), kept, &names(texts)).unwrap()
}

/// What nobody may change without saying so: the addresses are in applications' caches, in zones,
/// and in the logs of clients.
#[test]
fn a_names_address_is_its_hash() {
    let none = BTreeMap::new();
    let found = assign(
        RANGE,
        &none,
        &["a.example", "b.example", "db.partner.example"],
    );
    for (name, address) in [
        ("a.example", "240.241.54.131"),
        ("b.example", "240.241.215.71"),
        ("db.partner.example", "240.241.150.199"),
    ] {
        assert_eq!(found[name].to_string(), address, "{name}");
    }
    // Alone, among others, and in whatever order.
    for texts in [&["a.example"][..], &["z.example", "a.example"]] {
        assert_eq!(assign(RANGE, &none, texts)["a.example"], found["a.example"]);
    }
}

/// A range so small that names collide: every name has an address of its own, inside, and keeps it
/// when others come, if the earlier render is known.
#[test]
fn names_that_collide_keep_what_they_have() {
    let range = "198.18.7.0/24";
    let texts: Vec<_> = (0..127)
        .map(|number| format!("n{number}.example"))
        .collect();
    let mut kept = BTreeMap::new();
    for end in [1, 40, 90, 127] {
        let some: Vec<_> = texts[..end].iter().map(String::as_str).collect();
        let found = assign(range, &kept, &some);
        assert_eq!(found.len(), end);
        let distinct: BTreeSet<_> = found.values().collect();
        assert_eq!(distinct.len(), end, "two names have one address");
        for (name, address) in &found {
            let [a, b, c, d] = address.octets();
            assert!(
                (a, b, c) == (198, 18, 7) && (1..=254).contains(&d),
                "{name} {address}"
            );
        }
        for (name, address) in &kept {
            assert_eq!(&found[name], address, "{name} has moved");
        }
        kept = found;
    }
    // Full: half of the range stays free.
    let many: BTreeSet<_> = (0..128)
        .map(|number| format!("n{number}.example"))
        .collect();
    assert!(addresses(range.parse().unwrap(), &kept, &many).is_err());
}

/// What an earlier render says counts only as far as it can be.
#[test]
fn an_earlier_address_must_be_of_the_range_and_one_names() {
    let none = BTreeMap::new();
    let fresh = assign(RANGE, &none, &["a.example", "b.example"]);
    let elsewhere = BTreeMap::from([("a.example".to_owned(), Ipv4Addr::new(203, 0, 113, 7))]);
    assert_eq!(
        assign(RANGE, &elsewhere, &["a.example"])["a.example"],
        fresh["a.example"]
    );
    let one = Ipv4Addr::new(240, 241, 9, 9);
    let twice = BTreeMap::from([("a.example".to_owned(), one), ("b.example".to_owned(), one)]);
    let found = assign(RANGE, &twice, &["a.example", "b.example"]);
    assert_eq!(found["a.example"], one);
    assert_eq!(found["b.example"], fresh["b.example"]);
    // The name to which a hash leads gives way to the one that has the address already.
    let taken = BTreeMap::from([("b.example".to_owned(), fresh["a.example"])]);
    let found = assign(RANGE, &taken, &["a.example", "b.example"]);
    assert_eq!(found["b.example"], fresh["a.example"]);
    assert_ne!(found["a.example"], fresh["a.example"]);
}

fn policy(rules: &[Value]) -> Value {
    sample::policy("p", &json!({"name": "t", "rules": rules}))
}

fn rule(name: &str, from: &Value, to: &Value) -> Value {
    json!({"name": name, "from": [from], "to": [to], "action": "Accept"})
}

/// What is rendered of names: host, ports and namespaces of each entry, in order.
fn entries(settings: &str, rules: &[Value]) -> Vec<(String, Vec<u64>, Vec<String>)> {
    let install = sample::install(settings);
    let rendered = render(&install, &[policy(rules)]).unwrap();
    let entries = rendered.objects().iter().filter(|object| {
        object.kind() == "ServiceEntry" && object.name().starts_with("egress-warden-tcp-")
    });
    let mut found: Vec<_> = entries
        .map(|entry| {
            let manifest = entry.manifest();
            assert_eq!(entry.namespace(), "istio-egress");
            let list = |pointer: &str| {
                manifest
                    .pointer(pointer)
                    .unwrap()
                    .as_array()
                    .unwrap()
                    .clone()
            };
            let ports = list("/spec/ports");
            let ports = ports.iter().map(|port| port["number"].as_u64().unwrap());
            let to = list("/spec/exportTo");
            let to = to.iter().map(|to| to.as_str().unwrap().to_owned());
            let host = manifest.pointer("/spec/hosts/0").unwrap();
            (
                host.as_str().unwrap().to_owned(),
                ports.collect(),
                to.collect(),
            )
        })
        .collect();
    found.sort();
    found
}

const CAPTURE: &str = "tunnel: {names: DNSCapture}";

#[test]
fn whole_names_at_stated_ports_are_registered_where_they_may_be_used() {
    let app1 = json!({"namespaces": ["app1-ns"]});
    let app2 = json!({"serviceAccounts": ["app2-ns/app2"]});
    let labelled = json!({"matchLabels": {"a": "b"}});
    let elsewhere = json!({"namespaces": ["other-ns"]});
    let db = json!({"domainNames": ["DB.example."], "ports": [5432], "protocols": ["TCP"]});
    let both = ["app1-ns".to_owned(), "app2-ns".to_owned()].to_vec();
    let one = |number: usize| vec![both[number - 1].clone()];
    let name = || "db.example".to_owned();
    for (what, rules, wanted) in [
        (
            "one namespace",
            vec![rule("r", &app1, &db)],
            vec![(name(), vec![5432], one(1))],
        ),
        (
            "an account's namespace",
            vec![rule("r", &app2, &db)],
            vec![(name(), vec![5432], one(2))],
        ),
        (
            "labels alone are of every namespace",
            vec![rule("r", &labelled, &db)],
            vec![(name(), vec![5432], both.clone())],
        ),
        (
            "a namespace that is not enforced",
            vec![rule("r", &elsewhere, &db)],
            vec![],
        ),
        (
            "several rules for one name",
            vec![
                rule("r", &app1, &db),
                rule(
                    "s",
                    &app2,
                    &json!({"domainNames": ["db.example"], "ports": ["6000-6002"], "protocols": ["TCP"]}),
                ),
            ],
            vec![(name(), vec![5432, 6000, 6001, 6002], both.clone())],
        ),
        (
            "a port of which nobody says what it carries",
            vec![rule(
                "r",
                &app1,
                &json!({"domainNames": ["db.example"], "ports": [443, 5432]}),
            )],
            vec![(name(), vec![5432], one(1))],
        ),
        (
            "a port that carries TLS",
            vec![
                rule(
                    "r",
                    &app1,
                    &json!({"domainNames": ["db.example"], "ports": [5432], "protocols": ["TCP", "TLS"]}),
                ),
                rule(
                    "s",
                    &app1,
                    &json!({"domainNames": ["x.example"], "ports": [5432], "protocols": ["TLS"]}),
                ),
            ],
            vec![],
        ),
        (
            "a wildcard",
            vec![rule(
                "r",
                &app1,
                &json!({"domainNames": ["*.db.example"], "ports": [22], "protocols": ["TCP"]}),
            )],
            vec![],
        ),
        (
            "every port",
            vec![rule(
                "r",
                &app1,
                &json!({"domainNames": ["db.example"], "protocols": ["TCP"]}),
            )],
            vec![],
        ),
        (
            "more ports than can be listened at",
            vec![rule(
                "r",
                &app1,
                &json!({"domainNames": ["db.example"], "ports": ["7000-7064"], "protocols": ["TCP"]}),
            )],
            vec![],
        ),
        (
            "a denial",
            vec![json!({"name": "r", "from": [app1], "to": [db], "action": "Deny"})],
            vec![],
        ),
    ] {
        assert_eq!(entries(CAPTURE, &rules), wanted, "{what}");
        // Nobody tells applications of them.
        assert_eq!(entries("tunnel: {windowMiB: 64}", &rules), vec![], "{what}");
    }
}

/// One patch for each name and port, in the namespaces that may use it and in no other.
#[test]
fn each_listener_asks_for_its_own_name() {
    let install = sample::install(
        "tunnel: {names: Zone, nameAddresses: {a.example: 240.241.0.7, b.example: 240.241.0.8}, \
         exceptions: [{framing: HTTP1, domainNames: [b.example]}]}",
    );
    let element = |name: &str, port: u16| json!({"domainNames": [name], "ports": [port], "protocols": ["TCP"]});
    let rules = [
        rule(
            "r",
            &json!({"namespaces": ["app1-ns", "app2-ns"]}),
            &element("a.example", 22),
        ),
        rule(
            "s",
            &json!({"namespaces": ["app2-ns"]}),
            &element("b.example", 22),
        ),
    ];
    let rendered = render(&install, &[policy(&rules)]).unwrap();
    let asks = |namespace: &str| -> Vec<(String, String, String)> {
        let object = rendered.objects().iter().find(|object| {
            object.namespace() == namespace && object.name() == "egress-warden-names"
        });
        let patches = object
            .unwrap()
            .manifest()
            .pointer("/spec/configPatches")
            .unwrap();
        let patches = patches.as_array().unwrap().iter().map(|patch| {
            let text = |pointer: &str| patch.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            let config = "/patch/value/typed_config";
            (
                text("/match/listener/name"),
                text(&format!("{config}/tunneling_config/hostname")),
                text(&format!("{config}/cluster"))
                    .split('|')
                    .nth(2)
                    .unwrap()
                    .to_owned(),
            )
        });
        patches.collect()
    };
    let line = |address: &str, name: &str, subset: &str| {
        (
            format!("{address}_22"),
            format!("{name}:22"),
            subset.to_owned(),
        )
    };
    assert_eq!(asks("app1-ns"), [line("240.241.0.7", "a.example", "")]);
    assert_eq!(
        asks("app2-ns"),
        [
            line("240.241.0.7", "a.example", ""),
            line("240.241.0.8", "b.example", "http1")
        ]
    );
    assert_eq!(
        coredns_zone(&install, &[policy(&rules)]).unwrap(),
        "hosts {\n    240.241.0.7 a.example\n    240.241.0.8 b.example\n    fallthrough\n}\n"
    );
    // The next render finds them where this one left them.
    let objects: Vec<_> = rendered
        .objects()
        .iter()
        .map(|one| one.manifest().clone())
        .collect();
    let found = earlier(&objects);
    assert_eq!(found["a.example"], Ipv4Addr::new(240, 241, 0, 7));
    assert_eq!(found.len(), 2);
}

#[test]
fn a_range_that_is_somebody_elses_is_refused() {
    for (settings, wanted) in [
        ("tunnel: {names: DNSCapture}", ""),
        (
            "tunnel: {names: DNSCapture, nameRange: 10.244.8.0/24}",
            "10.244.0.0/16",
        ),
        (
            "tunnel: {names: DNSCapture, nameRange: 10.0.0.0/8}",
            "10.96.0.0/12",
        ),
        (
            "tunnel: {names: DNSCapture, nameRange: 10.97.0.0/16}",
            "10.96.0.0/12",
        ),
        (
            "tunnel: {names: DNSCapture, nameRange: 172.18.4.0/22}",
            "172.18.0.0/16",
        ),
        // Nothing is in it.
        ("tunnel: {nameRange: 10.244.8.0/24}", ""),
        (
            "tunnel: {names: Zone, nameRange: 240.0.0.0/7}",
            "between /8 and /24",
        ),
        (
            "tunnel: {names: Zone, nameRange: 240.0.0.0/25}",
            "between /8 and /24",
        ),
        (
            "tunnel: {names: Zone, nameAddresses: {a.example: 10.0.0.1}}",
            "is not in",
        ),
        (
            "tunnel: {names: Zone, nameAddresses: {a.example: 240.241.0.0}}",
            "is not in",
        ),
    ] {
        let install = sample::install(settings);
        let problems = install.check();
        let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let found = found.join("\n");
        assert!(found.contains(wanted), "{settings}: {found}");
        assert_eq!(found.is_empty(), wanted.is_empty(), "{settings}: {found}");
    }
}

#[test]
fn what_has_an_address_is_warned_of_no_more() {
    let app1 = json!({"namespaces": ["app1-ns"]});
    let to = json!({"domainNames": ["*.db.example", "db.example"], "ports": [5432], "protocols": ["TCP"]});
    let policy = policy(&[rule("r", &app1, &to)]);
    for (settings, wanted) in [
        (
            "tunnel: {windowMiB: 64}",
            &["`*.db.example`", "`db.example`"][..],
        ),
        (CAPTURE, &["`*.db.example`"]),
        ("tunnel: {names: Zone}", &["`*.db.example`"]),
    ] {
        let warnings = warnings(&sample::install(settings), std::slice::from_ref(&policy));
        let found: Vec<_> = warnings
            .iter()
            .map(|one| one.message().to_owned())
            .collect();
        assert_eq!(found.len(), wanted.len(), "{settings}: {found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{settings}: {found}");
        }
    }
}
