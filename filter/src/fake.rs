//! A host for unit tests: says what it is told to say, fails where it is told to fail, and keeps
//! what was done to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use egress_policy::config::PluginConfig;
use egress_policy::embedded::Embedded;
use serde_json::{Value, json};

use crate::host::{Headers, Host, HostError, Level, Metric, MetricKind, Response, write_pairs};
use crate::plugin::Plugin;
use crate::role::{Role, accept_configuration};

pub(crate) const APP1: &str = "spiffe://cluster.local/ns/app1-ns/sa/app1";

/// A host that can be kept and asked while a context owns its clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    properties: RefCell<BTreeMap<Vec<String>, Vec<u8>>>,
    headers: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
    held: RefCell<Vec<u8>>,
    seconds: Cell<u64>,
    calls: RefCell<Vec<String>>,
    fails: Cell<Fails>,
    state: RefCell<BTreeMap<String, Vec<u8>>>,
    envoy_state: RefCell<BTreeMap<String, String>>,
    responses: RefCell<Vec<Response>>,
    closed: Cell<u32>,
    lines: RefCell<Vec<(Level, String)>>,
    /// The least severe level that it logs; all, without.
    level: Cell<Option<Level>>,
    metrics: RefCell<Vec<(String, i64)>>,
    configuration: RefCell<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fails {
    #[default]
    Never,
    /// This call, counted from zero.
    Call(usize),
    /// This call and all after it.
    From(usize),
}

impl Fake {
    pub(crate) fn with(self, path: &[&str], value: impl AsRef<[u8]>) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        let value = value.as_ref().to_vec();
        self.0.properties.borrow_mut().insert(path, value);
        self
    }

    pub(crate) fn without(self, path: &[&str]) -> Self {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        self.0.properties.borrow_mut().remove(&path);
        self
    }

    /// The workload app1 over mTLS, with its label in filter state.
    pub(crate) fn app1() -> Self {
        Self::default()
            .with(&["connection", "id"], 7_u64.to_le_bytes())
            .with(&["connection", "mtls"], [1])
            .with(&["connection", "uri_san_peer_certificate"], APP1)
            .labelled("app1-ns", &[("egress-ruleset", "app1")])
    }

    pub(crate) fn labelled(self, namespace: &str, labels: &[(&str, &str)]) -> Self {
        let object = ["filter_state", "downstream_peer"];
        let path = [&object[..], &["namespace"]].concat();
        labels
            .iter()
            .fold(self.with(&path, namespace), |fake, (key, value)| {
                fake.with(&[&object[..], &["labels", key]].concat(), value)
            })
    }

    pub(crate) fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let pair = (name.as_bytes().to_vec(), value.as_ref().to_vec());
        self.0.headers.borrow_mut().push(pair);
        self
    }

    /// Before the next request.
    pub(crate) fn forget_headers(self) -> Self {
        self.0.headers.borrow_mut().clear();
        self
    }

    /// A GET request by this cluster.
    pub(crate) fn get(self, authority: impl AsRef<[u8]>, cluster: &str) -> Self {
        self.header(":method", "GET")
            .header(":path", "/")
            .header(":authority", authority)
            .with(&["xds", "cluster_name"], cluster)
    }

    /// A CONNECT tunnel by this cluster.
    pub(crate) fn connect(self, authority: &str, cluster: &str) -> Self {
        self.header(":method", "CONNECT")
            .header(":authority", authority)
            .with(&["xds", "cluster_name"], cluster)
    }

    /// A certificate and labels as they come, out of reach of this filter, by tunnel.
    pub(crate) fn carrying(self, facts: &[u8]) -> Self {
        self.with(
            &["filter_state", "warden.facts"],
            [b"forward ", facts].concat(),
        )
    }

    /// Sets the clock, in seconds since the Unix epoch.
    pub(crate) fn set_seconds(&self, seconds: u64) {
        self.0.seconds.set(seconds);
    }

    pub(crate) fn hold(&self, bytes: &[u8]) -> usize {
        let mut held = self.0.held.borrow_mut();
        held.extend_from_slice(bytes);
        held.len()
    }

    pub(crate) fn fail(&self, fails: Fails) {
        self.0.fails.set(fails);
    }

    pub(crate) fn forget_calls(&self) {
        self.0.calls.borrow_mut().clear();
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.0.calls.borrow().clone()
    }

    pub(crate) fn state(&self, key: &str) -> Option<String> {
        let state = self.0.state.borrow();
        let value = state.get(key)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The verdict token, as the RBAC lock reads it.
    pub(crate) fn token(&self) -> Option<String> {
        let entry = self.state("warden_verdict")?;
        Some(entry.split(' ').next().unwrap_or_default().to_owned())
    }

    /// The facts sent inward behind the verdict, if any were.
    pub(crate) fn carried(&self) -> Option<String> {
        let entry = self.state("warden_verdict")?;
        let (_, facts) = entry.split_once(' ')?;
        (!facts.is_empty()).then(|| facts.to_owned())
    }

    /// The cluster that `tcp_proxy` was told to connect to.
    pub(crate) fn tcp_cluster(&self) -> Option<String> {
        let state = self.0.envoy_state.borrow();
        state.get("envoy.tcp_proxy.cluster").cloned()
    }

    pub(crate) fn dynamic_host(&self) -> Option<String> {
        let state = self.0.envoy_state.borrow();
        state.get("envoy.upstream.dynamic_host").cloned()
    }

    pub(crate) fn dynamic_port(&self) -> Option<String> {
        let state = self.0.envoy_state.borrow();
        state.get("envoy.upstream.dynamic_port").cloned()
    }

    pub(crate) fn response(&self) -> Option<Response> {
        self.0.responses.borrow().last().cloned()
    }

    pub(crate) fn closed(&self) -> bool {
        self.0.closed.get() > 0
    }

    pub(crate) fn request_header(&self, name: &str) -> Vec<Vec<u8>> {
        let headers = self.0.headers.borrow();
        let found = headers.iter().filter(|(key, _)| key == name.as_bytes());
        found.map(|(_, value)| value.clone()).collect()
    }

    /// From now on it logs lines of this level and more severe ones.
    pub(crate) fn log_from(&self, level: Level) {
        self.0.level.set(Some(level));
    }

    /// The last log line that is a verdict.
    pub(crate) fn verdict(&self) -> Option<Value> {
        self.verdicts().pop()
    }

    pub(crate) fn verdicts(&self) -> Vec<Value> {
        let lines = self.0.lines.borrow();
        let values = lines.iter().map(|(_, line)| {
            serde_json::from_str::<Value>(line).expect("every line is one JSON object")
        });
        values.filter(|line| line["event"] == "verdict").collect()
    }

    pub(crate) fn lines(&self) -> Vec<(Level, String)> {
        self.0.lines.borrow().clone()
    }

    pub(crate) fn metric(&self, name: &str) -> Option<i64> {
        let metrics = self.0.metrics.borrow();
        let found = metrics.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value)
    }

    pub(crate) fn metrics(&self) -> usize {
        self.0.metrics.borrow().len()
    }

    pub(crate) fn configure(&self, configuration: impl AsRef<[u8]>) {
        *self.0.configuration.borrow_mut() = configuration.as_ref().to_vec();
    }

    /// What a root context makes of a configuration.
    pub(crate) fn accept(&self, configuration: &str) -> Option<Role<Self>> {
        self.configure(configuration);
        accept_configuration(self, configuration.len(), &Embedded::default())
    }

    /// Puts a configuration in force and starts counting calls.
    pub(crate) fn plugin(&self, configuration: &Value) -> Rc<Plugin<Self>> {
        let config = PluginConfig::read(&configuration.to_string()).expect("a valid configuration");
        let plugin = Plugin::configure(self.clone(), config, "instance");
        self.forget_calls();
        Rc::new(plugin.expect("a host that has what it needs"))
    }

    fn call(&self, what: &str) -> Result<(), HostError> {
        let mut calls = self.0.calls.borrow_mut();
        let index = calls.len();
        calls.push(what.to_owned());
        let fails = match self.0.fails.get() {
            Fails::Never => false,
            Fails::Call(one) => index == one,
            Fails::From(first) => index >= first,
        };
        if fails { Err(HostError) } else { Ok(()) }
    }
}

impl Host for Fake {
    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
        self.call(&format!("property {}", path.join(".")))?;
        if let [name] = path
            && let Some(value) = self.0.state.borrow().get(*name)
        {
            return Ok(Some(value.clone()));
        }
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        Ok(self.0.properties.borrow().get(&path).cloned())
    }

    fn set_property(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
        self.call(&format!("set {name}"))?;
        let mut state = self.0.state.borrow_mut();
        state.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn set_envoy_filter_state(&self, key: &str, value: &str) -> Result<(), HostError> {
        self.call(&format!("set {key}"))?;
        let mut state = self.0.envoy_state.borrow_mut();
        state.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn request_headers(&self) -> Result<Headers, HostError> {
        self.call("headers")?;
        let headers = self.0.headers.borrow();
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()));
        let bytes = write_pairs(&pairs.collect::<Vec<_>>()).ok_or(HostError)?;
        Headers::parse(bytes).ok_or(HostError)
    }

    fn remove_request_header(&self, name: &str) -> Result<(), HostError> {
        self.call(&format!("remove {name}"))?;
        let mut headers = self.0.headers.borrow_mut();
        headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name.as_bytes()));
        Ok(())
    }

    fn remove_response_trailer(&self, name: &str) -> Result<(), HostError> {
        self.call(&format!("remove trailer {name}"))
    }

    fn set_request_headers(&self, headers: &[(&[u8], &[u8])]) -> Result<(), HostError> {
        self.call("set headers")?;
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| (name.to_vec(), value.to_vec()));
        *self.0.headers.borrow_mut() = headers.collect();
        Ok(())
    }

    fn clear_route_cache(&self) -> Result<(), HostError> {
        self.call("clear route cache")
    }

    fn respond(&self, response: &Response) -> Result<(), HostError> {
        self.call("respond")?;
        self.0.responses.borrow_mut().push(response.clone());
        Ok(())
    }

    fn downstream_data(&self, start: usize, max: usize) -> Result<Vec<u8>, HostError> {
        self.call("data")?;
        let held = self.0.held.borrow();
        let rest = held.get(start..).ok_or(HostError)?;
        Ok(rest.get(..max).unwrap_or(rest).to_vec())
    }

    fn close_downstream(&self) -> Result<(), HostError> {
        self.0.closed.set(self.0.closed.get() + 1);
        self.call("close")
    }

    fn reset_request(&self) -> Result<(), HostError> {
        self.0.closed.set(self.0.closed.get() + 1);
        self.call("reset")
    }

    fn now(&self) -> Result<u64, HostError> {
        self.call("now")?;
        Ok(self.0.seconds.get() * 1_000_000_000)
    }

    fn set_tick_period(&self, _milliseconds: u32) -> Result<(), HostError> {
        self.call("tick")
    }

    fn set_effective_context(&self, id: u32) -> Result<(), HostError> {
        self.call(&format!("context {id}"))
    }

    fn configuration(&self, size: usize) -> Result<Vec<u8>, HostError> {
        self.call("configuration")?;
        let bytes = self.0.configuration.borrow();
        Ok(bytes.get(..size).unwrap_or(&bytes).to_vec())
    }

    fn memory(&self) -> u64 {
        1 << 20
    }

    fn define_metric(&self, _kind: MetricKind, name: &str) -> Result<Metric, HostError> {
        self.call("define metric")?;
        let mut metrics = self.0.metrics.borrow_mut();
        let index = metrics.iter().position(|(known, _)| known == name);
        let index = index.unwrap_or_else(|| {
            metrics.push((name.to_owned(), 0));
            metrics.len() - 1
        });
        Ok(Metric(u32::try_from(index).unwrap()))
    }

    fn increment(&self, counter: Metric, by: i64) -> Result<(), HostError> {
        self.call("increment metric")?;
        self.0.metrics.borrow_mut()[usize::try_from(counter.0).unwrap()].1 += by;
        Ok(())
    }

    fn record(&self, gauge: Metric, value: u64) -> Result<(), HostError> {
        self.call("record metric")?;
        self.0.metrics.borrow_mut()[usize::try_from(gauge.0).unwrap()].1 =
            i64::try_from(value).unwrap();
        Ok(())
    }

    fn metric(&self, metric: Metric) -> Result<u64, HostError> {
        self.call("metric")?;
        let value = self.0.metrics.borrow()[usize::try_from(metric.0).unwrap()].1;
        Ok(u64::try_from(value).unwrap())
    }

    fn logs(&self, level: Level) -> bool {
        self.0.level.get().is_none_or(|least| level <= least)
    }

    fn log(&self, level: Level, line: &str) {
        let _ = self.call("log");
        self.0.lines.borrow_mut().push((level, line.to_owned()));
    }
}

/// The configuration of one instance over [`policy`].
pub(crate) fn configuration(context: &str, ports: &Value) -> Value {
    json!({
        "context": context,
        "labels": "filterState",
        "addressCheck": "classes",
        "addressClasses": [{"name": "plain", "allowPrivate": false, "refused": []}],
        "ports": ports,
        // Tests ask for more in no time at all than a workload does in a minute.
        "limits": {
            "workers": 1, "newNamesPerMinute": 100_000, "names": 100_000,
            "denialLinesPerMinute": 100_000,
        },
        "policies": [policy()],
    })
}

/// The HTTP listener and the tunnels of the reference gateway in one instance.
pub(crate) fn http_configuration() -> Value {
    configuration(
        "http",
        &json!([
            {"cluster": "warden-http", "protocol": "HTTP", "port": 80},
            {"cluster": "warden-tcp", "protocol": "TCP"},
            {"cluster": "warden-tls-inner", "protocol": "TLS"},
            {"cluster": "static", "protocol": "HTTP", "port": 80, "host": "api.github.com"},
            {"cluster": "static-address", "protocol": "HTTP", "port": 80, "host": "203.0.113.9"},
            {"port": 80, "protocol": "HTTP"},
        ]),
    )
}

/// The reference case's policy, with a few rules more for what it does not need.
/// What decided, of a line or a body: `POLICY/TIER/RULE`, as far as there are such.
pub(crate) fn rule_path(json: &Value) -> String {
    let parts = ["policy", "tier", "rule"].map(|part| json[part].as_str());
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

pub(crate) fn policy() -> Value {
    let app1 = json!([{"namespaces": ["app1-ns"], "matchLabels": {"egress-ruleset": "app1"}}]);
    json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": "seed"},
        "spec": {
            "identity": {"trustDomains": ["cluster.local"]},
            "destinations": {"github": {"domainNames": ["*.github.com"], "ports": [80, 443]}},
            "tiers": [
                {"name": "platform", "rules": [
                    {"name": "no-metadata-service", "to": [{"networks": ["169.254.0.0/16"]}],
                     "action": "Deny"},
                ]},
                {"name": "apps", "rules": [
                    {"name": "app1-github", "from": app1, "to": [{"destination": "github"}],
                     "action": "Accept"},
                    {"name": "app1-partner-ssh", "from": app1,
                     "to": [{"networks": ["203.0.113.7/32"], "ports": [22], "protocols": ["TCP"]}],
                     "action": "Accept"},
                    {"name": "app1-api", "from": app1,
                     "to": [{"domainNames": ["api.example"], "ports": [80], "methods": ["GET"],
                             "paths": ["/v1/**"]}],
                     "action": "Accept"},
                    {"name": "app1-socket", "from": app1,
                     "to": [{"domainNames": ["ws.example"], "ports": [80],
                             "upgrades": ["websocket"]}],
                     "action": "Accept"},
                    {"name": "app1-web-address", "from": app1,
                     "to": [{"networks": ["203.0.113.9/32", "2001:db8::9/128"], "ports": [80]}],
                     "action": "Accept"},
                    {"name": "app1-until", "from": app1,
                     "to": [{"domainNames": ["until.example"], "ports": [80]}],
                     "action": "Accept", "expires": "2030-01-01T00:00:00Z"},
                ]},
            ],
            "default": "Deny",
        },
    })
}
