//! What is wrong with settings that could be read.

mod cluster;
mod gateway;
mod guardrails;
pub(super) mod words;

use std::collections::BTreeSet;

use egress_policy::canonical::is_digest;
use egress_policy::model::Policy;

use super::{API_VERSION, InspectionProxy, Install, KIND, ModuleImage, PolicyLocation};
use crate::error::RenderError;
use crate::{names, tunnel};

use words::is_dns_label;

/// The first minor version of Istio whose Envoy is known to send what is inspected to the inspection
/// proxy and nowhere else (Envoy 1.40: `default_proxy_address`, routes that match filter state).
const FIRST_TO_INSPECT: u32 = 32;

impl Install {
    /// What is wrong with the settings by themselves.
    #[must_use]
    pub fn check(&self) -> Vec<RenderError> {
        let mut problems = Vec::new();
        self.check_version(&mut problems);
        gateway::check(&self.spec.gateway, &mut problems);
        cluster::check(&self.spec.cluster, &mut problems);
        self.check_workloads(&mut problems);
        check_module(&self.spec.module, &mut problems);
        guardrails::check(&self.spec.guardrails, &mut problems);
        for proxy in &self.spec.inspection {
            check_inspection_proxy(proxy, &mut problems);
        }
        self.check_limits(&mut problems);
        tunnel::check(&self.spec.tunnel, &mut problems);
        self.check_scopes(&mut problems);
        names::check(self, &mut problems);
        self.check_names(&mut problems);
        problems
    }

    /// The document, and whether the mesh can do what is asked of it.
    fn check_version(&self, problems: &mut Vec<RenderError>) {
        if self.api_version != API_VERSION || self.kind != KIND {
            let message = format!("expected `{API_VERSION}`, kind `{KIND}`");
            problems.push(RenderError::new("apiVersion", message));
        }
        let message = match self.minor() {
            None => {
                "expected a version from `1.31` on: the gateway needs Envoy 1.39, which leaves \
                 forbidden addresses out of what a name resolves to; older ones connect to them"
                    .to_owned()
            }
            Some(minor) if minor < FIRST_TO_INSPECT && !self.spec.inspection.is_empty() => format!(
                "inspection needs proxies of Istio 1.{FIRST_TO_INSPECT}: older ones could take an \
                 inspection proxy's route for an ordinary one"
            ),
            Some(_) => return,
        };
        problems.push(RenderError::new("spec.istio.version", message));
    }

    /// Which namespaces are enforced, and which of the settings' other namespaces they cannot be.
    fn check_workloads(&self, problems: &mut Vec<RenderError>) {
        let spec = &self.spec;
        let mut wrong =
            |place: &str, message: &str| problems.push(RenderError::new(place, message));
        let namespaces: BTreeSet<_> = spec.workloads.namespaces.iter().collect();
        if namespaces.is_empty() {
            wrong("spec.workloads.namespaces", "nothing would be enforced");
        }
        let mut readers = spec.cluster.metrics_namespaces.iter();
        if let Some(reader) = readers.find(|reader| namespaces.contains(reader)) {
            let message = format!(
                "`{reader}` is enforced: its pods reach the gateway's two ports and no other"
            );
            wrong("spec.cluster.metricsNamespaces", &message);
        }
        if namespaces.len() < spec.workloads.namespaces.len() {
            wrong("spec.workloads.namespaces", "a namespace is listed twice");
        }
        if namespaces.contains(&spec.gateway.namespace) {
            wrong(
                "spec.workloads.namespaces",
                "the gateway's namespace holds the gateway and nothing else",
            );
        }
    }

    /// Names that go into generated text or tell objects apart.
    fn check_names(&self, problems: &mut Vec<RenderError>) {
        let mut proxies = BTreeSet::new();
        for InspectionProxy { name, .. } in &self.spec.inspection {
            if !proxies.insert(name) {
                let path = format!("spec.inspection `{name}`");
                problems.push(RenderError::new(
                    path,
                    "two inspection proxies have this name",
                ));
            }
        }
        for (path, name) in self.names() {
            if !is_dns_label(name) {
                let message = format!("`{name}` is no Kubernetes name");
                problems.push(RenderError::new(path, message));
            }
        }
    }

    /// Names that go into generated text, such as host names and regular expressions.
    fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let spec = &self.spec;
        let (gateway, cluster) = (&spec.gateway, &spec.cluster);
        let one = [
            ("spec.gateway.namespace", &gateway.namespace),
            ("spec.gateway.service", &gateway.service),
            ("spec.cluster.dnsNamespace", &cluster.dns_namespace),
            ("spec.cluster.istioNamespace", &cluster.istio_namespace),
        ];
        let several = [
            (
                "spec.cluster.metricsNamespaces",
                &cluster.metrics_namespaces,
            ),
            (
                "spec.guardrails.namingNamespaces",
                &spec.guardrails.naming_namespaces,
            ),
            (
                "spec.guardrails.topLevelNamespaces",
                &spec.guardrails.top_level_namespaces,
            ),
            (
                "spec.guardrails.extensionNamespaces",
                &spec.guardrails.extension_namespaces,
            ),
            ("spec.workloads.namespaces", &spec.workloads.namespaces),
        ];
        let several = several.into_iter();
        let several =
            several.flat_map(|(place, names)| names.iter().map(move |name| (place, name)));
        let all = one.into_iter().chain(several);
        all.map(|(place, name)| (place, name.as_str()))
    }

    /// Whether later policies stay within what the settings grant them.
    pub(crate) fn check_grants(&self, policies: &[Policy], problems: &mut Vec<RenderError>) {
        for (policy, grant) in policies.iter().zip(&self.spec.policies) {
            let Some(applies_to) = &policy.head.applies_to else {
                continue;
            };
            let accounts = applies_to
                .service_accounts
                .iter()
                .map(|account| &account.namespace);
            for namespace in applies_to.namespaces.iter().chain(accounts) {
                if !grant.namespaces.contains(namespace) {
                    problems.push(RenderError::new(
                        format!("policy {}", policy.head.name),
                        format!("it applies to `{namespace}`, which is not granted to it"),
                    ));
                }
            }
        }
    }
}

fn check_module(module: &ModuleImage, problems: &mut Vec<RenderError>) {
    let mut wrong = |path: &str, message: &str| problems.push(RenderError::new(path, message));
    let schemes = ["oci://", "file:///"];
    if !schemes.iter().any(|scheme| module.url.starts_with(scheme)) {
        wrong(
            "spec.module.url",
            "expected `oci://REGISTRY/NAME:TAG` or `file:///PATH`",
        );
    }
    match &module.sha256 {
        Some(digest) if is_digest(digest) => {}
        Some(_) => wrong("spec.module.sha256", "expected 64 hexadecimal digits"),
        None if module.url.starts_with("oci://") => wrong(
            "spec.module.sha256",
            "a tag can be moved: state the digest (`warden package` prints it)",
        ),
        None => {}
    }
    if let Some(PolicyLocation::Image(hash)) = module.policy_location()
        && !is_digest(hash)
    {
        wrong(
            "spec.module.policy",
            "expected `inline`, or 64 hexadecimal digits (`warden package` prints them)",
        );
    }
}

fn check_inspection_proxy(proxy: &InspectionProxy, problems: &mut Vec<RenderError>) {
    let path = format!("spec.inspection `{}`", proxy.name);
    let mut wrong = |message: &str| problems.push(RenderError::new(&path, message));
    if !is_dns_label(&proxy.name) {
        wrong("a name is letters, digits and hyphens");
    }
    let address = proxy.address.parse::<std::net::IpAddr>();
    if address.is_err() && !proxy.address.split('.').all(is_dns_label) {
        wrong("its address is neither an address nor a host name");
    }
    if proxy.port == 0 {
        wrong("it needs a port");
    }
    let Some(pods) = &proxy.pods else { return };
    if pods.selector.is_empty() || !is_dns_label(&pods.namespace) {
        wrong("its pods need a namespace and labels");
    }
}
