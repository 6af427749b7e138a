//! The module's metrics: every name once, with what it means. The reference page is made from it.

use crate::host::MetricKind;

/// A metric of the module, or several whose names begin the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricFamily {
    /// Enforced verdicts.
    Verdicts,
    /// Verdicts without shadow, where they differ.
    ShadowVerdicts,
    /// Callers whose labels did not count.
    ClaimsDiscarded,
    /// The policy in force in a plugin instance.
    PolicyHash,
    /// Whether the last configuration of a plugin instance was refused.
    ConfigRejected,
    /// The policy whose arrival ends older streams.
    Recheck,
    /// Whether the pod has been ready.
    Ready,
    /// Open requests and tunnels.
    StreamsOpen,
    /// Open tunnels that have received nothing yet.
    TunnelsUndecided,
    /// Names in the workloads' budgets.
    NamesHeld,
    /// Rules in force.
    Rules,
    /// Memory of a VM.
    MemoryBytes,
}

impl MetricFamily {
    /// Every family, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Verdicts,
        Self::ShadowVerdicts,
        Self::ClaimsDiscarded,
        Self::PolicyHash,
        Self::ConfigRejected,
        Self::Recheck,
        Self::Ready,
        Self::StreamsOpen,
        Self::TunnelsUndecided,
        Self::NamesHeld,
        Self::Rules,
        Self::MemoryBytes,
    ];

    /// The name, or what all names of the family begin with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verdicts => "warden_verdicts",
            Self::ShadowVerdicts => "warden_shadow_verdicts",
            Self::ClaimsDiscarded => "warden_claims_discarded",
            Self::PolicyHash => "warden_policy_hash",
            Self::ConfigRejected => "warden_config_rejected",
            Self::Recheck => "warden_recheck",
            Self::Ready => "warden_ready",
            Self::StreamsOpen => "warden_streams_open",
            Self::TunnelsUndecided => "warden_tunnels_undecided",
            Self::NamesHeld => "warden_names_held",
            Self::Rules => "warden_rules",
            Self::MemoryBytes => "warden_memory_bytes",
        }
    }

    /// The name of the metric of a plugin instance.
    #[must_use]
    pub fn at(self, place: &str) -> String {
        format!("{}.{place}", self.name())
    }

    /// What follows the name, in words.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Verdicts | Self::ShadowVerdicts => ".ACTION.CODE.RULE",
            Self::PolicyHash | Self::ConfigRejected | Self::Recheck => ".INSTANCE",
            Self::ClaimsDiscarded
            | Self::Ready
            | Self::StreamsOpen
            | Self::TunnelsUndecided
            | Self::NamesHeld
            | Self::Rules
            | Self::MemoryBytes => "",
        }
    }

    /// What Envoy keeps.
    #[must_use]
    pub const fn kind(self) -> MetricKind {
        match self {
            Self::Verdicts | Self::ShadowVerdicts | Self::ClaimsDiscarded => MetricKind::Counter,
            Self::PolicyHash
            | Self::ConfigRejected
            | Self::Recheck
            | Self::Ready
            | Self::StreamsOpen
            | Self::TunnelsUndecided
            | Self::NamesHeld
            | Self::Rules
            | Self::MemoryBytes => MetricKind::Gauge,
        }
    }

    /// What it means, in a sentence or two.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Verdicts => {
                "Enforced verdicts. Denials are counted at once, accepted and inspected traffic within a second."
            }
            Self::ShadowVerdicts => {
                "Verdicts that would have been enforced without shadow mode, where they differ from the enforced ones."
            }
            Self::ClaimsDiscarded => {
                "Callers whose labels were ignored, because they claim another namespace than the certificate proves."
            }
            Self::PolicyHash => {
                "The first twelve hexadecimal digits of the hash of the policies in force, as a number."
            }
            Self::ConfigRejected => {
                "1 while the last configuration was rejected, else 0. It stays at 1 until another configuration is accepted."
            }
            Self::Recheck => {
                "The policy hash, as above, that ends the streams admitted under another policy, or 0."
            }
            Self::Ready => "1 once the pod has been ready.",
            Self::StreamsOpen => "Open requests and tunnels of all workloads.",
            Self::TunnelsUndecided => {
                "Open tunnels of all workloads that have received no byte yet."
            }
            Self::NamesHeld => "Names that count towards the limit `names` of all workloads.",
            Self::Rules => "Rules in force.",
            Self::MemoryBytes => {
                "The memory of the VM that took its configuration last. It never shrinks."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        for (i, one) in MetricFamily::ALL.iter().enumerate() {
            for other in MetricFamily::ALL.iter().skip(i + 1) {
                assert_ne!(one.name(), other.name());
            }
        }
    }
}
