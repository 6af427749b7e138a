//! Every part treats the addresses of `policy::address::SPECIAL` alike: the engine, the node
//! guard's sets, the policies in Cilium's and Calico's language, and `warden verify`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use egress_cni::config::NodeConfig;
use egress_cni::rules::{self, ServiceEndpoints};
use egress_policy::address::{Environment, SPECIAL, Special, SpecialRange, special};
use egress_policy::classes::AddressClass;
use egress_render::Object;
use integration::istio::reference;
use integration::{mesh, sandboxed, verify};
use ipnet::IpNet;
use serde_json::{Value, json};

/// The networks in the node guard's set of this name, both families.
fn kernel_set(script: &str, name: &str) -> Result<Vec<IpNet>> {
    let mut networks = Vec::new();
    for family in ["4", "6"] {
        let head = format!("add element inet egress_warden {name}{family} {{ ");
        let line = script.lines().find_map(|line| line.strip_prefix(&head));
        let line = line.with_context(|| head.clone())?;
        for network in line.trim_end_matches(" }").split(", ") {
            let address = || network.parse().map(IpAddr::into);
            networks.push(network.parse().or_else(|_| address())?);
        }
    }
    Ok(networks)
}

/// The networks that the rules of one policy of the administrator open and close.
#[derive(Default)]
struct Form {
    opened: Vec<IpNet>,
    closed: Vec<IpNet>,
}

impl Form {
    fn of(objects: &[Object], kind: &str) -> Result<Self> {
        let mut form = Self::default();
        let objects = objects.iter().filter(|object| object.kind() == kind);
        let mut found = false;
        for spec in objects.filter_map(|object| object.manifest().get("spec")) {
            found = true;
            for field in ["egress", "egressDeny"] {
                for rule in list(spec, &format!("/{field}")) {
                    let denied = field == "egressDeny"
                        || rule.get("action").and_then(Value::as_str) == Some("Deny");
                    let networks = list(rule, "/toCIDR").chain(list(rule, "/destination/nets"));
                    for network in networks.filter_map(Value::as_str) {
                        let to = if denied {
                            &mut form.closed
                        } else {
                            &mut form.opened
                        };
                        to.push(network.parse()?);
                    }
                }
            }
        }
        ensure!(found, "no {kind}");
        Ok(form)
    }

    /// What no rule opens, both languages close at the end.
    fn closes(&self, network: &IpNet, by_name: bool) -> bool {
        let overlaps = |open: &IpNet| open.contains(network) || network.contains(open);
        if by_name {
            self.closed.contains(network)
        } else {
            !self.opened.iter().any(overlaps)
        }
    }
}

fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    let items = value.pointer(pointer).and_then(Value::as_array);
    items.into_iter().flatten()
}

/// A metadata address that stands by itself in the table.
fn is_metadata(row: &SpecialRange) -> bool {
    row.kind == Special::CloudMetadata && row.network.prefix_len() == row.network.max_prefix_len()
}

/// Without a network nothing that is tried leaves this machine.
fn tried_by_verify() -> Result<BTreeSet<IpAddr>> {
    let (_, report) = verify::reference(&mesh::APP1, &["--only", "bypass", "--output", "json"])?;
    let report: Value = serde_json::from_str(&report).context(report)?;
    let probes = list(&report, "/probes").filter(|probe| {
        let why = probe.get("why").and_then(Value::as_str);
        why == Some("cloud metadata")
    });
    let address = |probe: &Value| -> Result<IpAddr> {
        let attempt = probe.get("attempt").and_then(Value::as_str);
        let to = attempt.and_then(|text| text.split(' ').nth(1));
        Ok(to
            .context("no address")?
            .parse::<std::net::SocketAddr>()?
            .ip())
    };
    probes.map(address).collect()
}

sandboxed! {
    fn every_part_treats_special_addresses_alike() -> Result<()> {
        let node = json!({
            "exemptNamespaces": [], "clusterNetworks": ["192.0.2.0/24"], "dns": {},
        });
        let node = NodeConfig::parse("test", &node.to_string())?;
        let script = rules::refresh(&node, &ServiceEndpoints::default());
        let private = kernel_set(&script, "private")?;
        let metadata = kernel_set(&script, "metadata")?;
        let mut forms = Vec::new();
        for kind in ["CiliumClusterwideNetworkPolicy", "GlobalNetworkPolicy"] {
            let mut install = reference::install()?;
            install.spec.cluster.networks = Some(serde_json::from_value(json!({
                "pods": "registered", "services": ["192.0.2.0/25"], "nodes": ["192.0.2.128/25"],
            }))?);
            install.spec.cluster.admin_policies = Some(serde_json::from_value(json!({"api": kind}))?);
            let rendered = reference::of(&install, &[reference::policy()?])?;
            forms.push((kind, Form::of(rendered.objects(), kind)?));
        }
        let tried = tried_by_verify()?;
        let class = AddressClass::default();
        let mut wrong = Vec::new();
        for row in &SPECIAL {
            let network = &row.network;
            let is_metadata = is_metadata(row);
            let ends = [network.network(), network.broadcast()];
            // A link-local address has no meaning without the interface that it is of.
            let link_local = matches!(network.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local());
            let mut answers = vec![
                ("engine", ends.iter().all(|address| {
                    special(*address).is_some() && !class.admits(*address, &Environment::default())
                })),
                ("node guard, gateway", private.iter().any(|net| net.contains(network))),
                ("node guard, metadata", metadata.contains(network) == is_metadata),
                ("verify", tried.contains(&network.addr()) == (is_metadata && !link_local)
                    || !is_metadata),
            ];
            for (kind, form) in &forms {
                answers.push((kind, form.closes(network, is_metadata)));
            }
            let missing = answers.iter().filter(|(_, closed)| !closed);
            wrong.extend(missing.map(|(part, _)| format!("{part}: {network} ({})", row.source)));
        }
        ensure!(wrong.is_empty(), "{wrong:#?}");
        let alike = [tried.len() + 1, metadata.len(), forms[0].1.closed.len(), forms[1].1.closed.len()];
        ensure!(alike.iter().all(|count| *count == metadata.len()), "{alike:?}");
        Ok(())
    }
}
