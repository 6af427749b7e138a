use serde_json::{Value, json};

use crate::install::AdminApi::CiliumClusterwideNetworkPolicy;
use crate::network::shape::{each, network, ntp, one_of, only, range, rendered};

const EVERYTHING: &str = "{apiServer: [192.0.2.10/32]}";

/// A selector of Cilium that holds for pods only: `NotIn` by itself holds for the world.
fn pods_only(selector: &Value, wrong: &mut Vec<String>) {
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
        if selector.get("matchExpressions").is_none() {
            return;
        }
    }
    let mut pods = false;
    for expression in each(selector, "matchExpressions", usize::MAX, wrong) {
        only(
            expression,
            "expression",
            &["key", "operator", "values"],
            wrong,
        );
        one_of(&expression["operator"], &["In", "NotIn", "Exists"], wrong);
        if expression["operator"] == "Exists" {
            pods |= expression.get("values").is_none();
        } else {
            each(expression, "values", usize::MAX, wrong);
            pods |= expression["operator"] == "In";
        }
    }
    if !pods {
        wrong.push(format!("{selector} holds for more than pods"));
    }
}

/// What the CRD of Cilium (`cilium.io/v2`) and its validators refuse, by the fields that are used.
fn misshapen(object: &Value) -> Vec<String> {
    const TO: [&str; 3] = ["toEndpoints", "toEntities", "toCIDR"];
    let mut wrong = Vec::new();
    one_of(&object["apiVersion"], &["cilium.io/v2"], &mut wrong);
    let spec = &object["spec"];
    only(
        spec,
        "spec",
        &["endpointSelector", "egress", "egressDeny"],
        &mut wrong,
    );
    pods_only(&spec["endpointSelector"], &mut wrong);
    let mut rules = each(spec, "egressDeny", usize::MAX, &mut wrong);
    if spec.get("egress").is_some() {
        rules.extend(each(spec, "egress", usize::MAX, &mut wrong));
    }
    for rule in rules {
        only(rule, "rule", &[&TO[..], &["toPorts"]].concat(), &mut wrong);
        // They exclude each other.
        if TO.iter().filter(|to| rule.get(**to).is_some()).count() != 1 {
            wrong.push(format!("not one destination: {rule}"));
        }
        for selector in rule["toEndpoints"].as_array().into_iter().flatten() {
            pods_only(selector, &mut wrong);
        }
        for entity in rule["toEntities"].as_array().into_iter().flatten() {
            let known = ["all", "host", "remote-node", "kube-apiserver"];
            one_of(entity, &known, &mut wrong);
        }
        for cidr in rule["toCIDR"].as_array().into_iter().flatten() {
            network(cidr, &mut wrong);
        }
        for ports in rule["toPorts"].as_array().into_iter().flatten() {
            only(ports, "toPorts", &["ports"], &mut wrong);
            for port in each(ports, "ports", 40, &mut wrong) {
                only(port, "port", &["port", "protocol"], &mut wrong);
                one_of(
                    &port["protocol"],
                    &["TCP", "UDP", "SCTP", "ANY"],
                    &mut wrong,
                );
                let number = port["port"].as_str().and_then(|text| text.parse().ok());
                range(number, number, &mut wrong);
            }
        }
    }
    wrong
}

#[test]
fn the_policies_have_the_shape_of_their_crd() {
    let many: Vec<_> = (1..=50).map(|port| port.to_string()).collect();
    let many = format!(
        "{{apiServer: [192.0.2.10/32], apiServerPorts: [{}]}}",
        many.join(", ")
    );
    for cluster in [EVERYTHING, "{}", &many] {
        let objects = rendered(CiliumClusterwideNetworkPolicy, 100, cluster, &ntp()).unwrap();
        assert_eq!(objects.len(), 2, "{cluster}");
        for object in &objects {
            assert_eq!(misshapen(object), [""; 0], "{object:#}");
        }
    }
}

/// The check can fail: what would be refused, or would open the world.
#[test]
fn shapes_that_are_refused() {
    let selector = json!({"matchExpressions": [{"key": "k8s:io.kubernetes.pod.namespace", "operator": "NotIn", "values": ["a"]}]});
    let object = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "spec": {
        "endpointSelector": selector, "egress": [{"toEndpoints": [selector]}], "egressDeny": [{"toEntities": ["all"]}]}});
    assert_eq!(misshapen(&object).len(), 2);
}

#[test]
fn what_is_opened_and_what_no_namespace_opens() {
    let objects = rendered(CiliumClusterwideNetworkPolicy, 100, EVERYTHING, &ntp()).unwrap();
    let spec = |name: &str| {
        let named = |object: &&Value| object["metadata"]["name"] == name;
        objects.iter().find(named).unwrap()["spec"].clone()
    };
    let namespace = "k8s:io.kubernetes.pod.namespace";
    let enforced = json!([{"key": namespace, "operator": "In", "values": ["app1-ns", "app2-ns"]}]);
    let revoked = spec("egress-warden-revoked.istio-egress");
    assert_eq!(
        revoked,
        json!({
            "endpointSelector": {
                "matchLabels": {"egress-warden.io/revoked": "true"},
                "matchExpressions": enforced,
            },
            "egressDeny": [{"toEntities": ["all"]}],
        })
    );
    let base = spec("egress-warden.istio-egress");
    assert_eq!(
        base["endpointSelector"],
        json!({"matchExpressions": enforced})
    );
    let tcp = |ports: [u16; 2]| {
        let port = |port: u16| json!({"port": port.to_string(), "protocol": "TCP"});
        json!([{"ports": ports.map(port)}])
    };
    assert_eq!(
        base["egress"],
        json!([
            {"toEndpoints": [{"matchLabels": {namespace: "kube-system"}}],
             "toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}]}]},
            {"toEndpoints": [{"matchLabels": {"istio": "egressgateway", namespace: "istio-egress"}}],
             "toPorts": tcp([8080, 8443])},
            {"toEndpoints": [{"matchExpressions": [
                {"key": namespace, "operator": "Exists"},
                {"key": namespace, "operator": "NotIn", "values": ["istio-egress", "kube-system"]},
            ]}]},
            {"toEntities": ["host", "remote-node"]},
            {"toEntities": ["kube-apiserver"], "toPorts": tcp([443, 6443])},
        ])
    );
    let closed = &base["egressDeny"];
    assert_eq!(
        closed[0],
        json!({"toEntities": ["all"], "toPorts": [{"ports": [{"port": "853", "protocol": "ANY"}]}]})
    );
    let metadata = egress_policy::address::metadata().map(ipnet::IpNet::from);
    let metadata: Vec<_> = metadata.map(|network| network.to_string()).collect();
    assert_eq!(closed[1], json!({"toCIDR": metadata}));
}
