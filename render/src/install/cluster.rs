//! The cluster around it: names, addresses, DNS, what its administrator grants.

use egress_policy::address::{Environment, Nat64Prefixes, NotNat64};
use ipnet::{IpNet, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::networks::Networks;

/// How the gateway resolves names.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dns {
    /// Addresses of DNS resolvers, port 53. An empty list uses the gateway pod's own resolvers.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub resolvers: Vec<std::net::IpAddr>,
    /// The address families that the gateway connects to.
    #[serde(default)]
    pub family: Family,
}

/// The address families that the gateway connects to.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
pub enum Family {
    /// IPv4 and IPv6, for dual-stack gateways.
    #[default]
    All,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Names and networks of the cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cluster {
    /// The cluster's DNS domain.
    #[serde(default = "cluster_local")]
    pub domain: String,
    /// The mesh's trust domain, as in the certificates of this cluster's pods.
    #[serde(default = "cluster_local")]
    pub trust_domain: String,
    /// The namespace of the cluster's DNS.
    #[serde(default = "kube_system")]
    pub dns_namespace: String,
    /// The namespace of istiod.
    #[serde(default = "istio_system")]
    pub istio_namespace: String,
    /// Domains of names in the mesh that are not Services, such as virtual machines.
    #[serde(default)]
    pub mesh_domains: Vec<String>,
    /// Namespaces whose pods may read the gateway's metrics. They must not be enforced.
    #[serde(default)]
    pub metrics_namespaces: Vec<String>,
    /// The cluster's own networks. Required for rendering.
    pub networks: Option<Networks>,
    /// Networks of the API server's addresses outside of pods.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub api_server: Vec<IpNet>,
    /// The TCP ports of the API server: of its Service and of its endpoints.
    #[serde(default = "api_server_ports")]
    pub api_server_ports: Vec<u16>,
    /// Network-specific NAT64 prefixes (RFC 6052) by which the gateway reaches IPv4, in addition to
    /// the well-known prefix. A forbidden IPv4 address is also forbidden behind each prefix.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub nat64_prefixes: Vec<Ipv6Net>,
    /// Renders the cluster administrator's network policies, which no namespace can override.
    pub admin_policies: Option<AdminPolicies>,
}

/// The cluster administrator's network policies.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AdminPolicies {
    /// The API that the cluster's network plugin implements.
    pub api: AdminApi,
    /// The first priority to use (Calico: order). Each rendered policy takes the next one. Cilium has
    /// none.
    #[serde(default = "hundred")]
    pub priority: u32,
}

/// The APIs for the administrator's network policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AdminApi {
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`, the predecessor.
    AdminNetworkPolicy,
    /// Cilium's, `cilium.io/v2`.
    CiliumClusterwideNetworkPolicy,
    /// Calico's, `projectcalico.org/v3`.
    GlobalNetworkPolicy,
}

const fn hundred() -> u32 {
    100
}

fn cluster_local() -> String {
    "cluster.local".to_owned()
}

fn kube_system() -> String {
    "kube-system".to_owned()
}

fn istio_system() -> String {
    "istio-system".to_owned()
}

fn api_server_ports() -> Vec<u16> {
    vec![443, 6443]
}

impl Cluster {
    /// The stated NAT64 prefixes.
    ///
    /// # Errors
    /// If one of them is none.
    pub(crate) fn nat64(&self) -> Result<Nat64Prefixes, NotNat64> {
        let prefixes = self.nat64_prefixes.iter();
        prefixes
            .copied()
            .try_fold(Nat64Prefixes::NONE, Nat64Prefixes::with)
    }

    /// What no name may lead to, whatever a policy says: the cluster's own networks and the API
    /// server, also behind NAT64.
    pub(crate) fn environment(&self) -> Environment {
        Environment {
            networks: [self.own_networks(), self.api_server.clone()].concat(),
            // Checked with everything else of the settings.
            nat64: self.nat64().unwrap_or_default(),
        }
    }

    /// The cluster's own networks as one list, aggregated and sorted: of pods, Services and nodes.
    /// Settings that were checked have them.
    #[must_use]
    pub fn own_networks(&self) -> Vec<IpNet> {
        self.networks
            .as_ref()
            .map(Networks::all)
            .unwrap_or_default()
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            domain: cluster_local(),
            trust_domain: cluster_local(),
            dns_namespace: kube_system(),
            istio_namespace: istio_system(),
            mesh_domains: Vec::new(),
            metrics_namespaces: Vec::new(),
            networks: None,
            api_server: Vec::new(),
            api_server_ports: api_server_ports(),
            nat64_prefixes: Vec::new(),
            admin_policies: None,
        }
    }
}
