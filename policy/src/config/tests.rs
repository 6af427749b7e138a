use super::*;

/// Reads a configuration whose fields but `policies` are given.
fn read(fields: &str) -> Result<Config, Vec<String>> {
    let json = format!("{{{fields}, \"policies\": []}}");
    Config::read(&json).map_err(|defects| defects.iter().map(ToString::to_string).collect())
}

const BASE: &str = r#""context": "http", "labels": "header""#;

#[test]
fn ports_list_clusters() {
    let ports = r#"[{"port": 80, "protocol": "HTTP"}, {"cluster": "wild", "protocol": "TLS", "host": "*.example.com"}]"#;
    let config = read(&format!("{BASE}, \"ports\": {ports}")).expect("a configuration");
    let istio = config
        .routes
        .resolve(b"outbound|80||a.example")
        .expect("a route");
    assert_eq!((istio.port, istio.protocol), (Some(80), Protocol::Http));
    let wild = config.routes.resolve(b"wild").expect("a route");
    assert_eq!((wild.port, wild.protocol), (None, Protocol::Tls));
    assert!(matches!(wild.host, RouteHost::Pattern(_)));
}

#[test]
fn defects_of_a_configuration() {
    for (ports, expected) in [
        ("[]", "ports: this list is empty"),
        (r#"[{"port": 80}]"#, "ports[0]: `protocol` is missing"),
        (
            r#"[{"protocol": "HTTP"}]"#,
            "ports[0]: `cluster` or `port` is missing",
        ),
        (
            r#"[{"port": 0, "protocol": "TCP"}]"#,
            "ports[0].port: expected one port",
        ),
        (
            r#"[{"port": 80, "protocol": "UDP"}]"#,
            "ports[0].protocol: unknown value `UDP`",
        ),
        (
            r#"[{"port": 80, "protocol": "HTTP", "host": "a.example"}]"#,
            "ports[0].host: `host` goes with `cluster`",
        ),
        (
            r#"[{"port": 80, "protocol": "HTTP"}, {"port": 80, "protocol": "TCP"}]"#,
            "ports[1]: this cluster or port is listed already",
        ),
    ] {
        let found = read(&format!("{BASE}, \"ports\": {ports}"))
            .map(|_| ())
            .expect_err(ports);
        assert!(
            found.iter().any(|defect| defect.starts_with(expected)),
            "{ports}\n{found:#?}"
        );
    }
    for json in [
        "",
        "[]",
        "{}",
        "null",
        "{\"context\": \"http\"",
        "{\"context\": \"http\", \"context\": \"http\"}",
    ] {
        assert!(Config::read(json).is_err(), "{json}");
    }
}
