use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Earlier;
use crate::install::Install;
use crate::{Object, Prepared, Rendered, sample};

/// A policy that denies names this network.
fn denying(network: &str) -> Value {
    sample::policy(
        "p",
        &json!({"name": "t", "rules": [
            {"name": "no", "action": "Deny",
             "to": [{"networks": [network]}]},
            {"name": "yes", "action": "Accept",
             "to": [{"domainNames": ["a.example"], "ports": [80], "protocols": ["HTTP"]}]},
        ]}),
    )
}

/// As `warden render --history` does it: the newest earlier one that is not the same.
fn rendered(install: &Install, policy: &Value, history: &mut Vec<Rendered>) -> Rendered {
    let documents = std::slice::from_ref(policy);
    let prepared = Prepared::new(install, documents).unwrap();
    let read = |rendered: &Rendered| {
        let objects: Vec<_> = rendered
            .objects()
            .iter()
            .map(Object::manifest)
            .cloned()
            .collect();
        Earlier::read(install, &objects)
    };
    let mut earlier = history.iter().rev().filter_map(read);
    let earlier = earlier.find(|earlier| !prepared.is(earlier));
    let rendered = prepared.render(earlier.as_ref()).unwrap();
    history.push(rendered.clone());
    rendered
}

fn classes(rendered: &Rendered) -> BTreeSet<String> {
    let names = rendered.objects().iter().map(Object::name);
    names
        .filter_map(|name| name.strip_prefix("egress-warden-class-"))
        .map(str::to_owned)
        .collect()
}

/// Old classes stay one generation, beside the new ones, however often the same is rendered.
#[test]
fn classes_of_the_render_before_are_rendered_once_more() {
    let install = sample::install("");
    let (a, b, c) = (
        denying("198.51.100.0/24"),
        denying("203.0.113.0/24"),
        denying("192.0.2.0/24"),
    );
    let alone = |policy: &Value| classes(&rendered(&install, policy, &mut Vec::new()));
    let [only_a, only_b, only_c] = [&a, &b, &c].map(alone);
    assert!(only_a.contains("literal"), "{only_a:?}");
    assert_ne!(only_a, only_b);
    let both = |one: &BTreeSet<String>, other: &BTreeSet<String>| one | other;
    let mut history = Vec::new();
    for (policy, wanted) in [
        (&a, only_a.clone()),
        (&a, only_a.clone()),
        (&b, both(&only_a, &only_b)),
        // The same once more is the same.
        (&b, both(&only_a, &only_b)),
        (&c, both(&only_b, &only_c)),
        // And back.
        (&b, both(&only_c, &only_b)),
    ] {
        let rendered = rendered(&install, policy, &mut history);
        assert_eq!(classes(&rendered), wanted);
        let hash = rendered.policy_hash();
        for object in rendered.objects() {
            let pointer = "/metadata/annotations/egress-warden.io~1policy-hash";
            assert_eq!(object.manifest().pointer(pointer), Some(&json!(hash)));
        }
    }
    // They come before what names them, and go after it.
    let last = history.pop().unwrap();
    let at = |name: &str| {
        last.objects()
            .iter()
            .position(|object| object.name() == name)
    };
    let plugin = at("egress-warden-http").unwrap();
    assert!(
        last.objects().iter().enumerate().all(|(i, object)| {
            !object.name().starts_with("egress-warden-class-") || i < plugin
        })
    );
}

#[test]
fn another_gateways_render_and_an_older_form_say_nothing() {
    let install = sample::install("");
    let policy = denying("203.0.113.0/24");
    let rendered = rendered(&install, &policy, &mut Vec::new());
    let objects: Vec<_> = rendered
        .objects()
        .iter()
        .map(Object::manifest)
        .cloned()
        .collect();
    let own = Earlier::read(&install, &objects).unwrap();
    assert_eq!(own.objects.len(), classes(&rendered).len() - 1);
    assert!(own.beside(&own.names).is_empty());
    let mut another = install.clone();
    another.spec.gateway.namespace = "elsewhere".to_owned();
    assert_eq!(Earlier::read(&another, &objects), None);
    assert_eq!(Earlier::read(&install, &[]), None);
    let mut older = objects;
    for object in &mut older {
        if let Some(config) = object.pointer_mut("/spec/pluginConfig") {
            config.as_object_mut().unwrap().remove("addressClasses");
        }
    }
    let older = Earlier::read(&install, &older).unwrap();
    assert!(older.names.is_empty() && older.objects.is_empty());
}
