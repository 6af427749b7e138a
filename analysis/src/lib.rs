//! What policies mean, for people who write and review them.
//!
//! Text becomes [`document`]s whose every part knows where it stands; documents become a
//! [`bundle`] of policies that are in force together. Over a bundle this crate finds what is doubtful
//! ([`lint`]), what two bundles decide differently ([`diff`]), and why a decision is what it is
//! ([`explain`]). What is wrong is a [`diagnostic`].
//!
//! It does no I/O, has no clock and starts no thread: whoever asks hands in texts, the time and a
//! [`files::Files`]. So it also runs in a web page.

pub mod access;
pub mod bundle;
mod by_namespace;
pub mod carriage;
pub mod coming_from;
pub mod decision;
pub mod diagnostic;
pub mod diff;
pub mod document;
pub mod effective;
pub mod explain;
mod failure;
pub mod files;
pub mod lint;
pub mod lists;
pub mod owned_facts;
mod regions;
pub mod schema;
pub mod settings;
pub mod witness;
pub mod words;

pub use diagnostic::{Diagnostic, Location, Related, Severity};
pub use failure::Failure;

#[cfg(test)]
mod tests;
