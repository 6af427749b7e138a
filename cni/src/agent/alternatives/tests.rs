use serde_json::{Value, json};

use super::*;

const FORMS: [(&str, Form); 3] = [
    ("networkpolicy.yaml", Form::NetworkPolicy),
    ("cilium.yaml", Form::Cilium),
    ("calico.yaml", Form::Calico),
];

fn rendered(config: &Value, form: Form) -> String {
    let config = NodeConfig::parse("test", &config.to_string()).unwrap();
    render(&config, form, &["app1-ns".to_owned(), "app2-ns".to_owned()])
}

/// Golden files; `EGRESS_CNI_BLESS=1` rewrites them.
#[test]
fn every_form_of_one_configuration() {
    for (name, form) in FORMS {
        let actual = rendered(&serde_json::from_str(crate::rules::EXAMPLE).unwrap(), form);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name);
        if std::env::var_os("EGRESS_CNI_BLESS").is_some() {
            std::fs::write(&path, &actual).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == actual,
            "{name} differs"
        );
    }
}

#[test]
fn every_form_says_in_what_it_is_weaker() {
    let example: Value = serde_json::from_str(crate::rules::EXAMPLE).unwrap();
    for (name, form, words) in [
        (
            "networkpolicy",
            Form::NetworkPolicy,
            &["IP in IP", "add up", "UDP exceptions"][..],
        ),
        (
            "cilium",
            Form::Cilium,
            &["VXLAN", "resolver", "labels", "`reach`", "UDP exceptions"],
        ),
        (
            "calico",
            Form::Calico,
            &["gateway's namespace", "labels", "UDP exceptions"],
        ),
    ] {
        let text = rendered(&example, form);
        let head: String = text
            .lines()
            .take_while(|line| line.starts_with('#'))
            .collect();
        for word in words {
            assert!(head.contains(word), "{name}: {word}");
        }
    }
}

fn only(value: &Value, place: &str, allowed: &[&str], wrong: &mut Vec<String>) {
    match value.as_object() {
        Some(fields) => wrong.extend(
            fields
                .keys()
                .filter(|key| !allowed.contains(&key.as_str()))
                .map(|key| format!("{place}: {key}")),
        ),
        None => wrong.push(format!("{place} is no object: {value}")),
    }
}

fn each<'v>(value: &'v Value, field: &str, most: usize, wrong: &mut Vec<String>) -> Vec<&'v Value> {
    let items: Vec<_> = value[field].as_array().into_iter().flatten().collect();
    if items.is_empty() || items.len() > most {
        wrong.push(format!("{field}: {} items in {value}", items.len()));
    }
    items
}

fn one_of(value: &Value, allowed: &[&str], wrong: &mut Vec<String>) {
    if !allowed.iter().any(|allowed| value == allowed) {
        wrong.push(format!("{value} is not one of {allowed:?}"));
    }
}

fn network(value: &Value, wrong: &mut Vec<String>) -> Option<IpNet> {
    let network = value.as_str().and_then(|text| text.parse().ok());
    if network.is_none() {
        wrong.push(format!("{value} is no network"));
    }
    network
}

/// First and last port in order.
fn range(first: Option<u64>, last: Option<u64>, wrong: &mut Vec<String>) {
    if !matches!((first, last), (Some(1..), Some(..=65535))) || first > last {
        wrong.push(format!("ports {first:?} to {last:?}"));
    }
}

/// `NetworkPolicy` of `networking.k8s.io/v1`.
fn network_policy_shape(object: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    one_of(&object["apiVersion"], &["networking.k8s.io/v1"], &mut wrong);
    let spec = &object["spec"];
    only(
        spec,
        "spec",
        &["podSelector", "policyTypes", "egress"],
        &mut wrong,
    );
    assert_eq!(
        (&spec["podSelector"], &spec["policyTypes"]),
        (&json!({}), &json!(["Egress"]))
    );
    for rule in each(spec, "egress", usize::MAX, &mut wrong) {
        only(rule, "rule", &["to", "ports"], &mut wrong);
        for to in each(rule, "to", usize::MAX, &mut wrong) {
            // ipBlock excludes the selectors.
            if let Some(block) = to.get("ipBlock") {
                only(to, "to", &["ipBlock"], &mut wrong);
                only(block, "ipBlock", &["cidr", "except"], &mut wrong);
                network(&block["cidr"], &mut wrong);
            } else {
                only(to, "to", &["namespaceSelector", "podSelector"], &mut wrong);
            }
        }
        for port in each(rule, "ports", usize::MAX, &mut wrong) {
            only(port, "port", &["protocol", "port", "endPort"], &mut wrong);
            one_of(&port["protocol"], &["TCP", "UDP", "SCTP"], &mut wrong);
            let last = port.get("endPort").unwrap_or(&port["port"]);
            range(port["port"].as_u64(), last.as_u64(), &mut wrong);
        }
    }
    wrong
}

/// A selector of Cilium that meets pods only: `NotIn` by itself meets the world.
fn cilium_selector(selector: &Value, wrong: &mut Vec<String>) {
    only(
        selector,
        "selector",
        &["matchLabels", "matchExpressions"],
        wrong,
    );
    if let Some(labels) = selector.get("matchLabels") {
        let values = labels.as_object().into_iter().flatten();
        wrong.extend(
            values
                .filter(|(_, value)| !value.is_string())
                .map(|(key, _)| key.clone()),
        );
        return;
    }
    let mut exists = false;
    for expression in each(selector, "matchExpressions", usize::MAX, wrong) {
        only(
            expression,
            "expression",
            &["key", "operator", "values"],
            wrong,
        );
        one_of(&expression["operator"], &["NotIn", "Exists"], wrong);
        if expression["operator"] == "NotIn" {
            each(expression, "values", usize::MAX, wrong);
        } else {
            exists = expression.get("values").is_none();
        }
    }
    if !exists {
        wrong.push(format!("{selector} meets more than pods"));
    }
}

/// `CiliumClusterwideNetworkPolicy` of `cilium.io/v2`, by the fields that the form uses.
fn cilium_shape(object: &Value) -> Vec<String> {
    const TO: [&str; 3] = ["toEndpoints", "toEntities", "toCIDR"];
    let mut wrong = Vec::new();
    one_of(&object["apiVersion"], &["cilium.io/v2"], &mut wrong);
    one_of(
        &object["kind"],
        &["CiliumClusterwideNetworkPolicy"],
        &mut wrong,
    );
    let spec = &object["spec"];
    only(
        spec,
        "spec",
        &["endpointSelector", "egress", "egressDeny"],
        &mut wrong,
    );
    cilium_selector(&spec["endpointSelector"], &mut wrong);
    let mut rules = each(spec, "egress", usize::MAX, &mut wrong);
    rules.extend(each(spec, "egressDeny", usize::MAX, &mut wrong));
    for rule in rules {
        only(rule, "rule", &[&TO[..], &["toPorts"]].concat(), &mut wrong);
        // They exclude each other.
        if TO.iter().filter(|to| rule.get(**to).is_some()).count() != 1 {
            wrong.push(format!("not one destination: {rule}"));
        }
        for selector in rule["toEndpoints"].as_array().into_iter().flatten() {
            cilium_selector(selector, &mut wrong);
        }
        for entity in rule["toEntities"].as_array().into_iter().flatten() {
            one_of(entity, &["all", "kube-apiserver"], &mut wrong);
        }
        for cidr in rule["toCIDR"].as_array().into_iter().flatten() {
            network(cidr, &mut wrong);
        }
        for ports in rule["toPorts"].as_array().into_iter().flatten() {
            only(ports, "toPorts", &["ports"], &mut wrong);
            // At most 40, by `maxPorts` of Cilium's policy API.
            for port in each(ports, "ports", 40, &mut wrong) {
                only(port, "port", &["port", "endPort", "protocol"], &mut wrong);
                one_of(
                    &port["protocol"],
                    &["TCP", "UDP", "SCTP", "ANY"],
                    &mut wrong,
                );
                let first = port["port"].as_str().and_then(|text| text.parse().ok());
                let last = port.get("endPort").map_or(first, Value::as_u64);
                range(first, last, &mut wrong);
            }
        }
    }
    wrong
}

/// `GlobalNetworkPolicy` of `projectcalico.org/v3`, by the fields that the form uses.
fn calico_shape(object: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    one_of(&object["apiVersion"], &["projectcalico.org/v3"], &mut wrong);
    one_of(&object["kind"], &["GlobalNetworkPolicy"], &mut wrong);
    let spec = &object["spec"];
    only(
        spec,
        "spec",
        &["order", "types", "namespaceSelector", "egress"],
        &mut wrong,
    );
    let selector = spec["namespaceSelector"].as_str().unwrap_or("");
    if !selector.starts_with("has(") || selector.contains("{  }") || selector.len() > 1024 {
        wrong.push(format!("`{selector}` is empty or meets more than pods"));
    }
    for rule in each(spec, "egress", 1024, &mut wrong) {
        only(
            rule,
            "rule",
            &["action", "ipVersion", "protocol", "destination"],
            &mut wrong,
        );
        one_of(&rule["action"], &["Allow", "Deny"], &mut wrong);
        let protocol = rule.get("protocol");
        if let Some(protocol) = protocol {
            one_of(
                protocol,
                &["TCP", "UDP", "SCTP", "ICMP", "ICMPv6"],
                &mut wrong,
            );
        }
        let Some(to) = rule.get("destination") else {
            continue;
        };
        only(
            to,
            "destination",
            &["nets", "ports", "namespaceSelector", "selector"],
            &mut wrong,
        );
        if to.get("ports").is_some() {
            for port in each(to, "ports", 50, &mut wrong) {
                let text = port
                    .as_str()
                    .map_or_else(|| port.to_string(), str::to_owned);
                let (first, last) = text.split_once(':').unwrap_or((&text, &text));
                range(first.parse().ok(), last.parse().ok(), &mut wrong);
            }
            if !["TCP", "UDP", "SCTP"]
                .iter()
                .any(|with| rule["protocol"] == *with)
            {
                wrong.push(format!("ports need a protocol that has some: {rule}"));
            }
        }
        if to.get("nets").is_some() {
            let nets = each(to, "nets", 256, &mut wrong).into_iter();
            let nets: Vec<IpNet> = nets.filter_map(|net| network(net, &mut wrong)).collect();
            let v4 = nets.iter().filter(|net| net.addr().is_ipv4()).count();
            let version = rule
                .get("ipVersion")
                .map_or(v4 > 0, |version| *version == 4);
            if (v4 != 0 && v4 != nets.len()) || version != (v4 > 0) {
                wrong.push(format!("two families: {rule}"));
            }
        }
    }
    wrong
}

/// By the `OpenAPI` of Kubernetes, the CRDs of Cilium and Calico, and what the validators of these
/// two refuse besides.
#[test]
fn every_form_has_the_shape_that_its_api_asks_for() {
    let example: Value = serde_json::from_str(crate::rules::EXAMPLE).unwrap();
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut config = example.clone();
        edit(&mut config);
        config
    };
    for (title, config) in [
        ("the example", with(&|_| ())),
        (
            "nothing exempt, no gateway",
            with(&|config| {
                config["exemptNamespaces"] = json!([]);
                config.as_object_mut().unwrap().remove("gateway");
            }),
        ),
        (
            "one family",
            with(&|config| config["clusterNetworks"] = json!(["fd00:10:244::/56"])),
        ),
        (
            "both families in one reach, ranges",
            with(&|config| {
                config["reach"] = json!([
                    {"networks": ["203.0.113.0/24", "2001:db8::/64"], "protocol": "TCP", "ports": ["1-65535"]},
                    {"networks": ["203.0.113.1/32"], "protocol": "SCTP", "ports": [38412, "1000-1001"]}
                ]);
            }),
        ),
    ] {
        for (name, form) in FORMS {
            let text = rendered(&config, form);
            for document in text.split("---\n").filter(|text| !text.trim().is_empty()) {
                let object: Value = serde_saphyr::from_str(document).unwrap();
                let wrong = match form {
                    Form::NetworkPolicy => network_policy_shape(&object),
                    Form::Cilium => cilium_shape(&object),
                    Form::Calico => calico_shape(&object),
                };
                assert_eq!(wrong, [""; 0], "{name}: {title}");
            }
        }
    }
}

/// The check can fail: what was rendered once and is refused, or opens the world.
#[test]
fn shapes_that_are_refused() {
    let selector = json!({"matchExpressions": [{"key": "k8s:io.kubernetes.pod.namespace", "operator": "NotIn", "values": ["a"]}]});
    let cilium = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "spec": {
        "endpointSelector": selector, "egress": [{"toEndpoints": [selector]}], "egressDeny": [{"toEntities": ["all"]}]}});
    assert_eq!(cilium_shape(&cilium).len(), 2);
    let calico = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "spec": {
        "namespaceSelector": "kubernetes.io/metadata.name not in { 'a' }",
        "egress": [{"action": "Allow", "destination": {"nets": ["10.0.0.0/8", "fd00::/8"]}}]}});
    assert_eq!(calico_shape(&calico).len(), 2);
}
