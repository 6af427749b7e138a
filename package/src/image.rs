//! The image: a manifest, its configuration and its layers, as bytes with their digests.
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
/// The version of this program, which is the module's too.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The annotation with the hash of the policies that an image carries.
pub const POLICY_HASH: &str = "warden.egress/policy-hash";

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

    /// A structure as JSON. One of ours always serialises; were it not to, the empty text would
    /// be refused by whoever reads it.
    fn json(media_type: &'static str, value: &impl Serialize) -> Self {
        Self::new(media_type, serde_json::to_vec(value).unwrap_or_default())
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
    architecture: &'static str,
    os: &'static str,
    config: Labels<'c>,
    rootfs: RootFs,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Labels<'c> {
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
    let mut annotations = labels(policy_hash);
    let (config, layers, blobs) = match variant {
        Variant::Compat => {
            let archive = archive("plugin.wasm", module)?;
            let diff = format!("sha256:{}", sha256(&archive));
            let config = Blob::json(
                "application/vnd.oci.image.config.v1+json",
                &Configuration {
                    architecture: "wasm",
                    os: "wasip1",
                    config: Labels {
                        labels: &annotations,
                    },
                    rootfs: RootFs {
                        r#type: "layers",
                        diff_ids: vec![diff],
                    },
                },
            );
            annotations.insert("module.wasm.image/variant".to_owned(), "compat".to_owned());
            let layer = Blob::new(
                "application/vnd.oci.image.layer.v1.tar+gzip",
                compressed(&archive)?,
            );
            let layers = vec![layer.descriptor()];
            (config, layers, vec![layer])
        }
        Variant::Oci => {
            let runtime = Runtime {
                r#type: "envoy_proxy",
                abi_versions: ["proxy_abi_version_0_2_1"],
                config: RootIds { root_ids: [] },
            };
            let config = Blob::json("application/vnd.module.wasm.config.v1+json", &runtime);
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
    );
    Ok(Image {
        manifest,
        blobs: std::iter::once(config).chain(blobs).collect(),
        artifact_type: None,
    })
}

/// The bill of materials as an artefact that refers to the image: Istio takes an image of one
/// layer or of two, so it is no layer.
#[must_use]
pub fn bill_of_materials(image: &Image, sbom: &Sbom) -> Image {
    let layer = Blob::new(Sbom::MEDIA_TYPE, sbom.json());
    let empty = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let annotations = labels(None);
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
    );
    Image {
        manifest,
        blobs: vec![empty, layer],
        artifact_type: Some(Sbom::MEDIA_TYPE),
    }
}

/// OCI image specification, "Pre-Defined Annotation Keys". No `created`: it would make each image
/// another.
fn labels(policy_hash: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (
            "org.opencontainers.image.title".to_owned(),
            "egress-warden".to_owned(),
        ),
        (
            "org.opencontainers.image.description".to_owned(),
            "Egress control for workloads in an Istio mesh: the proxy-wasm module".to_owned(),
        ),
        (
            "org.opencontainers.image.version".to_owned(),
            VERSION.to_owned(),
        ),
        (
            "org.opencontainers.image.licenses".to_owned(),
            "Apache-2.0".to_owned(),
        ),
    ]);
    if let Some(hash) = policy_hash {
        labels.insert(POLICY_HASH.to_owned(), hash.to_owned());
    }
    labels
}

/// A tar archive of one file, of nobody and of no time.
pub(crate) fn archive(name: &str, bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, name, bytes)?;
    archive.into_inner()
}

pub(crate) fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    bytes: &[u8],
) -> Result<(), std::io::Error> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(bytes.len()).map_err(std::io::Error::other)?);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, name, bytes)
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
