//! The node from outside: it is started, entered and ended here.

use std::fs::{File, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{NODE, REGISTRY, data, inside, pki, tools, world};
use crate::certificates::Authority;
use crate::command;
use crate::envoy::eventually_within;

/// How long the control plane may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// How long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// As long as the value that started it, and its process.
    Ours,
    /// Until [`Node::stop`].
    UntilStopped,
}

/// A running node.
pub struct Node {
    folder: PathBuf,
    pid: String,
    /// What was started, whose standard input the node may live by.
    process: Option<Child>,
    life: Life,
}

impl Node {
    /// Starts a node with its state in this folder, which loses what it holds, and waits for the API
    /// server. `kept` is the folder of what outlives it.
    ///
    /// # Errors
    /// If one runs there already, or a part does not start; the message ends with its log.
    pub fn start(folder: &Path, kept: &Path, life: Life) -> Result<Self> {
        std::fs::create_dir_all(kept)?;
        ensure!(
            !is_running(folder)?,
            "a cluster runs already in {}",
            folder.display()
        );
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        write(folder, kept)?;
        let log = command::log_file(&folder.join("log/node.log"))?;
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork"])
            .args(["--kill-child", "--propagation", "private", "--"])
            .arg(std::env::current_exe()?)
            .env(inside::ROLE, inside::NODE)
            .env(inside::FOLDER, folder)
            .env(inside::CGROUP, cgroup(folder))
            .stdin(match life {
                Life::Ours => Stdio::piped(),
                Life::UntilStopped => Stdio::null(),
            })
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for who asked for the cluster.
            .process_group(0);
        if life == Life::UntilStopped {
            unshare.env(inside::STAYS, "1");
        }
        let mut process = unshare.spawn().context("`unshare` is needed")?;
        let mut ended = None;
        let started = folder.join(inside::STARTED);
        eventually_within(PATIENCE, "the control plane", || {
            ended = process.try_wait().ok().flatten();
            ended.is_some() || started.exists()
        })
        .with_context(|| logged(folder))?;
        ensure!(ended.is_none(), "the node ended: {}", logged(folder));
        let mut node = Self::running(folder)?.context("the node has no number")?;
        node.process = Some(process);
        node.life = life;
        Ok(node)
    }

    /// The node that runs with its state there, if there is one.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn running(folder: &Path) -> Result<Option<Self>> {
        if !is_running(folder)? {
            return Ok(None);
        }
        let pid = std::fs::read_to_string(folder.join(inside::PID))?;
        Ok(Some(Self {
            folder: folder.to_owned(),
            pid,
            process: None,
            life: Life::UntilStopped,
        }))
    }

    /// Where its state is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program in all of the node's namespaces, ready for arguments.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid])
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"])
            .arg(program);
        command
    }

    /// `kubectl` as the cluster's admin, ready for arguments.
    ///
    /// # Errors
    /// If the program is gone.
    pub fn kubectl(&self) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid, "--net", "--"])
            .arg(tools::find("kube")?)
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(self.folder.join("pki/admin.conf"));
        Ok(command)
    }

    /// Ends it, and everything in it.
    ///
    /// # Errors
    /// If it goes on.
    pub fn stop(&self) -> Result<()> {
        // An error means that it has ended already.
        let _ = command::run(Command::new("kill").args(["-KILL", &self.pid]));
        eventually_within(PATIENCE, "the node to end", || {
            is_running(&self.folder).is_ok_and(|running| !running)
        })?;
        remove_cgroups(&cgroup(&self.folder));
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.life == Life::Ours {
            // What is left ends with the process that holds its standard input.
            let _ = self.stop();
            if let Some(process) = &mut self.process {
                let _ = process.wait();
            }
        }
    }
}

/// Whether a node holds the folder's lock.
fn is_running(folder: &Path) -> Result<bool> {
    let Ok(lock) = File::open(folder.join(inside::LOCK)) else {
        return Ok(false);
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => bail!(error),
    }
}

/// The name of the node's cgroup: that of its folder.
fn cgroup(folder: &Path) -> String {
    let path = folder.to_string_lossy();
    format!("egress-warden{}", path.replace('/', "-"))
}

/// What the node finds in its folder when it starts.
fn write(folder: &Path, kept: &Path) -> Result<()> {
    std::fs::create_dir_all(folder.join("log"))?;
    let key = kept.join(pki::AUTHORITY);
    let authority = Authority::kept("cluster", &key)?;
    pki::write(&folder.join("pki"), &authority, &key)?;
    let state = folder.to_string_lossy();
    let cgroup = cgroup(folder);
    for name in [
        "containerd.toml",
        "kubelet.yaml",
        "proxy.yaml",
        "10-ptp.conflist",
    ] {
        let text = data(name, &[("STATE", &state), ("CGROUP", &cgroup)])?;
        std::fs::write(folder.join(name), text)?;
    }
    let hosts = format!(
        "127.0.0.1 localhost\n{NODE} node1\n{} {REGISTRY}\n",
        world::REGISTRY_ADDRESS
    );
    std::fs::write(folder.join("hosts"), hosts)?;
    let resolver = format!("nameserver {}\n", world::RESOLVER);
    std::fs::write(folder.join("resolv.conf"), resolver)?;
    std::fs::write(folder.join(inside::LOCK), "")?;
    Ok(())
}

fn logged(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("log/node.log")).unwrap_or_default();
    format!("{}\n{text}", folder.join("log").display())
}

/// Removes what the node's containers leave in the hierarchies of cgroups. What cannot be removed
/// is empty and stays.
fn remove_cgroups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
    let folders = hierarchies.map(|entry| entry.path().join(name));
    for folder in folders.chain([root.join(name)]) {
        for _ in 0..20 {
            if !folder.is_dir() || remove_tree(&folder).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(folder)
}
