//! Whether two patterns or rules can match the same thing, and whether one holds all of another.
//!
//! Each answer is conservative, and says in which direction: what meets is never missed, and what is
//! said to be covered is covered.

use ipnet::IpNet;

use crate::address::{Environment, embeddings};
use crate::model::{From, Hosts, Networks, Rule, RuleAction, Source, To};
use crate::name::NamePattern;
use crate::port::PortSet;

/// Whether something may match both rules. `false` is certain; `true` may only mean that it cannot be
/// excluded.
#[must_use]
pub fn rules_meet(a: &Rule, b: &Rule) -> bool {
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

/// Whether a name may be under both patterns. `false` is certain; for two wildcards `true` may only
/// mean that the labels behind the last wildcard do not tell them apart.
#[must_use]
pub fn patterns_meet(a: &NamePattern, b: &NamePattern) -> bool {
    match (a, b) {
        (NamePattern::Exact(name), other) | (other, NamePattern::Exact(name)) => {
            other.matches(name)
        }
        (a, b) => {
            let (a, b) = (a.to_string(), b.to_string());
            let (mut left, mut right) = (literal_end(&a), literal_end(&b));
            loop {
                match (left.next(), right.next()) {
                    (Some(one), Some(other)) if one != other => return false,
                    (Some(_), Some(_)) => {}
                    _ => return true,
                }
            }
        }
    }
}

/// The labels behind the last wildcard of a pattern, the last one first.
fn literal_end(pattern: &str) -> impl Iterator<Item = &str> {
    pattern
        .rsplit('.')
        .take_while(|label| !label.contains(['*', '+']))
}

/// The namespaces that a source names; none if it is about all.
#[must_use]
pub fn source_namespaces(source: &Source) -> Vec<&str> {
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

/// The alternatives of a rule's `from`: `None` is one that asks for nothing but an identity.
#[must_use]
pub fn sources(rule: &Rule) -> Vec<Option<&Source>> {
    match &rule.from {
        From::Anyone | From::AnyWorkload => vec![None],
        From::Sources(sources) => sources.iter().map(Some).collect(),
    }
}

/// The alternatives of a rule's `to`: `None` is any destination.
#[must_use]
pub fn destinations(rule: &Rule) -> Vec<Option<&To>> {
    if rule.to.is_empty() {
        vec![None]
    } else {
        rule.to.iter().map(Some).collect()
    }
}

/// Whether every port of `b` is one of `a`. Exact for what a policy writes: two ranges of `a` that only
/// together hold one of `b` do not count.
#[must_use]
pub fn ports_cover(a: &PortSet, b: &PortSet) -> bool {
    a.is_any()
        || (!b.is_any()
            && b.ranges().all(|narrow| {
                a.ranges()
                    .any(|wide| wide.contains(narrow.start()) && wide.contains(narrow.end()))
            }))
}

/// Whether the hosts of an earlier element hold all those of a later one. `networks` means more in a
/// Deny rule: the addresses behind names too. `true` is certain; `false` may only mean that it cannot be
/// shown.
#[must_use]
pub fn hosts_cover(a: &Hosts, b: &Hosts, earlier_denies: bool, later_denies: bool) -> bool {
    match (a, b) {
        (Hosts::Anywhere, _) => true,
        (Hosts::Names(wide), Hosts::Names(narrow)) => narrow
            .iter()
            .all(|n| wide.iter().any(|w| pattern_covers(w, n))),
        (Hosts::Networks(wide), Hosts::Networks(narrow)) => {
            (earlier_denies || !later_denies) && networks_cover(wide, narrow)
        }
        (Hosts::Names(_) | Hosts::Networks(_), _) => false,
    }
}

fn networks_cover(wide: &Networks, narrow: &Networks) -> bool {
    narrow.networks.iter().all(|n| {
        wide.networks.iter().any(|w| w.contains(n))
            && wide
                .except
                .iter()
                .all(|hole| !(n.contains(hole) || hole.contains(n)) || narrow.except.contains(hole))
    })
}

/// Whether every name under `narrow` is under `wide`. `true` is certain; `false` may only mean that it
/// cannot be shown.
#[must_use]
pub fn pattern_covers(wide: &NamePattern, narrow: &NamePattern) -> bool {
    if wide == narrow {
        return true;
    }
    if let NamePattern::Exact(name) = narrow {
        return wide.matches(name);
    }
    let text = narrow.to_string();
    // What stands in front of the wider pattern's name.
    let front = |base: &str| text.strip_suffix(base)?.strip_suffix('.');
    match wide {
        NamePattern::Suffix(base) => front(base.as_str()).is_some(),
        NamePattern::OneBelow(base) => {
            front(base.as_str()).is_some_and(|front| front != "*" && !front.contains('.'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_may_share_a_name_meet() {
        for (one, other, expected) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
            ("a.example.com", "*.example.com", true),
            ("example.com", "*.example.com", false),
            ("a.example.com", "*.example.org", false),
            ("a.b.example.com", "+.example.com", false),
            ("*.example.com", "*.a.example.com", true),
            ("*.example.com", "+.example.com", true),
            ("*.example.com", "*.ample.com", false),
            ("api-*.example.com", "*.example.com", true),
            ("api-*.example.com", "*.example.org", false),
            ("b.example.com", "api-*.example.com", false),
        ] {
            let parse = |text| NamePattern::parse(text).unwrap();
            let (a, b) = (parse(one), parse(other));
            assert_eq!(patterns_meet(&a, &b), expected, "{one} {other}");
            assert_eq!(patterns_meet(&b, &a), expected, "{other} {one}");
        }
    }
}
