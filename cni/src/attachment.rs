//! One pod interface as the plugin knows it, and how it is to be treated.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{NodeConfig, PortRange};
use ipnet::IpNet;

/// A network interface name that is safe to write into a rule: 1 to 15 bytes of letters,
/// digits, `.`, `_`, `-`, as in the CNI specification but without nftables' wildcard `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

impl LinkName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LinkName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=15).contains(&text.len()) && text.bytes().all(plain) && text != "." && text != ".."
        {
            Ok(Self(text))
        } else {
            Err(format!(
                "`{}` is not an interface name",
                text.escape_debug()
            ))
        }
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

impl std::fmt::Display for LinkName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of an attachment in the CNI protocol: container and interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentId {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`, the name inside the pod.
    pub ifname: String,
}

/// Everything the host must remember of a pod interface. Facts only: whether it is guarded is
/// decided anew from the configuration whenever rules are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Container and interface.
    #[serde(flatten)]
    pub id: AttachmentId,
    /// The network (conflist) that made it; GC concerns one network at a time.
    pub network: String,
    /// The pod's namespace; empty when the runtime named none.
    pub namespace: String,
    /// The pod's name; empty when the runtime named none.
    pub pod: String,
    /// The host side of the pod's veth pair.
    pub host_link: LinkName,
    /// The only source addresses the pod may use.
    pub addresses: Vec<IpAddr>,
}

/// What the API server says of a pod, for what `CNI_ARGS` does not carry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    /// The pod's service account.
    pub service_account: String,
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// The pod's UID, for events only; empty in records of agents that did not ask for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// One direct UDP destination of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpGrant {
    /// The destination network.
    pub network: IpNet,
    /// The destination ports.
    pub ports: PortRange,
}

/// How the rules treat a pod interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardMode {
    /// Its namespace is exempt: no rule names it.
    Exempt,
    /// A workload: cluster, resolvers, gateway, and its UDP grants.
    Guarded {
        /// Count and log, but let pass.
        count_only: bool,
        /// Direct UDP destinations.
        udp: Vec<UdpGrant>,
    },
    /// A pod of the egress gateway: the outside, and of the inside only what is stated.
    Gateway {
        /// Count and log, but let pass.
        count_only: bool,
    },
}

impl GuardMode {
    /// The UDP destinations that are granted.
    #[must_use]
    pub fn udp(&self) -> &[UdpGrant] {
        match self {
            Self::Guarded { udp, .. } => udp,
            Self::Exempt | Self::Gateway { .. } => &[],
        }
    }

    /// Decides it. Without `identity` a pod has the workload's base rules and no
    /// exception, also in the gateway's namespace: what is not known never opens anything.
    #[must_use]
    pub fn of(
        config: &NodeConfig,
        attachment: &Attachment,
        identity: Option<&PodIdentity>,
    ) -> Self {
        if config.exempt_namespaces.contains(&attachment.namespace) {
            return Self::Exempt;
        }
        let count_only = config.count_only_namespaces.contains(&attachment.namespace);
        let gateway = config.gateway.as_ref().is_some_and(|gateway| {
            gateway.namespace == attachment.namespace
                && identity
                    .is_some_and(|identity| identity.service_account == gateway.service_account)
        });
        if gateway {
            return Self::Gateway { count_only };
        }
        let udp = identity
            .map(|identity| udp_grants(config, &attachment.namespace, identity))
            .unwrap_or_default();
        Self::Guarded { count_only, udp }
    }
}

fn udp_grants(config: &NodeConfig, namespace: &str, identity: &PodIdentity) -> Vec<UdpGrant> {
    let applies = |rule: &&crate::config::UdpException| {
        rule.namespaces.iter().any(|name| name == namespace)
            && rule
                .match_labels
                .iter()
                .all(|(key, value)| identity.labels.get(key) == Some(value))
    };
    let mut grants = Vec::new();
    for rule in config.udp_exceptions.iter().filter(applies) {
        for network in &rule.networks {
            grants.extend(rule.ports.iter().map(|ports| UdpGrant {
                network: network.trunc(),
                ports: *ports,
            }));
        }
    }
    grants
}
