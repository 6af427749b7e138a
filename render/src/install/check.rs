//! What is wrong with settings that could be read.

use std::collections::BTreeSet;

use egress_policy::canonical::is_digest;
use egress_policy::model::Policy;
use egress_policy::ports::SIDECAR_PORTS;

use super::gateway::LONGEST_STREAM;
use super::networks;
use super::{API_VERSION, Install, KIND, PolicyPlace};
use crate::error::RenderError;
use crate::{names, tunnel};

/// The first minor version whose proxies are known to send what is inspected to the device and
/// nowhere else (Envoy 1.40: `default_proxy_address`, routes that match filter state).
const FIRST_TO_INSPECT: u32 = 32;

impl Install {
    /// What is wrong with the settings by themselves.
    #[must_use]
    pub fn check(&self) -> Vec<RenderError> {
        let mut problems = Vec::new();
        let mut wrong =
            |place: &str, message: &str| problems.push(RenderError::new(place, message));
        if self.api_version != API_VERSION || self.kind != KIND {
            wrong(
                "apiVersion",
                &format!("expected `{API_VERSION}`, kind `{KIND}`"),
            );
        }
        let spec = &self.spec;
        if self.minor().is_none() {
            wrong(
                "spec.istio.version",
                "expected a version from `1.31` on: the gateway needs Envoy 1.39, which leaves \
                 forbidden addresses out of what a name resolves to; older ones connect to them",
            );
        }
        if spec.gateway.selector.is_empty() {
            wrong(
                "spec.gateway.selector",
                "an empty selector would select every pod",
            );
        }
        if !(1..=LONGEST_STREAM).contains(&spec.gateway.max_stream_seconds) {
            wrong(
                "spec.gateway.maxStreamSeconds",
                "expected 1 to 86400: no stream outlives a certificate",
            );
        }
        if let Some(seconds) = spec
            .gateway
            .deployment
            .as_ref()
            .and_then(|d| d.drain_seconds)
            && seconds < spec.gateway.max_stream_seconds
        {
            let message = format!(
                "a pod that goes would cut streams, which take up to gateway.maxStreamSeconds ({}): \
                 state no less, leave it out, or shorten the streams",
                spec.gateway.max_stream_seconds
            );
            wrong("spec.gateway.deployment.drainSeconds", &message);
        }
        let ports = spec.gateway.ports;
        if ports.http == ports.tunnel || [ports.http, ports.tunnel].contains(&ports.ready) {
            wrong(
                "spec.gateway.ports",
                "HTTP, tunnels and the probe need a port each",
            );
        }
        let protocols = &spec.gateway.protocols;
        let stated = [&protocols.http, &protocols.tls, &protocols.tcp].into_iter();
        let mut once = BTreeSet::new();
        if !stated
            .flatten()
            .all(|port| *port != 0 && once.insert(*port))
            || protocols.tls.contains(&80)
            || protocols.http.contains(&443)
            || protocols.tcp.iter().any(|port| [80, 443].contains(port))
        {
            wrong(
                "spec.gateway.protocols",
                "expected ports from 1 to 65535, each once: 80 is HTTP and 443 is TLS",
            );
        }
        let routed = protocols.http.iter().chain(&protocols.tls);
        if let Some(port) = routed.into_iter().find(|port| SIDECAR_PORTS.contains(port)) {
            let message = format!(
                "port {port} is one that sidecars listen on themselves: with a listener for it they \
                 could refuse all of theirs"
            );
            wrong("spec.gateway.protocols", &message);
        }
        let ports = &spec.cluster.api_server_ports;
        if ports.is_empty() || ports.contains(&0) {
            wrong(
                "spec.cluster.apiServerPorts",
                "expected ports from 1 to 65535: without any it would be every port",
            );
        }
        if let Err(error) = spec.cluster.nat64() {
            wrong("spec.cluster.nat64Prefixes", &error.to_string());
        }
        if spec.workloads.namespaces.is_empty() {
            wrong("spec.workloads.namespaces", "nothing would be enforced");
        }
        let namespaces: BTreeSet<_> = spec.workloads.namespaces.iter().collect();
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
        if !["oci://", "file:///"]
            .iter()
            .any(|scheme| spec.module.url.starts_with(scheme))
        {
            wrong(
                "spec.module.url",
                "expected `oci://REGISTRY/NAME:TAG` or `file:///PATH`",
            );
        }
        match &spec.module.sha256 {
            Some(digest) if is_digest(digest) => {}
            Some(_) => wrong("spec.module.sha256", "expected 64 hexadecimal digits"),
            None if spec.module.url.starts_with("oci://") => wrong(
                "spec.module.sha256",
                "a tag can be moved: state the digest (`warden package` prints it)",
            ),
            None => {}
        }
        let domains = spec.cluster.mesh_domains.iter();
        for domain in domains.chain([&spec.cluster.domain]) {
            if !domain.split('.').all(is_dns_label) {
                let message = format!("`{domain}` is no domain");
                wrong("spec.cluster", &message);
            }
        }
        let images = &spec.guardrails.proxy_images;
        if images.is_empty() || !images.iter().all(|image| is_image(image)) {
            wrong(
                "spec.guardrails.proxyImages",
                "expected images as `REGISTRY/NAME`, in full, without tag and digest",
            );
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        let folder = &spec.gateway.secrets;
        if !folder.starts_with('/') || folder.ends_with('/') || !folder.bytes().all(plain) {
            wrong("spec.gateway.secrets", "expected the path of a folder");
        }
        if let Some(PolicyPlace::Image(hash)) = spec.module.policy_place()
            && !is_digest(hash)
        {
            wrong(
                "spec.module.policy",
                "expected `inline`, or 64 hexadecimal digits (`warden package` prints them)",
            );
        }
        if !is_trust_domain(&spec.cluster.trust_domain) {
            wrong(
                "spec.cluster.trustDomain",
                "expected a trust domain, such as `cluster.local`",
            );
        }
        match &spec.cluster.networks {
            Some(networks) => networks.check(&mut problems),
            None => problems.push(RenderError::new(networks::PLACE, networks::MISSING)),
        }
        self.check_inspection(&mut problems);
        self.check_limits(&mut problems);
        tunnel::check(&spec.tunnel, &mut problems);
        self.check_scopes(&mut problems);
        self.check_lists(&mut problems);
        names::check(self, &mut problems);
        for (name, value) in self.names() {
            if !is_dns_label(value) {
                problems.push(RenderError::new(
                    name,
                    format!("`{value}` is no Kubernetes name"),
                ));
            }
        }
        problems
    }

    fn check_inspection(&self, problems: &mut Vec<RenderError>) {
        let devices = &self.spec.inspection;
        if !devices.is_empty() && self.minor().is_some_and(|minor| minor < FIRST_TO_INSPECT) {
            let message = format!(
                "inspection needs proxies of Istio 1.{FIRST_TO_INSPECT}: older ones could take a \
                 device's route for an ordinary one"
            );
            problems.push(RenderError::new("spec.istio.version", message));
        }
        let mut names = BTreeSet::new();
        for device in devices {
            let place = format!("spec.inspection `{}`", device.name);
            let mut wrong = |message: &str| problems.push(RenderError::new(&place, message));
            if !is_dns_label(&device.name) {
                wrong("a name is letters, digits and hyphens");
            }
            if !names.insert(&device.name) {
                wrong("two devices have this name");
            }
            let address = device.address.parse::<std::net::IpAddr>();
            if address.is_err() && !device.address.split('.').all(is_dns_label) {
                wrong("its address is neither an address nor a host name");
            }
            if device.port == 0 {
                wrong("it needs a port");
            }
            let Some(pods) = &device.pods else { continue };
            if pods.selector.is_empty() || !is_dns_label(&pods.namespace) {
                wrong("its pods need a namespace and labels");
            }
        }
    }

    /// Lists whose entries go into expressions.
    fn check_lists(&self, problems: &mut Vec<RenderError>) {
        let guardrails = &self.spec.guardrails;
        for (place, list) in [
            (
                "spec.guardrails.endpointWriters",
                &guardrails.endpoint_writers,
            ),
            ("spec.guardrails.csiDrivers", &guardrails.csi_drivers),
            (
                "spec.guardrails.imageRegistries",
                &guardrails.image_registries,
            ),
            ("spec.guardrails.jwksUris", &guardrails.jwks_uris),
        ] {
            for entry in list {
                let plain = |byte: u8| byte.is_ascii_graphic() && !b"'\"\\".contains(&byte);
                if entry.is_empty() || entry.ends_with('/') || !entry.bytes().all(plain) {
                    let message =
                        format!("`{entry}` is none: letters, digits and signs, no quotes");
                    problems.push(RenderError::new(place, message));
                }
            }
        }
        let registries = guardrails.image_registries.iter();
        for entry in registries.filter(|entry| !entry.contains(['.', ':', '/'])) {
            let message = format!("`{entry}` is no registry: state its host name");
            problems.push(RenderError::new("spec.guardrails.imageRegistries", message));
        }
        for entry in &guardrails.jwks_uris {
            if !entry.starts_with("https://") {
                let message = format!("`{entry}` is no https address");
                problems.push(RenderError::new("spec.guardrails.jwksUris", message));
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

/// `REGISTRY/PATH/NAME`, as Kubernetes has it in a pod. It goes into an expression.
fn is_image(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    let name = |name: &str| !name.is_empty() && name.bytes().all(inner);
    let Some((registry, path)) = text.split_once('/') else {
        return false;
    };
    let (host, port) = registry.split_once(':').unwrap_or((registry, "443"));
    (host.contains('.') || host == "localhost" || registry.contains(':'))
        && name(host)
        && port.parse::<u16>().is_ok()
        && path.split('/').all(name)
}

/// SPIFFE-ID §2.1: lower-case letters, digits, dots, hyphens and underscores.
fn is_trust_domain(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(inner)
}

pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
