use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::install::Install;
use crate::{Object, Rendered, render, sample};

/// Rules for everybody: what each denies or accepts.
fn rules(rules: &[Value]) -> Value {
    let whole = |(i, rule): (usize, &Value)| {
        let mut rule = rule.clone();
        rule["name"] = json!(format!("r{i}"));
        rule
    };
    let rules: Vec<_> = rules.iter().enumerate().map(whole).collect();
    sample::policy("p", &json!({"name": "t", "rules": rules}))
}

fn deny(network: &str, namespace: &str) -> Value {
    let mut rule = json!({"to": [{"networks": [network]}], "action": "Deny"});
    if namespace != "*" {
        rule["from"] = json!([{"namespaces": [namespace]}]);
    }
    rule
}

fn accept(name: &str, more: &Value) -> Value {
    let mut to = json!({"domainNames": [name], "ports": [80, 443]});
    for (field, value) in more.as_object().into_iter().flatten() {
        to[field] = value.clone();
    }
    json!({"to": [to], "action": "Accept"})
}

fn rendered(install: &Install, policy: &Value) -> Rendered {
    render(install, std::slice::from_ref(policy)).unwrap()
}

/// Every address class with its patches.
fn classes(rendered: &Rendered) -> Vec<(String, Vec<Value>)> {
    let of = |object: &Object| {
        let class = object.name().strip_prefix("egress-warden-class-")?;
        let patches = object.manifest().pointer("/spec/configPatches")?;
        Some((class.to_owned(), patches.as_array()?.clone()))
    };
    rendered.objects().iter().filter_map(of).collect()
}

fn values<'p>(patches: &'p [Value], apply_to: &str) -> Vec<&'p Value> {
    let of = patches.iter().filter(|patch| patch["applyTo"] == apply_to);
    of.map(|patch| &patch["patch"]["value"]).collect()
}

/// The patches of the object with the lock.
fn main_patches(rendered: &Rendered) -> &[Value] {
    let mut objects = rendered.objects().iter();
    let main =
        objects.find(|object| object.kind() == "EnvoyFilter" && object.name() == "egress-warden");
    let patches = &main.unwrap().manifest()["spec"]["configPatches"];
    patches.as_array().unwrap()
}

const CACHE: &str = "/cluster_type/typed_config/dns_cache_config";

/// The one cache that all clusters of a class have.
fn cache(patches: &[Value]) -> Value {
    let clusters = values(patches, "CLUSTER");
    let caches: BTreeSet<String> = clusters
        .iter()
        .map(|cluster| cluster.pointer(CACHE).unwrap().to_string())
        .collect();
    assert_eq!(caches.len(), 1, "{caches:?}");
    clusters[0].pointer(CACHE).unwrap().clone()
}

fn leaves_out(cache: &Value, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    let ranges = cache["resolved_address_filter"]["ranges"]
        .as_array()
        .unwrap();
    ranges.iter().any(|range| {
        let base: IpAddr = range["address_prefix"].as_str().unwrap().parse().unwrap();
        let length = range["prefix_len"].as_u64().unwrap().try_into().unwrap();
        IpNet::new(base, length).unwrap().contains(&address)
    })
}

#[test]
fn every_way_out_is_a_classs_own_and_opens_for_its_word_alone() {
    let policy = rules(&[
        deny("203.0.113.0/24", "app2-ns"),
        accept("a.example", &json!({})),
        accept(
            "b.example",
            &json!({"ports": [8080], "protocols": ["HTTP"]}),
        ),
        json!({"to": [{"domainNames": ["s.example"], "ports": [8443], "tls": {"originate": true}}], "action": "Accept"}),
    ]);
    let mut install = sample::install("inspection: [{name: dlp, address: 10.20.0.9, port: 3128}]");
    install.spec.istio.version = "1.32".to_owned();
    let rendered = rendered(&install, &policy);
    let classes = classes(&rendered);
    assert!(classes.len() >= 3, "{classes:#?}");
    for (class, patches) in &classes {
        let literal = class == "literal";
        let names: Vec<_> = values(patches, "CLUSTER")
            .iter()
            .map(|cluster| cluster["name"].as_str().unwrap().to_owned())
            .collect();
        let mut wanted = vec![
            "http",
            "http-8080",
            "http-8443",
            "originate-8443-0",
            "tcp",
            "tls",
            "inspect-dlp",
            "tunnel-dlp",
        ];
        wanted.retain(|name| !(literal && name.starts_with("originate")));
        let wanted: Vec<_> = wanted
            .iter()
            .map(|name| format!("warden-{name}-{class}"))
            .collect();
        let sorted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(sorted(&names), sorted(&wanted));
        let mut led_to = BTreeSet::new();
        for route in values(patches, "HTTP_ROUTE") {
            let prefix = &route["match"]["filter_state"][0]["string_match"]["prefix"];
            let words = [format!("accept:{class} "), format!("inspect:dlp:{class} ")];
            assert!(words.iter().any(|word| prefix == word), "{route}");
            let lock = "/typed_per_filter_config/egress-warden.lock/rbac/rules/policies/admitted";
            assert_eq!(
                route.pointer(lock).unwrap()["principals"],
                json!([{"filter_state": route["match"]["filter_state"][0]}])
            );
            let cluster = route["route"]["cluster"].as_str().unwrap();
            assert!(cluster.ends_with(&format!("-{class}")), "{cluster}");
            led_to.insert(cluster.to_owned());
        }
        // TLS has no route: the module names its cluster itself.
        let routed = wanted
            .iter()
            .filter(|name| !name.starts_with("warden-tls-"));
        assert_eq!(led_to, routed.cloned().collect());
    }
    // What the module judges by leads nowhere.
    for cluster in values(main_patches(&rendered), "CLUSTER") {
        let inside = ["warden-tls-inner", "warden-inspection-proxy-dlp"];
        if !inside.contains(&cluster["name"].as_str().unwrap()) {
            assert_eq!(cluster.as_object().unwrap().len(), 2, "{cluster}");
            assert_eq!(cluster["type"], "STATIC");
        }
    }
    let text = rendered.yaml();
    assert!(!text.contains("http.dynamic_forward_proxy.v3.FilterConfig"));
    // TLS resolves by the class's cache too.
    for (class, patches) in &classes {
        let listener = values(main_patches(&rendered), "LISTENER").into_iter();
        let mut listeners = listener.filter(|listener| listener["name"] == "egress-warden-tls");
        let filters = &listeners.next().unwrap()["filter_chains"][0]["filters"];
        let name = format!("egress-warden.resolve-{class}");
        let mut filters = filters.as_array().unwrap().iter();
        let found = filters.find(|filter| filter["name"] == *name).unwrap();
        assert_eq!(found["typed_config"]["dns_cache_config"], cache(patches));
    }
}

/// A rule's `allowPrivate`, an address, and whether names of its class may lead there; numbers that
/// a rule accepts are left out only where no rule can open them.
#[test]
fn what_the_settings_say_of_the_cluster_no_name_leads_to() {
    let cluster = "cluster: {networks: {pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}, apiServer: [198.51.100.1/32], nat64Prefixes: [\"2001:db8:64::/96\"]}";
    let install = sample::install(cluster);
    let policy = rules(&[
        accept("private.example", &json!({"allowPrivate": true})),
        accept("public.example", &json!({})),
    ]);
    let rendered = rendered(&install, &policy);
    let classes = classes(&rendered);
    let private = |class: &&(String, Vec<Value>)| {
        class.0 != "literal" && !leaves_out(&cache(&class.1), "10.1.2.3")
    };
    let opening = cache(&classes.iter().find(private).unwrap().1);
    let public = classes
        .iter()
        .find(|class| class.0 != "literal" && !private(class));
    let public = cache(&public.unwrap().1);
    let literal = cache(&classes.iter().find(|class| class.0 == "literal").unwrap().1);
    for (address, allowed, otherwise) in [
        ("203.0.113.10", true, true),
        ("2001:db8::1", true, true),
        ("10.1.2.3", true, false),
        ("192.168.1.1", true, false),
        ("100.64.0.1", true, false),
        ("fd00::1", true, false),
        // The cluster's own, and the API server.
        ("10.244.3.4", false, false),
        ("10.97.0.1", false, false),
        ("172.18.0.9", false, false),
        ("198.51.100.1", false, false),
        ("198.51.100.2", true, true),
        // Never.
        ("127.0.0.1", false, false),
        ("169.254.169.254", false, false),
        ("::1", false, false),
        ("fe80::1", false, false),
        ("::ffff:203.0.113.10", false, false),
        // Behind NAT64, well-known and of this network.
        ("64:ff9b::203.0.113.10", true, true),
        ("64:ff9b::10.1.2.3", true, false),
        ("64:ff9b::10.244.3.4", false, false),
        ("2001:db8:64::203.0.113.10", true, true),
        ("2001:db8:64::10.1.2.3", true, false),
        ("2001:db8:64::10.244.3.4", false, false),
        ("2001:db8:64::169.254.169.254", false, false),
    ] {
        assert_eq!(!leaves_out(&opening, address), allowed, "{address} allowed");
        assert_eq!(!leaves_out(&public, address), otherwise, "{address}");
        assert_eq!(!leaves_out(&literal, address), allowed, "{address} dialled");
    }
    // The module sees through the same prefixes.
    assert!(rendered.yaml().contains("nat64Prefixes:\n"));
}

#[test]
fn nat64_prefixes_are_those_of_rfc_6052() {
    for (prefixes, wrong) in [
        (
            "[\"2001:db8::/32\", \"2001:db8:100::/40\", \"2001:db8:1::/48\", \"2001:db8:1::/56\"]",
            false,
        ),
        ("[\"2001:db8::/64\"]", false),
        ("[\"2001:db8::/96\"]", false),
        ("[\"2001:db8::/52\"]", true),
        ("[\"2001:db8::/128\"]", true),
        ("[\"2001:db8:0:0:ff00::/96\"]", true),
    ] {
        let install = sample::install(&format!("cluster: {{nat64Prefixes: {prefixes}}}"));
        let problems = install.check();
        let found = problems
            .iter()
            .any(|problem| problem.path() == "spec.cluster.nat64Prefixes");
        assert_eq!(found, wrong, "{prefixes}: {problems:?}");
    }
}

/// A running Envoy refuses a cache of the same name with other settings, and goes on with the old.
#[test]
fn another_content_is_another_name_everywhere() {
    let policy = rules(&[accept("a.example", &json!({}))]);
    let of = |more: &str, policy: &Value| {
        let classes = classes(&rendered(&sample::install(more), policy));
        let named = |(class, patches): &(String, Vec<Value>)| {
            let cache = cache(patches);
            let name = cache["name"].as_str().unwrap().to_owned();
            let hash = name.rsplit('-').next().unwrap().to_owned();
            assert!(class == "literal" || *class == hash, "{class} {name}");
            let mut content = cache;
            content.as_object_mut().unwrap().remove("name");
            (name, content.to_string())
        };
        classes.iter().map(named).collect::<Vec<_>>()
    };
    let denied = rules(&[deny("203.0.113.0/24", "*"), accept("a.example", &json!({}))]);
    let mut known: Vec<(String, String)> = Vec::new();
    for found in [
        of("", &policy),
        of("", &denied),
        of("dns: {family: V4}", &policy),
        of("dns: {resolvers: [10.0.0.53]}", &policy),
        of("cluster: {apiServer: [198.51.100.1/32]}", &policy),
    ] {
        known.extend(found);
    }
    for (i, (name, content)) in known.iter().enumerate() {
        for (other, different) in known.iter().skip(i + 1) {
            assert_eq!(name == other, content == different, "{name} {other}");
        }
    }
}

#[test]
fn all_caches_together_hold_as_many_names_as_one_would() {
    for sets in 0..4 {
        let mut all: Vec<_> = (0..sets)
            .map(|i| deny(&format!("203.0.113.{i}/32"), &format!("n{i}")))
            .collect();
        all.push(accept("a.example", &json!({})));
        let classes = classes(&rendered(&sample::install(""), &rules(&all)));
        let hosts: Vec<_> = classes
            .iter()
            .map(|(_, patches)| cache(patches)["max_hosts"].as_u64().unwrap())
            .collect();
        // A class, and that of numbers.
        if sets == 0 {
            assert_eq!(hosts, [8192, 8192]);
        }
        let sum = hosts.iter().sum::<u64>();
        assert!((8192..=16_384).contains(&sum), "{sets}: {hosts:?}");
    }
}

#[test]
fn more_classes_than_a_gateway_has_are_refused_with_the_rules_that_make_them() {
    let of = |sets: usize| {
        let mut all: Vec<_> = (0..sets)
            .map(|i| deny(&format!("203.0.113.{i}/32"), &format!("n{i}")))
            .collect();
        all.push(accept("a.example", &json!({})));
        render(&sample::install(""), &[rules(&all)])
    };
    assert!(of(4).is_ok());
    let problems = of(40).unwrap_err();
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!(problem.path(), "spec.tiers");
    for part in [
        "more than 32",
        "p/t/r0",
        "p/t/r39",
        "to one rule before them",
    ] {
        assert!(
            problem.message().contains(part),
            "{part}: {}",
            problem.message()
        );
    }
}
