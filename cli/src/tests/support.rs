//! Runs the command in a folder of its own, without a process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::outputs;
use crate::{Console, run};

/// 2026-12-01T00:00:00Z.
pub(crate) const NOW: i64 = 1_796_083_200;

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new one with these files.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("warden-test-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    /// Writes a file, with its folders.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    /// The same, of any bytes.
    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// Takes a file away.
    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.join(name)).unwrap();
    }

    /// The names of the files in one of its folders.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join(folder)).unwrap();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(|entry| name(entry.unwrap())).collect()
    }

    /// Runs a command line in it, `warden` left out.
    pub(crate) fn warden(&self, line: &str) -> Ran {
        self.warden_with(line, "")
    }

    /// The same, with standard input.
    pub(crate) fn warden_with(&self, line: &str, stdin: &str) -> Ran {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.run_with(&args, stdin)
    }

    /// Runs a command with these arguments, which may hold spaces.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let exit = run(
            std::iter::once("warden").chain(args.iter().copied()),
            &mut Console {
                stdin: &mut stdin.as_bytes(),
                stdout: &mut stdout,
                stderr: &mut stderr,
                now: Some(NOW),
                directory: &self.0,
                color: false,
            },
        );
        let is_json = args.windows(2).any(|pair| pair == ["--output", "json"]);
        if is_json && !stdout.is_empty() {
            let written = serde_json::from_slice(&stdout).unwrap();
            outputs::is_as_documented(args.first().unwrap(), &written);
        }
        Ran {
            exit: exit.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

/// Notes which files `kubectl apply` is given, and that they are there.
const KUBECTL: &str = include_str!("../../tests/kubectl.sh");

impl Folder {
    /// Runs lines of a page in a shell, where `kubectl` only notes what it would apply and `warden`
    /// does nothing. Gives the files, in their order.
    pub(crate) fn applied_by(&self, lines: &str) -> Vec<String> {
        use std::os::unix::fs::PermissionsExt as _;
        for (name, text) in [("kubectl", KUBECTL), ("warden", "#!/bin/sh\n")] {
            self.write(&format!("bin/{name}"), text);
            let program = self.0.join("bin").join(name);
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(program, executable).unwrap();
        }
        self.write("applied", "");
        let path = std::env::var("PATH").unwrap();
        let ran = std::process::Command::new("sh")
            .args(["-eu", "-c", lines])
            .current_dir(&self.0)
            .env("PATH", format!("{}:{path}", self.0.join("bin").display()))
            .env("APPLIED", self.0.join("applied"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{lines}\n{ran:?}");
        self.read("applied").lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code.
    pub(crate) exit: u8,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Ran {
    /// The exit code is one of the table's, and whatever could not be done is said.
    pub(crate) fn is_documented(&self) -> bool {
        let said = !(self.stdout.is_empty() && self.stderr.is_empty());
        crate::Exit::ALL.iter().any(|exit| exit.code() == self.exit)
            && (said || !matches!(self.exit, 1 | 3 | 4))
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The reference policy.
pub(crate) const REFERENCE: &str = include_str!("../../../cases/policies/reference.yaml");

/// Install settings of two policies, the team's for one namespace.
pub(crate) const INSTALL: &str = "apiVersion: egress-warden.io/v1alpha1
kind: EgressGateway
spec:
  istio: {version: \"1.32\"}
  gateway: {namespace: egress, service: egress, serviceAccount: egress, selector: {app: egress}}
  module: {url: \"oci://registry.example/egress-warden:1\", sha256: \"0000000000000000000000000000000000000000000000000000000000000000\"}
  workloads: {namespaces: [app1-ns]}
  cluster: {networks: {pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: []}}
  policies:
  - {name: seed}
  - {name: team, namespaces: [app1-ns]}
";

/// A module as small as one gets: memory, the exported place, a data segment.
pub(crate) const MODULE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\x02\x06\x07\x01\x7f\0A\x80\x08\x0b\x07\x1c\x01\x18warden_embedded_policies\x03\0\x0b\x07\x01\0A\x10\x0b\x01x";

/// What decided, of a decision in JSON: `POLICY/TIER/RULE`, as far as there are such; else `-`.
pub(crate) fn rule_path(json: &serde_json::Value) -> String {
    let parts = ["policy", "tier", "rule"].map(|part| json[part].as_str());
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join("/")
    }
}
