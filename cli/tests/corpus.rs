//! The committed fuzz corpus, replayed through the functions that the fuzz targets call.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "../../fuzz/src/command.rs"]
#[expect(unreachable_pub, reason = "a module of its own for the fuzz targets")]
mod command;

#[path = "../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "included by the tests of two crates")]
mod replay;

use replay::replay;

#[test]
fn command() {
    replay("command", command::command);
}

#[test]
fn question() {
    replay("question", command::question);
}

#[test]
fn fmt() {
    replay("fmt", command::fmt);
}
