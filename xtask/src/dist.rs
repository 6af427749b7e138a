//! What a release holds, in `target/dist`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, check, progress, root, say, target};
use crate::{build, sbom};

/// The architectures of a release.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// The programs of a release: their packages and names.
const PROGRAMS: [(&str, &str); 3] = [
    ("warden", "warden"),
    ("egress-cni", "egress-warden-cni"),
    ("egress-cni", "egress-warden-cni-agent"),
];

/// The Debian packages in the node agent's image.
const PACKAGES: &str = "cni/deploy/packages.lock";

/// Where Debian's archive is, and where it keeps what has been replaced.
const ARCHIVES: [&str; 2] = [
    "http://deb.debian.org/debian",
    "http://snapshot.debian.org/archive/debian/20261130T000000Z",
];

/// Makes the release, twice from what is built, and compares. With `rebuild` everything is built
/// twice as well, in another folder.
pub(crate) fn run(rebuild: bool) -> Result<()> {
    let dist = target().join("dist");
    let work = target().join("dist-work");
    build::wasm()?;
    let mut arguments = vec![
        (
            "--module".to_owned(),
            target().join("wasm32-wasip1/wasm/egress_filter.wasm"),
        ),
        ("--packages".to_owned(), root().join(PACKAGES)),
        (
            "--packages-folder".to_owned(),
            fetched(&work.join("packages"))?,
        ),
        ("--crates".to_owned(), work.join("crates")),
    ];
    for architecture in ARCHITECTURES {
        let folder = match programs(architecture) {
            Ok(folder) => folder,
            Err(error) if architecture != std::env::consts::ARCH => {
                progress(&format!(
                    "left out: everything for {architecture}: {error:#}"
                ));
                continue;
            }
            Err(error) => return Err(error),
        };
        for package in ["warden", "egress-cni"] {
            let list = sbom::resolved(package, &build::musl(architecture))?;
            let path = work.join(format!("crates/{package}-{architecture}.json"));
            write(&path, list.as_bytes())?;
        }
        if architecture == std::env::consts::ARCH {
            arguments.push(("--warden".to_owned(), folder.join("warden")));
        }
        let named = format!("--programs={architecture}={}", folder.display());
        arguments.push((named, PathBuf::new()));
    }
    progress("putting the release together, twice");
    let again = work.join("again");
    for out in [&dist, &again] {
        let mut command = cargo(&["run", "--quiet", "--package", "egress-dist", "--"]);
        command.arg("--out").arg(out);
        for (name, value) in &arguments {
            command.arg(name);
            if !value.as_os_str().is_empty() {
                command.arg(value);
            }
        }
        check(&mut command)?;
    }
    same(&dist, &again)?;
    if rebuild {
        let second = target().join("dist-second");
        progress("building everything once more, in another folder");
        check(
            Command::new(std::env::current_exe()?)
                .arg("dist")
                .env("CARGO_TARGET_DIR", &second)
                .current_dir(root()),
        )?;
        same(&dist, &second.join("dist"))?;
    }
    for (name, path) in files(&dist)? {
        say(&format!("{name}: {} bytes", std::fs::metadata(path)?.len()));
    }
    Ok(())
}

/// Builds the programs for an architecture, and returns their folder.
fn programs(architecture: &str) -> Result<PathBuf> {
    let mut folder = PathBuf::new();
    for (package, program) in PROGRAMS {
        let path = build::static_for(architecture, package, program, "static")?;
        path.parent().unwrap_or(&path).clone_into(&mut folder);
    }
    Ok(folder)
}

/// Fetches the Debian packages that are not there yet. `egress-dist` compares their hashes.
fn fetched(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let lock = std::fs::read_to_string(root().join(PACKAGES)).context(PACKAGES)?;
    let named = std::env::var("WARDEN_DEBIAN_ARCHIVE").ok();
    for path in lock
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once("  "))
        .map(|(_, path)| path)
    {
        let name = path.rsplit('/').next().unwrap_or(path);
        let file = folder.join(name);
        if file.is_file() {
            continue;
        }
        progress(&format!("fetching {name}"));
        let archives = named.as_deref().into_iter().chain(ARCHIVES);
        let part = folder.join(format!("{name}.part"));
        let found = archives
            .map(|archive| format!("{archive}/{path}"))
            .any(|url| {
                let status = Command::new("curl")
                    .args([
                        "--fail",
                        "--silent",
                        "--location",
                        "--retry",
                        "3",
                        "--output",
                    ])
                    .arg(&part)
                    .arg(&url)
                    .status();
                status.is_ok_and(|status| status.success())
            });
        ensure!(
            found,
            "{name} is in none of Debian's archives that were asked (by `curl`); WARDEN_DEBIAN_ARCHIVE names another one, {PACKAGES} the versions"
        );
        std::fs::rename(part, file)?;
    }
    Ok(folder.to_owned())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// The files under a folder by their names in it.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?.display().to_string();
                found.push((name, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Fails unless both folders hold the same bytes.
fn same(one: &Path, other: &Path) -> Result<()> {
    let (mine, theirs) = (files(one)?, files(other)?);
    let names = |files: &[(String, PathBuf)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    ensure!(
        names(&mine) == names(&theirs),
        "two releases hold different files: {:?} {:?}",
        names(&mine),
        names(&theirs)
    );
    for ((name, mine), (_, theirs)) in mine.iter().zip(&theirs) {
        ensure!(
            std::fs::read(mine)? == std::fs::read(theirs)?,
            "{name} differs"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_releases_are_compared_by_every_byte() {
        let folder = target().join(format!("tmp/dist-{}", std::process::id()));
        let [one, other] = ["one", "other"].map(|name| folder.join(name));
        for release in [&one, &other] {
            write(&release.join("a/b"), b"b").unwrap();
            write(&release.join("c"), b"c").unwrap();
        }
        assert!(same(&one, &other).is_ok());
        write(&other.join("a/b"), b"B").unwrap();
        assert!(
            same(&one, &other)
                .unwrap_err()
                .to_string()
                .contains("a/b differs")
        );
        write(&other.join("a/b"), b"b").unwrap();
        write(&other.join("d"), b"").unwrap();
        assert!(same(&one, &other).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
