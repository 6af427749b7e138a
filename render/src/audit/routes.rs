//! Routes and clusters: nothing but what was rendered, each with its own lock or filter.

use std::collections::BTreeSet;

use serde_json::Value;

use super::chains::opens_for;
use super::{Rendered, items, name};
use crate::outside::inspection;
use crate::problem::Problem;

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3._http_protocol_options";

pub(super) fn check(config: &Value, rendered: &Rendered, problems: &mut Vec<Problem>) {
    let place = format!("routes {}", name(config));
    // Istio names a gateway's routes `https.PORT.SERVER.GATEWAY.NAMESPACE`.
    let port = name(config)
        .split('.')
        .nth(1)
        .and_then(|port| port.parse::<u64>().ok());
    let allowed = match port {
        Some(port) if port == rendered.http_port => &rendered.http,
        Some(port) if port == rendered.tunnel_port => &rendered.tunnel,
        _ => &BTreeSet::new(),
    };
    let tunnel = port == Some(rendered.tunnel_port);
    for host in items(config, "virtual_hosts") {
        for route in items(host, "routes") {
            let place = format!("{place}, host {}, route {}", name(host), name(route));
            if let Some(message) = wrong(route, rendered, allowed, tunnel) {
                problems.push(Problem::new(place, message));
            }
        }
    }
}

fn wrong(
    route: &Value,
    rendered: &Rendered,
    allowed: &BTreeSet<String>,
    tunnel: bool,
) -> Option<&'static str> {
    if route.get("direct_response").is_some() {
        return None;
    }
    let Some(cluster) = route.pointer("/route/cluster").and_then(Value::as_str) else {
        return Some("it leads somewhere that no single cluster names");
    };
    if !allowed.contains(cluster) {
        return Some("it leads to a cluster that was not rendered for this port");
    }
    if tunnel && route.pointer("/match/connect_matcher").is_none() {
        return Some("it takes more than tunnels");
    }
    if route
        .pointer("/route/max_stream_duration/max_stream_duration")
        .is_none()
    {
        return Some("its streams may run for ever under an old policy");
    }
    let lock = route.pointer("/typed_per_filter_config/egress-warden.lock");
    let verdict = rendered.only_verdict(cluster);
    match (lock, verdict) {
        (None, Some(_)) => Some("what goes inward or to a device is not locked"),
        (Some(lock), verdict) => {
            let rules = lock.pointer("/rbac/rules");
            let opens = |verdict: String| rules.is_some_and(|rules| opens_for(rules, &[&verdict]));
            (!verdict.is_some_and(opens)).then_some("it changes the lock")
        }
        (None, None) => None,
    }
}

/// Every cluster for requests, and for tunnels to addresses, has the policy before its codec.
pub(super) fn check_clusters(
    clusters: &[&Value],
    rendered: &Rendered,
    problems: &mut Vec<Problem>,
) {
    let tunnels = "warden-tcp".to_owned();
    for wanted in rendered.http.iter().chain([&tunnels]) {
        let found = clusters.iter().find(|cluster| name(cluster) == wanted);
        let place = format!("cluster {wanted}");
        let Some(cluster) = found else {
            problems.push(Problem::new(place, "it is not there"));
            continue;
        };
        let filters: Vec<_> = options(cluster)
            .into_iter()
            .flat_map(|options| items(options, "http_filters"))
            .collect();
        let names: Vec<_> = filters.iter().map(|filter| name(filter)).collect();
        if names
            != [
                "egress-warden.upstream",
                "envoy.filters.http.upstream_codec",
            ]
        {
            problems.push(Problem::new(
                &*place,
                "the policy is not before the resolved address",
            ));
        }
        if rendered.originating.contains(wanted) && !verifies(cluster) {
            problems.push(Problem::new(place, "the server is not verified"));
        }
    }
    for device in &rendered.devices {
        let wanted = inspection::cluster(device);
        let found = clusters.iter().find(|cluster| name(cluster) == wanted);
        let listener = found.and_then(|cluster| {
            let proxy = "/transport_socket/typed_config/default_proxy_address";
            let listener = "/envoy_internal_address/server_listener_name";
            cluster.pointer(proxy)?.pointer(listener)?.as_str()
        });
        if listener != Some(&inspection::listener_name(device)) {
            problems.push(Problem::new(
                format!("cluster {wanted}"),
                "it connects to something else than the device's listener",
            ));
        }
    }
}

fn options(cluster: &Value) -> Option<&Value> {
    let all = cluster
        .get("typed_extension_protocol_options")?
        .as_object()?;
    let plain = |key: &str| key.replace('_', "").to_ascii_lowercase();
    let (_, options) = all.iter().find(|(key, _)| plain(key) == plain(OPTIONS))?;
    Some(options)
}

/// Whether the cluster's TLS holds the server against an authority and a name.
fn verifies(cluster: &Value) -> bool {
    let context = "/transport_socket/typed_config/common_tls_context/validation_context";
    let context = cluster.pointer(context);
    let authority =
        context.is_some_and(|context| context.pointer("/trusted_ca/filename").is_some());
    let stated = context.is_some_and(|context| {
        items(context, "match_typed_subject_alt_names")
            .next()
            .is_some()
    });
    let off = context.is_some_and(|context| {
        context
            .get("trust_chain_verification")
            .is_some_and(|word| word == "ACCEPT_UNTRUSTED")
    });
    let by_judged_name = options(cluster).is_some_and(|options| {
        let field = "/upstream_http_protocol_options/auto_san_validation";
        options.pointer(field) == Some(&Value::Bool(true))
    });
    authority && !off && (stated || by_judged_name)
}
