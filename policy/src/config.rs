//! The module's configuration (`pluginConfig`): where this instance stands, what it may lead to,
//! and the policies: unchanged, or the hash of those that the module carries.

mod addresses;
pub mod fields;
pub(crate) mod policies;
mod readiness;
mod route;

use std::rc::Rc;

use crate::canonical;
use crate::classes::ClassNames;
use crate::decode::{Fields, boolean, each, list, shape, text, word};
use crate::defect::{At, Defect, DefectKind, Defects};
use crate::destination::RouteTable;
use crate::embedded::Embedded;
use crate::limits::{self, Limits};
use crate::policy_set::PolicySet;
use crate::read::object_name;
use crate::settings::{AddressCheck, Settings};
use crate::tree::{Json, Node, Shape};

pub(crate) use addresses::read_nat64;
pub use readiness::Readiness;
pub(crate) use route::read_route;

/// Where in Envoy this instance of the module stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A downstream HTTP filter.
    Http,
    /// A network filter on a TCP chain or internal listener.
    Network,
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

/// Whose the server name of the connections is that reach a downstream HTTP filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerName {
    /// The mesh's own hop: routing, not a destination.
    Mesh,
    /// The application's: its TLS ends at this listener, and Host must agree with the name.
    Application,
}

/// The configuration, checked.
#[derive(Debug)]
pub struct PluginConfig {
    /// Where this instance stands.
    pub context: Context,
    /// Where labels are read.
    pub labels: LabelSource,
    /// Whose the connections' server name is.
    pub server_name: ServerName,
    /// Clusters that verdicts may lead to.
    pub routes: RouteTable,
    /// Inspection clusters: name and Envoy cluster.
    pub inspection: Vec<(String, String)>,
    /// Whether the addresses behind names are checked.
    pub address_check: AddressCheck,
    /// The names of the address classes that this gateway has DNS caches and clusters for. A name
    /// whose class is not among them opens nothing (`route_mismatch`).
    pub classes: ClassNames,
    /// Whether an encrypted ClientHello is refused outright.
    pub refuse_ech: bool,
    /// One accepted verdict in this many is logged; 0 is none. Denials are always logged.
    pub log_accepts: u32,
    /// Whether streams that began under other policies than these are to end.
    pub recheck_on_update: bool,
    /// What each identity may take.
    pub limits: Limits,
    /// The compiled policies. Places that name the same carried ones share them.
    pub policies: Rc<PolicySet>,
    /// SHA-256 over the canonical JSON of the policies.
    pub policy_hash: String,
}

/// What an instance of the module is for.
#[derive(Debug)]
pub enum ModuleConfig {
    /// It holds policies against what passes it.
    Policies(Box<PluginConfig>),
    /// It tells a probe whether other instances have theirs.
    Readiness(Readiness),
}

impl PluginConfig {
    /// Reads the configuration from JSON, where there is nothing but the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(json: &str) -> Result<Self, Vec<Defect>> {
        Self::read_beside(json, &Embedded::default())
    }

    /// Reads the configuration of a module that may carry policies.
    ///
    /// # Errors
    /// Everything that is wrong with it, and if it is a gate's.
    pub fn read_beside(json: &str, embedded: &Embedded<'_>) -> Result<Self, Vec<Defect>> {
        match ModuleConfig::read_beside(json, embedded)? {
            ModuleConfig::Policies(config) => Ok(*config),
            ModuleConfig::Readiness(_) => Err(vec![Defect {
                kind: DefectKind::Conflict,
                path: At::root().field("context").path(),
                message: "a gate has no policies".to_owned(),
                hint: None,
            }]),
        }
    }
}

impl ModuleConfig {
    /// Reads the configuration of a module that may carry policies.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read_beside(json: &str, embedded: &Embedded<'_>) -> Result<Self, Vec<Defect>> {
        let mut defects = Defects::default();
        let at = At::root();
        let document = match Json::parse(json) {
            Ok(document) => document,
            Err(message) => {
                defects.add(DefectKind::Syntax, &at, message, None);
                return Err(defects.into_vec());
            }
        };
        match read(&document, embedded, &at, &mut defects) {
            Some(configuration) if defects.is_empty() => Ok(configuration),
            _ => Err(defects.into_vec()),
        }
    }
}

fn read(
    document: &Json<'_>,
    embedded: &Embedded<'_>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<ModuleConfig> {
    let mut fields = Fields::of(document, at, defects)?;
    let contexts = [
        ("http", Some(Context::Http)),
        ("network", Some(Context::Network)),
        ("ready", None),
    ];
    let context = fields.require("context", at, defects);
    let context = context.and_then(|node| word(&node, &at.field("context"), defects, &contexts));
    if context == Some(None) {
        return readiness::read(fields, at, defects).map(ModuleConfig::Readiness);
    }
    let context = context.flatten();
    let sources = [
        ("filterState", LabelSource::FilterState),
        ("header", LabelSource::Header),
        ("none", LabelSource::None),
    ];
    let labels = fields.require("labels", at, defects);
    let labels = labels.and_then(|node| word(&node, &at.field("labels"), defects, &sources));
    let address_check = match fields.take("addressCheck") {
        None => Some(AddressCheck::Unstated),
        Some(node) => addresses::check(&node, &at.field("addressCheck"), defects),
    };
    let classes = addresses::classes(&mut fields, at, defects, address_check);
    let nat64 = addresses::nat64(&mut fields, at, defects);
    let server_name = fields.take("serverName");
    let server_name =
        server_name.map(|node| read_server_name(&node, &at.field("serverName"), defects, context));
    let mut routes = RouteTable::default();
    if let Some(node) = fields.require("ports", at, defects) {
        each(&node, &at.field("ports"), defects, |node, at, defects| {
            read_route(node, at, defects, &mut routes);
        });
    }
    routes.resolve_overlaps();
    let inspection = fields.take("inspection");
    let inspection =
        inspection.map(|node| read_inspection(&node, &at.field("inspection"), defects));
    let refuse_ech = fields.take("refuseEch");
    let refuse_ech = refuse_ech.and_then(|node| boolean(&node, &at.field("refuseEch"), defects));
    let log_accepts = fields.take("logAccepts");
    let log_accepts = log_accepts.and_then(|node| number(&node, &at.field("logAccepts"), defects));
    let recheck = fields.take("recheckOnUpdate");
    let recheck = recheck.and_then(|node| boolean(&node, &at.field("recheckOnUpdate"), defects));
    let limits = fields.take("limits").map_or(Limits::DEFAULT, |node| {
        limits::read(&node, &at.field("limits"), defects)
    });
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
        nat64: nat64.unwrap_or_default(),
    };
    let found = match shape(&policies, &at, defects)? {
        Shape::Map(_) => embedded.read(&policies, &at, defects, settings, &inspection),
        _ => read_here(&policies, &at, defects, settings, &inspection),
    };
    Some(ModuleConfig::Policies(Box::new(PluginConfig {
        context: context?,
        labels: labels?,
        server_name: server_name.unwrap_or(Some(ServerName::Mesh))?,
        routes,
        address_check: settings.address_check,
        classes,
        refuse_ech: refuse_ech.unwrap_or(false),
        log_accepts: log_accepts.unwrap_or(1),
        recheck_on_update: recheck.unwrap_or(false),
        limits,
        policy_hash: found.as_ref()?.1.clone(),
        policies: found?.0,
        inspection,
    })))
}

fn read_server_name<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    context: Option<Context>,
) -> Option<ServerName> {
    let words = [
        ("mesh", ServerName::Mesh),
        ("application", ServerName::Application),
    ];
    let found = word(node, at, defects, &words)?;
    if context.is_some_and(|context| context != Context::Http) {
        let hint = "elsewhere there is no Host that it could be held against".to_owned();
        defects.add(
            DefectKind::Conflict,
            at,
            "`serverName` goes with `context: http`",
            hint,
        );
    }
    Some(found)
}

/// Policies in the configuration itself, and their hash.
fn read_here(
    node: &Json<'_>,
    at: &At<'_>,
    defects: &mut Defects,
    settings: Settings,
    inspection: &[(String, String)],
) -> Option<(Rc<PolicySet>, String)> {
    let hash =
        canonical::hash(node).map_err(|message| defects.add(DefectKind::Syntax, at, message, None));
    let compiled = policies::read_policies(node, at, defects, settings, inspection);
    Some((Rc::new(compiled?), canonical::hex(&hash.ok()?)))
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

#[cfg(test)]
mod tests;
