//! `spec.cluster`.

use super::words::{is_dns_label, is_trust_domain};
use crate::error::RenderError;
use crate::install::{Cluster, networks};

pub(super) fn check(cluster: &Cluster, problems: &mut Vec<RenderError>) {
    let mut wrong = |path: &str, message: &str| problems.push(RenderError::new(path, message));
    let ports = &cluster.api_server_ports;
    if ports.is_empty() || ports.contains(&0) {
        wrong(
            "spec.cluster.apiServerPorts",
            "expected ports from 1 to 65535: without any it would be every port",
        );
    }
    if let Err(error) = cluster.nat64() {
        wrong("spec.cluster.nat64Prefixes", &error.to_string());
    }
    for domain in cluster.mesh_domains.iter().chain([&cluster.domain]) {
        if !domain.split('.').all(is_dns_label) {
            wrong("spec.cluster", &format!("`{domain}` is no domain"));
        }
    }
    if !is_trust_domain(&cluster.trust_domain) {
        wrong(
            "spec.cluster.trustDomain",
            "expected a trust domain, such as `cluster.local`",
        );
    }
    match &cluster.networks {
        Some(networks) => networks.check(problems),
        None => problems.push(RenderError::new(networks::PLACE, networks::MISSING)),
    }
}
