#![no_main]

#[path = "../src/command.rs"]
#[allow(dead_code, reason = "each target calls one of its functions")]
mod command;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| command::question(bytes));
