//! A real registry on this machine: Debian's docker-registry, with everything in a folder of its
//! own.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Result, ensure};

use crate::certificates::Leaf;
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
        let mut more = String::new();
        if let Some(users) = users {
            let file = folder.join(format!("registry-{port}.htpasswd"));
            std::fs::write(&file, users)?;
            let file = file.display();
            writeln!(more, "auth: {{htpasswd: {{realm: test, path: {file}}}}}")?;
        }
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Self::serve(folder, address, "", &more)
    }

    /// Starts one at an address that only the sandbox has, over TLS with this certificate if there
    /// is one.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_at(folder: &Path, address: SocketAddrV4, server: Option<&Leaf>) -> Result<Self> {
        let mut tls = String::new();
        if let Some(server) = server {
            let name = format!("registry-{}", address.port());
            server.write(folder, &name)?;
            let file = folder.join(name);
            let file = file.display();
            tls = format!(", tls: {{certificate: {file}.pem, key: {file}.key}}");
        }
        Self::serve(folder, address, &tls, "")
    }

    fn serve(folder: &Path, address: SocketAddrV4, tls: &str, more: &str) -> Result<Self> {
        let port = address.port();
        let blobs = folder.join(format!("registry-{port}"));
        std::fs::create_dir_all(&blobs)?;
        let blobs = blobs.display();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {blobs}}}}}\n\
             http: {{addr: '{address}'{tls}}}\n{more}"
        );
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
