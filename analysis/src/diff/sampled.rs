//! Facts that fit a rule, where classes are too many to compare.

use egress_policy::facts::{Fact, OwnedClaims, Protocol};
use egress_policy::model::To;

use crate::owned_facts::{OwnedFacts, Who};
use crate::regions::compiled::fresh;
use crate::witness::ordinary_address;

/// Facts for sampling, of which only the protocol and the time are known.
pub(super) fn ordinary(to: Option<&To>, now: i64) -> OwnedFacts {
    let listed = to.and_then(|to| to.protocols.first().copied());
    let request = to.is_some_and(To::compares_requests);
    let protocol = match listed {
        _ if request => Protocol::Http,
        Some(protocol) => protocol,
        None => Protocol::Tls,
    };
    let mut situation = OwnedFacts::pending(protocol);
    situation.now = Fact::Known(now);
    situation
}

/// Gives what is still open an ordinary value.
pub(super) fn resolve_pending(situation: &mut OwnedFacts) {
    if !matches!(situation.caller, Fact::Known(_)) {
        situation.caller = Fact::Known(Who::Workload {
            trust_domain: "cluster.local".to_owned(),
            namespace: fresh().to_owned(),
            service_account: "default".to_owned(),
        });
    }
    if !matches!(situation.claims, Fact::Known(_)) {
        situation.claims = Fact::Known(OwnedClaims {
            namespace: situation.namespace().unwrap_or_default().to_owned(),
            cluster: Some("other".to_owned()),
            labels: Vec::new(),
        });
    }
    if !matches!(situation.address, Fact::Known(_))
        && let Some(address) = ordinary_address(&[])
    {
        situation.address = Fact::Known(address);
    }
    if !matches!(situation.name, Fact::Known(_)) {
        situation.name = Fact::Known(None);
    }
    if !matches!(situation.port, Fact::Known(_)) {
        situation.port = Fact::Known(443);
    }
    if situation.protocol == Protocol::Http {
        if !matches!(situation.method, Fact::Known(_)) {
            situation.method = Fact::Known("GET".to_owned());
        }
        if !matches!(situation.upgrade, Fact::Known(_)) {
            situation.upgrade = Fact::Known(None);
        }
        if !matches!(situation.path, Fact::Known(_)) {
            situation.path = Fact::Known(Some("/".to_owned()));
        }
    }
}
