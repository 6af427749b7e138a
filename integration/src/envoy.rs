//! Real Envoy processes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{command, workspace};

/// How long anything may take before a test gives up. Generous: it is never waited out when
/// things work.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The port of every admin listener.
pub const ADMIN_PORT: u16 = 15000;

/// Polls until `done`, or fails with `what`.
///
/// # Errors
/// If it is not done within [`PATIENCE`].
pub fn eventually(what: &str, done: impl FnMut() -> bool) -> Result<()> {
    eventually_within(PATIENCE, what, done)
}

/// As [`eventually`], with a time of one's own.
///
/// # Errors
/// If it is not done in time.
pub fn eventually_within(time: Duration, what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + time;
    while !done() {
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The Envoy to use: the one that `ENVOY` names, else the one that `cargo xtask envoy` installed.
///
/// # Errors
/// If there is none; the message is the line that installs it.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("ENVOY") {
        let path = PathBuf::from(named);
        ensure!(
            path.is_file(),
            "ENVOY names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let path = workspace::target().join("envoy/envoy");
    ensure!(
        path.is_file(),
        "no Envoy; install it with: cargo xtask envoy"
    );
    Ok(path)
}

/// Checks a bootstrap without running it.
///
/// # Errors
/// What Envoy says is wrong with it.
pub fn validate(config: &Path) -> Result<()> {
    command::run(
        Command::new(binary()?)
            .args([
                "--mode",
                "validate",
                "--use-dynamic-base-id",
                "-l",
                "error",
                "-c",
            ])
            .arg(config),
    )
}

/// A running Envoy, which ends when this value does.
pub struct Envoy {
    process: Child,
    admin: Ipv4Addr,
    log: PathBuf,
}

impl Envoy {
    /// Starts Envoy with a bootstrap whose admin listener is on port 15000 of `admin`. Everything
    /// it prints goes to `log`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(config: &Path, admin: Ipv4Addr, log: PathBuf) -> Result<Self> {
        Self::start_with(config, admin, log, 1)
    }

    /// The same with so many workers.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_with(config: &Path, admin: Ipv4Addr, log: PathBuf, workers: u8) -> Result<Self> {
        Self::start_at_level(config, admin, log, workers, "info")
    }

    /// The same with a log level.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_at_level(
        config: &Path,
        admin: Ipv4Addr,
        log: PathBuf,
        workers: u8,
        level: &str,
    ) -> Result<Self> {
        let output = command::log_file(&log)?;
        let process = Command::new(binary()?)
            .args([
                "--use-dynamic-base-id",
                "--concurrency",
                &workers.to_string(),
                // Access logs are read while it runs.
                "--file-flush-interval-msec",
                "50",
                "-l",
                level,
                "-c",
            ])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("Envoy did not start")?;
        Ok(Self {
            process,
            admin,
            log,
        })
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// If it is not within twice [`PATIENCE`]; the message ends with what it printed last.
    pub fn ready(&mut self) -> Result<()> {
        // Every place of the module that refuses its first configuration compiles it anew.
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            if self
                .get("/ready")
                .is_ok_and(|answer| answer.contains("LIVE"))
            {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("Envoy ended with {status}:\n{}", self.last_lines());
            }
            ensure!(
                Instant::now() < deadline,
                "Envoy is not ready:\n{}",
                self.last_lines()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the admin interface.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect((self.admin, ADMIN_PORT))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The value of a counter or gauge; 0 if there is none yet.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let answer = self.get("/stats?usedonly")?;
        let value = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map_or(Ok(0), str::parse)?;
        Ok(value)
    }

    /// Waits until bytes wait in a stream of HTTP/2 and stay there: a window is full.
    ///
    /// # Errors
    /// If that does not happen.
    pub fn stuck(&self) -> Result<()> {
        let mut times = 0;
        eventually("a window to be full", || {
            let waits = self
                .stat("http2.pending_send_bytes")
                .is_ok_and(|bytes| bytes > 0);
            times = if waits { times + 1 } else { 0 };
            times == 3
        })
    }

    /// How many files and connections it has open.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn descriptors(&self) -> Result<u64> {
        // In a sandbox `/proc` is still that of the world outside, where the process has another
        // number: one is mounted for the question.
        let script = format!(
            "mount -t proc proc /proc && ls /proc/{}/fd | wc -l",
            self.process.id()
        );
        let mut count = Command::new("unshare");
        count.args(["--mount", "sh", "-euc", &script]);
        Ok(command::text(&mut count)?.trim().parse()?)
    }

    /// Everything it has printed so far.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    fn last_lines(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
