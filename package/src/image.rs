//! Images: a manifest, its configuration and its layers, as bytes with their digests.
//!
//! No clock, no host name, no order of a hash map goes in: the same module gives the same digest.
//! Structures instead of JSON values, so that the order of fields is the one written here.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use serde::Serialize;

use crate::sbom::Sbom;
use crate::sha256;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The version of this program, which is the module's too.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The annotation with the hash of the policies that an image carries.
pub const POLICY_HASH: &str = "egress-warden.io/policy-hash";

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
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            media_type,
            digest: format!("sha256:{}", sha256(&bytes)),
            bytes,
        }
    }

    /// A structure as JSON.
    fn json(media_type: &'static str, value: &impl Serialize) -> Result<Self, std::io::Error> {
        Ok(Self::new(media_type, serde_json::to_vec(value)?))
    }

    /// `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it is.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.to_owned(),
            digest: self.digest.clone(),
            size: self.bytes.len(),
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    fn titled(&self, title: &str) -> Descriptor {
        let mut descriptor = self.descriptor();
        let key = "org.opencontainers.image.title".to_owned();
        descriptor.annotations.insert(key, title.to_owned());
        descriptor
    }
}

/// A manifest with everything that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The manifest.
    pub manifest: Blob,
    /// Configuration and layers.
    pub blobs: Vec<Blob>,
    /// What sort of artefact this is, where it is no image to run.
    pub artifact_type: Option<&'static str>,
}

impl Image {
    /// The manifest's digest without `sha256:`: what a `WasmPlugin` states as `sha256`.
    #[must_use]
    pub fn sha256(&self) -> &str {
        let digest = self.manifest.digest();
        digest.strip_prefix("sha256:").unwrap_or(digest)
    }
}

/// OCI image specification, "Content Descriptors".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// OCI image specification, "Image Manifest".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'m> {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    annotations: &'m BTreeMap<String, String>,
}

/// OCI image specification, "Image Configuration".
#[derive(Serialize)]
struct Configuration<'c> {
    architecture: &'c str,
    os: &'static str,
    config: Settings<'c>,
    rootfs: RootFs,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Settings<'c> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'c str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'c [&'c str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entrypoint: &'c [&'c str],
    labels: &'c BTreeMap<String, String>,
}

#[derive(Serialize)]
struct RootFs {
    r#type: &'static str,
    diff_ids: Vec<String>,
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
pub fn build(
    module: &[u8],
    variant: Variant,
    policy_hash: Option<&str>,
) -> Result<Image, std::io::Error> {
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
            let diff = format!("sha256:{}", sha256(&archive));
            let config = Blob::json(
                CONFIGURATION,
                &Configuration {
                    architecture: "wasm",
                    os: "wasip1",
                    config: Settings {
                        user: None,
                        env: &[],
                        entrypoint: &[],
                        labels: &annotations,
                    },
                    rootfs: RootFs {
                        r#type: "layers",
                        diff_ids: vec![diff],
                    },
                },
            )?;
            annotations.insert("module.wasm.image/variant".to_owned(), "compat".to_owned());
            let layer = Blob::new(LAYER, compressed(&archive)?);
            let layers = vec![layer.descriptor()];
            (config, layers, vec![layer])
        }
        Variant::Oci => {
            let runtime = Runtime {
                r#type: "envoy_proxy",
                abi_versions: ["proxy_abi_version_0_2_1"],
                config: RootIds { root_ids: [] },
            };
            let config = Blob::json("application/vnd.module.wasm.config.v1+json", &runtime)?;
            let layer = Blob::new(
                "application/vnd.module.wasm.content.layer.v1+wasm",
                module.to_vec(),
            );
            let layers = vec![
                config.titled("runtime-config.json"),
                layer.titled("plugin.wasm"),
            ];
            (config, layers, vec![layer])
        }
    };
    let manifest = Blob::json(
        MANIFEST,
        &Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type: None,
            config: config.descriptor(),
            layers,
            subject: None,
            annotations: &annotations,
        },
    )?;
    Ok(Image {
        manifest,
        blobs: std::iter::once(config).chain(blobs).collect(),
        artifact_type: None,
    })
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
}

/// Makes an image that runs, of nothing but these files.
///
/// # Errors
/// If the layer cannot be written: a path is too long for an archive.
pub fn program(program: &Program<'_>) -> Result<Image, std::io::Error> {
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
    let config = Blob::json(
        CONFIGURATION,
        &Configuration {
            architecture: program.architecture,
            os: "linux",
            config: Settings {
                user: Some(program.user),
                env: &["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                entrypoint: &[program.entrypoint],
                labels: &annotations,
            },
            rootfs: RootFs {
                r#type: "layers",
                diff_ids: vec![format!("sha256:{}", sha256(&archive))],
            },
        },
    )?;
    let layer = Blob::new(LAYER, compressed(&archive)?);
    let manifest = Blob::json(
        MANIFEST,
        &Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type: None,
            config: config.descriptor(),
            layers: vec![layer.descriptor()],
            subject: None,
            annotations: &annotations,
        },
    )?;
    Ok(Image {
        manifest,
        blobs: vec![config, layer],
        artifact_type: None,
    })
}

/// The bill of materials as an artefact that refers to the image: Istio takes an image of one
/// layer or of two, so it is no layer.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn bill_of_materials(image: &Image, sbom: &Sbom) -> Result<Image, std::io::Error> {
    let layer = Blob::new(Sbom::MEDIA_TYPE, sbom.json()?);
    let empty = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let annotations = labels(
        "egress-warden",
        "Egress control for workloads in an Istio mesh: the proxy-wasm module",
    );
    let manifest = Blob::json(
        MANIFEST,
        &Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type: Some(Sbom::MEDIA_TYPE),
            config: empty.descriptor(),
            layers: vec![layer.titled("egress-warden.cdx.json")],
            subject: Some(image.manifest.descriptor()),
            annotations: &annotations,
        },
    )?;
    Ok(Image {
        manifest,
        blobs: vec![empty, layer],
        artifact_type: Some(Sbom::MEDIA_TYPE),
    })
}

/// OCI image specification, "Pre-Defined Annotation Keys". No `created`: it would make each image
/// another.
fn labels(title: &str, description: &str) -> BTreeMap<String, String> {
    [
        ("title", title),
        ("description", description),
        ("version", VERSION),
        ("licenses", "Apache-2.0"),
    ]
    .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned()))
    .into()
}

/// A tar archive of one file, of nobody and of no time.
pub(crate) fn archive(name: &str, bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, name, bytes, 0o644)?;
    archive.into_inner()
}

pub(crate) fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<(), std::io::Error> {
    let size = u64::try_from(bytes.len()).map_err(std::io::Error::other)?;
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
fn compressed(bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests;
