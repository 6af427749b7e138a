use serde_json::json;

use super::Networks;
use crate::error::RenderError;
use crate::sample;

fn read(yaml: &str) -> Result<Networks, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn texts(problems: &[RenderError]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn all_networks_are_one_list_aggregated_and_sorted() {
    for (yaml, all) in [
        (
            "{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}",
            "10.96.0.0/12 10.244.0.0/16 172.18.0.0/16",
        ),
        (
            "{pods: ['fd00:10:244::/48', 10.245.0.0/16, 10.244.0.0/16], services: \
             ['fd00:10:96::/112'], nodes: ['fd00:10:96:ffff::/64']}",
            "10.244.0.0/15 fd00:10:96::/112 fd00:10:96:ffff::/64 fd00:10:244::/48",
        ),
        (
            "{pods: registered, services: [10.96.0.0/12], nodes: []}",
            "10.96.0.0/12",
        ),
    ] {
        let networks = read(yaml).unwrap();
        let found: Vec<_> = networks.all().iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), all);
        let mut problems = Vec::new();
        networks.check(&mut problems);
        assert_eq!(texts(&problems), Vec::<String>::new(), "{yaml}");
        assert_eq!(texts(&networks.warnings()), Vec::<String>::new(), "{yaml}");
    }
}

#[test]
fn networks_are_read_strictly() {
    for (pods, message) in [
        ("[10.244.0.1/16]", "bits are set behind the prefix length"),
        ("[10.244.0.0]", "write `10.244.0.0/32`"),
        ("[010.0.0.0/8]", "not a network in CIDR form"),
        ("['::ffff:10.0.0.0/104']", "write the IPv4 network"),
        ("[pods]", "not a network in CIDR form"),
        ("everything", "or the word `registered`"),
        ("null", "registered"),
        ("10.244.0.0/16", "a list of networks"),
    ] {
        let yaml = format!("{{pods: {pods}, services: [10.96.0.0/12], nodes: []}}");
        let error = read(&yaml).unwrap_err();
        assert!(error.contains(message), "{pods}: {error}");
    }
    for yaml in [
        "{pods: [10.244.0.0/16], services: [10.96.0.0/12]}",
        "{services: [10.96.0.0/12], nodes: []}",
        "{pods: registered, nodes: []}",
    ] {
        assert!(read(yaml).unwrap_err().contains("missing field"), "{yaml}");
    }
}

#[test]
fn what_no_cluster_has_is_refused() {
    for (pods, message) in [
        ("[]", "an empty list would send pods through the gateway"),
        ("[0.0.0.0/0]", "cloud metadata"),
        ("['::/0']", "IPv4 inside IPv6"),
        ("[127.0.0.0/16]", "loopback"),
        ("['fe80::/64']", "link-local"),
        ("[169.254.169.254/32]", "link-local"),
        ("[100.64.0.0/10]", "100.100.100.200"),
        ("[100.100.100.0/24]", "100.100.100.200"),
        ("['fd00::/8']", "cloud metadata"),
        ("[168.63.129.16/32]", "168.63.129.16"),
        ("[224.0.0.0/4]", "multicast"),
    ] {
        let yaml = format!("{{pods: {pods}, services: [10.96.0.0/12], nodes: []}}");
        let mut problems = Vec::new();
        read(&yaml).unwrap().check(&mut problems);
        let texts = texts(&problems);
        assert!(
            texts.iter().any(|text| text.contains(message)),
            "{pods}: {texts:?}"
        );
        assert!(texts[0].starts_with("spec.cluster.networks.pods: "));
    }
}

#[test]
fn nodes_have_networks_of_their_own() {
    for (nodes, refused) in [
        ("10.244.7.0/24", true),
        ("10.0.0.0/8", true),
        ("10.244.0.0/16", true),
        ("10.245.0.0/16", false),
        ("10.96.0.0/16", false),
    ] {
        let yaml = format!("{{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [{nodes}]}}");
        let mut problems = Vec::new();
        read(&yaml).unwrap().check(&mut problems);
        assert_eq!(!problems.is_empty(), refused, "{nodes}: {problems:?}");
    }
}

#[test]
fn what_is_wider_than_needed_is_a_warning() {
    for (nodes, message) in [
        ("10.0.0.0/7", "wider than a cluster needs (/8)"),
        ("10.0.0.0/8", ""),
        ("2001:db8::/31", "wider than a cluster needs (/32)"),
        ("fd12:3456::/32", ""),
        ("100.64.0.0/16", ""),
        ("240.0.0.0/8", ""),
        ("198.51.100.0/24", "public address space"),
        ("172.0.0.0/11", "public address space"),
        ("2600:1f00::/40", "public address space"),
    ] {
        let yaml = format!("{{pods: registered, services: [10.96.0.0/12], nodes: ['{nodes}']}}");
        let warnings = texts(&read(&yaml).unwrap().warnings()).join("; ");
        assert_eq!(!message.is_empty(), !warnings.is_empty(), "{warnings}");
        assert!(warnings.contains(message), "{nodes}: {warnings}");
    }
}

#[test]
fn rules_about_what_no_rule_sees_are_warned_of() {
    let install = sample::install("");
    for (network, warned) in [
        ("10.244.7.0/24", true),
        ("10.0.0.0/8", true),
        ("10.1.0.0/16", false),
        ("203.0.113.0/24", false),
    ] {
        let rule = json!({
            "name": "r",
            "to": [{"networks": [network], "ports": [22], "protocols": ["TCP"]}],
            "action": "Accept",
        });
        let policy = sample::policy("p", &json!({"name": "t", "rules": [rule]}));
        let warnings = texts(&crate::warnings(&install, &[policy]));
        assert_eq!(
            warnings.len(),
            usize::from(warned),
            "{network}: {warnings:?}"
        );
        assert!(
            warnings.iter().all(|text| text.starts_with("p/t/r: ")),
            "{warnings:?}"
        );
    }
}
