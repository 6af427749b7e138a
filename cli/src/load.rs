//! From files to policies: YAML, JSON, directories, standard input, and the manifests that carry
//! policies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use egress_policy::PolicySet;
use egress_policy::config::Config;
use egress_policy::defect::{At, Defect, FieldPath, Segment};
use egress_policy::model::{Policy, RuleAction};
use egress_policy::read::{API_VERSION, KIND};
use egress_policy::settings::{AddressCheck, Settings};

use crate::Console;
use crate::diagnostic::{Diagnostic, Severity};
use crate::document::{self, Documents, Source};
use crate::exit::Failure;
use crate::install::{Install, is_install};

/// The policies to read, for every subcommand that reads policies.
#[derive(Clone, Debug, clap::Args)]
pub struct Inputs {
    /// Policies in order, the security team's first: YAML or JSON files, directories, WasmPlugin
    /// manifests, or `-` for standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<String>,
}

/// Policies that are in force together, in their order.
#[derive(Debug)]
pub struct Layers {
    /// Where they came from.
    pub origin: String,
    /// The policies.
    pub policies: Vec<Policy>,
    /// The document of each policy.
    pub units: Vec<Unit>,
    /// Inspection clusters that may be named; `None` where nothing says which there are.
    pub inspection: Option<Vec<String>>,
    /// What the gateway's configuration says beside the policies.
    pub settings: Settings,
}

/// The document that a policy was read from.
#[derive(Clone, Debug)]
pub struct Unit {
    documents: Arc<Documents>,
    root: u32,
}

impl Unit {
    /// The policy's document.
    #[must_use]
    pub fn root(&self) -> document::Place<'_> {
        self.documents.place(self.root)
    }
}

impl Layers {
    fn new(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            policies: Vec::new(),
            units: Vec::new(),
            inspection: None,
            settings: Settings {
                address_check: AddressCheck::Upstream,
            },
        }
    }

    /// Policies that came from elsewhere than documents of their own.
    #[must_use]
    pub fn of_policies(origin: &str, policies: Vec<Policy>, settings: Settings) -> Self {
        Self {
            policies,
            settings,
            ..Self::new(origin)
        }
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

    /// Sorts the policies by a key of their names.
    pub(crate) fn sort_by_key(&mut self, key: impl Fn(&str) -> usize) {
        let policies = std::mem::take(&mut self.policies);
        let units = std::mem::take(&mut self.units);
        let mut pairs: Vec<(Policy, Unit)> = policies.into_iter().zip(units).collect();
        pairs.sort_by_key(|(policy, _)| key(&policy.head.name));
        (self.policies, self.units) = pairs.into_iter().unzip();
    }

    /// The inspection clusters that the rules name.
    fn named(&self) -> Vec<String> {
        let rules = self.policies.iter().flat_map(|policy| &policy.tiers);
        let mut named: Vec<String> = rules
            .flat_map(|tier| &tier.rules)
            .filter_map(|rule| match &rule.action {
                RuleAction::Inspect(device) => Some(device.to_string()),
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
        let unit = self.units.get(*index)?;
        let local = Defect {
            path: path_of(rest),
            ..defect.clone()
        };
        Some(Diagnostic::of_defect(&local, unit.root()))
    }
}

/// A path with these steps.
fn path_of(segments: &[Segment]) -> FieldPath {
    fn go(at: &At<'_>, segments: &[Segment]) -> FieldPath {
        match segments.split_first() {
            None => at.path(),
            Some((Segment::Field(name), rest)) => go(&at.field(name), rest),
            Some((Segment::Index(index), rest)) => go(&at.index(*index), rest),
        }
    }
    go(&At::root(), segments)
}

/// What reading came to.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Policies that belong together. Files and directories are one; every manifest that carries
    /// policies is one of its own.
    pub layers: Vec<Layers>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// How many files were read.
    pub files: usize,
    install: Option<Install>,
}

impl Loaded {
    /// Puts the diagnostics of each file in the order of its lines.
    pub fn sort(&mut self) {
        let place = |diagnostic: &Diagnostic| {
            let place = diagnostic.place.as_ref();
            place.map(|place| (place.source.name().to_owned(), place.span.start))
        };
        self.diagnostics.sort_by_cached_key(place);
    }

    /// Adds what another reading came to.
    pub fn append(&mut self, other: Self) {
        self.layers.extend(other.layers);
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

/// Reads policies.
///
/// # Errors
/// A file that cannot be read, or that holds no policy at all.
pub fn load(inputs: &Inputs, console: &mut Console<'_>) -> Result<Loaded, Failure> {
    let mut loaded = Loaded::default();
    let mut plain = Layers::new("files");
    for input in &inputs.files {
        for source in read_sources(input, console)? {
            loaded.files += 1;
            read_source(source, &mut plain, &mut loaded)?;
        }
    }
    if let Some(install) = loaded.install.take() {
        // Half of the policies would look like an order that is wrong.
        if !loaded.has_errors() {
            install.apply(&mut plain, &mut loaded.diagnostics);
        }
    }
    if !plain.policies.is_empty() {
        loaded.layers.insert(0, plain);
    }
    if loaded.layers.is_empty() && !loaded.has_errors() {
        return Err(Failure::new("no policy was found").with_hint(format!(
            "a policy has `apiVersion: {API_VERSION}` and `kind: {KIND}`"
        )));
    }
    Ok(loaded)
}

/// The texts behind one argument.
fn read_sources(input: &str, console: &mut Console<'_>) -> Result<Vec<Source>, Failure> {
    if input == "-" {
        return Ok(vec![read_stdin(console)?]);
    }
    let path = console.directory.join(input);
    if !path.is_dir() {
        return Ok(vec![read_file(&path, input)?]);
    }
    let mut files = Vec::new();
    list_directory(&path, Path::new(input), &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(format!(
            "`{input}` holds no YAML or JSON file"
        )));
    }
    files
        .iter()
        .map(|(shown, path)| read_file(path, shown))
        .collect()
}

fn list_directory(
    path: &Path,
    shown: &Path,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<(), Failure> {
    let failure = |error: std::io::Error| Failure::new(format!("{}: {error}", shown.display()));
    for entry in std::fs::read_dir(path).map_err(failure)? {
        let entry = entry.map_err(failure)?;
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let shown = shown.join(&name);
        // A link to a directory could lead back here.
        if entry.file_type().map_err(failure)?.is_dir() {
            list_directory(&path, &shown, files)?;
        } else if path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
        {
            files.push((shown.display().to_string(), path));
        }
    }
    Ok(())
}

/// Reads standard input.
///
/// # Errors
/// It cannot be read or is not UTF-8.
pub fn read_stdin(console: &mut Console<'_>) -> Result<Source, Failure> {
    let mut bytes = Vec::new();
    console.stdin.read_to_end(&mut bytes)?;
    decode("<stdin>", bytes)
}

/// Reads one file, under the name that messages call it by.
///
/// # Errors
/// The file cannot be read or is not UTF-8.
pub fn read_file(path: &Path, shown: &str) -> Result<Source, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::new(format!("`{shown}`: {error}")))?;
    decode(shown, bytes)
}

fn decode(name: &str, bytes: Vec<u8>) -> Result<Source, Failure> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("`{name}` is not UTF-8 (byte {at})"))
    })?;
    // A byte order mark is no part of the text.
    let text = text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text);
    Ok(Source::new(name, text))
}

/// What a document is, as far as this command cares.
enum Carrier<'d> {
    /// A policy.
    Policy,
    /// A mapping with the module's configuration somewhere in it.
    Configuration(document::Place<'d>),
    /// Install settings.
    Install,
    /// Somebody else's object.
    Foreign,
}

fn carrier(root: document::Place<'_>) -> Carrier<'_> {
    let text = |name: &str| root.field(name).and_then(document::Place::text);
    if root.field("kind").is_none() && root.field("policies").is_some() {
        return Carrier::Configuration(root);
    }
    if is_install(root) {
        return Carrier::Install;
    }
    match (text("apiVersion"), text("kind")) {
        (Some(version), Some(kind))
            if kind != KIND && version.contains('/') && !version.starts_with("warden.") =>
        {
            let config = root
                .field("spec")
                .and_then(|spec| spec.field("pluginConfig"))
                .filter(|config| kind == "WasmPlugin" && config.field("policies").is_some());
            config.map_or(Carrier::Foreign, Carrier::Configuration)
        }
        (Some("v1"), Some(_)) => Carrier::Foreign,
        _ => Carrier::Policy,
    }
}

fn read_source(source: Source, plain: &mut Layers, loaded: &mut Loaded) -> Result<(), Failure> {
    let source = Arc::new(source);
    let documents = match Documents::parse(Arc::clone(&source)) {
        Ok(documents) => Arc::new(documents.with_a_labels()),
        Err(errors) => {
            let found = errors
                .into_iter()
                .map(|error| Diagnostic::of_syntax(error, &source));
            loaded.diagnostics.extend(found);
            return Ok(());
        }
    };
    for root in documents.roots() {
        match carrier(root) {
            Carrier::Policy => read_policy(&documents, root, plain, loaded),
            Carrier::Configuration(config) => {
                let mut layers = Layers::new(source.name());
                read_configuration(&documents, config, &mut layers, loaded)?;
                loaded.layers.push(layers);
            }
            Carrier::Install => {
                let unit = Unit {
                    documents: Arc::clone(&documents),
                    root: root.id(),
                };
                if let Some(first) = &loaded.install {
                    let message = format!("{} holds install settings too", first.origin());
                    return Err(Failure::new(message).with_hint("give one of them"));
                }
                loaded.install = Some(Install::read(&unit, &mut loaded.diagnostics));
            }
            Carrier::Foreign => {}
        }
    }
    Ok(())
}

fn read_policy(
    documents: &Arc<Documents>,
    root: document::Place<'_>,
    layers: &mut Layers,
    loaded: &mut Loaded,
) {
    match Policy::read(&root) {
        Ok(policy) => {
            layers.policies.push(policy);
            layers.units.push(Unit {
                documents: Arc::clone(documents),
                root: root.id(),
            });
        }
        Err(defects) => loaded.diagnostics.extend(
            defects
                .iter()
                .map(|defect| Diagnostic::of_defect(defect, root)),
        ),
    }
}

/// The module's whole configuration, read as the module reads it.
fn read_configuration(
    documents: &Arc<Documents>,
    config: document::Place<'_>,
    layers: &mut Layers,
    loaded: &mut Loaded,
) -> Result<(), Failure> {
    let json = document::to_json(&config).map_err(Failure::new)?;
    match Config::read(&json) {
        Ok(read) => {
            layers.inspection = Some(read.inspection.into_iter().map(|(name, _)| name).collect());
            for root in config
                .field("policies")
                .into_iter()
                .flat_map(document::Place::items)
            {
                read_policy(documents, root, layers, loaded);
            }
            if config.field("addressCheck").and_then(document::Place::text) == Some("none") {
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
