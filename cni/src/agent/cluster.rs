//! What the agent needs of Kubernetes, as one narrow trait, and its implementation over the
//! API server's HTTPS interface.
//!
//! A handful of plain requests do not need a client framework: lists are the truth, watches
//! are only a doorbell that asks for the next list.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::attachment::PodIdentity;
use crate::config::{Protocol, ServiceName};
use crate::rules::Endpoint;

/// The taint that keeps pods off a node until its guard is proven. Node pools are created with
/// it; the agent takes it away.
pub const TAINT: &str = "egress-warden.io/unguarded";

/// Why the API server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The request did not get through.
    #[error("{request}: {source}")]
    Transport {
        /// Verb and path.
        request: String,
        /// What failed.
        source: Box<ureq::Error>,
    },
    /// The API server answered with an error status.
    #[error("{request}: status {status}")]
    Status {
        /// Verb and path.
        request: String,
        /// The HTTP status code.
        status: u16,
    },
    /// The answer, or a local file, is not what it should be.
    #[error("{0}")]
    Decode(String),
}

/// A pod as the API server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What exceptions and the gateway's guard depend on.
    pub identity: PodIdentity,
}

/// A bypass attempt, for people who read events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEvent {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID; empty if it is not known.
    pub uid: String,
    /// One line that says what was dropped.
    pub message: String,
}

/// Everything the agent asks of Kubernetes and tells it.
pub trait Cluster: Send + Sync {
    /// The pods of this node that have a network of their own.
    ///
    /// # Errors
    /// [`ClusterError`].
    fn pods(&self) -> Result<Vec<PodView>, ClusterError>;

    /// The endpoints of a Service: address, protocol, port. Endpoints that are not ready are
    /// included, so that an address is known before traffic is sent to it.
    ///
    /// # Errors
    /// [`ClusterError`].
    fn endpoints(&self, service: &ServiceName) -> Result<Vec<Endpoint>, ClusterError>;

    /// Takes [`TAINT`] off this node, or puts it back on.
    ///
    /// # Errors
    /// [`ClusterError`]; also when somebody else changed the node's taints meanwhile.
    fn set_tainted(&self, tainted: bool) -> Result<(), ClusterError>;

    /// Records a bypass attempt as an event of the pod.
    ///
    /// # Errors
    /// [`ClusterError`].
    fn report(&self, attempt: &AttemptEvent) -> Result<(), ClusterError>;
}

/// The API server over HTTPS, with the pod's own service account.
pub struct ApiServer {
    agent: ureq::Agent,
    base: String,
    node: String,
    token_file: PathBuf,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    service_account_name: String,
}

#[derive(Deserialize)]
struct EndpointSlice {
    #[serde(default)]
    endpoints: Option<Vec<SliceEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<SlicePort>>,
}

#[derive(Deserialize)]
struct SliceEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Deserialize)]
struct SlicePort {
    port: Option<u16>,
    protocol: Option<Protocol>,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    spec: NodeSpec,
}

#[derive(Deserialize)]
struct NodeSpec {
    #[serde(default)]
    taints: Vec<Value>,
}

impl ApiServer {
    /// A client for the API server at `base` (`https://HOST:PORT`) that trusts only `ca` (PEM)
    /// and sends the token in `token_file`, read anew for every request because it rotates.
    ///
    /// # Errors
    /// [`ClusterError::Decode`] if `ca` holds no certificate.
    pub fn new(
        base: String,
        ca: &[u8],
        token_file: PathBuf,
        node: String,
    ) -> Result<Self, ClusterError> {
        let certificates: Vec<_> = parse_pem(ca)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                Ok(_) | Err(_) => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(ClusterError::Decode(
                "the API server's CA file holds no certificate".to_owned(),
            ));
        }
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(certificates)))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(Duration::from_secs(10)))
            // Longer than the server keeps a watch open.
            .timeout_recv_body(Some(Duration::from_secs(WATCH_SECONDS + 30)))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            base,
            node,
            token_file,
        })
    }

    fn authorization(&self) -> Result<String, ClusterError> {
        let token = std::fs::read_to_string(&self.token_file).map_err(|error| {
            ClusterError::Decode(format!("{}: {error}", self.token_file.display()))
        })?;
        Ok(format!("Bearer {}", token.trim()))
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClusterError> {
        let text = self
            .open(path)?
            .read_to_string()
            .map_err(|source| transport("GET", path, source))?;
        serde_json::from_str(&text)
            .map_err(|error| ClusterError::Decode(format!("GET {path}: {error}")))
    }

    fn open(&self, path: &str) -> Result<ureq::Body, ClusterError> {
        let answer = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("Authorization", self.authorization()?)
            .header("Accept", "application/json")
            .call()
            .map_err(|source| transport("GET", path, source))?;
        checked("GET", path, answer)
    }

    fn send(
        &self,
        verb: &str,
        path: &str,
        media_type: &str,
        body: &Value,
    ) -> Result<(), ClusterError> {
        let url = format!("{}{path}", self.base);
        let request = if verb == "PATCH" {
            self.agent.patch(url)
        } else {
            self.agent.post(url)
        };
        let answer = request
            .header("Authorization", self.authorization()?)
            .header("Content-Type", media_type)
            .send(body.to_string())
            .map_err(|source| transport(verb, path, source))?;
        checked(verb, path, answer).map(drop)
    }

    fn pods_path(&self) -> String {
        format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.node)
    }

    /// Rings `doorbell` whenever a pod of this node or an endpoint of `services` changes.
    /// Returns when the server ends the watch; the caller lists and watches again.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn watch(&self, what: &Watch, doorbell: &Sender<()>) -> Result<(), ClusterError> {
        let list_path = match what {
            Watch::Pods => self.pods_path(),
            Watch::Endpoints(service) => slices_path(service),
        };
        let listed: ListHead = self.get(&list_path)?;
        // What changed since the last list is in this one.
        let _ = doorbell.send(());
        let version = listed.metadata.resource_version;
        let path = format!(
            "{list_path}&watch=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
        );
        let body = self.open(&path)?;
        for line in BufReader::new(body.into_reader()).lines() {
            let line = line.map_err(|source| transport("GET", &path, source.into()))?;
            // A receiver that is gone means that the agent ends.
            if !line.is_empty() && doorbell.send(()).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// How long the server keeps a watch open.
const WATCH_SECONDS: u64 = 240;

#[derive(Deserialize)]
struct ListHead {
    metadata: Metadata,
}

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// The pods of this node.
    Pods,
    /// The endpoints of a Service.
    Endpoints(ServiceName),
}

fn slices_path(service: &ServiceName) -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{}",
        service.namespace, service.name
    )
}

fn transport(verb: &str, path: &str, source: ureq::Error) -> ClusterError {
    ClusterError::Transport {
        request: format!("{verb} {path}"),
        source: Box::new(source),
    }
}

fn checked(
    verb: &str,
    path: &str,
    answer: ureq::http::Response<ureq::Body>,
) -> Result<ureq::Body, ClusterError> {
    let (parts, body) = answer.into_parts();
    if parts.status.is_success() {
        Ok(body)
    } else {
        Err(ClusterError::Status {
            request: format!("{verb} {path}"),
            status: parts.status.as_u16(),
        })
    }
}

impl Cluster for ApiServer {
    fn pods(&self) -> Result<Vec<PodView>, ClusterError> {
        let list: List<Pod> = self.get(&self.pods_path())?;
        let own_network = list.items.into_iter().filter(|pod| !pod.spec.host_network);
        Ok(own_network
            .map(|pod| PodView {
                namespace: pod.metadata.namespace,
                name: pod.metadata.name,
                identity: PodIdentity {
                    service_account: pod.spec.service_account_name,
                    labels: pod.metadata.labels,
                    uid: pod.metadata.uid,
                },
            })
            .collect())
    }

    fn endpoints(&self, service: &ServiceName) -> Result<Vec<Endpoint>, ClusterError> {
        let list: List<EndpointSlice> = self.get(&slices_path(service))?;
        let mut all = Vec::new();
        for slice in list.items {
            let addresses: Vec<IpAddr> = slice
                .endpoints
                .iter()
                .flatten()
                .flat_map(|endpoint| &endpoint.addresses)
                // A slice of type FQDN has names here; names are nothing a kernel can match.
                .filter_map(|address| address.parse().ok())
                .collect();
            for port in slice.ports.iter().flatten() {
                let Some(number) = port.port else { continue };
                let protocol = port.protocol.unwrap_or(Protocol::Tcp);
                all.extend(addresses.iter().map(|address| Endpoint {
                    address: *address,
                    protocol,
                    port: number,
                }));
            }
        }
        Ok(all)
    }

    fn set_tainted(&self, tainted: bool) -> Result<(), ClusterError> {
        let path = format!("/api/v1/nodes/{}", self.node);
        let node: Node = self.get(&path)?;
        let ours = |taint: &Value| taint.get("key").and_then(Value::as_str) == Some(TAINT);
        if node.spec.taints.iter().any(ours) == tainted {
            return Ok(());
        }
        let mut taints: Vec<Value> = node
            .spec
            .taints
            .into_iter()
            .filter(|taint| !ours(taint))
            .collect();
        if tainted {
            taints.push(json!({"key": TAINT, "effect": "NoSchedule"}));
        }
        // The resource version makes the write fail if anybody else changed the taints.
        let version = node.metadata.resource_version;
        let change = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
        self.send("PATCH", &path, "application/merge-patch+json", &change)
    }

    fn report(&self, attempt: &AttemptEvent) -> Result<(), ClusterError> {
        let AttemptEvent {
            namespace,
            pod,
            uid,
            message,
        } = attempt;
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let mut object =
            json!({"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod});
        // `kubectl describe pod` asks for events by it. An empty one would be no pod's.
        if let Some(fields) = object.as_object_mut()
            && !uid.is_empty()
        {
            fields.insert("uid".to_owned(), json!(uid));
        }
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "egress-warden-", "namespace": namespace},
            "involvedObject": object,
            "reason": "EgressBypassDropped",
            "message": message,
            "type": "Warning",
            "source": {"component": "egress-warden-cni", "host": self.node},
        });
        self.send("POST", &path, "application/json", &event)
    }
}
