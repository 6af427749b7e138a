use super::*;
use crate::config::PluginConfig;

const POLICY: &str = r#"{"apiVersion":"egress-warden.io/v1alpha1","kind":"ClusterEgressPolicy","metadata":{"name":"one"},"spec":{"identity":{"trustDomains":["cluster.local"]},"tiers":[{"name":"apps","rules":[{"action":"Accept","from":[{"namespaces":["shop"]}],"name":"r","to":[{"domainNames":["api.example.com"]}]}]}]}}"#;

/// A configuration with these `policies`.
fn configuration(context: &str, policies: &str) -> String {
    format!(
        r#"{{"context":"{context}","labels":"header","addressCheck": "classes", "addressClasses": [],"ports":[{{"port":80,"protocol":"HTTP"}}],"policies":{policies}}}"#
    )
}

fn named(digest: &str) -> String {
    configuration("http", &format!(r#"{{"embedded":"{digest}"}}"#))
}

fn refusal(json: &str, carried: Option<&[u8]>) -> String {
    match PluginConfig::read_beside(json, &Embedded::new(carried)) {
        Ok(_) => panic!("{json} is accepted"),
        Err(defects) => defects.iter().map(ToString::to_string).collect(),
    }
}

/// Whatever the spelling in the configuration, the carried form has the same hash.
#[test]
fn carried_policies_have_the_hash_of_plain_ones() {
    let plain = format!("[ {POLICY} ]");
    let document = Json::parse(&plain).unwrap();
    let carried = canonical::text(&document).unwrap();
    let digest = canonical::digest(carried.as_bytes());
    let spelled = PluginConfig::read(&configuration("http", &plain)).unwrap();
    let embedded = Embedded::new(Some(carried.as_bytes()));
    let read = PluginConfig::read_beside(&named(&digest), &embedded).unwrap();
    assert_eq!(read.policy_hash, spelled.policy_hash);
    assert_eq!(read.policies.rule_count(), 1);
}

#[test]
fn what_is_not_carried_is_refused() {
    let carried = format!("[{POLICY}]");
    let digest = canonical::digest(carried.as_bytes());
    let other = canonical::digest(b"other");
    let broken = canonical::digest(b"[1");
    let plain = canonical::digest(b"[1]");
    for (json, bytes, expected) in [
        (named(&digest), None, "carries no policies"),
        (named(&other), Some(carried.as_bytes()), "not d9298a10"),
        (named(""), Some(carried.as_bytes()), "this text is empty"),
        (
            named(&digest.to_uppercase()),
            Some(carried.as_bytes()),
            "carries the policies",
        ),
        (
            named(&canonical::digest(b"\xff")),
            Some(b"\xff".as_slice()),
            "utf-8",
        ),
        (named(&broken), Some(b"[1".as_slice()), "EOF"),
        (named(&plain), Some(b"[1]".as_slice()), "expected a mapping"),
        (
            configuration("http", "{}"),
            Some(carried.as_bytes()),
            "this mapping is empty",
        ),
        (
            configuration("http", &format!(r#"{{"embedded":"{digest}","extra":1}}"#)),
            Some(carried.as_bytes()),
            "unknown field `extra`",
        ),
        (
            configuration("http", r#"{"embedded":1}"#),
            Some(carried.as_bytes()),
            "expected a text",
        ),
    ] {
        let said = refusal(&json, bytes);
        assert!(said.contains(expected), "{json}: {said}");
    }
}

/// A policy that names another, or itself, is no way to the carried ones.
#[test]
fn a_carried_reference_is_refused() {
    let carried = r#"{"embedded":"x"}"#;
    let said = refusal(
        &named(&canonical::digest(carried.as_bytes())),
        Some(carried.as_bytes()),
    );
    assert!(said.contains("expected a list"), "{said}");
}

#[test]
fn the_places_of_a_module_share_what_is_compiled() {
    let carried = format!("[{POLICY}]");
    let digest = canonical::digest(carried.as_bytes());
    let embedded = Embedded::new(Some(carried.as_bytes()));
    let read = |context: &str| {
        let json = configuration(context, &format!(r#"{{"embedded":"{digest}"}}"#));
        PluginConfig::read_beside(&json, &embedded).unwrap()
    };
    let (http, network) = (read("http"), read("network"));
    assert!(Rc::ptr_eq(&http.policies, &network.policies));
    // What no place uses any more is compiled anew.
    let gone = Rc::downgrade(&http.policies);
    drop((http, network));
    assert!(gone.upgrade().is_none());
    assert_eq!(read("network").policies.rule_count(), 1);
}

/// The guard over addresses is part of what is compiled.
#[test]
fn other_settings_are_compiled_apart() {
    let carried = format!("[{POLICY}]");
    let digest = canonical::digest(carried.as_bytes());
    let embedded = Embedded::new(Some(carried.as_bytes()));
    let checked = PluginConfig::read_beside(&named(&digest), &embedded).unwrap();
    let unchecked = named(&digest).replace(
        r#""classes", "addressClasses": [],"ports""#,
        r#""none","ports""#,
    );
    let unchecked = PluginConfig::read_beside(&unchecked, &embedded).unwrap();
    assert!(!Rc::ptr_eq(&checked.policies, &unchecked.policies));
}
