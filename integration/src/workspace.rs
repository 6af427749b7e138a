//! Where things are in the workspace.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where the compiled module of a crate is, by its name with underscores.
#[must_use]
pub fn wasm(name: &str) -> PathBuf {
    target().join(format!("wasm32-wasip1/wasm/{name}.wasm"))
}

/// Says how to build a module that is not there.
///
/// # Errors
/// If it is not there.
pub fn built(module: &Path) -> Result<()> {
    ensure!(
        module.is_file(),
        "no {}; build it with: cargo xtask wasm",
        module.display()
    );
    Ok(())
}
