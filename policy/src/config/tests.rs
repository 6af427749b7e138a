use super::*;
use crate::destination::{RouteHost, from_request};
use crate::facts::Protocol;
use crate::reason::ReasonCode;

/// Reads a configuration whose fields but `policies` are given.
fn read(fields: &str) -> Result<PluginConfig, Vec<String>> {
    let json = format!("{{{fields}, \"policies\": []}}");
    PluginConfig::read(&json).map_err(|defects| defects.iter().map(ToString::to_string).collect())
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
        (
            r#"[{"cluster": "a", "port": 443, "protocol": "HTTP", "host": "a.example", "hosts": ["b.example"]}]"#,
            "ports[0].hosts: a cluster has one `host` or several `hosts`",
        ),
        (
            r#"[{"cluster": "a", "port": 443, "protocol": "HTTP", "hosts": []}]"#,
            "ports[0].hosts: this list is empty",
        ),
        (
            r#"[{"cluster": "a", "port": 443, "protocol": "HTTP", "hosts": ["*"]}]"#,
            "ports[0].hosts[0]: `*`",
        ),
        (
            r#"[{"port": 8443, "protocol": "HTTPS"}]"#,
            "ports[0].protocol: `HTTPS` goes with `cluster`",
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
        assert!(PluginConfig::read(json).is_err(), "{json}");
    }
}

#[test]
fn listed_names_have_one_way_out() {
    let ports = r#"[
        {"cluster": "originating", "protocol": "HTTP", "port": 8443, "hosts": ["a.example", "*.b.example"]},
        {"cluster": "plain", "protocol": "HTTP", "port": 8443},
        {"cluster": "other-port", "protocol": "HTTP", "port": 8080},
        {"cluster": "inward", "protocol": "HTTPS", "port": 8443}
    ]"#;
    let config = read(&format!("{BASE}, \"ports\": {ports}")).expect("a configuration");
    for (cluster, host, leads_there) in [
        ("originating", "a.example", true),
        ("originating", "x.b.example", true),
        ("originating", "b.example", false),
        ("originating", "c.example", false),
        ("originating", "192.0.2.1", false),
        ("plain", "a.example", false),
        ("plain", "A.Example.", false),
        ("plain", "x.b.example", false),
        ("plain", "b.example", true),
        ("plain", "192.0.2.1", true),
        ("other-port", "a.example", true),
        ("inward", "a.example", true),
    ] {
        let route = config.routes.resolve(cluster.as_bytes()).expect("a route");
        let judged = from_request(host.as_bytes(), &route, None);
        let refused = judged.err() == Some(ReasonCode::RouteMismatch);
        assert_eq!(!refused, leads_there, "{host} by {cluster}");
    }
    assert!(config.routes.ends_tls(b"inward") && !config.routes.ends_tls(b"plain"));
}

#[test]
fn the_server_name_is_the_meshs_unless_it_is_said() {
    let ports = r#""ports": [{"port": 80, "protocol": "HTTP"}]"#;
    let with =
        |word: &str| read(&format!("{BASE}, {ports}{word}")).map(|config| config.server_name);
    assert_eq!(with(""), Ok(ServerName::Mesh));
    assert_eq!(with(r#", "serverName": "mesh""#), Ok(ServerName::Mesh));
    assert_eq!(
        with(r#", "serverName": "application""#),
        Ok(ServerName::Application)
    );
    assert!(with(r#", "serverName": "app""#).is_err());
    let network = r#""context": "network", "labels": "none", "serverName": "application""#;
    let found = read(&format!("{network}, {ports}"))
        .map(|_| ())
        .expect_err("refused");
    let expected = "serverName: `serverName` goes with `context: http`";
    assert!(
        found.iter().all(|defect| defect.starts_with(expected)),
        "{found:?}"
    );
}

/// The reference page has the fields that are read, in this order. A field that nobody knows makes
/// the reader list those that it does.
#[test]
fn fields_are_as_documented() {
    const UNKNOWN: &str = "qqqqqqqqqqqqqqqqqqqqqqqq";
    for (object, configuration) in [
        (fields::POLICIES, format!(r#"{{"{UNKNOWN}": 1}}"#)),
        (
            fields::READINESS,
            format!(r#"{{"context": "ready", "{UNKNOWN}": 1}}"#),
        ),
        (
            fields::CLASS,
            format!(r#"{{"addressClasses": [{{"{UNKNOWN}": 1}}]}}"#),
        ),
        (
            fields::PORT,
            format!(r#"{{"ports": [{{"{UNKNOWN}": 1}}]}}"#),
        ),
        (
            fields::INSPECTION,
            format!(r#"{{"inspection": [{{"{UNKNOWN}": 1}}]}}"#),
        ),
        (
            fields::LIMITS,
            format!(r#"{{"limits": {{"{UNKNOWN}": 1}}}}"#),
        ),
        (
            fields::EMBEDDED,
            format!(r#"{{"policies": {{"{UNKNOWN}": 1}}}}"#),
        ),
    ] {
        let defects = ModuleConfig::read_beside(&configuration, &Embedded::default()).unwrap_err();
        let unknown = defects
            .iter()
            .find(|defect| defect.message.contains(UNKNOWN));
        let unknown = unknown.expect("an unknown field");
        let names: Vec<_> = object
            .fields
            .iter()
            .map(|field| format!("`{}`", field.name))
            .collect();
        let expected = format!("one of {}", names.join(", "));
        assert_eq!(unknown.hint.as_deref(), Some(&*expected));
        let path = unknown.path.to_string();
        let place = path.strip_suffix(UNKNOWN).unwrap().trim_end_matches('.');
        assert_eq!(place.replace("[0]", "[]"), object.path);
        for field in object.fields {
            let missing = format!("`{}` is missing", field.name);
            let given = configuration.contains(&format!("\"{}\":", field.name));
            let required = given
                || defects
                    .iter()
                    .any(|defect| defect.message == missing && defect.path.to_string() == place);
            assert!(required || field.default.is_some(), "{}", field.name);
            assert!(
                !required || given || field.default.is_none(),
                "{}",
                field.name
            );
        }
    }
    let default = Limits::DEFAULT;
    let defaults = [
        default.streams,
        default.undecided_tunnels,
        default.new_names_per_minute,
        default.names,
        default.denial_lines_per_minute,
        default.name_lifetime_seconds,
        default.workers,
        default.machines,
        default.stream_machines,
    ];
    for (field, default) in fields::LIMITS.fields.iter().zip(defaults) {
        assert_eq!(
            field.default,
            Some(&*format!("`{default}`")),
            "{}",
            field.name
        );
    }
}
