//! A stand-in for the API server behind real TLS, and the exact requests the agent makes.
//! It was not run against a full API server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use egress_cni::agent::cluster::{ApiServer, AttemptEvent, Cluster as _, TAINT, Watch};
use egress_cni::config::ServiceName;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

/// One request as the stub saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, (u16, String)>,
    requests: Vec<Request>,
}

/// The stub: answers by path, everything else is 404, and remembers what was asked.
#[derive(Clone)]
pub(crate) struct Stub {
    state: Arc<Mutex<State>>,
    pub(crate) base: String,
    pub(crate) ca: String,
    folder: PathBuf,
}

pub(crate) const PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1";
pub(crate) const NODE: &str = "/api/v1/nodes/node-1";

/// The path of a Service's endpoints.
pub(crate) fn slices(namespace: &str, name: &str) -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
    )
}

impl Stub {
    pub(crate) fn start(folder: &Path) -> Self {
        let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = Self {
            state: Arc::default(),
            base: format!("https://{}", listener.local_addr().unwrap()),
            ca: signed.cert.pem(),
            folder: folder.to_path_buf(),
        };
        std::fs::write(folder.join("token"), "secret-token\n").unwrap();
        let (server, config) = (stub.clone(), Arc::new(config));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, config, stream) =
                    (server.clone(), Arc::clone(&config), stream.unwrap());
                std::thread::spawn(move || {
                    let connection = rustls::ServerConnection::new(config).unwrap();
                    // A client that does not trust the stub ends the connection.
                    let _ =
                        server.serve(BufReader::new(rustls::StreamOwned::new(connection, stream)));
                });
            }
        });
        stub
    }

    /// Answers `path` with `body` from now on.
    pub(crate) fn answer(&self, path: &str, body: &Value) {
        self.answer_with(path, 200, body.to_string());
    }

    fn answer_with(&self, path: &str, status: u16, body: String) {
        self.state
            .lock()
            .unwrap()
            .answers
            .insert(path.to_owned(), (status, body));
    }

    /// The requests so far, which are forgotten.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    pub(crate) fn client(&self) -> ApiServer {
        ApiServer::new(
            self.base.clone(),
            self.ca.as_bytes(),
            self.folder.join("token"),
            "node-1".to_owned(),
        )
        .unwrap()
    }

    fn serve(
        &self,
        mut stream: BufReader<rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>>,
    ) -> std::io::Result<()> {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut words = line.split(' ');
            let (verb, path) = (
                words.next().unwrap().to_owned(),
                words.next().unwrap().to_owned(),
            );
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line)?;
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    break;
                };
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            let mut body = vec![
                0;
                headers
                    .get("content-length")
                    .map_or(0, |length| length.parse().unwrap())
            ];
            stream.read_exact(&mut body)?;
            let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
            let request = Request {
                verb,
                path: path.clone(),
                authorization: header("authorization"),
                content_type: header("content-type"),
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            };
            let (status, text) = {
                let mut state = self.state.lock().unwrap();
                state.requests.push(request);
                state
                    .answers
                    .get(&path)
                    .cloned()
                    .unwrap_or((404, "{}".to_owned()))
            };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            stream.get_mut().write_all(answer.as_bytes())?;
        }
    }
}

/// A pod as the API server lists it.
pub(crate) fn pod(
    namespace: &str,
    name: &str,
    service_account: &str,
    labels: &Value,
    host_network: bool,
) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": labels, "uid": "u"},
        "spec": {"serviceAccountName": service_account, "hostNetwork": host_network, "nodeName": "node-1"},
        "status": {"phase": "Running"}
    })
}

/// A list as the API server sends it.
pub(crate) fn list(items: &[Value]) -> Value {
    json!({"kind": "List", "metadata": {"resourceVersion": "77"}, "items": items})
}

#[test]
fn requests_have_the_right_verb_path_and_body() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path());
    let client = stub.client();
    stub.answer(
        PODS,
        &list(&[
            pod("app", "a", "default", &json!({"app": "x"}), false),
            pod("kube-system", "host", "default", &json!({}), true),
        ]),
    );
    let pods = client.pods().unwrap();
    assert_eq!(
        pods.len(),
        1,
        "host-network pods have no interface to guard"
    );
    assert_eq!(
        (
            pods[0].namespace.as_str(),
            pods[0].identity.service_account.as_str()
        ),
        ("app", "default")
    );
    assert_eq!(pods[0].identity.labels["app"], "x");

    let service = ServiceName::try_from("istio-egress/gw".to_owned()).unwrap();
    stub.answer(&slices("istio-egress", "gw"), &list(&[json!({
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.7"], "conditions": {"ready": true}}, {"addresses": ["10.244.1.8"], "conditions": {"ready": false}}],
        "ports": [{"name": "tls", "port": 8443, "protocol": "TCP"}, {"name": "any", "protocol": "TCP"}]
    }), json!({"addressType": "FQDN", "endpoints": [{"addresses": ["gw.example"]}], "ports": [{"port": 1}]}), json!({"endpoints": null, "ports": null})]));
    let endpoints = client.endpoints(&service).unwrap();
    let text: Vec<String> = endpoints
        .iter()
        .map(|endpoint| format!("{}:{}", endpoint.address, endpoint.port))
        .collect();
    assert_eq!(text, ["10.244.1.7:8443", "10.244.1.8:8443"]);
    let requests = stub.requests();
    let seen: Vec<(&str, &str)> = requests
        .iter()
        .map(|request| (request.verb.as_str(), request.path.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("GET", PODS),
            ("GET", slices("istio-egress", "gw").as_str())
        ]
    );
    assert!(
        requests
            .iter()
            .all(|request| request.authorization == "Bearer secret-token")
    );

    // The token is read anew: it rotates.
    std::fs::write(folder.path().join("token"), "next-token").unwrap();
    client.pods().unwrap();
    assert_eq!(stub.requests()[0].authorization, "Bearer next-token");

    assert_eq!(pods[0].identity.uid, "u");
    let mut attempt = AttemptEvent {
        namespace: "app".to_owned(),
        pod: "a".to_owned(),
        uid: pods[0].identity.uid.clone(),
        message: "udp to 203.0.113.1 port 443 refused".to_owned(),
    };
    assert!(
        client
            .report(&attempt)
            .unwrap_err()
            .to_string()
            .contains("status 404")
    );
    stub.answer("/api/v1/namespaces/app/events", &json!({}));
    client.report(&attempt).unwrap();
    let event = stub.requests().pop().unwrap();
    assert_eq!(
        (event.verb.as_str(), event.content_type.as_str()),
        ("POST", "application/json")
    );
    assert_eq!(
        event.body["involvedObject"],
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "app", "name": "a", "uid": "u"}),
        "by the UID `kubectl describe pod` finds it"
    );
    assert_eq!(event.body["message"], attempt.message);
    attempt.uid.clear();
    client.report(&attempt).unwrap();
    assert_eq!(
        stub.requests().pop().unwrap().body["involvedObject"],
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "app", "name": "a"}),
        "what is not known is left out"
    );
}

#[test]
fn the_taint_comes_and_goes_without_touching_others() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path());
    let client = stub.client();
    let other = json!({"key": "dedicated", "value": "x", "effect": "NoExecute"});
    let ours = json!({"key": TAINT, "effect": "NoSchedule"});
    let node = |taints: Value| json!({"metadata": {"name": "node-1", "resourceVersion": "41"}, "spec": {"taints": taints}});
    for (present, wanted, patched) in [
        (json!([other, ours]), false, Some(json!([other]))),
        (json!([other]), true, Some(json!([other, ours]))),
        (json!([]), true, Some(json!([ours]))),
        (json!([other]), false, None),
        (json!([ours]), true, None),
    ] {
        stub.answer(NODE, &node(present.clone()));
        client.set_tainted(wanted).unwrap();
        let requests = stub.requests();
        match patched {
            None => assert_eq!(requests.len(), 1, "{present} needs no write"),
            Some(taints) => {
                assert_eq!(
                    (requests[1].verb.as_str(), requests[1].path.as_str()),
                    ("PATCH", NODE)
                );
                assert_eq!(requests[1].content_type, "application/merge-patch+json");
                assert_eq!(
                    requests[1].body,
                    json!({"metadata": {"resourceVersion": "41"}, "spec": {"taints": taints}})
                );
            }
        }
    }
    // A node without the field at all.
    stub.answer(NODE, &json!({"metadata": {"name": "node-1"}, "spec": {}}));
    client.set_tainted(false).unwrap();
}

#[test]
fn a_watch_rings_for_the_list_and_for_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path());
    stub.answer(PODS, &list(&[]));
    let watch_path = format!("{PODS}&watch=true&resourceVersion=77&timeoutSeconds=240");
    stub.answer_with(
        &watch_path,
        200,
        "{\"type\":\"ADDED\"}\n{\"type\":\"MODIFIED\"}\n".to_owned(),
    );
    let (bell, doorbell) = channel();
    stub.client().watch(&Watch::Pods, &bell).unwrap();
    assert_eq!(doorbell.try_iter().count(), 3);
    stub.answer_with(&watch_path, 410, String::new());
    assert!(
        stub.client()
            .watch(&Watch::Pods, &bell)
            .unwrap_err()
            .to_string()
            .contains("410")
    );
}

#[test]
fn only_the_clusters_own_certificate_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (stub, other) = (Stub::start(folder.path()), Stub::start(folder.path()));
    stub.answer(PODS, &list(&[]));
    let client = |base: &str, ca: &str| {
        ApiServer::new(
            base.to_owned(),
            ca.as_bytes(),
            folder.path().join("token"),
            "node-1".to_owned(),
        )
    };
    assert!(client(&stub.base, &stub.ca).unwrap().pods().is_ok());
    assert!(client(&stub.base, &other.ca).unwrap().pods().is_err());
    assert!(
        client(&stub.base.replace("https", "http"), &stub.ca)
            .unwrap()
            .pods()
            .is_err(),
        "never in the clear"
    );
    assert!(client(&stub.base, "no certificate").is_err());
    stub.requests();
    for (status, body) in [(403, "{}"), (301, "{}"), (200, "{\"items\": 1}"), (200, "")] {
        stub.answer_with(PODS, status, body.to_owned());
        assert!(stub.client().pods().is_err(), "{status} {body}");
    }
}
