//! Listeners and their chains: the policy, then the lock, then what connects, and nothing else.

use serde_json::Value;

use super::{Rendered, items, name};
use crate::problem::Problem;

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const INNER: &str = "egress-warden-tls";
const LOCK: &str = "egress-warden.lock";
const RESOLVE: &str = "egress-warden.resolve";

/// What may stand between the lock and the router.
const BEHIND_THE_LOCK: [&str; 2] = ["egress-warden.carry", RESOLVE];

/// The port that a listener has, if packets can be sent to it.
pub(super) fn port(listener: &Value) -> Option<u64> {
    listener
        .pointer("/address/socket_address/port_value")
        .and_then(Value::as_u64)
}

/// Whether it is the listener inside the gateway.
pub(super) fn is_inner(listener: &Value) -> bool {
    listener.get("internal_listener").is_some() && name(listener) == INNER
}

pub(super) fn check(listener: &Value, rendered: &Rendered, problems: &mut Vec<Problem>) {
    let place = format!("listener {}", name(listener));
    let chains: Vec<_> = items(listener, "filter_chains")
        .chain(listener.get("default_filter_chain"))
        .collect();
    if is_inner(listener) {
        for chain in chains {
            inner(chain, &place, problems);
        }
        return;
    }
    let Some(port) = port(listener).filter(|port| rendered.is_port(*port)) else {
        // Plain TCP ends in the lock on every port; anything else is a way of somebody else's.
        if !chains.iter().all(|chain| ends_at_once(chain)) {
            problems.push(Problem::new(
                place,
                "it was not rendered, and it leads somewhere",
            ));
        }
        return;
    };
    for chain in chains {
        outer(chain, port, rendered, &place, problems);
    }
}

impl Rendered {
    fn is_port(&self, port: u64) -> bool {
        port == self.http_port || port == self.tunnel_port
    }
}

fn filter_names(chain: &Value) -> Vec<&str> {
    items(chain, "filters").map(name).collect()
}

/// A chain of nothing but the lock of plain TCP.
fn ends_at_once(chain: &Value) -> bool {
    let last = items(chain, "filters").last();
    last.is_some_and(|filter| {
        let url = filter
            .pointer("/typed_config/@type")
            .and_then(Value::as_str);
        name(filter) == LOCK && url.is_some_and(|url| url.ends_with("direct_response.v3.Config"))
    })
}

fn outer(chain: &Value, port: u64, rendered: &Rendered, place: &str, problems: &mut Vec<Problem>) {
    let mut wrong = |message: &str| problems.push(Problem::new(place, message));
    let certificate = "/transport_socket/typed_config/require_client_certificate";
    if chain.pointer(certificate) != Some(&Value::Bool(true)) {
        wrong("a chain does not ask for a certificate");
    }
    if ends_at_once(chain) {
        return;
    }
    let network = filter_names(chain);
    if network.last() != Some(&MANAGER) {
        wrong("a chain goes on to something that is not HTTP");
        return;
    }
    if network
        .iter()
        .any(|filter| filter.contains("egress-warden"))
    {
        wrong("the network filter stands before HTTP and would judge its bytes");
    }
    let http: Vec<_> = items(chain, "filters")
        .filter(|filter| name(filter) == MANAGER)
        .filter_map(|filter| filter.get("typed_config"))
        .flat_map(|config| items(config, "http_filters"))
        .collect();
    let at = |wanted: &dyn Fn(&str) -> bool| http.iter().position(|filter| wanted(name(filter)));
    let plugin = if port == rendered.http_port {
        "egress-warden-http"
    } else {
        "egress-warden-tunnel"
    };
    let Some(policy) = at(&|found| found.contains(plugin)) else {
        wrong("the policy is missing");
        return;
    };
    let Some(lock) = at(&|found| found == LOCK) else {
        wrong("the lock is missing");
        return;
    };
    if policy > lock {
        wrong("the lock stands before the policy");
    }
    if !http
        .get(lock)
        .is_some_and(|filter| is_lock(filter, "accept"))
    {
        wrong("the lock admits something else than this module's verdict");
    }
    for filter in http.iter().take(lock) {
        if BEHIND_THE_LOCK.contains(&name(filter)) {
            wrong("names are resolved before the lock");
        }
    }
    let behind: Vec<_> = http
        .iter()
        .skip(lock + 1)
        .map(|filter| name(filter))
        .collect();
    let router = behind.split_last();
    let rest = router.map_or(&[][..], |(_, rest)| rest);
    if router.map(|(last, _)| *last) != Some("envoy.filters.http.router")
        || !rest.iter().all(|filter| BEHIND_THE_LOCK.contains(filter))
    {
        wrong("something else than the connection itself stands behind the lock");
    }
    if port == rendered.http_port && rendered.labels {
        let peer = at(&|found| found == "egress-warden.peer-metadata");
        let own = at(&|found| found == "istio.metadata_exchange");
        if peer.is_none_or(|peer| peer > policy || own.is_some_and(|own| peer > own)) {
            wrong(
                "the caller's labels are not read before the policy and before Istio's own filter",
            );
        }
    }
}

fn is_lock(filter: &Value, verdict: &str) -> bool {
    let rules = filter.pointer("/typed_config/rules");
    rules.is_some_and(|rules| opens_for(rules, verdict))
}

/// Whether RBAC rules admit exactly what carries this verdict. Allowing is the default action, so
/// dumps leave it out.
pub(super) fn opens_for(rules: &Value, verdict: &str) -> bool {
    let allows = rules.get("action").is_none_or(|action| action == "ALLOW");
    let policies: Vec<_> = rules
        .get("policies")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .collect();
    let [(_, policy)] = policies.as_slice() else {
        return false;
    };
    let principals: Vec<_> = items(policy, "principals").collect();
    let [principal] = principals.as_slice() else {
        return false;
    };
    let state = |field: &str| principal.pointer(&format!("/filter_state/{field}"));
    allows
        && state("key").and_then(Value::as_str) == Some("wasm.warden_verdict")
        && state("string_match/exact").and_then(Value::as_str) == Some(verdict)
}

fn inner(chain: &Value, place: &str, problems: &mut Vec<Problem>) {
    let wanted = [
        "egress-warden.tls",
        LOCK,
        RESOLVE,
        "envoy.filters.network.tcp_proxy",
    ];
    if filter_names(chain) != wanted {
        problems.push(Problem::new(
            place,
            "policy, lock, resolver and proxy are not in order",
        ));
        return;
    }
    let filters: Vec<_> = items(chain, "filters").collect();
    if !filters
        .get(1)
        .is_some_and(|filter| is_lock(filter, "accept"))
    {
        problems.push(Problem::new(
            place,
            "the lock admits something else than a verdict",
        ));
    }
    let cluster = filters
        .last()
        .and_then(|filter| filter.pointer("/typed_config/cluster"));
    if cluster.and_then(Value::as_str) != Some("warden-tls") {
        problems.push(Problem::new(
            place,
            "it leads to another cluster than was rendered",
        ));
    }
}
