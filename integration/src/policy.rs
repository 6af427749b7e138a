//! The module's configuration at each of the gateway's places, for a list of policies.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::extension::{Chain, Extension};
use crate::{classes, template, workspace};

/// Reads one policy file.
///
/// # Errors
/// If it cannot be read or is no YAML.
pub fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    template::parse(&text).with_context(|| path.display().to_string())
}

/// The reference case's policy.
///
/// # Errors
/// As [`read`].
pub fn reference() -> Result<Value> {
    read(&workspace::root().join("cases/policies/reference.yaml"))
}

/// The reference case's policy, and beside it what the gateway does with TLS, and what it has
/// inspected.
///
/// # Errors
/// As [`read`].
pub fn demo() -> Result<Value> {
    let mut policy = reference()?;
    for file in ["origination", "inspected"] {
        let more = read(&workspace::root().join(format!("cases/policies/{file}.yaml")))?;
        for place in ["/spec/destinations", "/spec/tiers"] {
            let more = more.pointer(place).cloned().unwrap_or_default();
            match (policy.pointer_mut(place), more) {
                (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
                (Some(Value::Array(known)), Value::Array(more)) => {
                    // A file that stands by itself repeats the reference case's tiers.
                    let new: Vec<_> = more
                        .into_iter()
                        .filter(|tier| known.iter().all(|one| one.get("name") != tier.get("name")))
                        .collect();
                    known.extend(new);
                }
                _ => anyhow::bail!("{place} is missing"),
            }
        }
    }
    Ok(policy)
}

/// The module everywhere in the gateway, with these policies.
#[must_use]
pub fn everywhere(policies: &[Value]) -> Vec<Extension> {
    [
        "warden-http",
        "warden-connect",
        "warden-tls",
        "warden-direct",
        "warden-ended",
    ]
    .into_iter()
    .map(|name| at(name, policies))
    .collect()
}

/// The same with other limits than the bench's.
///
/// # Errors
/// If a configuration is no object.
pub fn limited(policies: &[Value], limits: &Value) -> Result<Vec<Extension>> {
    let limited = |mut extension: Extension| {
        let mut configuration: Value = serde_json::from_str(&extension.configuration)?;
        let fields = configuration.as_object_mut().context("no object")?;
        fields.insert("limits".to_owned(), limits.clone());
        extension.configuration = configuration.to_string();
        Ok(extension)
    };
    everywhere(policies).into_iter().map(limited).collect()
}

/// The module at one place of `gateway.yaml`.
#[must_use]
pub fn at(name: &'static str, policies: &[Value]) -> Extension {
    let (chain, context, labels, ports) = match name {
        "warden-connect" => (
            Chain::Http,
            "http",
            "filterState",
            json!([
                {"cluster": "warden-tcp", "protocol": "TCP"},
                {"cluster": "warden-tls-inner", "protocol": "TLS"},
                {"cluster": "warden-ended-inner", "protocol": "HTTPS", "port": 9443},
            ]),
        ),
        // The claim comes inward as the header's value.
        "warden-tls" => (
            Chain::Network,
            "network",
            "header",
            json!([{"cluster": "warden-tls", "protocol": "TLS", "port": 443}]),
        ),
        "warden-direct" => (
            Chain::Network,
            "network",
            "filterState",
            json!([{
                "cluster": "outbound|22||partner.example",
                "protocol": "TCP",
                "port": 22,
                "host": "203.0.113.7",
            }]),
        ),
        // Who calls comes inward with the tunnel's facts.
        "warden-ended" => (
            Chain::Http,
            "http",
            "none",
            json!([{"cluster": "warden-ended-out", "protocol": "HTTP", "port": 9443}]),
        ),
        _ => (
            Chain::Http,
            "http",
            "filterState",
            json!([
                {"cluster": "warden-http", "protocol": "HTTP", "port": 80},
                {
                    "cluster": "warden-originate",
                    "protocol": "HTTP",
                    "port": 443,
                    "hosts": ["*.payments.example"],
                },
            ]),
        ),
    };
    let mut configuration = json!({
        "context": context,
        "labels": labels,
        "addressCheck": "classes",
        "addressClasses": classes::listed(&classes::of(policies)),
        "ports": ports,
        // The bench asks for more in a minute than a workload does; what limits hold is shown with
        // limits of their own.
        "limits": {
            "workers": 1, "newNamesPerMinute": 100_000, "names": 50_000,
            "denialLinesPerMinute": 100_000,
        },
        "inspection": [{"name": "dlp", "cluster": "warden-inspect-dlp"}],
        "policies": policies,
    });
    if let (true, Some(fields)) = (name == "warden-ended", configuration.as_object_mut()) {
        fields.insert("serverName".to_owned(), json!("application"));
    }
    Extension {
        name,
        chain,
        wasm: workspace::wasm("egress_filter"),
        configuration: configuration.to_string(),
    }
}
