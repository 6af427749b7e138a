//! The install settings: what the policies do not say.

mod check;
mod cluster;
mod gateway;
mod limits;
mod networks;
mod scope;
mod tunnel;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::RenderError;

pub use cluster::{AdminApi, AdminPolicies, Cluster, Dns, Family};
pub use gateway::{Deployment, Gateway, GatewayApi, GatewayPorts, PortProtocols};
pub use limits::Limits;
pub use networks::{Networks, PodNetworks};
pub use tunnel::{Exception, Framing, Names, Ports, Tunnel};

/// The `apiVersion` of install settings.
pub use egress_policy::contract::API_VERSION;
/// The `kind` of install settings.
pub use egress_policy::contract::INSTALL_KIND as KIND;

/// The first minor version of Istio whose Envoy (1.39) leaves forbidden addresses out of what a name
/// resolves to (`docs/reference/compatibility.md`). An older one ignores the field that says so, and connects.
pub(crate) const OLDEST: u32 = 31;

/// The install settings of one egress gateway: what the policies do not say.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = KIND)]
pub struct Install {
    /// The version of the format.
    #[schemars(extend("const" = API_VERSION))]
    pub api_version: String,
    /// The kind of document.
    #[schemars(extend("const" = KIND))]
    pub kind: String,
    /// The settings.
    pub spec: Spec,
}

/// The settings.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    /// The mesh.
    pub istio: Istio,
    /// The egress gateway.
    pub gateway: Gateway,
    /// The image of the module.
    pub module: ModuleImage,
    /// The workloads whose egress is enforced.
    pub workloads: Workloads,
    /// The policies in their order of precedence. Required if there is more than one.
    #[serde(default)]
    pub policies: Vec<PolicyGrant>,
    /// The inspection proxies that rules with `action: Inspect` name. Requires Istio 1.32.
    #[serde(default)]
    pub inspection: Vec<InspectionProxy>,
    /// How the gateway resolves names.
    #[serde(default)]
    pub dns: Dns,
    /// How sidecars tunnel TCP and TLS to the gateway.
    #[serde(default)]
    pub tunnel: Tunnel,
    /// Names and networks of the cluster.
    #[serde(default)]
    pub cluster: Cluster,
    /// Admission policies that keep workloads from bypassing their sidecar.
    #[serde(default)]
    pub guardrails: Guardrails,
    /// Limits for each workload and for the gateway as a whole.
    #[serde(default)]
    pub limits: Limits,
}

/// The mesh.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Istio {
    /// The oldest Istio version among the mesh's proxies, such as `1.31`, which is also the oldest
    /// supported one. Older gateways get no listeners, and older sidecars no tunnel.
    pub version: String,
    /// The revision label for every rendered object. Required if the mesh has several revisions.
    pub revision: Option<String>,
    /// Attach the module with Istio's `TrafficExtension` API instead of `WasmPlugin`.
    #[serde(default)]
    pub traffic_extension: bool,
}

/// Where the gateway gets the module.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModuleImage {
    /// `oci://REGISTRY/NAME:TAG`, or `file:///PATH` for a file in the gateway's pods.
    pub url: String,
    /// SHA-256 of the image manifest (`oci:`) or of the module (`file:`), in hexadecimal. Required
    /// for `oci:`. `warden package` prints it.
    pub sha256: Option<String>,
    /// A Kubernetes Secret with the registry's credentials, in the gateway's namespace.
    pub pull_secret: Option<String>,
    /// Where the policies are stored. By default they are written into the rendered objects, up to
    /// 512 KiB. `inline` writes them there up to the size limit of the objects. A SHA-256 names
    /// the policies that the image contains; `warden package` prints it.
    pub policy: Option<String>,
}

/// Where the policies are, if the settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyLocation<'i> {
    /// In the objects.
    Inline,
    /// In the module's image, with this hash.
    Image(&'i str),
}

impl ModuleImage {
    pub(crate) fn policy_location(&self) -> Option<PolicyLocation<'_>> {
        self.policy.as_deref().map(|policy| match policy {
            "inline" => PolicyLocation::Inline,
            hash => PolicyLocation::Image(hash),
        })
    }
}

/// The workloads whose egress is enforced.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Workloads {
    /// Their namespaces. Add one namespace at a time to roll out gradually.
    pub namespaces: Vec<String>,
    /// The services that their sidecars see, as `NAMESPACE` or `NAMESPACE/HOST`, in addition to
    /// their own namespace and those of the gateway, istiod and the cluster's DNS. By default: the
    /// enforced namespaces and those of `guardrails.namingNamespaces`.
    pub mesh_hosts: Option<Vec<String>>,
    /// Replaces `meshHosts` for the named namespaces. An entry `./HOST` limits what the sidecars see
    /// of their own namespace.
    #[serde(default)]
    pub scopes: BTreeMap<String, Vec<String>>,
}

/// A policy in the order of precedence, and the namespaces granted to it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicyGrant {
    /// The policy's `metadata.name`.
    pub name: String,
    /// The namespaces that its `appliesTo` may name. Not for the first policy.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// An inspection proxy, to which the gateway sends what a rule inspects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InspectionProxy {
    /// The name that rules use.
    pub name: String,
    /// Its address, or a host name that the gateway resolves.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// How the gateway asks it to connect to the destination.
    #[serde(default)]
    pub protocol: InspectionProtocol,
    /// Its pods, if it runs in the cluster. A NetworkPolicy closes them to everyone but the gateway.
    pub pods: Option<InspectionPods>,
}

/// How the gateway asks an inspection proxy to connect to the destination.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum InspectionProtocol {
    /// HTTP/1.1 CONNECT.
    #[default]
    #[serde(rename = "CONNECT")]
    Connect,
}

/// The pods of an inspection proxy.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InspectionPods {
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub selector: BTreeMap<String, String>,
}

/// Admission policies that keep workloads from bypassing their sidecar.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Guardrails {
    /// Namespaces that the admission policies do not apply to, in addition to the system's.
    #[serde(default)]
    pub exempt_namespaces: Vec<String>,
    /// Images of the containers that Istio injects, without tag and digest.
    #[serde(default = "proxy_images")]
    pub proxy_images: Vec<String>,
    /// Namespaces that may define outside names and addresses for enforced sidecars, in addition to
    /// those of the gateway and istiod.
    #[serde(default)]
    pub naming_namespaces: Vec<String>,
    /// Namespaces that may have the name of a top-level domain.
    #[serde(default)]
    pub top_level_namespaces: Vec<String>,
    /// Enforced namespaces that may extend their sidecars with `EnvoyFilter`, `WasmPlugin` or
    /// `TrafficExtension` objects. Such an extension can connect past the gateway.
    #[serde(default)]
    pub extension_namespaces: Vec<String>,
    /// Users that may write endpoints seen by enforced sidecars, in addition to the cluster's
    /// controllers and the service accounts of `namingNamespaces`.
    #[serde(default)]
    pub endpoint_writers: Vec<String>,
    /// CSI drivers whose volumes pods may mount inline.
    #[serde(default)]
    pub csi_drivers: Vec<String>,
    /// Registries, or folders of registries, that images in enforced namespaces must come from. An
    /// empty list allows any.
    #[serde(default)]
    pub image_registries: Vec<String>,
    /// Addresses that a `RequestAuthentication` may make istiod fetch keys from.
    #[serde(default)]
    pub jwks_uris: Vec<String>,
    /// Set to true if Istio's CNI plugin redirects traffic. It does not redirect pods that have a
    /// container named `istio-init`, so the admission policies refuse them.
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

    /// The JSON Schema of install settings (2020-12).
    #[must_use]
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
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
