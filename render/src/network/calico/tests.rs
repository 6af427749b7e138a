use egress_policy::address::metadata;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::install::AdminApi::GlobalNetworkPolicy;
use crate::network::shape::{each, network, ntp, one_of, only, range, rendered};
use crate::object::canonical;

const EVERYTHING: &str = "{apiServer: [192.0.2.10/32, '2001:db8::10/128']}";

/// What the CRD of Calico (`projectcalico.org/v3`) and its validators refuse, by the fields that are
/// used.
fn misshapen(object: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    one_of(&object["apiVersion"], &["projectcalico.org/v3"], &mut wrong);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !name.starts_with("default.") {
        wrong.push(format!("`{name}` names another tier"));
    }
    let spec = &object["spec"];
    only(
        spec,
        "spec",
        &["order", "types", "namespaceSelector", "selector", "egress"],
        &mut wrong,
    );
    let selector = spec["namespaceSelector"].as_str().unwrap_or_default();
    // `not in` alone also holds for what has no namespace: the nodes' own interfaces.
    if !selector.contains(" in { '") || selector.contains("not in") || selector.len() > 1024 {
        wrong.push(format!("`{selector}` is empty or holds for more than pods"));
    }
    for rule in each(spec, "egress", 1024, &mut wrong) {
        only(
            rule,
            "rule",
            &["action", "ipVersion", "protocol", "destination"],
            &mut wrong,
        );
        one_of(&rule["action"], &["Allow", "Deny"], &mut wrong);
        if let Some(protocol) = rule.get("protocol") {
            let known = ["TCP", "UDP", "SCTP", "ICMP", "ICMPv6"];
            one_of(protocol, &known, &mut wrong);
        }
        if let Some(to) = rule.get("destination") {
            destination(rule, to, &mut wrong);
        }
    }
    wrong
}

fn destination(rule: &Value, to: &Value, wrong: &mut Vec<String>) {
    only(
        to,
        "destination",
        &["nets", "ports", "namespaceSelector", "selector"],
        wrong,
    );
    if to.get("ports").is_some() {
        for port in each(to, "ports", 50, wrong) {
            let text = port
                .as_str()
                .map_or_else(|| port.to_string(), str::to_owned);
            let (first, last) = text.split_once(':').unwrap_or((&text, &text));
            range(first.parse().ok(), last.parse().ok(), wrong);
        }
        let with_ports = ["TCP", "UDP", "SCTP"];
        if !with_ports.iter().any(|with| rule["protocol"] == *with) {
            wrong.push(format!("ports need a protocol that has some: {rule}"));
        }
    }
    if to.get("nets").is_some() {
        let nets = each(to, "nets", 256, wrong).into_iter();
        let nets: Vec<IpNet> = nets.filter_map(|net| network(net, wrong)).collect();
        let v4 = nets.iter().filter(|net| net.addr().is_ipv4()).count();
        let version = rule
            .get("ipVersion")
            .map_or(v4 > 0, |version| *version == 4);
        if (v4 != 0 && v4 != nets.len()) || version != (v4 > 0) {
            wrong.push(format!("two families: {rule}"));
        }
    }
}

#[test]
fn the_policies_have_the_shape_of_their_crd() {
    let ports: Vec<_> = (1..=700).map(|i| json!(i * 2)).collect();
    let both = json!({"networks": ["198.51.100.0/24", "2001:db8::/64"], "ports": ports, "protocols": ["UDP"]});
    for (cluster, to) in [(EVERYTHING, ntp()), ("{}", ntp()), (EVERYTHING, both)] {
        let objects = rendered(GlobalNetworkPolicy, 100, cluster, &to).unwrap();
        assert_eq!(objects.len(), 3, "{cluster}");
        for object in &objects {
            assert_eq!(misshapen(object), [""; 0], "{object:#}");
        }
    }
}

/// The check can fail: what would be refused, or would hold for the nodes too.
#[test]
fn shapes_that_are_refused() {
    let object = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "default.egress-warden"}, "spec": {
        "namespaceSelector": "kubernetes.io/metadata.name not in { 'a' }",
        "egress": [{"action": "Allow", "destination": {"nets": ["10.0.0.0/8", "fd00::/8"]}}]}});
    assert_eq!(misshapen(&object).len(), 2);
}

#[test]
fn they_come_one_by_one_before_the_policies_of_namespaces() {
    let mut objects = rendered(GlobalNetworkPolicy, 7, EVERYTHING, &ntp()).unwrap();
    objects.sort_by_key(|object| object["spec"]["order"].as_u64());
    let found: Vec<_> = objects
        .iter()
        .map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap();
            let pods = object["spec"]["selector"].as_str().unwrap();
            (object["spec"]["order"].as_u64().unwrap(), name, pods)
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                7,
                "default.egress-warden-revoked.istio-egress",
                "egress-warden.io/revoked == 'true'"
            ),
            (
                8,
                "default.app1-ns-egress-warden-udp-p-t-ntp-0.istio-egress",
                "clock in { 'yes' }"
            ),
            (9, "default.egress-warden.istio-egress", "all()"),
        ]
    );
    assert_eq!(
        objects[1]["spec"]["egress"],
        json!([{"action": "Allow", "protocol": "UDP", "destination": {
            "nets": ["198.51.100.0/26", "198.51.100.128/25"], "ports": [123, "4000:4002"],
        }}])
    );
    assert!(rendered(GlobalNetworkPolicy, 997, EVERYTHING, &ntp()).is_ok());
    let error = rendered(GlobalNetworkPolicy, 998, EVERYTHING, &ntp()).unwrap_err();
    assert!(error.contains("3 orders"), "{error}");
}

#[test]
fn what_is_closed_comes_before_what_is_opened() {
    let objects = rendered(GlobalNetworkPolicy, 100, EVERYTHING, &ntp()).unwrap();
    let base = objects
        .iter()
        .find(|object| object["metadata"]["name"] == "default.egress-warden.istio-egress")
        .unwrap();
    let metadata: Vec<_> = metadata().map(|to| IpNet::from(to).to_string()).collect();
    let is_metadata = |to: &Value| {
        let mut nets = to["nets"].as_array().into_iter().flatten();
        to["nets"].is_array() && nets.all(|net| metadata.iter().any(|known| net == known))
    };
    let rules = base["spec"]["egress"].as_array().unwrap().iter();
    let lines: Vec<_> = rules
        .map(|rule| {
            let protocol = rule["protocol"].as_str().unwrap_or("any");
            let to = match &rule["destination"] {
                Value::Null => "anywhere".to_owned(),
                to if is_metadata(to) => "metadata".to_owned(),
                to => canonical(to).to_string().replace('"', ""),
            };
            format!("{} {protocol} {to}", rule["action"].as_str().unwrap())
        })
        .collect();
    let kube_system = "namespaceSelector:kubernetes.io/metadata.name == 'kube-system'";
    let istio_egress = "namespaceSelector:kubernetes.io/metadata.name == 'istio-egress'";
    let mut wanted = vec!["Deny any metadata".to_owned(); 2];
    for protocol in ["UDP", "TCP"] {
        wanted.push(format!("Allow {protocol} {{{kube_system},ports:[53]}}"));
        wanted.push(format!("Deny {protocol} {{ports:[53,853]}}"));
    }
    wanted.push(format!("Deny any {{{kube_system}}}"));
    wanted.push(format!(
        "Allow TCP {{{istio_egress},ports:[8080,8443],selector:istio == 'egressgateway'}}"
    ));
    wanted.push(format!("Deny any {{{istio_egress}}}"));
    for server in ["192.0.2.10/32", "2001:db8::10/128"] {
        wanted.push(format!("Allow TCP {{nets:[{server}],ports:[443,6443]}}"));
    }
    wanted.push("Deny UDP {ports:[4789,4790,6081,8472]}".to_owned());
    for icmp in ["ICMP", "ICMPv6"] {
        for protocol in ["TCP", "UDP", "SCTP", icmp] {
            wanted.push(format!("Allow {protocol} {{namespaceSelector:all()}}"));
        }
    }
    for protocol in ["TCP", "UDP", "SCTP", "ICMP"] {
        wanted.push(format!("Allow {protocol} {{nets:[172.18.0.0/16]}}"));
    }
    wanted.push("Deny any anywhere".to_owned());
    assert_eq!(lines, wanted);
}

#[test]
fn no_namespace_opens_cloud_metadata() {
    let objects = rendered(GlobalNetworkPolicy, 100, EVERYTHING, &ntp()).unwrap();
    let base = objects
        .iter()
        .find(|object| object["metadata"]["name"] == "default.egress-warden.istio-egress")
        .unwrap();
    let closed = base["spec"]["egress"].as_array().unwrap().iter().take(2);
    let closed: Vec<_> = closed
        .flat_map(|rule| rule["destination"]["nets"].as_array().into_iter().flatten())
        .map(|net| net.as_str().unwrap().parse::<IpNet>().unwrap())
        .collect();
    let metadata: Vec<_> = egress_policy::address::metadata()
        .map(IpNet::from)
        .collect();
    let missing = metadata.iter().filter(|net| !closed.contains(*net)).count();
    assert_eq!((missing, closed.len()), (0, metadata.len()));
}
