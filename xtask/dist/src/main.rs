//! Puts together what a release holds, from what `cargo xtask dist` has built and fetched.
//!
//! The same files in give the same bytes out: no time, no name of this machine, no order of a
//! folder goes in.

mod debian;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use egress_package::image::{self, Entry, Image, Program, Variant};
use egress_package::sbom::{Crate, Package, Sbom};
use egress_package::{layout, sha256};

/// The version of all of it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Shells whose completions are written, and what their files are called.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "warden.bash"),
    ("zsh", "_warden"),
    ("fish", "warden.fish"),
];

/// The node agent's image runs as root: it changes the node's rules.
const ROOT: &str = "0:0";
/// The command's image needs nobody.
const NOBODY: &str = "65532:65532";

#[derive(Parser)]
#[command(about = "Puts together what a release holds.")]
struct Arguments {
    /// Where to write it; what is there goes.
    #[arg(long)]
    out: PathBuf,
    /// The proxy-wasm module.
    #[arg(long)]
    module: PathBuf,
    /// Static programs for an architecture: a folder with `warden`, `egress-warden-cni` and
    /// `egress-warden-cni-agent`.
    #[arg(long, value_name = "ARCHITECTURE=FOLDER", value_parser = programs, required = true)]
    programs: Vec<Programs>,
    /// Lists of crates as Cargo resolves them: a folder with `PACKAGE-ARCHITECTURE.json` for
    /// `warden` and `egress-warden-cni`.
    #[arg(long)]
    crates: PathBuf,
    /// The Debian packages that the node agent's image needs, as `SHA256 FILE` lines.
    #[arg(long)]
    packages: PathBuf,
    /// Where the packages' files are.
    #[arg(long)]
    packages_folder: PathBuf,
    /// The `warden` that runs here and writes completions.
    #[arg(long)]
    warden: PathBuf,
}

#[derive(Clone, Debug)]
struct Programs {
    architecture: String,
    folder: PathBuf,
}

fn programs(text: &str) -> Result<Programs, String> {
    let (architecture, folder) = text.split_once('=').ok_or("expected ARCHITECTURE=FOLDER")?;
    if go_name(architecture).is_none() {
        return Err(format!("`{architecture}` is not x86_64 or aarch64"));
    }
    Ok(Programs {
        architecture: architecture.to_owned(),
        folder: folder.into(),
    })
}

/// What an architecture is called in images.
fn go_name(architecture: &str) -> Option<&'static str> {
    match architecture {
        "x86_64" => Some("amd64"),
        "aarch64" => Some("arm64"),
        _ => None,
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let files = Release::gather(&arguments)?.files;
    write(&arguments.out, &files)
}

/// A file of the release.
struct File {
    bytes: Vec<u8>,
    executable: bool,
}

#[derive(Default)]
struct Release {
    files: BTreeMap<String, File>,
}

impl Release {
    fn gather(arguments: &Arguments) -> Result<Self> {
        let mut release = Self::default();
        release.module(&read(&arguments.module)?)?;
        let lock = debian::lock(&String::from_utf8(read(&arguments.packages)?)?)?;
        for programs in &arguments.programs {
            let crates = |package: &str| {
                let name = format!("{package}-{}.json", programs.architecture);
                let path = arguments.crates.join(name);
                serde_json::from_slice::<Vec<Crate>>(&read(&path)?)
                    .with_context(|| path.display().to_string())
            };
            release.warden(programs, &crates("warden")?)?;
            release.agent(
                programs,
                &crates("egress-cni")?,
                &lock,
                &arguments.packages_folder,
            )?;
        }
        for (shell, name) in SHELLS {
            let script = completions(&arguments.warden, shell)?;
            release.add(name, script, false);
        }
        Ok(release.summed())
    }

    fn add(&mut self, name: &str, bytes: Vec<u8>, executable: bool) {
        self.files
            .insert(name.to_owned(), File { bytes, executable });
    }

    /// The module, its image as Istio fetches it, and its bill of materials.
    fn module(&mut self, module: &[u8]) -> Result<()> {
        let bill = Sbom::of(module)?;
        let image = image::build(module, Variant::Compat, None)?;
        self.image("egress-filter", &image, &bill)?;
        self.add(
            &format!("egress-filter-{VERSION}.cdx.json"),
            bill.json()?,
            false,
        );
        self.add(
            &format!("egress-filter-{VERSION}.wasm"),
            module.to_vec(),
            false,
        );
        Ok(())
    }

    /// The command as a file, and as an image of this file alone.
    fn warden(&mut self, programs: &Programs, crates: &[Crate]) -> Result<()> {
        let name = format!("warden-{VERSION}-linux-{}", programs.architecture);
        let program = self.program("warden", programs)?;
        let bill = bill("warden", &program, crates, Vec::new());
        let files = BTreeMap::from([("usr/local/bin/warden".to_owned(), run(program))]);
        let image = image::program(&Program {
            title: "warden",
            description: "Egress control for workloads in an Istio mesh: the command",
            architecture: go_name(&programs.architecture).context("architecture")?,
            entrypoint: "/usr/local/bin/warden",
            user: NOBODY,
            files: &files,
            compressed: true,
        })?;
        self.image(
            &format!("warden-linux-{}", programs.architecture),
            &image,
            &bill,
        )?;
        self.add(&format!("{name}.cdx.json"), bill.json()?, false);
        Ok(())
    }

    /// Plugin and agent as files, and the image that nodes run: these two, `nft`, and `iptables`,
    /// which main plugins run for the canary.
    fn agent(
        &mut self,
        programs: &Programs,
        crates: &[Crate],
        lock: &[debian::Locked],
        folder: &Path,
    ) -> Result<()> {
        let architecture = go_name(&programs.architecture).context("architecture")?;
        let plugin = self.program("egress-warden-cni", programs)?;
        let agent = self.program("egress-warden-cni-agent", programs)?;
        let mut files = BTreeMap::new();
        let mut packages = Vec::new();
        let own = |locked: &&debian::Locked| {
            [architecture, "all"].contains(&locked.package.architecture.as_str())
        };
        for locked in lock.iter().filter(own) {
            files.extend(debian::files(locked, folder)?);
            packages.push(locked.package.clone());
        }
        ensure!(
            !packages.is_empty(),
            "no packages for {architecture} are listed"
        );
        for program in [
            "iptables",
            "ip6tables",
            "iptables-save",
            "ip6tables-save",
            "iptables-restore",
            "ip6tables-restore",
        ] {
            files.insert(
                format!("usr/sbin/{program}"),
                Entry::Link("xtables-nft-multi".to_owned()),
            );
        }
        let bill = bill("egress-warden-cni-agent", &agent, crates, packages);
        files.insert("usr/local/bin/egress-warden-cni".to_owned(), run(plugin));
        files.insert(
            "usr/local/bin/egress-warden-cni-agent".to_owned(),
            run(agent),
        );
        let image = image::program(&Program {
            title: "egress-warden-cni-agent",
            description: "Egress control for workloads in an Istio mesh: the CNI plugin and the node agent",
            architecture,
            entrypoint: "/usr/local/bin/egress-warden-cni-agent",
            user: ROOT,
            files: &files,
            compressed: true,
        })?;
        self.image(
            &format!("egress-warden-cni-linux-{}", programs.architecture),
            &image,
            &bill,
        )?;
        let name = format!(
            "egress-warden-cni-{VERSION}-linux-{}.cdx.json",
            programs.architecture
        );
        self.add(&name, bill.json()?, false);
        Ok(())
    }

    /// A program, which is in the release as it is.
    fn program(&mut self, program: &str, programs: &Programs) -> Result<Vec<u8>> {
        let bytes = read(&programs.folder.join(program))?;
        ensure!(
            is_static(&bytes),
            "{program} asks for a loader: it is not static"
        );
        let name = format!("{program}-{VERSION}-linux-{}", programs.architecture);
        self.add(&name, bytes.clone(), true);
        Ok(bytes)
    }

    /// An image as an archive of an OCI layout, under the release's version.
    fn image(&mut self, name: &str, image: &Image, bill: &Sbom) -> Result<()> {
        let bill = image::bill_of_materials(image, bill)?;
        let files = layout::files(image, VERSION, &[bill])?;
        let bytes = layout::archive(&files)?;
        self.add(&format!("{name}-{VERSION}.oci.tar"), bytes, false);
        Ok(())
    }

    /// With the digests of everything else, as `sha256sum --check` takes them.
    fn summed(mut self) -> Self {
        let mut sums = String::new();
        for (name, file) in &self.files {
            // Writing to a String does not fail.
            let _ = writeln!(sums, "{}  {name}", sha256(&file.bytes));
        }
        self.add("SHA256SUMS", sums.into_bytes(), false);
        self
    }
}

fn run(bytes: Vec<u8>) -> Entry {
    Entry::File {
        bytes,
        executable: true,
    }
}

fn bill(name: &str, program: &[u8], crates: &[Crate], packages: Vec<Package>) -> Sbom {
    Sbom {
        name: name.to_owned(),
        digest: sha256(program),
        crates: crates.to_vec(),
        packages,
    }
}

/// Whether an ELF file names no interpreter (a program header of type `PT_INTERP`, 3).
fn is_static(bytes: &[u8]) -> bool {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        bytes.iter().rev().try_fold(0_usize, |value, byte| {
            value.checked_mul(256)?.checked_add(usize::from(*byte))
        })
    };
    // ELF64, little-endian: offset, size and number of program headers.
    let header = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    let elf = bytes.starts_with(b"\x7fELF\x02\x01");
    header().is_some_and(|(offset, size, count)| {
        elf && (0..count).all(|index| {
            let at = index
                .checked_mul(size)
                .and_then(|start| start.checked_add(offset));
            at.and_then(|at| number(at, 4))
                .is_some_and(|kind| kind != 3)
        })
    })
}

fn completions(warden: &Path, shell: &str) -> Result<Vec<u8>> {
    let script = output(Command::new(warden).args(["completions", shell]))?;
    ensure!(
        !script.is_empty(),
        "{} completions {shell} says nothing",
        warden.display()
    );
    Ok(script)
}

/// Runs a program and gives what it writes to standard output.
///
/// # Errors
/// That it does not start or fails, with what it says.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("`{program}` is needed"))?;
    ensure!(
        output.status.success(),
        "{program}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// Writes a release where nothing else stays.
fn write(folder: &Path, files: &BTreeMap<String, File>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if folder.exists() {
        ensure!(
            folder.join("SHA256SUMS").is_file() || std::fs::read_dir(folder)?.next().is_none(),
            "{} holds something else",
            folder.display()
        );
        std::fs::remove_dir_all(folder)?;
    }
    for (name, file) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, &file.bytes).with_context(|| path.display().to_string())?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
