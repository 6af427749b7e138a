//! The node guard: the part of egress-warden that works in the node's kernel, so that there is no
//! other way out.
//!
//! A chained CNI plugin ([`plugin`]) tells the host's kernel, before a pod's first process
//! runs, what that pod may send; a node agent ([`agent`]) keeps that true afterwards. The
//! rules are text made by pure functions ([`rules`]) from a configuration that only node
//! administrators hold ([`config`]) and from what the host remembers of each pod interface
//! ([`attachment`], [`store`]). Nothing here trusts anything that a pod can write.

pub mod agent;
pub mod attachment;
pub mod config;
pub mod guard;
pub mod link;
pub mod nft;
pub mod plugin;
pub mod protocol;
pub mod rules;
pub mod store;
