//! An API server beside the cluster's, and requests to it as one user or another.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::text;
use crate::cluster::node::Node;
use crate::cluster::{inside, tools};
use crate::command;
use crate::envoy::eventually_within;

const PORT: u16 = 7443;

/// Which it is of the methods of HTTP.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Get,
    Post,
    Patch,
    Delete,
}

/// A user.
pub(super) struct As<'u> {
    pub(super) name: &'u str,
    pub(super) groups: Vec<String>,
    /// The node that the user's token is bound to.
    pub(super) node: Option<&'u str>,
}

/// The API server, and the way to it, which end with this value.
pub(super) struct Server {
    processes: Vec<Child>,
    socket: PathBuf,
    /// The resources of each version of the API that was asked for.
    known: RefCell<HashMap<String, Value>>,
}

impl Server {
    /// Starts it in the node.
    pub(super) fn start(node: &Node) -> Result<Self> {
        let mut arguments = inside::api_server(node.folder());
        arguments.extend([
            // Not what an earlier one left.
            format!("--etcd-prefix=/tables-{}", std::process::id()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={PORT}"),
            // Pods have no accounts, which a controller would make, and nodes the taints of their rows.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".to_owned(),
        ]);
        let mut server = Self {
            processes: Vec::new(),
            socket: node.folder().join("tables.sock"),
            known: RefCell::default(),
        };
        // It ends with the process that entered the node for it.
        let mut api = node.command("setpriv");
        api.args(["--pdeathsig", "KILL", "--"]);
        api.arg(tools::find("kube")?).arg("kube-apiserver");
        server.spawn(node, "tables", api.args(arguments))?;
        let address = format!("--server=https://127.0.0.1:{PORT}");
        let patience = Duration::from_mins(1);
        eventually_within(patience, "the tables' API server", || {
            let kubectl = node.kubectl();
            kubectl.is_ok_and(|mut kubectl| {
                command::run(kubectl.args([&*address, "get", "--raw", "/readyz"])).is_ok()
            })
        })?;
        let _ = std::fs::remove_file(&server.socket);
        let socket = format!("--unix-socket={}", server.socket.display());
        let mut proxy = node.kubectl()?;
        server.spawn(
            node,
            "tables-proxy",
            proxy.args([&address, "proxy", &socket]),
        )?;
        eventually_within(patience, "the way to it", || {
            UnixStream::connect(&server.socket).is_ok()
        })?;
        Ok(server)
    }

    fn spawn(&mut self, node: &Node, name: &str, command: &mut Command) -> Result<()> {
        let log = command::log_file(&node.folder().join(format!("log/{name}.log")))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.processes.push(command.spawn()?);
        Ok(())
    }

    /// Asks for something, and gives why it is refused, if it is. Without a user it is the cluster's
    /// admin that asks.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        user: Option<&As<'_>>,
    ) -> Result<Option<String>> {
        let (status, answer) = self.request(method, path, body, user)?;
        if status < 300 {
            return Ok(None);
        }
        let answer: Value = serde_json::from_str(&answer).unwrap_or(Value::String(answer));
        let message = answer.get("message").and_then(Value::as_str);
        Ok(Some(
            message.map_or_else(|| answer.to_string(), str::to_owned),
        ))
    }

    /// Does something as the cluster's admin.
    pub(super) fn done(&self, method: Method, path: &str, body: Option<&Value>) -> Result<()> {
        match self.ask(method, path, body, None)? {
            None => Ok(()),
            Some(why) => bail!("{method:?} {path}: {why}"),
        }
    }

    /// Makes an object.
    pub(super) fn make(&self, object: &Value) -> Result<()> {
        self.done(Method::Post, &self.collection(object)?, Some(object))
    }

    /// Takes an object away, whatever keeps it.
    pub(super) fn remove(&self, object: &Value) -> Result<()> {
        let path = self.path(object)?;
        let free = serde_json::json!({"metadata": {"finalizers": null}});
        let (status, _) = self.request(Method::Patch, &path, Some(&free), None)?;
        if status == 404 {
            return Ok(());
        }
        let now = format!("{path}?gracePeriodSeconds=0");
        // What only a finalizer kept is gone already.
        self.request(Method::Delete, &now, None, None)?;
        let (status, answer) = self.request(Method::Get, &path, None, None)?;
        ensure!(status == 404, "{path} stays: {answer}");
        Ok(())
    }

    /// Where objects of its kind are made.
    pub(super) fn collection(&self, object: &Value) -> Result<String> {
        let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        let mut found = None;
        // A kind is served a moment after it is defined.
        let patience = Duration::from_secs(10);
        eventually_within(patience, &format!("the kind {version} {kind}"), || {
            found = self.resource(version, kind).ok().flatten();
            found.is_some()
        })?;
        let resource = found.context("no resource")?;
        let root = root(version);
        let plural = text(&resource, "/name");
        Ok(match resource.get("namespaced") {
            Some(Value::Bool(true)) => {
                let namespace = text(object, "/metadata/namespace");
                format!("{root}/namespaces/{namespace}/{plural}")
            }
            _ => format!("{root}/{plural}"),
        })
    }

    /// Where an object is.
    pub(super) fn path(&self, object: &Value) -> Result<String> {
        let name = text(object, "/metadata/name");
        Ok(format!("{}/{name}", self.collection(object)?))
    }

    /// What the API server says of a kind, if it serves it.
    pub(super) fn resource(&self, version: &str, kind: &str) -> Result<Option<Value>> {
        let find = |list: &Value| {
            let mut resources = list.get("resources")?.as_array()?.iter();
            let own = |resource: &&Value| {
                text(resource, "/kind") == kind && !text(resource, "/name").contains('/')
            };
            resources.find(own).cloned()
        };
        if let Some(found) = self.known.borrow().get(version).and_then(find) {
            return Ok(Some(found));
        }
        let (status, list) = self.request(Method::Get, &root(version), None, None)?;
        if status == 404 {
            return Ok(None);
        }
        let list: Value = serde_json::from_str(&list)?;
        let found = find(&list);
        // One that is not complete yet is asked for again.
        if found.is_some() {
            self.known.borrow_mut().insert(version.to_owned(), list);
        }
        Ok(found)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        user: Option<&As<'_>>,
    ) -> Result<(u16, String)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (method, content) = match method {
            Method::Get => ("GET", "application/json"),
            Method::Post => ("POST", "application/json"),
            Method::Patch => ("PATCH", "application/merge-patch+json"),
            Method::Delete => ("DELETE", "application/json"),
        };
        let mut head = vec![
            // Of this version, an answer is everything until its end.
            format!("{method} {path} HTTP/1.0"),
            "Host: localhost".to_owned(),
            "Accept: application/json".to_owned(),
            format!("Content-Length: {}", body.len()),
        ];
        if !body.is_empty() {
            head.push(format!("Content-Type: {content}"));
        }
        if let Some(user) = user {
            head.push(format!("Impersonate-User: {}", user.name));
            let groups = user.groups.iter();
            head.extend(groups.map(|group| format!("Impersonate-Group: {group}")));
            let node = user.node.into_iter();
            let key = "Impersonate-Extra-authentication.kubernetes.io%2fnode-name";
            head.extend(node.map(|node| format!("{key}: {node}")));
        }
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "{}\r\n\r\n{body}", head.join("\r\n"))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // An error means that it has ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The place of a version of the API.
fn root(version: &str) -> String {
    if version.contains('/') {
        format!("/apis/{version}")
    } else {
        format!("/api/{version}")
    }
}
