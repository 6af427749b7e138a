use serde_json::{Value, json};

use super::compare::{sentence, with_known, with_rendered};
use super::dump::snake_case;
use super::istio::Istio;
use super::wanted::ModuleCode;

#[test]
fn both_spellings_of_a_dump_read_the_same() {
    let istiod = json!({"dynamicListeners": [{"activeState": {"listener": {"name": "x"}}}]});
    let envoy = json!({"dynamic_listeners": [{"active_state": {"listener": {"name": "x"}}}]});
    assert_eq!(snake_case(&istiod), envoy);
    assert_eq!(snake_case(&envoy), envoy);
    // JSON does not tell where an underscore stood before a digit.
    let digits = [
        json!({"proxy_100_continue": 1}),
        json!({"proxy100Continue": 1}),
    ];
    assert_eq!(snake_case(&digits[0]), snake_case(&digits[1]));
}

/// What is live, what was rendered, and what is said of it.
#[test]
fn what_is_live_is_compared_by_value() {
    for (found, rendered, said) in [
        // A dump leaves defaults out, and says what kind of message it is.
        (
            json!({"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster"}),
            json!({"headers": [], "on": false, "port": 0}),
            "",
        ),
        (
            json!({"@type": "x"}),
            json!({}),
            "@type is \"x\", not left out",
        ),
        (json!({}), json!({"action": "ALLOW", "text": ""}), ""),
        (json!({"a": {"b": [1]}}), json!({"a": {"b": [1]}}), ""),
        // Not the other way round: a wrapped `false` may be the opposite of what is left out.
        (json!({"on": false}), json!({}), "on is false, not left out"),
        (json!({}), json!({"on": true}), "on is left out, not true"),
        // A message is there or not, empty or not.
        (
            json!({}),
            json!({"connect_config": {}}),
            "connect_config is left out, not {}",
        ),
        (
            json!({"a": [1, 2]}),
            json!({"a": [1]}),
            "a is [1,2], not [1]",
        ),
        (
            json!({"a": [{"b": 1}]}),
            json!({"a": [{"b": 2}]}),
            "a[0].b is 1, not 2",
        ),
        (
            json!({"f": [{"name": "x"}, {"name": "y"}]}),
            json!({"f": [{"name": "y"}]}),
            "f is [x, y], not [y]",
        ),
        (
            json!({"@type": "x"}),
            json!({"@type": "y"}),
            "@type is \"x\", not \"y\"",
        ),
        (json!(1), json!({}), "it is 1, not {}"),
        // Words of the list of what Istio puts there are no words here.
        (
            json!({"a": 1}),
            json!({"a": "<any>"}),
            "a is 1, not \"<any>\"",
        ),
        (json!({}), json!({"a?": 1}), "a? is left out, not 1"),
        // Envoy shows no paths of private keys, and hides nothing else.
        (
            json!({"private_key": {"filename": "[redacted]"}}),
            json!({"private_key": {"filename": "/k"}}),
            "",
        ),
        (
            json!({"filename": "[redacted]"}),
            json!({"filename": "/k"}),
            "filename is \"[redacted]\", not \"/k\"",
        ),
        (
            json!({"a": 1, "b": 1, "c": 1, "d": 1}),
            json!({}),
            "a is 1, not left out; b is 1, not left out; c is 1, not left out; and 1 more",
        ),
    ] {
        assert_eq!(
            sentence(&with_rendered(&found, &rendered)),
            said,
            "{found} {rendered}"
        );
    }
}

/// What is live, an entry of the list, and what is said of it.
#[test]
fn what_istio_puts_there_is_what_the_list_says() {
    let one_of = json!({"a": {"<one of>": [1, 2]}});
    let kinds = json!({"a": {"<one of>": [{"x": 1, "y": 1}, {"x": 2, "z": 1}]}});
    let others = json!({"a": 1, "<others>": "<any>"});
    for (found, known, said) in [
        (json!({"a": {"b": 1}}), json!({"a": "<any>"}), ""),
        (
            json!({}),
            json!({"a": "<any>"}),
            "a is left out, not \"<any>\"",
        ),
        (json!({}), json!({"a?": "<any>"}), ""),
        (json!({"a": 2}), json!({"a?": 1}), "a is 2, not 1"),
        (json!({"b": 2}), json!({"a?": 1}), "b is 2, not left out"),
        (json!({"a": 1, "b": 2}), others.clone(), ""),
        (json!({"a": 2, "b": 2}), others, "a is 2, not 1"),
        (json!({"a": [1, 1]}), json!({"a": ["<each>", 1]}), ""),
        (
            json!({"a": [1, 2]}),
            json!({"a": ["<each>", 1]}),
            "a[1] is 2, not 1",
        ),
        (json!({"a": 2}), one_of.clone(), ""),
        (json!({"a": 3}), one_of.clone(), "a is 3, not one of [1,2]"),
        (json!({"a": {}}), one_of, "a is {}, not one of [1,2]"),
        (json!({"a": {"x": 2, "z": 1}}), kinds.clone(), ""),
        (json!({"a": {"x": 2, "z": 2}}), kinds, "a.z is 2, not 1"),
        // An entry that is not there compares with nothing.
        (json!({}), Value::Null, "it is {}, not null"),
    ] {
        assert_eq!(
            sentence(&with_known(&found, &known)),
            said,
            "{found} {known}"
        );
    }
}

#[test]
fn the_list_of_what_istio_puts_there_is_whole() {
    let istio = Istio::read().unwrap();
    for entry in [
        "listener",
        "chain",
        "manager",
        "upgrades",
        "plugin",
        "plugin_config",
        "router",
        "routes",
        "host",
        "closed",
        "static_listener",
        "black_hole",
    ] {
        assert!(istio.get(entry).is_object(), "{entry}");
    }
    assert!(!istio.list("filters").is_empty() && !istio.list("static_clusters").is_empty());
}

/// Where the module comes from, what stands in a configuration, and whether that is it.
#[test]
fn the_module_is_the_stated_one() {
    let digest = "ab".repeat(32);
    let image = "oci://registry.example/egress-warden";
    let local = |file: &str| json!({"local": {"filename": file}});
    let remote = |uri: &str, sha256: &str| json!({"remote": {"http_uri": {"uri": uri, "cluster": "_", "timeout": "30s"}, "sha256": sha256}});
    let fetched = format!("/var/lib/istio/data/0123/{digest}.wasm");
    let tagged = format!("{image}:1");
    let pinned = format!("{image}@sha256:{digest}");
    let code = |url: &str, stated: Option<&str>| ModuleCode {
        url: url.to_owned(),
        stated: stated.map(str::to_owned),
        digest: Some(digest.clone()),
    };
    let both = json!({"local": {"filename": fetched}, "remote": {}});
    for (url, stated, found, is) in [
        ("file:///m.wasm", None, local("/m.wasm"), true),
        ("file:///m.wasm", None, local("/n.wasm"), false),
        ("file:///m.wasm", None, remote("file:///m.wasm", ""), false),
        (&*tagged, Some(&*digest), remote(&tagged, &digest), true),
        (&*tagged, Some(&*digest), remote(&tagged, ""), false),
        (&*tagged, Some(&*digest), remote(&tagged, "00"), false),
        (
            &*tagged,
            Some(&*digest),
            remote("oci://evil.example/x:1", &digest),
            false,
        ),
        (&*pinned, None, remote(&pinned, ""), true),
        (&*pinned, None, remote(&pinned, &digest), true),
        (&*pinned, None, remote(&pinned, "00"), false),
        (&*tagged, Some(&*digest), local(&fetched), true),
        (
            &*tagged,
            Some(&*digest),
            local("/var/lib/istio/data/0123/00.wasm"),
            false,
        ),
        (&*tagged, Some(&*digest), both, false),
        (
            &*tagged,
            Some(&*digest),
            json!({"local": {"inline_bytes": "AA=="}}),
            false,
        ),
        (&*tagged, Some(&*digest), Value::Null, false),
    ] {
        assert_eq!(code(url, stated).is(&found), is, "{url} {found}");
    }
}

#[test]
fn the_module_is_what_was_fetched_and_where_the_agent_keeps_it() {
    let digest = "ab".repeat(32);
    let code = super::wanted::ModuleCode {
        url: "oci://registry.example/egress-warden:1".to_owned(),
        stated: Some(digest.clone()),
        digest: Some(digest.clone()),
    };
    for (file, is) in [
        (format!("/var/lib/istio/data/0123/{digest}.wasm"), true),
        (
            format!("/var/lib/istio/data/0123/{}.wasm", "cd".repeat(32)),
            false,
        ),
        (format!("/tmp/{digest}.wasm"), false),
        (
            format!("/var/lib/istio/data/../../../tmp/{digest}.wasm"),
            false,
        ),
    ] {
        let found = serde_json::json!({"local": {"filename": file}});
        assert_eq!(code.is(&found), is, "{file}");
    }
}
