//! The install settings, as far as policies depend on them: their order, the namespaces that each
//! may speak for, the inspection clusters that rules may name, and the networks that no rule sees.

use egress_policy::model::Workloads;
use egress_policy::ports::StatedPorts;
use egress_policy::read::API_VERSION;
use egress_render::install::Networks;

use crate::diagnostic::{Diagnostic, Location};
use crate::document;
use crate::load::{PolicyBundle, PolicySource};

pub(crate) use egress_render::install::KIND;

/// Install settings that were found among the files.
#[derive(Clone, Debug)]
pub(crate) struct Install {
    unit: PolicySource,
    policies: Vec<Grant>,
    inspection: Option<Vec<String>>,
    protocols: StatedPorts,
    cluster: Option<(Networks, Location)>,
}

/// One policy's place in the order and what is granted to it.
#[derive(Clone, Debug)]
struct Grant {
    name: String,
    namespaces: Vec<String>,
    place: Location,
}

/// True for a document of install settings.
pub(crate) fn is_install(root: document::Node<'_>) -> bool {
    let text = |name: &str| root.field(name).and_then(document::Node::text);
    let is_ours = |version: &str| version == API_VERSION || version.starts_with(OLD_GROUP);
    text("apiVersion").is_some_and(is_ours)
        && text("kind").is_some_and(|kind| [KIND, OLD_KIND].contains(&kind))
}

/// As they were spelt once, which [`Install::read`] refuses by name.
const OLD_GROUP: &str = "warden.egress/";
const OLD_KIND: &str = "Install";

impl Install {
    /// Reads `spec.policies`, `spec.inspection`, `spec.gateway.protocols` and
    /// `spec.cluster.networks`; everything else there is for the renderer.
    pub(crate) fn read(unit: &PolicySource, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut install = Self {
            unit: unit.clone(),
            policies: Vec::new(),
            inspection: None,
            protocols: StatedPorts::default(),
            cluster: None,
        };
        for (field, now) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            let written = unit.root().field(field);
            if let Some(place) = written.filter(|place| place.text() != Some(now)) {
                let message = format!("this is `{now}` now");
                let hint = "the old spelling is not read any more";
                diagnostics.push(error(place, message, Some(hint)));
            }
        }
        let Some(spec) = unit.root().field("spec") else {
            let message = "`spec` is missing".to_owned();
            diagnostics.push(error(unit.root(), message, None));
            return install;
        };
        for entry in spec
            .field("policies")
            .into_iter()
            .flat_map(document::Node::items)
        {
            let Some(name) = entry.field("name").and_then(document::Node::text) else {
                let hint = "write {name: POLICY, namespaces: [...]}";
                let message = "a policy is listed by its `name`".to_owned();
                diagnostics.push(error(entry, message, Some(hint)));
                continue;
            };
            let namespaces = entry.field("namespaces").into_iter();
            install.policies.push(Grant {
                name: name.to_owned(),
                namespaces: namespaces
                    .flat_map(document::Node::items)
                    .filter_map(document::Node::text)
                    .map(str::to_owned)
                    .collect(),
                place: entry.into(),
            });
        }
        install.inspection = spec.field("inspection").map(|list| {
            list.items()
                .filter_map(|device| device.field("name").and_then(document::Node::text))
                .map(str::to_owned)
                .collect()
        });
        let stated = spec.field("gateway").and_then(|at| at.field("protocols"));
        let ports = |word: &str| -> Vec<u16> {
            let list = stated.and_then(|stated| stated.field(word)).into_iter();
            list.flat_map(document::Node::items)
                .filter_map(|port| document::to_json(&port).ok()?.parse().ok())
                .collect()
        };
        install.protocols = StatedPorts {
            http: ports("http"),
            tls: ports("tls"),
            tcp: ports("tcp"),
        };
        let cluster = spec.field("cluster");
        if let Some(networks) = cluster.and_then(|cluster| cluster.field("networks")) {
            match own_networks(networks) {
                Ok(own) => install.cluster = Some((own, networks.into())),
                Err(message) => diagnostics.push(error(networks, message, None)),
            }
        }
        install
    }

    /// Puts the policies in their order and holds them to what is granted.
    pub(crate) fn apply(&self, layers: &mut PolicyBundle, diagnostics: &mut Vec<Diagnostic>) {
        layers.inspection = Some(self.inspection.clone().unwrap_or_default());
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
                diagnostics.push(error(grant.place.clone(), message, None));
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

    /// The source that the settings were read from.
    pub(crate) fn origin(&self) -> String {
        self.unit.root().source().name().to_owned()
    }
}

/// As the renderer reads them.
fn own_networks(place: document::Node<'_>) -> Result<Networks, String> {
    let text = document::to_json(&place)?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    // From a value: a place in that text is nobody's.
    serde_json::from_value(value).map_err(|error| error.to_string())
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
        diagnostic.related.push((grant.place.clone(), label));
        diagnostics.push(diagnostic);
    }
}

fn error(place: impl Into<Location>, message: String, hint: Option<&str>) -> Diagnostic {
    Diagnostic::error("install", place, message, hint)
}
