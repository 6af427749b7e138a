//! How sidecars ask the gateway for tunnels: over HTTP/2, or over HTTP/1.1.
//!
//! Both are a cluster of the gateway's tunnel port, with the mesh's mTLS as Istio makes it. Istio
//! takes a cluster's protocol from the Service's port, so HTTP/1.1 is a subset of it: the subset's
//! `useClientProtocol` keeps `h2` out of what TLS offers, and a patch says HTTP/1.1. Without the
//! patch such a tunnel goes over HTTP/2, which the gateway takes as well.

use egress_policy::contract::TCP_CLUSTER;
use egress_policy::name::Name;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::error::RenderError;
use crate::install::{Exception, Framing, Install, Tunnel};
use crate::proxies;

/// The subset of the gateway's Service that speaks HTTP/1.1.
pub(crate) const HTTP1: &str = "http1";
/// The most expressions that one exception may need: Envoy evaluates them for each connection.
const MOST_PREFIXES: usize = 256;
/// A window of HTTP/2 is at most 2³¹−1 bytes (RFC 9113, section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// How much more a connection takes than one of its tunnels, so that one whose application reads
/// nothing does not stop the others.
const TUNNELS: u32 = 4;

/// The sidecar's cluster for tunnels of a framing.
pub(crate) fn cluster(install: &Install, framing: Framing) -> String {
    let subset = match framing {
        Framing::Http2 => "",
        Framing::Http1 => HTTP1,
    };
    let port = install.spec.gateway.ports.tunnel;
    format!("outbound|{port}|{subset}|{}", install.gateway_host())
}

/// The subsets of the gateway's `DestinationRule`.
pub(crate) fn subsets(install: &Install) -> Option<Value> {
    let mutual = json!({"mode": "ISTIO_MUTUAL"});
    install.spec.tunnel.has(Framing::Http1).then(|| {
        json!([{"name": HTTP1, "trafficPolicy": {
            "tls": mutual,
            "portLevelSettings": [{
                "port": {"number": install.spec.gateway.ports.tunnel},
                "connectionPool": {"http": {"useClientProtocol": true}},
                "tls": mutual,
            }],
        }}])
    })
}

/// What makes the clusters speak their protocols.
pub(crate) fn cluster_patches(install: &Install) -> Vec<Value> {
    let tunnel = &install.spec.tunnel;
    let window = tunnel.window_mib << 20;
    let protocols = [
        (
            Framing::Http2,
            json!({"http2_protocol_options": {
                "initial_stream_window_size": window,
                "initial_connection_window_size":
                    window.saturating_mul(TUNNELS).min(LARGEST_WINDOW),
            }}),
        ),
        (Framing::Http1, json!({"http_protocol_options": {}})),
    ];
    let used = protocols
        .into_iter()
        .filter(|(framing, _)| tunnel.has(*framing));
    let patch = |(framing, protocol)| {
        json!({
            "applyTo": "CLUSTER",
            "match": {
                "context": "SIDECAR_OUTBOUND",
                "proxy": {"proxyVersion": proxies::supported(install)},
                "cluster": {"name": cluster(install, framing)},
            },
            "patch": {"operation": "MERGE", "value": {"typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type":
                        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": protocol,
                },
            }}},
        })
    };
    used.map(patch).collect()
}

/// The filter in front of a tunnel that chooses among the clusters, if there is a choice. Envoy's
/// `tcp_proxy` goes by this entry of filter state, which no client can write.
pub(crate) fn choice(install: &Install) -> Option<Value> {
    let tunnel = &install.spec.tunnel;
    // Where the name is known the cluster is, too.
    let by_address = |exception: &&Exception| exception.domain_names.is_empty();
    let exceptions: Vec<_> = tunnel.exceptions.iter().filter(by_address).collect();
    if exceptions.is_empty() {
        return None;
    }
    let name = |framing| format!("'{}'", cluster(install, framing));
    let mut expression = name(tunnel.framing);
    for exception in exceptions.iter().rev() {
        let condition = condition(exception);
        expression = format!("{condition} ? {} : {expression}", name(exception.framing));
    }
    Some(json!({
        "name": "egress-warden.framing",
        "typed_config": {
            "@type":
                "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
            "on_new_connection": [{
                "object_key": TCP_CLUSTER,
                "factory_key": TCP_CLUSTER,
                "format_string": {
                    "omit_empty_values": true,
                    "text_format_source": {"inline_string": format!("%CEL({expression})%")},
                },
                // Without it the tunnel's own cluster holds.
                "skip_if_empty": true,
            }],
        },
    }))
}

/// The framing of tunnels that ask for a name.
pub(crate) fn framing_of_name(tunnel: &Tunnel, name: &str, port: u16) -> Framing {
    let holds = |exception: &&Exception| {
        let mut ports = exception.ports.iter();
        let names = &exception.domain_names;
        (exception.ports.is_empty()
            || ports.any(|ports| (ports.first()..=ports.last()).contains(&port)))
            && exception.networks.is_empty()
            && (names.is_empty() || names.iter().any(|known| known == name))
    };
    let found = tunnel.exceptions.iter().find(holds);
    found.map_or(tunnel.framing, |exception| exception.framing)
}

/// In CEL, over the address that was dialled. Envoy's has no networks, so a network of IPv4 is the
/// beginnings of its addresses as text.
fn condition(exception: &Exception) -> String {
    let ports = exception.ports.iter().map(|ports| {
        let (first, last) = (ports.first(), ports.last());
        if first == last {
            format!("destination.port == {first}")
        } else {
            format!("(destination.port >= {first} && destination.port <= {last})")
        }
    });
    let networks = exception.networks.iter().flat_map(beginnings);
    let networks = networks.map(|text| format!("destination.address.startsWith('{text}')"));
    let either = |terms: Vec<String>| (!terms.is_empty()).then(|| terms.join(" || "));
    let both = [either(ports.collect()), either(networks.collect())];
    let terms = both.into_iter().flatten().map(|term| format!("({term})"));
    terms.collect::<Vec<_>>().join(" && ")
}

/// How the addresses of a network begin in `ADDRESS:PORT`.
fn beginnings(network: &IpNet) -> Vec<String> {
    match network {
        IpNet::V4(network) => {
            let octets = usize::from(network.prefix_len().div_ceil(8));
            let step = u8::try_from(octets * 8).unwrap_or(32);
            let Ok(subnets) = network.subnets(step) else {
                return Vec::new();
            };
            let text = |octets: &[u8]| {
                let octets: Vec<_> = octets.iter().map(u8::to_string).collect();
                octets.join(".")
            };
            subnets
                .map(|subnet| {
                    let all = subnet.network().octets();
                    let first = text(all.get(..octets).unwrap_or(&all));
                    match octets {
                        0 => String::new(),
                        4 => first + ":",
                        _ => first + ".",
                    }
                })
                .collect()
        }
        // Not written out in full, so only a whole address begins in one way.
        IpNet::V6(network) => vec![format!("[{}]:", network.network())],
    }
}

/// What is wrong with the settings.
pub(crate) fn check(tunnel: &Tunnel, problems: &mut Vec<RenderError>) {
    let mut wrong = |place: &str, message: &str| problems.push(RenderError::new(place, message));
    if !(1..=1024).contains(&tunnel.window_mib) {
        wrong("spec.tunnel.windowMiB", "expected 1 to 1024");
    }
    for exception in &tunnel.exceptions {
        let place = "spec.tunnel.exceptions";
        let names = &exception.domain_names;
        if exception.ports.is_empty() && exception.networks.is_empty() && names.is_empty() {
            wrong(
                place,
                "an exception needs `ports`, `networks` or `domainNames`: for everything say \
                 `framing`",
            );
        }
        if !(exception.networks.is_empty() || names.is_empty()) {
            wrong(place, "an exception is for `networks` or for `domainNames`");
        }
        let written = |name: &&String| {
            Name::parse(name.as_bytes()).map_or(true, |parsed| parsed.as_str() != *name)
        };
        if let Some(name) = names.iter().find(written) {
            let message = format!("`{name}`: expected a whole name in lower case");
            wrong(place, &message);
        }
        for network in &exception.networks {
            let whole = network.prefix_len() == network.max_prefix_len();
            if matches!(network, IpNet::V6(_)) && !whole {
                let message =
                    format!("`{network}`: of IPv6 only whole addresses; a port can say the rest");
                wrong(place, &message);
            }
        }
        let prefixes: usize = exception.networks.iter().map(|n| beginnings(n).len()).sum();
        if prefixes > MOST_PREFIXES {
            let message = format!(
                "its networks are {prefixes} texts to compare, and at most {MOST_PREFIXES} are \
                 rendered: take networks that end at an octet, or a port"
            );
            wrong(place, &message);
        }
    }
}

#[cfg(test)]
mod tests;
