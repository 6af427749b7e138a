//! `warden package`: the module as an OCI image, with or without the policies in it.

use std::path::{Path, PathBuf};

use egress_package::credentials::{self, Credentials, HELPER_LIMIT};
use egress_package::image::{self, Image, Variant};
use egress_package::reference::Reference;
use egress_package::registry::{Access, PushError, Registry};
use egress_package::sbom::Sbom;
use egress_package::{layout, module, sha256};
use egress_render::{EmbeddedPolicies, Install};
use schemars::JsonSchema;
use serde::Serialize;

use super::manifests::Settings;
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::{Output, PLAIN, Report};
use crate::progress::Progress;
use crate::sources::Inputs;

/// Make the OCI image of the proxy-wasm module, as Istio fetches it, and push it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The same input gives the same digest. With policies the image carries them beside the module: for
policies above 512 KiB. What it prints belongs into the install settings, under `spec.module`.

Examples:
  warden package --module egress_filter.wasm --push registry.example/egress-warden:0.1.0
  warden package --module egress_filter.wasm --layout image.tar
  warden package --module egress_filter.wasm --push registry.example/egress-warden:2026-12-01 \\
    --install install.yaml policy.yaml")]
pub(crate) struct Package {
    /// The module as it was built: `egress_filter.wasm`.
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// Push the image here. The registry's host is always stated.
    #[arg(
        long,
        value_name = "REGISTRY/NAME:TAG",
        required_unless_present = "layout"
    )]
    push: Option<Reference>,
    /// Write the image as an OCI layout: a folder, or an archive if the name ends with `.tar`.
    #[arg(long, value_name = "PATH")]
    layout: Option<PathBuf>,
    /// The image's form. Istio takes both; some registries only the first.
    #[arg(long, value_enum, default_value_t)]
    variant: Form,
    /// The install settings, for the order of the policies and what is granted to each.
    #[arg(long, value_name = "FILE", requires = "files")]
    install: Option<String>,
    /// Policies that the image is to carry.
    #[arg(value_name = "FILE", requires = "install")]
    files: Vec<String>,
    /// Speak to the registry without TLS. One on this machine is spoken to so in any case.
    #[arg(long, requires = "push")]
    plain_http: bool,
    /// Certificates (PEM) of the authorities to trust, instead of the public ones.
    #[arg(long, value_name = "FILE", requires = "push")]
    ca: Option<PathBuf>,
    /// The file with the registry's credentials, instead of what `REGISTRY_AUTH_FILE` names or
    /// Docker's own.
    #[arg(long, value_name = "FILE", requires = "push")]
    registry_config: Option<PathBuf>,
    /// How to write the result.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human")]
    pub(super) output: Output,
}

/// The layouts that Istio documents.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Form {
    /// An ordinary image with `plugin.wasm` in its only layer.
    #[default]
    Compat,
    /// The module as a layer of its own media type.
    Oci,
}

/// What was made.
struct Made {
    image: Image,
    bill: Image,
    built: String,
    policies: Option<EmbeddedPolicies>,
}

impl Package {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let clock = Progress::start("packaging");
        let mut stated = None;
        let mut policies = None;
        if let Some(install) = &self.install {
            let settings = Settings::of(
                install,
                &Inputs {
                    files: self.files.clone(),
                },
            );
            let read = settings.read(console)?;
            match EmbeddedPolicies::of(&read.install, &read.policies) {
                Ok(carried) => policies = Some(carried),
                Err(problems) => return Err(read.refusal(&problems)),
            }
            stated = Some((install, read.install));
        }
        let made = self.make(policies, console.directory)?;
        clock.report(console, "image made");
        if let Some(path) = &self.layout {
            let tag = self.push.as_ref().map_or(VERSION, Reference::tag);
            let files = layout::files(&made.image, tag, std::slice::from_ref(&made.bill))?;
            layout::write(&console.directory.join(path), &files)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
            clock.report(console, "layout written");
        }
        if let Some(reference) = &self.push {
            let access = self.access(reference, console.directory)?;
            let mut registry =
                Registry::new(reference.clone(), access).map_err(|e| self.unpushed(&e))?;
            let pushed = registry.push(&made.image, std::slice::from_ref(&made.bill), |step| {
                clock.report(console, step);
            });
            pushed.map_err(|error| self.unpushed(&error))?;
        }
        self.output.write(&self.report(&made), console)?;
        if let Some((file, install)) = stated {
            compare(&made, file, &install, console)?;
        }
        clock.finish(console);
        Ok(Exit::Ok)
    }

    fn make(&self, policies: Option<EmbeddedPolicies>, directory: &Path) -> Result<Made, Failure> {
        let built = read(&self.module, directory)?;
        let named = |error: module::ModuleError| {
            Failure::new(format!("{}: {error}", self.module.display()))
        };
        if module::carried(&built).map_err(named)?.is_some() {
            return Err(named(module::ModuleError::Carries));
        }
        let whole = match &policies {
            Some(carried) => module::carry(&built, carried.bytes()).map_err(named)?,
            None => built.clone(),
        };
        let variant = match self.variant {
            Form::Compat => Variant::Compat,
            Form::Oci => Variant::Oci,
        };
        let image = image::build(
            &whole,
            variant,
            policies.as_ref().map(EmbeddedPolicies::hash),
        )?;
        let bill = Sbom::of(&built).map_err(|error| Failure::new(error.to_string()))?;
        Ok(Made {
            bill: image::bill_of_materials(&image, &bill)?,
            image,
            built: sha256(&built),
            policies,
        })
    }

    fn access(&self, reference: &Reference, directory: &Path) -> Result<Access, Failure> {
        let authorities = match &self.ca {
            Some(file) => Some(read(file, directory)?),
            None => None,
        };
        Ok(Access {
            credentials: self.credentials(reference, directory)?,
            plain_http: self.plain_http,
            authorities,
        })
    }

    /// Why it was not pushed, and what to do.
    fn unpushed(&self, error: &PushError) -> Failure {
        let message = match (error, &self.ca) {
            (PushError::Authorities(_), Some(file)) => format!("{}: {error}", file.display()),
            _ => error.to_string(),
        };
        hinted(message, error.hint())
    }

    /// The first file that is there and knows the registry. One that was named has to be there.
    fn credentials(
        &self,
        reference: &Reference,
        directory: &Path,
    ) -> Result<Option<Credentials>, Failure> {
        let named = self.registry_config.iter().cloned();
        let files = match &self.registry_config {
            Some(_) => named.collect(),
            None => credentials::files(|name| std::env::var_os(name)),
        };
        for file in files {
            if self.registry_config.is_none() && !file.is_file() {
                continue;
            }
            let shown = file.display().to_string();
            let text = String::from_utf8(read(&file, directory)?)
                .map_err(|error| Failure::new(format!("{shown}: {error}")))?;
            let found = credentials::find(&shown, &text, reference.registry(), HELPER_LIMIT)
                .map_err(|error| hinted(error.to_string(), error.hint()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn report<'m>(&'m self, made: &'m Made) -> PackageReport<'m> {
        let blobs = made.image.blobs.iter();
        PackageReport {
            url: self.push.as_ref().map(|to| format!("oci://{to}")),
            sha256: made.image.sha256(),
            policy: made.policies.as_ref().map(EmbeddedPolicies::hash),
            module: &made.built,
            bill_of_materials: made.bill.manifest.digest(),
            bytes: blobs.map(|blob| blob.bytes().len()).sum(),
            layout: self.layout.as_deref(),
        }
    }
}

/// The image that was made.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PackageReport<'m> {
    /// `oci://` and where it was pushed; null if it was not.
    url: Option<String>,
    /// The manifest's digest, as `spec.module.sha256` states it.
    sha256: &'m str,
    /// The hash of the policies in it, as `spec.module.policy` states it; null without policies.
    policy: Option<&'m str>,
    /// SHA-256 of the module as it was given.
    module: &'m str,
    /// The digest of the manifest that refers to the image.
    bill_of_materials: &'m str,
    /// Configuration and layers together.
    bytes: usize,
    /// Where an OCI layout was written.
    layout: Option<&'m Path>,
}

impl Report for PackageReport<'_> {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        writeln!(out, "module:")?;
        if let Some(url) = &self.url {
            writeln!(out, "  url: {url}")?;
        }
        writeln!(out, "  sha256: \"{}\"", self.sha256)?;
        if let Some(hash) = self.policy {
            writeln!(out, "  policy: \"{hash}\"")?;
        }
        Ok(())
    }
}

/// What the install settings still say of an earlier image.
fn compare(
    made: &Made,
    file: &str,
    install: &Install,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let module = &install.spec.module;
    let hash = made.policies.as_ref().map(EmbeddedPolicies::hash);
    let same =
        module.sha256.as_deref() == Some(made.image.sha256()) && module.policy.as_deref() == hash;
    if same {
        writeln!(console.stderr, "{file} states this image")?;
    } else {
        writeln!(
            console.stderr,
            "{file} states another image: put these lines under `spec`, then render"
        )?;
    }
    Ok(())
}

/// The tag in a layout that is not pushed.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(file: &Path, directory: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(directory.join(file))
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

fn hinted(message: String, hint: Option<impl Into<String>>) -> Failure {
    let failure = Failure::new(message);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
