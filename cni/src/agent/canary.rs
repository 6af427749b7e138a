//! The proof that this node's kernel counts what it must drop.
//!
//! Rules that are loaded are not yet rules that packets meet: an eBPF datapath that redirects
//! from one device to another skips netfilter, every ADD succeeds, and nothing is guarded. So
//! the agent makes a network namespace, attaches it through the node's own main plugin and
//! this plugin, as the runtime would, sends a packet to an address that documentation reserves
//! (TEST-NET-2, RFC 5737), and looks for it in the counter of that attachment.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::install::{InstallError, NodePaths, PLUGIN};
use crate::attachment::AttachmentId;
use crate::guard::{Guard, GuardError};
use crate::rules::{Counted, ElementKey};

/// The canary's namespace in metrics and logs; it must not be exempt.
pub const NAMESPACE: &str = "egress-warden-canary";

const CONTAINER: &str = "egress-warden-canary";
const IFNAME: &str = "eth0";
const DEADLINE: Duration = Duration::from_secs(20);

/// Why the node guard is not proven.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// The chain could not be read.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Records or counters could not be read.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A network namespace could not be made.
    #[error("cannot make a network namespace: {0}")]
    Namespace(std::io::Error),
    /// A plugin of the chain failed.
    #[error("`{plugin}` {verb}: {answer}")]
    Plugin {
        /// The plugin's type.
        plugin: String,
        /// The verb.
        verb: &'static str,
        /// What it answered.
        answer: String,
    },
    /// The forbidden packet was not counted: this datapath does not pass netfilter's hooks.
    #[error("the forbidden packet was not counted: pods on this node are not guarded")]
    NotCounted,
}

/// A thread in a network namespace of its own, which exists as long as the thread.
struct Sandbox {
    path: String,
    orders: Sender<SocketAddr>,
    thread: JoinHandle<()>,
}

impl Sandbox {
    fn new() -> Result<Self, CanaryError> {
        let (report, made) = channel();
        let (orders, todo) = channel();
        let thread = std::thread::spawn(move || live(&report, &todo));
        let made: std::io::Result<String> = made
            .recv()
            .map_err(|error| CanaryError::Namespace(std::io::Error::other(error)))?;
        Ok(Self {
            path: made.map_err(CanaryError::Namespace)?,
            orders,
            thread,
        })
    }

    fn end(self) {
        drop(self.orders);
        // The thread has nothing to report; that it is gone is what matters.
        let _ = self.thread.join();
    }
}

fn live(report: &Sender<std::io::Result<String>>, todo: &Receiver<SocketAddr>) {
    let made = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(std::io::Error::from)
        .and_then(|()| {
            let own = fs::read_link("/proc/thread-self")?;
            Ok(Path::new("/proc")
                .join(own)
                .join("ns/net")
                .display()
                .to_string())
        });
    if report.send(made).is_err() {
        return;
    }
    while let Ok(to) = todo.recv() {
        let any: IpAddr = if to.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        // Whether it left shows in the counter; an error here shows as its absence.
        let _ = UdpSocket::bind((any, 0))
            .and_then(|socket| socket.send_to(b"egress-warden canary", to));
    }
}

/// A canary that is ready to be sent.
pub struct Canary<'a> {
    paths: &'a NodePaths,
    guard: &'a Guard,
    main: Value,
    own: Value,
}

impl<'a> Canary<'a> {
    /// Reads the chain in use.
    ///
    /// # Errors
    /// [`CanaryError::Install`] if there is none.
    pub fn new(paths: &'a NodePaths, guard: &'a Guard) -> Result<Self, CanaryError> {
        let path = paths.active_list()?;
        let unsuitable = |problem: String| InstallError::Unsuitable {
            path: path.display().to_string(),
            problem,
        };
        let text = fs::read(&path).map_err(|error| unsuitable(error.to_string()))?;
        let list: Value =
            serde_json::from_slice(&text).map_err(|error| unsuitable(error.to_string()))?;
        let plugin = |wanted: &dyn Fn(&str) -> bool| -> Result<Value, InstallError> {
            let plugins = list
                .get("plugins")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let mut found = plugins
                .filter_map(Value::as_object)
                .find(|plugin| {
                    plugin
                        .get("type")
                        .and_then(Value::as_str)
                        .is_some_and(wanted)
                })
                .cloned()
                .ok_or_else(|| unsuitable("the chain is not complete".to_owned()))?;
            let name = list
                .get("name")
                .ok_or_else(|| unsuitable("has no `name`".to_owned()))?;
            found.insert("name".to_owned(), name.clone());
            // A list without a version is of the first one.
            if let Some(version) = list.get("cniVersion") {
                found.insert("cniVersion".to_owned(), version.clone());
            }
            Ok(Value::Object(found))
        };
        Ok(Self {
            paths,
            guard,
            main: plugin(&|name| name != PLUGIN)?,
            own: plugin(&|name| name == PLUGIN)?,
        })
    }

    /// Sends the canary and looks for it. Whatever happens, it is detached again.
    ///
    /// # Errors
    /// [`CanaryError`].
    pub fn prove(self) -> Result<(), CanaryError> {
        let sandbox = Sandbox::new()?;
        let outcome = self.attach(&sandbox).and_then(|()| self.fly(&sandbox));
        let own = self.call(&sandbox, &self.own, "DEL");
        let main = self.call(&sandbox, &self.main, "DEL");
        sandbox.end();
        outcome?;
        own.and(main).map(drop)
    }

    fn attach(&self, sandbox: &Sandbox) -> Result<(), CanaryError> {
        let result = self.call(sandbox, &self.main, "ADD")?;
        let mut own = self.own.clone();
        if let Some(own) = own.as_object_mut() {
            own.insert("prevResult".to_owned(), result);
        }
        self.call(sandbox, &own, "ADD").map(drop)
    }

    fn fly(&self, sandbox: &Sandbox) -> Result<(), CanaryError> {
        let id = AttachmentId {
            container_id: CONTAINER.to_owned(),
            ifname: IFNAME.to_owned(),
        };
        let record = self
            .guard
            .store()
            .get(&id)
            .map_err(GuardError::from)?
            .ok_or(CanaryError::NotCounted)?;
        let addresses = record.attachment.addresses;
        let forbidden = if addresses.iter().any(IpAddr::is_ipv4) {
            "198.51.100.254"
        } else {
            "2001:db8::254"
        };
        let forbidden: IpAddr = forbidden.parse().map_err(|_| CanaryError::NotCounted)?;
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if sandbox.orders.send(SocketAddr::new(forbidden, 9)).is_err() {
                break;
            }
            let counted = self
                .guard
                .counted_in_kernel(Counted::Refused)
                .map_err(GuardError::from)?;
            // Only the forward hook counts by address: the source check counts by link.
            if addresses.iter().any(|address| {
                counted
                    .get(&ElementKey::Address(*address))
                    .is_some_and(|count| *count > 0)
            }) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(CanaryError::NotCounted)
    }

    /// One call of a plugin; null if it answers nothing.
    fn call(
        &self,
        sandbox: &Sandbox,
        config: &Value,
        verb: &'static str,
    ) -> Result<Value, CanaryError> {
        let plugin = config
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let failed = |answer: String| CanaryError::Plugin {
            plugin: plugin.clone(),
            verb,
            answer,
        };
        let mut child = Command::new(self.paths.bin_dir.join(&plugin))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", CONTAINER)
            .env("CNI_IFNAME", IFNAME)
            .env("CNI_NETNS", &sandbox.path)
            .env("CNI_PATH", &self.paths.bin_dir)
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME=canary"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(config.to_string().as_bytes())
                .map_err(|error| failed(error.to_string()))?;
        }
        let output = child
            .wait_with_output()
            .map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            return Err(failed(text));
        }
        // DEL answers nothing.
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| failed(format!("{error}: {text}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nft::Nft;
    use crate::store::Store;

    /// A node without rules, whose configurations and plugins lie in one folder.
    fn node() -> (tempfile::TempDir, Guard, NodePaths) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("state")).unwrap();
        let guard = Guard::new(store, Nft::new("nft".into()));
        let paths = NodePaths {
            net_dir: root.path().to_path_buf(),
            bin_dir: root.path().to_path_buf(),
            plugin_source: root.path().join("none"),
            entry: json!({}),
        };
        (root, guard, paths)
    }

    /// What is asked of a plugin says the list's name and version, and only what the list has.
    #[test]
    fn a_chain_is_read_as_the_runtime_reads_it() {
        let (root, guard, paths) = node();
        let read = |list: Value| {
            fs::write(root.path().join("10-pods.conflist"), list.to_string()).unwrap();
            Canary::new(&paths, &guard).map(|canary| (canary.main, canary.own))
        };
        let plugins = json!([{"type": "ptp"}, {"type": PLUGIN}]);
        let (main, own) = read(json!({"name": "pods", "plugins": plugins})).unwrap();
        assert_eq!(main, json!({"type": "ptp", "name": "pods"}));
        assert_eq!(own, json!({"type": PLUGIN, "name": "pods"}));
        let versioned = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins});
        assert_eq!(read(versioned).unwrap().0["cniVersion"], "1.0.0");
        let nameless = json!({"cniVersion": "1.0.0", "plugins": plugins});
        let error = read(nameless).unwrap_err().to_string();
        assert!(error.contains("has no `name`"), "{error}");
    }

    /// An answer that is no result must not pass for an empty one: the plugin after it would be
    /// told nothing of the interface.
    #[test]
    fn an_answer_that_does_not_decode_is_a_failure() {
        use std::os::unix::fs::PermissionsExt as _;
        let (root, guard, paths) = node();
        let plugins = json!([{"type": "main"}, {"type": PLUGIN}]);
        let list = json!({"name": "pods", "plugins": plugins}).to_string();
        fs::write(root.path().join("10-pods.conflist"), list).unwrap();
        let canary = Canary::new(&paths, &guard).unwrap();
        let sandbox = Sandbox {
            path: String::new(),
            orders: channel().0,
            thread: std::thread::spawn(|| {}),
        };
        for (script, wanted) in [
            (
                "cat >/dev/null; echo '{\"ips\": []}'",
                Ok(json!({"ips": []})),
            ),
            ("cat >/dev/null", Ok(Value::Null)),
            ("cat >/dev/null; echo attached", Err(": attached")),
            ("cat >/dev/null; echo refused; exit 1", Err(": refused")),
        ] {
            let path = root.path().join("main");
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            let answer = canary.call(&sandbox, &canary.main, "ADD");
            match (answer, wanted) {
                (Ok(answer), Ok(wanted)) => assert_eq!(answer, wanted, "{script}"),
                (Err(error), Err(wanted)) => {
                    assert!(error.to_string().ends_with(wanted), "{error}");
                }
                (answer, wanted) => panic!("{script}: {answer:?}, not {wanted:?}"),
            }
        }
        sandbox.end();
    }
}
