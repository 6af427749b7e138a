//! The committed fuzz corpus, replayed through the functions that the fuzz targets call.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own for the fuzz targets")]
mod properties;

/// Every input of one target's corpus; a panic names the input by its file.
fn replay(target: &str, property: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let inputs = std::fs::read_dir(corpus.join(target)).expect("a corpus");
    let mut count = 0;
    for input in inputs {
        let path = input.expect("an entry of the corpus").path();
        let bytes = std::fs::read(&path).expect("an input");
        std::panic::catch_unwind(|| property(&bytes))
            .unwrap_or_else(|_| panic!("{}", path.display()));
        count += 1;
    }
    assert!(count > 0, "{target} has no corpus");
}

#[test]
fn host() {
    replay("host", properties::host);
}

#[test]
fn identity() {
    replay("identity", properties::identity);
}

#[test]
fn path() {
    replay("path", properties::path);
}

#[test]
fn policy() {
    replay("policy", properties::policy);
}
