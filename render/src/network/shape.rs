//! What the tests of rendered policies ask of an object's shape.

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::install::{AdminApi, AdminPolicies};
use crate::sample;

/// The objects of this API that the settings `cluster` and one UDP rule make.
pub(super) fn rendered(
    api: AdminApi,
    priority: u32,
    cluster: &str,
    to: &Value,
) -> Result<Vec<Value>, String> {
    let mut install = sample::install(&format!("cluster: {cluster}"));
    install.spec.cluster.admin_policies = Some(AdminPolicies { api, priority });
    let policy = sample::policy(
        "p",
        &json!({"name": "t", "rules": [{
            "name": "ntp",
            "from": [{"namespaces": ["app1-ns"], "matchLabels": {"clock": "yes"}}],
            "to": [to],
            "action": "Accept",
        }]}),
    );
    let rendered =
        crate::render(&install, &[policy]).map_err(|problems| problems[0].to_string())?;
    let objects = rendered.objects().iter();
    let ours = objects.filter(|object| object.kind() == format!("{api:?}"));
    Ok(ours.map(|object| object.manifest().clone()).collect())
}

/// A UDP destination with a hole.
pub(super) fn ntp() -> Value {
    json!({"networks": ["198.51.100.0/24"], "except": ["198.51.100.64/26"],
           "ports": [123, "4000-4002"], "protocols": ["UDP"]})
}

/// No other fields than these.
pub(super) fn only(value: &Value, about: &str, allowed: &[&str], wrong: &mut Vec<String>) {
    match value.as_object() {
        Some(fields) => wrong.extend(
            fields
                .keys()
                .filter(|key| !allowed.contains(&key.as_str()))
                .map(|key| format!("{about}: {key}")),
        ),
        None => wrong.push(format!("{about} is no object: {value}")),
    }
}

/// The items of a list that has some, and not too many.
pub(super) fn each<'v>(
    value: &'v Value,
    field: &str,
    most: usize,
    wrong: &mut Vec<String>,
) -> Vec<&'v Value> {
    let items: Vec<_> = value[field].as_array().into_iter().flatten().collect();
    if items.is_empty() || items.len() > most {
        wrong.push(format!("{field}: {} items", items.len()));
    }
    items
}

/// One of these words.
pub(super) fn one_of(value: &Value, allowed: &[&str], wrong: &mut Vec<String>) {
    if !allowed.iter().any(|allowed| value == allowed) {
        wrong.push(format!("{value} is not one of {allowed:?}"));
    }
}

/// A network.
pub(super) fn network(value: &Value, wrong: &mut Vec<String>) -> Option<IpNet> {
    let network = value.as_str().and_then(|text| text.parse().ok());
    if network.is_none() {
        wrong.push(format!("{value} is no network"));
    }
    network
}

/// First and last port in order.
pub(super) fn range(first: Option<u64>, last: Option<u64>, wrong: &mut Vec<String>) {
    if !matches!((first, last), (Some(1..), Some(..=65535))) || first > last {
        wrong.push(format!("ports {first:?} to {last:?}"));
    }
}
