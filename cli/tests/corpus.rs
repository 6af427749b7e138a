//! The committed fuzz corpus, replayed through the functions that the fuzz targets call.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;

#[path = "../../fuzz/src/command.rs"]
#[expect(unreachable_pub, reason = "a module of its own for the fuzz targets")]
mod command;

/// Every input of one target's corpus; a panic names the input by its file.
fn replay(target: &str, property: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut count = 0;
    for input in std::fs::read_dir(corpus.join(target)).expect("a corpus") {
        let path = input.expect("an entry of the corpus").path();
        let bytes = std::fs::read(&path).expect("an input");
        std::panic::catch_unwind(|| property(&bytes))
            .unwrap_or_else(|_| panic!("{}", path.display()));
        count += 1;
    }
    assert!(count > 0, "{target} has no corpus");
}

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
