//! Each condition of a rule on its own: true, false or unknown.

use std::fmt;
use std::net::IpAddr;

use crate::facts::{Caller, Fact, Facts, Protocol};
use crate::model::{From, Hosts, LabelOperator, Networks, Rule, RuleAction, Source, To};
use crate::name::canonical;
use crate::path::RequestPath;
use crate::settings::{AddressCheck, Settings};

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It does not.
    False,
    /// A fact is not known.
    Unknown {
        /// The fact may still come.
        pending: bool,
    },
    /// It does.
    True,
}

impl Truth {
    /// Both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, truth) | (truth, Self::True) => truth,
            (Self::Unknown { pending: a }, Self::Unknown { pending: b }) => {
                Self::Unknown { pending: a || b }
            }
        }
    }

    /// It does not hold.
    #[must_use]
    pub const fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown { pending } => Self::Unknown { pending },
        }
    }

    /// Either holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::True, _) | (_, Self::True) => Self::True,
            (Self::False, truth) | (truth, Self::False) => truth,
            (Self::Unknown { pending: a }, Self::Unknown { pending: b }) => {
                Self::Unknown { pending: a || b }
            }
        }
    }
}

impl std::convert::From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// A condition's name, for explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The rule has not expired.
    NotExpired,
    /// There is a verified identity.
    Identity,
    /// `trustDomains`.
    TrustDomain,
    /// `namespaces`.
    Namespace,
    /// `serviceAccounts`.
    ServiceAccount,
    /// `clusters`.
    Cluster,
    /// `matchLabels` and `matchExpressions`.
    Labels,
    /// `domainNames`.
    Name,
    /// `networks`.
    Address,
    /// `ports`.
    Port,
    /// `protocols`, and what methods, paths and upgrades imply.
    Protocol,
    /// `methods`.
    Method,
    /// `upgrades`.
    Upgrade,
    /// `paths`.
    Path,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotExpired => "expires",
            Self::Identity => "identity",
            Self::TrustDomain => "trustDomains",
            Self::Namespace => "namespaces",
            Self::ServiceAccount => "serviceAccounts",
            Self::Cluster => "clusters",
            Self::Labels => "labels",
            Self::Name => "domainNames",
            Self::Address => "networks",
            Self::Port => "ports",
            Self::Protocol => "protocols",
            Self::Method => "methods",
            Self::Upgrade => "upgrades",
            Self::Path => "paths",
        })
    }
}

/// A condition and whether it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Which.
    pub condition: Condition,
    /// Whether.
    pub truth: Truth,
}

/// What conditions depend on beside the facts.
#[derive(Clone, Copy)]
pub(super) struct Ground {
    pub(super) settings: Settings,
    /// Whether the caller is in `shadowWorkloads`, and this view regards it.
    pub(super) in_shadow: Truth,
}

impl Ground {
    /// A name whose answers are held against a class of addresses.
    pub(super) fn is_classed(self, facts: &Facts<'_>) -> bool {
        self.settings.address_check == AddressCheck::Classes
            && matches!(facts.destination.name, Fact::Known(Some(_)))
    }

    /// The same, and where it leads is not known.
    pub(super) fn is_unresolved(self, facts: &Facts<'_>) -> bool {
        self.is_classed(facts) && !matches!(facts.destination.address, Fact::Known(_))
    }
}

/// A condition on one fact.
pub(super) fn on_fact<T>(fact: Fact<T>, holds: impl FnOnce(T) -> bool) -> Truth {
    match fact {
        Fact::Known(value) => holds(value).into(),
        Fact::Pending => Truth::Unknown { pending: true },
        Fact::Missing => Truth::Unknown { pending: false },
    }
}

/// All of them.
pub(super) fn all(checked: &[Checked]) -> Truth {
    checked
        .iter()
        .fold(Truth::True, |truth, one| truth.and(one.truth))
}

/// The alternatives of `from`, each as its conditions.
pub(super) fn from(rule: &Rule, facts: &Facts<'_>) -> Vec<Vec<Checked>> {
    let identity = Checked {
        condition: Condition::Identity,
        truth: on_fact(facts.caller, |caller| caller.workload().is_some()),
    };
    match &rule.from {
        From::Anyone => vec![Vec::new()],
        From::AnyWorkload => vec![vec![identity]],
        From::Sources(sources) => sources
            .iter()
            .map(|source| [vec![identity], on_source(source, facts)].concat())
            .collect(),
    }
}

fn on_source(source: &Source, facts: &Facts<'_>) -> Vec<Checked> {
    let mut checked = Vec::new();
    let mut check = |condition, truth| checked.push(Checked { condition, truth });
    let proven = |holds: &dyn Fn(crate::facts::SpiffeId<'_>) -> bool| {
        on_fact(facts.caller, |caller: Caller<'_>| {
            caller.workload().is_some_and(holds)
        })
    };
    if !source.trust_domains.is_empty() {
        let truth = proven(&|id| source.trust_domains.iter().any(|td| td == id.trust_domain));
        check(Condition::TrustDomain, truth);
    }
    if !source.namespaces.is_empty() {
        let truth = proven(&|id| source.namespaces.iter().any(|ns| ns == id.namespace));
        check(Condition::Namespace, truth);
    }
    if !source.service_accounts.is_empty() {
        let truth = proven(&|id| {
            source
                .service_accounts
                .iter()
                .any(|sa| sa.namespace == id.namespace && sa.name == id.service_account)
        });
        check(Condition::ServiceAccount, truth);
    }
    let claims = facts.counting_claims();
    if !source.clusters.is_empty() {
        let truth = match claims {
            // Metadata without a cluster says nothing about the cluster.
            Fact::Known(claims) => {
                claims
                    .cluster
                    .map_or(Truth::Unknown { pending: false }, |cluster| {
                        source
                            .clusters
                            .iter()
                            .any(|wanted| wanted == cluster)
                            .into()
                    })
            }
            Fact::Pending => Truth::Unknown { pending: true },
            Fact::Missing => Truth::Unknown { pending: false },
        };
        check(Condition::Cluster, truth);
    }
    for (key, value) in &source.match_labels {
        check(
            Condition::Labels,
            on_fact(claims, |claims| claims.label(key) == Some(value)),
        );
    }
    for expression in &source.match_expressions {
        let truth = on_fact(claims, |claims| {
            let found = claims.label(&expression.key);
            match &expression.operator {
                LabelOperator::In(values) => {
                    found.is_some_and(|found| values.iter().any(|v| v == found))
                }
                LabelOperator::NotIn(values) => {
                    found.is_none_or(|found| values.iter().all(|v| v != found))
                }
                LabelOperator::Exists => found.is_some(),
                LabelOperator::DoesNotExist => found.is_none(),
            }
        });
        check(Condition::Labels, truth);
    }
    checked
}

/// The alternatives of `to`, each as its conditions but for `paths`, and the paths beside them.
pub(super) fn to(rule: &Rule, facts: &Facts<'_>, ground: Ground) -> Vec<(Vec<Checked>, Paths)> {
    let deny = rule.action == RuleAction::Deny;
    if rule.to.is_empty() {
        let anywhere = To::anywhere();
        return vec![(
            on_to(&anywhere, facts, deny, ground),
            Paths::of(&anywhere, facts),
        )];
    }
    rule.to
        .iter()
        .map(|to| (on_to(to, facts, deny, ground), Paths::of(to, facts)))
        .collect()
}

fn on_to(to: &To, facts: &Facts<'_>, deny: bool, ground: Ground) -> Vec<Checked> {
    let mut checked = Vec::new();
    let mut check = |condition, truth| checked.push(Checked { condition, truth });
    let http_only = !(to.methods.is_empty() && to.paths.is_empty() && to.upgrades.is_empty());
    let carried = if http_only {
        facts.protocol == Protocol::Http
    } else if to.protocols.is_empty() {
        facts.protocol != Protocol::Udp
    } else {
        to.protocols.contains(&facts.protocol)
    };
    check(Condition::Protocol, carried.into());
    let name = facts.destination.name;
    match &to.hosts {
        Hosts::Anywhere => {}
        Hosts::Names(patterns) => check(
            Condition::Name,
            on_fact(name, |name| {
                name.is_some_and(|name| patterns.iter().any(|p| p.matches(name)))
            }),
        ),
        Hosts::Networks(networks) => {
            let truth = if deny {
                denied_address(networks, facts, ground)
            } else {
                // "In Accept, Inspect and Pass rules `networks` matches only a destination that
                // has no name."
                let nameless = on_fact(name, |name| name.is_none());
                nameless.and(on_fact(facts.destination.address, |ip| {
                    networks.contains(canonical(ip))
                }))
            };
            check(Condition::Address, truth);
        }
    }
    if !to.ports.is_any() {
        check(
            Condition::Port,
            on_fact(facts.destination.port, |port| to.ports.contains(port)),
        );
    }
    if facts.protocol == Protocol::Http {
        let request = facts.request;
        // CONNECT and upgrades need to be listed by what opens; a Deny covers them unasked.
        if !to.methods.is_empty() {
            check(
                Condition::Method,
                on_fact(request.method, |method| {
                    to.methods.iter().any(|m| m == method)
                }),
            );
        } else if !deny {
            check(
                Condition::Method,
                on_fact(request.method, |method| method != "CONNECT"),
            );
        }
        if !to.upgrades.is_empty() {
            let listed = on_fact(request.upgrade, |token| {
                token.is_some_and(|token| to.upgrades.iter().any(|u| u == token))
            });
            check(Condition::Upgrade, listed);
        } else if !deny {
            check(
                Condition::Upgrade,
                on_fact(request.upgrade, |token| token.is_none()),
            );
        }
    }
    checked
}

/// `networks` of a Deny rule: about the address of every destination. Where a name leads is not a
/// question of its verdict but of its class, which leaves these networks out of the answer; and a
/// workload in `shadowWorkloads` is not held by them.
fn denied_address(networks: &Networks, facts: &Facts<'_>, ground: Ground) -> Truth {
    let inside = |ip| {
        let ip = canonical(ip);
        let mut behind = ground.settings.nat64.behind(ip).into_iter();
        networks.contains(ip) || behind.any(|v4| networks.contains(IpAddr::V4(v4)))
    };
    let may_be_named = ground.settings.address_check == AddressCheck::Classes
        && facts.destination.name == Fact::Pending;
    match facts.destination.address {
        Fact::Known(ip) if ground.is_classed(facts) => {
            Truth::from(inside(ip)).and(ground.in_shadow.not())
        }
        Fact::Known(ip) => inside(ip).into(),
        Fact::Pending | Fact::Missing if ground.is_classed(facts) => Truth::False,
        Fact::Pending => Truth::Unknown { pending: true },
        Fact::Missing => Truth::Unknown {
            pending: may_be_named,
        },
    }
}

/// What `paths` says about the request's path.
pub(super) struct Paths {
    /// The path is clean and matches, or the element says no paths.
    pub(super) matched: Truth,
    /// The element compares paths, and this one cannot be compared safely.
    pub(super) malformed: Truth,
}

impl Paths {
    fn of(to: &To, facts: &Facts<'_>) -> Self {
        if to.paths.is_empty() {
            return Self {
                matched: Truth::True,
                malformed: Truth::False,
            };
        }
        let path = facts.request.path;
        Self {
            matched: on_fact(
                path,
                |path| matches!(path, RequestPath::Clean(path) if to.paths.iter().any(|p| p.matches(path))),
            ),
            malformed: on_fact(path, |path| path == RequestPath::Malformed),
        }
    }
}

/// Whether the rule is still in force.
pub(super) fn not_expired(rule: &Rule, facts: &Facts<'_>) -> Option<Checked> {
    let expires = rule.expires?;
    let truth = match facts.now {
        Fact::Known(now) => (now < expires).into(),
        Fact::Pending => Truth::Unknown { pending: true },
        // An unreadable clock means expired.
        Fact::Missing => Truth::False,
    };
    Some(Checked {
        condition: Condition::NotExpired,
        truth,
    })
}
