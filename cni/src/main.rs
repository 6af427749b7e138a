//! The egress-warden CNI plugin and node agent.

fn main() {}
