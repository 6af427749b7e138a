//! The install settings: what the policies do not say.

use std::collections::{BTreeMap, BTreeSet};

use egress_policy::canonical::is_digest;
use egress_policy::model::Policy;
use ipnet::IpNet;
use serde::Deserialize;

use crate::problem::Problem;

/// The first minor version whose proxies are known to send what is inspected to the device and
/// nowhere else (Envoy 1.40: `default_proxy_address`, routes that match filter state).
const FIRST_TO_INSPECT: u32 = 32;

/// The `apiVersion` of install settings.
pub const API_VERSION: &str = "warden.egress/v1alpha1";
/// The `kind` of install settings.
pub const KIND: &str = "Install";

/// Install settings, as the file says them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Install {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// The settings.
    pub spec: Spec,
}

/// The settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    /// The mesh.
    pub istio: Istio,
    /// The egress gateway.
    pub gateway: Gateway,
    /// The module's image.
    pub module: ModuleImage,
    /// The workloads whose egress is enforced.
    pub workloads: Workloads,
    /// Policies in their order of precedence; may be left out where there is only one.
    #[serde(default)]
    pub policies: Vec<PolicyGrant>,
    /// Devices that rules with `Inspect` may name.
    #[serde(default)]
    pub inspection: Vec<Device>,
    /// How the gateway resolves names.
    #[serde(default)]
    pub dns: Dns,
    /// What the network policies have to know about the cluster.
    #[serde(default)]
    pub cluster: Cluster,
    /// Admission policies against ways around the sidecar.
    #[serde(default)]
    pub guardrails: Guardrails,
}

/// The mesh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Istio {
    /// The oldest version of the mesh's proxies, such as `1.29`. Older proxies get no routes.
    pub version: String,
    /// The revision that every object is labelled with, where the mesh has several.
    pub revision: Option<String>,
    /// Whether the mesh has the `TrafficExtension` API; `WasmPlugin` is used otherwise.
    #[serde(default)]
    pub traffic_extension: bool,
}

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
    /// The folder of the gateway's pods where the secrets of destinations with `tls` are mounted,
    /// each in a folder of its own name.
    #[serde(default = "secrets")]
    pub secrets: String,
    /// The family of its pods' first address, which the kubelet probes. If not said it is that of
    /// `dns.family`, IPv4 where that is both.
    pub pod_family: Option<Family>,
    /// Render its Deployment, Service and scaling too.
    pub deployment: Option<Deployment>,
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

const fn hour() -> u32 {
    3600
}

/// The life of a workload's certificate where Istio's settings do not say otherwise
/// (`DEFAULT_WORKLOAD_CERT_TTL`): no stream outlives the identity that it began with.
const LONGEST_STREAM: u32 = 24 * 3600;

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

/// Where the module comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModuleImage {
    /// `oci://REGISTRY/NAME:TAG`, or `file:///PATH` on the gateway's own disk.
    pub url: String,
    /// SHA-256 of the image's manifest (`oci:`) or of the module (`file:`), in hexadecimal.
    pub sha256: Option<String>,
    /// A Kubernetes secret of the gateway's namespace for the registry.
    pub pull_secret: Option<String>,
    /// Where the policies are. Left out, they stand in the objects, up to 512 KiB; with `inline`
    /// they do so as far as objects go; a SHA-256 is that of the policies that the image carries.
    pub policy: Option<String>,
}

/// Where the policies are, if the settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyPlace<'i> {
    /// In the objects.
    Inline,
    /// In the module's image, with this hash.
    Image(&'i str),
}

impl ModuleImage {
    pub(crate) fn policy_place(&self) -> Option<PolicyPlace<'_>> {
        self.policy.as_deref().map(|policy| match policy {
            "inline" => PolicyPlace::Inline,
            hash => PolicyPlace::Image(hash),
        })
    }
}

/// The workloads whose egress is enforced.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Workloads {
    /// Their namespaces. Roll-out goes namespace by namespace.
    pub namespaces: Vec<String>,
}

/// A policy's place in the order, and what it may speak for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicyGrant {
    /// Its `metadata.name`.
    pub name: String,
    /// The namespaces that its `appliesTo` may name. Not for the first policy.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// An inspection device: a proxy that is asked to connect on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Device {
    /// The name by which rules know it.
    pub name: String,
    /// Its address, or a host name that the gateway resolves.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// How it is asked.
    #[serde(default)]
    pub protocol: DeviceProtocol,
    /// Its pods, if it runs in the cluster: they are closed to everybody but the gateway.
    pub pods: Option<DevicePods>,
}

/// How a device is asked to connect on.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum DeviceProtocol {
    /// By HTTP/1.1 CONNECT.
    #[default]
    #[serde(rename = "CONNECT")]
    Connect,
}

/// A device's pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DevicePods {
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub selector: BTreeMap<String, String>,
}

/// How the gateway resolves names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dns {
    /// Resolver addresses, port 53; none is the gateway pod's own configuration.
    #[serde(default)]
    pub resolvers: Vec<std::net::IpAddr>,
    /// Address families.
    #[serde(default)]
    pub family: Family,
}

/// The address families that the gateway connects to.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub enum Family {
    /// Both, for dual-stack gateways.
    #[default]
    All,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// What network policies have to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cluster {
    /// The cluster's DNS domain.
    #[serde(default = "cluster_local")]
    pub domain: String,
    /// The mesh's trust domain: that of the certificates of the pods here.
    #[serde(default = "cluster_local")]
    pub trust_domain: String,
    /// Namespace of the cluster's DNS.
    #[serde(default = "kube_system")]
    pub dns_namespace: String,
    /// Namespace of istiod.
    #[serde(default = "istio_system")]
    pub istio_namespace: String,
    /// Domains of names that lie in the mesh without being Services', such as virtual machines.
    #[serde(default)]
    pub mesh_domains: Vec<String>,
    /// Namespaces whose pods may read the gateway's metrics.
    #[serde(default)]
    pub metrics_namespaces: Vec<String>,
    /// Addresses of the API server that lie outside of pods.
    #[serde(default)]
    pub api_server: Vec<IpNet>,
    /// Render policies of the cluster's administrator too, which no namespace can override.
    pub admin_policies: Option<AdminPolicies>,
}

/// Policies of the cluster's administrator for its network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AdminPolicies {
    /// The API that the cluster's network has.
    pub api: AdminApi,
    /// The first priority that they take; each takes one of its own from there on.
    #[serde(default = "hundred")]
    pub priority: u32,
}

/// The two APIs for policies of the administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AdminApi {
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`, which the other one replaced.
    AdminNetworkPolicy,
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

impl Default for Cluster {
    fn default() -> Self {
        Self {
            domain: cluster_local(),
            trust_domain: cluster_local(),
            dns_namespace: kube_system(),
            istio_namespace: istio_system(),
            mesh_domains: Vec::new(),
            metrics_namespaces: Vec::new(),
            api_server: Vec::new(),
            admin_policies: None,
        }
    }
}

/// Admission policies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Guardrails {
    /// Namespaces beside the system's that they do not hold for.
    #[serde(default)]
    pub exempt_namespaces: Vec<String>,
    /// Images, without tag and digest, of the containers that the injector makes.
    #[serde(default = "proxy_images")]
    pub proxy_images: Vec<String>,
    /// Namespaces, beside the gateway's and istiod's, that may give outside names and addresses to
    /// the sidecars of guarded ones.
    #[serde(default)]
    pub naming_namespaces: Vec<String>,
    /// Whether the mesh redirects by Istio's CNI plugin, which passes over pods that have a
    /// container named `istio-init`.
    #[serde(default)]
    pub istio_cni: bool,
}

impl Default for Guardrails {
    fn default() -> Self {
        Self {
            exempt_namespaces: Vec::new(),
            proxy_images: proxy_images(),
            naming_namespaces: Vec::new(),
            istio_cni: false,
        }
    }
}

/// Where Istio publishes its proxy.
fn proxy_images() -> Vec<String> {
    [
        "docker.io/istio",
        "gcr.io/istio-release",
        "registry.istio.io/release",
    ]
    .map(|hub| format!("{hub}/proxyv2"))
    .to_vec()
}

impl Install {
    /// Reads install settings from YAML.
    ///
    /// # Errors
    /// What is wrong with the file's form, with its line.
    pub fn read(text: &str) -> Result<Self, Problem> {
        serde_saphyr::from_str(text).map_err(|error| Problem::new("install", error.to_string()))
    }

    /// What is wrong with the settings by themselves.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |place: &str, message: &str| problems.push(Problem::new(place, message));
        if self.api_version != API_VERSION || self.kind != KIND {
            wrong(
                "apiVersion",
                "expected `warden.egress/v1alpha1`, kind `Install`",
            );
        }
        let spec = &self.spec;
        if self.minor().is_none() {
            wrong("spec.istio.version", "expected a version from `1.29` on");
        }
        if spec.gateway.selector.is_empty() {
            wrong(
                "spec.gateway.selector",
                "an empty selector would select every pod",
            );
        }
        if !(1..=LONGEST_STREAM).contains(&spec.gateway.max_stream_seconds) {
            wrong(
                "spec.gateway.maxStreamSeconds",
                "expected 1 to 86400: no stream outlives a certificate",
            );
        }
        if let Some(seconds) = spec
            .gateway
            .deployment
            .as_ref()
            .and_then(|d| d.drain_seconds)
            && seconds < spec.gateway.max_stream_seconds
        {
            let message = format!(
                "a pod that goes would cut streams, which take up to gateway.maxStreamSeconds ({}): \
                 state no less, leave it out, or shorten the streams",
                spec.gateway.max_stream_seconds
            );
            wrong("spec.gateway.deployment.drainSeconds", &message);
        }
        let ports = spec.gateway.ports;
        if ports.http == ports.tunnel || [ports.http, ports.tunnel].contains(&ports.ready) {
            wrong(
                "spec.gateway.ports",
                "HTTP, tunnels and the probe need a port each",
            );
        }
        if spec.workloads.namespaces.is_empty() {
            wrong("spec.workloads.namespaces", "nothing would be enforced");
        }
        let namespaces: BTreeSet<_> = spec.workloads.namespaces.iter().collect();
        let mut readers = spec.cluster.metrics_namespaces.iter();
        if let Some(reader) = readers.find(|reader| namespaces.contains(reader)) {
            let message = format!(
                "`{reader}` is enforced: its pods reach the gateway's two ports and no other"
            );
            wrong("spec.cluster.metricsNamespaces", &message);
        }
        if namespaces.len() < spec.workloads.namespaces.len() {
            wrong("spec.workloads.namespaces", "a namespace is listed twice");
        }
        if namespaces.contains(&spec.gateway.namespace) {
            wrong(
                "spec.workloads.namespaces",
                "the gateway's namespace holds the gateway and nothing else",
            );
        }
        if !["oci://", "file:///"]
            .iter()
            .any(|scheme| spec.module.url.starts_with(scheme))
        {
            wrong(
                "spec.module.url",
                "expected `oci://REGISTRY/NAME:TAG` or `file:///PATH`",
            );
        }
        match &spec.module.sha256 {
            Some(digest) if is_digest(digest) => {}
            Some(_) => wrong("spec.module.sha256", "expected 64 hexadecimal digits"),
            None if spec.module.url.starts_with("oci://") => wrong(
                "spec.module.sha256",
                "a tag can be moved: state the digest (`warden package` prints it)",
            ),
            None => {}
        }
        let domains = spec.cluster.mesh_domains.iter();
        for domain in domains.chain([&spec.cluster.domain]) {
            if !domain.split('.').all(is_dns_label) {
                let message = format!("`{domain}` is no domain");
                wrong("spec.cluster", &message);
            }
        }
        let images = &spec.guardrails.proxy_images;
        if images.is_empty() || !images.iter().all(|image| is_image(image)) {
            wrong(
                "spec.guardrails.proxyImages",
                "expected images as `REGISTRY/NAME`, in full, without tag and digest",
            );
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        let folder = &spec.gateway.secrets;
        if !folder.starts_with('/') || folder.ends_with('/') || !folder.bytes().all(plain) {
            wrong("spec.gateway.secrets", "expected the path of a folder");
        }
        if let Some(PolicyPlace::Image(hash)) = spec.module.policy_place()
            && !is_digest(hash)
        {
            wrong(
                "spec.module.policy",
                "expected `inline`, or 64 hexadecimal digits (`warden package` prints them)",
            );
        }
        if !is_trust_domain(&spec.cluster.trust_domain) {
            wrong(
                "spec.cluster.trustDomain",
                "expected a trust domain, such as `cluster.local`",
            );
        }
        self.check_inspection(&mut problems);
        for (name, value) in self.names() {
            if !is_dns_label(value) {
                problems.push(Problem::new(
                    name,
                    format!("`{value}` is no Kubernetes name"),
                ));
            }
        }
        problems
    }

    fn check_inspection(&self, problems: &mut Vec<Problem>) {
        let devices = &self.spec.inspection;
        if !devices.is_empty() && self.minor().is_some_and(|minor| minor < FIRST_TO_INSPECT) {
            let message = format!(
                "inspection needs proxies of Istio 1.{FIRST_TO_INSPECT}: older ones could take a \
                 device's route for an ordinary one"
            );
            problems.push(Problem::new("spec.istio.version", message));
        }
        let mut names = BTreeSet::new();
        for device in devices {
            let place = format!("spec.inspection `{}`", device.name);
            let mut wrong = |message: &str| problems.push(Problem::new(&place, message));
            if !is_dns_label(&device.name) {
                wrong("a name is letters, digits and hyphens");
            }
            if !names.insert(&device.name) {
                wrong("two devices have this name");
            }
            let address = device.address.parse::<std::net::IpAddr>();
            if address.is_err() && !device.address.split('.').all(is_dns_label) {
                wrong("its address is neither an address nor a host name");
            }
            if device.port == 0 {
                wrong("it needs a port");
            }
            let Some(pods) = &device.pods else { continue };
            if pods.selector.is_empty() || !is_dns_label(&pods.namespace) {
                wrong("its pods need a namespace and labels");
            }
        }
    }

    /// Names that go into generated text, such as host names and regular expressions.
    fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let spec = &self.spec;
        [
            ("spec.gateway.namespace", spec.gateway.namespace.as_str()),
            ("spec.gateway.service", &spec.gateway.service),
            ("spec.cluster.dnsNamespace", &spec.cluster.dns_namespace),
            ("spec.cluster.istioNamespace", &spec.cluster.istio_namespace),
        ]
        .into_iter()
        .chain(
            spec.cluster
                .metrics_namespaces
                .iter()
                .map(|name| ("spec.cluster.metricsNamespaces", &**name)),
        )
        .chain(
            spec.guardrails
                .naming_namespaces
                .iter()
                .map(|name| ("spec.guardrails.namingNamespaces", &**name)),
        )
        .chain(
            spec.workloads
                .namespaces
                .iter()
                .map(|name| ("spec.workloads.namespaces", &**name)),
        )
    }

    /// Whether later policies stay within what the settings grant them.
    pub(crate) fn check_grants(&self, policies: &[Policy], problems: &mut Vec<Problem>) {
        for (policy, grant) in policies.iter().zip(&self.spec.policies) {
            let Some(applies_to) = &policy.head.applies_to else {
                continue;
            };
            let accounts = applies_to
                .service_accounts
                .iter()
                .map(|account| &account.namespace);
            for namespace in applies_to.namespaces.iter().chain(accounts) {
                if !grant.namespaces.contains(namespace) {
                    problems.push(Problem::new(
                        format!("policy {}", policy.head.name),
                        format!("it applies to `{namespace}`, which is not granted to it"),
                    ));
                }
            }
        }
    }

    /// The minor version of Istio, if it is supported.
    pub(crate) fn minor(&self) -> Option<u32> {
        let minor = self.spec.istio.version.strip_prefix("1.")?.parse().ok()?;
        // `upstream_connect_mode` and built-in CEL formatting need Envoy 1.37.
        (29..100).contains(&minor).then_some(minor)
    }

    /// Seconds that a gateway pod of ours has to end its streams.
    pub(crate) fn drain_seconds(&self) -> u32 {
        let gateway = &self.spec.gateway;
        let stated = gateway
            .deployment
            .as_ref()
            .and_then(|own| own.drain_seconds);
        stated.unwrap_or(gateway.max_stream_seconds)
    }

    /// The gateway Service's host name.
    pub(crate) fn gateway_host(&self) -> String {
        let gateway = &self.spec.gateway;
        let domain = &self.spec.cluster.domain;
        format!("{}.{}.svc.{domain}", gateway.service, gateway.namespace)
    }
}

/// `REGISTRY/PATH/NAME`, as Kubernetes has it in a pod. It goes into an expression.
fn is_image(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    let name = |name: &str| !name.is_empty() && name.bytes().all(inner);
    let Some((registry, path)) = text.split_once('/') else {
        return false;
    };
    let (host, port) = registry.split_once(':').unwrap_or((registry, "443"));
    (host.contains('.') || host == "localhost" || registry.contains(':'))
        && name(host)
        && port.parse::<u16>().is_ok()
        && path.split('/').all(name)
}

/// SPIFFE-ID §2.1: lower-case letters, digits, dots, hyphens and underscores.
fn is_trust_domain(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(inner)
}

fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
