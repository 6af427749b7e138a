//! The real Istio: its command, and its control plane feeding stock Envoys.
//!
//! - [`tools`] finds Istio's programs, or says how to get them.
//! - [`mod@reference`] is the reference case as an admin would have it.
//! - [`control_plane`] runs the generator of a real mesh's configuration.
//! - [`agent`] runs Istio's agent, which fetches modules.
//! - [`dump`] reads configuration dumps.
//! - [`matrix`] is who reaches what in the reference case.
//! - [`pod`] is a network of its own, redirected as Istio redirects it.
//! - [`testbed`] puts all of it together.

pub mod agent;
pub mod control_plane;
pub mod dump;
pub mod matrix;
pub mod pod;
pub mod reference;
pub mod testbed;
pub mod tools;

use std::net::Ipv4Addr;

/// The gateway's address.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
