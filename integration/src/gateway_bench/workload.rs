//! Who asks for what: callers and destinations of the realistic policy, spread over its rules.

use std::fmt::Write as _;

use crate::peer::Peer;

/// A caller with one destination that a rule admits, over plain HTTP and over TLS.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its namespace, which is also the namespace in its certificate.
    pub(super) namespace: String,
    /// Its service account, and the value of its label `app`.
    pub(super) account: String,
    /// The name that it asks for.
    pub(super) host: String,
}

/// A name that no rule has.
const UNKNOWN: &str = "api.unknown.example.org";

/// What only the first request of a connection carries: it is the one for which the caller's metadata is read.
pub(super) const FIRST: &str = "x-first-request";

impl Target {
    /// So many targets of the realistic policy (`egress_bench::Shape`), whose rules lie far apart.
    #[must_use]
    pub(super) fn spread(rules: u32, count: u32) -> Vec<Self> {
        let tens = rules / 10;
        let steps = count.saturating_sub(1).max(1);
        (0..count)
            .map(|k| {
                let ten = tens.saturating_sub(1).saturating_mul(k) / steps;
                // Of ten rules the fifth and sixth admit a wildcard at ports 80 and 443.
                Self::of_rule(ten * 10 + 4 + k % 2)
            })
            .collect()
    }

    fn of_rule(rule: u32) -> Self {
        Self {
            namespace: format!("team-{}", rule / 20),
            account: format!("app-{}", rule % 20),
            host: format!("a.b.tenant-{rule}.example.net"),
        }
    }

    /// The same caller, asking for what nothing admits.
    #[must_use]
    pub(super) fn denied(self) -> Self {
        Self {
            host: UNKNOWN.to_owned(),
            ..self
        }
    }

    /// The identity in its certificate.
    #[must_use]
    pub(super) fn identity(&self) -> String {
        let (namespace, account) = (&self.namespace, &self.account);
        format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
    }

    /// What a request carries behind a sidecar: the application's own headers, those of a trace, and
    /// the mesh's.
    #[must_use]
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let peer = Peer {
            workload: &self.account,
            namespace: &self.namespace,
            labels: &[
                ("app", &self.account),
                ("app.kubernetes.io/name", &self.account),
                ("app.kubernetes.io/part-of", &self.namespace),
                ("version", "v2"),
                ("service.istio.io/canonical-name", &self.account),
                ("service.istio.io/canonical-revision", "latest"),
            ],
            cluster: Some("Kubernetes"),
        };
        let (account, namespace) = (&self.account, &self.namespace);
        let node = format!(
            "sidecar~10.244.3.17~{account}-7d9c5b6f4-x2x9q.{namespace}~{namespace}.svc.cluster.local"
        );
        let token = format!("Bearer eyJhbGciOiJSUzI1NiJ9.{}", "Zm9v".repeat(120));
        [
            ("user-agent", "okhttp/4.12.0"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json; charset=utf-8"),
            ("authorization", token.as_str()),
            ("x-request-id", "5c3a7d2e-4f0b-4a5e-9d53-0b4f3c1f8a77"),
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
            ("tracestate", "vendor=00f067aa0ba902b7"),
            ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
            ("x-b3-spanid", "00f067aa0ba902b7"),
            ("x-b3-parentspanid", "e457b5a2e4d86bd1"),
            ("x-b3-sampled", "1"),
            ("x-forwarded-proto", "http"),
            ("x-envoy-attempt-count", "1"),
            ("x-envoy-decorator-operation", "outbound:*/*"),
            ("x-envoy-peer-metadata-id", node.as_str()),
            ("x-envoy-peer-metadata", peer.header().as_str()),
            // What Envoy's RBAC and Lua read the label from.
            ("x-app", account.as_str()),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
    }

    /// A request of HTTP/1.1, without a body.
    #[must_use]
    pub(super) fn request(&self, first: bool) -> Vec<u8> {
        let mut text = format!("GET /v1/items?page=2 HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in self.headers() {
            // Writing to a String does not fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if first {
            let _ = write!(text, "{FIRST}: 1\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}
