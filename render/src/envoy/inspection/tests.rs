use serde_json::{Value, json};

use crate::install::Install;
use crate::sample;

fn install(version: &str, proxies: &str) -> Install {
    let mut install = sample::install(&format!("inspection: {proxies}"));
    version.clone_into(&mut install.spec.istio.version);
    install
}

fn render(install: &Install, to: &Value) -> Result<String, String> {
    let policy = sample::policy(
        "p",
        &json!({"name": "t", "rules": [
            {"name": "r", "to": [to], "action": "Inspect", "inspection": "dlp"},
        ]}),
    );
    let rendered = crate::render(install, &[policy]);
    rendered
        .map(|rendered| rendered.yaml())
        .map_err(|problems| problems[0].to_string())
}

const DLP: &str = "[{name: dlp, address: 10.20.0.9, port: 3128}]";

#[test]
fn what_cannot_be_inspected_as_written_is_refused() {
    let name = || json!({"domainNames": ["api.example.com"], "ports": [80]});
    let rows = [
        ("1.32", DLP, name(), None),
        (
            "1.32",
            DLP,
            json!({"networks": ["203.0.113.7/32"], "ports": [22], "protocols": ["TCP"]}),
            None,
        ),
        (
            "1.32",
            DLP,
            json!({"domainNames": ["api.example.com"], "ports": [22], "protocols": ["TCP"]}),
            None,
        ),
        (
            "1.32",
            DLP,
            json!({
                "domainNames": ["api.example.com"], "ports": [443],
                "tls": {"originate": true},
            }),
            Some("in TLS of its own"),
        ),
        ("1.31", DLP, name(), Some("Istio 1.32")),
        ("1.32", "[]", name(), Some("`dlp`")),
        (
            "1.32",
            "[{name: ids, address: 10.20.0.9, port: 3128}]",
            name(),
            Some("`dlp`"),
        ),
        (
            "1.32",
            "[{name: dlp, address: 10.0.0.1, port: 1}, {name: dlp, address: 10.0.0.2, port: 2}]",
            name(),
            Some("two inspection proxies"),
        ),
        (
            "1.32",
            "[{name: 'dlp ', address: 10.0.0.1, port: 1}]",
            name(),
            Some("letters, digits and hyphens"),
        ),
        (
            "1.32",
            "[{name: dlp, address: 'a b', port: 1}]",
            name(),
            Some("neither an address nor a host name"),
        ),
        (
            "1.32",
            "[{name: dlp, address: 10.0.0.1, port: 0}]",
            name(),
            Some("needs a port"),
        ),
        (
            "1.32",
            "[{name: dlp, address: 10.0.0.1, port: 1, pods: {namespace: x, selector: {}}}]",
            name(),
            Some("need a namespace and labels"),
        ),
    ];
    for (version, proxies, to, refused) in rows {
        let result = render(&install(version, proxies), &to);
        match refused {
            None => assert!(result.is_ok(), "{result:?}"),
            Some(why) => {
                let problem = result.expect_err(proxies);
                assert!(problem.contains(why), "{problem}");
            }
        }
    }
}

#[test]
fn an_inspection_proxy_in_the_cluster_takes_nobody_but_the_gateway() {
    let proxies = "[{name: dlp, address: dlp.dlp.svc.cluster.local, port: 3128, \
                   pods: {namespace: dlp, selector: {app: dlp}}}]";
    let to = json!({"domainNames": ["api.example.com"], "ports": [80]});
    let text = render(&install("1.32", proxies), &to).unwrap();
    let policy = text
        .split("---\n")
        .find(|object| object.contains("name: egress-warden-inspect-dlp\n"))
        .expect("a network policy");
    for line in [
        "namespace: dlp",
        "app: dlp",
        "istio: egressgateway",
        "port: 3128",
        "- Ingress",
    ] {
        assert!(policy.contains(line), "no {line} in\n{policy}");
    }
    assert!(text.contains("type: STRICT_DNS"));
}

#[test]
fn without_an_inspection_proxy_nothing_of_it_is_rendered() {
    let install = install("1.31", "[]");
    let policy = crate::envoy::patches(&install, &egress_policy::ports::MeshPorts::default(), &[]);
    let text = json!(policy).to_string();
    for word in [
        "inspect:",
        "inspect-",
        "warden.inspection_proxy",
        "http_11_proxy",
    ] {
        assert!(!text.contains(word), "{word}");
    }
}
