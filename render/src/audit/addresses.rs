//! Whether the running Envoy keeps forbidden addresses away: its version, the DNS caches that it
//! resolves by, and whether it has taken what it was sent.
//!
//! An Envoy that does not know a field of its configuration takes the rest, without a word, and one
//! that refuses an update goes on with what was there before.

use serde_json::Value;

use super::dump::Dump;
use super::{Live, name};
use crate::error::RenderError;

/// The first minor version of Envoy 1 that leaves addresses out of what a name resolves to.
const OLDEST: u64 = 39;

pub(super) fn check(dump: &Dump<'_>, live: Live<'_>, problems: &mut Vec<RenderError>) {
    let resources = dump.clusters.iter().chain(&dump.static_clusters);
    let resources = resources
        .chain(&dump.listeners)
        .chain(&dump.static_listeners);
    for (place, resource) in resources {
        let mut found = Vec::new();
        caches(resource, &mut found);
        problems.extend(
            found
                .into_iter()
                .map(|message| RenderError::new(&**place, message)),
        );
    }
    if let Some(node) = dump.bootstrap.and_then(|bootstrap| bootstrap.get("node")) {
        problems.extend(version(node.get("user_agent_build_version")));
    }
    problems.extend(live.server_info.and_then(server_info));
    problems.extend(live.stats.into_iter().flat_map(refusals));
}

/// What is wrong with the DNS caches of a resource.
fn caches(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| caches(item, into)),
        Value::Object(fields) => {
            into.extend(fields.get("dns_cache_config").and_then(unfiltered));
            for field in ["sub_clusters_config", "sub_cluster_config"] {
                if fields.contains_key(field) {
                    into.push(format!(
                        "it has {field}: such clusters are shared by all that resolve a name, and \
                         a request may go out by another one's, in the clear"
                    ));
                }
            }
            fields.values().for_each(|field| caches(field, into));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn unfiltered(cache: &Value) -> Option<String> {
    let filter = cache.get("resolved_address_filter");
    let ranges = filter.and_then(|filter| filter.get("ranges")?.as_array());
    let inverted = filter.and_then(|filter| filter.get("invert_match")?.as_bool());
    let leaves_out = ranges.is_some_and(|ranges| !ranges.is_empty()) && inverted != Some(true);
    (!leaves_out).then(|| {
        format!(
            "its DNS cache {} leaves no address out (resolved_address_filter): names lead wherever \
             they resolve to, also inside",
            name(cache)
        )
    })
}

/// What is wrong with the version that Envoy says in its node: `user_agent_build_version`.
fn version(build: Option<&Value>) -> Option<RenderError> {
    let number = |field: &str| {
        let version = build?.get("version")?;
        // What is left out is 0.
        version.get(field).map_or(Some(0), Value::as_u64)
    };
    too_old(number("major_number").zip(number("minor_number")))
}

/// What is wrong with the answer of `/server_info`.
pub(crate) fn server_info(info: &Value) -> Option<RenderError> {
    let text = info.get("version").and_then(Value::as_str);
    too_old(text.and_then(|text| {
        // Commit, version, state, kind of build, TLS library.
        let version = text.split('/').nth(1)?;
        let (major, rest) = version.split_once('.')?;
        let minor = rest.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }))
}

fn too_old(version: Option<(u64, u64)>) -> Option<RenderError> {
    let message = match version {
        Some((1, minor)) if minor >= OLDEST => return None,
        Some((major, minor)) => format!(
            "it is {major}.{minor}: from 1.{OLDEST} on it leaves forbidden addresses out of what a \
             name resolves to, and this one connects to them"
        ),
        None => format!("it does not say its version, which has to be 1.{OLDEST} at least"),
    };
    Some(RenderError::new("Envoy", message))
}

/// Counters that say that something of the configuration is not in force.
const REFUSALS: [(&str, &str); 3] = [
    (
        "server.dynamic_unknown_fields",
        "fields of its configuration that it does not know and leaves out, without a word: a filter \
         of addresses may be among them",
    ),
    (
        "cluster_manager.cds.update_rejected",
        "updates of its clusters that it has refused since it started: what was there before runs on",
    ),
    (
        "listener_manager.lds.update_rejected",
        "updates of its listeners that it has refused since it started: what was there before runs on",
    ),
];

fn refusals(stats: &str) -> impl Iterator<Item = RenderError> {
    let lines = stats.lines().filter_map(|line| line.split_once(": "));
    lines.filter_map(|(counter, value)| {
        let (_, about) = REFUSALS.iter().find(|(name, _)| *name == counter)?;
        let value = value.trim();
        (value != "0")
            .then(|| RenderError::new(format!("statistics {counter}"), format!("{value} {about}")))
    })
}

#[cfg(test)]
mod tests;
