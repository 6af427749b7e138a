//! Ways around the gateway. No rule opens one; the only exception is what a UDP rule says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use egress_policy::address::metadata;

use super::plan::{Plan, Planned};
use super::{Attempt, Captured, Group, Probe, ProbeExpectation};

/// What is known about the pod that matters here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Direct {
    /// Which families of TCP a proxy in the pod takes.
    pub(crate) captured: Captured,
    /// Whether this user may send ICMP.
    pub(crate) may_ping: bool,
    /// The pod's own resolvers.
    pub(crate) resolvers: Vec<IpAddr>,
}

/// Public resolvers that answer everybody: over UDP, TCP, TLS, QUIC and ICMP alike.
const RESOLVERS: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
];
/// Most addresses of allowed destinations that are tried past the gateway.
const MOST_ALLOWED: usize = 16;

/// Plans every way around.
pub(super) fn plan(plan: &Plan<'_>, reached: &[Probe], direct: &Direct, planned: &mut Planned) {
    let mut allowed: Vec<SocketAddr> = Vec::new();
    for probe in reached {
        if let Attempt::Http { to, .. } | Attempt::Tls { to, .. } | Attempt::Tcp { to } =
            probe.attempt
            && probe.known_live
            && !allowed.contains(&to)
        {
            allowed.push(to);
        }
    }
    allowed.truncate(MOST_ALLOWED);
    let foreign: Vec<IpAddr> = RESOLVERS
        .into_iter()
        .filter(|address| !direct.resolvers.contains(address))
        .collect();
    tcp(&allowed, &foreign, direct.captured, planned);
    datagrams(plan, &allowed, &foreign, planned);
    if !direct.may_ping {
        planned.leave_out("ICMP: this user may not send it".to_owned());
        return;
    }
    let mut pinged: Vec<IpAddr> = allowed.iter().map(SocketAddr::ip).collect();
    pinged.extend(&foreign);
    pinged.dedup();
    for to in pinged {
        planned.push(closed("ICMP", Attempt::Ping { to }));
    }
}

fn closed(why: &str, attempt: Attempt) -> Probe {
    Probe {
        group: Group::Bypass,
        why: why.to_owned(),
        attempt,
        expected: ProbeExpectation::closed(),
        known_live: true,
    }
}

fn tcp(allowed: &[SocketAddr], foreign: &[IpAddr], captured: Captured, planned: &mut Planned) {
    let mut routes: Vec<(&str, SocketAddr)> = Vec::new();
    routes.extend(
        allowed
            .iter()
            .map(|to| ("an allowed address, past the gateway", *to)),
    );
    for address in foreign {
        for (port, why) in [
            (53, "a foreign resolver"),
            (853, "a foreign resolver over TLS"),
            (443, "the outside, by its number"),
        ] {
            routes.push((why, SocketAddr::new(*address, port)));
        }
    }
    // A link-local IPv6 address has no meaning without the interface that it is of.
    let metadata = metadata().filter(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    });
    routes.extend(metadata.map(|address| ("cloud metadata", SocketAddr::new(address, 80))));
    for (why, to) in routes {
        if captured.takes(to.ip()) {
            let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
            planned.leave_out(format!(
                "direct TCP over {family}: a proxy in the pod takes this user's connections; \
                 try again as the proxy's user (1337)"
            ));
        } else {
            planned.push(closed(why, Attempt::Direct { to }));
        }
    }
}

fn datagrams(plan: &Plan<'_>, allowed: &[SocketAddr], foreign: &[IpAddr], planned: &mut Planned) {
    let mut routes: Vec<(&str, SocketAddr)> = Vec::new();
    routes.extend(allowed.iter().map(|to| {
        (
            "an allowed address over QUIC",
            SocketAddr::new(to.ip(), 443),
        )
    }));
    for address in foreign {
        routes.push(("a foreign resolver", SocketAddr::new(*address, 53)));
        routes.push(("the outside over QUIC", SocketAddr::new(*address, 443)));
    }
    for (why, to) in routes {
        planned.push(plan.udp(Group::Bypass, to, why.to_owned()));
    }
}
