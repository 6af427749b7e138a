//! What the agent needs of Kubernetes, as one narrow trait, and its implementation over the
//! API server's HTTPS interface.
//!
//! Pods and `EndpointSlices` are watched; the node and events are single requests.

mod access;
mod watched;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;
use tokio::runtime::Handle;

use crate::attachment::PodIdentity;
use crate::config::{Protocol, ServiceName};
use crate::rules::Endpoint;

pub use access::Access;
use watched::{Selection, Watched};

/// The taint that keeps pods off a node until its guard is proven. Node pools are created with
/// it; the agent takes it away.
pub use egress_policy::contract::UNGUARDED as TAINT;

/// Who reports events: `kubectl get events` and `kubectl describe` show it.
use egress_policy::contract::NODE_AGENT as REPORTER;

/// What an event says at most, in bytes, and what an instance's name has (`ValidateEventUpdate`
/// in Kubernetes' `pkg/apis/core/validation`).
const NOTE_LENGTH: usize = 1024;
const INSTANCE_LENGTH: usize = 128;

/// For one request and its whole answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// How long a node that was seen without the taint is taken to be without it. Until then a taint that
/// somebody else put there keeps pods off, which does no harm.
const UNTAINTED_LIFE: Duration = Duration::from_mins(5);

/// Why the API server did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The request did not get through, or no usable answer came.
    #[error("{request}: {reason}")]
    Transport {
        /// What was asked.
        request: String,
        /// What failed.
        reason: String,
    },
    /// The API server answered with an error status.
    #[error("{request}: status {status}: {message}")]
    Status {
        /// What was asked.
        request: String,
        /// The HTTP status code.
        status: u16,
        /// What the API server said about it.
        message: String,
    },
    /// The answer, or a local file, is not what it should be.
    #[error("{0}")]
    Decode(String),
}

impl ClusterError {
    fn of(request: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status {
                request: request.to_owned(),
                status: status.code,
                message: status.message.clone(),
            },
            other => Self::transport(request, other),
        }
    }

    fn transport(request: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        // The reason that helps, such as an untrusted certificate, is at the end of the chain.
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = cause.source();
        }
        Self::Transport {
            request: request.to_owned(),
            reason,
        }
    }
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
    /// [`ClusterError`], also if what is known has been out of date for longer than a moment.
    fn pods(&self) -> Result<Vec<PodView>, ClusterError>;

    /// The endpoints of a Service: address, protocol, port. Endpoints that are not ready are
    /// included, so that an address is known before traffic is sent to it.
    ///
    /// # Errors
    /// [`ClusterError`], as with [`Cluster::pods`].
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

/// The API server over HTTPS, with the pod's own service account. Clones share everything.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

struct Shared {
    access: Access,
    node: String,
    runtime: Handle,
    bell: Sender<()>,
    /// The authorities that the client trusts, and the client.
    client: Mutex<(Vec<u8>, Client)>,
    pods: OnceLock<Watched<Pod>>,
    /// When the node was last seen without the taint.
    untainted: Mutex<Option<Instant>>,
    services: Mutex<BTreeMap<ServiceName, Arc<Watched<EndpointSlice>>>>,
}

impl ApiServer {
    /// A client for the node `node` that works on `runtime`, and rings `bell` whenever a pod of
    /// the node or an endpoint of a Service that was asked about changes.
    ///
    /// # Errors
    /// [`ClusterError::Decode`] if the address is not HTTPS or the file of authorities holds no
    /// certificate.
    pub fn new(
        runtime: Handle,
        access: Access,
        node: String,
        bell: Sender<()>,
    ) -> Result<Self, ClusterError> {
        let client = {
            let _context = runtime.enter();
            access.connect()?
        };
        Ok(Self {
            shared: Arc::new(Shared {
                access,
                node,
                runtime,
                bell,
                client: Mutex::new(client),
                pods: OnceLock::new(),
                untainted: Mutex::default(),
                services: Mutex::default(),
            }),
        })
    }

    /// The client, made anew when the file of authorities has changed. A file that cannot be
    /// used replaces nothing.
    fn client(&self) -> Client {
        let Shared {
            access,
            runtime,
            client,
            ..
        } = &*self.shared;
        let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
        if access.authorities().is_ok_and(|now| now != client.0) {
            let _context = runtime.enter();
            if let Ok(fresh) = access.connect() {
                *client = fresh;
            }
        }
        client.1.clone()
    }

    /// Waits for the answer to one request.
    fn answer<T>(
        &self,
        request: &str,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ClusterError> {
        let answer = async { tokio::time::timeout(DEADLINE, answer).await };
        match self.shared.runtime.block_on(answer) {
            Ok(answer) => answer.map_err(|error| ClusterError::of(request, &error)),
            Err(late) => Err(ClusterError::transport(request, &late)),
        }
    }

    fn watch<K: watched::Trimmed>(&self, followed: Selection) -> Watched<K> {
        let Shared {
            access,
            runtime,
            bell,
            ..
        } = &*self.shared;
        Watched::start(runtime, access.clone(), followed, bell.clone())
    }
}

impl ApiServer {
    /// Makes the node's taint what it should be, if it is not.
    fn write_taint(&self, tainted: bool) -> Result<(), ClusterError> {
        let name = &self.shared.node;
        let request = format!("node {name}");
        let nodes: Api<Node> = Api::all(self.client());
        let node = self.answer(&request, nodes.get(name))?;
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        if taints.iter().any(|taint| taint.key == TAINT) == tainted {
            return Ok(());
        }
        let mut taints: Vec<_> = taints
            .into_iter()
            .filter(|taint| taint.key != TAINT)
            .map(|taint| json!(taint))
            .collect();
        if tainted {
            taints.push(json!({"key": TAINT, "effect": "NoSchedule"}));
        }
        // The resource version makes the write fail if anybody else changed the taints.
        let version = node.metadata.resource_version;
        let change = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
        let change = Patch::Merge(change);
        let parameters = PatchParams::default();
        let patched = nodes.patch(name, &parameters, &change);
        self.answer(&request, patched).map(drop)
    }
}

impl Cluster for ApiServer {
    fn pods(&self) -> Result<Vec<PodView>, ClusterError> {
        let Shared {
            node,
            runtime,
            pods,
            ..
        } = &*self.shared;
        let watched = pods.get_or_init(|| {
            self.watch(Selection {
                what: format!("pods of {node}"),
                namespace: None,
                config: watcher::Config::default().fields(&format!("spec.nodeName={node}")),
            })
        });
        let pods = watched.read(runtime)?;
        Ok(pods.iter().filter_map(|pod| view(pod)).collect())
    }

    fn endpoints(&self, service: &ServiceName) -> Result<Vec<Endpoint>, ClusterError> {
        let watched = {
            let services = self.shared.services.lock();
            let mut services = services.unwrap_or_else(PoisonError::into_inner);
            let watched = services.entry(service.clone()).or_insert_with(|| {
                let ServiceName { namespace, name } = service;
                let labels = format!("kubernetes.io/service-name={name}");
                Arc::new(self.watch(Selection {
                    what: format!("endpoints of {namespace}/{name}"),
                    namespace: Some(namespace.clone()),
                    config: watcher::Config::default().labels(&labels),
                }))
            });
            Arc::clone(watched)
        };
        let mut all = Vec::new();
        for slice in watched.read(&self.shared.runtime)? {
            all.extend(endpoints_of(&slice)?);
        }
        Ok(all)
    }

    fn set_tainted(&self, tainted: bool) -> Result<(), ClusterError> {
        // A node that has to be kept free of pods is looked at each time.
        let untainted = self.shared.untainted.lock();
        let mut untainted = untainted.unwrap_or_else(PoisonError::into_inner);
        if !tainted && untainted.is_some_and(|seen| seen.elapsed() < UNTAINTED_LIFE) {
            return Ok(());
        }
        *untainted = None;
        self.write_taint(tainted)?;
        *untainted = (!tainted).then(Instant::now);
        Ok(())
    }

    fn report(&self, attempt: &AttemptEvent) -> Result<(), ClusterError> {
        let AttemptEvent { namespace, pod, .. } = attempt;
        let events: Api<Event> = Api::namespaced(self.client(), namespace);
        let event = event(attempt, &self.shared.node, SystemTime::now());
        let parameters = PostParams::default();
        let created = events.create(&parameters, &event);
        self.answer(&format!("event of {namespace}/{pod}"), created)
            .map(drop)
    }
}

/// What is asked of a pod; nothing of one that has the node's network.
fn view(pod: &Pod) -> Option<PodView> {
    let spec = pod.spec.as_ref()?;
    if spec.host_network == Some(true) {
        return None;
    }
    let meta = pod.metadata.clone();
    Some(PodView {
        namespace: meta.namespace.unwrap_or_default(),
        name: meta.name.unwrap_or_default(),
        identity: PodIdentity {
            service_account: spec.service_account_name.clone().unwrap_or_default(),
            labels: meta.labels.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
        },
    })
}

fn endpoints_of(slice: &EndpointSlice) -> Result<Vec<Endpoint>, ClusterError> {
    let name = slice.metadata.name.as_deref().unwrap_or_default();
    let addresses: Vec<IpAddr> = slice
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.addresses)
        // A slice of type FQDN has names here; names are nothing a kernel can match.
        .filter_map(|address| address.parse().ok())
        .collect();
    let mut all = Vec::new();
    for port in slice.ports.iter().flatten() {
        let Some(number) = port.port else { continue };
        let number = u16::try_from(number)
            .map_err(|_| ClusterError::Decode(format!("EndpointSlice {name}: port {number}")))?;
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(other) => {
                return Err(ClusterError::Decode(format!(
                    "EndpointSlice {name}: protocol `{other}`"
                )));
            }
        };
        all.extend(addresses.iter().map(|address| Endpoint {
            address: *address,
            protocol,
            port: number,
        }));
    }
    Ok(all)
}

/// The event about an attempt (`events.k8s.io/v1`).
///
/// It is not made by `kube`'s recorder: that one names events after the pod, so that a pod with a
/// name of the greatest length has none, and folds a second attempt, whatever it was, into the
/// first one's text.
fn event(attempt: &AttemptEvent, node: &str, now: SystemTime) -> Event {
    let AttemptEvent {
        namespace,
        pod,
        uid,
        message,
    } = attempt;
    Event {
        action: Some("Drop".to_owned()),
        // A clock before 1970 leaves the time out, which is then refused and so reported.
        event_time: Timestamp::try_from(now).ok().map(MicroTime),
        metadata: ObjectMeta {
            generate_name: Some("egress-warden-".to_owned()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        note: Some(shortened(message, NOTE_LENGTH)),
        reason: Some("EgressBypassDropped".to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(pod.clone()),
            // `kubectl describe pod` asks for events by it. An empty one would be no pod's.
            uid: Some(uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(shortened(node, INSTANCE_LENGTH)),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

/// At most this many bytes of a text.
fn shortened(text: &str, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_that_the_api_server_takes() {
        let name = "p".repeat(253);
        let attempt = AttemptEvent {
            namespace: "app".to_owned(),
            pod: name.clone(),
            uid: String::new(),
            message: "é".repeat(1000),
        };
        let event = event(&attempt, &"n".repeat(253), SystemTime::UNIX_EPOCH);
        let text = serde_json::to_value(&event).unwrap();
        assert_eq!(text["eventTime"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(text["reportingController"], REPORTER);
        assert_eq!(text["reportingInstance"], "n".repeat(128));
        assert_eq!(text["regarding"]["name"], name);
        assert!(text["regarding"].get("uid").is_none());
        assert_eq!(text["metadata"]["generateName"], "egress-warden-");
        assert!(event.note.unwrap().len() <= 1024);
    }
}
