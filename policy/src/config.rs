//! The module's configuration (`pluginConfig`): where this instance stands, what it may lead to,
//! and the policies: unchanged, or the hash of those that the module carries.

mod addresses;
pub mod fields;
pub(crate) mod inspection;
pub(crate) mod policies;
mod readiness;
mod route;

use std::rc::Rc;

use crate::canonical;
use crate::classes::ClassNames;
use crate::decode::{Fields, boolean, shape, word};
use crate::defect::{At, Defect, DefectKind, Defects};
use crate::destination::RouteTable;
use crate::embedded::{Embedded, HashedPolicies};
use crate::limits::{self, Limits};
use crate::policy_set::PolicySet;
use crate::settings::{AddressCheck, Settings};
use crate::tree::{Json, Node, Shape};

pub(crate) use addresses::read_nat64;
pub use inspection::InspectionProxy;
pub(crate) use inspection::read_inspection;
pub use readiness::Readiness;
pub(crate) use route::read_routes;

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
    /// Inspection proxies that rules name.
    pub inspection: Vec<InspectionProxy>,
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
    let context = fields.required("context", at, defects, |node, at, defects| {
        word(node, at, defects, &contexts)
    });
    if context == Some(None) {
        return readiness::read(fields, at, defects).map(ModuleConfig::Readiness);
    }
    let config = read_plugin(context.flatten(), fields, embedded, at, defects)?;
    Some(ModuleConfig::Policies(Box::new(config)))
}

/// An instance that judges traffic. Whatever is wrong with a field, its context included, the rest is
/// read, so that all of it is said at once.
fn read_plugin(
    context: Option<Context>,
    mut fields: Fields<'_, Json<'_>>,
    embedded: &Embedded<'_>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<PluginConfig> {
    let labels = fields.required("labels", at, defects, read_label_source);
    let (settings, classes) = addresses::read(&mut fields, at, defects);
    let server_name = fields.optional("serverName", at, defects, |node, at, defects| {
        read_server_name(node, at, defects, context)
    });
    let routes = fields.required("ports", at, defects, |node, at, defects| {
        Some(read_routes(node, at, defects))
    });
    let inspection = fields.optional("inspection", at, defects, |node, at, defects| {
        Some(read_inspection(node, at, defects))
    });
    let inspection = inspection.unwrap_or_default();
    let refuse_ech = fields.optional("refuseEch", at, defects, boolean);
    let log_accepts = fields.optional("logAccepts", at, defects, number);
    let recheck = fields.optional("recheckOnUpdate", at, defects, boolean);
    let limits = fields.optional("limits", at, defects, |node, at, defects| {
        Some(limits::read(node, at, defects))
    });
    let policies = fields.require("policies", at, defects);
    fields.finish(at, defects);
    let at = at.field("policies");
    let policies = policies?;
    let found = match shape(&policies, &at, defects)? {
        Shape::Map(_) => embedded.read(&policies, &at, defects, settings, &inspection),
        _ => read_here(&policies, &at, defects, settings, &inspection),
    }?;
    Some(PluginConfig {
        context: context?,
        labels: labels?,
        server_name: server_name.unwrap_or(ServerName::Mesh),
        routes: routes?,
        inspection,
        address_check: settings.address_check,
        classes,
        refuse_ech: refuse_ech.unwrap_or(false),
        log_accepts: log_accepts.unwrap_or(1),
        recheck_on_update: recheck.unwrap_or(false),
        limits: limits.unwrap_or(Limits::DEFAULT),
        policies: found.policies,
        policy_hash: found.hash,
    })
}

fn read_label_source<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<LabelSource> {
    let words = [
        ("filterState", LabelSource::FilterState),
        ("header", LabelSource::Header),
        ("none", LabelSource::None),
    ];
    word(node, at, defects, &words)
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

/// Policies in the configuration itself.
fn read_here(
    node: &Json<'_>,
    at: &At<'_>,
    defects: &mut Defects,
    settings: Settings,
    inspection: &[InspectionProxy],
) -> Option<HashedPolicies> {
    let hash =
        canonical::hash(node).map_err(|message| defects.add(DefectKind::Syntax, at, message, None));
    let compiled = policies::read_policies(node, at, defects, settings, inspection);
    Some(HashedPolicies {
        policies: Rc::new(compiled?),
        hash: canonical::hex(&hash.ok()?),
    })
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

#[cfg(test)]
mod tests;
