use serde_json::{Value, json};

use crate::network::udp::tests::{install, policy};

fn exceptions(rules: &str) -> Result<Value, String> {
    let policies = [policy(
        "p",
        &format!("tiers: [{{name: t, rules: [{rules}]}}]"),
    )];
    crate::udp_exceptions(&install(&policies), &policies)
        .map(|entries| json!(entries))
        .map_err(|problems| problems[0].to_string())
}

fn accept(from: &str, networks: &str, more: &str) -> String {
    format!(
        "{{name: a, from: [{{namespaces: [app1-ns]{from}}}], action: Accept, \
         to: [{{networks: [{networks}]{more}, ports: [123, \"4000-4002\"], protocols: [UDP]}}]}}"
    )
}

fn entry(labels: &Value, networks: &[&str], ports: &Value) -> Value {
    json!({"name": "p/t/a", "namespaces": ["app1-ns"], "matchLabels": labels,
           "networks": networks, "ports": ports})
}

#[test]
fn the_node_guard_is_told_what_the_policies_open() {
    let ports = json!([123, "4000-4002"]);
    let deny = "{name: d, to: [{networks: [198.51.100.64/26], ports: [123], protocols: [UDP]}], action: Deny}";
    for (rules, wanted) in [
        (
            accept("", "198.51.100.0/24", ""),
            json!([entry(&json!({}), &["198.51.100.0/24"], &ports)]),
        ),
        (
            accept("", "198.51.100.0/24", ", except: [198.51.100.0/25]"),
            json!([entry(&json!({}), &["198.51.100.128/25"], &ports)]),
        ),
        (
            accept("", "198.51.100.0/24", "").replace("name: a", "name: a, mode: Shadow"),
            json!([]),
        ),
        (
            accept(
                ", matchLabels: {j: u}, matchExpressions: [{key: k, operator: In, values: [v, w]}]",
                "198.51.100.0/24",
                "",
            ),
            json!([
                entry(&json!({"j": "u", "k": "v"}), &["198.51.100.0/24"], &ports),
                entry(&json!({"j": "u", "k": "w"}), &["198.51.100.0/24"], &ports),
            ]),
        ),
        (
            format!("{deny}, {}", accept("", "198.51.100.0/24", "")),
            json!([
                entry(
                    &json!({}),
                    &["198.51.100.0/26", "198.51.100.128/25"],
                    &ports
                ),
                entry(&json!({}), &["198.51.100.0/24"], &json!(["4000-4002"])),
            ]),
        ),
    ] {
        assert_eq!(exceptions(&rules), Ok(wanted), "{rules}");
    }
}

#[test]
fn what_the_node_guard_cannot_say_is_refused() {
    let labelled = "{name: d, from: [{namespaces: [app1-ns], matchLabels: {zone: red}}], \
         to: [{networks: [0.0.0.0/0], ports: [123], protocols: [UDP]}], action: Deny}";
    for (rules, wanted) in [
        (
            format!("{labelled}, {}", accept("", "198.51.100.0/24", "")),
            "p/t/a: the node guard selects pods by equal labels: it cannot say what is left to \
             those by `zone`",
        ),
        (
            accept("", "0.0.0.0/0", ""),
            "p/t/a: the node guard lets nothing out to every address",
        ),
        (
            accept("", "\"::/0\"", ""),
            "p/t/a: the node guard lets nothing out to every address",
        ),
        (
            accept("", "198.51.100.0/24", "")
                .replace("name: a", "name: a, expires: \"2030-01-01T00:00:00Z\""),
            "p/t/a: spec.tiers[0].rules[0].expires",
        ),
    ] {
        let problems = exceptions(&rules).unwrap_err();
        assert!(problems.starts_with(wanted), "{problems}");
    }
}
