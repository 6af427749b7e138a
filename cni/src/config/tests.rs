use super::*;

const MINIMAL: &str =
    r#"{"exemptNamespaces": ["kube-system"], "clusterNetworks": ["10.244.0.0/16"], "dns": {}}"#;

fn parse(text: &str) -> Result<NodeConfig, String> {
    NodeConfig::parse("test.json", text).map_err(|error| error.to_string())
}

fn with(extra: &str) -> String {
    {
        let open = MINIMAL.strip_suffix("}").unwrap();
        format!("{open}, {extra}}}")
    }
}

#[test]
fn the_smallest_configuration_enforces_for_everyone_but_the_exempt() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.exempt_namespaces.len(), 1);
    assert!(config.gateway.is_none() && config.udp_exceptions.is_empty());
}

#[test]
fn what_is_not_understood_is_refused_with_the_field_named() {
    for (text, expected) in [
        (
            r#"{"clusterNetworks": ["10.0.0.0/8"], "dns": {}}"#.to_owned(),
            "exemptNamespaces",
        ),
        (
            r#"{"exemptNamespaces": [], "clusterNetworks": [], "dns": {}}"#.to_owned(),
            "clusterNetworks: must name",
        ),
        (
            r#"{"exemptNamespaces": [], "clusterNetworks": ["0.0.0.0/0"], "dns": {}}"#.to_owned(),
            "wider than any cluster",
        ),
        (
            r#"{"exemptNamespaces": [], "clusterNetworks": ["::/0"], "dns": {}}"#.to_owned(),
            "wider than any cluster",
        ),
        (
            r#"{"exemptNamespaces": ["Kube"], "clusterNetworks": ["10.0.0.0/8"], "dns": {}}"#
                .to_owned(),
            "`Kube` is not a namespace",
        ),
        (with(r#""modes": "count""#), "unknown field `modes`"),
        (with(r#""mode": "off""#), "unknown variant `off`"),
        (
            with(r#""reach": [{"networks": ["0.0.0.0/0"], "protocol": "TCP", "ports": [443]}]"#),
            "reach[0]: `0.0.0.0/0` is everything",
        ),
        (
            with(r#""reach": [{"networks": [], "protocol": "TCP", "ports": [443]}]"#),
            "reach[0]",
        ),
        (
            with(r#""reach": [{"networks": ["10.0.0.1/32"], "protocol": "TCP", "ports": [0]}]"#),
            "port 0",
        ),
        (
            with(
                r#""reach": [{"networks": ["10.0.0.1/32"], "protocol": "TCP", "ports": ["9-8"]}]"#,
            ),
            "ends before it starts",
        ),
        (
            with(
                r#""reach": [{"networks": ["10.0.0.1/32"], "protocol": "TCP", "ports": ["+80"]}]"#,
            ),
            "is not a port",
        ),
        (with(r#""reachServices": ["kubernetes"]"#), "NAMESPACE/NAME"),
        (
            with(
                r#""gateway": {"namespace": "istio-egress", "serviceAccount": "egress", "ports": [8443]}"#,
            ),
            "needs `services` or `addresses`",
        ),
        (
            with(
                r#""gateway": {"namespace": "istio-egress", "serviceAccount": "egress", "addresses": ["10.0.0.1"], "ports": []}"#,
            ),
            "gateway.ports",
        ),
        (
            with(
                r#""gateway": {"namespace": "kube-system", "serviceAccount": "egress", "addresses": ["10.0.0.1"], "ports": [1]}"#,
            ),
            "cannot be exempt",
        ),
        (
            with(
                r#""gateway": {"namespace": "e", "serviceAccount": "g", "addresses": ["10.0.0.1"], "ports": [1], "limits": {"connections": 0}}"#,
            ),
            "gateway.limits.connections: expected 1",
        ),
        (
            with(
                r#""gateway": {"namespace": "e", "serviceAccount": "g", "addresses": ["10.0.0.1"], "ports": [1], "limits": {"burst": 2000000}}"#,
            ),
            "gateway.limits.burst: expected 1",
        ),
        (
            with(
                r#""gateway": {"namespace": "e", "serviceAccount": "g", "addresses": ["10.0.0.1"], "ports": [1], "limits": {"streams": 1}}"#,
            ),
            "unknown field `streams`",
        ),
        (
            with(
                r#""udpExceptions": [{"name": "ntp", "namespaces": [], "networks": ["192.0.2.1/32"], "ports": [123]}]"#,
            ),
            "udpExceptions[0]",
        ),
        (
            with(
                r#""udpExceptions": [{"name": "ntp", "namespaces": ["a"], "matchLabels": {"x": "y"}, "domainNames": ["a.example"], "networks": ["192.0.2.1/32"], "ports": [123]}]"#,
            ),
            "unknown field `domainNames`",
        ),
        (
            with(
                r#""udpExceptions": [{"name": "all", "namespaces": ["a"], "networks": ["::/0"], "ports": [123]}]"#,
            ),
            "is everything",
        ),
    ] {
        let error = parse(&text).expect_err(&text);
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn limits_that_are_not_stated_are_the_defaults() {
    for (stated, expected) in [
        ("", (1000, 100, 200)),
        (r#", "limits": {}"#, (1000, 100, 200)),
        (r#", "limits": {"connections": 7}"#, (7, 100, 200)),
        (
            r#", "limits": {"newConnectionsPerSecond": 5, "burst": 9}"#,
            (1000, 5, 9),
        ),
    ] {
        let config = parse(&with(&format!(
            r#""gateway": {{"namespace": "e", "serviceAccount": "g", "addresses": ["10.0.0.1"], "ports": [1]{stated}}}"#
        )))
        .unwrap();
        let limits = config.gateway_limits();
        assert_eq!(
            (
                limits.connections,
                limits.new_connections_per_second,
                limits.burst
            ),
            expected,
            "{stated}"
        );
    }
}

/// The configuration that the manifests install is one that is accepted.
#[test]
fn the_deployed_configuration_is_valid() {
    let manifest = include_str!("../../deploy/config.yaml");
    let (_, json) = manifest.split_once("config.json: |\n").unwrap();
    let config = parse(json).unwrap();
    assert_eq!(
        config.mode,
        Mode::Count,
        "the roll-out begins with counting"
    );
    let admission = include_str!("../../deploy/admission.yaml");
    let exempt: Vec<&str> = ["kube-system", "istio-system", "egress-warden"].into();
    assert!(
        exempt
            .iter()
            .all(|name| config.exempt_namespaces.contains(*name))
    );
    assert_eq!(config.exempt_namespaces.len(), exempt.len());
    assert!(
        admission.contains(&format!("values: [{}]", exempt.join(", "))),
        "one list of exemptions"
    );
}

#[test]
fn the_agent_is_not_privileged() {
    let daemon_set = include_str!("../../deploy/daemonset.yaml");
    for line in [
        "privileged: false",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "drop: [ALL]",
        "add: [NET_ADMIN, SYS_ADMIN, NET_BROADCAST]",
    ] {
        assert!(daemon_set.contains(line), "{line}");
    }
    assert!(!daemon_set.contains("privileged: true") && !daemon_set.contains("hostPID: true"));
}

/// What is installed on the node is what was checked, not what the file says a moment later.
#[test]
fn the_text_comes_with_the_configuration_that_it_was_read_as() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("config.json");
    let error = NodeConfig::load_text(&path).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
    let text = format!("{}\n", crate::rules::EXAMPLE);
    std::fs::write(&path, &text).unwrap();
    let (config, read) = NodeConfig::load_text(&path).unwrap();
    assert_eq!(read, text);
    assert_eq!(config, NodeConfig::parse("test", &text).unwrap());
}
