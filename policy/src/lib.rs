//! The egress-warden policy engine: model, compile, evaluate, explain.
