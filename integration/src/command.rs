//! Programs: where they are, those that run to their end and have to succeed, and the log files of
//! those that go on.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use anyhow::{Context, Result, ensure};

/// Where a program is: in the folder that the variable names, else on `PATH`.
#[must_use]
pub fn find(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = named.into_iter().chain(std::env::split_paths(&path));
    let mut candidates = folders.map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// Whether a variable is set, and not to 0.
#[must_use]
pub fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value != "0")
}

/// Runs a program.
///
/// # Errors
/// That it does not start, or that it fails, with everything that it says.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a program and ends as it does; with 1 where a signal ended it.
///
/// # Errors
/// That it does not start.
pub fn exit_code(command: &mut Command) -> Result<ExitCode> {
    let code = command.status()?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// An empty file for what a program writes to standard output and standard error. It is opened for
/// appending: Envoy opens `/dev/stdout` once more for its access log, and what another handle wrote at
/// an offset of its own would go over those lines.
///
/// # Errors
/// If it cannot be made.
pub fn log_file(path: &Path) -> Result<File> {
    File::create(path)?;
    Ok(OpenOptions::new().append(true).open(path)?)
}

/// Runs a program and gives what it writes to standard output.
///
/// # Errors
/// As [`run`], or that it is no text.
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8(output(command)?.stdout)?)
}

/// Runs a program and gives everything that it writes, standard output first.
///
/// # Errors
/// As [`run`].
pub fn said(command: &mut Command) -> Result<String> {
    Ok(whole(&output(command)?))
}

/// Runs a test program for one test.
///
/// # Errors
/// As [`run`], or that the test was not run: a name that matches nothing also ends with success.
pub fn one_test(command: &mut Command) -> Result<Output> {
    let output = output(command)?;
    let counted = String::from_utf8_lossy(&output.stdout).contains("test result: ok. 1 passed");
    ensure!(counted, "{}", whole(&output));
    Ok(output)
}

fn output(command: &mut Command) -> Result<Output> {
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("`{program}` is needed"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        whole(&output)
    );
    Ok(output)
}

fn whole(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_says() {
        let both = "echo out; echo err >&2";
        assert_eq!(text(&mut sh(both)).unwrap(), "out\n");
        assert_eq!(said(&mut sh(both)).unwrap(), "out\nerr\n");
        let error = run(&mut sh("echo out; echo err >&2; exit 3")).unwrap_err();
        let error = error.to_string();
        for part in ["\"sh\" \"-c\"", "exit status: 3", "out\nerr\n"] {
            assert!(error.contains(part), "{error}");
        }
        let missing = run(&mut Command::new("/nowhere/program")).unwrap_err();
        assert_eq!(missing.to_string(), "`/nowhere/program` is needed");
    }

    #[test]
    fn a_test_that_was_not_run_has_not_passed() {
        assert!(one_test(&mut sh("echo 'test result: ok. 1 passed; 0 failed'")).is_ok());
        for script in [
            "echo 'test result: ok. 0 passed; 0 failed'",
            "echo 'test result: ok. 1 passed; 0 failed'; exit 101",
        ] {
            assert!(one_test(&mut sh(script)).is_err(), "{script}");
        }
    }
}
