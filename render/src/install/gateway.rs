//! The egress gateway: where it is, its ports, its pods.

use std::collections::BTreeMap;

use egress_policy::ports::StatedPorts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Family;

/// The egress gateway.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Gateway {
    /// Its namespace, which must contain nothing else.
    pub namespace: String,
    /// Its Service.
    pub service: String,
    /// Its service account.
    pub service_account: String,
    /// The labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// The API that declares its ports.
    #[serde(default)]
    pub api: GatewayApi,
    /// Its ports. Each number is the port of both container and Service.
    #[serde(default)]
    pub ports: GatewayPorts,
    /// Which protocol a port carries, in addition to what the first policy states.
    #[serde(default)]
    pub protocols: PortProtocols,
    /// The folder in the gateway's pods that contains the Secrets of destinations with `tls`, each
    /// mounted in a folder of the Secret's name.
    #[serde(default = "secrets")]
    pub secrets: String,
    /// The address family of the pods' first address, which the kubelet probes. By default that of
    /// `dns.family`, or IPv4 if that is `All`.
    pub pod_family: Option<Family>,
    /// Renders the gateway's Deployment, Service and autoscaling. By default you deploy the gateway
    /// yourself.
    pub deployment: Option<Deployment>,
    /// The number of Envoy worker threads in a pod of a gateway that you deploy yourself. A
    /// workload's limits are divided among them. By default 8 is assumed.
    pub workers: Option<u32>,
    /// The longest duration of a stream in seconds, 1 to 86400. A running stream keeps the policy
    /// that it began under, so this is the longest time until a changed policy, an expired rule or
    /// a rotated certificate applies everywhere.
    #[serde(default = "hour")]
    pub max_stream_seconds: u32,
    /// Whether a changed policy ends the streams that began under an older one, within about three
    /// seconds and at their next byte. By default it does where the policy revokes a workload.
    pub recheck_on_update: Option<bool>,
    /// Log one accepted verdict in this many. 0 logs none. By default every one is logged.
    pub log_accepts: Option<u32>,
    /// Headers that the gateway removes from requests beside the mesh's own, such as `x-request-id`
    /// and `traceparent`, in lower case. By default traces go on outside: applications and their
    /// servers may rely on these headers.
    #[serde(default)]
    pub remove_headers: Vec<String>,
    /// Whether the gateway writes an [access log](log.md) line for each request, tunnel and
    /// connection.
    #[serde(default = "yes")]
    pub access_log: bool,
}

/// Which protocol a port carries, for every workload. Later policies cannot change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortProtocols {
    /// Ports that carry HTTP, in addition to 80.
    pub http: Vec<u16>,
    /// Ports that carry the application's own TLS, in addition to 443.
    pub tls: Vec<u16>,
    /// Ports that carry opaque TCP, whatever rules of the first policy state.
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

/// The API that declares the gateway's ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub enum GatewayApi {
    /// Istio's own `Gateway`.
    #[default]
    Istio,
    /// The Kubernetes Gateway API. The gateway's pods need the label
    /// `gateway.networking.k8s.io/gateway-name: egress-warden`.
    Kubernetes,
}

fn secrets() -> String {
    "/etc/egress-warden".to_owned()
}

/// The rendered Deployment of the gateway.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Deployment {
    /// The fewest pods. Use at least two, so that one stays up during a drain.
    #[serde(default = "two")]
    pub min_replicas: u32,
    /// The most pods.
    #[serde(default = "ten")]
    pub max_replicas: u32,
    /// The mean CPU use in percent above which pods are added.
    #[serde(default = "seventy")]
    pub cpu_percent: u32,
    /// Seconds that a terminating pod has to end its streams. Must not be less than
    /// `gateway.maxStreamSeconds`, which is the default.
    pub drain_seconds: Option<u32>,
    /// The number of Envoy worker threads in a pod.
    #[serde(default = "two")]
    pub workers: u32,
    /// Requests and limits of a pod, as in a Kubernetes container. By default as much memory as the
    /// module needs for these workers and policies.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub resources: Option<serde_json::Value>,
    /// Labels of the nodes that pods run on, such as nodes with a fixed source address.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the pods, as in a Kubernetes pod.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
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

/// The gateway's ports. Each number is the port of both container and Service.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewayPorts {
    /// The port for HTTP requests. 8080 if `ports` is absent.
    pub http: u16,
    /// The port for CONNECT tunnels. 8443 if `ports` is absent.
    pub tunnel: u16,
    /// The port for the readiness probe. It is on no Service.
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
