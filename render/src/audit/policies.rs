//! The module's own configuration in each of its places: by which policies it judges, and whether
//! everything beside them is as rendered.

use std::collections::BTreeMap;

use egress_policy::canonical;
use egress_policy::tree::{Json, Node as _, Shape};
use serde_json::Value;

use super::dump::Dump;
use crate::envoy;
use crate::error::RenderError;
use crate::module::{Module, PluginSite};

/// What a place's configuration is called, or what its name holds, and what is judged there.
const fn resource(place: PluginSite) -> (&'static str, &'static str) {
    match place {
        PluginSite::Http => (place.plugin_name(), "HTTP requests"),
        PluginSite::Tunnel => (place.plugin_name(), "tunnels"),
        PluginSite::Tls => (envoy::TLS, "TLS inside tunnels"),
    }
}

/// Compares every place, and the gate for probes, with what is rendered for it.
pub(super) fn check(
    dump: &Dump<'_>,
    stats: Option<&str>,
    module: &Module,
    problems: &mut Vec<RenderError>,
) -> Result<(), Vec<RenderError>> {
    let extensions: Vec<_> = dump
        .extensions
        .iter()
        .map(|(_, filter)| told(filter))
        .collect();
    for place in PluginSite::ALL {
        let (resource, judged) = resource(place);
        let missing = format!("none that judges {judged}: refused, or not arrived");
        let current = arrived(
            &extensions,
            resource,
            &module.text(place),
            missing,
            problems,
        )?;
        // Where even what arrived is not current, that has been said.
        let stats = stats.filter(|_| current);
        problems.extend(stats.and_then(|stats| loaded(stats, place, module.policy_hash())));
    }
    let missing = "none that answers probes: refused, or not arrived".to_owned();
    let gate = module.gate().to_string();
    arrived(&extensions, envoy::GATE, &gate, missing, problems)?;
    Ok(())
}

/// Its name, and the text that its module gets, if what stands there is a module that gets one.
/// istiod leaves out the name, or names a module only by its own configuration.
fn told(filter: &Value) -> (&str, Option<&str>) {
    let config = filter.get("typed_config").unwrap_or(filter).get("config");
    let name = filter.get("name").or_else(|| config?.get("name"));
    let text = config.and_then(|config| config.pointer("/configuration/value"));
    let name = name.and_then(Value::as_str).unwrap_or_default();
    (name, text.and_then(Value::as_str))
}

/// Compares what arrived for a resource with the text that was rendered. Whether the policies are
/// the same.
fn arrived(
    extensions: &[(&str, Option<&str>)],
    resource: &str,
    wanted: &str,
    missing: String,
    problems: &mut Vec<RenderError>,
) -> Result<bool, Vec<RenderError>> {
    let wrong = |message| vec![RenderError::new("module", message)];
    let wanted = Configuration::read(wanted).map_err(wrong)?;
    let there = extensions.iter();
    let mut there = there.filter(|(name, _)| name.contains(resource)).peekable();
    if there.peek().is_none() {
        problems.push(RenderError::new("extensions", missing));
    }
    let mut current = true;
    for (name, text) in there {
        let found = text
            .ok_or_else(|| "it has no configuration of the module's".to_owned())
            .and_then(Configuration::read);
        let message = match found {
            Ok(found) => {
                current &= found.policies == wanted.policies;
                wanted.difference(&found)
            }
            Err(message) => Some(message),
        };
        problems
            .extend(message.map(|message| RenderError::new(format!("extension {name}"), message)));
    }
    Ok(current)
}

/// What is wrong by the module's own gauge, which holds the first 48 bits of the policies that
/// loaded last.
fn loaded(stats: &str, place: PluginSite, wanted: &str) -> Option<RenderError> {
    let (_, judged) = resource(place);
    let problem = |message| Some(RenderError::new(format!("statistics of {judged}"), message));
    let gauge = format!("wasmcustom.warden_policy_hash.{}", place.plugin_name());
    let lines = stats.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(name, _)| *name == gauge);
    let Some((_, value)) = values.next() else {
        return problem("no policies have loaded there".to_owned());
    };
    let (value, wanted) = (value.trim().parse().ok(), canonical::short(wanted));
    if value == Some(wanted) {
        return None;
    }
    problem(format!(
        "the policies {:012x}... are the last that loaded there, and those given are \
         {wanted:012x}...: the update was refused",
        value.unwrap_or_default()
    ))
}

/// A configuration of the module, to be compared.
struct Configuration {
    /// SHA-256 of the policies, wherever they are.
    policies: Option<String>,
    /// Whether they are in the module's image.
    carried: bool,
    /// Every other field, as canonical JSON.
    rest: BTreeMap<String, String>,
}

impl Configuration {
    fn read(text: &str) -> Result<Self, String> {
        let tree = Json::parse(text)?;
        let Shape::Map(fields) = tree.shape()? else {
            return Err("its configuration is no mapping".to_owned());
        };
        let mut found = Self {
            policies: None,
            carried: false,
            rest: BTreeMap::new(),
        };
        for (key, value) in fields {
            match (&*key, value.shape()?) {
                ("policies", shape) => {
                    found.carried = matches!(shape, Shape::Map(_));
                    found.policies = Some(policies(value)?);
                }
                // The gate's, which waits for them.
                ("policyHash", Shape::Text(hash)) => found.policies = Some(hash.into_owned()),
                _ => {
                    let text = canonical::text(&value)?;
                    found.rest.insert(key.into_owned(), text);
                }
            }
        }
        Ok(found)
    }

    /// A field, as far as it can be compared with another's: policies in the image make fewer machines,
    /// by which limits are divided.
    fn of(&self, key: &str, other: &Self) -> Option<String> {
        let text = self.rest.get(key)?;
        if key == "limits" && self.carried != other.carried {
            return undivided(text);
        }
        Some(text.clone())
    }

    /// What the other one has otherwise. Other policies come with other ports and clusters, so
    /// these are not listed then.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.policies != other.policies {
            let name = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "none".to_owned());
            return Some(format!(
                "it has the policies {}, and those given are {}: the update has not \
                 arrived, or was refused with that of another place",
                name(&other.policies),
                name(&self.policies)
            ));
        }
        let keys = self.rest.keys().chain(other.rest.keys());
        let mut differs: Vec<_> = keys
            .filter(|key| self.of(key, other) != other.of(key, self))
            .map(|key| format!("`{key}`"))
            .collect();
        differs.sort();
        differs.dedup();
        (!differs.is_empty()).then(|| format!("not as rendered: {}", differs.join(", ")))
    }
}

/// Limits without what follows from how many machines there are.
fn undivided(limits: &str) -> Option<String> {
    let mut limits: Value = serde_json::from_str(limits).ok()?;
    let fields = limits.as_object_mut()?;
    fields.retain(|name, _| !["machines", "streamMachines"].contains(&name.as_str()));
    Some(limits.to_string())
}

/// The hash of policies that stand here, or the one by which those in the module's image are named.
fn policies(value: Json<'_>) -> Result<String, String> {
    let Shape::Map(fields) = value.shape()? else {
        return canonical::hash(&value).map(|hash| canonical::hex(&hash));
    };
    for (key, value) in fields {
        if let ("embedded", Shape::Text(hash)) = (&*key, value.shape()?) {
            return Ok(hash.into_owned());
        }
    }
    Err("its policies are neither there nor named".to_owned())
}

#[cfg(test)]
mod tests;
