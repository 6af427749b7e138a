//! Listeners and their chains: the policy, then the lock, then what connects, and nothing else.

use serde_json::Value;

use super::{Rendered, items, name};
use crate::outside::inspection;
use crate::problem::Problem;

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const INNER: &str = "egress-warden-tls";
const LOCK: &str = "egress-warden.lock";
const RESOLVE: &str = "egress-warden.resolve";

/// What may stand between the lock and the router.
const BEHIND_THE_LOCK: [&str; 3] = ["egress-warden.carry", inspection::TELL, RESOLVE];

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
            inner(chain, rendered, &place, problems);
        }
        return;
    }
    let mut devices = rendered.devices.iter();
    if let Some(device) = devices.find(|device| {
        listener.get("internal_listener").is_some()
            && name(listener) == inspection::listener_name(device)
    }) {
        if !chains.iter().all(|chain| leads_to_device(chain, device)) {
            let message = "lock and way to the device are not as rendered";
            problems.push(Problem::new(place, message));
        }
        return;
    }
    let Some(port) = port(listener).filter(|port| rendered.is_port(*port)) else {
        // Plain TCP ends in the lock on every port; anything else is a way of somebody else's.
        if !chains
            .iter()
            .all(|chain| ends_at_once(chain) || only_answers(chain))
        {
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

/// A chain of nothing but the gate for probes, whose every route is an answer of its own.
pub(super) fn only_answers(chain: &Value) -> bool {
    let filters: Vec<_> = items(chain, "filters").collect();
    let [manager] = filters.as_slice() else {
        return false;
    };
    let Some(config) = manager.get("typed_config") else {
        return false;
    };
    let http: Vec<_> = items(config, "http_filters").map(name).collect();
    let mut routes = config
        .get("route_config")
        .into_iter()
        .flat_map(|routes| items(routes, "virtual_hosts"))
        .flat_map(|host| items(host, "routes"))
        .peekable();
    name(manager) == MANAGER
        && http == ["egress-warden.ready", "envoy.filters.http.router"]
        && routes.peek().is_some()
        && routes.all(|route| route.get("direct_response").is_some())
        && ["rds", "scoped_routes"]
            .iter()
            .all(|elsewhere| config.get(elsewhere).is_none())
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
        .is_some_and(|filter| is_lock(filter, &["accept"]))
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

fn is_lock(filter: &Value, verdicts: &[&str]) -> bool {
    let rules = filter.pointer("/typed_config/rules");
    rules.is_some_and(|rules| opens_for(rules, verdicts))
}

/// Whether RBAC rules admit exactly what carries one of these verdicts.
pub(super) fn opens_for(rules: &Value, verdicts: &[&str]) -> bool {
    let wanted: Vec<_> = verdicts
        .iter()
        .map(|verdict| ("wasm.warden_verdict", "prefix", *verdict))
        .collect();
    admitted(rules).is_some_and(|admitted| admitted == wanted)
}

/// The entries of filter state, each with the form of the match and its text, any of which opens a
/// lock; `None` if anything else does. Allowing is the default action, so dumps leave it out.
fn admitted(rules: &Value) -> Option<Vec<(&str, &str, &str)>> {
    let allows = rules.get("action").is_none_or(|action| action == "ALLOW");
    let policies: Vec<_> = rules
        .get("policies")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .collect();
    let [(_, policy)] = policies.as_slice() else {
        return None;
    };
    let entry = |principal| {
        let state = Value::get(principal, "filter_state")?;
        let (form, text) = state.get("string_match")?.as_object()?.iter().next()?;
        Some((state.get("key")?.as_str()?, form.as_str(), text.as_str()?))
    };
    let entries = items(policy, "principals").map(entry);
    entries.collect::<Option<_>>().filter(|_| allows)
}

/// A device's listener: its lock, then the tunnel to its cluster once the client has sent bytes.
fn leads_to_device(chain: &Value, device: &str) -> bool {
    let filters: Vec<_> = items(chain, "filters").collect();
    let [lock, proxy] = filters.as_slice() else {
        return false;
    };
    let rules = lock.pointer("/typed_config/rules");
    let locked = rules.and_then(admitted) == Some(vec![("warden.device", "exact", device)]);
    let text = |field: &str| {
        let field = proxy.pointer(&format!("/typed_config/{field}"));
        field.and_then(Value::as_str)
    };
    name(lock) == LOCK
        && locked
        && name(proxy) == "envoy.filters.network.tcp_proxy"
        && text("cluster") == Some(&inspection::device_cluster(device))
        && text("upstream_connect_mode") == Some("ON_DOWNSTREAM_DATA")
        && text("tunneling_config/hostname").is_some()
}

fn inner(chain: &Value, rendered: &Rendered, place: &str, problems: &mut Vec<Problem>) {
    let inspects = !rendered.devices.is_empty();
    let mut wanted = vec!["egress-warden.tls", LOCK, RESOLVE];
    wanted.extend(inspects.then_some(inspection::TELL));
    wanted.push("envoy.filters.network.tcp_proxy");
    if filter_names(chain) != wanted {
        problems.push(Problem::new(
            place,
            "policy, lock, resolver and proxy are not in order",
        ));
        return;
    }
    let verdicts: &[&str] = if inspects {
        &["accept", "inspect:"]
    } else {
        &["accept"]
    };
    let filters: Vec<_> = items(chain, "filters").collect();
    if !filters
        .get(1)
        .is_some_and(|filter| is_lock(filter, verdicts))
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
