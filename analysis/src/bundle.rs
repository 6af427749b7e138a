//! From texts to policies: YAML, JSON, and the manifests that carry policies.

mod order;

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Location, Severity};
use crate::document::{self, Documents, Source};
use crate::failure::Failure;
use crate::files::Files;
use crate::lists::{self, Folder, List};
use crate::settings::{ClusterNetworks, EnforcedNamespaces, InstallSettings, is_install};
use egress_policy::PolicySet;
use egress_policy::config::PluginConfig;
use egress_policy::contract::DOMAIN;
use egress_policy::defect::{Defect, DefectKind, Segment};
use egress_policy::model::{Policy, RuleAction};
use egress_policy::ports::{MeshPorts, StatedPorts};
use egress_policy::read::KINDS;
use egress_policy::settings::{AddressCheck, Settings};

/// Policies that are in force together, in their order.
#[derive(Debug)]
pub struct PolicyBundle {
    /// Where they came from.
    pub origin: String,
    /// The policies.
    pub policies: Vec<Policy>,
    /// The document of each policy.
    pub sources: Vec<PolicySource>,
    /// Inspection proxies that may be named; `None` where nothing says which there are.
    pub inspection: Option<Vec<String>>,
    /// What the gateway's configuration says beside the policies.
    pub settings: Settings,
    /// What the install settings say that ports carry.
    pub protocols: StatedPorts,
    /// Whether a render has read these policies already: then nothing here says all that it knew.
    pub rendered: bool,
    /// The cluster's own networks, where install settings state them.
    pub cluster: Option<ClusterNetworks>,
    /// Whose traffic is enforced, where install settings state it.
    pub enforced: Option<EnforcedNamespaces>,
}

/// The document that a policy was read from.
#[derive(Clone, Debug)]
pub struct PolicySource {
    documents: Arc<Documents>,
    root: u32,
    lists: Arc<[List]>,
}

impl PolicySource {
    /// The document at this place, with the lists that were written out in it.
    #[must_use]
    pub fn new(documents: &Arc<Documents>, root: u32, lists: Vec<List>) -> Self {
        Self {
            documents: Arc::clone(documents),
            root,
            lists: lists.into(),
        }
    }

    /// The lists that the policy takes destinations from.
    #[must_use]
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// The policy's document.
    #[must_use]
    pub fn root(&self) -> document::Node<'_> {
        self.documents.place(self.root)
    }
}

impl PolicyBundle {
    /// An empty bundle from this file.
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            policies: Vec::new(),
            sources: Vec::new(),
            inspection: None,
            settings: Settings::new(AddressCheck::Classes),
            protocols: StatedPorts::default(),
            rendered: false,
            cluster: None,
            enforced: None,
        }
    }

    /// These and others after them, which are in force together.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        self.policies.extend(other.policies);
        self.sources.extend(other.sources);
        self.inspection = self.inspection.or(other.inspection);
        self
    }

    /// Compiles the policies, as the gateway would.
    ///
    /// # Errors
    /// What is wrong between them.
    pub fn compile(&self) -> Result<PolicySet, Vec<Diagnostic>> {
        let inspection = self.inspection.clone().unwrap_or_else(|| self.named());
        PolicySet::compile(&self.policies, self.settings, inspection).map_err(|defects| {
            defects
                .iter()
                .filter_map(|defect| self.locate(defect))
                .collect()
        })
    }

    /// What ports carry in the mesh. What cannot be rendered is not in it.
    #[must_use]
    pub fn ports(&self) -> MeshPorts {
        MeshPorts::of(&self.policies, &self.protocols, &mut Vec::new())
    }

    /// The lists that the policies take destinations from.
    pub fn lists(&self) -> impl Iterator<Item = &List> {
        self.sources.iter().flat_map(PolicySource::lists)
    }

    /// Sorts the policies by a key of their names.
    pub fn sort_by_key(&mut self, key: impl Fn(&str) -> usize) {
        let policies = std::mem::take(&mut self.policies);
        let units = std::mem::take(&mut self.sources);
        let mut pairs: Vec<(Policy, PolicySource)> = policies.into_iter().zip(units).collect();
        pairs.sort_by_key(|(policy, _)| key(&policy.head.name));
        (self.policies, self.sources) = pairs.into_iter().unzip();
    }

    /// The inspection proxies that the rules name.
    fn named(&self) -> Vec<String> {
        let rules = self.policies.iter().flat_map(Policy::rules);
        let mut named: Vec<String> = rules
            .filter_map(|placed| match &placed.rule.action {
                RuleAction::Inspect(proxy) => Some(proxy.to_string()),
                RuleAction::Accept | RuleAction::Deny | RuleAction::Pass => None,
            })
            .collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// A defect whose path starts with the number of its policy.
    fn locate(&self, defect: &Defect) -> Option<Diagnostic> {
        let (first, rest) = defect.path.segments().split_first()?;
        let Segment::Index(index) = first else {
            return None;
        };
        let unit = self.sources.get(*index)?;
        let local = Defect {
            path: rest.iter().cloned().collect(),
            ..defect.clone()
        };
        Some(Diagnostic::of_defect(&local, unit.root()))
    }
}

/// What reading came to.
#[derive(Debug, Default)]
pub struct LoadResult {
    /// Policies that belong together. Files and directories are one; every manifest that carries
    /// policies is one of its own.
    pub bundles: Vec<PolicyBundle>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// How many files were read.
    pub files: usize,
    install: Option<InstallSettings>,
}

impl LoadResult {
    /// Puts the diagnostics of each file in the order of its lines.
    pub fn sort(&mut self) {
        let place = |diagnostic: &Diagnostic| {
            let place = diagnostic.location.as_ref();
            place.map(|place| (place.source.name().to_owned(), place.span.start))
        };
        self.diagnostics.sort_by_cached_key(place);
    }

    /// Adds what another reading came to.
    pub fn append(&mut self, other: Self) {
        self.bundles.extend(other.bundles);
        self.diagnostics.extend(other.diagnostics);
        self.files += other.files;
    }

    /// True if anything was refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Reads policies one by one.
pub struct Reader<'f> {
    files: &'f dyn Files,
    loaded: LoadResult,
    plain: PolicyBundle,
}

impl<'f> Reader<'f> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(files: &'f dyn Files) -> Self {
        Self {
            files,
            loaded: LoadResult::default(),
            plain: PolicyBundle::new("files"),
        }
    }

    /// Reads the documents of a source.
    ///
    /// # Errors
    /// What no diagnostic can say: a second document of install settings.
    pub fn read(&mut self, source: Source) -> Result<(), Failure> {
        self.loaded.files += 1;
        let folder = Folder::of(source.name(), self.files);
        read_source(source, &folder, &mut self.plain, &mut self.loaded)
    }

    /// Reads a policy of another document.
    pub fn read_unit(&mut self, unit: PolicySource) {
        read_policy(unit, &mut self.plain, &mut self.loaded.diagnostics);
    }

    /// What it all came to, the install settings applied.
    #[must_use]
    pub fn finish(self) -> LoadResult {
        let Self {
            files: _,
            mut loaded,
            mut plain,
        } = self;
        if let Some(install) = loaded.install.take() {
            // Half of the policies would look like an order that is wrong.
            if !loaded.has_errors() {
                plain.apply(&install, &mut loaded.diagnostics);
            }
        }
        if !plain.policies.is_empty() {
            loaded.bundles.insert(0, plain);
        }
        loaded
    }
}

/// The one set of policies that the question is about. Manifests that carry the same policies
/// (the contexts of one gateway) count as one.
///
/// # Errors
/// There is none, or there are several.
pub fn single_bundle(mut layers: Vec<PolicyBundle>) -> Result<PolicyBundle, Failure> {
    let first = layers
        .pop()
        .ok_or_else(|| Failure::new("no policy was found"))?;
    match layers.iter().find(|other| other.policies != first.policies) {
        None => Ok(first),
        Some(other) => Err(Failure::new(format!(
            "{} and {} carry different policies",
            first.origin, other.origin
        ))
        .with_hint("ask about one of them")),
    }
}

/// What a document is, as far as this command cares.
enum DocumentKind<'d> {
    /// A policy.
    Policy,
    /// A mapping with the module's configuration somewhere in it.
    Configuration(document::Node<'d>),
    /// Install settings.
    Install,
    /// Somebody else's object.
    Foreign,
}

fn document_kind(root: document::Node<'_>) -> DocumentKind<'_> {
    let text = |name: &str| root.field(name).and_then(document::Node::text);
    if root.field("kind").is_none() && root.field("policies").is_some() {
        return DocumentKind::Configuration(root);
    }
    if is_install(root) {
        return DocumentKind::Install;
    }
    match (text("apiVersion"), text("kind")) {
        (Some(version), Some(kind))
            if !KINDS.contains(&kind)
                && version.contains('/')
                && !["warden.", DOMAIN]
                    .iter()
                    .any(|own| version.starts_with(own)) =>
        {
            let config = plugin(root, kind)
                .and_then(|plugin| plugin.field("pluginConfig"))
                .filter(|config| config.field("policies").is_some());
            config.map_or(DocumentKind::Foreign, DocumentKind::Configuration)
        }
        (Some("v1"), Some(_)) => DocumentKind::Foreign,
        _ => DocumentKind::Policy,
    }
}

/// Where an object of these kinds says what module it loads, and how.
fn plugin<'d>(root: document::Node<'d>, kind: &str) -> Option<document::Node<'d>> {
    let spec = root.field("spec")?;
    match kind {
        "WasmPlugin" => Some(spec),
        "TrafficExtension" => spec.field("wasm"),
        _ => None,
    }
}

/// An object with the module that does not say that it closes where the module is missing.
fn fails_open(root: document::Node<'_>) -> Option<Diagnostic> {
    let kind = root.field("kind").and_then(document::Node::text)?;
    let plugin = plugin(root, kind)?;
    let strategy = plugin.field("failStrategy");
    let (at, message) = match strategy.and_then(document::Node::text) {
        Some("FAIL_RELOAD" | "FAIL_CLOSE") => return None,
        Some(word) => (
            strategy.unwrap_or(plugin),
            format!("`{word}`: where the module is missing or fails, everything would pass"),
        ),
        None => (
            plugin,
            "`failStrategy` is missing: nothing here says that it closes without the module"
                .to_owned(),
        ),
    };
    let hint = "write `failStrategy: FAIL_RELOAD`, as `warden render` does";
    Some(Diagnostic::error("fail_open", at, message, Some(hint)))
}

/// The objects of a document: a `List`, as `kubectl get` prints several, is its items.
fn objects(root: document::Node<'_>) -> Vec<document::Node<'_>> {
    let text = |name: &str| root.field(name).and_then(document::Node::text);
    match (text("kind"), root.field("items")) {
        (Some("List"), Some(items)) => items.items().collect(),
        _ => vec![root],
    }
}

/// Reads the documents of a source, Unicode names as A-labels.
///
/// # Errors
/// What keeps it from being read.
pub fn parse(source: &Arc<Source>) -> Result<Documents, Vec<Diagnostic>> {
    match Documents::parse(Arc::clone(source)) {
        Ok(documents) => Ok(documents.with_a_labels()),
        Err(errors) => Err(errors
            .into_iter()
            .map(|error| Diagnostic::of_syntax(error, source))
            .collect()),
    }
}

/// Reads the documents of a source that is to be changed, as it stands.
///
/// # Errors
/// The first mistake of syntax.
pub fn parse_strictly(source: &Arc<Source>) -> Result<Documents, Failure> {
    Documents::parse(Arc::clone(source)).map_err(|errors| {
        let what = errors.first().map_or("", |error| error.message.as_str());
        Failure::new(format!("`{}`: {what}", source.name())).with_hint("`warden check` shows where")
    })
}

/// Writes out the lists of every policy among the documents, and says which they are by the
/// policy's number.
pub fn expand(
    documents: &mut Documents,
    folder: &Folder<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> HashMap<u32, Vec<List>> {
    let policies: Vec<u32> = documents
        .roots()
        .filter(|root| matches!(document_kind(*root), DocumentKind::Policy))
        .map(document::Node::id)
        .collect();
    policies
        .into_iter()
        .map(|root| (root, lists::expand(documents, root, folder, diagnostics)))
        .collect()
}

fn read_source(
    source: Source,
    folder: &Folder<'_>,
    plain: &mut PolicyBundle,
    loaded: &mut LoadResult,
) -> Result<(), Failure> {
    let source = Arc::new(source);
    let mut documents = match parse(&source) {
        Ok(documents) => documents,
        Err(found) => {
            loaded.diagnostics.extend(found);
            return Ok(());
        }
    };
    let mut lists = expand(&mut documents, folder, &mut loaded.diagnostics);
    let documents = Arc::new(documents);
    for root in documents.roots().flat_map(objects) {
        let unit = |lists| PolicySource::new(&documents, root.id(), lists);
        match document_kind(root) {
            DocumentKind::Policy => {
                let lists = lists.remove(&root.id()).unwrap_or_default();
                read_policy(unit(lists), plain, &mut loaded.diagnostics);
            }
            DocumentKind::Configuration(config) => {
                let mut layers = PolicyBundle::new(source.name());
                layers.rendered = true;
                loaded.diagnostics.extend(fails_open(root));
                read_configuration(&documents, config, &mut layers, loaded)?;
                loaded.bundles.push(layers);
            }
            DocumentKind::Install => {
                if let Some(first) = &loaded.install {
                    let message = format!("{} holds install settings too", first.origin);
                    return Err(Failure::new(message).with_hint("give one of them"));
                }
                match folder.files().settings(root) {
                    Ok(install) => loaded.install = Some(install),
                    Err(found) => loaded.diagnostics.extend(found),
                }
            }
            DocumentKind::Foreign => {}
        }
    }
    Ok(())
}

/// Reads one policy into the layers; what is wrong with it is noted.
fn read_policy(unit: PolicySource, layers: &mut PolicyBundle, diagnostics: &mut Vec<Diagnostic>) {
    let root = unit.root();
    let undecodable = undecodable_names(root);
    let is_decodable = undecodable.is_empty();
    diagnostics.extend(undecodable);
    match Policy::read(&root) {
        Ok(_) if !is_decodable => {}
        Ok(policy) => {
            layers.policies.push(policy);
            layers.sources.push(unit);
        }
        Err(defects) => diagnostics.extend(
            defects
                .iter()
                .map(|defect| Diagnostic::of_defect(defect, root)),
        ),
    }
}

/// Names with a label that begins with `xn--` and is no A-label: nothing that a client resolves
/// looks so, and nobody can say what is meant.
fn undecodable_names(root: document::Node<'_>) -> Vec<Diagnostic> {
    let error = |(place, label): (document::Node<'_>, String)| {
        let message = format!("`{label}` begins with `xn--` and is no A-label");
        let hint = "write the name in its own letters: it is converted";
        let kind = DefectKind::BadValue.as_str();
        Diagnostic::error(kind, place, message, Some(hint))
    };
    document::undecodable(root).into_iter().map(error).collect()
}

/// The module's whole configuration, read as the module reads it.
fn read_configuration(
    documents: &Arc<Documents>,
    config: document::Node<'_>,
    layers: &mut PolicyBundle,
    loaded: &mut LoadResult,
) -> Result<(), Failure> {
    if let Some(named) = config
        .field("policies")
        .and_then(|policies| policies.field("embedded"))
    {
        loaded.diagnostics.push(elsewhere(named));
        return Ok(());
    }
    let json = document::to_json(&config).map_err(Failure::new)?;
    match PluginConfig::read(&json) {
        Ok(read) => {
            layers.inspection = Some(
                read.inspection
                    .into_iter()
                    .map(|proxy| proxy.name)
                    .collect(),
            );
            for root in config
                .field("policies")
                .into_iter()
                .flat_map(document::Node::items)
            {
                let unit = PolicySource::new(documents, root.id(), Vec::new());
                read_policy(unit, layers, &mut loaded.diagnostics);
            }
            if config.field("addressCheck").and_then(document::Node::text) == Some("none") {
                layers.settings.address_check = AddressCheck::None;
            } else if config.field("addressCheck").is_none() {
                layers.settings.address_check = AddressCheck::Unstated;
            }
        }
        Err(defects) => loaded.diagnostics.extend(
            defects
                .iter()
                .map(|defect| Diagnostic::of_defect(defect, config)),
        ),
    }
    Ok(())
}

/// A configuration that only names its policies: nothing can be said of them here.
fn elsewhere(named: document::Node<'_>) -> Diagnostic {
    let hash = named.text().unwrap_or_default();
    Diagnostic {
        severity: Severity::Error,
        code: "unknown_reference",
        message: format!(
            "the policies are in the module's image, not here: this only names their hash {hash}"
        ),
        hint: Some(
            "give the policy files; `warden render` says whether they have this hash".to_owned(),
        ),
        location: Some(Location {
            source: Arc::clone(named.source()),
            span: named.first_line(),
        }),
        path: "policies.embedded".to_owned(),
        related: Vec::new(),
    }
}
