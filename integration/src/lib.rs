//! The test bench: a real Envoy as egress gateway, real Envoys as sidecars, and an outside world
//! with public-looking addresses, real ports and a DNS server of its own, all inside one network
//! namespace.
//!
//! - [`sandbox`] makes the namespace and runs a test or the demo inside it.
//! - [`mesh`] starts everything from the templates in `envoy-config/`.
//! - [`outside`] and [`dns`] are the servers, which write down what reaches them.
//! - [`client`] dials as an application does, through its sidecar.
//! - [`corpus`] is everything that somebody at the gateway could try.
//! - [`istio`] has a real control plane feed the same Envoys.
//! - [`end_to_end`] puts pod, gateway and outside into namespaces of their own, under the node guard.
//! - [`gateway_bench`] measures what a verdict costs, beside other ways to judge a request.
//! - [`registry`] is a registry for images.
//! - [`cluster`] is a Kubernetes with Istio, in namespaces of its own.
//! - [`command`] runs programs that have to succeed.
//! - [`extension`] writes the policy where the gateway looks for it.

pub mod bypass;
pub mod cases;
pub mod certificates;
pub mod classes;
pub mod client;
pub mod cluster;
pub mod command;
pub mod corpus;
pub mod demo;
pub mod dns;
pub mod end_to_end;
pub mod envoy;
pub mod extension;
pub mod gateway_bench;
pub mod hosts;
pub mod http2;
pub mod http2_raw;
pub mod inspection_proxy;
pub mod istio;
pub mod mesh;
pub mod noisy;
pub mod outside;
pub mod peer;
pub mod policy;
pub mod registry;
pub mod report;
pub mod sandbox;
pub mod template;
pub mod verdicts;
pub mod verify;
pub mod workspace;
