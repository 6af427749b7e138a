//! From policies and a short file of install settings to the objects that a mesh's admin applies.
//!
//! Rendering is pure: the same input gives the same bytes, sorted, whatever machine it runs on.
//! What cannot be enforced as the policy says is a [`RenderError`], never a manifest that enforces
//! something else.
//!
//! The shape of what is rendered:
//!
//! - Sidecars send everything that is not in the mesh to the egress gateway: HTTP as requests,
//!   all other TCP in an HTTP CONNECT tunnel that names the dialled address. No object per
//!   destination exists.
//! - The gateway judges, and connects through Envoy's dynamic forward proxy to the judged host and
//!   port, behind a lock of Envoy's own that only a verdict opens.
//! - Network policies and admission policies close the ways around both.

pub mod adopt;
pub mod audit;
pub mod chart;
mod deployment;
pub mod doctor;
mod earlier;
mod embedded;
mod envoy;
mod error;
mod gateway;
mod guardrails;
pub mod install;
mod module;
pub mod names;
mod network;
mod object;
mod proxies;
mod rendered;
mod tunnel;
mod workloads;

use egress_policy::model::Policy;
use egress_policy::ports::{self, MeshPorts};
use serde_json::Value;

pub use deployment::memory::machines;
pub use earlier::Earlier;
pub use embedded::EmbeddedPolicies;
pub use envoy::log::ACCESS_LOG_FIELDS;
pub use error::RenderError;
pub use guardrails::admission::refusals;
pub use install::Install;
pub use object::Object;
pub use rendered::Rendered;

use envoy::classes::Classes;
use module::Module;

/// The name that rendered objects carry or begin with.
pub const NAME: &str = "egress-warden";

/// Renders policies, in their order of precedence, for one gateway.
///
/// # Errors
/// Everything that keeps the policies from being enforced as they are written.
pub fn render(install: &Install, documents: &[Value]) -> Result<Rendered, Vec<RenderError>> {
    Prepared::new(install, documents)?.render(None)
}

/// Policies that can be rendered for a gateway.
pub struct Prepared<'a> {
    install: &'a Install,
    documents: &'a [Value],
    enforced: Enforced,
}

impl<'a> Prepared<'a> {
    /// Reads policies, in their order of precedence, for one gateway.
    ///
    /// # Errors
    /// Everything that keeps the policies from being enforced as they are written.
    pub fn new(install: &'a Install, documents: &'a [Value]) -> Result<Self, Vec<RenderError>> {
        Ok(Self {
            install,
            documents,
            enforced: Enforced::of(install, documents)?,
        })
    }

    /// Whether an earlier render is of the same policies and address classes.
    #[must_use]
    pub fn is(&self, earlier: &Earlier) -> bool {
        earlier.is_of(
            self.enforced.module.policy_hash(),
            &self.enforced.classes.names(),
        )
    }

    /// Renders them, with the address classes of an earlier render beside their own.
    ///
    /// # Errors
    /// Everything that keeps the policies from being enforced as they are written.
    pub fn render(self, earlier: Option<&Earlier>) -> Result<Rendered, Vec<RenderError>> {
        let Self {
            install,
            documents,
            enforced,
        } = self;
        let Enforced {
            policies,
            traffic,
            module,
            classes,
        } = enforced;
        let mut problems: Vec<_> = envoy::undigested(install).into_iter().collect();
        let mut objects = gateway::objects(install, &traffic, &module, &classes, earlier);
        if install.spec.gateway.deployment.is_some() {
            let load = deployment::Load {
                policies: EmbeddedPolicies::written(documents)?.bytes().len(),
                classes: classes.count(),
            };
            objects.extend(deployment::objects(install, &traffic, load, &mut problems));
        }
        objects.extend(workloads::objects(install, &traffic));
        let named = names::assigned(install, &policies, &mut problems);
        objects.extend(names::objects(install, &traffic, &named));
        objects.extend(network::objects(install, &policies, &mut problems));
        objects.extend(guardrails::objects(install, &traffic));
        if !problems.is_empty() {
            return Err(problems);
        }
        let rendered = Rendered::new(install, &module, objects)?;
        rendered.check_names()?;
        rendered.check_sizes()?;
        Ok(rendered)
    }
}

/// What the node guard's configuration (`cni/`) has to list as `udpExceptions`: the UDP that
/// the policies let straight out, as the rendered network policies have it.
///
/// # Errors
/// Everything that keeps the policies from being enforced as they are written, and what the node
/// guard cannot say.
pub fn udp_exceptions(
    install: &Install,
    documents: &[Value],
) -> Result<Vec<Value>, Vec<RenderError>> {
    let Enforced { policies, .. } = Enforced::of(install, documents)?;
    network::udp_exceptions(install, &policies)
}

/// What the node guard's configuration (`cni/`) has to say of the cluster's networks: what
/// sidecars send straight is what the node lets pass.
///
/// # Errors
/// What is wrong with the settings, or that the node guard would know no network of pods.
pub fn node_networks(install: &Install) -> Result<Value, Vec<RenderError>> {
    let mut problems = install.check();
    let networks = install.spec.cluster.networks.as_ref();
    let own = networks.map(install::Networks::node_guard);
    let is_empty = |own: &Value| own["clusterNetworks"].as_array().is_none_or(Vec::is_empty);
    if let Some(own) = own.filter(|own| !is_empty(own))
        && problems.is_empty()
    {
        return Ok(own);
    }
    if problems.is_empty() {
        let message = "the node guard knows pods by their networks, and none is stated: name \
                       networks that hold nothing but pods, or those of nodes";
        problems.push(RenderError::new("spec.cluster.networks.pods", message));
    }
    Err(problems)
}

/// What the cluster's DNS has to say of names over opaque TCP, as CoreDNS' plugin `hosts` takes it.
///
/// # Errors
/// Everything that keeps the policies from being enforced as they are written.
pub fn coredns_zone(install: &Install, documents: &[Value]) -> Result<String, Vec<RenderError>> {
    let Enforced { policies, .. } = Enforced::of(install, documents)?;
    let mut problems = Vec::new();
    let named = names::assigned(install, &policies, &mut problems);
    if problems.is_empty() {
        Ok(names::zone(&named))
    } else {
        Err(problems)
    }
}

/// What is carried out as it is written and probably not meant.
#[must_use]
pub fn warnings(install: &Install, documents: &[Value]) -> Vec<RenderError> {
    let documents = in_order(install, documents, &mut Vec::new());
    let policies = read(&documents, &mut Vec::new());
    let networks = install.spec.cluster.networks.iter();
    let of_networks = networks.flat_map(|own| [own.warnings(), own.unseen(&policies)].concat());
    let of_networks: Vec<_> = of_networks.collect();
    let settings = install.spec.gateway.protocols.stated();
    let opaque = ports::opaque_names(&policies, &settings).into_iter();
    let opaque = opaque.filter(|found| !found.can_be_named || install.spec.tunnel.names.is_none());
    let opaque = opaque.map(|found| (found.message(), found.id, ports::HINT));
    let in_tls = ports::inspected_in_tls(&policies).into_iter();
    let in_tls = in_tls.map(|found| (found.message(), found.id, ports::IN_TLS_HINT));
    let of_policies = opaque
        .chain(in_tls)
        .map(|(message, id, hint)| RenderError::new(id, format!("{message}; {hint}")));
    of_networks.into_iter().chain(of_policies).collect()
}

/// Policies in their order, and what enforces them at a gateway.
struct Enforced {
    policies: Vec<Policy>,
    traffic: MeshPorts,
    module: Module,
    classes: Classes,
}

impl Enforced {
    fn of(install: &Install, documents: &[Value]) -> Result<Self, Vec<RenderError>> {
        let mut problems = install.check();
        let documents = in_order(install, documents, &mut problems);
        let policies = read(&documents, &mut problems);
        install.check_grants(&policies, &mut problems);
        let settings = install.spec.gateway.protocols.stated();
        let mut defects = Vec::new();
        let traffic = MeshPorts::of(&policies, &settings, &mut defects);
        problems.extend(defects.into_iter().map(RenderError::from));
        if !problems.is_empty() {
            return Err(problems);
        }
        let classes = Classes::of(install, &policies).map_err(|problem| vec![problem])?;
        let module = Module::new(install, &traffic, &classes, &documents)?;
        Ok(Self {
            policies,
            traffic,
            module,
            classes,
        })
    }
}

/// The documents as the install settings order them; without an order a single one stands as it
/// is.
fn in_order(install: &Install, documents: &[Value], problems: &mut Vec<RenderError>) -> Vec<Value> {
    let order = &install.spec.policies;
    if order.is_empty() {
        if documents.len() > 1 {
            problems.push(RenderError::new(
                "spec.policies",
                "several policies need an order: the install settings must list their names, the \
                 security team's first",
            ));
        }
        return documents.to_vec();
    }
    let name = |document: &Value| {
        let name = document.pointer("/metadata/name").and_then(Value::as_str);
        name.unwrap_or_default().to_owned()
    };
    for document in documents {
        let name = name(document);
        if !order.iter().any(|entry| entry.name == name) {
            problems.push(RenderError::new(
                "spec.policies",
                format!("policy `{name}` is not in the install settings' order"),
            ));
        }
    }
    let mut sorted = Vec::new();
    for entry in order {
        let mut found = documents
            .iter()
            .filter(|document| name(document) == entry.name);
        match (found.next(), found.next()) {
            (Some(document), None) => sorted.push(document.clone()),
            (None, _) => problems.push(RenderError::new(
                "spec.policies",
                format!("policy `{}` was not given", entry.name),
            )),
            (Some(_), Some(_)) => problems.push(RenderError::new(
                "spec.policies",
                format!("policy `{}` was given twice", entry.name),
            )),
        }
    }
    sorted
}

fn read(documents: &[Value], problems: &mut Vec<RenderError>) -> Vec<Policy> {
    let mut policies = Vec::new();
    for document in documents {
        match module::policy(document) {
            Ok(policy) => policies.push(policy),
            Err(found) => problems.extend(found),
        }
    }
    policies
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
