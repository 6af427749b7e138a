//! Why a decision is what it is.

use std::fmt;

use serde::{Serialize, Serializer};

/// Why a verdict is what it is: a stable word for logs, metrics, tests and users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReasonCode {
    /// A rule decided.
    Rule,
    /// No rule did; a tier's or the policy's default decided.
    Default,
    /// No policy is configured.
    NoPolicy,
    /// The caller came without mTLS.
    NoIdentity,
    /// The certificate carries no, several, or no well-formed SPIFFE id.
    IdentityMalformed,
    /// The certificate belongs to a trust domain that the policy does not list.
    TrustDomain,
    /// A fact that a rule needs could not be had, so the most restrictive outcome holds.
    FactsMissing,
    /// A connection stayed undecided past its limit.
    UndecidedLimit,
    /// The authority or SNI is not a host name.
    NameMalformed,
    /// The host is an odd spelling of an address.
    AddressForm,
    /// The route leads to another host, port or cluster than the one judged.
    RouteMismatch,
    /// Host and the SNI of application TLS that ends here differ.
    HostMismatch,
    /// TLS without a server name.
    SniMissing,
    /// The inner SNI differs from the name that was asked for or connected to.
    SniMismatch,
    /// What should be a ClientHello is not one.
    HelloMalformed,
    /// The ClientHello exceeds the stated size.
    HelloTooLong,
    /// An encrypted ClientHello, where the configuration refuses it.
    EchRefused,
    /// The name resolved to an address that no name may lead to.
    PrivateAddress,
    /// The resolved address of a name was not checked.
    AddressUnchecked,
    /// The path cannot be compared safely, and a rule compares paths.
    PathMalformed,
    /// CONNECT or an upgrade without a rule that lists it.
    ConnectNotAllowed,
    /// The workload has as many streams open as one may.
    LimitStreams,
    /// The workload has as many tunnels open that have carried nothing yet as one may.
    LimitUndecided,
    /// The workload has asked for as many names as one may.
    LimitNames,
    /// A stream of an older policy, which the one in force has asked to end.
    PolicyReplaced,
    /// The engine or its adapter failed.
    EngineError,
}

impl ReasonCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 26] = [
        Self::Rule,
        Self::Default,
        Self::NoPolicy,
        Self::NoIdentity,
        Self::IdentityMalformed,
        Self::TrustDomain,
        Self::FactsMissing,
        Self::UndecidedLimit,
        Self::NameMalformed,
        Self::AddressForm,
        Self::RouteMismatch,
        Self::HostMismatch,
        Self::SniMissing,
        Self::SniMismatch,
        Self::HelloMalformed,
        Self::HelloTooLong,
        Self::EchRefused,
        Self::PrivateAddress,
        Self::AddressUnchecked,
        Self::PathMalformed,
        Self::ConnectNotAllowed,
        Self::LimitStreams,
        Self::LimitUndecided,
        Self::LimitNames,
        Self::PolicyReplaced,
        Self::EngineError,
    ];

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Default => "default",
            Self::NoPolicy => "no_policy",
            Self::NoIdentity => "no_identity",
            Self::IdentityMalformed => "identity_malformed",
            Self::TrustDomain => "trust_domain",
            Self::FactsMissing => "facts_missing",
            Self::UndecidedLimit => "undecided_limit",
            Self::NameMalformed => "name_malformed",
            Self::AddressForm => "address_form",
            Self::RouteMismatch => "route_mismatch",
            Self::HostMismatch => "host_mismatch",
            Self::SniMissing => "sni_missing",
            Self::SniMismatch => "sni_mismatch",
            Self::HelloMalformed => "hello_malformed",
            Self::HelloTooLong => "hello_too_long",
            Self::EchRefused => "ech_refused",
            Self::PrivateAddress => "private_address",
            Self::AddressUnchecked => "address_unchecked",
            Self::PathMalformed => "path_malformed",
            Self::ConnectNotAllowed => "connect_not_allowed",
            Self::LimitStreams => "limit_streams",
            Self::LimitUndecided => "limit_undecided",
            Self::LimitNames => "limit_names",
            Self::PolicyReplaced => "policy_replaced",
            Self::EngineError => "engine_error",
        }
    }

    /// The code of a stable word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }

    /// Whether the workload has reached one of its limits, and may try again later.
    #[must_use]
    pub const fn is_limit(self) -> bool {
        matches!(
            self,
            Self::LimitStreams | Self::LimitUndecided | Self::LimitNames
        )
    }

    /// One sentence for the person who was denied.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Rule => "a rule of the policy decides this",
            Self::Default => "no rule of the policy allows this destination",
            Self::NoPolicy => "no egress policy is in force, so nothing may leave",
            Self::NoIdentity => {
                "the caller came without the mesh's mTLS, so its identity is unknown"
            }
            Self::IdentityMalformed => "the caller's certificate names no single SPIFFE workload",
            Self::TrustDomain => {
                "the caller's certificate belongs to a trust domain that the policy does not list"
            }
            Self::FactsMissing => {
                "something that a rule needs to know about the caller or the destination could not be read"
            }
            Self::UndecidedLimit => "the connection sent too little, too late, to be judged",
            Self::NameMalformed => "the destination is not a well-formed host name",
            Self::AddressForm => "the destination is an unusual spelling of an address",
            Self::RouteMismatch => {
                "the gateway's route leads elsewhere than the destination that was asked for"
            }
            Self::HostMismatch => "Host and the TLS server name differ",
            Self::SniMissing => "TLS without a server name cannot be judged by name",
            Self::SniMismatch => {
                "the TLS server name differs from the destination that was asked for"
            }
            Self::HelloMalformed => "this port carries TLS and the first bytes are no ClientHello",
            Self::HelloTooLong => "the TLS ClientHello is longer than the gateway reads",
            Self::EchRefused => {
                "an encrypted ClientHello hides the destination, and the gateway refuses it"
            }
            Self::PrivateAddress => "the name resolves to an address inside the network",
            Self::AddressUnchecked => "the address behind the name could not be checked",
            Self::PathMalformed => "the path holds characters that servers read differently",
            Self::ConnectNotAllowed => "CONNECT and protocol upgrades need a rule that lists them",
            Self::LimitStreams => {
                "the workload has as many requests and tunnels open as one may: close some"
            }
            Self::LimitUndecided => {
                "the workload has too many tunnels open through which nothing has come back"
            }
            Self::LimitNames => "the workload asks for more new names than one may: wait",
            Self::PolicyReplaced => {
                "the policy has changed since the connection began: connect again"
            }
            Self::EngineError => "the policy engine failed, so nothing may leave",
        }
    }
}

impl ReasonCode {
    /// What to do about a denial, for the reference page.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Rule => {
                "Read the rule; `warden explain` shows why it matches. If it should not deny, ask the owners of its policy to change it."
            }
            Self::Default => {
                "Ask the owners of the policy for a rule that accepts the destination."
            }
            Self::NoPolicy => "Apply a rendering with at least one policy.",
            Self::NoIdentity => {
                "Send the traffic through the pod's sidecar. Check that the pod has one and that nothing excludes the port from it."
            }
            Self::IdentityMalformed => {
                "Issue certificates with one URI SAN of the form `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`."
            }
            Self::TrustDomain => {
                "Add the trust domain to `identity.trustDomains` of the policy if its workloads may use the gateway."
            }
            Self::FactsMissing => {
                "Check the caller's labels: `PILOT_MX_ADDITIONAL_LABELS` of istiod has to list every label that policies select by. Prefer rules by namespace and service account."
            }
            Self::UndecidedLimit => {
                "The client has to send a request or a ClientHello within 15 seconds. If the server speaks first, use a rule without labels and declare the port as TCP."
            }
            Self::NameMalformed => {
                "Correct the host name in the client: letters, digits, hyphens and underscores in labels of at most 63 bytes."
            }
            Self::AddressForm => "Write the address in its usual form, such as `192.0.2.1`.",
            Self::RouteMismatch => {
                "Render and apply again: the gateway's configuration does not belong to the policies in force. While an update is being applied, try again."
            }
            Self::HostMismatch => "Send the same name in Host and in the TLS server name.",
            Self::SniMissing => {
                "Make the client send a server name, or declare the port as TCP and accept its networks."
            }
            Self::SniMismatch => {
                "Use the name that the connection was opened for. A client that reuses connections for other names has to open one per name."
            }
            Self::HelloMalformed => {
                "Use TLS on this port, or declare the port as TCP (`gateway.protocols` or a rule of the first policy)."
            }
            Self::HelloTooLong => "Shorten the ClientHello, for example by fewer extensions.",
            Self::EchRefused => "Turn Encrypted ClientHello off in the client.",
            Self::PrivateAddress => {
                "Check what the name resolves to. If it may lead to inside addresses, set `allowPrivate` on its named destination."
            }
            Self::AddressUnchecked => {
                "Render and apply again: the gateway's configuration does not check addresses for this traffic."
            }
            Self::PathMalformed => {
                "Remove encoded slashes, dot segments and the like from the path, or use a rule without `paths`."
            }
            Self::ConnectNotAllowed => {
                "List `CONNECT` or the upgrade in the rule if the workload needs it."
            }
            Self::LimitStreams => {
                "Close connections, or raise `limits.streams` of the install settings."
            }
            Self::LimitUndecided => {
                "Close tunnels to servers that do not answer, or raise `limits.undecidedTunnels`."
            }
            Self::LimitNames => {
                "Wait a minute, or raise `limits.newNamesPerMinute` or `limits.names`."
            }
            Self::PolicyReplaced => "Connect again. The new policy then decides.",
            Self::EngineError => {
                "Report it, with the log lines of the gateway pod. Traffic stays closed meanwhile."
            }
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
