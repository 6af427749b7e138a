//! The install settings: what the policies do not say.

mod check;
mod cluster;
mod gateway;
mod limits;
mod networks;
mod scope;
mod tunnel;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::RenderError;
use crate::proxies::OLDEST;

pub use cluster::{AdminApi, AdminPolicies, Cluster, Dns, Family};
pub use gateway::{Deployment, Gateway, GatewayApi, GatewayPorts, PortProtocols};
pub use limits::Limits;
pub use networks::{Networks, PodNetworks};
pub use tunnel::{Exception, Framing, Names, Ports, Tunnel};

/// The `apiVersion` of install settings.
pub use egress_policy::contract::API_VERSION;
/// The `kind` of install settings.
pub use egress_policy::contract::INSTALL_KIND as KIND;

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
    /// How sidecars ask the gateway for tunnels.
    #[serde(default)]
    pub tunnel: Tunnel,
    /// What the network policies have to know about the cluster.
    #[serde(default)]
    pub cluster: Cluster,
    /// Admission policies against ways around the sidecar.
    #[serde(default)]
    pub guardrails: Guardrails,
    /// What one workload may take of the gateway.
    #[serde(default)]
    pub limits: Limits,
}

/// The mesh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Istio {
    /// The oldest version of the mesh's proxies, such as `1.31`. Older gateways get no listeners,
    /// older sidecars no tunnel.
    pub version: String,
    /// The revision that every object is labelled with, where the mesh has several.
    pub revision: Option<String>,
    /// Whether the mesh has the `TrafficExtension` API; `WasmPlugin` is used otherwise.
    #[serde(default)]
    pub traffic_extension: bool,
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
    /// What their sidecars see of the mesh beside their own namespace, the gateway's, istiod's and
    /// the cluster's DNS: `NAMESPACE`, or `NAMESPACE/HOST`. Left out: the enforced namespaces and
    /// those of `guardrails.namingNamespaces`.
    pub mesh_hosts: Option<Vec<String>>,
    /// The same for one namespace, in the place of `mesh_hosts`. `./HOST` narrows what is seen of the
    /// namespace itself.
    #[serde(default)]
    pub scopes: BTreeMap<String, Vec<String>>,
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
    /// Namespaces that may be called like a top-level domain.
    #[serde(default)]
    pub top_level_namespaces: Vec<String>,
    /// Enforced namespaces that may have extensions of their sidecars (`EnvoyFilter`, `WasmPlugin`,
    /// `TrafficExtension`), which connect past the gateway.
    #[serde(default)]
    pub extension_namespaces: Vec<String>,
    /// Users, beside the cluster's controllers and the accounts of `naming_namespaces`, that may write
    /// endpoints which guarded sidecars see.
    #[serde(default)]
    pub endpoint_writers: Vec<String>,
    /// CSI drivers that pods may mount inline.
    #[serde(default)]
    pub csi_drivers: Vec<String>,
    /// Registries, or folders in them, that images of enforced namespaces come from; any if empty.
    #[serde(default)]
    pub image_registries: Vec<String>,
    /// Addresses that a `RequestAuthentication` may have istiod fetch keys from.
    #[serde(default)]
    pub jwks_uris: Vec<String>,
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
            top_level_namespaces: Vec::new(),
            extension_namespaces: Vec::new(),
            endpoint_writers: Vec::new(),
            csi_drivers: Vec::new(),
            image_registries: Vec::new(),
            jwks_uris: Vec::new(),
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
    pub fn read(text: &str) -> Result<Self, RenderError> {
        serde_saphyr::from_str(text).map_err(|error| RenderError::new("install", error.to_string()))
    }

    /// Reads install settings that are JSON already.
    ///
    /// # Errors
    /// What is wrong with their form, at the path of the field.
    pub fn decode(value: serde_json::Value) -> Result<Self, RenderError> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            RenderError::new(path, error.into_inner().to_string())
        })
    }

    /// The minor version of Istio, if it is supported.
    pub(crate) fn minor(&self) -> Option<u32> {
        let minor = self.spec.istio.version.strip_prefix("1.")?.parse().ok()?;
        (OLDEST..90).contains(&minor).then_some(minor)
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
