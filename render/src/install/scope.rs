//! What the sidecars of enforced namespaces see of the mesh.
//!
//! A sidecar takes a name or an address for every Service and every route that it sees, so whoever
//! writes these in a namespace that it sees may take traffic. Istio cannot say "all but", so what is
//! seen is listed.

use std::collections::BTreeSet;

use super::Install;
use crate::error::RenderError;
use crate::guardrails::namespaces::is_like_a_domain;

impl Install {
    /// `egress.hosts` of the `Sidecar` of an enforced namespace.
    pub(crate) fn sidecar_hosts(&self, namespace: &str) -> Vec<String> {
        let spec = &self.spec;
        let scope = self.scope(namespace);
        let mut hosts = BTreeSet::new();
        if !scope.iter().any(|host| host.starts_with("./")) {
            hosts.insert("./*".to_owned());
        }
        hosts.insert(format!("{}/*", spec.gateway.namespace));
        for system in [&spec.cluster.istio_namespace, &spec.cluster.dns_namespace] {
            hosts.insert(format!("{system}/*"));
        }
        // The API server's Service, and nothing else of that namespace.
        hosts.insert(format!(
            "default/kubernetes.default.svc.{}",
            spec.cluster.domain
        ));
        let others = scope.iter().filter(|host| *host != namespace);
        hosts.extend(others.map(|host| {
            if host.contains('/') {
                host.clone()
            } else {
                format!("{host}/*")
            }
        }));
        hosts.into_iter().collect()
    }

    /// The entries for an enforced namespace, beside what all of them see.
    fn scope(&self, namespace: &str) -> Vec<String> {
        let workloads = &self.spec.workloads;
        if let Some(own) = workloads.scopes.get(namespace) {
            return own.clone();
        }
        workloads.mesh_hosts.clone().unwrap_or_else(|| {
            let naming = self.spec.guardrails.naming_namespaces.iter();
            workloads.namespaces.iter().chain(naming).cloned().collect()
        })
    }

    /// The namespaces, beside the system's, of which an enforced one sees anything.
    pub(crate) fn visible(&self) -> BTreeSet<String> {
        let namespaces = &self.spec.workloads.namespaces;
        let listed = namespaces.iter().flat_map(|own| self.scope(own));
        let listed = listed.filter_map(|host| {
            let namespace = host.split_once('/').map_or(&*host, |(before, _)| before);
            (namespace != ".").then(|| namespace.to_owned())
        });
        listed.chain(namespaces.iter().cloned()).collect()
    }

    pub(super) fn check_scopes(&self, problems: &mut Vec<RenderError>) {
        let workloads = &self.spec.workloads;
        let mut wrong =
            |place: &str, message: String| problems.push(RenderError::new(place, message));
        for namespace in workloads.scopes.keys() {
            if !workloads.namespaces.contains(namespace) {
                let message = format!("`{namespace}` is not enforced");
                wrong("spec.workloads.scopes", message);
            }
        }
        let shared = workloads.mesh_hosts.iter().flatten();
        let shared = shared.map(|host| ("spec.workloads.meshHosts", host, false));
        let own = workloads.scopes.values().flatten();
        let own = own.map(|host| ("spec.workloads.scopes", host, true));
        for (place, host, own) in shared.chain(own) {
            if !is_mesh_host(host, own) {
                wrong(
                    place,
                    format!(
                        "`{host}` is neither `NAMESPACE` nor `NAMESPACE/HOST`: Istio cannot say \
                             \"all but\", so list what they call"
                    ),
                );
            }
        }
        let allowed = &self.spec.guardrails.top_level_namespaces;
        let mut seen = BTreeSet::new();
        for namespace in &workloads.namespaces {
            for host in self.sidecar_hosts(namespace) {
                let other = host.split_once('/').map_or("", |(before, _)| before);
                if is_like_a_domain(other) && !allowed.iter().any(|name| name == other) {
                    seen.insert(other.to_owned());
                }
            }
        }
        for namespace in seen {
            let message = format!(
                "sidecars of other namespaces would see `{namespace}`, which is called like a \
                 top-level domain: its Service `web` takes `http://web.{namespace}` from them. Leave \
                 it out of workloads.meshHosts, or list it in guardrails.topLevelNamespaces"
            );
            wrong("spec.workloads", message);
        }
    }
}

/// `NAMESPACE`, or `NAMESPACE/HOST` as Istio has it, and never every namespace.
fn is_mesh_host(text: &str, own: bool) -> bool {
    let (namespace, host) = text.split_once('/').unwrap_or((text, "*"));
    let host = match host.strip_prefix("*.") {
        Some(rest) => rest,
        None if host == "*" => return is_namespace(namespace, own),
        None => host,
    };
    is_namespace(namespace, own) && host.split('.').all(super::check::words::is_dns_label)
}

fn is_namespace(text: &str, own: bool) -> bool {
    (own && text == ".") || super::check::words::is_dns_label(text)
}
