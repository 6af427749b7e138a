//! The command as its users run it, without a process.

mod explain;
mod support;
