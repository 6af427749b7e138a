//! The egress-warden policy engine.
//!
//! Data flows one way: a file is read into a checked [`model::Policy`], compiled into a
//! [`PolicySet`], and [`PolicySet::evaluate`] turns [`facts::Facts`] into a verdict. The engine
//! does no I/O, has no clock and knows no Envoy; adapters gather facts and act on verdicts, and
//! decide nothing.

pub mod address;
pub mod canonical;
pub mod case;
pub mod classes;
pub mod config;
pub mod contract;
mod decode;
pub mod defect;
pub mod denial;
pub mod destination;
pub mod embedded;
pub mod facts;
mod index;
pub mod limits;
pub mod model;
pub mod name;
pub mod path;
mod policy_set;
pub mod port;
pub mod ports;
pub mod read;
pub mod reason;
pub mod reference;
pub mod relation;
pub mod settings;
pub mod tree;
pub mod udp;
pub mod verdict;
pub use policy_set::{PolicySet, PolicySetBuilder};

// Test support is shared with the integration tests, which know the crate by its name.
#[cfg(test)]
extern crate self as egress_policy;
