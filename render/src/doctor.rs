//! Whether the mesh's own settings let the rendered objects hold, and what of a cluster would not
//! get along with them.

pub mod cluster;
pub mod networks;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::audit::addresses;
use crate::documents::{in_order, mesh_ports, read};
use crate::error::RenderError;
use crate::install::{Install, Names};
use egress_policy::ports::MeshPorts;

/// What the mesh has to be set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Labels and ports.
    pub traffic: MeshPorts,
    /// Trust domains whose certificates count.
    pub trust_domains: Vec<String>,
    /// Whether applications are told addresses of names over opaque TCP by their sidecars.
    pub dns_capture: bool,
}

impl Needs {
    /// Reads them off the policies.
    ///
    /// # Errors
    /// Everything that keeps the policies from being rendered.
    pub fn of(install: &Install, documents: &[Value]) -> Result<Self, Vec<RenderError>> {
        let mut problems = install.check();
        let documents = in_order(install, documents, &mut problems);
        let policies = read(&documents, &mut problems);
        let traffic = mesh_ports(install, &policies, &mut problems);
        let mut trust_domains: Vec<_> = policies
            .iter()
            .flat_map(|policy| policy.head.trust_domains.clone())
            .collect();
        trust_domains.sort_unstable();
        trust_domains.dedup();
        // The kernel cannot ask a pod for its certificate: whose pods these are is in the settings.
        if policies.iter().any(egress_policy::udp::is_about_udp) {
            trust_domains = vec![install.spec.cluster.trust_domain.clone()];
        }
        if problems.is_empty() {
            let dns_capture = install.spec.tunnel.names == Some(Names::DnsCapture)
                && !traffic.named_tcp(&policies).is_empty();
            Ok(Self {
                traffic,
                trust_domains,
                dns_capture,
            })
        } else {
            Err(problems)
        }
    }
}

/// A setting, and whether it is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Finding {
    /// The setting's name.
    pub setting: &'static str,
    /// What it has to be.
    pub wanted: String,
    /// What it is; null if it is not set.
    pub found: Option<String>,
    /// How it stands.
    pub health: Health,
    /// What goes wrong otherwise.
    pub why: &'static str,
}

/// How a setting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(into = "&'static str")]
#[schemars(inline, with = "String", extend("enum" = Self::ALL.map(Self::word)))]
pub enum Health {
    /// As it has to be.
    Good,
    /// It works, less well than it could.
    Advice,
    /// The mesh is open, or rules do not work.
    Bad,
    /// Nobody has asked: nothing was given to look at.
    NotAsked,
}

impl Health {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Good, Self::Advice, Self::Bad, Self::NotAsked];

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Advice => "advice",
            Self::Bad => "bad",
            Self::NotAsked => "not asked",
        }
    }
}

impl From<Health> for &'static str {
    fn from(health: Health) -> Self {
        health.word()
    }
}

/// Fields of a mesh configuration (Istio's `MeshConfig`) of which any real one has some: Istio's
/// own installers write several.
const MESH_FIELDS: [&str; 12] = [
    "accessLogFile",
    "defaultConfig",
    "defaultProviders",
    "discoverySelectors",
    "enableAutoMtls",
    "enablePrometheusMerge",
    "enableTracing",
    "extensionProviders",
    "meshMTLS",
    "outboundTrafficPolicy",
    "rootNamespace",
    "trustDomain",
];

/// Reads a mesh configuration.
///
/// # Errors
/// If it is no YAML, or something else: what is not there is not as it should be, and not as it is
/// by default either.
pub fn read_mesh(text: &str) -> Result<Value, RenderError> {
    // An empty file is no document at all.
    let config: Option<Value> = serde_saphyr::from_str(text)
        .map_err(|error| RenderError::new("mesh", error.to_string()))?;
    let config = config.unwrap_or_default();
    if MESH_FIELDS.iter().any(|field| config.get(field).is_some()) {
        Ok(config)
    } else {
        Err(RenderError::new(
            "mesh",
            "this is no mesh configuration: it has none of its fields",
        ))
    }
}

/// Reads istiod's environment.
///
/// # Errors
/// If no line is `PILOT_NAME=VALUE`: istiod's own installers set several.
pub fn read_environment(text: &str) -> Result<&str, RenderError> {
    let is_one = |line: &str| {
        let name = line.trim().split_once('=').map_or("", |(name, _)| name);
        name.starts_with("PILOT_") && !name.contains(char::is_whitespace)
    };
    if text.lines().any(is_one) {
        Ok(text)
    } else {
        Err(RenderError::new(
            "istiod",
            "this is no environment of istiod: no line of it is PILOT_NAME=VALUE",
        ))
    }
}

/// Checks istiod's environment, given as `NAME=VALUE` lines.
#[must_use]
pub fn istiod(environment: &str, needs: &Needs) -> Vec<Finding> {
    let traffic = &needs.traffic;
    let value = |name: &str| {
        environment
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .rfind(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().trim_matches('"').to_owned())
    };
    let scope = value("PILOT_SCOPE_GATEWAY_TO_NAMESPACE");
    let exchange = value("PILOT_ENABLE_METADATA_EXCHANGE");
    let mut findings = vec![
        Finding {
            setting: "PILOT_SCOPE_GATEWAY_TO_NAMESPACE",
            wanted: "true".to_owned(),
            health: health(scope.as_deref() == Some("true")),
            found: scope,
            why: "otherwise a Gateway of any namespace can add ports to the egress gateway",
        },
        Finding {
            setting: "PILOT_ENABLE_METADATA_EXCHANGE",
            wanted: "true".to_owned(),
            health: health(traffic.labels.is_empty() || exchange.as_deref() != Some("false")),
            found: exchange,
            why: "otherwise sidecars do not send their labels, and rules that select by labels \
                  accept nothing",
        },
    ];
    if !traffic.labels.is_empty() {
        let labels: Vec<_> = traffic.labels.iter().map(String::as_str).collect();
        let found = value("PILOT_MX_ADDITIONAL_LABELS");
        let sent: Vec<_> = found
            .as_deref()
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .collect();
        findings.push(Finding {
            setting: "PILOT_MX_ADDITIONAL_LABELS",
            wanted: labels.join(","),
            health: health(labels.iter().all(|label| sent.contains(label))),
            found,
            why: "otherwise these labels do not travel, and rules that select by them accept \
                  nothing",
        });
    }
    findings
}

/// Reads what Envoy answers to `/server_info`.
///
/// # Errors
/// If it says no version.
pub fn read_server_info(info: Value) -> Result<Value, RenderError> {
    if info.get("version").is_some_and(Value::is_string) {
        Ok(info)
    } else {
        Err(RenderError::new(
            "server_info",
            "this is no answer to `GET server_info`: it says no version",
        ))
    }
}

/// Checks the version of a gateway pod's Envoy, by its answer to `/server_info`.
#[must_use]
pub fn envoy(server_info: &Value) -> Finding {
    let problem = addresses::server_info(server_info);
    Finding {
        setting: "the gateway's Envoy",
        wanted: "1.39 or later".to_owned(),
        health: health(problem.is_none()),
        found: server_info
            .get("version")
            .and_then(Value::as_str)
            .map(str::to_owned),
        why: "an older one connects to forbidden addresses: it ignores what leaves them out of what \
              a name resolves to",
    }
}

/// Checks the mesh configuration, as read from YAML.
#[must_use]
pub fn mesh(config: &Value, needs: &Needs) -> Vec<Finding> {
    let trust_domains = &needs.trust_domains;
    let text = |pointer: &str| {
        let value = config.pointer(pointer)?;
        Some(
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        )
    };
    let domain = text("/trustDomain");
    let headers = text("/defaultConfig/proxyHeaders/metadataExchangeHeaders/mode");
    let dns = text("/defaultConfig/proxyMetadata/ISTIO_META_DNS_CAPTURE");
    let mode = text("/outboundTrafficPolicy/mode");
    let flags = FLAGS.iter().map(|(flag, setting, wanted)| {
        let found = runtime_value(config, flag);
        Finding {
            setting,
            wanted: (*wanted).to_owned(),
            health: health(found.as_deref().is_none_or(|found| found == *wanted)),
            found,
            why: "otherwise what a tunnel loses when the server closes first looks like all there \
                  is: a short file without an error, where the default is a reset",
        }
    });
    let mut findings = vec![
        Finding {
            setting: "trustDomain",
            wanted: trust_domains.join(" or "),
            health: health(
                trust_domains
                    .iter()
                    .any(|known| known == domain.as_deref().unwrap_or("cluster.local")),
            ),
            found: domain,
            why: "otherwise no certificate of the mesh counts for the policy",
        },
        Finding {
            setting: "defaultConfig.proxyHeaders.metadataExchangeHeaders.mode",
            wanted: "IN_MESH".to_owned(),
            health: advice(headers.as_deref() == Some("IN_MESH")),
            found: headers,
            why: "otherwise sidecars that do not go through the gateway send the mesh's metadata \
                  to outside hosts",
        },
        Finding {
            setting: "outboundTrafficPolicy.mode",
            wanted: "REGISTRY_ONLY".to_owned(),
            health: advice(mode.as_deref() == Some("REGISTRY_ONLY")),
            found: mode,
            why: "namespaces that are not rolled out yet otherwise go straight out",
        },
        Finding {
            setting: "defaultConfig.proxyMetadata.ISTIO_META_DNS_CAPTURE",
            wanted: "true".to_owned(),
            health: if needs.dns_capture {
                health(dns.as_deref() == Some("true"))
            } else {
                advice(dns.as_deref() == Some("true"))
            },
            found: dns,
            why: if needs.dns_capture {
                "otherwise applications are not told the addresses of names over opaque TCP \
                 (tunnel.names: DNSCapture), and rules that take them match nothing"
            } else {
                "applications must resolve names before the sidecar sees the connection; with \
                  capture they ask the sidecar"
            },
        },
    ];
    findings.extend(flags);
    findings
}

/// Envoy's runtime flags that turn a cut download into one that looks whole (`docs/evidence/envoy.md`), how
/// they are set for all proxies, and their defaults, which are as they have to be.
const FLAGS: [(&str, &str, &str); 3] = [
    (
        "envoy.reloadable_features.allow_multiplexed_upstream_half_close",
        "defaultConfig.runtimeValues[envoy.reloadable_features.allow_multiplexed_upstream_half_close]",
        "false",
    ),
    (
        "envoy.reloadable_features.map_http_stream_reset_to_tcp_rst",
        "defaultConfig.runtimeValues[envoy.reloadable_features.map_http_stream_reset_to_tcp_rst]",
        "true",
    ),
    (
        "envoy.reloadable_features.propagate_upstream_rst_through_tunneled_tcp_proxy",
        "defaultConfig.runtimeValues[envoy.reloadable_features.propagate_upstream_rst_through_tunneled_tcp_proxy]",
        "true",
    ),
];

/// What a mesh configuration sets a runtime flag to, in Envoy's words: `ProxyConfig.runtimeValues`.
fn runtime_value(config: &Value, flag: &str) -> Option<String> {
    let value = config.pointer("/defaultConfig/runtimeValues")?.get(flag)?;
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    // As Envoy reads it.
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "1" => "true".to_owned(),
        "0" => "false".to_owned(),
        other => other.to_owned(),
    })
}

fn health(good: bool) -> Health {
    if good { Health::Good } else { Health::Bad }
}

fn advice(good: bool) -> Health {
    if good { Health::Good } else { Health::Advice }
}

#[cfg(test)]
mod tests;
