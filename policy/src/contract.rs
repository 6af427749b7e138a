//! The words that the module and the gateway's configuration share. Each stands here once; what
//! writes Envoy configuration and what runs in Envoy both take it from here.

/// The one domain of the product: of its API group, and of its labels, annotations and taints.
pub const DOMAIN: &str = "egress-warden.io";
/// The `apiVersion` of policies and of install settings.
pub const API_VERSION: &str = "egress-warden.io/v1alpha1";
/// The `kind` of install settings.
pub const INSTALL_KIND: &str = "EgressGateway";
/// The annotation of rendered objects with the hash of the policies that they carry.
pub const POLICY_HASH: &str = "egress-warden.io/policy-hash";
/// The label by which an administrator cuts off a running pod.
pub const REVOKED: &str = "egress-warden.io/revoked";
/// [`POLICY_HASH`] as a JSON pointer into an object (RFC 6901 §3).
pub const POLICY_HASH_POINTER: &str = "/metadata/annotations/egress-warden.io~1policy-hash";
/// The label of every object of the product, with its name.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The label of every object that the command renders, with the command's name. The node guard's
/// objects come from files and do not have it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Who reports the node agent's events.
pub const NODE_AGENT: &str = "egress-warden.io/cni-agent";
/// What the CNI plugin calls itself. Its executable is recognised by it.
pub const NODE_PLUGIN: &str = "egress-warden.io/cni-plugin";
/// A label that no pod has.
pub const NO_POD: &str = "egress-warden.io/none";
/// The taint of a node whose guard does not stand.
pub const UNGUARDED: &str = "egress-warden.io/unguarded";

/// Property of the module with the verdict, and behind a space the facts that it rests on; filter
/// state `wasm.warden_verdict` ([`VERDICT_STATE`]).
pub const VERDICT: &str = "warden_verdict";
/// [`VERDICT`] as Envoy's configuration names it.
pub const VERDICT_STATE: &str = "wasm.warden_verdict";
/// Property with what decided a denial, in words for people, for access logs.
pub const RULING: &str = "warden_ruling";
/// [`RULING`] as Envoy's configuration names it.
pub const RULING_STATE: &str = "wasm.warden_ruling";
/// Filter state in which the verdict of the outer connection reaches an internal listener.
pub const FACTS: &str = "warden.facts";
/// Filter state with connection number and cluster, as `%CONNECTION_ID% %UPSTREAM_CLUSTER_RAW%`.
pub const POSITION: &str = "warden.position";
/// Filter state with the URI SANs of the peer certificate.
pub const PRINCIPAL: &str = "warden.principal";
/// Filter state with Istio's peer metadata.
pub const DOWNSTREAM_PEER: &str = "downstream_peer";
/// Property with the judged name of TLS, which `tcp_proxy` connects to.
pub const HOST: &str = "warden_host";
/// Filter state with the host that Envoy's dynamic forward proxy connects to.
pub const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
/// Filter state with its port.
pub const DYNAMIC_PORT: &str = "envoy.upstream.dynamic_port";
/// Filter state with the cluster that `tcp_proxy` connects to instead of its own.
pub const TCP_CLUSTER: &str = "envoy.tcp_proxy.cluster";

/// Filter state of a sidecar's connection with the dialled address, as Envoy's IP object.
pub const DIALLED: &str = "warden.dialled";

/// Filter state of a sidecar's connection with the dialled address masked to so many bits, as text.
#[must_use]
pub fn dialled_network(bits: u8) -> String {
    format!("warden.net{bits}")
}

/// What an inspection proxy is told of a connection that is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectionFact {
    /// Its own name, which the RBAC lock of its listeners compares.
    Proxy,
    /// The rule that chose it.
    Rule,
    /// The workload that asks.
    Workload,
    /// The judged host and port.
    Destination,
}

impl InspectionFact {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Proxy, Self::Rule, Self::Workload, Self::Destination];

    /// The module's property.
    #[must_use]
    pub const fn property(self) -> &'static str {
        match self {
            Self::Proxy => "warden_inspection_proxy",
            Self::Rule => "warden_rule",
            Self::Workload => "warden_workload",
            Self::Destination => "warden_destination",
        }
    }

    /// [`InspectionFact::property`] as Envoy's configuration names it.
    #[must_use]
    pub fn property_state(self) -> String {
        format!("wasm.{}", self.property())
    }

    /// The filter state in which it reaches the inspection proxy's listener inside the gateway.
    #[must_use]
    pub const fn inward_state(self) -> &'static str {
        match self {
            Self::Proxy => "warden.inspection_proxy",
            Self::Rule => "warden.rule",
            Self::Workload => "warden.workload",
            Self::Destination => "warden.destination",
        }
    }
}

/// The class of what is dialled by its number. Its DNS cache refuses nothing, and its resolvers
/// cannot answer, so that no name resolves there. No class of the policies may be named so.
pub const LITERAL: &str = "literal";
/// The class of names where the configuration says that no address is checked.
pub const UNCHECKED: &str = "unchecked";
/// The verdict's word for a tunnel that another listener ends.
pub const FORWARD: &str = "forward";
/// The verdict's word for a denial.
pub const DENY: &str = "deny";

/// The verdict's word for an Accept in this class. In the entry a space follows, so that a longer
/// name is another word.
#[must_use]
pub fn accept_word(class: &str) -> String {
    format!("accept:{class}")
}

/// The verdict's word for an Inspect by this inspection proxy in this class.
#[must_use]
pub fn inspect_word(proxy: &str, class: &str) -> String {
    format!("inspect:{proxy}:{class}")
}

/// The word as [`VERDICT`] begins: what a route and an RBAC lock match as a prefix.
#[must_use]
pub fn entry_prefix(word: &str) -> String {
    format!("{word} ")
}

/// Requests to port 80.
pub const CLUSTER_HTTP: &str = "warden-http";
/// TLS passed on unopened.
pub const CLUSTER_TLS: &str = "warden-tls";
/// Opaque bytes.
pub const CLUSTER_TCP: &str = "warden-tcp";
/// The internal listener that judges the server name.
pub const CLUSTER_TLS_INNER: &str = "warden-tls-inner";
/// Requests whose TLS ended at the gateway.
pub const CLUSTER_ENDED_OUT: &str = "warden-ended-out";

/// The cluster of requests to this port.
#[must_use]
pub fn http_cluster(port: u16) -> String {
    match port {
        80 => CLUSTER_HTTP.to_owned(),
        port => format!("{CLUSTER_HTTP}-{port}"),
    }
}

/// The cluster of requests to this port that the gateway begins TLS for, by the index of
/// its settings.
#[must_use]
pub fn originate_cluster(port: u16, index: usize) -> String {
    format!("warden-originate-{port}-{index}")
}

/// Property with the judged name of TLS for the class that resolves it. `tcp_proxy` does not wait for
/// a name to be resolved, so that a filter of the class does it ahead; for the other classes there is
/// none, and nothing is asked.
#[must_use]
pub fn resolve_property(class: &str) -> String {
    format!("warden_resolve_{class}")
}

/// The cluster of an inspection proxy itself, which the listeners inside the gateway connect to.
#[must_use]
pub fn inspection_proxy_cluster(proxy: &str) -> String {
    format!("warden-inspection-proxy-{proxy}")
}

/// The cluster that resolves a judged name and leads to an inspection proxy by its listener inside the
/// gateway.
#[must_use]
pub fn inspect_cluster(proxy: &str) -> String {
    format!("warden-inspect-{proxy}")
}

/// The cluster by which tunnels of opaque bytes go on to an inspection proxy.
#[must_use]
pub fn tunnel_cluster(proxy: &str) -> String {
    format!("warden-tunnel-{proxy}")
}

/// The cluster of a class.
#[must_use]
pub fn class_cluster(cluster: &str, class: &str) -> String {
    format!("{cluster}-{class}")
}

/// Istio's peer metadata.
pub const PEER_METADATA_HEADER: &str = "x-envoy-peer-metadata";
/// The namespace that a sidecar wrote of its workload.
pub const NAMESPACE_HEADER: &str = "x-egress-warden-namespace";
/// The labels that a sidecar wrote of its workload.
pub const LABELS_HEADER: &str = "x-egress-warden-labels";
/// What an inspection proxy is told: the rule.
pub const RULE_HEADER: &str = "x-egress-warden-rule";
/// What an inspection proxy is told: the workload.
pub const WORKLOAD_HEADER: &str = "x-egress-warden-workload";

/// What an inspection proxy is told of requests and of tunnels of opaque bytes: an address of the
/// name that is not refused, and the port.
pub const ADDRESS_HEADER: &str = "x-egress-warden-address";

/// What decided a denial, in the gateway's own answer: [`crate::verdict::DecidedBy`] as JSON. No
/// server's answer has it.
pub const DENIED_HEADER: &str = "x-egress-warden-denied";

/// Headers that stay in the mesh: the mesh's own words and ours. A client has no say in the last
/// three.
pub const MESH_HEADERS: [&str; 9] = [
    PEER_METADATA_HEADER,
    "x-envoy-peer-metadata-id",
    NAMESPACE_HEADER,
    LABELS_HEADER,
    "x-forwarded-client-cert",
    "x-envoy-original-dst-host",
    RULE_HEADER,
    WORKLOAD_HEADER,
    ADDRESS_HEADER,
];

/// Headers that Envoy itself adds to requests, and that stay in the mesh too.
pub const ENVOY_HEADERS: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
];

/// Whether a text can name a class: `[a-z0-9-]{1,32}`, and not [`LITERAL`].
#[must_use]
pub fn is_class_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text != LITERAL
        && text != UNCHECKED
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_domain() {
        for text in [
            API_VERSION,
            POLICY_HASH,
            REVOKED,
            NODE_AGENT,
            NODE_PLUGIN,
            NO_POD,
            UNGUARDED,
        ] {
            let rest = text.strip_prefix(DOMAIN);
            assert!(rest.is_some_and(|rest| rest.starts_with('/')), "{text}");
        }
        let pointer = POLICY_HASH.replace('/', "~1");
        assert_eq!(
            POLICY_HASH_POINTER,
            format!("/metadata/annotations/{pointer}")
        );
    }
}
