//! The egress gateway: where it is, its ports, its pods.

use std::collections::BTreeMap;

use egress_policy::ports::StatedPorts;
use serde::Deserialize;

use super::Family;

/// The egress gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Gateway {
    /// Its namespace, which holds nothing else.
    pub namespace: String,
    /// Its Service.
    pub service: String,
    /// Its service account.
    pub service_account: String,
    /// The labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// The API that its ports are declared by.
    #[serde(default)]
    pub api: GatewayApi,
    /// Its ports.
    #[serde(default)]
    pub ports: GatewayPorts,
    /// What ports carry, beside what the first policy says of them.
    #[serde(default)]
    pub protocols: PortProtocols,
    /// The folder of the gateway's pods where the secrets of destinations with `tls` are mounted,
    /// each in a folder of its own name.
    #[serde(default = "secrets")]
    pub secrets: String,
    /// The family of its pods' first address, which the kubelet probes. If not said it is that of
    /// `dns.family`, IPv4 where that is both.
    pub pod_family: Option<Family>,
    /// Render its Deployment, Service and scaling too.
    pub deployment: Option<Deployment>,
    /// Envoy's worker threads in a pod of a gateway that is not rendered: what one workload may take
    /// is divided among them. If not said, they are taken for more than most gateways have.
    pub workers: Option<u32>,
    /// Seconds after which a stream ends, whatever it carries. A running stream keeps the policy
    /// under which it began, so this is how long a changed policy, an expired rule or a rotated
    /// certificate can take to hold everywhere.
    #[serde(default = "hour")]
    pub max_stream_seconds: u32,
    /// Whether a changed policy also ends the streams that began under an older one, within about
    /// three seconds and at their next byte. If not said: where the policy revokes a workload.
    pub recheck_on_update: Option<bool>,
    /// One accepted verdict in this many is logged; 0 is none, and every one if not said.
    pub log_accepts: Option<u32>,
    /// Whether the gateway writes a line to standard output for each request, tunnel and connection
    /// when it ends, with the address that was connected to.
    #[serde(default = "yes")]
    pub access_log: bool,
}

/// What ports carry in the mesh, for every workload. Later policies cannot change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortProtocols {
    /// Ports that carry HTTP, beside 80.
    pub http: Vec<u16>,
    /// Ports that carry TLS of the application's own, beside 443.
    pub tls: Vec<u16>,
    /// Ports that carry opaque TCP, which a rule of the first policy may not change either.
    pub tcp: Vec<u16>,
}

impl PortProtocols {
    /// As the engine takes them.
    #[must_use]
    pub fn stated(&self) -> StatedPorts {
        StatedPorts {
            http: self.http.clone(),
            tls: self.tls.clone(),
            tcp: self.tcp.clone(),
        }
    }
}

/// The two APIs for gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum GatewayApi {
    /// Istio's own `Gateway`.
    #[default]
    Istio,
    /// The Kubernetes Gateway API. The gateway's pods carry the label
    /// `gateway.networking.k8s.io/gateway-name: egress-warden`, by which policies find them.
    Kubernetes,
}

fn secrets() -> String {
    "/etc/egress-warden".to_owned()
}

/// The gateway's own Deployment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Deployment {
    /// Fewest pods; at least two stay up during a drain.
    #[serde(default = "two")]
    pub min_replicas: u32,
    /// Most pods.
    #[serde(default = "ten")]
    pub max_replicas: u32,
    /// Mean CPU use in percent at which pods are added.
    #[serde(default = "seventy")]
    pub cpu_percent: u32,
    /// Seconds that a pod may take to end its streams: no fewer than the longest stream has, which
    /// is the default.
    pub drain_seconds: Option<u32>,
    /// Envoy's worker threads in a pod.
    #[serde(default = "two")]
    pub workers: u32,
    /// What a pod asks for and may use at most, as Kubernetes writes it. Left out: as much memory as
    /// the module needs for these workers and policies.
    pub resources: Option<serde_json::Value>,
    /// Labels of the nodes that pods run on, such as those with a fixed source address.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that pods bear, as Kubernetes writes them.
    #[serde(default)]
    pub tolerations: Vec<serde_json::Value>,
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            min_replicas: two(),
            max_replicas: ten(),
            cpu_percent: seventy(),
            drain_seconds: None,
            workers: two(),
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        }
    }
}

const fn two() -> u32 {
    2
}

const fn ten() -> u32 {
    10
}

const fn seventy() -> u32 {
    70
}

const fn yes() -> bool {
    true
}

const fn hour() -> u32 {
    3600
}

/// The life of a workload's certificate where Istio's settings do not say otherwise
/// (`DEFAULT_WORKLOAD_CERT_TTL`): no stream outlives the identity that it began with.
pub(super) const LONGEST_STREAM: u32 = 24 * 3600;

/// The gateway's ports. Container and Service port are the same number.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewayPorts {
    /// HTTP requests.
    pub http: u16,
    /// CONNECT tunnels.
    pub tunnel: u16,
    /// Kubernetes' readiness probe. It is on no Service.
    #[serde(default = "ready")]
    pub ready: u16,
}

const fn ready() -> u16 {
    15_029
}

impl Default for GatewayPorts {
    fn default() -> Self {
        Self {
            http: 8080,
            tunnel: 8443,
            ready: ready(),
        }
    }
}
