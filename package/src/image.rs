//! Images: a manifest, its configuration and its layers, as bytes with their digests.
//!
//! No clock, no host name, no order of a hash map goes in: the same module gives the same digest.
//! The documents are `oci-spec`'s types, written with sorted keys.

use std::collections::{BTreeMap, HashMap};
use std::io::{Error, Write as _};

use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_TITLE, ANNOTATION_VERSION, Arch,
    Config, ConfigBuilder, Descriptor, Digest, ImageConfigurationBuilder, ImageManifestBuilder,
    MediaType, Os, RootFsBuilder, SCHEMA_VERSION,
};
use serde::Serialize;

use crate::sbom::Sbom;
use crate::sha256;

/// The version of this program, which is the module's too.
const VERSION: &str = env!("CARGO_PKG_VERSION");
pub use egress_policy::contract::POLICY_HASH;

/// The two layouts that Istio documents (solo-io/wasm, `spec-compat.md` and `spec.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// An ordinary image with `plugin.wasm` in its only layer: every registry takes it.
    #[default]
    Compat,
    /// The module as a layer of its own media type.
    Oci,
}

/// Bytes that a registry keeps under their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: MediaType, bytes: Vec<u8>) -> Result<Self, Error> {
        let digest = Digest::try_from(digest(&bytes)).map_err(Error::other)?;
        let size = u64::try_from(bytes.len()).map_err(Error::other)?;
        Ok(Self {
            descriptor: Descriptor::new(media_type, size, digest),
            bytes,
        })
    }

    /// A document as JSON.
    fn json(media_type: MediaType, value: &impl Serialize) -> Result<Self, Error> {
        Self::new(media_type, canonical(value)?)
    }

    /// `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        self.descriptor.digest().as_ref()
    }

    /// What it is.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        self.descriptor.media_type()
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        self.descriptor.clone()
    }

    /// Its descriptor with one annotation.
    pub(crate) fn annotated(&self, key: &str, value: &str) -> Descriptor {
        let mut descriptor = self.descriptor();
        descriptor.set_annotations(Some([(key.to_owned(), value.to_owned())].into()));
        descriptor
    }

    fn titled(&self, title: &str) -> Descriptor {
        self.annotated(ANNOTATION_TITLE, title)
    }
}

/// A document as JSON, the keys of every object sorted: `oci-spec` keeps annotations in hash maps.
pub(crate) fn canonical(document: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut value = serde_json::to_value(document)?;
    // Where some dependent asks `serde_json` to preserve orders, it does; else this does nothing.
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

/// A manifest with everything that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The manifest.
    pub manifest: Blob,
    /// Configuration and layers.
    pub blobs: Vec<Blob>,
    /// What sort of artefact this is, where it is no image to run.
    pub artifact_type: Option<MediaType>,
}

impl Image {
    /// The manifest's digest without `sha256:`: what a `WasmPlugin` states as `sha256`.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.manifest.descriptor.digest().digest()
    }
}

/// What the `oci` variant says of its module (solo-io/wasm, `spec.md`, "Envoy WASM Filter
/// Specification").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Runtime {
    r#type: &'static str,
    abi_versions: [&'static str; 1],
    config: RootIds,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RootIds {
    root_ids: [&'static str; 0],
}

/// Makes the image of a module.
///
/// # Errors
/// If the layer cannot be written, which is for lack of memory only.
pub fn build(module: &[u8], variant: Variant, policy_hash: Option<&str>) -> Result<Image, Error> {
    let mut annotations = labels(
        "egress-warden",
        "Egress control for workloads in an Istio mesh: the proxy-wasm module",
    );
    if let Some(hash) = policy_hash {
        annotations.insert(POLICY_HASH.to_owned(), hash.to_owned());
    }
    let (config, layers, blobs) = match variant {
        Variant::Compat => {
            let archive = archive("plugin.wasm", module)?;
            let settings = ConfigBuilder::default()
                .labels(annotations.clone())
                .build()
                .map_err(Error::other)?;
            let config = configuration(Arch::Wasm, Os::from("wasip1"), settings, &archive)?;
            annotations.insert("module.wasm.image/variant".to_owned(), "compat".to_owned());
            let layer = Blob::new(MediaType::ImageLayerGzip, compressed(&archive)?)?;
            let layers = vec![layer.descriptor()];
            (config, layers, vec![layer])
        }
        Variant::Oci => {
            let runtime = Runtime {
                r#type: "envoy_proxy",
                abi_versions: ["proxy_abi_version_0_2_1"],
                config: RootIds { root_ids: [] },
            };
            let config = Blob::json(
                MediaType::from("application/vnd.module.wasm.config.v1+json"),
                &runtime,
            )?;
            let layer = Blob::new(
                MediaType::from("application/vnd.module.wasm.content.layer.v1+wasm"),
                module.to_vec(),
            )?;
            let layers = vec![
                config.titled("runtime-config.json"),
                layer.titled("plugin.wasm"),
            ];
            (config, layers, vec![layer])
        }
    };
    Ok(Image {
        manifest: written(manifest(&config, layers, annotations))?,
        blobs: std::iter::once(config).chain(blobs).collect(),
        artifact_type: None,
    })
}

/// An image's manifest, which may still be made to refer to another.
fn manifest(
    config: &Blob,
    layers: Vec<Descriptor>,
    annotations: Annotations,
) -> ImageManifestBuilder {
    ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config.descriptor())
        .layers(layers)
        .annotations(annotations)
}

fn written(manifest: ImageManifestBuilder) -> Result<Blob, Error> {
    let manifest = manifest.build().map_err(Error::other)?;
    Blob::json(MediaType::ImageManifest, &manifest)
}

/// The configuration of an image whose only layer is this archive.
fn configuration(
    architecture: Arch,
    os: Os,
    settings: Config,
    archive: &[u8],
) -> Result<Blob, Error> {
    let root = RootFsBuilder::default()
        .diff_ids([digest(archive)])
        .build()
        .map_err(Error::other)?;
    let configuration = ImageConfigurationBuilder::default()
        .architecture(architecture)
        .os(os)
        .config(settings)
        .rootfs(root)
        .build()
        .map_err(Error::other)?;
    Blob::json(MediaType::ImageConfig, &configuration)
}

/// What is in the root folder of an image that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File {
        /// Its content.
        bytes: Vec<u8>,
        /// Whether it can be run.
        executable: bool,
    },
    /// A symbolic link to this path.
    Link(String),
}

/// An ordinary image for Linux: what is in it and what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program<'p> {
    /// What it is called.
    pub title: &'p str,
    /// What it is for, in a sentence.
    pub description: &'p str,
    /// The processor's architecture as Go calls it: `amd64`, `arm64`.
    pub architecture: &'p str,
    /// The path of what is run.
    pub entrypoint: &'p str,
    /// Who runs it: a number and a group's number.
    pub user: &'p str,
    /// Everything in it, by path without a slash before it.
    pub files: &'p BTreeMap<String, Entry>,
    /// Whether the layer is compressed, which takes long: not where it goes no further than this
    /// machine.
    pub compressed: bool,
}

/// Makes an image that runs, of nothing but these files.
///
/// # Errors
/// If the layer cannot be written: a path is too long for an archive.
pub fn program(program: &Program<'_>) -> Result<Image, Error> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in program.files {
        match entry {
            Entry::File { bytes, executable } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                append(&mut archive, path, bytes, mode)?;
            }
            Entry::Link(target) => {
                let mut header = header(0, 0o777);
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, path, target)?;
            }
        }
    }
    let archive = archive.into_inner()?;
    let annotations = labels(program.title, program.description);
    let settings = ConfigBuilder::default()
        .user(program.user)
        .env(["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()])
        .entrypoint([program.entrypoint.to_owned()])
        .labels(annotations.clone())
        .build()
        .map_err(Error::other)?;
    let config = configuration(
        Arch::from(program.architecture),
        Os::Linux,
        settings,
        &archive,
    )?;
    let layer = if program.compressed {
        Blob::new(MediaType::ImageLayerGzip, compressed(&archive)?)?
    } else {
        Blob::new(MediaType::ImageLayer, archive)?
    };
    let layers = vec![layer.descriptor()];
    Ok(Image {
        manifest: written(manifest(&config, layers, annotations))?,
        blobs: vec![config, layer],
        artifact_type: None,
    })
}

/// The bill of materials as an artefact that refers to the image: Istio takes an image of one
/// layer or of two, so it is no layer.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn bill_of_materials(image: &Image, sbom: &Sbom) -> Result<Image, Error> {
    let kind = MediaType::from(Sbom::MEDIA_TYPE);
    let layer = Blob::new(kind.clone(), sbom.json()?)?;
    let empty = Blob::new(MediaType::EmptyJSON, b"{}".to_vec())?;
    let annotations = labels(
        "egress-warden",
        "Egress control for workloads in an Istio mesh: the proxy-wasm module",
    );
    let layers = vec![layer.titled("egress-warden.cdx.json")];
    let manifest = manifest(&empty, layers, annotations)
        .artifact_type(kind.clone())
        .subject(image.manifest.descriptor());
    Ok(Image {
        manifest: written(manifest)?,
        blobs: vec![empty, layer],
        artifact_type: Some(kind),
    })
}

type Annotations = HashMap<String, String>;

/// OCI image specification, "Pre-Defined Annotation Keys". No `created`: it would make each image
/// another.
fn labels(title: &str, description: &str) -> Annotations {
    [
        (ANNOTATION_TITLE, title),
        (ANNOTATION_DESCRIPTION, description),
        (ANNOTATION_VERSION, VERSION),
        (ANNOTATION_LICENSES, "Apache-2.0"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// `sha256:` and the hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// A tar archive of one file, of nobody and of no time.
pub(crate) fn archive(name: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, name, bytes, 0o644)?;
    archive.into_inner()
}

pub(crate) fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<(), Error> {
    let size = u64::try_from(bytes.len()).map_err(Error::other)?;
    archive.append_data(&mut header(size, mode), name, bytes)
}

/// Of nobody and of no time.
fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Gzip without a time or a file name, and without the system's name.
fn compressed(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests;
