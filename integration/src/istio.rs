//! The real Istio: its command, and its control plane feeding stock Envoys.
//!
//! - [`tools`] finds Istio's programs, or says how to get them.
//! - [`reference`] is the reference case as an admin would have it.

pub mod reference;
pub mod tools;
