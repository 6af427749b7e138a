//! The egress-warden proxy-wasm module.
