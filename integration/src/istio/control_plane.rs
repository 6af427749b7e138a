//! Istio's configuration generator, and the certificates that it serves beside.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Result, ensure};

use super::tools::Program;
use crate::envoy::eventually;

/// Where it serves: reachable from pods.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
/// The xDS port.
pub const XDS: u16 = 15010;
/// The port of its debug endpoints.
pub const DEBUG: u16 = 15014;

/// What it is fed with.
pub struct Feed<'a> {
    /// Where it may write.
    pub folder: &'a Path,
    /// Istio's objects.
    pub istio: &'a [PathBuf],
    /// Kubernetes objects, the Gateway API's among them.
    pub cluster: &'a [PathBuf],
    /// The labels that the policy selects by.
    pub labels: &'a str,
    /// With Istio's own metadata filters, which a stock Envoy cannot load.
    pub metadata_exchange: bool,
    /// Whether the cluster has both address families.
    pub dual_stack: bool,
}

/// A running generator, which ends when this value does.
pub struct ControlPlane {
    process: Child,
}

impl ControlPlane {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// If the program is missing, or refuses what it is fed with.
    pub fn start(feed: &Feed<'_>) -> Result<Self> {
        let mesh = feed.folder.join("mesh.yaml");
        let mut settings = "trustDomain: cluster.local\naccessLogFile: /dev/stdout\n".to_owned();
        // As an installation has it. Metrics are another of the filters of Istio's own.
        if feed.metadata_exchange {
            settings += "defaultProviders: {metrics: [prometheus]}\n";
        }
        std::fs::write(&mesh, settings)?;
        let cluster = feed.cluster.iter();
        let cluster: Vec<_> = cluster.map(|file| file.to_string_lossy()).collect();
        let mut command = Program::Istiod.command()?;
        command
            .arg("--listen")
            .arg(SocketAddrV4::new(ADDRESS, XDS).to_string())
            .arg("--debug")
            .arg(SocketAddrV4::new(ADDRESS, DEBUG).to_string())
            .arg("--mesh")
            .arg(mesh)
            .arg("--kube")
            .arg(cluster.join(","))
            .args(feed.istio)
            .env(
                "PILOT_ENABLE_METADATA_EXCHANGE",
                feed.metadata_exchange.to_string(),
            )
            .env("PILOT_MX_ADDITIONAL_LABELS", feed.labels)
            .env("PILOT_SCOPE_GATEWAY_TO_NAMESPACE", "true")
            .env("ISTIO_DUAL_STACK", feed.dual_stack.to_string());
        let log = feed.folder.join("istiod.log");
        Self::spawn(command, &log, SocketAddrV4::new(ADDRESS, XDS))
    }

    /// Starts one that only serves a workload's certificate, on the socket `NAME.sds`. Each
    /// program serves one.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn certificates(folder: &Path, name: &str, port: u16) -> Result<Self> {
        let mut command = Program::Istiod.command()?;
        let address = SocketAddrV4::new(ADDRESS, port);
        command
            .arg("--listen")
            .arg(address.to_string())
            .arg("--sds")
            .arg(folder.join(format!("{name}.sds")))
            .arg("--cert")
            .arg(folder.join(format!("{name}.pem")))
            .arg("--key")
            .arg(folder.join(format!("{name}.key")))
            .arg("--root")
            .arg(folder.join("mesh-ca.pem"));
        Self::spawn(command, &folder.join(format!("{name}.sds.log")), address)
    }

    fn spawn(
        mut command: std::process::Command,
        log: &Path,
        address: SocketAddrV4,
    ) -> Result<Self> {
        let output = crate::command::log_file(log)?;
        let process = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut plane = Self { process };
        let mut ended = None;
        eventually("the control plane to listen", || {
            ended = plane.process.try_wait().ok().flatten();
            ended.is_some() || TcpStream::connect(address).is_ok()
        })?;
        let said = std::fs::read_to_string(log).unwrap_or_default();
        ensure!(ended.is_none(), "the control plane ended:\n{said}");
        Ok(plane)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
