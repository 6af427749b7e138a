//! The egress-warden proxy-wasm module: Envoy's callbacks become facts, the engine's verdict
//! becomes what Envoy does. No policy is decided here.
//!
//! One module, two contexts, told apart by configuration:
//! - [`http`]: requests and CONNECT tunnels, before anything is connected;
//! - [`network`]: connections of an internal listener, or of a chain per destination.
//!
//! A third, [`readiness`], judges nothing: it tells a probe whether these have their configuration.
//!
//! Everything but [`host`]'s implementation over the real host calls is plain Rust over a trait,
//! tested natively with a fake host.

#[cfg(target_arch = "wasm32")]
mod abi;
pub mod budget;
pub mod caller;
pub mod claims;
pub mod connections;
pub mod denial;
#[cfg(target_arch = "wasm32")]
mod entry;
#[cfg(test)]
mod fake;
pub mod hello;
pub mod host;
pub mod http;
pub mod log_line;
pub mod metric;
pub mod network;
pub mod plugin;
pub mod position;
pub mod readiness;
pub mod record;
pub mod request;
pub mod revalidation;
pub mod role;
pub mod state;
pub mod stream_facts;
pub mod terminated_tls;
