//! What the gateway's configuration says beside the policies, as far as verdicts depend on it.

use crate::address::Nat64Prefixes;

/// Whether, and where, the address behind a name is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressCheck {
    /// By the DNS caches of address classes: what a name must not lead to never gets into them.
    Classes,
    /// Not at all, and the configuration says so in writing.
    None,
    /// The configuration does not say, so names are denied.
    Unstated,
}

/// Settings that verdicts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The guard over resolved addresses.
    pub address_check: AddressCheck,
    /// Network-specific NAT64 prefixes, which addresses are seen through.
    pub nat64: Nat64Prefixes,
}

impl Settings {
    /// Without a NAT64 prefix but the well-known one.
    #[must_use]
    pub const fn new(address_check: AddressCheck) -> Self {
        Self {
            address_check,
            nat64: Nat64Prefixes::NONE,
        }
    }
}
