//! What the gateway's configuration says beside the policies, as far as verdicts depend on it.

/// Whether, and where, the address behind a name is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressCheck {
    /// Where it is known: the upstream HTTP filter, or the first data of a connection.
    Upstream,
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
}
