//! From texts to policies: YAML, JSON, and the manifests that carry policies.

mod kind;
mod order;
mod rest;

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Location, Severity, has_errors};
use crate::document::{self, Documents, Source, SyntaxError};
use crate::failure::Failure;
use crate::files::Files;
use crate::lists::{self, Folder, List};
use crate::settings::{ClusterNetworks, EnforcedNamespaces, InstallSettings};
use egress_policy::PolicySet;
use egress_policy::case::CaseFile;
use egress_policy::config::PluginConfig;
use egress_policy::defect::{Defect, DefectKind, Segment};
use egress_policy::model::{Policy, RuleAction};
use egress_policy::ports::{MeshPorts, StatedPorts};
use egress_policy::read::{API_VERSION, KIND};
use egress_policy::settings::{AddressCheck, Settings};
use egress_policy::tree::{Node as _, Shape};

use kind::{DocumentKind, found_kind, named_kind, objects, plugin};
use rest::Kept;

pub use kind::{PassedOver, inline_policies, names_us};

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
    /// Where the rules stand, if the policy is what is sound of its document.
    kept: Option<Arc<Kept>>,
}

impl PolicySource {
    /// The document at this place, with the lists that were written out in it.
    #[must_use]
    pub fn new(documents: &Arc<Documents>, root: u32, lists: Vec<List>) -> Self {
        Self {
            documents: Arc::clone(documents),
            root,
            lists: lists.into(),
            kept: None,
        }
    }

    /// Where a rule of the policy stands in the document: its tier's number and its own.
    #[must_use]
    pub fn written(&self, tier: usize, rule: usize) -> (usize, usize) {
        let kept = self.kept.as_ref().and_then(|kept| kept.get(tier));
        let place = kept.and_then(|rules| rules.get(rule));
        place.copied().unwrap_or((tier, rule))
    }

    /// Whether the policy is only what is sound of its document.
    #[must_use]
    pub const fn is_rest(&self) -> bool {
        self.kept.is_some()
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

    fn push(&mut self, policy: Policy, unit: PolicySource) {
        self.policies.push(policy);
        self.sources.push(unit);
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
    /// How many documents were in them, without those that were passed over.
    pub documents: usize,
    /// How many decision cases are among them.
    pub cases: usize,
    /// Documents that nothing was read from.
    pub passed_over: Vec<PassedOver>,
    /// What is sound of the policies that have defects. Nothing is decided by it.
    pub rest: Vec<PolicyBundle>,
    /// The first text, to say that there is no policy in it.
    first: Option<Arc<Source>>,
    install: Option<InstallSettings>,
    has_settings: bool,
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
        self.documents += other.documents;
        self.cases += other.cases;
        self.passed_over.extend(other.passed_over);
        self.rest.extend(other.rest);
        self.first = self.first.take().or(other.first);
        self.has_settings |= other.has_settings;
    }

    /// Notes an error where nothing at all was read that this command knows.
    pub fn require_anything(&mut self) {
        if self.cases == 0 && !self.has_settings {
            self.require_policy();
        }
    }

    /// Notes an error where no policy was read.
    pub fn require_policy(&mut self) {
        if !self.bundles.is_empty() || self.has_errors() {
            return;
        }
        let Some(source) = &self.first else { return };
        let message = if source.text().trim().is_empty() {
            format!("`{}` is empty", source.name())
        } else {
            format!("no policy is in `{}`", source.name())
        };
        let hint = format!("a policy has `apiVersion: {API_VERSION}` and `kind: {KIND}`");
        let error = Diagnostic::foreign_file(source, message, &hint);
        self.diagnostics.push(error);
    }

    /// True if anything was refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        has_errors(&self.diagnostics)
    }
}

/// Reads policies one by one.
pub struct Reader<'f> {
    files: &'f dyn Files,
    loaded: LoadResult,
    plain: PolicyBundle,
    rest: PolicyBundle,
}

impl<'f> Reader<'f> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(files: &'f dyn Files) -> Self {
        Self {
            files,
            loaded: LoadResult::default(),
            plain: PolicyBundle::new("files"),
            rest: PolicyBundle::new("files"),
        }
    }

    /// Reads the documents of a source that was named: what is nothing else is a policy.
    ///
    /// # Errors
    /// What no diagnostic can say: a second document of install settings.
    pub fn read(&mut self, source: Source) -> Result<(), Failure> {
        self.read_source(source, true)
    }

    /// Reads those documents of a source in a folder that are policies, settings or cases.
    ///
    /// # Errors
    /// As with [`Self::read`].
    pub fn read_found(&mut self, source: Source) -> Result<(), Failure> {
        self.read_source(source, false)
    }

    /// Reads a policy of another document.
    pub fn read_unit(&mut self, unit: PolicySource) {
        let undecodable = undecodable_names(unit.root());
        let is_decodable = undecodable.is_empty();
        self.loaded.diagnostics.extend(undecodable);
        match Policy::read(&unit.root()) {
            Ok(policy) if is_decodable => self.plain.push(policy, unit),
            Ok(policy) => self.rest.push(policy, unit),
            Err(defects) => {
                let diagnostics = &mut self.loaded.diagnostics;
                diagnostics.extend(of_defects(&defects, unit.root()));
                let (policy, unit) = rest::sound(unit, &defects);
                self.rest.push(policy, unit);
            }
        }
    }

    fn pass_over(&mut self, source: &Source, at: usize, kind: Option<&str>) {
        self.loaded.passed_over.push(PassedOver {
            file: source.name().to_owned(),
            line: source.line_column(at).0,
            kind: kind.map(str::to_owned),
        });
    }

    fn read_source(&mut self, source: Source, is_named: bool) -> Result<(), Failure> {
        let source = Arc::new(source);
        let folder = Folder::of(source.name(), self.files);
        self.loaded.files += 1;
        self.loaded.first.get_or_insert_with(|| Arc::clone(&source));
        let mut documents = match parse(&source) {
            Ok(documents) => documents,
            // Templates, and what else is called YAML.
            Err(_) if !is_named && !names_us(source.text()) => {
                self.pass_over(&source, 0, None);
                return Ok(());
            }
            Err(found) => {
                self.loaded.diagnostics.extend(found);
                return Ok(());
            }
        };
        let mut lists = expand(&mut documents, &folder, &mut self.loaded.diagnostics);
        let documents = Arc::new(documents);
        let mut is_empty = true;
        for root in documents.roots().flat_map(objects) {
            // What stands between two `---` may be nothing.
            if matches!(root.shape(), Ok(Shape::Null)) {
                continue;
            }
            is_empty = false;
            self.loaded.documents += 1;
            let kind = if is_named {
                named_kind(root)
            } else {
                found_kind(root)
            };
            match kind {
                DocumentKind::Policy => {
                    let lists = lists.remove(&root.id()).unwrap_or_default();
                    self.read_unit(PolicySource::new(&documents, root.id(), lists));
                }
                DocumentKind::Configuration(config) => {
                    let mut layers = PolicyBundle::new(source.name());
                    layers.rendered = true;
                    self.loaded.diagnostics.extend(fails_open(root));
                    read_configuration(&documents, config, &mut layers, &mut self.loaded)?;
                    self.loaded.bundles.push(layers);
                }
                DocumentKind::Install => self.read_settings(root)?,
                DocumentKind::Cases => self.read_cases(root),
                DocumentKind::Foreign => {
                    self.loaded.documents -= 1;
                    let kind = root.field("kind").and_then(document::Node::text);
                    self.pass_over(&source, root.span().start, kind);
                }
            }
        }
        if is_empty {
            self.pass_over(&source, 0, None);
        }
        Ok(())
    }

    fn read_settings(&mut self, root: document::Node<'_>) -> Result<(), Failure> {
        if let Some(first) = &self.loaded.install {
            let message = format!("{} holds install settings too", first.origin);
            return Err(Failure::new(message).with_hint("give one of them"));
        }
        self.loaded.has_settings = true;
        match self.files.settings(root) {
            Ok(install) => self.loaded.install = Some(install),
            Err(found) => self.loaded.diagnostics.extend(found),
        }
        Ok(())
    }

    /// Only their form: what they ask is `warden test`'s to answer.
    fn read_cases(&mut self, root: document::Node<'_>) {
        match CaseFile::read(&root) {
            Ok(file) => self.loaded.cases += file.cases.len(),
            Err(defects) => {
                let diagnostics = &mut self.loaded.diagnostics;
                diagnostics.extend(of_defects(&defects, root));
            }
        }
    }

    /// What it all came to, the install settings applied.
    #[must_use]
    pub fn finish(self) -> LoadResult {
        let Self {
            files: _,
            mut loaded,
            mut plain,
            mut rest,
        } = self;
        if let Some(install) = loaded.install.take() {
            plain.take_settings(&install);
            rest.take_settings(&install);
            // Half of the policies would look like an order that is wrong.
            if !loaded.has_errors() {
                plain.apply(&install, &mut loaded.diagnostics);
            }
        }
        if !rest.policies.is_empty() {
            loaded.rest.push(rest);
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

/// Reads the documents of a source, Unicode names as A-labels.
///
/// # Errors
/// What keeps it from being read.
pub fn parse(source: &Arc<Source>) -> Result<Documents, Vec<Diagnostic>> {
    parse_strictly(source).map(Documents::with_a_labels)
}

/// Reads the documents of a source that is to be changed, as it stands.
///
/// # Errors
/// What keeps it from being read.
pub fn parse_strictly(source: &Arc<Source>) -> Result<Documents, Vec<Diagnostic>> {
    let documents = Documents::parse(Arc::clone(source));
    documents.map_err(|errors| of_syntax(errors, source))
}

fn of_syntax(errors: Vec<SyntaxError>, source: &Arc<Source>) -> Vec<Diagnostic> {
    let errors = errors.into_iter();
    errors
        .map(|error| Diagnostic::of_syntax(error, source))
        .collect()
}

/// Writes out the lists of every policy among the documents, and says which they are by the
/// policy's number.
pub fn expand(
    documents: &mut Documents,
    folder: &Folder<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> HashMap<u32, Vec<List>> {
    let of_document = |root| match named_kind(root) {
        DocumentKind::Policy => vec![root.id()],
        DocumentKind::Cases => inline_policies(root).map(document::Node::id).collect(),
        DocumentKind::Configuration(_) | DocumentKind::Install | DocumentKind::Foreign => {
            Vec::new()
        }
    };
    let roots = documents.roots().flat_map(objects);
    let policies: Vec<u32> = roots.flat_map(of_document).collect();
    policies
        .into_iter()
        .map(|root| (root, lists::expand(documents, root, folder, diagnostics)))
        .collect()
}

fn of_defects(defects: &[Defect], root: document::Node<'_>) -> Vec<Diagnostic> {
    let defects = defects.iter();
    defects
        .map(|defect| Diagnostic::of_defect(defect, root))
        .collect()
}

/// Reads one policy of a configuration into the layers; what is wrong with it is noted.
fn read_policy(unit: PolicySource, layers: &mut PolicyBundle, diagnostics: &mut Vec<Diagnostic>) {
    let undecodable = undecodable_names(unit.root());
    let is_decodable = undecodable.is_empty();
    diagnostics.extend(undecodable);
    match Policy::read(&unit.root()) {
        Ok(policy) if is_decodable => layers.push(policy, unit),
        Ok(_) => {}
        Err(defects) => diagnostics.extend(of_defects(&defects, unit.root())),
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
        Err(defects) => loaded.diagnostics.extend(of_defects(&defects, config)),
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
