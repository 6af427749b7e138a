//! The cluster's own networks: what is no egress.

use std::fmt;

use egress_policy::address::{SPECIAL, Special, parse_network, special};
use egress_policy::model::{Hosts, Policy};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::error::RenderError;

/// The cluster's own networks. Sidecars send traffic for them directly, the node guard lets it pass,
/// and no name may resolve to them. All other addresses, including on-premises private networks, go
/// through the gateway and need a rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Networks {
    /// The networks of pods, which contain nothing but pods of this cluster. `registered` if pods
    /// share subnets with other machines, as in flat cloud networks: then only the addresses of
    /// Services, and of pods behind headless Services, are the cluster's own.
    #[schemars(with = "WrittenPods")]
    pub pods: PodNetworks,
    /// The networks of Services (`--service-cluster-ip-range`, `ServiceCIDR` objects).
    #[serde(deserialize_with = "networks")]
    #[schemars(with = "Vec<String>")]
    pub services: Vec<IpNet>,
    /// The networks of nodes and of pods with `hostNetwork`. Enforced pods can reach every address
    /// in them. An empty list makes the gateway judge node addresses like any other.
    #[serde(deserialize_with = "networks")]
    #[schemars(with = "Vec<String>")]
    pub nodes: Vec<IpNet>,
}

/// Where pods have their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodNetworks {
    /// In networks that contain nothing but pods of this cluster.
    Networks(Vec<IpNet>),
    /// In subnets that they share with other machines, as in flat cloud networks: only pod
    /// addresses that the control plane knows count. Written as `registered`.
    Registered,
}

/// [`PodNetworks`] as the file has them, for the schema.
#[derive(JsonSchema)]
#[schemars(inline, untagged)]
#[expect(dead_code, reason = "the schema is made from the type, no value is")]
enum WrittenPods {
    Networks(Vec<String>),
    Word(PodWord),
}

#[derive(JsonSchema)]
#[schemars(inline, rename_all = "camelCase")]
#[expect(dead_code, reason = "the schema is made from the type, no value is")]
enum PodWord {
    Registered,
}

impl PodNetworks {
    /// The networks; none if they cannot be said.
    #[must_use]
    pub fn networks(&self) -> &[IpNet] {
        match self {
            Self::Networks(networks) => networks,
            Self::Registered => &[],
        }
    }
}

const REGISTERED: &str = "registered";

impl<'de> Deserialize<'de> for PodNetworks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = PodNetworks;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of networks, or the word `{REGISTERED}`")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<PodNetworks, E> {
                if word == REGISTERED {
                    return Ok(PodNetworks::Registered);
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<PodNetworks, A::Error> {
                networks(SeqAccessDeserializer::new(items)).map(PodNetworks::Networks)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Strictly, as policies write them: `10.0.0.1/8` is a mistake, not `10.0.0.0/8`.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = texts.iter().map(|text| {
        parse_network(text)
            .map_err(|error| D::Error::custom(format!("`{text}`: {error} ({})", error.hint())))
    });
    parsed.collect()
}

impl Networks {
    /// All of them: no name may lead there, and a rule about them never sees a packet. Aggregated
    /// and sorted, IPv4 first.
    #[must_use]
    pub fn all(&self) -> Vec<IpNet> {
        let all = [self.pods.networks(), &self.services, &self.nodes].concat();
        IpNet::aggregate(&all)
    }

    /// What the node guard's configuration (`cni/`) has to say of them: `clusterNetworks`, judged
    /// after DNAT, and `serviceNetworks`, which nothing may still carry there. Together they are
    /// [`Networks::all`].
    #[must_use]
    pub fn node_guard(&self) -> Value {
        let texts = |networks: &[IpNet]| {
            let networks = IpNet::aggregate(&networks.to_vec());
            networks.iter().map(IpNet::to_string).collect::<Vec<_>>()
        };
        json!({
            "clusterNetworks": texts(&[self.pods.networks(), &self.nodes].concat()),
            "serviceNetworks": texts(&self.services),
        })
    }

    /// Each list with its place in the settings.
    fn lists(&self) -> [(&'static str, &[IpNet]); 3] {
        [
            (PODS, self.pods.networks()),
            (SERVICES, &self.services),
            (NODES, &self.nodes),
        ]
    }

    /// What cannot be: an empty list, and addresses that no cluster has.
    pub(super) fn check(&self, problems: &mut Vec<RenderError>) {
        let mut wrong =
            |place: &str, message: String| problems.push(RenderError::new(place, message));
        if self.pods == PodNetworks::Networks(Vec::new()) {
            let message = format!(
                "an empty list would send pods through the gateway: name the networks of pods, or \
                 write `{REGISTERED}` where pods share subnets with other machines"
            );
            wrong(PODS, message);
        }
        if self.services.is_empty() {
            let message = "an empty list would send Services through the gateway: name the API \
                           server's --service-cluster-ip-range (kubectl get servicecidrs)";
            wrong(SERVICES, message.to_owned());
        }
        for node in &self.nodes {
            let overlaps = |pod: &&IpNet| pod.contains(node) || node.contains(*pod);
            if let Some(pod) = self.pods.networks().iter().find(overlaps) {
                let message = format!(
                    "`{node}` has pods in it (`{pod}`), and what is open at nodes would be open at \
                     every pod: leave such nodes out, and write `pods: {REGISTERED}` where pods \
                     share subnets with other machines"
                );
                wrong(NODES, message);
            }
        }
        for (place, networks) in self.lists() {
            for network in networks {
                if let Some(inside) = never(network) {
                    wrong(
                        place,
                        format!(
                            "`{network}` has {inside} in it: state the networks of the cluster alone"
                        ),
                    );
                }
            }
        }
    }

    /// Rules about addresses that no rule sees, since nothing there goes through the gateway.
    pub(crate) fn unseen(&self, policies: &[Policy]) -> Vec<RenderError> {
        let own = self.all();
        let mut found = Vec::new();
        for placed in policies.iter().flat_map(Policy::rules) {
            for to in &placed.rule.to {
                let Hosts::Networks(named) = &to.hosts else {
                    continue;
                };
                for network in &named.networks {
                    let meets = |own: &&IpNet| own.contains(network) || network.contains(*own);
                    if let Some(own) = own.iter().find(meets) {
                        let message = format!(
                            "`{network}` meets the cluster's network `{own}`, where nothing goes \
                             through the gateway"
                        );
                        found.push(RenderError::new(placed.basis().to_string(), message));
                    }
                }
            }
        }
        found
    }

    /// What is wider than a cluster needs: everything in it goes past the gateway.
    #[must_use]
    pub fn warnings(&self) -> Vec<RenderError> {
        let mut found = Vec::new();
        for (place, networks) in self.lists() {
            for network in networks {
                let widest = match network {
                    IpNet::V4(_) => WIDEST_V4,
                    IpNet::V6(_) => WIDEST_V6,
                };
                let message = if network.prefix_len() < widest {
                    format!("`{network}` is wider than a cluster needs (/{widest})")
                } else if is_public(network) {
                    format!("`{network}` is public address space")
                } else {
                    continue;
                };
                let message = format!("{message}: everything in it goes past the gateway");
                found.push(RenderError::new(place, message));
            }
        }
        found
    }
}

pub(super) const PLACE: &str = "spec.cluster.networks";
/// What is said where they are not stated.
pub(super) const MISSING: &str = "the cluster's own networks are not stated, and sidecars would send \
     pods through the gateway: write `networks: {pods: [CIDR...], services: [CIDR...], nodes: \
     [CIDR...]}` (`pods: registered` where pods share subnets with other machines)";

const PODS: &str = "spec.cluster.networks.pods";
const SERVICES: &str = "spec.cluster.networks.services";
const NODES: &str = "spec.cluster.networks.nodes";

const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 32;

/// Special addresses that a network has in it or lies in, and that are in no cluster: what a node
/// keeps for itself, and what a cloud answers on. Sent straight, they would be a way to the
/// metadata service.
fn never(network: &IpNet) -> Option<String> {
    let row = SPECIAL.iter().find(|row| {
        let overlaps = network.contains(&row.network) || row.network.contains(network);
        overlaps && !is_inside(row.kind)
    })?;
    Some(format!("{} addresses ({})", row.kind, row.network))
}

/// What a cluster may have taken for itself: some clouds give reserved addresses to pods.
const fn is_inside(kind: Special) -> bool {
    kind.opened_by_allow_private() || matches!(kind, Special::Reserved)
}

fn is_public(network: &IpNet) -> bool {
    let ends = [network.network(), network.broadcast()];
    !ends.iter().all(|end| special(*end).is_some_and(is_inside))
}

#[cfg(test)]
mod tests;
