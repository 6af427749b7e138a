//! The `warden` command: a thin shell around the library of the same name.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use warden::{Console, Pipe, run};

fn main() -> ExitCode {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok());
    let directory = std::env::current_dir().unwrap_or_default();
    let mut stdout = Pipe::new(std::io::BufWriter::new(std::io::stdout()));
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let exit = run(
        std::env::args_os(),
        &mut Console {
            stdin: &mut std::io::stdin(),
            stdout: &mut stdout,
            stderr: &mut std::io::stderr(),
            now,
            directory: &directory,
            color,
        },
    );
    match stdout.flush() {
        Ok(()) => exit.into(),
        Err(_) => warden::Exit::Failed.into(),
    }
}
