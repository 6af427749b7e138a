//! Images on disk: an OCI image layout (OCI image specification, "Image Layout"), as a folder or
//! as a tar archive of one.

use std::path::Path;

use serde::Serialize;

use crate::image::{Blob, Descriptor, Image, append};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'i, T> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'i [T],
}

/// The files of a layout with this image under this tag, and what refers to it.
///
/// # Errors
/// If the index cannot be written as JSON.
pub fn files(
    image: &Image,
    tag: &str,
    referrers: &[Image],
) -> Result<Vec<(String, Vec<u8>)>, std::io::Error> {
    let mut named = image.manifest.descriptor();
    let key = "org.opencontainers.image.ref.name".to_owned();
    named.annotations.insert(key, tag.to_owned());
    let manifests: Vec<_> = std::iter::once(named)
        .chain(referrers.iter().map(referrer))
        .collect();
    let mut files = vec![
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
        ("index.json".to_owned(), index_of(&manifests)?),
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
    descriptor.artifact_type = image.artifact_type.map(str::to_owned);
    descriptor
}

/// An index of these manifests.
pub(crate) fn index_of<T: Serialize>(manifests: &[T]) -> Result<Vec<u8>, std::io::Error> {
    let index = Index {
        schema_version: 2,
        media_type: INDEX,
        manifests,
    };
    Ok(serde_json::to_vec(&index)?)
}

/// A layout as a tar archive.
///
/// # Errors
/// If a name is too long for one.
pub fn archive(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, std::io::Error> {
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
pub fn write(path: &Path, files: &[(String, Vec<u8>)]) -> Result<(), std::io::Error> {
    if path.extension().is_some_and(|extension| extension == "tar") {
        return std::fs::write(path, archive(files)?);
    }
    let occupied = path.is_dir()
        && !path.join("oci-layout").is_file()
        && std::fs::read_dir(path)?.next().is_some();
    if occupied {
        return Err(std::io::Error::other("the folder holds something else"));
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
