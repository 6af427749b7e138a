//! Golden files: the whole text, so that a reviewer sees every rule that reaches a kernel.
//! `EGRESS_CNI_BLESS=1` rewrites them.

use std::path::Path;

use egress_policy::address::{Environment, SPECIAL, Special};
use egress_policy::classes::AddressClass;
use ipnet::IpNet;

use super::*;
use crate::attachment::{AttachmentId, PodIdentity};
use crate::config::Protocol::{Tcp, Udp};

fn config() -> NodeConfig {
    NodeConfig::parse("golden", EXAMPLE).unwrap()
}

fn followed() -> ServiceEndpoints {
    let endpoint = |address: &str, protocol, port| Endpoint {
        address: address.parse().unwrap(),
        protocol,
        port,
    };
    ServiceEndpoints {
        reach: [
            endpoint("10.244.0.2", Udp, 53),
            endpoint("10.244.0.2", Tcp, 53),
            endpoint("fd00:10:244::2", Udp, 53),
        ]
        .into(),
        gateway: [
            "10.244.0.7".parse().unwrap(),
            "fd00:10:244::7".parse().unwrap(),
        ]
        .into(),
        gateway_reach: [endpoint("10.244.0.3", Tcp, 15012)].into(),
    }
}

fn pod(namespace: &str) -> Attachment {
    Attachment {
        id: AttachmentId {
            container_id: "c1".to_owned(),
            ifname: "eth0".to_owned(),
        },
        network: "pods".to_owned(),
        namespace: namespace.to_owned(),
        pod: "p".to_owned(),
        host_link: "veth0a1b2c3d".to_owned().try_into().unwrap(),
        addresses: vec![
            "10.244.0.9".parse().unwrap(),
            "fd00:10:244::9".parse().unwrap(),
        ],
    }
}

fn identity(service_account: &str, labels: &[(&str, &str)]) -> PodIdentity {
    PodIdentity {
        service_account: service_account.to_owned(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        uid: String::new(),
    }
}

fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("EGRESS_CNI_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs; review it with EGRESS_CNI_BLESS=1 and git diff",
        path.display()
    );
}

#[test]
fn the_whole_table_in_enforcing_mode() {
    golden("refresh-enforce.nft", &refresh(&config(), &followed()));
}

#[test]
fn counting_mode_drops_nothing_and_differs_only_in_last_words() {
    let enforce = refresh(&config(), &followed());
    let count = refresh(
        &NodeConfig {
            mode: crate::config::Mode::Count,
            ..config()
        },
        &followed(),
    );
    let changed: Vec<(&str, &str)> = enforce
        .lines()
        .zip(count.lines())
        .filter(|(left, right)| left != right)
        .collect();
    assert_eq!(enforce.lines().count(), count.lines().count());
    assert_eq!(changed.len(), 11, "{changed:#?}");
    let rest = |line: &str| line.rsplit_once(' ').map(|(rest, _)| rest.to_owned());
    for (left, right) in changed {
        assert_eq!(rest(left), rest(right));
    }
    for word in ["drop", "reject"] {
        assert!(!count.lines().any(|line| line.ends_with(word)), "{word}");
    }
}

#[test]
fn one_pod_of_each_kind() {
    let config = config();
    let mut text = String::new();
    for (title, namespace, identity) in [
        ("workload, nothing known from the API server", "clock", None),
        (
            "workload with a UDP exception",
            "clock",
            Some(identity("default", &[("app", "chrony")])),
        ),
        (
            "label without the namespace",
            "other",
            Some(identity("default", &[("app", "chrony")])),
        ),
        (
            "namespace without the label",
            "clock",
            Some(identity("default", &[])),
        ),
        ("counted, not enforced", "rolling-out", None),
        (
            "gateway",
            "istio-egress",
            Some(identity("egressgateway", &[])),
        ),
        ("gateway's namespace, not yet known", "istio-egress", None),
        (
            "gateway's namespace, other account",
            "istio-egress",
            Some(identity("default", &[])),
        ),
        (
            "gateway's account name elsewhere",
            "evil",
            Some(identity("egressgateway", &[])),
        ),
        ("exempt", "kube-system", None),
    ] {
        let pod = pod(namespace);
        let mode = GuardMode::of(&config, &pod, identity.as_ref());
        let _ = writeln!(text, "# {title}: {namespace}");
        add(&mut text, &elements(&pod, &mode));
        replace_grants(&mut text, &grants_of(&pod, &mode));
    }
    golden("pods.nft", &text);
}

#[test]
fn deleting_tolerates_what_is_already_gone() {
    let pod = pod("app");
    let mut text = String::new();
    delete(
        &mut text,
        &elements(&pod, &GuardMode::of(&config(), &pod, None)),
    );
    golden("delete.nft", &text);
}

/// Only the node guard's own table counts, whole, and what somebody declares in it is seen.
#[test]
fn the_tables_of_a_listing_are_told_apart() {
    let ruleset = "table inet other {\n\tchain mine {\n\t}\n}\ntable inet egress_warden {\n\tset pod4 {\n\t\ttype ipv4_addr\n\t}\n\n\tchain forward {\n\t\ttype filter hook forward priority -10; policy accept;\n\t\taccept\n\t}\n}\ntable inet egress_warden_2 {\n}\n";
    let own = own_table(Family::Inet, ruleset).unwrap();
    assert!(own.starts_with("table inet egress_warden {\n") && own.ends_with("\t}\n"));
    assert!(own.contains("\t\taccept\n") && !own.contains("mine"));
    assert!(own_table(Family::Bridge, ruleset).is_none());
    assert!(own_table(Family::Inet, "table inet egress_warden_2 {\n}\n").is_none());
    let both = format!("{own}table bridge egress_warden {{\n\tset own4 {{\n\t}}\n");
    assert!(only_ours(&both));
    for foreign in [
        "chain mine {",
        "set mine {",
        "map pod4 {",
        "flowtable f {",
        "limit l {",
    ] {
        assert!(
            !only_ours(&format!("{both}\t{foreign}\n\t}}\n")),
            "{foreign}"
        );
    }
    assert_eq!(
        set_elements(
            "table inet t {\n\tset s {\n\t\telements = { 10.2.0.0/16,\n\t\t\t     10.1.0.0/16 }\n\t}\n}\n"
        ),
        ["10.1.0.0/16", "10.2.0.0/16"]
    );
    assert!(set_elements("table inet t {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n}\n").is_empty());
}

/// What is written is read back as the same key, and what no pod interface has is told apart, so
/// that it is deleted in the words in which `nft` printed it.
#[test]
fn keys_are_read_as_they_are_written() {
    let listing = |set: &str, elements: &str| {
        format!(
            r#"{{"nftables": [{{"metainfo": {{}}}}, {{"set": {{"name": "{set}", "elem": [{elements}]}}}}]}}"#
        )
    };
    let pod = pod("rolling-out");
    let written = elements(&pod, &GuardMode::of(&config(), &pod, None));
    for element in &written {
        let text = element.key.to_string();
        let parts: Vec<String> = text
            .split(" . ")
            .map(|part| format!("\"{}\"", part.trim_matches('"')))
            .collect();
        let value = match parts.as_slice() {
            [one] => one.clone(),
            parts => format!(r#"{{"concat": [{}]}}"#, parts.join(", ")),
        };
        let counted = format!(r#"{{"elem": {{"val": {value}, "counter": {{"packets": 1}}}}}}"#);
        for value in [&value, &counted] {
            let read = parse_listing(element.family, &listing(element.set, value)).unwrap();
            assert_eq!(read, std::slice::from_ref(element), "{text}");
        }
    }
    for (set, value, printed) in [
        ("guarded_if", r#""veth*""#, "\"veth*\""),
        ("pod4", r#""a name""#, "a name"),
        (
            "own4",
            r#"{"concat": ["veth0", "a name"]}"#,
            "\"veth0\" . a name",
        ),
        (
            "advertised6",
            r#"{"concat": ["veth0", "fd00::1"]}"#,
            "\"veth0\" . fd00::1",
        ),
    ] {
        let read = parse_listing(Family::Inet, &listing(set, value)).unwrap();
        let [element] = read.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!(
            element.key,
            ElementKey::Foreign(printed.to_owned()),
            "{set}"
        );
    }
    let dropped = r#"{"elem": {"val": "10.244.0.9", "counter": {"packets": 7}}}"#;
    assert_eq!(
        parse_counters(Counted::Refused, &listing("dropped4", dropped)).unwrap(),
        [(ElementKey::Address("10.244.0.9".parse().unwrap()), 7)]
    );
}

/// The sets hold the rows of `policy::address::SPECIAL` and nothing else.
#[test]
fn special_addresses_come_from_one_table() {
    let script = refresh(&config(), &followed());
    let set = |family: Family, name: &str| -> Vec<IpNet> {
        let networks = ["4", "6"].into_iter().flat_map(|version| {
            let head = format!("add element {family} {TABLE} {name}{version} {{ ");
            let line = script.lines().find_map(|line| line.strip_prefix(&head));
            let keys = line.unwrap().trim_end_matches(" }").split(", ");
            keys.map(|key| key.parse().unwrap()).collect::<Vec<_>>()
        });
        networks.collect()
    };
    let private = set(Family::Inet, "private");
    assert_eq!(
        private,
        AddressClass::default().refused_ranges(&Environment::default())
    );
    for row in &SPECIAL {
        let closed = private.iter().any(|net| net.contains(&row.network));
        assert!(closed, "{}: {}", row.network, row.source);
        let alone = row.network.prefix_len() == row.network.max_prefix_len();
        for family in Family::ALL {
            let in_metadata = set(family, "metadata").contains(&row.network);
            let wanted = alone && row.kind == Special::CloudMetadata;
            assert_eq!(in_metadata, wanted, "{family} {}", row.network);
        }
    }
}
