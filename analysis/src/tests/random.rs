//! Random small policies, and every combination of facts that such policies tell apart.

use std::net::IpAddr;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::Policy;
use egress_policy::name::Name;
use egress_policy::settings::{AddressCheck, Settings};
use egress_policy::tree::Json;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::NOW;
use crate::bundle::PolicyBundle;
use crate::owned_facts::{OwnedFacts, Who};
use egress_policy::facts::OwnedClaims;

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
    r#"[{"networks": ["64:ff9b::/96"]}]"#,
    r#"[{"networks": ["2001:db8::/32", "203.0.113.1/32"], "protocols": ["TCP", "TLS"]}]"#,
    r#"[{"domainNames": ["*.test.example"], "protocols": ["HTTP"], "upgrades": ["websocket"], "ports": [443]}]"#,
    r#"[{"domainNames": ["*.test.example"], "protocols": ["TLS"]}]"#,
    r#"[{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "methods": ["GET"]}]"#,
    r#"[{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "paths": ["/a/**"]}]"#,
    r#"[{"domainNames": ["*.test.example"], "protocols": ["HTTP"], "paths": ["/a/*", "/b"]}]"#,
    r#"[{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "methods": ["CONNECT"]}]"#,
    r#"[{"domainNames": ["x.test.example"], "protocols": ["HTTP"], "upgrades": ["websocket"]}]"#,
];

pub(crate) fn rule() -> impl Strategy<Value = Value> {
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
pub(crate) struct Shape {
    pub(crate) tiers: Vec<Tier>,
    /// `Accept` or `Deny`.
    pub(crate) default: &'static str,
    pub(crate) shadow_workloads: bool,
    pub(crate) plaintext: bool,
    /// Where it is not the first, it is for some only.
    pub(crate) some: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Tier {
    pub(crate) rules: Vec<Value>,
    pub(crate) closed: bool,
    pub(crate) shadow: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let odd = || prop::bool::weighted(0.1);
    let rules = prop::collection::vec(rule(), 1..4);
    let tier = (rules, prop::bool::weighted(0.15), odd());
    let tier = tier.prop_map(|(rules, closed, shadow)| Tier {
        rules,
        closed,
        shadow,
    });
    let tiers = prop::collection::vec(tier, 1..3);
    let shape = (tiers, odd(), odd(), odd(), odd());
    shape.prop_map(
        |(tiers, default_accept, shadow_workloads, plaintext, some)| Shape {
            tiers,
            default: if default_accept { "Accept" } else { "Deny" },
            shadow_workloads,
            plaintext,
            some,
        },
    )
}

/// One policy, or two that must both accept.
pub(crate) fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    (shape(), prop::option::weighted(0.25, shape()))
        .prop_map(|(first, second)| [first].into_iter().chain(second).collect())
}

pub(crate) fn document(place: usize, shape: &Shape) -> Value {
    let tiers: Vec<Value> = shape
        .tiers
        .iter()
        .enumerate()
        .map(|(t, tier)| {
            let rules: Vec<Value> = tier
                .rules
                .iter()
                .enumerate()
                .map(|(r, rule)| {
                    let mut rule = rule.clone();
                    rule["name"] = json!(format!("r{r}"));
                    rule
                })
                .collect();
            let default = if tier.closed { "Deny" } else { "Pass" };
            let mode = if tier.shadow { "Shadow" } else { "Enforce" };
            json!({"name": format!("t{t}"), "rules": rules, "default": default, "mode": mode})
        })
        .collect();
    let mut document = json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": format!("p{place}")},
        "spec": {
            "identity": {"trustDomains": ["cluster.local"], "allowPlaintext": shape.plaintext},
            "tiers": tiers,
            "default": shape.default,
        },
    });
    if shape.shadow_workloads {
        document["spec"]["shadowWorkloads"] =
            json!([{"namespaces": ["b"], "expires": "2027-03-01T00:00:00Z"}]);
    }
    // The first policy is for everyone.
    if place > 0 {
        document["spec"]["appliesTo"] = if shape.some {
            json!({"namespaces": ["a"], "serviceAccounts": ["b/s"]})
        } else {
            json!({"namespaces": ["a", "b", "c"]})
        };
    }
    document
}

/// Ready to compare.
pub(crate) fn layers(shapes: &[Shape]) -> PolicyBundle {
    let mut layers = PolicyBundle::new("test");
    for (place, shape) in shapes.iter().enumerate() {
        let document = document(place, shape);
        let text = document.to_string();
        let policy = Policy::read(&Json::parse(&text).unwrap())
            .unwrap_or_else(|defects| panic!("{defects:?}\n{document:#}"));
        layers.policies.push(policy);
    }
    layers.settings = Settings::new(AddressCheck::Classes);
    layers
}

/// Every combination of a small universe of facts, all known.
pub(crate) fn universe() -> Vec<OwnedFacts> {
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
            let claims = labels.map(|labels| OwnedClaims {
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
    let requests: [(Protocol, &str, Option<&str>, Option<&str>); 10] = [
        (Protocol::Tls, "", None, None),
        (Protocol::Tcp, "", None, None),
        (Protocol::Http, "GET", Some("/"), None),
        (Protocol::Http, "GET", Some("/a/b"), None),
        (Protocol::Http, "POST", Some("/a/b/c"), None),
        (Protocol::Http, "POST", Some("/b"), None),
        (Protocol::Http, "GET", Some("/a/..;/b"), None),
        (Protocol::Http, "CONNECT", None, None),
        (Protocol::Http, "GET", Some("/a/b"), Some("websocket")),
        (Protocol::Http, "GET", Some("/a/b"), Some("h2c")),
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
                    let mut situation = OwnedFacts::pending(*protocol);
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
