//! Programs that run several at a time, each one's output kept together.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Read;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;

use crate::run::progress;

/// A program to run.
pub(crate) struct Job {
    /// What it is called in output.
    pub(crate) title: String,
    /// The smallest begins first.
    pub(crate) rank: usize,
    pub(crate) command: Command,
}

/// A program that has ended.
pub(crate) struct Done {
    pub(crate) title: String,
    /// True if it ended with exit code 0. One that cannot be started has failed, and its output
    /// says why.
    pub(crate) passed: bool,
    pub(crate) seconds: u64,
    /// What it wrote to standard output and standard error, in the order of writing.
    pub(crate) output: String,
}

/// Runs all jobs, `lanes` at a time, and hands each to `ended` as it ends.
pub(crate) fn run(mut jobs: Vec<Job>, lanes: usize, mut ended: impl FnMut(Done)) {
    jobs.sort_by_key(|job| job.rank);
    let waiting = Mutex::new(VecDeque::from(jobs));
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..lanes {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(job) = next() {
                    if sender.send(run_one(job)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for done in receiver {
            ended(done);
        }
    });
}

fn run_one(Job { title, command, .. }: Job) -> Done {
    progress(&format!("{title} ..."));
    let start = Instant::now();
    let mut output = Vec::new();
    let ended = captured(command, &mut output);
    let mut output = String::from_utf8_lossy(&output).into_owned();
    if let Err(error) = &ended {
        let _ = writeln!(output, "{error:#}");
    }
    Done {
        title,
        passed: ended.is_ok_and(|status| status.success()),
        seconds: start.elapsed().as_secs(),
        output,
    }
}

fn captured(mut command: Command, output: &mut Vec<u8>) -> Result<ExitStatus> {
    let (mut reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // It holds this process's copies of the writing end, and reading ends when all are closed.
    drop(command);
    reader.read_to_end(output)?;
    Ok(child.wait()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Done, Job, run};

    fn job(title: &str, rank: usize, script: &str) -> Job {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Job {
            title: title.to_owned(),
            rank,
            command,
        }
    }

    #[test]
    fn every_program_is_told_whole_and_failures_are_seen() {
        let jobs = vec![
            job("good", 0, "echo out; echo err >&2; echo out again"),
            job("bad", 0, "echo why; exit 3"),
            Job {
                title: "none".to_owned(),
                rank: 0,
                command: Command::new("/nowhere/at-all"),
            },
            job("killed", 0, "kill -9 $$"),
        ];
        let mut all: Vec<Done> = Vec::new();
        run(jobs, 2, |done| all.push(done));
        let of = |title: &str| all.iter().find(|done| done.title == title).unwrap();
        assert_eq!(all.len(), 4);
        assert!(of("good").passed);
        assert_eq!(of("good").output, "out\nerr\nout again\n");
        assert!(!of("bad").passed);
        assert_eq!(of("bad").output, "why\n");
        assert!(!of("none").passed && of("none").output.contains("No such file"));
        assert!(!of("killed").passed);
    }

    #[test]
    fn what_takes_long_begins_first() {
        let jobs = vec![job("late", 1, "true"), job("first", 0, "true")];
        let mut titles = Vec::new();
        run(jobs, 1, |done| titles.push(done.title));
        assert_eq!(titles, ["first", "late"]);
    }
}
