//! What is built for elsewhere: the proxy-wasm modules, and static files for pods and nodes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, check, progress, root, say, target};

/// The release module's budget in bytes.
const BUDGET: u64 = 950_000;

/// Installs the standard library of a target where it is missing: rustup installs what
/// rust-toolchain.toml lists only together with the toolchain, not into one that is there already.
pub(crate) fn standard_library(of: &str) -> Result<()> {
    let found = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", of])
        .current_dir(root())
        .output()
        .context("rustc did not start")?;
    if Path::new(String::from_utf8_lossy(&found.stdout).trim()).is_dir() {
        return Ok(());
    }
    progress(&format!("installing the standard library of {of}"));
    check(
        Command::new("rustup")
            .args(["target", "add", of])
            .current_dir(root()),
    )
}

/// Flags by which the places of panics name crates, not this machine's folders: what is built is
/// the same, and of the same size, wherever it is built.
fn without_folders() -> Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let sources = home.context("no home directory")?.join("registry/src");
    let mut flags = vec![
        format!("--remap-path-prefix={}=.", root().display()),
        format!("--remap-path-prefix={}=target", target().display()),
    ];
    for registry in std::fs::read_dir(&sources).with_context(|| sources.display().to_string())? {
        flags.push(format!(
            "--remap-path-prefix={}=",
            registry?.path().display()
        ));
    }
    Ok(flags.join("\u{1f}"))
}

/// Builds the module and the test fixtures.
pub(crate) fn wasm() -> Result<()> {
    standard_library("wasm32-wasip1")?;
    progress("building the proxy-wasm modules");
    check(
        cargo(&[
            "build",
            "--profile",
            "wasm",
            "--target",
            "wasm32-wasip1",
            "--lib",
        ])
        .args([
            "--package=egress-filter",
            "--package=fixture-peer-metadata",
            "--package=fixture-probe",
        ])
        .env("CARGO_ENCODED_RUSTFLAGS", without_folders()?),
    )
}

/// Builds what runs outside its own image, and prints where it is: the command, which is copied
/// into pods whatever their image holds, and the plugin with its agent, which is put on nodes.
pub(crate) fn static_files() -> Result<()> {
    for (package, program) in [
        ("warden", "warden"),
        ("egress-cni", "egress-warden-cni"),
        ("egress-cni", "egress-warden-cni-agent"),
    ] {
        let path = static_file(package, program, "static")?;
        let size = std::fs::metadata(&path)
            .with_context(|| path.display().to_string())?
            .len();
        say(&format!("{}: {size} bytes", path.display()));
    }
    Ok(())
}

/// Builds a program as one static file for this machine.
pub(crate) fn static_file(package: &str, program: &str, profile: &str) -> Result<PathBuf> {
    static_for(std::env::consts::ARCH, package, program, profile)
}

/// What Cargo calls static programs for an architecture.
pub(crate) fn musl(architecture: &str) -> String {
    format!("{architecture}-unknown-linux-musl")
}

/// Builds a program as one static file.
///
/// For another architecture than this machine's, Rust's own linker links it; ring's C needs a
/// compiler for that architecture.
pub(crate) fn static_for(
    architecture: &str,
    package: &str,
    program: &str,
    profile: &str,
) -> Result<PathBuf> {
    let musl = musl(architecture);
    standard_library(&musl)?;
    let mut command = cargo(&["build", "--package", package, "--bin", program]);
    let underscored = musl.replace('-', "_");
    let compiler = format!("CC_{underscored}");
    if architecture != std::env::consts::ARCH {
        let linker = format!("CARGO_TARGET_{}_LINKER", underscored.to_uppercase());
        if std::env::var_os(&linker).is_none() {
            command.env(linker, "rust-lld");
        }
        if std::env::var_os(&compiler).is_none() {
            let cross = format!("{architecture}-linux-gnu-gcc");
            Command::new(&cross).arg("--version").output().with_context(|| {
                format!("a C compiler is missing: `{cross}` (Debian: gcc-{}-linux-gnu), or the variable {compiler}", architecture.replace('_', "-"))
            })?;
            command.env(compiler, cross);
        }
    } else if std::env::var_os(&compiler).is_none() && Command::new("musl-gcc").output().is_err() {
        // ring's C needs no more of a C library than freestanding headers, so any compiler does.
        command.env(compiler, "cc");
    }
    if profile == "static" {
        command.env("CARGO_ENCODED_RUSTFLAGS", without_folders()?);
    }
    progress(&format!(
        "building {program} as one static file for {architecture}"
    ));
    check(command.args(["--profile", profile, "--target", &musl]))?;
    // Cargo's own profile for development has a folder of another name.
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target().join(musl).join(folder).join(program))
}

/// Where the module is once it is built.
pub(crate) fn module() -> PathBuf {
    target().join("wasm32-wasip1/wasm/egress_filter.wasm")
}

/// Prints the module's size and fails above the budget.
pub(crate) fn size() -> Result<()> {
    wasm()?;
    let path = module();
    let size = std::fs::metadata(&path)
        .with_context(|| path.display().to_string())?
        .len();
    say(&format!("egress_filter.wasm: {size} bytes of {BUDGET}"));
    ensure!(size <= BUDGET, "the module is over its budget");
    Ok(())
}

/// Builds a program of this workspace. Cargo shows how far it is: a bar in a terminal, a line for each
/// crate elsewhere.
pub(crate) fn program(package: &str, name: &str) -> Result<()> {
    progress(&format!(
        "building {name}, which takes minutes the first time"
    ));
    check(&mut cargo(&["build", "--package", package, "--bin", name]))
}

/// Runs the engine's benchmark.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let mut command = cargo(&["run", "--quiet", "--package", "egress-bench", "--"]);
    check(command.args(arguments))
}
