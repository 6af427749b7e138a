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
mod documents;
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
mod prepared;
mod proxies;
pub mod removal;
mod rendered;
mod tunnel;
mod workloads;

pub use deployment::memory::machines;
pub use earlier::Earlier;
pub use embedded::EmbeddedPolicies;
pub use envoy::log::ACCESS_LOG_FIELDS;
pub use error::RenderError;
pub use guardrails::admission::refusals;
#[cfg(feature = "tables")]
pub use guardrails::tables as admission_tables;
pub use install::Install;
pub use object::Object;
pub use prepared::{
    Prepared, coredns_zone, node_networks, render, udp_exceptions, warnings, warnings_of,
};
pub use rendered::Rendered;

/// The name that rendered objects carry or begin with.
pub const NAME: &str = "egress-warden";
/// Who manages rendered objects (the label `app.kubernetes.io/managed-by`): the command.
pub const RENDERER: &str = "warden";

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
