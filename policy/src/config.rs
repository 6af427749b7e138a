//! The module's configuration (`pluginConfig`): where this instance stands, what it may lead to,
//! and the policies, unchanged.

use std::net::IpAddr;

use crate::canonical;
use crate::decode::{Fields, boolean, each, fitting, list, shape, text, word};
use crate::defect::{At, Defect, DefectKind, Defects};
use crate::destination::{Route, RouteHost, RouteTable};
use crate::facts::Protocol;
use crate::name::NamePattern;
use crate::policy_set::{PolicySet, PolicySetBuilder};
use crate::port::parse_ports;
use crate::read::object_name;
use crate::settings::{AddressCheck, Settings};
use crate::tree::{Json, Node, Shape};

/// Where in Envoy this instance of the module stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A downstream HTTP filter.
    Http,
    /// A network filter on a TCP chain or internal listener.
    Network,
    /// An upstream HTTP filter, where the resolved address is known.
    Upstream,
}

/// Where the caller's labels are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelSource {
    /// Istio's filter state.
    FilterState,
    /// The peer-metadata header, on mTLS connections only.
    Header,
    /// Nowhere: rules that need labels stay unknown.
    None,
}

/// The configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// Where this instance stands.
    pub context: Context,
    /// Where labels are read.
    pub labels: LabelSource,
    /// Clusters that verdicts may lead to.
    pub routes: RouteTable,
    /// Inspection clusters: name and Envoy cluster.
    pub inspection: Vec<(String, String)>,
    /// Where the address behind a name is checked: what an adapter has to hand on.
    pub address_check: AddressCheck,
    /// Whether an encrypted ClientHello is refused outright.
    pub refuse_ech: bool,
    /// One accepted verdict in this many is logged; 0 is none. Denials are always logged.
    pub log_accepts: u32,
    /// The compiled policies.
    pub policies: PolicySet,
    /// SHA-256 over the canonical JSON of `policies`.
    pub policy_hash: String,
}

impl Config {
    /// Reads the configuration from JSON.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(json: &str) -> Result<Self, Vec<Defect>> {
        let mut defects = Defects::default();
        let at = At::root();
        let document = match Json::parse(json) {
            Ok(document) => document,
            Err(message) => {
                defects.add(DefectKind::Syntax, &at, message, None);
                return Err(defects.into_vec());
            }
        };
        match read(&document, &at, &mut defects) {
            Some(config) if defects.is_empty() => Ok(config),
            _ => Err(defects.into_vec()),
        }
    }
}

fn read(document: &Json<'_>, at: &At<'_>, defects: &mut Defects) -> Option<Config> {
    let mut fields = Fields::of(document, at, defects)?;
    let contexts = [
        ("http", Context::Http),
        ("network", Context::Network),
        ("upstream", Context::Upstream),
    ];
    let context = fields.require("context", at, defects);
    let context = context.and_then(|node| word(&node, &at.field("context"), defects, &contexts));
    let sources = [
        ("filterState", LabelSource::FilterState),
        ("header", LabelSource::Header),
        ("none", LabelSource::None),
    ];
    let labels = fields.require("labels", at, defects);
    let labels = labels.and_then(|node| word(&node, &at.field("labels"), defects, &sources));
    let checks = [
        ("upstream", AddressCheck::Upstream),
        ("none", AddressCheck::None),
    ];
    let address_check = match fields.take("addressCheck") {
        None => Some(AddressCheck::Unstated),
        Some(node) => word(&node, &at.field("addressCheck"), defects, &checks),
    };
    let mut routes = RouteTable::default();
    if let Some(node) = fields.require("ports", at, defects) {
        each(&node, &at.field("ports"), defects, |node, at, defects| {
            read_route(node, at, defects, &mut routes);
        });
    }
    let inspection = fields.take("inspection");
    let inspection =
        inspection.map(|node| read_inspection(&node, &at.field("inspection"), defects));
    let refuse_ech = fields.take("refuseEch");
    let refuse_ech = refuse_ech.and_then(|node| boolean(&node, &at.field("refuseEch"), defects));
    let log_accepts = fields.take("logAccepts");
    let log_accepts = log_accepts.and_then(|node| number(&node, &at.field("logAccepts"), defects));
    let policies = fields.require("policies", at, defects);
    fields.finish(at, defects);
    let (inspection, policies, at) = (
        inspection.unwrap_or_default(),
        policies?,
        at.field("policies"),
    );
    // The policies are read whatever is wrong around them, so that all of it is said at once.
    let settings = Settings {
        address_check: address_check.unwrap_or(AddressCheck::Unstated),
    };
    let policy_hash = canonical::hash(&policies)
        .map_err(|message| defects.add(DefectKind::Syntax, &at, message, None));
    let compiled = read_policies(&policies, &at, defects, settings, &inspection);
    Some(Config {
        context: context?,
        labels: labels?,
        routes,
        address_check: settings.address_check,
        refuse_ech: refuse_ech.unwrap_or(false),
        log_accepts: log_accepts.unwrap_or(1),
        policies: compiled?,
        inspection,
        policy_hash: canonical::hex(&policy_hash.ok()?),
    })
}

/// An empty list is a configuration of its own: no policy, so everything is denied.
fn read_policies(
    node: &Json<'_>,
    at: &At<'_>,
    defects: &mut Defects,
    settings: Settings,
    inspection: &[(String, String)],
) -> Option<PolicySet> {
    let mut builder =
        PolicySetBuilder::new(settings, inspection.iter().map(|(name, _)| name.clone()));
    match shape(node, at, defects)? {
        Shape::List(documents) if documents.is_empty() => {}
        _ => each(node, at, defects, |node, at, defects| {
            builder.read(node, at, defects);
        }),
    }
    defects.is_empty().then(|| builder.finish())
}

fn number<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<u32> {
    let value = match shape(node, at, defects)? {
        Shape::Number(text) => text.parse().ok(),
        _ => None,
    };
    if value.is_none() {
        defects.add(
            DefectKind::WrongType,
            at,
            "expected a whole number, zero or more",
            None,
        );
    }
    value
}

pub(crate) fn read_inspection<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Vec<(String, String)> {
    let found = list(node, at, defects, |node, at, defects| {
        let mut fields = Fields::of(node, at, defects)?;
        let name = fields.require("name", at, defects);
        let name = name.and_then(|node| object_name(&node, &at.field("name"), defects));
        let cluster = fields.require("cluster", at, defects);
        let cluster = cluster.and_then(|node| text(&node, &at.field("cluster"), defects));
        fields.finish(at, defects);
        Some((name?, cluster?))
    });
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    crate::decode::unique(&names, at, defects);
    found
}

/// One entry of `ports`: `{port, protocol}` admits Istio's own clusters of that port; `{cluster,
/// protocol, port, host}` a cluster by name; without `host` any host, without `port` any port that
/// a tunnel asks for.
pub(crate) fn read_route<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    routes: &mut RouteTable,
) {
    let Some(mut fields) = Fields::of(node, at, defects) else {
        return;
    };
    let words = [
        ("HTTP", Protocol::Http),
        ("TLS", Protocol::Tls),
        ("TCP", Protocol::Tcp),
    ];
    let protocol = fields.require("protocol", at, defects);
    let protocol = protocol.and_then(|node| word(&node, &at.field("protocol"), defects, &words));
    let cluster = fields
        .take("cluster")
        .map(|node| text(&node, &at.field("cluster"), defects));
    let port = fields
        .take("port")
        .map(|node| read_port(&node, &at.field("port"), defects));
    let host = fields
        .take("host")
        .map(|node| read_host(&node, &at.field("host"), defects));
    fields.finish(at, defects);
    let Some(protocol) = protocol else { return };
    let added = match (cluster, port, host) {
        (Some(Some(name)), port, host) => {
            let host = match host {
                None => RouteHost::Dynamic,
                Some(Some(host)) => host,
                Some(None) => return,
            };
            routes.add_cluster(
                name,
                Route {
                    host,
                    port: port.flatten(),
                    protocol,
                },
            )
        }
        (None, Some(Some(port)), None) => routes.add_istio_port(port, protocol),
        (None, _, Some(_)) => {
            defects.add(
                DefectKind::Conflict,
                &at.field("host"),
                "`host` goes with `cluster`",
                None,
            );
            return;
        }
        (None, None, None) => {
            defects.add(
                DefectKind::MissingField,
                at,
                "`cluster` or `port` is missing",
                None,
            );
            return;
        }
        (Some(None), ..) | (None, Some(None), None) => return,
    };
    if !added {
        defects.add(
            DefectKind::DuplicateName,
            at,
            "this cluster or port is listed already",
            None,
        );
    }
}

fn read_port<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<u16> {
    let port = match shape(node, at, defects)? {
        Shape::Number(text) => parse_ports(&text).ok().map(|range| *range.start()),
        _ => None,
    };
    if port.is_none() {
        defects.add(
            DefectKind::BadValue,
            at,
            "expected one port, 1 to 65535",
            None,
        );
    }
    port
}

fn read_host<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<RouteHost> {
    let value = text(node, at, defects)?;
    if let Ok(address) = value.parse::<IpAddr>() {
        return Some(RouteHost::Address(crate::name::canonical(address)));
    }
    let parsed = NamePattern::parse(&value);
    let pattern = fitting(&value, parsed, |error| error.hint(), at, defects)?;
    Some(match pattern {
        NamePattern::Exact(name) => RouteHost::Name(name),
        pattern => RouteHost::Pattern(pattern),
    })
}

#[cfg(test)]
mod tests;
