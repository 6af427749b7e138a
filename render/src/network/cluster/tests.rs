use ipnet::IpNet;
use serde_json::{Value, json};

use super::{Version, subtract};
use crate::install::AdminApi;
use crate::network::shape::{self, each, ntp, only};

fn rendered(version: Version, priority: u32, networks: &Value) -> Result<Vec<Value>, String> {
    let api = match version {
        Version::ClusterNetworkPolicy => AdminApi::ClusterNetworkPolicy,
        Version::AdminNetworkPolicy => AdminApi::AdminNetworkPolicy,
    };
    shape::rendered(api, priority, "{apiServer: [192.0.2.10/32]}", networks)
}

/// The shape that the CRDs of network-policy-api ask for (v0.2.0 and v0.1.7, standard channel):
/// fields, enumerations, bounds.
fn misshapen(object: &Value, api: Version) -> Vec<String> {
    let mut wrong = Vec::new();
    let spec = &object["spec"];
    let (most, actions, ports) = match api {
        Version::ClusterNetworkPolicy => (25, ["Accept", "Deny", "Pass"], "protocols"),
        Version::AdminNetworkPolicy => (100, ["Allow", "Deny", "Pass"], "ports"),
    };
    only(
        object,
        "object",
        &["apiVersion", "kind", "metadata", "spec"],
        &mut wrong,
    );
    match api {
        Version::ClusterNetworkPolicy => {
            only(
                spec,
                "spec",
                &["priority", "subject", "tier", "egress", "ingress"],
                &mut wrong,
            );
            if spec["tier"] != "Admin" {
                wrong.push("tier".to_owned());
            }
        }
        Version::AdminNetworkPolicy => {
            only(
                spec,
                "spec",
                &["priority", "subject", "egress", "ingress"],
                &mut wrong,
            );
        }
    }
    if spec["priority"]
        .as_u64()
        .is_none_or(|priority| priority > 1000)
    {
        wrong.push("priority".to_owned());
    }
    peer(&spec["subject"], &["namespaces", "pods"], &mut wrong);
    for rule in each(spec, "egress", most, &mut wrong) {
        only(rule, "rule", &["name", "action", "to", ports], &mut wrong);
        if rule["name"].as_str().is_none_or(|name| name.len() > 100) {
            wrong.push("name".to_owned());
        }
        if !actions.iter().any(|action| rule["action"] == *action) {
            wrong.push(format!("action {}", rule["action"]));
        }
        for to in each(rule, "to", most, &mut wrong) {
            peer(to, &["namespaces", "pods", "networks"], &mut wrong);
        }
        if rule.get(ports).is_some() {
            for port in each(rule, ports, most, &mut wrong) {
                port_shape(port, api, &mut wrong);
            }
        }
    }
    wrong
}

fn peer(peer: &Value, kinds: &[&str], wrong: &mut Vec<String>) {
    only(peer, "peer", kinds, wrong);
    if peer.as_object().is_none_or(|fields| fields.len() != 1) {
        wrong.push(format!("{peer} is not one of {kinds:?}"));
    }
    if let Some(pods) = peer.get("pods") {
        only(pods, "pods", &["namespaceSelector", "podSelector"], wrong);
        if pods.get("podSelector").is_none() {
            wrong.push("podSelector".to_owned());
        }
    }
    if peer.get("networks").is_some() {
        for network in each(peer, "networks", 25, wrong) {
            if network
                .as_str()
                .and_then(|text| text.parse::<IpNet>().ok())
                .is_none()
            {
                wrong.push(network.to_string());
            }
        }
    }
}

fn port_shape(port: &Value, api: Version, wrong: &mut Vec<String>) {
    let kinds: &[&str] = match api {
        Version::ClusterNetworkPolicy => &["tcp", "udp"],
        Version::AdminNetworkPolicy => &["portNumber", "portRange"],
    };
    only(port, "port", kinds, wrong);
    let numbers: Vec<_> = ["/tcp", "/udp", ""]
        .iter()
        .flat_map(|protocol| {
            [
                port.pointer(&format!("{protocol}/destinationPort/number")),
                port.pointer(&format!("{protocol}/destinationPort/range/start")),
                port.pointer("/portNumber/port"),
                port.pointer("/portRange/start"),
            ]
        })
        .flatten()
        .collect();
    if numbers.is_empty() || numbers.iter().any(|number| number.as_u64() < Some(1)) {
        wrong.push(format!("{port}"));
    }
}

#[test]
fn both_apis_have_the_shape_of_their_crds() {
    for api in [Version::ClusterNetworkPolicy, Version::AdminNetworkPolicy] {
        let objects = rendered(api, 100, &ntp()).unwrap();
        assert_eq!(objects.len(), 3, "{api:?}");
        for object in &objects {
            assert_eq!(misshapen(object, api), Vec::<String>::new(), "{object:#}");
        }
        // The checker knows a wrong one.
        let other = match api {
            Version::ClusterNetworkPolicy => Version::AdminNetworkPolicy,
            Version::AdminNetworkPolicy => Version::ClusterNetworkPolicy,
        };
        assert!(!misshapen(&objects[0], other).is_empty());
    }
}

#[test]
fn every_object_has_a_priority_of_its_own_and_revoked_pods_come_first() {
    let mut objects = rendered(Version::ClusterNetworkPolicy, 7, &ntp()).unwrap();
    objects.sort_by_key(|object| object["spec"]["priority"].as_u64());
    let places: Vec<_> = objects
        .iter()
        .map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap();
            (object["spec"]["priority"].as_u64().unwrap(), name)
        })
        .collect();
    assert_eq!(
        places,
        [
            (7, "egress-warden-revoked.istio-egress"),
            (8, "app1-ns-egress-warden-udp-p-t-ntp-0.istio-egress"),
            (9, "egress-warden.istio-egress"),
        ]
    );
    assert!(rendered(Version::ClusterNetworkPolicy, 998, &ntp()).is_ok());
    let error = rendered(Version::ClusterNetworkPolicy, 999, &ntp()).unwrap_err();
    assert!(error.contains("priorit"), "{error}");
}

#[test]
fn what_stays_inside_passes_and_what_leads_outside_is_denied_last() {
    let objects = rendered(Version::ClusterNetworkPolicy, 100, &ntp()).unwrap();
    let base = objects
        .iter()
        .find(|o| o["metadata"]["name"] == "egress-warden.istio-egress")
        .unwrap();
    let rules: Vec<_> = base["spec"]["egress"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| format!("{} {}", rule["action"], rule["name"]).replace('"', ""))
        .collect();
    assert_eq!(
        rules,
        [
            "Pass dns",
            "Deny dns-else",
            "Pass gateway",
            "Deny gateway-else",
            "Pass cluster",
            "Pass nodes",
            "Pass api-server",
            "Deny outside",
        ]
    );
    let ports = |protocols: &Value| protocols[0]["tcp"]["destinationPort"]["number"].clone();
    let servers = &base["spec"]["egress"][6]["protocols"];
    assert_eq!([ports(servers), ports(&json!([servers[1]]))], [443, 6443]);
    let nodes = &base["spec"]["egress"][5];
    assert_eq!(nodes["to"], json!([{"networks": ["172.18.0.0/16"]}]));
    let outside = &base["spec"]["egress"][7];
    assert_eq!(outside["to"], json!([{"networks": ["0.0.0.0/0", "::/0"]}]));
    assert!(outside.get("protocols").is_none());
}

#[test]
fn a_udp_rule_passes_its_networks_without_what_is_taken_out() {
    let objects = rendered(Version::ClusterNetworkPolicy, 100, &ntp()).unwrap();
    let udp = objects
        .iter()
        .find(|o| o["spec"]["priority"] == 101)
        .unwrap();
    assert_eq!(
        udp["spec"]["egress"],
        json!([{
            "name": "udp-0",
            "action": "Pass",
            "to": [{"networks": ["198.51.100.0/26", "198.51.100.128/25"]}],
            "protocols": [
                {"udp": {"destinationPort": {"number": 123}}},
                {"udp": {"destinationPort": {"range": {"start": 4000, "end": 4002}}}},
            ],
        }])
    );
    let ports: Vec<_> = (1..=700).map(|i| json!(i * 2)).collect();
    let many = json!({"networks": ["198.51.100.0/24"], "ports": ports, "protocols": ["UDP"]});
    let error = rendered(Version::ClusterNetworkPolicy, 100, &many).unwrap_err();
    assert!(error.contains("at most 25"), "{error}");
}

#[test]
fn subtraction_is_exact() {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    for (network, except, wanted) in [
        ("10.0.0.0/8", vec![], vec!["10.0.0.0/8"]),
        ("10.0.0.0/8", vec!["10.0.0.0/8"], vec![]),
        ("10.0.0.0/8", vec!["0.0.0.0/0"], vec![]),
        (
            "10.0.0.0/30",
            vec!["10.0.0.1/32"],
            vec!["10.0.0.0/32", "10.0.0.2/31"],
        ),
        (
            "10.0.0.0/30",
            vec!["192.0.2.0/24", "::/0"],
            vec!["10.0.0.0/30"],
        ),
        (
            "2001:db8::/126",
            vec!["2001:db8::2/127"],
            vec!["2001:db8::/127"],
        ),
        ("10.0.0.0/31", vec!["10.0.0.0/32", "10.0.0.1/32"], vec![]),
    ] {
        let except: Vec<_> = except.into_iter().map(net).collect();
        let mut left = Vec::new();
        subtract(net(network), &except, &mut left);
        assert_eq!(
            left,
            wanted.into_iter().map(net).collect::<Vec<_>>(),
            "{network} {except:?}"
        );
    }
}
