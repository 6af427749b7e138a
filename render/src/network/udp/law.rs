//! "Nothing is accepted that the first policy does not accept": whatever the rendered network
//! policies let out by UDP, the engine accepts too.

use std::net::IpAddr;

use egress_policy::facts::{Caller, Claims, Fact, Facts, Protocol, SpiffeId};
use egress_policy::model::Policy;
use egress_policy::reference::evaluate;
use egress_policy::settings::{AddressCheck, Settings};
use egress_policy::verdict::{Action, Evaluation};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::tests::{install, policy};

/// `SplitMix64` (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let index = self.below(u64::try_from(from.len()).unwrap());
        from[usize::try_from(index).unwrap()]
    }
}

const NETWORKS: [&str; 8] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "0.0.0.0/0",
    "::/0",
    "64:ff9b::/96",
    "2001:db8::/32",
    "2001:db8::/64",
];
const ADDRESSES: [&str; 8] = [
    "10.1.2.3",
    "10.1.3.4",
    "10.9.9.9",
    "192.0.2.1",
    "64:ff9b::a01:203",
    "2001:db8::1",
    "2001:db8:1::1",
    "::ffff:10.1.2.3",
];
const PORTS: [&str; 4] = ["53", "123", "50-130", "1-65535"];
const NAMESPACES: [&str; 2] = ["app1-ns", "app2-ns"];
const VALUES: [&str; 2] = ["v", "w"];

fn source(rng: &mut Rng, deny: bool) -> String {
    let mut fields = vec![format!("namespaces: [{}]", rng.pick(&NAMESPACES))];
    if rng.chance(30) {
        fields.push(format!("matchLabels: {{k: {}}}", rng.pick(&VALUES)));
    }
    if rng.chance(20) {
        let negative = if deny { "NotIn" } else { "In" };
        let value = rng.pick(&VALUES);
        fields.push(format!(
            "matchExpressions: [{{key: l, operator: {negative}, values: [{value}]}}]"
        ));
    }
    if rng.chance(4) {
        fields.push("serviceAccounts: [app1-ns/x, app2-ns/x]".to_owned());
    }
    if rng.chance(10) {
        let domain = rng.pick(&["cluster.local", "other.example"]);
        fields.push(format!("trustDomains: [{domain}]"));
    }
    format!("{{{}}}", fields.join(", "))
}

fn rule(rng: &mut Rng, index: usize) -> String {
    let deny = rng.chance(40);
    let mut fields = vec![format!("name: r{index}")];
    if rng.chance(15) {
        fields.push("mode: Shadow".to_owned());
    }
    if !deny || rng.chance(60) {
        fields.push(format!("from: [{}]", source(rng, deny)));
    }
    let protocols = if rng.chance(15) { "TCP" } else { "UDP" };
    let (network, port) = (rng.pick(&NETWORKS), rng.pick(&PORTS));
    fields.push(format!(
        "to: [{{networks: [\"{network}\"], ports: [\"{port}\"], protocols: [{protocols}]}}]"
    ));
    fields.push(format!("action: {}", if deny { "Deny" } else { "Accept" }));
    if !deny && rng.chance(2) {
        fields.push("expires: \"2020-01-01T00:00:00Z\"".to_owned());
    }
    format!("{{{}}}", fields.join(", "))
}

fn spec(rng: &mut Rng, later: bool) -> String {
    let mut tiers = Vec::new();
    for tier in 0..=rng.below(3) {
        let rules: Vec<_> = (0..4).map(|index| rule(rng, index)).collect();
        let mode = if rng.chance(15) { "mode: Shadow, " } else { "" };
        let default = rng.pick(&["Pass", "Pass", "Pass", "Deny"]);
        tiers.push(format!(
            "{{name: t{tier}, {mode}default: {default}, rules: [{}]}}",
            rules.join(", ")
        ));
    }
    let applies = match rng.below(8) {
        _ if !later => "",
        0 => "appliesTo: {serviceAccounts: [app1-ns/x]}, ",
        1..4 => "appliesTo: {namespaces: [app1-ns]}, ",
        _ => "appliesTo: {namespaces: [app1-ns, app2-ns]}, ",
    };
    let default = rng.pick(&["Accept", "Deny"]);
    format!(
        "{{{applies}tiers: [{}], default: {default}}}",
        tiers.join(", ")
    )
}

/// Whether one of the rendered network policies lets a datagram out: the meaning of the API,
/// read off the manifests.
fn lets_out(object: &Value, namespace: &str, labels: &[(&str, &str)], to: (IpAddr, u16)) -> bool {
    let spec = &object["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let label = |key: &str| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
    let none = Map::new();
    let equal = spec["podSelector"]["matchLabels"]
        .as_object()
        .unwrap_or(&none);
    let equal = equal
        .iter()
        .all(|(key, value)| label(key) == value.as_str());
    let expressions = list(&spec["podSelector"]["matchExpressions"]);
    let expressions = expressions.iter().all(|expression| {
        let value = label(expression["key"].as_str().unwrap());
        let among = value.is_some_and(|v| list(&expression["values"]).contains(&json!(v)));
        match expression["operator"].as_str().unwrap() {
            "In" => among,
            "NotIn" => !among,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => panic!("{other}"),
        }
    });
    let inside = |network: &Value| {
        let network: IpNet = network.as_str().unwrap().parse().unwrap();
        network.contains(&to.0)
    };
    let block = |to: &Value| {
        inside(&to["ipBlock"]["cidr"]) && !list(&to["ipBlock"]["except"]).iter().any(inside)
    };
    let port = |ports: &Value| {
        let range = ports["port"].as_u64().unwrap()..=ports["endPort"].as_u64().unwrap();
        ports["protocol"] == "UDP" && range.contains(&to.1.into())
    };
    object["metadata"]["namespace"] == namespace
        && equal
        && expressions
        && list(&spec["egress"]).iter().any(|egress| {
            list(&egress["to"]).iter().any(block) && list(&egress["ports"]).iter().any(port)
        })
}

fn engine_accepts(
    policies: &[Policy],
    caller: SpiffeId<'_>,
    labels: &[(&str, &str)],
    to: (IpAddr, u16),
) -> bool {
    let mut facts = Facts::pending(Protocol::Udp);
    facts.caller = Fact::Known(Caller::Workload(caller));
    facts.claims = Fact::Known(Claims {
        namespace: caller.namespace,
        cluster: None,
        labels,
    });
    facts.destination.name = Fact::Known(None);
    facts.destination.address = Fact::Known(to.0);
    facts.destination.port = Fact::Known(to.1);
    // 2026-11-25: what expired in 2020 has expired.
    facts.now = Fact::Known(1_795_564_800);
    let settings = Settings::new(AddressCheck::Classes);
    match evaluate(policies, settings, &facts) {
        Evaluation::Final(verdict) => verdict.enforced.action == Action::Accept,
        Evaluation::Undecided => false,
    }
}

#[test]
fn network_policies_let_nothing_out_that_the_engine_denies() {
    let mut rng = Rng(20_261_125);
    let (mut rendered, mut out) = (0, 0);
    for _ in 0..500 {
        let mut documents = vec![policy("first", &spec(&mut rng, false))];
        if rng.chance(60) {
            documents.push(policy("team", &spec(&mut rng, true)));
        }
        // What is refused opens nothing.
        let Ok(objects) = crate::render(&install(&documents), &documents) else {
            continue;
        };
        rendered += 1;
        let policies: Vec<_> = documents
            .iter()
            .map(|document| crate::documents::policy(document).unwrap())
            .collect();
        let objects: Vec<_> = objects
            .objects()
            .iter()
            .filter(|object| object.name().starts_with("egress-warden-udp-"))
            .map(crate::Object::manifest)
            .collect();
        for _ in 0..100 {
            let namespace = rng.pick(&NAMESPACES);
            let mut labels = Vec::new();
            for key in ["k", "l"] {
                if rng.chance(70) {
                    labels.push((key, rng.pick(&["v", "w", "u"])));
                }
            }
            let address = rng.pick(&ADDRESSES).parse().unwrap();
            let port = rng.pick(&["1", "53", "100", "123", "131"]).parse().unwrap();
            let to = (address, port);
            let open = |object: &&&Value| lets_out(object, namespace, &labels, to);
            let Some(object) = objects.iter().find(open) else {
                continue;
            };
            out += 1;
            for service_account in ["x", "y"] {
                let caller = SpiffeId {
                    trust_domain: "cluster.local",
                    namespace,
                    service_account,
                };
                assert!(
                    engine_accepts(&policies, caller, &labels, to),
                    "{caller:?} {labels:?} to {to:?} by {object:#} under {documents:#?}"
                );
            }
        }
    }
    assert!(
        rendered > 150 && out > 1_500,
        "{rendered} rendered, {out} let out"
    );
}
