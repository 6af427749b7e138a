//! A real registry on this machine: Debian's docker-registry, with everything in a folder of its
//! own.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Result, ensure};

use crate::envoy::eventually;
use crate::istio::tools::Program;

/// A running registry, which ends when this value does.
pub struct Registry {
    process: Child,
    address: SocketAddrV4,
}

impl Registry {
    /// Starts one on a loopback port. With `users`, the text of an htpasswd file, it asks who is
    /// there.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(folder: &Path, port: u16, users: Option<&str>) -> Result<Self> {
        Self::start_at(folder, Ipv4Addr::LOCALHOST, port, users)
    }

    /// The same at an address that only the sandbox has.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_at(
        folder: &Path,
        address: Ipv4Addr,
        port: u16,
        users: Option<&str>,
    ) -> Result<Self> {
        let address = SocketAddrV4::new(address, port);
        let blobs = folder.join(format!("registry-{port}"));
        std::fs::create_dir_all(&blobs)?;
        let mut config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            blobs.display()
        );
        if let Some(users) = users {
            let file = folder.join(format!("registry-{port}.htpasswd"));
            std::fs::write(&file, users)?;
            let file = file.display();
            writeln!(config, "auth: {{htpasswd: {{realm: test, path: {file}}}}}")?;
        }
        let file = folder.join(format!("registry-{port}.yaml"));
        std::fs::write(&file, config)?;
        let log = folder.join(format!("registry-{port}.log"));
        let output = File::create(&log)?;
        let process = Program::Registry
            .command()?
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut registry = Self { process, address };
        let mut ended = None;
        eventually("the registry to listen", || {
            ended = registry.process.try_wait().ok().flatten();
            ended.is_some() || TcpStream::connect(address).is_ok()
        })?;
        let said = std::fs::read_to_string(log).unwrap_or_default();
        ensure!(ended.is_none(), "the registry ended:\n{said}");
        Ok(registry)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
