//! Where a request or connection goes: names against routes, tunnels and server names.
//!
//! "Two names for one destination must agree." Every disagreement is a refusal with its own code.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::facts::{DestinationFacts, Fact, Protocol};
use crate::name::{Authority, Host, Name, NamePattern};
use crate::reason::ReasonCode;

/// What a gateway cluster leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The hosts that it can connect to.
    pub host: RouteHost,
    /// The port that it connects to; `None` where the tunnel's authority says it.
    pub port: Option<u16>,
    /// What the port carries.
    pub protocol: Protocol,
}

/// The hosts that a cluster can connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteHost {
    /// One name.
    Name(Name),
    /// One address.
    Address(IpAddr),
    /// The names under a pattern, by dynamic forward proxy.
    Pattern(NamePattern),
    /// The names under any of these patterns, by dynamic forward proxy.
    OneOf(Arc<[NamePattern]>),
    /// Any host, by dynamic forward proxy or by the dialled address.
    Dynamic,
    /// The same without the names under these patterns, which have a cluster of their own.
    AllExcept(Arc<[NamePattern]>),
}

impl Route {
    /// Whether the cluster connects to this host and port.
    #[must_use]
    pub fn leads_to(&self, destination: &Destination) -> bool {
        self.host.covers(&destination.host)
            && self.port.is_none_or(|fixed| fixed == destination.port)
    }
}

impl RouteHost {
    /// Whether Envoy connects to the host that a verdict names, by dynamic forward proxy.
    #[must_use]
    pub const fn is_dynamic(&self) -> bool {
        match self {
            Self::Pattern(_) | Self::OneOf(_) | Self::Dynamic | Self::AllExcept(_) => true,
            Self::Name(_) | Self::Address(_) => false,
        }
    }

    fn covers(&self, host: &Host) -> bool {
        let among = |patterns: &[NamePattern], name| patterns.iter().any(|one| one.matches(name));
        match (self, host) {
            (Self::Dynamic, _) | (Self::AllExcept(_), Host::Address(_)) => true,
            (Self::OneOf(patterns), Host::Name(name)) => among(patterns, name),
            (Self::AllExcept(patterns), Host::Name(name)) => !among(patterns, name),
            (Self::Name(fixed), Host::Name(name)) => fixed == name,
            (Self::Pattern(pattern), Host::Name(name)) => pattern.matches(name),
            (Self::Address(fixed), Host::Address(address)) => fixed == address,
            (Self::Name(_) | Self::Pattern(_) | Self::OneOf(_), Host::Address(_))
            | (Self::Address(_), Host::Name(_)) => false,
        }
    }
}

/// The clusters that verdicts may lead to, as the gateway's configuration lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    clusters: BTreeMap<String, Route>,
    istio_ports: BTreeMap<u16, Protocol>,
    ending_tls: BTreeSet<String>,
}

impl RouteTable {
    /// Lists a cluster by its name. False if it is listed already.
    pub fn add_cluster(&mut self, name: String, route: Route) -> bool {
        self.clusters.insert(name, route).is_none()
    }

    /// Notes that a cluster leads inward, to where the TLS of the application in a tunnel ends, so
    /// that its requests are judged one by one.
    pub fn ends_tls_at(&mut self, cluster: String) {
        self.ending_tls.insert(cluster);
    }

    /// Whether the application's TLS ends behind this cluster, at this gateway.
    #[must_use]
    pub fn ends_tls(&self, cluster: &[u8]) -> bool {
        std::str::from_utf8(cluster).is_ok_and(|cluster| self.ending_tls.contains(cluster))
    }

    /// Takes the names that clusters list as theirs out of the clusters that lead to any host, for
    /// the same port and protocol: what has a cluster with TLS must not go out by another without.
    pub fn resolve_overlaps(&mut self) {
        let listed: Vec<(Route, Arc<[NamePattern]>)> = self
            .clusters
            .values()
            .filter_map(|route| match &route.host {
                RouteHost::OneOf(names) => Some((route.clone(), Arc::clone(names))),
                _ => None,
            })
            .collect();
        for (name, route) in &mut self.clusters {
            let same = |(other, _): &&(Route, _)| {
                (other.port, other.protocol) == (route.port, route.protocol)
            };
            let names: Vec<NamePattern> = listed
                .iter()
                .filter(same)
                .flat_map(|(_, names)| names.iter().cloned())
                .collect();
            let outward = !self.ending_tls.contains(name);
            if outward && route.host == RouteHost::Dynamic && !names.is_empty() {
                route.host = RouteHost::AllExcept(names.into());
            }
        }
    }

    /// Admits Istio's own clusters (`outbound|PORT||HOST`) of this port. False if it is listed
    /// already.
    pub fn add_istio_port(&mut self, port: u16, protocol: Protocol) -> bool {
        self.istio_ports.insert(port, protocol).is_none()
    }

    /// The one cluster listed, if there is exactly one: where a connection leads before Envoy has
    /// chosen its cluster.
    #[must_use]
    pub fn only(&self) -> Option<&Route> {
        let mut clusters = self.clusters.values();
        match (clusters.next(), clusters.next()) {
            (Some(route), None) if self.istio_ports.is_empty() => Some(route),
            _ => None,
        }
    }

    /// What all of the listed clusters and ports carry, if that is one protocol.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        let clusters = self.clusters.values().map(|route| route.protocol);
        let mut found = None;
        for protocol in clusters.chain(self.istio_ports.values().copied()) {
            if found.is_some_and(|other| other != protocol) {
                return None;
            }
            found = Some(protocol);
        }
        found
    }

    /// Where a cluster leads.
    ///
    /// # Errors
    /// [`ReasonCode::RouteMismatch`] for PassthroughCluster, BlackHoleCluster and every other cluster
    /// that is neither listed nor of Istio's form on a listed port.
    pub fn resolve(&self, cluster: &[u8]) -> Result<Cow<'_, Route>, ReasonCode> {
        let cluster = std::str::from_utf8(cluster).map_err(|_| ReasonCode::RouteMismatch)?;
        if let Some(route) = self.clusters.get(cluster) {
            return Ok(Cow::Borrowed(route));
        }
        let (port, host) = parse_istio_cluster(cluster).ok_or(ReasonCode::RouteMismatch)?;
        let protocol = self
            .istio_ports
            .get(&port)
            .ok_or(ReasonCode::RouteMismatch)?;
        Ok(Cow::Owned(Route {
            host,
            port: Some(port),
            protocol: *protocol,
        }))
    }
}

/// Istio's `outbound|PORT|SUBSET|HOST` (istio.io/istio, pkg/config/host and pilot/pkg/model:
/// `BuildSubsetKey`). A wildcard host stands as it does in a ServiceEntry.
fn parse_istio_cluster(cluster: &str) -> Option<(u16, RouteHost)> {
    let mut parts = cluster.split('|');
    let direction = parts.next()?;
    let port = parts.next()?;
    let _subset = parts.next()?;
    let host = parts.next()?;
    if direction != "outbound"
        || parts.next().is_some()
        || !port.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = if host.starts_with("*.") {
        RouteHost::Pattern(NamePattern::parse(host).ok()?)
    } else {
        match Authority::parse_sni(host.as_bytes()).ok()? {
            Host::Name(name) => RouteHost::Name(name),
            Host::Address(address) => RouteHost::Address(address),
        }
    };
    Some((port, host))
}

/// A destination whose names agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The name, or the address literal that stands for it.
    pub host: Host,
    /// The port at the outside.
    pub port: u16,
}

impl Destination {
    /// As facts. A literal is its own address; where a name leads is what `resolved` says.
    #[must_use]
    pub fn facts(&self, resolved: Fact<IpAddr>) -> DestinationFacts<'_> {
        let (name, address) = match &self.host {
            Host::Name(name) => (Some(name), resolved),
            Host::Address(address) => (None, Fact::Known(*address)),
        };
        DestinationFacts {
            name: Fact::Known(name),
            address,
            port: Fact::Known(self.port),
        }
    }
}

/// The destination of an HTTP request: its authority, the route it takes, and the server name of
/// application TLS that ended at this gateway, if any did.
///
/// # Errors
/// The grammar's codes; [`ReasonCode::RouteMismatch`] where the route leads elsewhere;
/// [`ReasonCode::HostMismatch`] where Host and `app_sni` differ.
pub fn from_request(
    authority: &[u8],
    route: &Route,
    app_sni: Option<&[u8]>,
) -> Result<Destination, ReasonCode> {
    let Authority {
        host,
        port: written,
    } = Authority::parse(authority)?;
    let port = route.port.ok_or(ReasonCode::RouteMismatch)?;
    let destination = Destination { host, port };
    // A dynamic forward proxy would connect to the port in Host; elsewhere it means nothing.
    let elsewhere = route.host.is_dynamic() && written.is_some_and(|written| written != port);
    if elsewhere || !route.leads_to(&destination) {
        return Err(ReasonCode::RouteMismatch);
    }
    if let Some(sni) = app_sni
        && Authority::parse_sni(sni)? != destination.host
    {
        return Err(ReasonCode::HostMismatch);
    }
    Ok(destination)
}

/// The destination of a CONNECT tunnel: the dialled address and port, or a name and port.
///
/// # Errors
/// The grammar's codes; [`ReasonCode::NameMalformed`] without a port; [`ReasonCode::RouteMismatch`] where the
/// route leads elsewhere.
pub fn from_tunnel(authority: &[u8], route: &Route) -> Result<Destination, ReasonCode> {
    let Authority { host, port } = Authority::parse(authority)?;
    let port = port.ok_or(ReasonCode::NameMalformed)?;
    let destination = Destination { host, port };
    route
        .leads_to(&destination)
        .then_some(destination)
        .ok_or(ReasonCode::RouteMismatch)
}

/// The destination of a request in TLS that came out of a tunnel and ended at this gateway: the
/// name that was dialled, if one was, the server name and Host are one, and the port is the dialled
/// one.
///
/// # Errors
/// Those of [`from_tls`] and [`from_request`]; [`ReasonCode::RouteMismatch`] where the port is another.
pub fn from_terminated_tls(
    dialled: &Destination,
    sni: &[u8],
    authority: &[u8],
    route: &Route,
) -> Result<Destination, ReasonCode> {
    from_tls(dialled, Hello::Name { sni, ech: false }, false)?;
    let judged = from_request(authority, route, Some(sni))?;
    (judged.port == dialled.port)
        .then_some(judged)
        .ok_or(ReasonCode::RouteMismatch)
}

/// The destination of a connection on a chain of its own, without a tunnel: the route's host.
///
/// # Errors
/// [`ReasonCode::RouteMismatch`] where the route has no single host and port.
pub fn from_chain(route: &Route) -> Result<Destination, ReasonCode> {
    let host = match &route.host {
        RouteHost::Name(name) => Host::Name(name.clone()),
        RouteHost::Address(address) => Host::Address(*address),
        RouteHost::Pattern(_)
        | RouteHost::OneOf(_)
        | RouteHost::Dynamic
        | RouteHost::AllExcept(_) => {
            return Err(ReasonCode::RouteMismatch);
        }
    };
    Ok(Destination {
        host,
        port: route.port.ok_or(ReasonCode::RouteMismatch)?,
    })
}

/// What was seen of a ClientHello. The name is the one that Envoy's own inspector found, because
/// Envoy connects by it; our reading gives reasons and can only deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello<'a> {
    /// A server name, and whether an encrypted ClientHello stands beside it.
    Name {
        /// The (outer) server name.
        sni: &'a [u8],
        /// An `encrypted_client_hello` extension is there.
        ech: bool,
    },
    /// A ClientHello without a server name.
    NoName,
    /// Not a ClientHello.
    Malformed,
    /// Longer than is read.
    TooLong,
}

/// The destination of TLS whose ClientHello was seen: its server name, which must agree with the
/// name that was dialled, if a name was.
///
/// # Errors
/// The grammar's codes and those of [`Hello`]; [`ReasonCode::SniMismatch`] where the dialled name is
/// another.
pub fn from_tls(
    dialled: &Destination,
    hello: Hello<'_>,
    refuse_ech: bool,
) -> Result<Destination, ReasonCode> {
    let sni = match hello {
        Hello::Name { ech: true, .. } if refuse_ech => return Err(ReasonCode::EchRefused),
        Hello::Name { sni, .. } => sni,
        Hello::NoName => return Err(ReasonCode::SniMissing),
        Hello::Malformed => return Err(ReasonCode::HelloMalformed),
        Hello::TooLong => return Err(ReasonCode::HelloTooLong),
    };
    // RFC 6066 §3: literal addresses are not permitted in HostName.
    let Host::Name(name) = Authority::parse_sni(sni)? else {
        return Err(ReasonCode::AddressForm);
    };
    match &dialled.host {
        Host::Name(asked) if *asked != name => Err(ReasonCode::SniMismatch),
        Host::Name(_) | Host::Address(_) => Ok(Destination {
            host: Host::Name(name),
            port: dialled.port,
        }),
    }
}

#[cfg(test)]
mod tests;
