//! What a mesh already has that collides with what is rendered: objects that would take traffic
//! past the gateway, open the gateway's pods, or compete with a rendered object for the same place.
//!
//! Nothing is changed here. An object of this project's own (by its label) never collides.

mod existing;
mod rules;

use egress_policy::contract::PART_OF;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::NAME;
use crate::install::Install;
use crate::rendered::Rendered;

pub use existing::read;

/// One object of the mesh and what it collides with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Collision {
    /// `KIND NAMESPACE/NAME` of the object that is there.
    pub object: String,
    /// The machine's word.
    pub code: CollisionCode,
    /// What would happen.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Kinds of collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(into = "&'static str")]
#[schemars(inline, with = "String", extend("enum" = Self::ALL.map(Self::word)))]
pub enum CollisionCode {
    /// The same kind, namespace and name as a rendered object: it would be overwritten.
    SameName,
    /// A gateway that can take the egress gateway's pods.
    GatewayPods,
    /// Routes that bind to the rendered gateway.
    GatewayRoutes,
    /// Routes of sidecars for a name outside the mesh.
    SidecarRoutes,
    /// A registered outside host: sidecars go straight to it.
    OutsideHost,
    /// A registered TCP port without addresses: it takes the port of every outside address.
    WholePort,
    /// Settings for connections to the gateway itself.
    ToGateway,
    /// TLS that the sidecar would originate.
    Origination,
    /// A `Sidecar` in the place of the rendered one.
    Sidecar,
    /// A network policy that lets pods out.
    NetworkPolicy,
}

impl CollisionCode {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SameName,
        Self::GatewayPods,
        Self::GatewayRoutes,
        Self::SidecarRoutes,
        Self::OutsideHost,
        Self::WholePort,
        Self::ToGateway,
        Self::Origination,
        Self::Sidecar,
        Self::NetworkPolicy,
    ];

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SameName => "same_name",
            Self::GatewayPods => "gateway_pods",
            Self::GatewayRoutes => "gateway_routes",
            Self::SidecarRoutes => "sidecar_routes",
            Self::OutsideHost => "outside_host",
            Self::WholePort => "whole_port",
            Self::ToGateway => "to_gateway",
            Self::Origination => "origination",
            Self::Sidecar => "sidecar",
            Self::NetworkPolicy => "network_policy",
        }
    }
}

impl From<CollisionCode> for &'static str {
    fn from(code: CollisionCode) -> Self {
        code.word()
    }
}

impl CollisionCode {
    /// What it means, for the reference page.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::SameName => {
                "The object has the kind, namespace and name of a rendered one. Applying the rendering overwrites it."
            }
            Self::GatewayPods => {
                "A `Gateway` can select the egress gateway's pods and opens a port on them."
            }
            Self::GatewayRoutes => {
                "A `VirtualService` binds routes to the rendered gateway, which must have rendered routes only."
            }
            Self::SidecarRoutes => {
                "A `VirtualService` makes enforced sidecars send an outside name elsewhere than to the gateway."
            }
            Self::OutsideHost => {
                "A `ServiceEntry` makes enforced sidecars connect to an outside host directly."
            }
            Self::WholePort => {
                "A TCP `ServiceEntry` without addresses takes its port of every outside address."
            }
            Self::ToGateway => {
                "A `DestinationRule` changes how enforced sidecars connect to the gateway."
            }
            Self::Origination => {
                "A `DestinationRule` makes sidecars originate TLS to an outside host. Traffic through the gateway does not get it."
            }
            Self::Sidecar => "A `Sidecar` competes with the rendered one of its namespace.",
            Self::NetworkPolicy => {
                "A `NetworkPolicy` allows egress to outside addresses. Network policies add up."
            }
        }
    }

    /// What to do about it, for the reference page.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::SameName => "Rename it, or remove it once the rendered one replaces it.",
            Self::GatewayPods => "Remove it, or select other pods.",
            Self::GatewayRoutes => {
                "Remove it: the rendered routes reach every destination that the policies accept."
            }
            Self::SidecarRoutes | Self::OutsideHost | Self::WholePort => {
                "Remove it, or leave the enforced namespaces out of its `exportTo`."
            }
            Self::ToGateway => {
                "Remove it, or narrow its host: the rendered `DestinationRule` has what the gateway needs."
            }
            Self::Origination => {
                "Let the application use TLS, or write `tls: {originate: true}` in the policy."
            }
            Self::Sidecar => {
                "Remove it. If its list of hosts matters, narrow what sidecars see with `exportTo`."
            }
            Self::NetworkPolicy => {
                "Remove the rule. Select what is in the cluster by namespaces and pods."
            }
        }
    }
}

/// Every collision of the objects that a mesh has with what was rendered for it, sorted.
#[must_use]
pub fn collisions(install: &Install, rendered: &Rendered, existing: &[Value]) -> Vec<Collision> {
    let mut found = Vec::new();
    for object in existing.iter().map(existing::Existing) {
        if object.label(PART_OF) == Some(NAME) {
            continue;
        }
        if rendered.objects().iter().any(|own| {
            (own.kind(), own.namespace(), own.name())
                == (object.kind(), object.namespace(), object.name())
        }) {
            found.push(object.collides(
                CollisionCode::SameName,
                "applying the rendering would overwrite it",
                "rename it, or remove it once the rendered one has its part",
            ));
        }
        match object.kind() {
            "Gateway" => rules::gateway(install, &object, &mut found),
            "VirtualService" => rules::routes(install, &object, &mut found),
            "ServiceEntry" => rules::entry(install, &object, &mut found),
            "DestinationRule" => rules::destination(install, &object, &mut found),
            "Sidecar" => rules::sidecar(install, &object, &mut found),
            "NetworkPolicy" => rules::network(install, &object, &mut found),
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests;
