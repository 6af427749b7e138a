//! The images of the cluster, made by the project's own writer of images. The node agent's has what
//! the release's has, of this machine's own programs; one for everything else, under several names,
//! has Istio's parts, the stock Envoy, CoreDNS, and the tools by which tests try things.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use egress_package::image::{self, Entry, Program};
use egress_package::{layout, sha256};

use super::node::Node;
use super::{pki, tools};
use crate::certificates::Authority;
use crate::{command, envoy, workspace};

/// Where the gateway's image has the fixture that reads peer metadata.
pub const FIXTURE: &str = "/etc/istio/fixture_peer_metadata.wasm";
/// The version under which Istio's images go.
pub const ISTIO_VERSION: &str = "1.32.0";

/// What busybox is called for.
const APPLETS: [&str; 10] = [
    "sh", "sleep", "ls", "cat", "env", "id", "httpd", "nslookup", "mkdir", "ip",
];

/// An image before it is made.
struct Plan {
    /// Its name without a tag, and the tag.
    name: (&'static str, &'static str),
    /// Further names.
    more: Vec<String>,
    entrypoint: &'static str,
    files: Files,
}

/// What an image holds: a file of this machine, a text or a link at each path.
#[derive(Default)]
struct Files(BTreeMap<String, Source>);

enum Source {
    File(PathBuf),
    Text(String),
    Link(&'static str),
}

/// An image as an archive on disk.
pub struct Archive {
    path: PathBuf,
    name: (&'static str, &'static str),
    more: Vec<String>,
}

/// Makes all images that are not in the folder yet.
///
/// # Errors
/// If a program is missing.
pub fn all(kept: &Path) -> Result<Vec<Archive>> {
    let folder = kept.join("images");
    std::fs::create_dir_all(&folder)?;
    let plans = [pause()?, agent()?, bench(kept)?];
    plans.into_iter().map(|plan| plan.made(&folder)).collect()
}

impl Archive {
    /// Puts it into the node.
    ///
    /// # Errors
    /// If containerd refuses it.
    pub fn import(&self, node: &Node) -> Result<()> {
        let (name, tag) = self.name;
        let ctr = || {
            let mut ctr = node.command("ctr");
            ctr.args(["--namespace", "k8s.io", "images"]);
            ctr
        };
        command::run(ctr().args(["import", "--base-name", name]).arg(&self.path))?;
        for other in &self.more {
            command::run(ctr().args(["tag", &format!("{name}:{tag}"), other]))?;
        }
        Ok(())
    }
}

fn pause() -> Result<Plan> {
    let mut files = Files::default();
    files.busybox()?;
    // It ends when it is asked to, as Kubernetes' own does.
    let script = "#!/bin/sh\ntrap 'exit 0' TERM INT\nsleep 1000000000 &\nwait\n";
    files.text("pause", script);
    Ok(Plan {
        name: ("bench.example/pause", "1"),
        // What the node guard's way out ends with.
        more: vec!["registry.k8s.io/pause:3.10".to_owned()],
        entrypoint: "/pause",
        files,
    })
}

/// As `cargo xtask dist` puts it together, of static programs for development and of this machine's
/// `nft` and `iptables`.
fn agent() -> Result<Plan> {
    let mut files = Files::default();
    let folder = workspace::target().join("x86_64-unknown-linux-musl/debug");
    for program in ["egress-warden-cni", "egress-warden-cni-agent"] {
        let path = folder.join(program);
        ensure!(
            path.is_file(),
            "no {}; `cargo xtask` builds it",
            path.display()
        );
        files.file(&format!("usr/local/bin/{program}"), &path);
    }
    files.filters()?;
    Ok(Plan {
        name: ("docker.io/egress-warden/cni", env!("CARGO_PKG_VERSION")),
        more: Vec::new(),
        entrypoint: "/usr/local/bin/egress-warden-cni-agent",
        files,
    })
}

fn bench(kept: &Path) -> Result<Plan> {
    let mut files = Files::default();
    files.busybox()?;
    files.filters()?;
    for program in ["bash", "curl"] {
        files.program(&tools::find(program)?)?;
    }
    files.file("usr/local/bin/coredns", &tools::find("coredns")?);
    files.file("usr/local/bin/istio", &tools::find("istio")?);
    for part in ["pilot-agent", "pilot-discovery", "install-cni"] {
        files.link(&format!("usr/local/bin/{part}"), "istio");
    }
    files.file("opt/cni/bin/istio-cni", &tools::find("istio-cni")?);
    let envoy = envoy::binary()?;
    files.file("usr/local/bin/envoy", &envoy);
    files.libraries(&envoy)?;
    let template = super::data_file("envoy_bootstrap.json");
    files.file("var/lib/istio/envoy/envoy_bootstrap_tmpl.json", &template);
    let fixture = workspace::wasm("fixture_peer_metadata");
    workspace::built(&fixture)?;
    files.file(FIXTURE.trim_start_matches('/'), &fixture);
    let authority = Authority::kept("cluster", &kept.join(pki::AUTHORITY))?;
    let trusted = kept.join("trusted.pem");
    if !trusted.is_file() {
        std::fs::write(&trusted, authority.certificate())?;
    }
    files.file("etc/ssl/certs/ca-certificates.crt", &trusted);
    files.text("etc/nsswitch.conf", "hosts: files dns\n");
    files.text(
        "etc/passwd",
        "root:x:0:0:root:/:/bin/sh\nistio-proxy:x:1337:1337::/:/bin/sh\n",
    );
    files.text("tmp/.here", "");
    let istio = |part: &str| format!("docker.io/istio/{part}:{ISTIO_VERSION}");
    Ok(Plan {
        name: ("bench.example/bench", "1"),
        more: ["pilot", "proxyv2", "install-cni"].map(istio).into(),
        entrypoint: "/usr/local/bin/pilot-agent",
        files,
    })
}

impl Files {
    fn file(&mut self, at: &str, path: &Path) {
        self.0.insert(at.to_owned(), Source::File(path.to_owned()));
    }

    fn text(&mut self, at: &str, text: &str) {
        self.0.insert(at.to_owned(), Source::Text(text.to_owned()));
    }

    fn link(&mut self, at: &str, to: &'static str) {
        self.0.insert(at.to_owned(), Source::Link(to));
    }

    /// A program of this machine at its own path, with its libraries.
    fn program(&mut self, path: &Path) -> Result<()> {
        self.put(path);
        self.libraries(path)
    }

    fn put(&mut self, path: &Path) {
        let at = path.to_string_lossy().trim_start_matches('/').to_owned();
        self.0.insert(at, Source::File(path.to_owned()));
    }

    fn libraries(&mut self, path: &Path) -> Result<()> {
        let listed = command::text(Command::new("ldd").arg(path))?;
        let paths = listed
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        for library in paths.filter(|word| !word.ends_with(':')) {
            self.put(Path::new(library));
        }
        Ok(())
    }

    fn busybox(&mut self) -> Result<()> {
        self.file("bin/busybox", &tools::find("busybox")?);
        for applet in APPLETS {
            self.link(&format!("bin/{applet}"), "busybox");
        }
        Ok(())
    }

    /// `nft` and `iptables` of this machine.
    fn filters(&mut self) -> Result<()> {
        self.program(&tools::find("nft")?)?;
        let tables = tools::find("xtables-nft-multi")?;
        self.program(&tables)?;
        let folder = tables.parent().context("no folder")?;
        let folder = folder.to_string_lossy().trim_start_matches('/').to_owned();
        for program in ["iptables", "ip6tables"] {
            for suffix in ["", "-save", "-restore"] {
                self.link(&format!("{folder}/{program}{suffix}"), "xtables-nft-multi");
            }
        }
        let extensions = Path::new("/usr/lib/x86_64-linux-gnu/xtables");
        for entry in std::fs::read_dir(extensions).context("iptables' extensions")? {
            self.put(&entry?.path());
        }
        Ok(())
    }

    /// What changes when anything in it does.
    fn key(&self) -> Result<String> {
        let mut text = String::new();
        for (at, source) in &self.0 {
            let what = match source {
                Source::File(path) => {
                    let about =
                        std::fs::metadata(path).with_context(|| path.display().to_string())?;
                    format!("{} {:?}", about.len(), about.modified()?)
                }
                Source::Text(text) => text.clone(),
                Source::Link(to) => format!("-> {to}"),
            };
            // Writing to a String does not fail.
            let _ = writeln!(text, "{at} {what}");
        }
        Ok(sha256(text.as_bytes()).chars().take(16).collect())
    }

    fn read(&self) -> Result<BTreeMap<String, Entry>> {
        let entries = self.0.iter().map(|(at, source)| {
            let entry = match source {
                Source::File(path) => Entry::File {
                    bytes: std::fs::read(path).with_context(|| path.display().to_string())?,
                    executable: true,
                },
                Source::Text(text) => Entry::File {
                    bytes: text.clone().into_bytes(),
                    executable: true,
                },
                Source::Link(to) => Entry::Link((*to).to_owned()),
            };
            Ok((at.clone(), entry))
        });
        entries.collect()
    }
}

impl Plan {
    fn made(self, folder: &Path) -> Result<Archive> {
        let (name, tag) = self.name;
        let short = name.rsplit('/').next().unwrap_or(name);
        let path = folder.join(format!("{short}-{}.tar", self.files.key()?));
        if !path.is_file() {
            let files = self.files.read()?;
            let made = image::program(&Program {
                title: short,
                description: "An image of the test cluster",
                architecture: "amd64",
                entrypoint: self.entrypoint,
                user: "0:0",
                files: &files,
                compressed: false,
            })?;
            for entry in std::fs::read_dir(folder)? {
                let old = entry?.path();
                if old.to_string_lossy().contains(&format!("/{short}-")) {
                    std::fs::remove_file(old)?;
                }
            }
            let part = folder.join(format!("{short}.part"));
            std::fs::write(&part, layout::archive(&layout::files(&made, tag, &[])?)?)?;
            std::fs::rename(part, &path)?;
        }
        Ok(Archive {
            path,
            name: self.name,
            more: self.more,
        })
    }
}
