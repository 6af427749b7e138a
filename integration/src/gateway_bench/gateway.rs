//! A gateway for each row: `envoy-config/gateway.yaml` with another filter where the module stands.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use egress_policy::contract::{CLUSTER_HTTP, class_cluster, entry_prefix};
use egress_policy::contract::{DYNAMIC_HOST, VERDICT, accept_word};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::load::Exchange;
use super::rivals;
use super::rows::{Row, Variant};
use super::workload::FIRST;
use crate::certificates::Authority;
use crate::classes::{self, Class};
use crate::envoy::{Envoy, eventually_within};
use crate::extension::Extension;
use crate::{mesh, policy, template};

/// As Istio's proxies log, unless they are told otherwise.
const LEVEL: &str = "warning";

/// A running gateway.
pub(super) struct Gateway {
    /// Its process.
    pub(super) envoy: Envoy,
    /// Where it listens; its admin interface too.
    pub(super) address: Ipv4Addr,
    /// How long it took to be ready.
    pub(super) start: Duration,
    /// What it took of the processor until then.
    pub(super) start_cpu: Duration,
    /// Its log.
    files: TempDir,
}

impl Gateway {
    /// Starts the gateway of a row; `other` is the other build of the module.
    ///
    /// # Errors
    /// If it does not become ready.
    pub(super) fn start(
        row: Row,
        address: Ipv4Addr,
        authority: &Authority,
        policy: &Value,
        other: Option<&Path>,
    ) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let folder = files.path();
        mesh::write_certificates(folder, authority, &[])?;
        mesh::write_outside_certificates(folder, authority, authority)?;
        let policies = std::slice::from_ref(policy);
        let classes = classes::of(policies);
        for place in places(row) {
            let mut place = policy::at(place, policies);
            if let (Variant::OtherModule, Some(other)) = (row.variant, other) {
                other.clone_into(&mut place.wasm);
            }
            place.write(folder)?;
        }
        let class = classes.first().context("no class")?;
        let change = |config: &mut Value| adapt(config, row, address, policy, class);
        let config = mesh::gateway_config(folder, &classes, &change)?;
        let began = Instant::now();
        let log = folder.join("gateway.log");
        let mut envoy = Envoy::start_at_level(&config, address, log, 1, LEVEL)?;
        envoy.ready().with_context(|| row.id())?;
        let start = began.elapsed();
        Ok(Self {
            start,
            start_cpu: cpu(&envoy)?,
            envoy,
            address,
            files,
        })
    }

    /// What its process has taken of the processor so far.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn cpu(&self) -> Result<Duration> {
        cpu(&self.envoy)
    }

    /// Bytes of its resident memory.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.envoy.id());
        let status = std::fs::read_to_string(&path).context(path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: u64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("no VmRSS")?
            .parse()?;
        Ok(kilobytes << 10)
    }

    /// Bytes that the module's VM has grown to; 0 without one.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub(super) fn module_memory(&self) -> Result<u64> {
        self.envoy.stat("wasmcustom.warden_memory_bytes")
    }

    /// Gives the module for requests another policy and waits until it is in force.
    ///
    /// # Errors
    /// If it is not taken.
    pub(super) fn update(&self, extension: &Extension) -> Result<()> {
        let name = format!("{}.update_success", extension.statistics());
        let before = self.envoy.stat(&name)?;
        extension.write(self.files.path())?;
        eventually_within(Duration::from_mins(2), "an update", || {
            self.envoy.stat(&name).is_ok_and(|now| now > before)
        })
    }
}

fn cpu(envoy: &Envoy) -> Result<Duration> {
    let process = Pid::from_raw(i32::try_from(envoy.id())?);
    let clock = ClockId::pid_cpu_clock_id(process)?;
    Ok(clock_gettime(clock)?.into())
}

/// Where the module stands in a row.
fn places(row: Row) -> &'static [&'static str] {
    match (row.variant, row.exchange) {
        (Variant::Module | Variant::OtherModule, Exchange::Tunnel) => {
            &["warden-connect", "warden-tls"]
        }
        (Variant::Module | Variant::OtherModule, _) => &["warden-http"],
        _ => &[],
    }
}

fn adapt(config: &mut Value, row: Row, address: Ipv4Addr, policy: &Value, class: &Class) {
    keep_listeners(config, row.exchange);
    template::each_object(config, &mut |object| {
        // What the requests cost is compared, not what a line on a disk costs.
        object.remove("access_log");
        let place = object.get("address").and_then(Value::as_str);
        if place.is_some_and(|place| is_own(place, object.get("port_value"))) {
            object.insert("address".to_owned(), json!(address));
        }
    });
    match row.variant {
        Variant::Module | Variant::OtherModule => read_metadata_once(config),
        Variant::Natives => {
            template::remove_filters(config, &["peer-metadata"]);
            fixed_verdict(config, class);
        }
        Variant::Bare => strip(config, class),
        Variant::Rbac => rival(config, class, &rivals::rbac(policy)),
        Variant::RbacTree => rival(config, class, &rivals::rbac_tree(policy)),
        Variant::Lua => rival(config, class, &rivals::lua(policy)),
    }
}

/// The gateway's own address in the template, or its admin interface's.
fn is_own(place: &str, port: Option<&Value>) -> bool {
    place == mesh::GATEWAY.to_string()
        || (place == mesh::ADMIN.to_string() && port == Some(&json!(15000)))
}

fn keep_listeners(config: &mut Value, exchange: Exchange) {
    let kept: &[&str] = match exchange {
        Exchange::Http1 | Exchange::Http2 => &["http"],
        Exchange::Tunnel => &["connect", "tls-inner"],
    };
    let listeners = config.pointer_mut("/static_resources/listeners");
    if let Some(listeners) = listeners.and_then(Value::as_array_mut) {
        listeners.retain(|listener| {
            let name = listener.get("name").and_then(Value::as_str);
            name.is_some_and(|name| kept.contains(&name))
        });
    }
}

/// Istio's own filter, which is native, reads a caller's metadata. What stands for it here is a wasm
/// module, which would be counted in; so it runs for the first request of a connection alone, and the
/// policy module remembers what it found.
fn read_metadata_once(config: &mut Value) {
    let disabled = json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "disabled": true,
    });
    template::each_object(config, &mut |object| {
        let Some(Value::Array(routes)) = object.get_mut("routes") else {
            return;
        };
        // The last ones are those that a request has before its verdict.
        let unjudged: Vec<Value> = routes
            .iter()
            .filter(|route| leads_nowhere(route))
            .cloned()
            .collect();
        let mut first = Vec::new();
        for mut route in unjudged {
            if let Some(found) = route.get_mut("match").and_then(Value::as_object_mut) {
                let marked = json!({"name": FIRST, "present_match": true});
                match found.get_mut("headers").and_then(Value::as_array_mut) {
                    Some(headers) => headers.push(marked),
                    None => {
                        found.insert("headers".to_owned(), json!([marked]));
                    }
                }
            }
            if let Some(route) = route.as_object_mut() {
                route.remove("name");
            }
            first.push(route);
        }
        for route in routes.iter_mut().filter(|route| leads_nowhere(route)) {
            let Some(route) = route.as_object_mut() else {
                continue;
            };
            let filters = route
                .entry("typed_per_filter_config")
                .or_insert_with(|| json!({}));
            if let Some(filters) = filters.as_object_mut() {
                filters.insert("peer-metadata".to_owned(), disabled.clone());
            }
        }
        let at = routes.iter().position(leads_nowhere).unwrap_or_default();
        routes.splice(at..at, first);
    });
}

/// Whether a route is one that a request has before its verdict.
fn leads_nowhere(route: &Value) -> bool {
    route.pointer("/match/filter_state").is_none()
}

/// What the module would say, said by a filter of Envoy's own.
fn fixed_verdict(config: &mut Value, class: &Class) {
    let state = |key: &str, text: &str| {
        json!({
            "object_key": key,
            "factory_key": if key == DYNAMIC_HOST { DYNAMIC_HOST } else { "envoy.string" },
            "format_string": {"text_format_source": {"inline_string": text}},
        })
    };
    let verdict = entry_prefix(&accept_word(&class.name));
    replace_module(
        config,
        &json!({
            "name": "fixed-verdict",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
                "on_request_headers": [
                    state(DYNAMIC_HOST, "%REQ(:authority)%:80"),
                    state(&format!("wasm.{VERDICT}"), &verdict),
                ],
                "clear_route_cache": true,
            },
        }),
    );
}

fn replace_module(config: &mut Value, with: &Value) {
    template::each_object(config, &mut |object| {
        if let Some(Value::Array(filters)) = object.get_mut("http_filters") {
            for filter in filters {
                if filter.get("name").is_some_and(|name| name == "warden-http") {
                    with.clone_into(filter);
                }
            }
        }
    });
}

/// A gateway that judges nothing.
fn strip(config: &mut Value, class: &Class) {
    template::open_wide(config);
    template::remove_filters(
        config,
        &[
            "peer-metadata",
            "caller",
            "carry-facts-inward",
            "to-inspection-proxy",
        ],
    );
    template::each_object(config, &mut |object| {
        if let Some(Value::Array(routes)) = object.get_mut("routes") {
            routes.retain(leads_nowhere);
            routes.retain(|route| route.get("name").is_none_or(|name| name != "originate"));
            for route in routes {
                if let Some(route) = route.as_object_mut() {
                    route.remove("typed_per_filter_config");
                }
            }
        }
        if object
            .get("cluster")
            .is_some_and(|cluster| cluster == CLUSTER_HTTP)
        {
            let cluster = class_cluster(CLUSTER_HTTP, &class.name);
            object.insert("cluster".to_owned(), json!(cluster));
        }
    });
}

/// A gateway where another filter judges, and lets through by going on.
fn rival(config: &mut Value, class: &Class, filter: &Value) {
    strip(config, class);
    template::each_object(config, &mut |object| {
        if let Some(Value::Array(filters)) = object.get_mut("http_filters") {
            filters.insert(0, filter.clone());
        }
    });
}

/// A policy with one rule that says something else than before.
///
/// # Errors
/// If the policy has no rules.
pub(super) fn changed(policy: &Value, round: u32) -> Result<Value> {
    let mut policy = policy.clone();
    let rules = policy.pointer_mut("/spec/tiers/0/rules");
    let rules = rules.and_then(Value::as_array_mut).context("no rules")?;
    let last = rules.last_mut().context("no rule")?;
    let name = last.get_mut("ticket").context("no ticket")?;
    *name = json!(format!("CHANGE-{round}"));
    ensure!(!name.is_null(), "unchanged");
    Ok(policy)
}
