//! The install settings, as far as policies depend on them: their order, the namespaces that each
//! may speak for, the inspection clusters that rules may name, and the networks that no rule sees.

use egress_policy::contract::{API_VERSION, INSTALL_KIND};
use egress_policy::model::Workloads;
use egress_policy::ports::StatedPorts;
use ipnet::IpNet;

use crate::bundle::PolicyBundle;
use crate::diagnostic::{Diagnostic, Location};
use crate::document;

/// What a bundle takes from install settings.
#[derive(Clone, Debug)]
pub struct InstallSettings {
    /// The file that holds them.
    pub origin: String,
    /// The policies in their order; empty where a single one needs none.
    pub policies: Vec<Grant>,
    /// The inspection clusters that rules may name.
    pub inspection: Vec<String>,
    /// What ports carry.
    pub protocols: StatedPorts,
    /// The cluster's own networks.
    pub cluster: Option<ClusterNetworks>,
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

impl InstallSettings {
    /// Puts the policies in their order and holds them to what is granted.
    pub fn apply(&self, layers: &mut PolicyBundle, diagnostics: &mut Vec<Diagnostic>) {
        layers.inspection = Some(self.inspection.clone());
        layers.protocols.clone_from(&self.protocols);
        layers.cluster.clone_from(&self.cluster);
        if self.policies.is_empty() {
            return;
        }
        let position = |name: &str| self.policies.iter().position(|grant| grant.name == name);
        for (policy, unit) in layers.policies.iter().zip(&layers.sources) {
            if position(&policy.head.name).is_none() {
                let at = unit.root().field("metadata").and_then(|m| m.field("name"));
                let hint = "the order and the grants come from there";
                let message = format!("the install settings do not list `{}`", policy.head.name);
                diagnostics.push(error(at.unwrap_or(unit.root()), message, Some(hint)));
            }
        }
        for grant in &self.policies {
            if !layers
                .policies
                .iter()
                .any(|policy| policy.head.name == grant.name)
            {
                let message = format!("no policy is named `{}`", grant.name);
                diagnostics.push(error(grant.location.clone(), message, None));
            }
        }
        layers.sort_by_key(|name| position(name).unwrap_or(usize::MAX));
        for (policy, unit) in layers.policies.iter().zip(&layers.sources).skip(1) {
            let Some(grant) = position(&policy.head.name).and_then(|i| self.policies.get(i)) else {
                continue;
            };
            let applies = unit
                .root()
                .field("spec")
                .and_then(|spec| spec.field("appliesTo"));
            if let (Some(applies), Some(workloads)) = (applies, &policy.head.applies_to) {
                check_grant(grant, workloads, applies, diagnostics);
            }
        }
    }
}

fn check_grant(
    grant: &Grant,
    workloads: &Workloads,
    applies: document::Node<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let accounts = workloads.service_accounts.iter().map(|sa| &sa.namespace);
    let mut foreign: Vec<&String> = workloads
        .namespaces
        .iter()
        .chain(accounts)
        .filter(|namespace| !grant.namespaces.contains(namespace))
        .collect();
    foreign.dedup();
    for namespace in foreign {
        let mut diagnostic = error(
            applies,
            format!("`{namespace}` is not granted to `{}`", grant.name),
            Some("a policy speaks only for namespaces that the install settings grant to it"),
        );
        let label = "what is granted".to_owned();
        diagnostic.related.push((grant.location.clone(), label));
        diagnostics.push(diagnostic);
    }
}

fn error(place: impl Into<Location>, message: String, hint: Option<&str>) -> Diagnostic {
    Diagnostic::error("install", place, message, hint)
}
