//! The committed fuzz corpus, replayed through the functions that the fuzz targets call.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own for the fuzz targets")]
mod properties;

#[path = "../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "included by the tests of two crates")]
mod replay;

use replay::replay;

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
