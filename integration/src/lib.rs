//! Tests against the real Envoy, the real Istio and the real kernel.
