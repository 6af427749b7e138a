//! The module as an OCI image, as Istio's agent fetches it.
//!
//! - [`module`] puts policies into a module's binary, where it finds them by itself.
//! - [`image`] makes the image: the same input gives the same bytes, so the same digest.
//! - [`sbom`] says what the module is built from; it is attached to the image as a referrer.
//! - [`layout`] writes images to a folder or an archive, [`registry`] to a registry.
//!
//! Descriptors, manifests, indexes and configurations are `oci-spec`'s types. The registry is spoken
//! to over `ureq`, not `oci-client` (0.18.0, read in its source): that one has no identity token
//! (`RegistryAuth`), which is what Azure's credential helper hands out; it asks any token service
//! that a registry names, over plain HTTP too, with the user's password (`_auth`); and what it
//! returns of a pushed manifest is an address, without the `OCI-Subject` header that tells whether
//! the client has to keep the list of referrers itself.

pub mod credentials;
pub mod image;
pub mod layout;
pub mod module;
pub mod reference;
pub mod registry;
pub mod sbom;

use sha2::{Digest, Sha256};

/// SHA-256 as lower-case hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
