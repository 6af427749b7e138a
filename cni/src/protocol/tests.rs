use super::*;

fn environment(pairs: &[(&str, &str)]) -> Result<Environment, u32> {
    let get = |name: &str| {
        pairs
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Environment::read(get).map_err(|failure| failure.code.number())
}

const ADD: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_NETNS", "/run/netns/x"),
    (
        "CNI_ARGS",
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=app1-ns;K8S_POD_NAME=web-0.a",
    ),
];

fn with<'a>(key: &'a str, value: Option<&'a str>) -> Result<Environment, u32> {
    let mut pairs: Vec<(&str, &str)> = ADD
        .iter()
        .copied()
        .filter(|(name, _)| *name != key)
        .collect();
    pairs.extend(value.map(|value| (key, value)));
    environment(&pairs)
}

#[test]
fn a_complete_environment_is_read() {
    let environment = environment(&ADD).unwrap();
    assert_eq!(
        (environment.namespace.as_str(), environment.pod.as_str()),
        ("app1-ns", "web-0.a")
    );
}

#[test]
fn every_variable_is_validated() {
    let long = "a".repeat(201);
    for (key, value) in [
        ("CNI_COMMAND", None),
        ("CNI_COMMAND", Some("add")),
        ("CNI_COMMAND", Some("")),
        ("CNI_CONTAINERID", None),
        ("CNI_CONTAINERID", Some("")),
        ("CNI_CONTAINERID", Some("../../etc/passwd")),
        ("CNI_CONTAINERID", Some("-rf")),
        ("CNI_CONTAINERID", Some("a b")),
        ("CNI_CONTAINERID", Some("a@eth0")),
        ("CNI_CONTAINERID", Some(long.as_str())),
        ("CNI_IFNAME", None),
        ("CNI_IFNAME", Some("..")),
        ("CNI_IFNAME", Some("a/b")),
        ("CNI_IFNAME", Some("a:1")),
        ("CNI_IFNAME", Some("eth 0")),
        ("CNI_IFNAME", Some("sixteen-letters-")),
        ("CNI_NETNS", None),
        ("CNI_NETNS", Some("")),
        ("CNI_NETNS", Some("run/netns/x")),
        ("CNI_ARGS", Some("K8S_POD_NAMESPACE")),
        (
            "CNI_ARGS",
            Some("K8S_POD_NAMESPACE=a;K8S_POD_NAMESPACE=kube-system"),
        ),
        ("CNI_ARGS", Some("K8S_POD_NAMESPACE=Kube")),
        ("CNI_ARGS", Some("K8S_POD_NAME=a\"}; flush ruleset")),
        ("CNI_PATH", Some("/opt/cni/bin:../x")),
    ] {
        assert_eq!(with(key, value).err(), Some(4), "{key}={value:?}");
    }
}

#[test]
fn deletion_needs_no_namespace_and_status_no_container() {
    let del: Vec<(&str, &str)> = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
    ]
    .into();
    assert!(environment(&del).is_ok());
    for verb in ["GC", "STATUS", "VERSION"] {
        assert!(environment(&[("CNI_COMMAND", verb)]).is_ok(), "{verb}");
    }
}

fn parse(text: &str, verb: Verb) -> Result<NetworkConfig, u32> {
    NetworkConfig::parse(text.as_bytes(), verb).map_err(|failure| failure.code.number())
}

#[test]
fn every_version_has_exactly_its_verbs() {
    for (version, verbs) in [
        ("0.3.0", vec![Verb::Add, Verb::Del]),
        ("0.3.1", vec![Verb::Add, Verb::Del]),
        ("0.4.0", vec![Verb::Add, Verb::Del, Verb::Check]),
        ("1.0.0", vec![Verb::Add, Verb::Del, Verb::Check]),
        (
            "1.1.0",
            vec![Verb::Add, Verb::Del, Verb::Check, Verb::Gc, Verb::Status],
        ),
        ("0.1.0", vec![]),
        ("0.2.0", vec![]),
        ("1.2.0", vec![]),
        ("", vec![]),
        ("1.1", vec![]),
    ] {
        let text =
            format!(r#"{{"cniVersion": "{version}", "name": "pods", "type": "egress-cni"}}"#);
        for verb in [Verb::Add, Verb::Del, Verb::Check, Verb::Gc, Verb::Status] {
            let expected = if verbs.contains(&verb) { None } else { Some(1) };
            assert_eq!(parse(&text, verb).err(), expected, "{version} {verb:?}");
        }
    }
}

#[test]
fn what_the_configuration_may_not_be() {
    for (text, code) in [
        ("", 6),
        ("[]", 6),
        (r#"{"cniVersion": 1, "name": "pods"}"#, 6),
        (
            r#"{"cniVersion": "1.1.0", "name": "pods", "onUnguardable": "ignore"}"#,
            6,
        ),
        (
            r#"{"cniVersion": "1.1.0", "name": "pods", "onUngardable": "warn"}"#,
            2,
        ),
        (r#"{"cniVersion": "1.1.0"}"#, 7),
        (r#"{"cniVersion": "1.1.0", "name": "../x"}"#, 7),
        (r#"{"name": "pods"}"#, 1),
    ] {
        assert_eq!(parse(text, Verb::Add).err(), Some(code), "{text}");
    }
}

#[test]
fn an_error_object_speaks_the_callers_version_if_it_is_known() {
    let failure = Failure::new(Code::Unguardable, "no");
    for (asked, answered) in [("0.4.0", "0.4.0"), ("9.9.9", "1.1.0"), ("", "1.1.0")] {
        let value: serde_json::Value = serde_json::from_str(&failure.json(asked)).unwrap();
        assert_eq!(value["cniVersion"], answered);
        assert_eq!(
            (value["code"].as_u64(), value["msg"].as_str()),
            (Some(100), Some("no"))
        );
    }
}
