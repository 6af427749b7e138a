//! The checked policy: what a file says, in the engine's own types.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::Ranges;
use crate::facts::Protocol;
use crate::name::{Name, NamePattern};
use crate::path::PathPattern;
use crate::port::PortSet;

/// The name of the tier that `warden revoke` puts in front of all others.
pub const REVOKED_TIER: &str = "revoked";

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Everything but the tiers.
    pub head: Head,
    /// Tiers, in order.
    pub tiers: Vec<Tier>,
}

/// A rule, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct PlacedRule<'p> {
    /// Its policy.
    pub policy: &'p Policy,
    /// The tier's index in the policy, from zero.
    pub tier_index: usize,
    /// The tier.
    pub tier: &'p Tier,
    /// The rule's index in the tier, from zero.
    pub rule_index: usize,
    /// The rule.
    pub rule: &'p Rule,
}

impl Policy {
    /// Its rules in order, whatever their mode.
    pub fn rules(&self) -> impl Iterator<Item = PlacedRule<'_>> {
        let tiers = 0..self.tiers.len();
        tiers.flat_map(|index| self.tier_rules(index))
    }

    /// The rules of the tier with this index, in order, whatever their mode.
    pub(crate) fn tier_rules(&self, tier_index: usize) -> impl Iterator<Item = PlacedRule<'_>> {
        let tier = self.tiers.get(tier_index);
        tier.into_iter().flat_map(move |tier| {
            let rules = tier.rules.iter().enumerate();
            rules.map(move |(rule_index, rule)| PlacedRule {
                policy: self,
                tier_index,
                tier,
                rule_index,
                rule,
            })
        })
    }
}

/// What a policy says outside its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `metadata.name`: the first part of every rule id.
    pub name: String,
    /// Trust domains whose certificates count. Never empty.
    pub trust_domains: Vec<String>,
    /// Whether a caller without mTLS is judged at all. Even then it has no identity.
    pub allow_plaintext: bool,
    /// The workloads that this policy is for; `None` is all of them. Only a policy that is not
    /// the first carries it, and must.
    pub applies_to: Option<Workloads>,
    /// Workloads whose denials are reported instead of enforced.
    pub shadow_workloads: Vec<ShadowWorkloads>,
    /// What holds where no rule decides.
    pub default: DefaultAction,
}

/// A set of workloads by what their certificates prove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// Service accounts.
    pub service_accounts: Vec<ServiceAccount>,
}

/// A service account, `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An entry of `spec.shadowWorkloads`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowWorkloads {
    /// Who.
    pub workloads: Workloads,
    /// Until when, in seconds since the Unix epoch; after that denials are enforced.
    pub expires: i64,
}

/// `spec.default`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// What no rule accepts is denied.
    Deny,
    /// What no rule denies is accepted. For a team's policy under a stricter first one.
    Accept,
}

/// A tier: rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name, unique in the policy.
    pub name: String,
    /// Whether it is enforced.
    pub mode: Mode,
    /// What holds where none of its rules decides.
    pub default: TierDefault,
    /// Rules, in order.
    pub rules: Vec<Rule>,
}

/// Whether a rule or tier is enforced or only reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Enforced.
    Enforce,
    /// Evaluated and reported.
    Shadow,
}

/// A tier's `default`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierDefault {
    /// Go on with the next tier.
    Pass,
    /// Deny.
    Deny,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in the tier.
    pub name: String,
    /// Whether it is enforced.
    pub mode: Mode,
    /// Who; alternatives.
    pub from: From,
    /// Where to; alternatives. Empty is any destination.
    pub to: Vec<To>,
    /// What then.
    pub action: RuleAction,
    /// When it stops accepting, in seconds since the Unix epoch.
    pub expires: Option<i64>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Why it exists.
    pub reason: Option<String>,
    /// Where it was approved.
    pub ticket: Option<String>,
}

/// A rule's action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Let through.
    Accept,
    /// Let nothing through.
    Deny,
    /// Go on with the next tier.
    Pass,
    /// Let through by way of the named inspection proxy.
    Inspect(Arc<str>),
}

impl RuleAction {
    /// The words that the policy file uses.
    pub const WORDS: [&'static str; 4] = ["Accept", "Deny", "Pass", "Inspect"];

    /// The word that the policy file uses.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accept => "Accept",
            Self::Deny => "Deny",
            Self::Pass => "Pass",
            Self::Inspect(_) => "Inspect",
        }
    }
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// No `from` in a Deny rule, or `anyone: true`: also callers without an identity.
    Anyone,
    /// No `from` elsewhere: every caller with a verified identity.
    AnyWorkload,
    /// One of these.
    Sources(Arc<[Source]>),
}

/// One element of `from`: all its fields must hold, the entries of one field are alternatives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// Trust domains, proven.
    pub trust_domains: Vec<String>,
    /// Namespaces, proven.
    pub namespaces: Vec<String>,
    /// Service accounts, proven.
    pub service_accounts: Vec<ServiceAccount>,
    /// Clusters, claimed.
    pub clusters: Vec<String>,
    /// Labels, claimed; all must hold.
    pub match_labels: Vec<(String, String)>,
    /// Label expressions, claimed; all must hold.
    pub match_expressions: Vec<LabelExpression>,
}

impl Source {
    /// True if it selects by labels or clusters, which are the caller's own claim.
    #[must_use]
    pub fn uses_claims(&self) -> bool {
        !(self.match_labels.is_empty()
            && self.match_expressions.is_empty()
            && self.clusters.is_empty())
    }
}

/// One element of `matchExpressions`, as in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelExpression {
    /// The label's key.
    pub key: String,
    /// The comparison.
    pub operator: LabelOperator,
}

/// The comparison of a [`LabelExpression`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LabelOperator {
    /// The value is one of these.
    In(Vec<String>),
    /// The value is none of these, or the label is absent.
    NotIn(Vec<String>),
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// One element of `to`: all its fields must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To {
    /// The named destination it was written as, if any.
    pub destination: Option<Arc<str>>,
    /// Names or networks.
    pub hosts: Hosts,
    /// Ports.
    pub ports: PortSet,
    /// Protocols; empty is HTTP, TLS and TCP.
    pub protocols: Vec<Protocol>,
    /// HTTP methods; empty is every method but CONNECT.
    pub methods: Vec<String>,
    /// Path globs; empty is every path.
    pub paths: Vec<PathPattern>,
    /// Protocol upgrades that are matched too, such as `websocket`.
    pub upgrades: Vec<String>,
    /// Whether a name may lead to a private address.
    pub allow_private: bool,
    /// TLS origination at the gateway, if the destination asks for it.
    pub tls: Option<Arc<TlsOrigination>>,
}

impl To {
    /// Any destination: what a rule without `to` is about.
    #[must_use]
    pub fn anywhere() -> Self {
        Self {
            destination: None,
            hosts: Hosts::Anywhere,
            ports: PortSet::any(),
            protocols: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
            upgrades: Vec::new(),
            allow_private: false,
            tls: None,
        }
    }

    /// The protocols that it is about. Methods, paths and upgrades exist in HTTP alone.
    #[must_use]
    pub fn protocols(&self) -> &[Protocol] {
        if self.compares_requests() {
            &[Protocol::Http]
        } else if self.protocols.is_empty() {
            &[Protocol::Http, Protocol::Tls, Protocol::Tcp]
        } else {
            &self.protocols
        }
    }

    /// Whether it has a condition on the request: a method, a path or an upgrade.
    #[must_use]
    pub fn compares_requests(&self) -> bool {
        !(self.methods.is_empty() && self.paths.is_empty() && self.upgrades.is_empty())
    }
}

/// The names or networks of a [`To`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any name and any address.
    Anywhere,
    /// One of these names.
    Names(Arc<[NamePattern]>),
    /// One of these networks.
    Networks(Arc<Networks>),
}

/// Networks without their exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    /// Alternatives.
    pub networks: Vec<IpNet>,
    /// Taken out of them.
    pub except: Vec<IpNet>,
}

impl Networks {
    /// True if the address is in one of the networks and in none of the exceptions.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&address))
            && !self.except.iter().any(|net| net.contains(&address))
    }

    /// The same set without exceptions: the fewest networks that make it up.
    #[must_use]
    pub fn spread(&self) -> Vec<IpNet> {
        let except: Ranges = self.except.iter().collect();
        let networks: Ranges = self.networks.iter().collect();
        networks.without(&except).networks()
    }
}

/// TLS origination by the gateway, for destinations whose methods and paths are judged. The server
/// is always verified: by these authorities and by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsOrigination {
    /// The authorities that may vouch for the server.
    pub ca_certificates: CaCertificates,
    /// The Kubernetes secret with the client certificate, if one is presented.
    pub client_certificate: Option<String>,
    /// The server name to ask for and to verify; `None` is the destination's own.
    pub sni: Option<Name>,
}

/// Authorities that vouch for a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaCertificates {
    /// The bundle of the gateway's own system.
    System,
    /// A bundle at this path of the gateway.
    File(String),
    /// `ca.crt` of this Kubernetes secret.
    Secret(String),
}
