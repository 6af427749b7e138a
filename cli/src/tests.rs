//! The command as its users run it, without a process.

mod access;
mod cases;
mod check;
mod diagnostics;
mod documents;
mod exits;
mod explain;
mod fuzz;
mod hidden;
mod init;
mod install_steps;
mod large;
mod layers;
mod lists;
mod mistakes;
mod odd;
mod operate;
pub(crate) mod outputs;
mod package;
mod pages;
mod readme;
pub(crate) mod support;
