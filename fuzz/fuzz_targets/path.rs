//! Request paths and path globs: total, and a clean path is clean again without its query.
#![no_main]

use egress_policy::path::{PathPattern, RequestPath};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str)| {
    let (bytes, glob) = input;
    let path = RequestPath::parse(Some(bytes));
    if let RequestPath::Clean(clean) = path {
        assert_eq!(RequestPath::parse(Some(clean.as_bytes())), path);
        if let Ok(pattern) = PathPattern::parse(glob) {
            let _ = pattern.matches(clean);
        }
    }
});
