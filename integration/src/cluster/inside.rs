//! The node's first process: it sets up the node's namespaces, starts the parts of Kubernetes, and
//! reaps what they leave. When it ends, everything in the node ends.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::sys::wait::waitpid;

use super::{NODE as ADDRESS, tools, world};
use crate::command;
use crate::envoy::{eventually, eventually_within};

/// The variable that says which part of the node this process is.
pub const ROLE: &str = "WARDEN_CLUSTER_ROLE";
/// The variable with the node's folder.
pub const FOLDER: &str = "WARDEN_CLUSTER_FOLDER";
/// The variable with the name of the node's cgroup.
pub const CGROUP: &str = "WARDEN_CLUSTER_CGROUP";
/// Set where the node outlives the process that started it.
pub const STAYS: &str = "WARDEN_CLUSTER_STAYS";
/// The role of the node's first process.
pub const NODE: &str = "node";
/// The role of the command `warden`, in the program that has its library.
pub const WARDEN: &str = "warden";
/// The role of the outside world.
const WORLD: &str = "world";

/// The file that the node's first process keeps locked.
pub const LOCK: &str = "lock";
/// The file with its number as seen from outside.
pub const PID: &str = "pid";
/// The file that is there when everything was started.
pub const STARTED: &str = "started";

const SERVICES: &str = "10.96.0.0/12";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Runs what this process is in a node, if it is one; a program that starts nodes begins with it.
///
/// # Errors
/// If a part does not start.
pub fn run() -> Result<()> {
    let Some(role) = std::env::var_os(ROLE) else {
        return Ok(());
    };
    if role == WARDEN {
        std::process::exit(warden().into());
    }
    let folder = PathBuf::from(std::env::var_os(FOLDER).context(FOLDER)?);
    if role == WORLD {
        return world::run(&folder);
    }
    // The lock is held as long as this process lives.
    let lock = File::open(folder.join(LOCK))?;
    lock.try_lock()?;
    // /proc still belongs to the outer process namespace.
    let pid = std::fs::read_link("/proc/self")?;
    std::fs::write(folder.join(PID), pid.to_string_lossy().as_bytes())?;
    if std::env::var_os(STAYS).is_none() {
        std::thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        });
    }
    command::run(Command::new("mount").args(["-t", "proc", "proc", "/proc"]))?;
    let node = Inside { folder };
    node.set_up()?;
    node.start()?;
    std::fs::write(node.folder.join(STARTED), "")?;
    loop {
        if waitpid(None, None).is_err() {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// The arguments of an API server of the node in this folder.
pub(super) fn api_server(folder: &Path) -> Vec<String> {
    let certificate = |name: &str| {
        let at = folder.join("pki").join(name);
        (
            format!("{}.pem", at.display()),
            format!("{}.key", at.display()),
        )
    };
    let (server, server_key) = certificate("apiserver");
    let (client, client_key) = certificate("to-kubelet");
    let (accounts, accounts_key) = certificate("accounts");
    let (authority, _) = certificate("ca");
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        format!("--advertise-address={ADDRESS}"),
        format!("--tls-cert-file={server}"),
        format!("--tls-private-key-file={server_key}"),
        format!("--client-ca-file={authority}"),
        format!("--kubelet-client-certificate={client}"),
        format!("--kubelet-client-key={client_key}"),
        format!("--kubelet-certificate-authority={authority}"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-key-file={accounts}"),
        format!("--service-account-signing-key-file={accounts_key}"),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

/// Runs `warden` with this process's arguments.
fn warden() -> u8 {
    let directory = std::env::current_dir().unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let mut stdout = std::io::stdout();
    let exit = warden::run(
        std::env::args_os(),
        &mut warden::Console {
            stdin: &mut std::io::stdin(),
            stdout: &mut stdout,
            stderr: &mut std::io::stderr(),
            now: now.and_then(|since| i64::try_from(since.as_secs()).ok()),
            directory: &directory,
            color: false,
        },
    );
    exit.code()
}

struct Inside {
    folder: PathBuf,
}

impl Inside {
    /// Mounts, cgroups, network, and the outside world.
    fn set_up(&self) -> Result<()> {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--net", "--"])
            .arg(std::env::current_exe()?)
            .env(ROLE, WORLD);
        let world = self.spawn("world", unshare)?;
        let net = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let own = net("self")?;
        let pid = world.to_string();
        eventually("a network of the world's own", || {
            net(&pid).is_ok_and(|net| net != own)
        })?;
        let script = super::data("node.sh", &[]);
        // The script's own variables have no braces.
        let mut bash = Command::new("bash");
        bash.args(["-c", &script?])
            .env("STATE", &self.folder)
            .env("CGROUP", std::env::var_os(CGROUP).context(CGROUP)?)
            .env("WORLD", pid);
        command::run(&mut bash).context("the node's namespaces")
    }

    fn start(&self) -> Result<()> {
        self.part("etcd", &[format!("--data-dir={}", self.at("etcd"))])?;
        let containerd = tools::find("containerd")?;
        let mut command = Command::new(containerd);
        command.args(["--config", &self.at("containerd.toml")]);
        self.spawn("containerd", command)?;
        self.api_server()?;
        let ready = || {
            let kube = tools::find("kube").ok()?;
            let mut kubectl = Command::new(kube);
            kubectl.args(["kubectl", "--kubeconfig", &self.pki("admin.conf")]);
            kubectl.args(["get", "--raw", "/readyz"]);
            command::run(&mut kubectl).ok()
        };
        let patience = Duration::from_mins(2);
        eventually_within(patience, "the API server", || ready().is_some())?;
        self.part(
            "kube-controller-manager",
            &[
                format!("--kubeconfig={}", self.pki("manager.conf")),
                "--leader-elect=false".to_owned(),
                "--use-service-account-credentials=true".to_owned(),
                format!(
                    "--service-account-private-key-file={}",
                    self.pki("accounts.key")
                ),
                format!("--root-ca-file={}", self.pki("ca.pem")),
                format!("--cluster-signing-cert-file={}", self.pki("ca.pem")),
                format!("--cluster-signing-key-file={}", self.pki("ca.key")),
                "--allocate-node-cidrs=true".to_owned(),
                "--cluster-cidr=10.244.0.0/16".to_owned(),
                format!("--service-cluster-ip-range={SERVICES}"),
            ],
        )?;
        self.part(
            "kube-scheduler",
            &[
                format!("--kubeconfig={}", self.pki("scheduler.conf")),
                "--leader-elect=false".to_owned(),
            ],
        )?;
        self.part(
            "kubelet",
            &[
                format!("--kubeconfig={}", self.pki("kubelet.conf")),
                format!("--config={}", self.at("kubelet.yaml")),
                "--hostname-override=node1".to_owned(),
                format!("--node-ip={ADDRESS}"),
                format!("--tls-cert-file={}", self.pki("kubelet-server.pem")),
                format!("--tls-private-key-file={}", self.pki("kubelet-server.key")),
                "--root-dir=/var/lib/kubelet".to_owned(),
                // No pod comes before the node guard that does not say that it may.
                "--register-with-taints=egress-warden.io/unguarded=:NoSchedule".to_owned(),
            ],
        )?;
        self.part(
            "kube-proxy",
            &[
                format!("--config={}", self.at("proxy.yaml")),
                "--hostname-override=node1".to_owned(),
            ],
        )
    }

    fn api_server(&self) -> Result<()> {
        self.part("kube-apiserver", &api_server(&self.folder))
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn pki(&self, name: &str) -> String {
        self.at(&format!("pki/{name}"))
    }

    /// A part of Kubernetes.
    fn part(&self, name: &str, arguments: &[String]) -> Result<()> {
        let mut command = Command::new(tools::find("kube")?);
        command.arg(name).args(arguments);
        self.spawn(name, command).map(drop)
    }

    /// Starts what goes on until the node ends, with a log of its own.
    fn spawn(&self, name: &str, mut command: Command) -> Result<u32> {
        let log = command::log_file(&Path::new(&self.at("log")).join(format!("{name}.log")))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| name.to_owned())?;
        Ok(child.id())
    }
}
