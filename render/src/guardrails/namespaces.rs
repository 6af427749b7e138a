//! Namespaces that are called like a top-level domain.
//!
//! A Service `web` of a namespace `dev` is called `web.dev` by its sidecars' routes and, through the
//! search list of every pod, by the cluster's DNS. So whoever writes Services there answers for
//! outside names.

use serde_json::{Value, json};

use super::{Check, check, quoted};
use crate::install::Install;

const DOMAINS: &str = include_str!("domains.txt");

/// The top-level domains of the list.
fn domains() -> impl Iterator<Item = &'static str> {
    let lines = DOMAINS.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace)
}

/// Whether names below this namespace's look like outside ones.
pub(crate) fn is_like_a_domain(namespace: &str) -> bool {
    let letters = namespace.bytes().all(|byte| byte.is_ascii_lowercase());
    namespace.starts_with("xn--")
        || (namespace.len() == 2 && letters)
        || domains().any(|domain| domain == namespace)
}

pub(super) fn variables(install: &Install) -> Value {
    let domains: Vec<_> = domains().collect();
    json!([{
        "name": "allowed",
        "expression": quoted(&install.spec.guardrails.top_level_namespaces),
    }, {
        "name": "domains",
        "expression": quoted(&domains),
    }])
}

pub(super) fn checks() -> Vec<Check> {
    vec![check(
        "object.metadata.name in variables.allowed || \
         (!(object.metadata.name in variables.domains) && \
         !object.metadata.name.startsWith('xn--') && \
         (size(object.metadata.name) != 2 || ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', \
         '-'].exists(other, object.metadata.name.contains(other))))",
        "a namespace that is called like a top-level domain has Services with outside names \
         (web.dev): call it otherwise",
    )]
}
