//! Whether two rules can match the same thing: a quick test that never misses, and may say so of
//! rules that never do.

use egress_policy::address::{Environment, embeddings};
use egress_policy::model::{Hosts, Networks, Rule, RuleAction, Source, To};
use egress_policy::name::NamePattern;
use ipnet::IpNet;

use crate::witness::{destinations, sources};

/// Whether something may match both.
pub(crate) fn meet(a: &Rule, b: &Rule) -> bool {
    let (deny_a, deny_b) = (a.action == RuleAction::Deny, b.action == RuleAction::Deny);
    let who = sources(a).iter().any(|left| {
        sources(b).iter().any(|right| match (left, right) {
            (Some(left), Some(right)) => sources_meet(left, right),
            _ => true,
        })
    });
    who && destinations(a).iter().any(|left| {
        destinations(b).iter().any(|right| match (left, right) {
            (Some(left), Some(right)) => destinations_meet(left, deny_a, right, deny_b),
            _ => true,
        })
    })
}

/// Labels are left out: where they are missing, rules for different labels meet.
fn sources_meet(a: &Source, b: &Source) -> bool {
    let (left, right) = (source_namespaces(a), source_namespaces(b));
    left.is_empty() || right.is_empty() || left.iter().any(|name| right.contains(name))
}

fn destinations_meet(a: &To, deny_a: bool, b: &To, deny_b: bool) -> bool {
    if a.ports.intersect(&b.ports).is_none() {
        return false;
    }
    let apart = !a.protocols.is_empty()
        && !b.protocols.is_empty()
        && a.protocols
            .iter()
            .all(|protocol| !b.protocols.contains(protocol));
    if apart {
        return false;
    }
    match (&a.hosts, &b.hosts) {
        (Hosts::Names(left), Hosts::Names(right)) => left
            .iter()
            .any(|l| right.iter().any(|r| patterns_meet(l, r))),
        (Hosts::Networks(left), Hosts::Networks(right)) => {
            let right = forms(right, deny_b);
            forms(left, deny_a)
                .iter()
                .any(|l| right.iter().any(|r| l.contains(r) || r.contains(l)))
        }
        // Outside Deny rules, networks match destinations without a name.
        (Hosts::Names(_), Hosts::Networks(_)) => deny_b,
        (Hosts::Networks(_), Hosts::Names(_)) => deny_a,
        (Hosts::Anywhere, _) | (_, Hosts::Anywhere) => true,
    }
}

/// The networks that a rule is about: a Deny is about their forms in IPv6 too.
fn forms(listed: &Networks, deny: bool) -> Vec<IpNet> {
    let environment = Environment::default();
    let denied = listed.networks.iter().filter(|_| deny);
    let translated = denied.flat_map(|net| embeddings(net, &environment));
    listed.networks.iter().copied().chain(translated).collect()
}

fn patterns_meet(a: &NamePattern, b: &NamePattern) -> bool {
    match (a, b) {
        (NamePattern::Exact(name), other) | (other, NamePattern::Exact(name)) => {
            other.matches(name)
        }
        (NamePattern::Glob(_), _) | (_, NamePattern::Glob(_)) => true,
        (
            NamePattern::Suffix(left) | NamePattern::OneBelow(left),
            NamePattern::Suffix(right) | NamePattern::OneBelow(right),
        ) => below(left.as_str(), right.as_str()) || below(right.as_str(), left.as_str()),
    }
}

fn below(name: &str, base: &str) -> bool {
    name.strip_suffix(base)
        .is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// The namespaces that a source names; none if it is about all.
pub(crate) fn source_namespaces(source: &Source) -> Vec<&str> {
    let accounts = source
        .service_accounts
        .iter()
        .map(|sa| sa.namespace.as_str());
    let names: Vec<&str> = accounts.collect();
    if names.is_empty() {
        source.namespaces.iter().map(String::as_str).collect()
    } else {
        names
    }
}
