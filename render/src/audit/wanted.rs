//! What a live configuration has to be: the patches of the rendered objects, by what they make.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::with_rendered;
use super::dump::snake_case;
use super::{items, name};
use crate::earlier::Earlier;
use crate::error::RenderError;
use crate::gateway;
use crate::install::Install;
use crate::object::Object;
use crate::prepared::Enforced;

/// Everything that patches make of a gateway, in snake case.
pub(super) struct Wanted {
    /// The port for HTTP requests, and the one for tunnels.
    pub(super) ports: [u64; 2],
    pub(super) namespace: String,
    pub(super) listeners: BTreeMap<String, Value>,
    pub(super) clusters: BTreeMap<String, Value>,
    /// By port, the first match first.
    pub(super) routes: BTreeMap<u64, Vec<Value>>,
    /// What may be there besides: clusters and routes of the render before.
    pub(super) kept: Vec<Value>,
    /// Configurations that filters discover by name.
    pub(super) extensions: BTreeMap<String, Value>,
    /// HTTP filters ahead of everybody's, each with its port if it is for one port only.
    pub(super) first: Vec<(Option<u64>, Value)>,
    /// What the HTTP connection manager of a port answers where Envoy has nothing to connect to.
    pub(super) replies: BTreeMap<u64, Value>,
    /// The access log of a port, beside those that the mesh's settings ask for.
    pub(super) logs: BTreeMap<u64, Value>,
    /// HTTP filters right before the router.
    pub(super) last: Vec<Value>,
    /// The module's code, or where it comes from.
    pub(super) code: ModuleCode,
}

/// Where the module's code comes from.
pub(super) struct ModuleCode {
    pub(super) url: String,
    /// SHA-256 as the install settings state it.
    pub(super) stated: Option<String>,
    /// The same, or the one within the URL.
    pub(super) digest: Option<String>,
}

/// Where Istio's agent keeps what it has fetched (`pkg/istio-agent`, `IstioDataDir`).
const FETCHED: &str = "/var/lib/istio/data/";

impl ModuleCode {
    /// Whether this is the module: its file, what Istio's agent is to fetch, or what the agent has
    /// fetched and kept under its digest.
    pub(super) fn is(&self, found: &Value) -> bool {
        let only = |value: &Value, fields: &[&str]| {
            let mut keys = value.as_object().into_iter().flatten().map(|(key, _)| key);
            keys.all(|key| fields.contains(&&**key))
        };
        let text = |pointer: &str| found.pointer(pointer).and_then(Value::as_str);
        let file = text("/local/filename").filter(|_| {
            only(found, &["local"])
                && found
                    .get("local")
                    .is_some_and(|local| only(local, &["filename"]))
        });
        if let Some(path) = self.url.strip_prefix("file://") {
            return file == Some(path);
        }
        if let (Some(file), Some(digest)) = (file, &self.digest) {
            return file.starts_with(FETCHED)
                && !file.contains("/../")
                && file.rsplit('/').next() == Some(&*format!("{digest}.wasm"));
        }
        let remote = found.get("remote");
        remote.is_some_and(|remote| {
            only(found, &["remote"])
                && only(remote, &["http_uri", "sha256"])
                && text("/remote/http_uri/uri").is_some_and(|uri| self.is_url(uri))
                && self.is_digest(text("/remote/sha256").unwrap_or_default())
        })
    }

    /// Without a digest of its own a URL has it.
    fn is_digest(&self, sha256: &str) -> bool {
        Some(sha256) == self.digest.as_deref() || (sha256.is_empty() && self.stated.is_none())
    }

    /// istiod leaves the URL of an image as it is, or writes the scheme that stands for none.
    fn is_url(&self, uri: &str) -> bool {
        uri == self.url || uri.strip_prefix("oci://") == Some(&self.url)
    }
}

impl Wanted {
    pub(super) fn of(
        install: &Install,
        enforced: &Enforced,
        earlier: Option<&Earlier>,
    ) -> Result<Self, RenderError> {
        let gateway = &install.spec.gateway;
        let image = &install.spec.module;
        let in_url = || {
            image
                .url
                .rsplit_once("@sha256:")
                .map(|(_, digest)| digest.to_owned())
        };
        let mut wanted = Self {
            ports: [gateway.ports.http.into(), gateway.ports.tunnel.into()],
            namespace: gateway.namespace.clone(),
            listeners: BTreeMap::new(),
            clusters: BTreeMap::new(),
            routes: BTreeMap::new(),
            kept: Vec::new(),
            extensions: BTreeMap::new(),
            first: Vec::new(),
            replies: BTreeMap::new(),
            logs: BTreeMap::new(),
            last: Vec::new(),
            code: ModuleCode {
                url: image.url.clone(),
                stated: image.sha256.clone(),
                digest: image.sha256.clone().or_else(in_url),
            },
        };
        let objects = gateway::objects(
            install,
            &enforced.traffic,
            &enforced.module,
            &enforced.classes,
            earlier,
        );
        // The classes of the render before may be deleted by now; only the listener goes by them.
        let beside = |earlier: &Earlier| earlier.beside(&enforced.classes.names());
        let kept = earlier.map(beside).unwrap_or_default();
        let is_kept = |object: &Object| kept.iter().any(|kept| kept.name() == object.name());
        let mut filters: Vec<_> = objects
            .iter()
            .filter(|object| object.kind() == "EnvoyFilter" && !is_kept(object))
            .map(Object::manifest)
            .collect();
        // Istio applies them in this order.
        filters.sort_by_key(|filter| filter.pointer("/spec/priority").and_then(Value::as_i64));
        for patch in filters
            .into_iter()
            .filter_map(|filter| filter.get("spec"))
            .flat_map(|spec| items(spec, "configPatches"))
        {
            wanted.take(patch)?;
        }
        wanted.kept = kept
            .iter()
            .filter_map(|object| object.manifest().get("spec"))
            .flat_map(|spec| items(spec, "configPatches"))
            .filter_map(|patch| patch.pointer("/patch/value"))
            .map(snake_case)
            .collect();
        Ok(wanted)
    }

    /// Whether this is a cluster or a route of the render before, as it was rendered.
    pub(super) fn keeps(&self, found: &Value) -> bool {
        let mut kept = self.kept.iter();
        kept.any(|kept| name(kept) == name(found) && with_rendered(found, kept).is_empty())
    }

    fn take(&mut self, patch: &Value) -> Result<(), RenderError> {
        let text = |pointer: &str| patch.pointer(pointer).and_then(Value::as_str);
        let port = |pointer: &str| patch.pointer(pointer).and_then(Value::as_u64);
        let value = patch
            .pointer("/patch/value")
            .map(snake_case)
            .unwrap_or_default();
        let named = name(&value).to_owned();
        let before = text("/match/listener/filterChain/filter/subFilter/name");
        match (text("/applyTo"), text("/patch/operation"), before) {
            (Some("LISTENER"), Some("ADD"), _) => {
                self.listeners.insert(named, value);
            }
            (Some("CLUSTER"), Some("ADD"), _) => {
                self.clusters.insert(named, value);
            }
            (Some("EXTENSION_CONFIG"), Some("ADD"), _) => {
                self.extensions.insert(named, value);
            }
            (Some("HTTP_ROUTE"), Some("INSERT_FIRST"), _) => {
                let port = port("/match/routeConfiguration/portNumber").unwrap_or_default();
                self.routes.entry(port).or_default().insert(0, value);
            }
            (Some("HTTP_FILTER"), Some("INSERT_FIRST"), None) => {
                self.first
                    .insert(0, (port("/match/listener/portNumber"), value));
            }
            (Some("HTTP_FILTER"), Some("INSERT_BEFORE"), Some("envoy.filters.http.router")) => {
                self.last.push(value);
            }
            // Of proxies with another version; the port is compared as a whole; and of plain TCP
            // nothing may be there at all.
            (Some("LISTENER"), Some("REMOVE" | "MERGE"), None)
            | (Some("FILTER_CHAIN"), Some("MERGE"), None)
            | (Some("NETWORK_FILTER"), Some("REPLACE"), None) => {}
            // The rest of the manager is compared as a whole.
            (Some("NETWORK_FILTER"), Some("MERGE"), None) => {
                let port = port("/match/listener/portNumber").unwrap_or_default();
                if let Some(replies) = value.pointer("/typed_config/local_reply_config") {
                    self.replies.insert(port, replies.clone());
                }
                // One for each port.
                if let Some(log) = value.pointer("/typed_config/access_log/0") {
                    self.logs.insert(port, log.clone());
                }
            }
            _ => {
                let message = "a rendered patch of a kind that cannot be looked for";
                return Err(RenderError::new("EnvoyFilter", message));
            }
        }
        Ok(())
    }
}
