//! What a root context makes of its configuration.

use std::rc::Rc;

use egress_policy::config::ModuleConfig;
use egress_policy::defect::Defect;
use egress_policy::embedded::Embedded;
use serde::Serialize;

use crate::host::{Host, Level};
use crate::log_line;
use crate::metric::MetricFamily;
use crate::plugin::{Plugin, context_word};
use crate::readiness::ReadinessGate;
use crate::record::{gauge, json};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Configured<'a> {
    event: &'static str,
    context: &'static str,
    policy_hash: &'a str,
}

#[derive(Serialize)]
struct Refused {
    event: &'static str,
    kind: &'static str,
    defect: String,
}

/// What a configured instance does.
#[derive(Debug)]
pub enum Role<H: Host> {
    /// It judges what passes it.
    Policies(Rc<Plugin<H>>),
    /// It answers probes.
    Readiness(Rc<ReadinessGate<H>>),
}

impl<H: Host> Role<H> {
    fn of(host: H, configuration: ModuleConfig, name: &str) -> Result<Self, Vec<Defect>> {
        Ok(match configuration {
            ModuleConfig::Policies(config) => {
                Self::Policies(Rc::new(Plugin::configure(host, *config, name)?))
            }
            ModuleConfig::Readiness(config) => {
                Self::Readiness(Rc::new(ReadinessGate::new(host, config)))
            }
        })
    }
}

/// What a root context does with a configuration: the new one in force, or the old one and every
/// reason why. Envoy keeps the running filter when this returns `None`. It is read whole, or not at
/// all; policies may be those that the module carries.
pub fn accept_configuration<H: Host + Clone>(
    host: &H,
    size: usize,
    embedded: &Embedded<'_>,
) -> Option<Role<H>> {
    let name = instance_name(host);
    let refused = MetricFamily::ConfigRejected.at(&name);
    let Ok(bytes) = host.configuration(size) else {
        host.log(
            Level::Error,
            r#"{"event":"configuration refused","defect":"it cannot be read"}"#,
        );
        gauge(host, &refused, 1);
        return None;
    };
    let text = String::from_utf8_lossy(&bytes);
    let role = ModuleConfig::read_beside(&text, embedded)
        .and_then(|configuration| Role::of(host.clone(), configuration, &name));
    match role {
        Ok(role) => {
            let (context, policy_hash) = match &role {
                Role::Policies(plugin) => {
                    plugin.publish();
                    (
                        context_word(plugin.config.context),
                        plugin.config.policy_hash.as_str(),
                    )
                }
                Role::Readiness(gate) => {
                    gauge(host, &refused, 0);
                    ("ready", gate.policy_hash())
                }
            };
            let line = Configured {
                event: log_line::CONFIGURED,
                context,
                policy_hash,
            };
            // A warning, so that Istio's proxies log it.
            host.log(Level::Warn, &json(&line));
            Some(role)
        }
        Err(defects) => {
            for defect in &defects {
                let line = Refused {
                    event: log_line::REFUSED,
                    kind: defect.kind.as_str(),
                    defect: defect.to_string(),
                };
                host.log(Level::Error, &json(&line));
            }
            gauge(host, &refused, 1);
            None
        }
    }
}

/// The name of this plugin instance: what Istio calls `pluginName` and Envoy the root id, since Istio
/// makes up the plugin's name itself.
fn instance_name(host: &impl Host) -> String {
    let named = |property| {
        let name = host.property(&[property]).ok().flatten();
        name.filter(|name| !name.is_empty())
    };
    let name = named("plugin_root_id").or_else(|| named("plugin_name"));
    name.map_or_else(|| "unnamed".to_owned(), |name| metric_word(&name))
}

fn metric_word(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    bytes
        .iter()
        .take(64)
        .map(|b| if plain(b) { char::from(*b) } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests;
