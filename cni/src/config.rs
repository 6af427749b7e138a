//! What only node administrators decide: who is guarded and what a guarded pod may reach.
//!
//! The file is JSON, owned by root on the node (the agent copies it there from a `ConfigMap`
//! in its own namespace). Nothing a pod carries, neither annotation nor label, can lift the
//! guard; labels only select which of the administrator's UDP exceptions apply.
//!
//! Every field is checked when the file is read. An unknown field, an empty list where one
//! must be stated, a network as wide as the internet: all are errors, because a guard built
//! from half-understood configuration is worse than a pod that does not start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The path that was tried.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The text is not JSON of the expected shape.
    #[error("`{path}` is not a valid configuration: {source}")]
    Shape {
        /// The path that was read.
        path: String,
        /// Where and why, with line and column.
        source: serde_json::Error,
    },
    /// The shape is right, the meaning is not.
    #[error("{field}: {problem}")]
    Meaning {
        /// The offending field, as a path from the document's root.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What happens to refused packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// They are counted, logged and dropped.
    #[default]
    Enforce,
    /// They are counted and logged, but not dropped. Use it before you enforce.
    Count,
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The keyword nftables uses.
    #[must_use]
    pub fn nft(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port or an inclusive range of ports; never empty, never port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "PortText", into = "String")]
pub struct PortRange {
    start: u16,
    end: u16,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
enum PortText {
    Number(u16),
    Text(String),
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self {
        start: 1,
        end: u16::MAX,
    };

    /// A single port; `None` for port 0, which no packet may carry.
    #[must_use]
    pub fn single(port: u16) -> Option<Self> {
        Self::bounded(port, port)
    }

    /// The range from `start` to `end`, both included; `None` if it is empty or contains 0.
    #[must_use]
    pub fn bounded(start: u16, end: u16) -> Option<Self> {
        (start != 0 && start <= end).then_some(Self { start, end })
    }

    /// First and last port.
    #[must_use]
    pub fn bounds(self) -> (u16, u16) {
        (self.start, self.end)
    }
}

impl TryFrom<PortText> for PortRange {
    type Error = String;
    fn try_from(text: PortText) -> Result<Self, String> {
        match text {
            PortText::Number(port) => {
                Self::single(port).ok_or_else(|| "port 0 is not a port".to_owned())
            }
            PortText::Text(text) => text.parse(),
        }
    }
}

impl FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (start, end) = text.split_once('-').unwrap_or((text, text));
        let parse = |part: &str| -> Result<u16, String> {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| part.parse().ok())
                .flatten()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("`{text}` is not a port or a range such as `8000-8999`"))
        };
        let (start, end) = (parse(start)?, parse(end)?);
        if start > end {
            return Err(format!("`{text}` ends before it starts"));
        }
        Ok(Self { start, end })
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)
        } else {
            write!(f, "{}-{}", self.start, self.end)
        }
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

/// Destinations outside the cluster networks that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reach {
    /// Destination networks, compared after DNAT.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub networks: Vec<IpNet>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Destination ports. A port, or `"FIRST-LAST"`.
    pub ports: Vec<PortRange>,
}

/// A Kubernetes Service whose endpoints the agent follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
}

impl TryFrom<String> for ServiceName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if is_dns_label(namespace) && is_dns_label(name) => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!("`{text}` is not NAMESPACE/NAME")),
        }
    }
}

impl From<ServiceName> for String {
    fn from(service: ServiceName) -> Self {
        service.to_string()
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The cluster's DNS resolvers, the only ones that a guarded pod may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Dns {
    /// Fixed resolver addresses, port 53 over UDP and TCP, such as a node-local cache
    /// (`169.254.20.10`).
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<IpAddr>,
    /// Services whose ready endpoints are resolvers, as `NAMESPACE/NAME`, usually
    /// `kube-system/kube-dns`.
    pub services: Vec<ServiceName>,
}

/// The egress gateway: what guarded pods may reach of it, and what its own pods may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// The namespace of the gateway's pods.
    pub namespace: String,
    /// The service account of the gateway's pods. Pods of this namespace and service account may
    /// reach the outside.
    pub service_account: String,
    /// Services of the gateway, as `NAMESPACE/NAME`. The agent follows their endpoints. State
    /// `services`, `addresses` or both.
    #[serde(default)]
    pub services: Vec<ServiceName>,
    /// Fixed addresses of a gateway without a Service.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<IpAddr>,
    /// The ports that the gateway's pods listen on for workloads. All other ports of a gateway
    /// address are closed to guarded pods. A port, or `"FIRST-LAST"`.
    pub ports: Vec<PortRange>,
    /// Private destinations of the gateway itself, such as the control plane, collectors and the
    /// networks of policies with `allowPrivate`.
    #[serde(default)]
    pub reach: Vec<Reach>,
    /// Services whose endpoints the gateway itself may reach, usually `istio-system/istiod`.
    #[serde(default)]
    pub reach_services: Vec<ServiceName>,
    /// How many connections one pod may open to the gateway.
    #[serde(default)]
    pub limits: GatewayLimits,
}

/// Limits for the connections of one pod address to the gateway, each 1 to 1,000,000. The first
/// packet of a connection beyond a limit is dropped and counted; the pod's TCP sends it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayLimits {
    /// Open connections. Connections in `TIME_WAIT` and `CLOSE` do not count (`nf_conncount`).
    pub connections: u32,
    /// New connections per second in the long run.
    pub new_connections_per_second: u32,
    /// New connections at once before the rate applies.
    pub burst: u32,
}

impl Default for GatewayLimits {
    /// Room for a tunnel per connection (HTTP/1.1 framing) of a busy pod; a fiftieth of what
    /// a gateway accepts in all by default.
    fn default() -> Self {
        Self {
            connections: 1000,
            new_connections_per_second: 100,
            burst: 200,
        }
    }
}

impl GatewayLimits {
    /// The most that nftables takes for each of the three.
    const MOST: u32 = 1_000_000;

    fn check(self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("connections", self.connections),
            ("newConnectionsPerSecond", self.new_connections_per_second),
            ("burst", self.burst),
        ] {
            if !(1..=Self::MOST).contains(&value) {
                return Err(meaning(
                    format!("gateway.limits.{field}"),
                    format!("expected 1 to {}", Self::MOST),
                ));
            }
        }
        Ok(())
    }
}

/// Direct UDP traffic of some pods. The agent reads no policy; `warden render --udp-exceptions`
/// prints the list for the UDP rules of the policies. The kernel identifies a pod by what the API
/// server states of it, so an exception names namespaces, and labels only narrow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UdpException {
    /// The name of the exception, for messages.
    pub name: String,
    /// Namespaces whose pods may use it.
    pub namespaces: Vec<String>,
    /// Labels that the pod must also have.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// Destination networks.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub networks: Vec<IpNet>,
    /// Destination ports. A port, or `"FIRST-LAST"`.
    pub ports: Vec<PortRange>,
}

/// The configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// What happens to refused packets.
    #[serde(default)]
    pub mode: Mode,
    /// Namespaces where refused packets are counted and logged, but not dropped, for a roll-out by
    /// namespace.
    #[serde(default)]
    pub count_only_namespaces: BTreeSet<String>,
    /// Namespaces whose pods are not guarded at all.
    pub exempt_namespaces: BTreeSet<String>,
    /// Networks of pods, and of nodes where pods must reach nodes, compared with the real address
    /// after DNAT. At most /8 (IPv4) and /7 (IPv6) wide. Not the Service range: a Service whose
    /// endpoint is outside is outside. `warden render --node-networks` prints this field and the
    /// next.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub cluster_networks: Vec<IpNet>,
    /// Networks of Services. A forwarded packet that still has such an address has no endpoint and
    /// is answered with an ICMP error.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub service_networks: Vec<IpNet>,
    /// The cluster's DNS resolvers, the only ones that a guarded pod may use.
    pub dns: Dns,
    /// Further destinations of every guarded pod, such as API server endpoints outside the cluster
    /// networks or ports of nodes.
    #[serde(default)]
    pub reach: Vec<Reach>,
    /// Services whose endpoints every guarded pod may reach, as `NAMESPACE/NAME`, usually
    /// `default/kubernetes`.
    #[serde(default)]
    pub reach_services: Vec<ServiceName>,
    /// The egress gateway. Absent until a gateway is installed.
    #[serde(default)]
    pub gateway: Option<Gateway>,
    /// Cloud metadata addresses that guarded pods may reach.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeSet<String>"))]
    pub allow_metadata: BTreeSet<IpAddr>,
    /// Direct UDP traffic of some pods.
    #[serde(default)]
    pub udp_exceptions: Vec<UdpException>,
}

impl NodeConfig {
    /// The JSON Schema of a node's configuration (2020-12), for its reference page.
    #[cfg(feature = "schema")]
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// What one pod may have of the gateway; without a gateway it limits nothing.
    #[must_use]
    pub fn gateway_limits(&self) -> GatewayLimits {
        self.gateway
            .as_ref()
            .map(|gateway| gateway.limits)
            .unwrap_or_default()
    }

    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong; no part of a refused file is used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_text(path).map(|(config, _)| config)
    }

    /// The same, and the text that it was read from: the file may be another one a moment later.
    ///
    /// # Errors
    /// As [`NodeConfig::load`].
    pub fn load_text(path: &Path) -> Result<(Self, String), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.display().to_string(),
            source,
        })?;
        let config = Self::parse(&path.display().to_string(), &text)?;
        Ok((config, text))
    }

    /// Parses and checks `text`; `origin` names it in messages.
    ///
    /// # Errors
    /// [`ConfigError::Shape`] or [`ConfigError::Meaning`].
    pub fn parse(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_str(text).map_err(|source| ConfigError::Shape {
            path: origin.to_owned(),
            source,
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for namespace in self
            .exempt_namespaces
            .iter()
            .chain(&self.count_only_namespaces)
        {
            check_namespace("exemptNamespaces/countOnlyNamespaces", namespace)?;
        }
        if self.cluster_networks.is_empty() {
            return Err(meaning("clusterNetworks", "must name at least one network"));
        }
        for network in &self.cluster_networks {
            check_cluster_network(network)?;
        }
        check_reach("reach", &self.reach)?;
        if let Some(gateway) = &self.gateway {
            self.check_gateway(gateway)?;
        }
        for (index, exception) in self.udp_exceptions.iter().enumerate() {
            check_exception(index, exception)?;
        }
        Ok(())
    }

    fn check_gateway(&self, gateway: &Gateway) -> Result<(), ConfigError> {
        check_namespace("gateway.namespace", &gateway.namespace)?;
        if self.exempt_namespaces.contains(&gateway.namespace) {
            return Err(meaning(
                "exemptNamespaces",
                "the gateway's namespace has a guard of its own and cannot be exempt",
            ));
        }
        if gateway.service_account.is_empty() {
            return Err(meaning("gateway.serviceAccount", "must not be empty"));
        }
        if gateway.ports.is_empty() {
            return Err(meaning(
                "gateway.ports",
                "must name the gateway's rendered ports",
            ));
        }
        if gateway.services.is_empty() && gateway.addresses.is_empty() {
            return Err(meaning("gateway", "needs `services` or `addresses`"));
        }
        gateway.limits.check()?;
        check_reach("gateway.reach", &gateway.reach)
    }
}

fn meaning(field: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Meaning {
        field: field.into(),
        problem: problem.into(),
    }
}

/// A name as Kubernetes accepts it for namespaces and Services (RFC 1123 label).
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
}

fn check_namespace(field: &str, name: &str) -> Result<(), ConfigError> {
    if is_dns_label(name) {
        Ok(())
    } else {
        Err(meaning(field, format!("`{name}` is not a namespace name")))
    }
}

/// Private pod networks are at most `/8` and `/7`; anything wider lets the internet in.
fn check_cluster_network(network: &IpNet) -> Result<(), ConfigError> {
    let narrowest = match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 7,
    };
    if network.prefix_len() < narrowest {
        return Err(meaning(
            "clusterNetworks",
            format!("`{network}` is wider than any cluster: at least /{narrowest}"),
        ));
    }
    Ok(())
}

fn check_reach(field: &str, list: &[Reach]) -> Result<(), ConfigError> {
    for (index, reach) in list.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if reach.networks.is_empty() || reach.ports.is_empty() {
            return Err(meaning(field, "`networks` and `ports` must not be empty"));
        }
        if let Some(network) = reach
            .networks
            .iter()
            .find(|network| network.prefix_len() == 0)
        {
            return Err(meaning(
                field,
                format!("`{network}` is everything: name the destination"),
            ));
        }
    }
    Ok(())
}

fn check_exception(index: usize, exception: &UdpException) -> Result<(), ConfigError> {
    let field = format!("udpExceptions[{index}]");
    let UdpException {
        name,
        namespaces,
        match_labels: _,
        networks,
        ports,
    } = exception;
    if name.is_empty() || namespaces.is_empty() || networks.is_empty() || ports.is_empty() {
        return Err(meaning(
            field,
            "`name`, `namespaces`, `networks` and `ports` must all be stated",
        ));
    }
    for namespace in namespaces {
        check_namespace(&field, namespace)?;
    }
    if let Some(network) = networks.iter().find(|network| network.prefix_len() == 0) {
        return Err(meaning(
            field,
            format!("`{network}` is everything: name the destination"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
