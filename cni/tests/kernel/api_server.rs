//! A stand-in for the API server behind real TLS, as unkind as the real one: it pages, ends
//! watches, forgets old versions, wants today's token, refuses what Kubernetes refuses, and goes
//! away in the middle of an answer. It is not a full API server, and was not compared with one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use egress_cni::agent::cluster::{Access, ApiServer, ClusterError};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The node that the agent is on.
pub(crate) const NODE: &str = "/api/v1/nodes/node-1";
pub(crate) const PODS: &str = "/api/v1/pods";
/// Pages are shorter than the client asks for.
const PAGE: usize = 2;
/// A bookmark when nothing has changed for this long; the real one waits a minute.
const BOOKMARK: Duration = Duration::from_millis(200);

/// The path of a namespace's EndpointSlices.
pub(crate) fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

/// The path of a namespace's events.
pub(crate) fn events(namespace: &str) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}

/// One request as the stub saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) authorization: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }
}

/// What is wrong with the answers for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status, as Kubernetes puts it.
    Status(u16),
    /// This text with status 200.
    Text(&'static str),
    /// Half of the answer, then the connection ends.
    Half,
    /// Nothing at all, for longer than anybody waits.
    Silence,
    /// The right answer, late.
    Late(Duration),
    /// Pages after the first are gone by the time that they are asked for.
    PagesExpire,
    /// Watches begin, and say at once that they cannot go on.
    WatchError(u16),
    /// Watches begin, and end at once.
    WatchEnds,
    /// Watches end in the middle of a line.
    HalfLine,
}

#[derive(Default)]
struct Collection {
    objects: BTreeMap<String, Value>,
    log: Vec<(u64, &'static str, Value)>,
}

struct State {
    collections: BTreeMap<String, Collection>,
    node: Value,
    version: u64,
    /// Watches cannot begin before this version.
    oldest: u64,
    pages: BTreeMap<String, Vec<Value>>,
    faults: BTreeMap<String, Fault>,
    requests: Vec<Request>,
    token: String,
    tls: Arc<ServerConfig>,
    /// Connections of an older generation end.
    generation: u64,
    /// Watches of an older generation end, as after their time.
    watch_generation: u64,
}

/// The stub: answers for what it holds, everything else is 404, and remembers what was asked.
#[derive(Clone)]
pub(crate) struct Stub {
    state: Arc<(Mutex<State>, Condvar)>,
    pub(crate) base: String,
    folder: PathBuf,
}

type Stream = BufReader<StreamOwned<ServerConnection, TcpStream>>;

/// The runtime of all clients.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    })
}

/// A certificate of nobody but itself.
fn identity() -> (Arc<ServerConfig>, String) {
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), signed.cert.pem())
}

impl Stub {
    pub(crate) fn start(folder: &Path) -> Self {
        let (tls, ca) = identity();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            collections: BTreeMap::new(),
            node: json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "node-1"}, "spec": {}}),
            version: 70,
            oldest: 0,
            pages: BTreeMap::new(),
            faults: BTreeMap::new(),
            requests: Vec::new(),
            token: "secret-token".to_owned(),
            tls,
            generation: 0,
            watch_generation: 0,
        };
        let stub = Self {
            state: Arc::new((Mutex::new(state), Condvar::new())),
            base: format!("https://{}", listener.local_addr().unwrap()),
            folder: folder.to_path_buf(),
        };
        stub.put("token", "secret-token\n");
        stub.put("ca.crt", &ca);
        let server = stub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, stream) = (server.clone(), stream.unwrap());
                std::thread::spawn(move || {
                    let tls = Arc::clone(&server.state().tls);
                    let connection = ServerConnection::new(tls).unwrap();
                    // A client that goes away, or does not trust the stub, ends the connection.
                    let _ = server.serve(BufReader::new(StreamOwned::new(connection, stream)));
                });
            }
        });
        stub
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// Changes something and tells the watches.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.state.1.notify_all();
        changed
    }

    /// Writes a file of the service account as the kubelet does: at once.
    fn put(&self, name: &str, text: &str) {
        let beside = self.folder.join(format!(".{name}"));
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.folder.join(name)).unwrap();
    }

    /// These are the pods of the node from now on.
    pub(crate) fn set_pods(&self, pods: &[Value]) {
        self.set(PODS, pods);
    }

    /// These are the EndpointSlices of a Service from now on.
    pub(crate) fn set_slices(&self, namespace: &str, service: &str, all: &[Value]) {
        self.set(&format!("{}?{service}", slices(namespace)), all);
    }

    fn set(&self, collection: &str, objects: &[Value]) {
        self.change(|state| {
            let named: BTreeMap<String, &Value> = objects
                .iter()
                .enumerate()
                .map(|(number, object)| {
                    let meta = &object["metadata"];
                    let name = meta["name"]
                        .as_str()
                        .map_or_else(|| format!("object-{number}"), str::to_owned);
                    (format!("{}/{name}", meta["namespace"]), object)
                })
                .collect();
            let known = state.collections.entry(collection.to_owned()).or_default();
            let gone: Vec<String> = known
                .objects
                .keys()
                .filter(|name| !named.contains_key(*name))
                .cloned()
                .collect();
            for name in gone {
                state.version += 1;
                let mut object = known.objects.remove(&name).unwrap();
                object["metadata"]["resourceVersion"] = json!(state.version.to_string());
                known.log.push((state.version, "DELETED", object));
            }
            for (name, object) in named {
                let before = known.objects.get(&name);
                let mut object = object.clone();
                if object["metadata"].get("name").is_none() {
                    object["metadata"]["name"] = json!(name.rsplit('/').next().unwrap());
                }
                if let Some(before) = before {
                    object["metadata"]["resourceVersion"] =
                        before["metadata"]["resourceVersion"].clone();
                    if *before == object {
                        continue;
                    }
                }
                let kind = if before.is_some() {
                    "MODIFIED"
                } else {
                    "ADDED"
                };
                state.version += 1;
                object["metadata"]["resourceVersion"] = json!(state.version.to_string());
                known.log.push((state.version, kind, object.clone()));
                known.objects.insert(name, object);
            }
        });
    }

    /// The node has these taints, and this version.
    pub(crate) fn set_taints(&self, taints: &Value, version: &str) {
        self.change(|state| {
            state.node["metadata"]["resourceVersion"] = json!(version);
            match taints {
                Value::Null => state.node["spec"] = json!({}),
                taints => state.node["spec"] = json!({"taints": taints}),
            }
        });
    }

    pub(crate) fn taints(&self) -> Value {
        self.state().node["spec"]["taints"].clone()
    }

    /// From now on, answers for paths that contain `path` are wrong.
    pub(crate) fn fail(&self, path: &str, fault: Fault) {
        self.change(|state| state.faults.insert(path.to_owned(), fault));
    }

    /// Everything is right again.
    pub(crate) fn heal(&self) {
        self.change(|state| state.faults.clear());
    }

    /// Ends every connection, as a server that is restarted.
    pub(crate) fn disconnect(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Ends every watch, as after its time.
    pub(crate) fn end_watches(&self) {
        self.change(|state| state.watch_generation += 1);
    }

    /// Forgets what was before now, as etcd is compacted. Something else has changed since.
    pub(crate) fn compact(&self) {
        self.change(|state| {
            state.version += 10;
            state.oldest = state.version;
            for collection in state.collections.values_mut() {
                collection.log.clear();
            }
        });
    }

    /// Only this token is taken from now on.
    pub(crate) fn want_token(&self, token: &str) {
        self.change(|state| token.clone_into(&mut state.token));
    }

    /// The kubelet writes a new token.
    pub(crate) fn give_token(&self, token: &str) {
        self.put("token", token);
    }

    /// The server has another certificate; the returned authority signs it.
    pub(crate) fn rotate_certificate(&self) -> String {
        let (tls, ca) = identity();
        self.change(|state| state.tls = tls);
        ca
    }

    /// The kubelet writes another file of authorities.
    pub(crate) fn give_authorities(&self, ca: &str) {
        self.put("ca.crt", ca);
    }

    /// The requests so far, which are forgotten.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    pub(crate) fn access(&self) -> Access {
        Access {
            server: self.base.clone(),
            ca_file: self.folder.join("ca.crt"),
            token_file: self.folder.join("token"),
        }
    }

    pub(crate) fn try_client(access: Access) -> Result<(ApiServer, Receiver<()>), ClusterError> {
        let (bell, doorbell) = channel();
        let client = ApiServer::new(
            runtime().handle().clone(),
            access,
            "node-1".to_owned(),
            bell,
        )?;
        Ok((client, doorbell))
    }

    pub(crate) fn client(&self) -> (ApiServer, Receiver<()>) {
        Self::try_client(self.access()).unwrap()
    }

    fn serve(&self, mut stream: Stream) -> std::io::Result<()> {
        let generation = self.state().generation;
        stream
            .get_ref()
            .sock
            .set_read_timeout(Some(Duration::from_millis(100)))?;
        loop {
            let Some(request) = self.read(&mut stream, generation)? else {
                return Ok(());
            };
            self.state().requests.push(request.clone());
            if !is_granted(&request) {
                respond(&mut stream, 403, &status_of(403, "Forbidden").to_string())?;
                continue;
            }
            let fault = {
                let state = self.state();
                let mut faults = state.faults.iter();
                faults
                    .find(|(path, _)| request.path.contains(path.as_str()))
                    .map(|(_, fault)| fault.clone())
            };
            match fault {
                Some(Fault::Status(status)) => respond(
                    &mut stream,
                    status,
                    &status_of(status, "Injected").to_string(),
                )?,
                Some(Fault::Text(text)) => respond(&mut stream, 200, text)?,
                Some(Fault::Half) => {
                    let text = "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"kind\":";
                    stream.get_mut().write_all(text.as_bytes())?;
                    return stream.get_mut().flush();
                }
                Some(Fault::Silence) => {
                    let end = Instant::now() + Duration::from_mins(1);
                    while self.state().generation == generation && Instant::now() < end {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    return Ok(());
                }
                other => {
                    if let Some(Fault::Late(late)) = other {
                        std::thread::sleep(late);
                    }
                    if request.is_watch() {
                        return self.watch(&mut stream, &request, other.as_ref(), generation);
                    }
                    let (status, body) = self.answer(&request, other.as_ref());
                    respond(&mut stream, status, &body.to_string())?;
                }
            }
        }
    }

    /// The next request; `None` when the client has gone, an error when the server goes.
    fn read(&self, stream: &mut Stream, generation: u64) -> std::io::Result<Option<Request>> {
        let mut line = Vec::new();
        loop {
            match stream.read_until(b'\n', &mut line) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                // Waiting for the next one, and still up.
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    if self.state().generation != generation {
                        return Err(Error::other("restarted"));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if self.state().generation != generation {
            return Err(Error::other("restarted"));
        }
        stream
            .get_ref()
            .sock
            .set_read_timeout(Some(Duration::from_secs(20)))?;
        let line = String::from_utf8(line).unwrap();
        let mut words = line.split(' ');
        let verb = words.next().unwrap().to_owned();
        let target = words.next().unwrap().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        stream
            .get_ref()
            .sock
            .set_read_timeout(Some(Duration::from_millis(100)))?;
        let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                (decoded(key), decoded(value))
            });
        Ok(Some(Request {
            verb,
            path: path.to_owned(),
            query: query.collect(),
            authorization: header("authorization"),
            content_type: header("content-type"),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }))
    }

    fn answer(&self, request: &Request, fault: Option<&Fault>) -> (u16, Value) {
        let mut state = self.state();
        if request.authorization != format!("Bearer {}", state.token) {
            return (401, status_of(401, "Unauthorized"));
        }
        match (request.verb.as_str(), request.path.as_str()) {
            ("GET", NODE) => (200, state.node.clone()),
            ("PATCH", NODE) => patched(&mut state, request),
            ("POST", path) if path.starts_with("/apis/events.k8s.io/v1/") => taken(request),
            ("GET", _) => match collection_of(request) {
                Ok(name) => listed(&mut state, &name, request, fault),
                Err(refused) => refused,
            },
            _ => (404, status_of(404, "NotFound")),
        }
    }

    /// A watch from its version on, with bookmarks, in chunks that are cut anywhere.
    fn watch(
        &self,
        stream: &mut Stream,
        request: &Request,
        fault: Option<&Fault>,
        generation: u64,
    ) -> std::io::Result<()> {
        let refused = {
            let state = self.state();
            if request.authorization == format!("Bearer {}", state.token) {
                collection_of(request).err()
            } else {
                Some((401, status_of(401, "Unauthorized")))
            }
        };
        if let Some((status, body)) = refused {
            return respond(stream, status, &body.to_string());
        }
        let collection = collection_of(request).unwrap();
        stream.get_mut().write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        let mut version: u64 = request.query["resourceVersion"].parse().unwrap();
        let error = match fault {
            Some(Fault::WatchEnds) => return end(stream),
            Some(Fault::WatchError(status)) => Some(*status),
            _ => (version < self.state().oldest).then_some(410),
        };
        if let Some(status) = error {
            let event = json!({"type": "ERROR", "object": status_of(status, "Expired")});
            line(stream, &event)?;
            return end(stream);
        }
        let begun = Instant::now();
        let seconds: u64 = request.query["timeoutSeconds"].parse().unwrap();
        let watch_generation = self.state().watch_generation;
        loop {
            let news: Vec<(u64, &str, Value)> = {
                let state = self.state();
                let (state, _) = self
                    .state
                    .1
                    .wait_timeout_while(state, BOOKMARK, |state| {
                        state.generation == generation
                            && state.watch_generation == watch_generation
                            && !state.collections.get(&collection).is_some_and(|known| {
                                known.log.iter().any(|(at, _, _)| *at > version)
                            })
                    })
                    .unwrap();
                if state.generation != generation {
                    return Err(Error::other("restarted"));
                }
                if state.watch_generation != watch_generation
                    || begun.elapsed().as_secs() >= seconds
                {
                    drop(state);
                    return end(stream);
                }
                let log = state
                    .collections
                    .get(&collection)
                    .map(|known| known.log.as_slice())
                    .unwrap_or_default();
                let news: Vec<_> = log
                    .iter()
                    .filter(|(at, _, _)| *at > version)
                    .cloned()
                    .collect();
                if news.is_empty() && version < state.version {
                    let meta = json!({"resourceVersion": state.version.to_string(), "creationTimestamp": null});
                    vec![(
                        state.version,
                        "BOOKMARK",
                        json!({"metadata": meta, "spec": {"containers": null}, "status": {}}),
                    )]
                } else {
                    news
                }
            };
            for (at, kind, object) in news {
                version = at;
                let mut event = json!({"type": kind, "object": object});
                let (api, kind) = kind_of(&collection);
                event["object"]["kind"] = json!(kind);
                event["object"]["apiVersion"] = json!(api);
                if fault == Some(&Fault::HalfLine) {
                    let text = event.to_string();
                    chunk(stream, &text.as_bytes()[..text.len() / 2])?;
                    return end(stream);
                }
                line(stream, &event)?;
            }
        }
    }
}

/// Whether the service account may: by the roles that the cluster is given.
fn is_granted(request: &Request) -> bool {
    static RULES: OnceLock<Vec<Value>> = OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let text = include_str!("../../deploy/rbac.yaml");
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        let role = documents
            .into_iter()
            .find(|document| document["kind"] == "ClusterRole");
        role.unwrap()["rules"].as_array().unwrap().clone()
    });
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return false,
    };
    let (resource, named) = match rest {
        ["namespaces", _, resource] | [resource] => (*resource, false),
        ["namespaces", _, resource, _] | [resource, _] => (*resource, true),
        _ => return false,
    };
    let verb = match request.verb.as_str() {
        "GET" if request.is_watch() => "watch",
        "GET" if named => "get",
        "GET" => "list",
        "PATCH" => "patch",
        "POST" => "create",
        _ => return false,
    };
    let has = |rule: &Value, key: &str, wanted: &str| {
        rule[key]
            .as_array()
            .unwrap()
            .iter()
            .any(|value| value == wanted)
    };
    rules.iter().any(|rule| {
        has(rule, "apiGroups", group)
            && has(rule, "resources", resource)
            && has(rule, "verbs", verb)
    })
}

fn kind_of(collection: &str) -> (&'static str, &'static str) {
    if collection == PODS {
        ("v1", "Pod")
    } else {
        ("discovery.k8s.io/v1", "EndpointSlice")
    }
}

/// Which objects are asked for; only the selectors that the agent needs are known.
fn collection_of(request: &Request) -> Result<String, (u16, Value)> {
    let parameter = |name: &str| {
        request
            .query
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    let (fields, labels) = (parameter("fieldSelector"), parameter("labelSelector"));
    let namespace = request
        .path
        .strip_prefix("/apis/discovery.k8s.io/v1/namespaces/");
    if request.path == PODS && fields == "spec.nodeName=node-1" && labels.is_empty() {
        return Ok(PODS.to_owned());
    }
    if namespace.is_some_and(|rest| rest.ends_with("/endpointslices"))
        && fields.is_empty()
        && let Some(service) = labels.strip_prefix("kubernetes.io/service-name=")
    {
        return Ok(format!("{}?{service}", request.path));
    }
    Err((404, status_of(404, "NotFound")))
}

fn listed(
    state: &mut State,
    collection: &str,
    request: &Request,
    fault: Option<&Fault>,
) -> (u16, Value) {
    let limit: usize = request
        .query
        .get("limit")
        .map_or(usize::MAX, |limit| limit.parse().unwrap());
    let (api, kind) = kind_of(collection);
    let mut rest = match request.query.get("continue") {
        // A Service that is not there has no slices, and that is no error.
        None => state
            .collections
            .get(collection)
            .map(|known| known.objects.values().cloned().collect())
            .unwrap_or_default(),
        Some(_) if fault == Some(&Fault::PagesExpire) => return (410, status_of(410, "Expired")),
        Some(token) => match state.pages.remove(token) {
            Some(rest) => rest,
            None => return (410, status_of(410, "Expired")),
        },
    };
    let next = rest.split_off(rest.len().min(PAGE).min(limit));
    let mut meta = json!({"resourceVersion": state.version.to_string()});
    if !next.is_empty() {
        let token = format!("from {} + {}", state.version, next.len());
        meta["continue"] = json!(token);
        meta["remainingItemCount"] = json!(next.len());
        state.pages.insert(token, next);
    }
    (
        200,
        json!({"kind": format!("{kind}List"), "apiVersion": api, "metadata": meta, "items": rest}),
    )
}

fn patched(state: &mut State, request: &Request) -> (u16, Value) {
    if request.content_type != "application/merge-patch+json" {
        return (415, status_of(415, "UnsupportedMediaType"));
    }
    let wanted = &request.body["metadata"]["resourceVersion"];
    if *wanted != state.node["metadata"]["resourceVersion"] {
        return (409, status_of(409, "Conflict"));
    }
    state.version += 1;
    state.node["metadata"]["resourceVersion"] = json!(state.version.to_string());
    state.node["spec"]["taints"] = request.body["spec"]["taints"].clone();
    (200, state.node.clone())
}

/// An event, if it is one that `events.k8s.io/v1` takes (`legacyValidateEvent` and
/// `ValidateEventCreate` in Kubernetes' `pkg/apis/core/validation/events.go`).
fn taken(request: &Request) -> (u16, Value) {
    let event = &request.body;
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let meta = &event["metadata"];
    let namespace = request.path.split('/').nth(5).unwrap();
    let named = meta["generateName"]
        .as_str()
        .or(meta["name"].as_str())
        .is_some_and(|name| !name.is_empty() && name.len() <= 248);
    let good = request.content_type == "application/json"
        && named
        && meta["namespace"] == namespace
        && event["regarding"]["namespace"] == namespace
        && text("eventTime").len() == "2026-12-01T00:00:00.000000Z".len()
        && !text("action").is_empty()
        && !text("reason").is_empty()
        && text("reason").len() <= 128
        && text("reportingController").contains('/')
        && !text("reportingInstance").is_empty()
        && text("reportingInstance").len() <= 128
        && text("note").len() <= 1024
        && matches!(text("type"), "Normal" | "Warning")
        && event.get("series").is_none();
    if good {
        let mut event = event.clone();
        event["metadata"]["name"] = json!("egress-warden-abcde");
        (201, event)
    } else {
        (422, status_of(422, "Invalid"))
    }
}

fn status_of(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": format!("the stub says {code}"), "reason": reason, "code": code})
}

fn respond(stream: &mut Stream, status: u16, body: &str) -> std::io::Result<()> {
    let stream = stream.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn line(stream: &mut Stream, event: &Value) -> std::io::Result<()> {
    let text = format!("{event}\n");
    let (one, two) = text.as_bytes().split_at(text.len() / 3);
    chunk(stream, one)?;
    chunk(stream, two)
}

fn chunk(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    let stream = stream.get_mut();
    write!(stream, "{:x}\r\n", bytes.len())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")?;
    stream.flush()
}

fn end(stream: &mut Stream) -> std::io::Result<()> {
    stream.get_mut().write_all(b"0\r\n\r\n")?;
    stream.get_mut().flush()
}

/// A part of a query, percent-decoded.
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).unwrap()
}

/// A pod as the API server has it.
pub(crate) fn pod(
    namespace: &str,
    name: &str,
    service_account: &str,
    labels: &Value,
    host_network: bool,
) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": labels, "uid": "u",
            "annotations": {"a": "b"}, "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1"}]},
        "spec": {"serviceAccountName": service_account, "hostNetwork": host_network, "nodeName": "node-1",
            "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running"}
    })
}
