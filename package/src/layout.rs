//! Images on disk: an OCI image layout (OCI image specification, "Image Layout"), as a folder or
//! as a tar archive of one.

use std::io::Error;
use std::path::Path;

use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageIndexBuilder, MediaType, OciLayoutBuilder,
    SCHEMA_VERSION,
};

use crate::image::{Blob, Image, append, canonical};

/// OCI image specification, "oci-layout file".
const LAYOUT_VERSION: &str = "1.0.0";

/// The files of a layout with this image under this tag, and what refers to it.
///
/// # Errors
/// If the index cannot be written as JSON.
pub fn files(
    image: &Image,
    tag: &str,
    referrers: &[Image],
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let layout = OciLayoutBuilder::default()
        .image_layout_version(LAYOUT_VERSION)
        .build()
        .map_err(Error::other)?;
    let named = image.manifest.annotated(ANNOTATION_REF_NAME, tag);
    let manifests: Vec<_> = std::iter::once(named)
        .chain(referrers.iter().map(referrer))
        .collect();
    let mut files = vec![
        ("oci-layout".to_owned(), canonical(&layout)?),
        ("index.json".to_owned(), canonical(&index_of(manifests)?)?),
    ];
    let mut blobs: Vec<&Blob> = std::iter::once(image)
        .chain(referrers)
        .flat_map(|image| image.blobs.iter().chain([&image.manifest]))
        .collect();
    blobs.sort_by(|a, b| a.digest().cmp(b.digest()));
    blobs.dedup_by(|a, b| a.digest() == b.digest());
    files.extend(blobs.into_iter().map(|blob| {
        let name = format!("blobs/{}", blob.digest().replace(':', "/"));
        (name, blob.bytes().to_vec())
    }));
    Ok(files)
}

/// How a list of manifests names one that refers to an image.
pub(crate) fn referrer(image: &Image) -> Descriptor {
    let mut descriptor = image.manifest.descriptor();
    descriptor.set_artifact_type(image.artifact_type.clone());
    descriptor
}

/// An index of these manifests.
pub(crate) fn index_of(manifests: Vec<Descriptor>) -> Result<ImageIndex, Error> {
    ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .map_err(Error::other)
}

/// A layout as a tar archive.
///
/// # Errors
/// If a name is too long for one.
pub fn archive(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, Error> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        append(&mut archive, name, bytes, 0o644)?;
    }
    archive.into_inner()
}

/// Writes a layout: a name that ends with `.tar` is an archive, every other one a folder.
///
/// # Errors
/// If it cannot be written, or if a folder is there that is no layout of ours.
pub fn write(path: &Path, files: &[(String, Vec<u8>)]) -> Result<(), Error> {
    if path.extension().is_some_and(|extension| extension == "tar") {
        return std::fs::write(path, archive(files)?);
    }
    let occupied = path.is_dir()
        && !path.join("oci-layout").is_file()
        && std::fs::read_dir(path)?.next().is_some();
    if occupied {
        return Err(Error::other("the folder holds something else"));
    }
    for (name, bytes) in files {
        let file = path.join(name);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, bytes)?;
    }
    Ok(())
}
