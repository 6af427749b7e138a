//! Policies and install settings, checked, and what is made of them.

use egress_policy::model::Policy;
use egress_policy::ports::{self, MeshPorts};
use serde_json::Value;

use crate::documents::{arranged, in_order, mesh_ports, name, order, read};
use crate::earlier::Earlier;
use crate::embedded::EmbeddedPolicies;
use crate::envoy::classes::Classes;
use crate::error::RenderError;
use crate::install::{Install, Networks};
use crate::module::Module;
use crate::rendered::Rendered;
use crate::{deployment, envoy, gateway, guardrails, names, network, workloads};

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

    /// The same of policies that have been decoded already, each beside its document.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn decoded(
        install: &'a Install,
        documents: &'a [Value],
        policies: &[Policy],
    ) -> Result<Self, Vec<RenderError>> {
        let enforced = Enforced::decoded(install, documents, policies)?;
        Ok(Self {
            install,
            documents,
            enforced,
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
        let named = names::assigned(install, &traffic, &policies, &mut problems);
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
    let own = networks.map(Networks::node_guard);
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
    let Enforced {
        policies, traffic, ..
    } = Enforced::of(install, documents)?;
    let mut problems = Vec::new();
    let named = names::assigned(install, &traffic, &policies, &mut problems);
    if problems.is_empty() {
        Ok(names::zone(&named))
    } else {
        Err(problems)
    }
}

/// What is carried out as it is written and probably not meant.
#[must_use]
pub fn warnings(install: &Install, documents: &[Value]) -> Vec<RenderError> {
    warnings_of(install, &read(documents, &mut Vec::new()))
}

/// The same of policies that have been decoded already.
#[must_use]
pub fn warnings_of(install: &Install, policies: &[Policy]) -> Vec<RenderError> {
    let name = |policy: &Policy| policy.head.name.clone();
    let order = order(install, policies.iter().map(name), &mut Vec::new());
    let policies = arranged(policies, &order);
    let networks = install.spec.cluster.networks.iter();
    let of_networks = networks.flat_map(|own| [own.warnings(), own.unseen(&policies)].concat());
    let of_networks: Vec<_> = of_networks.collect();
    let traffic = mesh_ports(install, &policies, &mut Vec::new());
    let opaque = traffic.opaque_names(&policies).into_iter();
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
pub(crate) struct Enforced {
    pub(crate) policies: Vec<Policy>,
    pub(crate) traffic: MeshPorts,
    pub(crate) module: Module,
    pub(crate) classes: Classes,
}

impl Enforced {
    pub(crate) fn of(install: &Install, documents: &[Value]) -> Result<Self, Vec<RenderError>> {
        let mut problems = install.check();
        let documents = in_order(install, documents, &mut problems);
        let policies = read(&documents, &mut problems);
        Self::checked(install, &documents, policies, problems)
    }

    /// Of policies that have been decoded, each beside its document.
    fn decoded(
        install: &Install,
        documents: &[Value],
        policies: &[Policy],
    ) -> Result<Self, Vec<RenderError>> {
        let mut problems = install.check();
        let order = order(install, documents.iter().map(name), &mut problems);
        let (documents, policies) = (arranged(documents, &order), arranged(policies, &order));
        Self::checked(install, &documents, policies, problems)
    }

    /// Of documents in their order, and of the policies in them, unless there is a problem already.
    fn checked(
        install: &Install,
        documents: &[Value],
        policies: Vec<Policy>,
        mut problems: Vec<RenderError>,
    ) -> Result<Self, Vec<RenderError>> {
        install.check_grants(&policies, &mut problems);
        let traffic = mesh_ports(install, &policies, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let classes = Classes::of(install, &policies).map_err(|problem| vec![problem])?;
        let module = Module::new(install, &traffic, &classes, documents)?;
        Ok(Self {
            policies,
            traffic,
            module,
            classes,
        })
    }
}
