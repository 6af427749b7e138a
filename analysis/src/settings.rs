//! The install settings, as far as policies depend on them: their order, the namespaces that each
//! may speak for, the inspection proxies that rules may name, and the networks that no rule sees.

use egress_policy::contract::{API_VERSION, INSTALL_KIND};
use egress_policy::ports::StatedPorts;
use ipnet::IpNet;

use crate::diagnostic::{Diagnostic, Location};
use crate::document;

/// What a bundle takes from install settings.
#[derive(Clone, Debug)]
pub struct InstallSettings {
    /// The file that holds them.
    pub origin: String,
    /// The policies in their order; empty where a single one needs none.
    pub policies: Vec<Grant>,
    /// The inspection proxies that rules may name.
    pub inspection: Vec<String>,
    /// What ports carry.
    pub protocols: StatedPorts,
    /// The cluster's own networks.
    pub cluster: Option<ClusterNetworks>,
    /// Whose traffic is enforced.
    pub enforced: Option<EnforcedNamespaces>,
}

/// The namespaces whose workloads reach the outside through the gateway alone.
#[derive(Clone, Debug)]
pub struct EnforcedNamespaces {
    /// Each with its place.
    pub names: Vec<(String, Location)>,
    /// The namespaces of the mesh's control plane and of the gateway.
    pub of_mesh: Vec<String>,
}

/// The cluster's own networks, which no rule sees.
#[derive(Clone, Debug)]
pub struct ClusterNetworks {
    /// All of them.
    pub networks: Vec<IpNet>,
    /// Where they stand.
    pub location: Location,
    /// Which are wider than a cluster needs: the field, and what is wrong.
    pub too_wide: Vec<(String, String)>,
}

/// One policy in the order, and what is granted to it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The policy's name.
    pub name: String,
    /// The namespaces that it may speak for.
    pub namespaces: Vec<String>,
    /// Where that stands.
    pub location: Location,
}

/// True for a document of install settings, also where its kind or group is spelt as it once was.
#[must_use]
pub fn is_install(root: document::Node<'_>) -> bool {
    let text = |name: &str| root.field(name).and_then(document::Node::text);
    let is_ours = |version: &str| version == API_VERSION || version.starts_with(OLD_GROUP);
    text("apiVersion").is_some_and(is_ours)
        && text("kind").is_some_and(|kind| [INSTALL_KIND, OLD_KIND].contains(&kind))
}

/// Diagnostics for a document with an old spelling of its kind or group.
#[must_use]
pub fn old_spellings(root: document::Node<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (field, now) in [("apiVersion", API_VERSION), ("kind", INSTALL_KIND)] {
        let written = root.field(field);
        if let Some(place) = written.filter(|place| place.text() != Some(now)) {
            let message = format!("this is `{now}` now");
            let hint = "the old spelling is not read any more";
            found.push(error(place, message, Some(hint)));
        }
    }
    found
}

const OLD_GROUP: &str = "warden.egress/";
const OLD_KIND: &str = "Install";

pub(crate) fn error(place: impl Into<Location>, message: String, hint: Option<&str>) -> Diagnostic {
    Diagnostic::error("install", place, message, hint)
}
