//! Debian packages: which ones by their hashes, and the files in them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use egress_package::image::Entry;
use egress_package::sbom::Package;
use egress_package::sha256;

use crate::output;

/// A package file that is known by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    /// The package.
    pub(crate) package: Package,
    /// Its file's name, `NAME_VERSION_ARCHITECTURE.deb`.
    pub(crate) file: String,
}

/// Reads lines of a SHA-256 and a path in Debian's archive; `#` begins a comment.
pub(crate) fn lock(text: &str) -> Result<Vec<Locked>> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| locked(line).with_context(|| format!("`{line}` is no SHA256 PATH")))
        .collect()
}

fn locked(line: &str) -> Option<Locked> {
    let (sha256, path) = line.split_once("  ")?;
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() != 64 || !sha256.bytes().all(hexadecimal) {
        return None;
    }
    let file = path.rsplit('/').next()?;
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Locked {
        package: Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            sha256: sha256.to_owned(),
        },
        file: file.to_owned(),
    })
}

/// What of a package an image needs: programs, libraries, settings and the licence.
///
/// # Errors
/// If the file is not the one that is listed, or cannot be read. `dpkg-deb` unpacks it.
pub(crate) fn files(locked: &Locked, folder: &Path) -> Result<BTreeMap<String, Entry>> {
    let path = folder.join(&locked.file);
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    ensure!(
        sha256(&bytes) == locked.package.sha256,
        "{} is another file than the one that is listed",
        path.display()
    );
    let mut unpack = Command::new("dpkg-deb");
    let archive = output(unpack.arg("--fsys-tarfile").arg(&path))
        .with_context(|| path.display().to_string())?;
    entries(&archive).with_context(|| path.display().to_string())
}

/// The entries of an archive that are wanted.
pub(crate) fn entries(archive: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry
            .path()?
            .to_string_lossy()
            .trim_start_matches("./")
            .to_owned();
        if !is_wanted(&path) {
            continue;
        }
        let kind = entry.header().entry_type();
        let content = match kind {
            tar::EntryType::Directory => continue,
            tar::EntryType::Regular => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                let executable = entry.header().mode()? & 0o111 != 0;
                Entry::File { bytes, executable }
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name()?.context("a link to nowhere")?;
                Entry::Link(target.to_string_lossy().into_owned())
            }
            other => bail!("{path}: an entry of type {other:?}"),
        };
        found.insert(path, content);
    }
    Ok(found)
}

fn is_wanted(path: &str) -> bool {
    // Character sets and the linker's auditing: nothing here loads them.
    let unused = ["/gconv/", "/audit/"]
        .iter()
        .any(|part| path.contains(part));
    let licence = path.starts_with("usr/share/doc/") && path.ends_with("/copyright");
    let used = [
        "usr/sbin/",
        "sbin/",
        "lib/",
        "lib64/",
        "usr/lib/",
        "usr/lib64/",
        "etc/",
    ]
    .iter()
    .any(|folder| path.starts_with(folder));
    licence || (used && !unused)
}
