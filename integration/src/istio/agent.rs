//! Istio's agent beside a gateway: it stands between the control plane and Envoy, fetches modules
//! from registries, checks their digests, and hands Envoy a local file.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::GATEWAY;
use super::control_plane::{ADDRESS, XDS};
use super::tools::Program;
use crate::envoy::eventually;
use crate::{command, sandbox};

/// The agent's interface for Envoy, below the folder where it runs.
const SOCKET: &str = "etc/istio/proxy/XDS";

/// A running agent, which ends when this value does.
pub struct Agent {
    process: Child,
    folder: PathBuf,
}

/// The proxy that an agent stands beside.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// `router` or `sidecar`.
    pub role: &'static str,
    /// Its pod's name.
    pub pod: String,
    /// Its pod's namespace.
    pub namespace: String,
    /// Its pod's address.
    pub address: Ipv4Addr,
    /// Whether the agent answers the pod's questions for names, on [`DNS_PROXY`].
    pub dns_capture: bool,
}

/// The port on the pod's loopback where an agent answers questions for names (`DNS_PROXY_ADDR`).
pub const DNS_PROXY: u16 = 15053;

impl Agent {
    /// Starts it beside a gateway whose Envoy is somebody else's to start.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(folder: &Path) -> Result<Self> {
        let gateway = Proxy {
            role: "router",
            pod: "egress-0".to_owned(),
            namespace: "istio-egress".to_owned(),
            address: GATEWAY,
            dns_capture: false,
        };
        Self::beside(&gateway, &folder.join("agent"))
    }

    /// The same beside any proxy, in the network where this is called.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn beside(proxy: &Proxy, folder: &Path) -> Result<Self> {
        ensure!(sandbox::inside(), "not in a sandbox");
        let folder = folder.to_owned();
        std::fs::create_dir_all(folder.join("etc/istio/proxy"))?;
        own_data()?;
        let log = command::log_file(&folder.join("agent.log"))?;
        let process = Program::PilotAgent
            .command()?
            .args(["proxy", proxy.role, "--log_output_level=default:info,wasm:debug"])
            .current_dir(&folder)
            .env("DISABLE_ENVOY", "true")
            // The mesh's certificates come from elsewhere in this bench.
            .env("FILE_MOUNTED_CERTS", "true")
            // It would ask the metadata addresses of clouds where it runs.
            .env("CLOUD_PLATFORM", "none")
            .env("POD_NAME", &proxy.pod)
            .env("POD_NAMESPACE", &proxy.namespace)
            .env("INSTANCE_IP", proxy.address.to_string())
            .env("ISTIO_META_DNS_CAPTURE", proxy.dns_capture.to_string())
            .env(
                "PROXY_CONFIG",
                format!(
                    "{{\"discoveryAddress\": \"{ADDRESS}:{XDS}\", \"controlPlaneAuthPolicy\": \"NONE\", \"statusPort\": 15020}}"
                ),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut agent = Self { process, folder };
        let mut ended = None;
        let socket = agent.socket();
        eventually("the agent's socket", || {
            ended = agent.process.try_wait().ok().flatten();
            ended.is_some() || socket.exists()
        })
        .map_err(|error| error.context(agent.log()))?;
        ensure!(ended.is_none(), "the agent ended:\n{}", agent.log());
        Ok(agent)
    }

    /// Where Envoy asks it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
    }
}

/// The agent keeps modules in a folder whose place is fixed in it. Inside the sandbox that place
/// is an empty one of our own.
fn own_data() -> Result<()> {
    const DATA: &str = "/var/lib/istio/data";
    // Agents of several proxies share it.
    if std::fs::read_to_string("/proc/self/mounts")?.contains(" /var/lib tmpfs ") {
        return Ok(std::fs::create_dir_all(DATA)?);
    }
    command::run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/var/lib"]))
        .context("no folder of our own for the agent")?;
    std::fs::create_dir_all(DATA)?;
    Ok(())
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
