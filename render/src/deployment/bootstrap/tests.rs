use serde_json::{Value, json};

use super::{BOOTSTRAP, FILE, OVERRIDE};
use crate::install::Deployment;
use crate::{Object, render, sample};

const MIB: u64 = 1 << 20;

/// The `ConfigMap`'s overload manager and the Deployment, with these resources.
fn rendered(resources: Option<Value>) -> (Option<Value>, Value) {
    let mut install = sample::install("");
    install.spec.gateway.deployment = Some(Deployment {
        resources,
        ..Deployment::default()
    });
    let rule = json!({"name": "r", "to": [{"domainNames": ["a.example"], "ports": [80]}], "action": "Accept"});
    let policy = sample::policy("p", &json!({"name": "t", "rules": [rule]}));
    let rendered = render(&install, &[policy]).unwrap();
    let find = |kind: &str| {
        let mut objects = rendered.objects().iter();
        objects.find(|object: &&Object| object.kind() == kind)
    };
    let map = find("ConfigMap").map(|object| {
        assert_eq!(object.name(), BOOTSTRAP);
        let text = object.manifest()["data"][FILE].as_str().unwrap();
        serde_json::from_str::<Value>(text).unwrap()["overload_manager"].clone()
    });
    (map, find("Deployment").unwrap().manifest().clone())
}

#[test]
fn the_heap_is_what_the_memory_limit_leaves() {
    for (resources, least, most) in [
        // 1 GiB, two workers.
        (None, 700, 900),
        (
            Some(json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "4Gi"}})),
            3_700,
            3_970,
        ),
    ] {
        let (map, deployment) = rendered(resources);
        let map = map.unwrap();
        let heap = map
            .pointer("/resource_monitors/0/typed_config/max_heap_size_bytes")
            .and_then(Value::as_u64)
            .unwrap();
        assert!((least * MIB..most * MIB).contains(&heap), "{heap}");
        let names: Vec<_> = map["actions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|action| action["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "envoy.overload_actions.shrink_heap",
                "envoy.overload_actions.stop_accepting_connections",
                "envoy.overload_actions.stop_accepting_requests",
                "envoy.overload_actions.reset_high_memory_stream",
            ]
        );
        let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(annotations[OVERRIDE], BOOTSTRAP);
        let config = annotations["proxy.istio.io/config"].as_str().unwrap();
        let config: Value = serde_json::from_str(config).unwrap();
        assert_eq!(
            config["proxyMetadata"]["ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS"],
            "10000"
        );
    }
}

#[test]
fn without_a_memory_limit_there_is_no_heap_to_plan() {
    let (map, deployment) = rendered(Some(json!({"requests": {"memory": "1Gi"}})));
    assert_eq!(map, None);
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations.get(OVERRIDE), None);
}
