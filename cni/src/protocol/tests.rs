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
    ] {
        assert_eq!(with(key, value).err(), Some(4), "{key}={value:?}");
    }
}

#[test]
fn every_invalid_variable_is_named() {
    let get = |name: &str| (name == "CNI_COMMAND").then(|| "ADD".to_owned());
    let failure = Environment::read(get).unwrap_err();
    for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
        assert!(failure.message.contains(name), "{}", failure.message);
    }
}

#[test]
fn every_verb_judges_only_the_variables_that_it_needs() {
    let pod = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
    for (verb, pairs, right) in [
        ("DEL", &pod[..], true),
        ("DEL", &pod[..1], false),
        ("DEL", &pod[1..], false),
        // What made ADD fail must not make DEL fail.
        (
            "DEL",
            &[
                pod[0],
                pod[1],
                ("CNI_ARGS", "K8S_POD_NAME"),
                ("CNI_NETNS", "x"),
            ][..],
            true,
        ),
        ("ADD", &pod[..], false),
        ("CHECK", &pod[..], false),
        ("GC", &[], true),
        ("STATUS", &[], true),
        ("VERSION", &[], true),
        // For runtimes and plugins that look for programs; it may be relative.
        ("DEL", &[pod[0], pod[1], ("CNI_PATH", "./bin:")], true),
        ("GC", &[("CNI_PATH", "")], true),
    ] {
        let mut all = vec![("CNI_COMMAND", verb)];
        all.extend(pairs);
        let expected = if right { None } else { Some(4) };
        assert_eq!(environment(&all).err(), expected, "{all:?}");
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
        let text = format!(
            r#"{{"cniVersion": "{version}", "name": "pods", "type": "egress-warden-cni"}}"#
        );
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
fn a_mistake_keeps_pods_from_starting_but_not_from_being_deleted() {
    let text = r#"{"cniVersion": "1.1.0", "name": "pods", "surprise": {"a": 1}}"#;
    for (verb, code) in [
        (Verb::Add, Some(2)),
        (Verb::Check, Some(2)),
        (Verb::Status, Some(2)),
        (Verb::Del, None),
        (Verb::Gc, None),
        (Verb::Version, None),
    ] {
        assert_eq!(parse(text, verb).err(), code, "{verb:?}");
    }
    let failure = NetworkConfig::parse(text.as_bytes(), Verb::Add).unwrap_err();
    assert!(
        failure.message.contains("surprise") && failure.message.contains(r#"{"a": 1}"#),
        "key and value: {}",
        failure.message
    );
    let reserved = r#"{"cniVersion": "1.1.0", "name": "pods", "cni.dev/of-tomorrow": 1}"#;
    assert_eq!(parse(reserved, Verb::Add).err(), None);
}

#[test]
fn valid_attachments_absent_null_and_listed() {
    const ONE: &str = r#"[{"containerID": "c1", "ifname": "eth0", "other": 1}]"#;
    let named = |key: &str, value: &str| format!(r#", "{key}": {value}"#);
    let right = |value: &str| named("cni.dev/valid-attachments", value);
    for (keys, expected) in [
        (String::new(), Ok(None)),
        (right("null"), Ok(Some(0))),
        (right("[]"), Ok(Some(0))),
        (right(ONE), Ok(Some(1))),
        (named("cni.dev/attachments", ONE), Ok(Some(1))),
        (
            right("[]") + &named("cni.dev/attachments", ONE),
            Ok(Some(0)),
        ),
        (right("{}"), Err(6)),
        (right(r#"[{"ifname": "eth0"}]"#), Err(6)),
        (right(r#"[{"containerID": 1, "ifname": "eth0"}]"#), Err(6)),
    ] {
        let text = format!(r#"{{"cniVersion": "1.1.0", "name": "pods"{keys}}}"#);
        let config = parse(&text, Verb::Gc);
        let number = config.map(|config| config.valid_attachments.map(|list| list.len()));
        assert_eq!(number, expected, "{text}");
    }
}

#[test]
fn the_result_says_the_callers_version_and_is_otherwise_untouched() {
    const LONG: &str = r#""of": 123456789012345678901234567890"#;
    for (version, said, answered) in [
        ("1.0.0", r#""cniVersion": "1.0.0", "#, Some("1.0.0")),
        ("1.1.0", r#""cniVersion": "1.0.0", "#, Some("1.1.0")),
        ("0.4.0", r#""cniVersion": "0.3.1", "#, Some("0.4.0")),
        ("0.3.0", "", Some("0.3.0")),
        ("1.1.0", r#""cniVersion": "", "#, Some("1.1.0")),
        ("1.1.0", r#""cniVersion": "0.4.0", "#, None),
        ("0.4.0", r#""cniVersion": "1.0.0", "#, None),
        ("1.1.0", r#""cniVersion": "9.9.9", "#, None),
        ("1.1.0", r#""cniVersion": 1, "#, None),
    ] {
        let previous = RawValue::from_string(format!("{{{said}{LONG}}}")).unwrap();
        match (pass_through(&previous, version), answered) {
            (Ok(text), Some(answered)) => {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(value["cniVersion"], answered, "{previous} in {version}");
                assert!(text.contains(LONG.split_once(": ").unwrap().1), "{text}");
            }
            (Err(failure), None) => assert_eq!(failure.code.number(), 6),
            (result, _) => panic!("{previous} in {version}: {result:?}"),
        }
    }
}

#[test]
fn empty_lists_of_a_result_may_be_null() {
    let result: PrevResult =
        serde_json::from_str(r#"{"interfaces": null, "ips": null, "routes": null}"#).unwrap();
    assert!(result.interfaces.is_empty() && result.ips.is_empty());
}

#[test]
fn an_error_object_speaks_the_callers_version_if_it_is_known() {
    let failure = CniError::new(CniErrorCode::Unguardable, "no");
    for (asked, answered) in [("0.4.0", "0.4.0"), ("9.9.9", "1.1.0"), ("", "1.1.0")] {
        let value: serde_json::Value = serde_json::from_str(&failure.json(asked)).unwrap();
        assert_eq!(value["cniVersion"], answered);
        assert_eq!(
            (value["code"].as_u64(), value["msg"].as_str()),
            (Some(100), Some("no"))
        );
    }
}
