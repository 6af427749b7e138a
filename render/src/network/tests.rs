use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::sample::{self, install};

/// What comes in to the gateway's pods: `NAMESPACE PORT`, of one rendering.
fn into_the_gateway(settings: &str) -> Result<Vec<String>, String> {
    let install = install(&format!("cluster: {settings}"));
    let policy = sample::policy("p", &json!({"name": "t", "default": "Deny"}));
    let rendered =
        crate::render(&install, &[policy]).map_err(|problems| problems[0].to_string())?;
    let mut objects = rendered.objects().iter().map(crate::Object::manifest);
    let gateway = objects
        .find(|object| object["kind"] == "NetworkPolicy" && object["spec"]["podSelector"] == pods())
        .unwrap();
    let mut ways = Vec::new();
    for rule in gateway["spec"]["ingress"].as_array().unwrap() {
        for from in rule["from"].as_array().unwrap() {
            let label = "/namespaceSelector/matchLabels/kubernetes.io~1metadata.name";
            let namespace = from.pointer(label).unwrap().as_str().unwrap();
            for port in rule["ports"].as_array().unwrap() {
                assert_eq!(port["protocol"], "TCP");
                ways.push(format!("{namespace} {}", port["port"]));
            }
        }
    }
    Ok(ways)
}

fn pods() -> Value {
    json!({"matchLabels": {"istio": "egressgateway"}})
}

#[test]
fn metrics_are_read_from_stated_namespaces_and_nothing_else_comes_in() {
    let workloads = [
        "app1-ns 8080",
        "app1-ns 8443",
        "app2-ns 8080",
        "app2-ns 8443",
    ];
    assert_eq!(into_the_gateway("{}").unwrap(), workloads);
    let two = "{metricsNamespaces: [monitoring, o11y]}";
    let metrics = [
        "monitoring 15020",
        "monitoring 15090",
        "o11y 15020",
        "o11y 15090",
    ];
    assert_eq!(
        into_the_gateway(two).unwrap(),
        [&workloads[..], &metrics[..]].concat()
    );
    for (settings, wrong) in [
        ("{metricsNamespaces: [app1-ns]}", "`app1-ns` is enforced"),
        ("{metricsNamespaces: [\"*\"]}", "`*` is no Kubernetes name"),
    ] {
        let problem = into_the_gateway(settings).unwrap_err();
        assert!(
            problem.starts_with("spec.cluster.metricsNamespaces: ") && problem.contains(wrong),
            "{problem}"
        );
    }
}

#[test]
fn the_api_server_is_reached_at_its_ports_and_no_others() {
    let out = |settings: &str| {
        let install = install(&format!("cluster: {settings}"));
        super::api_server(&install)
    };
    assert_eq!(out("{}"), None);
    let ports = |ports: [u16; 2]| ports.map(|port| json!({"port": port, "protocol": "TCP"}));
    let to = json!([{"ipBlock": {"cidr": "192.0.2.10/32"}}]);
    assert_eq!(
        out("{apiServer: [192.0.2.10/32]}"),
        Some(json!({"to": to, "ports": ports([443, 6443])}))
    );
    assert_eq!(
        out("{apiServer: [192.0.2.10/32], apiServerPorts: [443, 8443]}"),
        Some(json!({"to": to, "ports": ports([443, 8443])}))
    );
    let problem = into_the_gateway("{apiServer: [192.0.2.10/32], apiServerPorts: []}").unwrap_err();
    assert!(
        problem.starts_with("spec.cluster.apiServerPorts: "),
        "{problem}"
    );
}

/// No namespace selector matches a node, or a pod with its node's address.
#[test]
fn nodes_are_reached_where_the_settings_name_them() {
    let blocks = |nodes: &str| {
        let install = install(&format!(
            "cluster: {{networks: {{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: {nodes}}}}}"
        ));
        let rule = super::workloads(&install, "app1-ns").manifest().clone();
        let rules = rule["spec"]["egress"].as_array().unwrap().clone();
        let to = rules.iter().flat_map(|rule| rule["to"].as_array().unwrap());
        let blocks = to.filter_map(|to| to["ipBlock"]["cidr"].as_str());
        blocks.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        blocks("[172.18.0.0/16, 'fd00:1::/64']"),
        ["172.18.0.0/16", "fd00:1::/64"]
    );
    assert_eq!(blocks("[]"), Vec::<String>::new());
}

/// Of two objects of one kind, name and namespace the later apply wins, so one part writes them all.
#[test]
fn no_other_part_of_the_workspace_writes_network_policies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let written = |folder: &str| {
        let mut found = Vec::new();
        search(&root.join(folder), &mut found);
        found
    };
    for folder in [
        "bench", "cli", "cni", "filter", "package", "policy", "xtask",
    ] {
        assert!(root.join(folder).is_dir(), "{folder}");
        assert_eq!(written(folder), Vec::<PathBuf>::new(), "{folder}");
    }
    assert!(
        !written("render/src/network").is_empty(),
        "the search finds"
    );
}

/// The sources that write a network policy, tests excepted.
fn search(path: &Path, found: &mut Vec<PathBuf>) {
    const WRITTEN: [&str; 4] = [
        "kind: NetworkPolicy",
        "\"NetworkPolicy\"",
        "CiliumClusterwideNetworkPolicy\"",
        "GlobalNetworkPolicy\"",
    ];
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.unwrap_or_default();
    if path.is_dir() {
        if !matches!(name, "tests" | "target") {
            for entry in std::fs::read_dir(path).unwrap() {
                search(&entry.unwrap().path(), found);
            }
        }
        return;
    }
    let is_source = [".rs", ".yaml", ".yml", ".json"]
        .iter()
        .any(|end| name.ends_with(end));
    if !is_source || name == "tests.rs" {
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    if WRITTEN.iter().any(|written| text.contains(written)) {
        found.push(path.to_path_buf());
    }
}
