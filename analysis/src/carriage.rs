//! Requests as the mesh carries them: a port carries one protocol for every workload, whatever a
//! client speaks there; sidecars send opaque TCP by address; and the gateway judges what it sends on in
//! TLS of its own at the port where the server speaks TLS.

use std::net::IpAddr;

use egress_policy::case::{HelloSeen, Target};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::Policy;
use egress_policy::name::{Host, Name, NamePattern};
use egress_policy::ports::{MeshPorts, Named, Origination, StatedPorts};
use egress_policy::verdict::ReasonCode;

use crate::bundle::PolicyBundle;
use crate::owned_facts::{OwnedFacts, parse_to};
use crate::witness::ordinary_address;

/// What becomes of a request or a connection at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// It is judged as it was asked for.
    AsAsked,
    /// The port carries opaque TCP, so sidecars send it by address.
    ByAddress,
    /// The port carries something else, so it does not get through, for this reason.
    Refused(ReasonCode),
}

impl Carriage {
    /// The facts that a gateway judges. Where a name leads stays what it is.
    pub(crate) fn judged(self, asked: &OwnedFacts) -> OwnedFacts {
        let mut facts = asked.clone();
        match self {
            Self::AsAsked => {}
            Self::ByAddress => {
                facts.protocol = Protocol::Tcp;
                facts.name = Fact::Known(None);
                facts.method = Fact::Pending;
                facts.path = Fact::Pending;
                facts.upgrade = Fact::Pending;
                facts.refused = None;
            }
            Self::Refused(reason) => facts.refused = Some(reason),
        }
        facts
    }
}

/// The mesh of some policies: what its ports carry, and under which names.
pub struct Mesh {
    ports: MeshPorts,
    named: Vec<Named>,
    /// An ordinary public address that no rule singles out.
    ordinary: Option<IpAddr>,
    /// A rendered manifest does not say what ports carry: everything is judged as it is asked for.
    unstated: bool,
}

/// The names to which the gateway speaks TLS in one way.
pub(crate) fn originated(origination: &Origination) -> Vec<NamePattern> {
    let names = origination.names.iter();
    names
        .filter_map(|text| NamePattern::parse(text).ok())
        .collect()
}

/// What the gateway judges of what a client asks for.
pub struct Judged {
    /// The facts.
    pub facts: OwnedFacts,
    /// What became of it on the way, in words.
    pub said: Vec<String>,
    /// The address is an ordinary one that stands for where the name leads.
    pub ordinary: bool,
}

impl Mesh {
    /// The mesh of a bundle.
    #[must_use]
    pub fn of(bundle: &PolicyBundle) -> Self {
        Self {
            unstated: bundle.rendered,
            ..Self::stated(&bundle.policies, &bundle.protocols)
        }
    }

    /// The mesh of policies with these install settings.
    pub(crate) fn stated(policies: &[Policy], settings: &StatedPorts) -> Self {
        let ports = MeshPorts::of(policies, settings, &mut Vec::new());
        Self {
            named: ports.named_tcp(policies),
            ports,
            ordinary: ordinary_address(policies),
            unstated: false,
        }
    }

    /// What a port carries.
    pub(crate) fn protocol(&self, port: u16) -> Protocol {
        self.ports.protocol(port)
    }

    /// The ports that carry HTTP or TLS.
    pub(crate) fn routed(&self) -> impl Iterator<Item = u16> {
        self.ports.http.iter().chain(&self.ports.tls).copied()
    }

    /// Where the gateway speaks TLS itself.
    pub(crate) fn originations(&self) -> &[Origination] {
        &self.ports.originations
    }

    /// Names that sidecars ask for over opaque TCP, with their ports.
    pub(crate) fn named(&self) -> &[Named] {
        &self.named
    }

    /// An ordinary public address that no rule singles out.
    pub(crate) const fn ordinary(&self) -> Option<IpAddr> {
        self.ordinary
    }

    /// Whether sidecars ask for a name over opaque TCP at a port: the install settings give it an
    /// address that stands for it (`tunnel.names`).
    pub(crate) fn names_over_tcp(&self, name: &str, port: u16) -> bool {
        let mut named = self.named.iter();
        named.any(|one| one.name == name && one.ports.contains(&port))
    }

    /// Who asks the gateway for a name over opaque TCP, if that is what the facts are about.
    #[must_use]
    pub fn asks_by_name(&self, facts: &OwnedFacts) -> Option<&'static str> {
        let (Protocol::Tcp, Fact::Known(Some(name)), Fact::Known(port)) =
            (facts.protocol, &facts.name, facts.port)
        else {
            return None;
        };
        Some(if self.names_over_tcp(name.as_str(), port) {
            "the install settings give the name an address (`tunnel.names`), and the sidecar asks for the name; without it sidecars send opaque TCP by address: ask for tcp://ADDRESS"
        } else {
            "the client asks the gateway for the name by CONNECT itself; sidecars send opaque TCP by address: ask for tcp://ADDRESS"
        })
    }

    /// Whether nothing is known of what ports carry.
    pub(crate) const fn is_unstated(&self) -> bool {
        self.unstated
    }

    /// Whether clients' requests of this protocol come at this port as such.
    pub(crate) fn carries(&self, protocol: Protocol, port: u16) -> bool {
        self.unstated || protocol == Protocol::Udp || self.protocol(port) == protocol
    }

    /// What becomes of a protocol at a port.
    pub(crate) fn carriage(&self, asked: Protocol, port: u16) -> Carriage {
        if self.carries(asked, port) {
            return Carriage::AsAsked;
        }
        match self.protocol(port) {
            Protocol::Tcp => Carriage::ByAddress,
            Protocol::Http => Carriage::Refused(ReasonCode::RouteMismatch),
            Protocol::Tls | Protocol::Udp => Carriage::Refused(ReasonCode::HelloMalformed),
        }
    }

    /// What the gateway judges of what a client asks for, whoever it is.
    #[must_use]
    pub fn judged(&self, asked: &OwnedFacts) -> Judged {
        let mut judged = Judged {
            facts: asked.clone(),
            said: Vec::new(),
            ordinary: false,
        };
        if let Fact::Known(port) = asked.port {
            self.carry(asked, port, &mut judged);
            self.send_on(&mut judged);
        }
        judged
    }

    /// What a gateway is given of a case's URL, where the mesh carries it otherwise than it is asked for.
    pub fn carry_target(&self, target: &mut Target) {
        let url = target.url.as_deref();
        let Some(asked) = url.and_then(|url| parse_to(url, None).ok()) else {
            return;
        };
        let judged = self.judged(&asked).facts;
        let host = match (&judged.name, judged.address) {
            (Fact::Known(Some(name)), _) => Host::Name(name.clone()),
            (_, Fact::Known(address)) => Host::Address(address),
            (_, Fact::Pending | Fact::Missing) => return,
        };
        let port = judged.port.known().unwrap_or_default();
        let tunnel = |protocol, hello| Target {
            protocol,
            hello,
            dialled: Some(format!("{}:{port}", host.in_authority()).into_bytes()),
            url: target.url.clone(),
            ..Target::default()
        };
        if asked.refused.is_none() && judged.refused == Some(ReasonCode::RouteMismatch) {
            *target = Target {
                authority: Some(format!("{}:{port}", host.in_authority()).into_bytes()),
                cluster: Some(b"BlackHoleCluster".to_vec()),
                url: target.url.clone(),
                ..Target::default()
            };
        } else if asked.refused.is_none() && judged.refused.is_some() {
            *target = tunnel(Protocol::Tls, Fact::Known(HelloSeen::Malformed));
        } else if judged.protocol != asked.protocol {
            *target = tunnel(judged.protocol, Fact::Pending);
        } else if judged.port != asked.port {
            target.port = Some(port);
        }
    }

    fn carry(&self, asked: &OwnedFacts, port: u16, judged: &mut Judged) {
        let carriage = self.carriage(asked.protocol, port);
        let named = matches!(asked.name, Fact::Known(Some(_)));
        let address = if named {
            self.ordinary
        } else {
            asked.address.known()
        };
        match carriage {
            Carriage::AsAsked => return,
            Carriage::Refused(_) => judged.said.push(self.why_refused(asked.protocol, port)),
            Carriage::ByAddress => {
                judged.said.push(format!(
                    "port {port} carries opaque TCP in this mesh, so sidecars send it by address; for {} \
                     a rule of the first policy says `protocols: [{0}]` there, or the install settings do",
                    asked.protocol.as_str()
                ));
                if address.is_none() {
                    return;
                }
            }
        }
        judged.facts = carriage.judged(asked);
        if let (Carriage::ByAddress, Some(address)) = (carriage, address) {
            judged.facts.address = Fact::Known(address);
            judged.ordinary = named;
        }
        if matches!(carriage, Carriage::Refused(_)) {
            judged.facts.protocol = self.protocol(port);
        }
    }

    /// What becomes of a client that speaks something else than the port carries.
    fn why_refused(&self, spoken: Protocol, port: u16) -> String {
        let carried = self.protocol(port);
        let start = format!(
            "port {port} carries {} in this mesh, and the client speaks",
            carried.as_str()
        );
        match (spoken, carried) {
            (Protocol::Http, _) => format!("{start} plain HTTP there"),
            (_, Protocol::Http) => format!(
                "{start} {} there: the sidecar reads no request in it and closes the connection, so it \
                 never reaches the gateway",
                spoken.as_str()
            ),
            _ => format!(
                "{start} something else there: bytes that are no ClientHello are refused, and a server that \
                 speaks first is never heard; where the client speaks TLS, ask for tls://HOST:{port}"
            ),
        }
    }

    /// What the gateway sends on in TLS of its own is judged at the port where the server speaks TLS.
    fn send_on(&self, judged: &mut Judged) {
        let facts = &mut judged.facts;
        let (Fact::Known(Some(name)), Fact::Known(port)) = (&facts.name, facts.port) else {
            return;
        };
        match facts.protocol {
            Protocol::Http => {
                let Some(origination) = self.ports.origination(name, port) else {
                    return;
                };
                judged.said.push(format!(
                    "the gateway speaks TLS to `{name}` itself, at port {}, which is the port that is judged",
                    origination.port
                ));
                facts.port = Fact::Known(origination.port);
            }
            Protocol::Tls => judged.said.extend(self.asked_in_tls(name, port)),
            Protocol::Tcp | Protocol::Udp => {}
        }
    }

    fn asked_in_tls(&self, name: &Name, port: u16) -> Option<String> {
        let own = self.ports.originations.iter();
        let own = own.filter(|one| one.port == port && one.holds(name));
        let entry = match own.map(Origination::entry).next()? {
            80 => String::new(),
            port => format!(":{port}"),
        };
        Some(format!(
            "the gateway speaks TLS to `{name}` itself where the application speaks HTTP: ask for \
             http://{name}{entry}"
        ))
    }
}
