//! The reference case in a real Envoy.
fn main() {}
