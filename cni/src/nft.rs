//! The only way to the kernel's rules: the `nft` program, one transaction per run.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Why `nft` did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program could not be run or fed.
    #[error("cannot run `{program}`: {source}")]
    Run {
        /// The program's path.
        program: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A table, chain, set or element that was named does not exist.
    #[error("not in the kernel: {0}")]
    Missing(String),
    /// The kernel or `nft` refused the transaction; nothing of it was applied.
    #[error("refused: {0}")]
    Refused(String),
}

/// A handle to the `nft` program.
#[derive(Debug, Clone)]
pub struct Nft {
    program: PathBuf,
}

impl Nft {
    /// Uses the program at `program`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Applies `script` as one transaction. The child inherits `lock`, so that a transaction
    /// in flight keeps the lock even if this process is killed.
    ///
    /// # Errors
    /// [`NftError`]; the kernel's rules are then unchanged.
    pub fn apply(&self, script: &str, lock: &File) -> Result<(), NftError> {
        let run = |source| self.run_error(source);
        let inherited = lock.as_fd().try_clone_to_owned().map_err(run)?;
        let mut command = self.command(&["-f", "-"]);
        // Standard output carries the lock: `nft -f` prints nothing there.
        command.stdin(Stdio::piped()).stdout(Stdio::from(inherited));
        let mut child = command.spawn().map_err(run)?;
        let fed = child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
        let output = child.wait_with_output().map_err(run)?;
        if !output.status.success() {
            return Err(classify(&output.stderr));
        }
        fed.map_err(run)
    }

    /// Runs `nft` with `arguments` and returns what it prints.
    ///
    /// # Errors
    /// [`NftError`].
    pub fn read(&self, arguments: &[&str]) -> Result<String, NftError> {
        let output = self
            .command(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| self.run_error(source))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(classify(&output.stderr))
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .stderr(Stdio::piped());
        command
    }

    fn run_error(&self, source: std::io::Error) -> NftError {
        NftError::Run {
            program: self.program.display().to_string(),
            source,
        }
    }
}

fn classify(stderr: &[u8]) -> NftError {
    let text: String = String::from_utf8_lossy(stderr).chars().take(2000).collect();
    if text.contains("No such file or directory") {
        NftError::Missing(text)
    } else {
        NftError::Refused(text)
    }
}
