//! How a long run is going, on standard error.

use std::time::{Duration, Instant};

use crate::Console;

/// Runs shorter than this say nothing.
const QUIET: Duration = Duration::from_secs(1);

/// A run and when it began.
pub(crate) struct Progress {
    what: &'static str,
    start: Instant,
}

impl Progress {
    /// The clock starts.
    pub(crate) fn start(what: &'static str) -> Self {
        Self {
            what,
            start: Instant::now(),
        }
    }

    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Says that a step is done, if the run is long.
    pub(crate) fn report(&self, console: &mut Console<'_>, step: &str) {
        if self.elapsed() >= QUIET {
            // Progress that cannot be written is no reason to stop.
            let _ = writeln!(
                console.stderr,
                "{}: {step} ({:.1} s)",
                self.what,
                self.elapsed().as_secs_f64()
            );
        }
    }

    /// Says how long a long run took, and its peak of memory where the system tells.
    pub(crate) fn finish(&self, console: &mut Console<'_>) {
        if self.elapsed() >= QUIET {
            let memory = peak_memory()
                .map(|kib| format!(", {} MiB", kib / 1024))
                .unwrap_or_default();
            let _ = writeln!(
                console.stderr,
                "{}: {:.1} s{memory}",
                self.what,
                self.elapsed().as_secs_f64()
            );
        }
    }
}

/// The peak resident size in KiB (Linux, proc(5): `VmHWM`).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_long_runs_speak() {
        for (since, expected) in [
            (Duration::ZERO, &[][..]),
            (
                Duration::from_secs(3),
                &["reading: a step (3.", "reading: 3."],
            ),
        ] {
            let mut stderr = Vec::new();
            let mut console = Console {
                stdin: &mut std::io::empty(),
                stdout: &mut std::io::sink(),
                stderr: &mut stderr,
                now: None,
                directory: Path::new("."),
                color: false,
            };
            let mut clock = Progress::start("reading");
            clock.start = clock.start.checked_sub(since).unwrap();
            clock.report(&mut console, "a step");
            clock.finish(&mut console);
            let said = String::from_utf8(stderr).unwrap();
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines.len(), expected.len(), "{said}");
            for (line, start) in lines.iter().zip(expected) {
                assert!(line.starts_with(start), "{line}");
            }
        }
    }
}
