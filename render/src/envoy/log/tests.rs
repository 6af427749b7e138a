use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{ACCESS_LOG, ACCESS_LOG_FIELDS};
use crate::{render, sample};

/// Every access log of the gateway's objects, by the `stat_prefix` or port of what has it.
fn logs(more: &str) -> Vec<(String, Value)> {
    let rules = json!({"name": "t", "rules": [{
        "name": "web",
        "to": [{"domainNames": ["*.example.com"], "ports": [80, 443]}],
        "action": "Inspect",
        "inspection": "dlp",
    }]});
    let proxy = "inspection: [{name: dlp, address: 10.244.0.9, port: 3128}]";
    let mut install = sample::install(proxy);
    "1.32".clone_into(&mut install.spec.istio.version);
    if !more.is_empty() {
        install.spec.gateway.access_log = more == "true";
    }
    let rendered = render(&install, &[sample::policy("p", &rules)]).unwrap();
    let mut found = Vec::new();
    for object in rendered.objects() {
        let patches = object.manifest().pointer("/spec/configPatches");
        for patch in patches.and_then(Value::as_array).into_iter().flatten() {
            let port = &patch["match"]["listener"]["portNumber"];
            below(&patch["patch"]["value"], &port.to_string(), &mut found);
        }
    }
    found
}

fn below(value: &Value, at: &str, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| below(item, at, into)),
        Value::Object(fields) => {
            let own = fields.get("stat_prefix").and_then(Value::as_str);
            let at = own.unwrap_or(at);
            if let Some(log) = fields.get("access_log") {
                into.push((at.to_owned(), log.clone()));
            }
            fields.values().for_each(|field| below(field, at, into));
        }
        _ => {}
    }
}

#[test]
fn everything_that_leads_out_has_one_and_probes_have_none() {
    let found = logs("");
    let places: Vec<_> = found.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(
        places,
        [
            "8080",
            "8443",
            "egress-warden-tls",
            "egress-warden-inspect-dlp",
            "egress-warden-tunnel-dlp"
        ]
    );
    for (at, log) in &found {
        assert_eq!(log.as_array().map(Vec::len), Some(1), "{at}");
        assert_eq!(log[0]["name"], ACCESS_LOG);
    }
    assert_eq!(logs("true"), found);
    assert_eq!(logs("false"), []);
}

#[test]
fn no_caller_makes_a_line_longer_and_every_field_is_documented() {
    for (at, log) in logs("") {
        let fields = log[0]["typed_config"]["log_format"]["json_format"].clone();
        let fields = fields.as_object().unwrap();
        let documented = ACCESS_LOG_FIELDS.iter().map(|(name, _)| *name);
        let documented: BTreeSet<_> = documented.collect();
        let written: BTreeSet<_> = fields.keys().map(String::as_str).collect();
        assert_eq!(written, documented, "{at}");
        for format in fields.values() {
            let format = format.as_str().unwrap();
            assert!(!format.contains("PATH"), "{format}");
            // What comes from a header is as long as its writer likes.
            let cut = format.rsplit_once(':').is_some_and(|(_, most)| {
                let most = most.trim_end_matches('%').parse::<u32>();
                most.is_ok_and(|most| most <= 255)
            });
            assert!(!format.contains("%REQ(") || cut, "{format}");
        }
    }
}
