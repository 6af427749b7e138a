//! The network filter: TLS that came out of a tunnel, and chains with one destination each.
//!
//! Judges at every event with the facts that have come by then. Client bytes are held until the
//! verdict; of the server's a few may pass before it, because server-first protocols wait for
//! theirs. After a denial nothing passes.
//!
//! Never placed before an HTTP connection manager: there Envoy chooses no cluster for the
//! connection, which is a mismatch of routes and closes it.

use std::borrow::Cow;
use std::rc::Rc;

use egress_policy::contract::{CLUSTER_TLS, class_cluster};
use egress_policy::destination::{Destination, Hello, Route, from_chain, from_tls};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::verdict::{Action, Evaluation, ReasonCode, Verdict};

use crate::caller::{identity, identity_so_far};
use crate::hello::{MAX_READ, Reader, Reading};
use crate::host::{Flow, Host, HostError};
use crate::plugin::Plugin;
use crate::position::CLUSTER;
use crate::revalidation::StreamEpoch;
use crate::state::{self, Permit, VerdictToken};
use crate::stream_facts::{DestinationState, RequestLine, StreamFacts};

/// Most bytes of the server that pass before the verdict: a banner, not a document.
pub const MAX_SERVER_BYTES: usize = 4_096;

/// The name that Envoy found in the ClientHello of the connection.
pub const SNI: &[&str] = &["connection", "requested_server_name"];
/// Where Envoy's TLS inspector says why it found no name.
const INSPECTOR: &[&str] = &[
    "metadata",
    "filter_metadata",
    "envoy.filters.listener.tls_inspector",
    "failure_reason",
];

/// One connection.
#[derive(Debug)]
pub struct Network<H: Host> {
    plugin: Rc<Plugin<H>>,
    id: u32,
    epoch: StreamEpoch,
    origin: Origin,
    hello: Reader,
    server_bytes: usize,
    phase: Phase,
    /// The route that Envoy was told to take, if it was told one.
    chosen: Option<ChosenRoute>,
}

/// What a verdict opens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ChosenRoute {
    /// The inspection proxy that the connection goes through.
    proxy: Option<Box<str>>,
    /// The address class.
    class: Rc<str>,
    /// The cluster that Envoy connects by; `None` where that is the chain's.
    cluster: Option<String>,
}

impl ChosenRoute {
    /// The token that opens it.
    fn token(&self) -> VerdictToken<'_> {
        match &self.proxy {
            None => VerdictToken::Accept(&self.class),
            Some(proxy) => VerdictToken::Inspect(proxy, &self.class),
        }
    }
}

/// Where the connection comes from.
#[derive(Debug)]
enum Origin {
    /// Out of a tunnel, with the facts that the outer connection had.
    Tunnel(Box<StreamFacts>),
    /// Over the wire, on a chain of its own.
    Chain,
}

#[derive(Debug)]
enum Phase {
    Undecided,
    Open(Permit),
    Closed,
}

/// The event at which facts are looked at.
#[derive(Debug)]
enum Moment {
    /// At accept, before a handshake.
    Accept,
    /// The server sent bytes.
    Server,
    /// The client sent bytes: the handshake is complete and its metadata has come, if any did.
    Client(Option<Reading>),
}

impl<H: Host> Network<H> {
    /// A connection under this configuration; `id` is its context.
    pub fn new(plugin: Rc<Plugin<H>>, id: u32) -> Self {
        Self {
            epoch: plugin.begin(),
            plugin,
            id,
            origin: Origin::Chain,
            hello: Reader::default(),
            server_bytes: 0,
            phase: Phase::Undecided,
            chosen: None,
        }
    }

    /// Judges by what is known at accept.
    pub fn on_new_connection(&mut self) -> Flow {
        match state::read_from_tunnel(&self.plugin.host) {
            Ok(Some(facts)) => self.origin = Origin::Tunnel(Box::new(facts)),
            Ok(None) => {}
            Err(HostError) => return self.fail(),
        }
        let facts = self.collect(&Moment::Accept);
        let plugin = Rc::clone(&self.plugin);
        let verdict = match (plugin.evaluate(&facts), &self.origin) {
            (Evaluation::Final(verdict), _) => verdict,
            (Evaluation::Undecided, Origin::Chain) => return self.hold(facts),
            // Nothing more comes of who calls and where to; and Envoy chooses its cluster now.
            (Evaluation::Undecided, Origin::Tunnel(_)) => {
                Verdict::refusal(ReasonCode::FactsMissing)
            }
        };
        if verdict.enforced.action == Action::Deny {
            return self.finish(&facts, &verdict);
        }
        let route = match self.route_for(&facts, &verdict) {
            Ok(route) => route,
            Err(code) => return self.refuse(&facts, code),
        };
        if let Origin::Tunnel(_) = self.origin {
            // The tunnel counts as the stream; the name is asked for here.
            if let Err(code) = self.plugin.take(&facts, false, false, true) {
                return self.refuse(&facts, code);
            }
            if self.set_route(&route, &facts, &verdict).is_err() {
                return self.fail();
            }
            self.chosen = Some(route);
        } else if facts.protocol == Protocol::Tcp {
            return self.finish(&facts, &verdict);
        }
        // TLS is opened only when its ClientHello has been read.
        self.hold(facts)
    }

    /// The route that a verdict opens: out of a tunnel by the clusters of its address class, on a
    /// chain of its own by the chain's, which knows no class. What comes over the wire cannot be
    /// inspected: at accept, when Envoy chooses its cluster, its caller is not known yet.
    fn route_for(
        &self,
        facts: &StreamFacts,
        verdict: &Verdict<'_>,
    ) -> Result<ChosenRoute, ReasonCode> {
        let by_class = matches!(self.origin, Origin::Tunnel(_));
        let class = self.plugin.class_of(facts, verdict, by_class)?;
        let (proxy, cluster) = match (verdict.enforced.action, by_class) {
            (Action::Accept, true) => (None, Some(self.tls_cluster(facts)?)),
            (Action::Accept, false) => (None, None),
            (Action::Inspect(proxy), true) => {
                let cluster = self.plugin.proxy_cluster(proxy);
                (Some(proxy), Some(cluster.ok_or(ReasonCode::EngineError)?))
            }
            (Action::Inspect(_), false) | (Action::Deny, _) => {
                return Err(ReasonCode::RouteMismatch);
            }
        };
        Ok(ChosenRoute {
            proxy: proxy.map(Box::from),
            cluster: cluster.map(|cluster| class_cluster(cluster, &class)),
            class,
        })
    }

    /// The cluster for TLS, of which there is one for each class, if it may carry TLS to this name
    /// and port.
    fn tls_cluster(&self, facts: &StreamFacts) -> Result<&'static str, ReasonCode> {
        let judged = facts.destination.known();
        let judged = judged.ok_or(ReasonCode::RouteMismatch)?;
        let route = self.plugin.config.routes.resolve(CLUSTER_TLS.as_bytes())?;
        let carries = route.protocol == Protocol::Tls && route.host.is_dynamic();
        (carries && route.leads_to(judged))
            .then_some(CLUSTER_TLS)
            .ok_or(ReasonCode::RouteMismatch)
    }

    /// Makes Envoy take the route. Only at accept: `tcp_proxy` chooses its cluster right after it.
    fn set_route(
        &self,
        route: &ChosenRoute,
        facts: &StreamFacts,
        verdict: &Verdict<'_>,
    ) -> Result<(), HostError> {
        let host = &self.plugin.host;
        if let Action::Inspect(proxy) = verdict.enforced.action {
            state::set_inspection_metadata(host, proxy, &verdict.enforced, facts)?;
        }
        let judged = facts.destination.known().ok_or(HostError)?;
        state::connect_tls_to(host, judged, &route.class)?;
        state::connect_by(host, route.cluster.as_deref().ok_or(HostError)?)
    }

    /// The route that a verdict opens, if it is the one that Envoy has taken.
    fn taken_route(
        &self,
        facts: &StreamFacts,
        verdict: &Verdict<'_>,
    ) -> Result<ChosenRoute, ReasonCode> {
        let route = self.route_for(facts, verdict)?;
        let taken = match (&self.chosen, &route.cluster) {
            (Some(chosen), Some(cluster)) => {
                let taken = self.plugin.host.property(CLUSTER).ok().flatten();
                *chosen == route && taken.as_deref() == Some(cluster.as_bytes())
            }
            // On a chain of its own the destination was read of the cluster.
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        taken.then_some(route).ok_or(ReasonCode::RouteMismatch)
    }

    /// Holds client bytes until the verdict.
    pub fn on_downstream_data(&mut self, size: usize) -> Flow {
        match &self.phase {
            Phase::Closed => return Flow::Stop,
            Phase::Open(_) | Phase::Undecided if self.ends() => return self.close(),
            Phase::Open(permit) => return permit.go(),
            Phase::Undecided if self.plugin.is_overdue(self.id) => return self.close(),
            Phase::Undecided if size == 0 => return Flow::Stop,
            Phase::Undecided => {}
        }
        let reading = match self.read_hello(size) {
            Some(Reading::Incomplete) => return Flow::Stop,
            reading => reading,
        };
        let facts = self.collect(&Moment::Client(reading));
        let plugin = Rc::clone(&self.plugin);
        let verdict = plugin.conclude(&facts, ReasonCode::FactsMissing);
        self.finish(&facts, &verdict)
    }

    /// Lets a banner pass while some completion of the facts accepts.
    pub fn on_upstream_data(&mut self, size: usize) -> Flow {
        match &self.phase {
            Phase::Closed => return Flow::Stop,
            Phase::Open(_) | Phase::Undecided if self.ends() => return self.close(),
            Phase::Open(permit) => return permit.go(),
            Phase::Undecided if self.plugin.is_overdue(self.id) => return self.close(),
            Phase::Undecided => {}
        }
        let facts = self.collect(&Moment::Server);
        let plugin = Rc::clone(&self.plugin);
        match plugin.evaluate(&facts) {
            // TLS is opened only when its ClientHello has been read.
            Evaluation::Final(verdict)
                if facts.protocol == Protocol::Tcp
                    || self.taken_route(&facts, &verdict).is_err() =>
            {
                self.finish(&facts, &verdict)
            }
            Evaluation::Final(_) | Evaluation::Undecided => {
                self.server_bytes = self.server_bytes.saturating_add(size);
                if self.server_bytes > MAX_SERVER_BYTES {
                    return self.refuse(&facts, ReasonCode::UndecidedLimit);
                }
                self.hold(facts)
            }
        }
    }

    /// Whether it has to end, opened or not, because its policy has been replaced.
    fn ends(&self) -> bool {
        self.plugin
            .ends(self.epoch, self.protocol(), || match &self.origin {
                Origin::Tunnel(facts) => facts.identity.clone(),
                Origin::Chain => identity(&self.plugin.host),
            })
    }

    /// What its route carries, if that is known.
    fn route_protocol(&self) -> Option<Protocol> {
        match &self.origin {
            Origin::Tunnel(facts) => Some(facts.protocol),
            Origin::Chain => self.route().ok().map(|route| route.protocol),
        }
    }

    /// What it carries, for the log also where its route is not known: what everything here
    /// carries, and bytes where even that is not one protocol.
    fn protocol(&self) -> Protocol {
        self.route_protocol()
            .unwrap_or_else(|| self.usual_protocol())
    }

    fn usual_protocol(&self) -> Protocol {
        let routes = &self.plugin.config.routes;
        routes.protocol().unwrap_or(Protocol::Tcp)
    }

    /// The next bytes of the ClientHello; `None` where there is none to read.
    fn read_hello(&mut self, size: usize) -> Option<Reading> {
        if self.route_protocol() != Some(Protocol::Tls) {
            return None;
        }
        loop {
            let from = self.hello.read();
            let wanted = size.saturating_sub(from).min(MAX_READ);
            if wanted == 0 {
                return Some(Reading::Incomplete);
            }
            let Ok(bytes) = self.plugin.host.downstream_data(from, wanted) else {
                return Some(Reading::Malformed);
            };
            match self.hello.feed(&bytes) {
                // A record header that is cut off is offered again with the next bytes.
                Reading::Incomplete if self.hello.read() > from => {}
                reading => return Some(reading),
            }
        }
    }

    fn collect(&self, moment: &Moment) -> StreamFacts {
        let mut facts = match &self.origin {
            Origin::Tunnel(facts) => self.out_of_tunnel(facts, moment),
            Origin::Chain => self.on_chain(moment),
        };
        facts.now = self.plugin.now();
        facts
    }

    /// TLS whose connection was judged outside as far as it could be: now its name is known.
    fn out_of_tunnel(&self, outer: &StreamFacts, moment: &Moment) -> StreamFacts {
        let judged = match outer.destination.known() {
            Some(dialled) if outer.protocol == Protocol::Tls => self.inner_name(dialled, moment),
            Some(_) | None => Err(ReasonCode::RouteMismatch),
        };
        StreamFacts {
            destination: DestinationState::judged(judged),
            ..outer.clone()
        }
    }

    /// The name that Envoy's inspector found, and by which Envoy connects.
    fn inner_name(
        &self,
        dialled: &Destination,
        moment: &Moment,
    ) -> Result<Destination, ReasonCode> {
        let property = |path| self.plugin.host.property(path);
        let found = property(SNI).map_err(|HostError| ReasonCode::FactsMissing)?;
        let found = found.filter(|sni| !sni.is_empty());
        let refuse_ech = self.plugin.config.refuse_ech;
        let (sni, ech) = match (found, moment) {
            (Some(sni), Moment::Client(Some(Reading::Hello { sni: own, ech }))) => match own {
                Some(own) if own.eq_ignore_ascii_case(&sni) => (sni, *ech),
                // Two readers of one ClientHello differ over it.
                Some(_) | None => return Err(ReasonCode::SniMismatch),
            },
            (Some(_), Moment::Client(reading)) => {
                return from_tls(dialled, hello(reading.as_ref()), refuse_ech);
            }
            (Some(sni), Moment::Accept | Moment::Server) => (sni, false),
            (None, _) => {
                let reason = property(INSPECTOR).ok().flatten();
                return Err(match reason.as_deref() {
                    Some(b"ClientHelloNotDetected") => ReasonCode::HelloMalformed,
                    Some(b"ClientHelloTooLarge") => ReasonCode::HelloTooLong,
                    Some(_) | None => ReasonCode::SniMissing,
                });
            }
        };
        from_tls(dialled, Hello::Name { sni: &sni, ech }, refuse_ech)
    }

    /// A connection on a chain of its own: the chain's cluster is its destination.
    fn on_chain(&self, moment: &Moment) -> StreamFacts {
        let route = self.route();
        let mut facts = StreamFacts {
            protocol: route
                .as_ref()
                .map_or_else(|_| self.usual_protocol(), |route| route.protocol),
            identity: match moment {
                Moment::Accept | Moment::Server => identity_so_far(&self.plugin.host),
                Moment::Client(_) => identity(&self.plugin.host),
            },
            claims: self
                .plugin
                .claims_so_far(matches!(moment, Moment::Client(_))),
            destination: DestinationState::Unknown,
            request: RequestLine::none(),
            now: Fact::Missing,
        };
        facts.destination = match route {
            Ok(route) => DestinationState::judged(self.chain_destination(&route, moment)),
            Err(_) if matches!(moment, Moment::Accept) => DestinationState::Unknown,
            Err(code) => DestinationState::Refused(code),
        };
        facts
    }

    fn chain_destination(&self, route: &Route, moment: &Moment) -> Result<Destination, ReasonCode> {
        let chain = from_chain(route)?;
        match (route.protocol, moment) {
            (Protocol::Tcp, _) | (Protocol::Tls, Moment::Accept | Moment::Server) => Ok(chain),
            (Protocol::Tls, Moment::Client(reading)) => {
                let refuse_ech = self.plugin.config.refuse_ech;
                let named = from_tls(&chain, hello(reading.as_ref()), refuse_ech)?;
                // A name is no reason to connect to an address that the chain, not the name, says.
                route
                    .leads_to(&named)
                    .then_some(named)
                    .ok_or(ReasonCode::RouteMismatch)
            }
            (Protocol::Http | Protocol::Udp, _) => Err(ReasonCode::RouteMismatch),
        }
    }

    /// The route of Envoy's cluster; before Envoy has chosen one, the only one there is.
    fn route(&self) -> Result<Route, ReasonCode> {
        let routes = &self.plugin.config.routes;
        match self.plugin.host.property(CLUSTER) {
            Ok(Some(cluster)) => routes.resolve(&cluster).map(Cow::into_owned),
            Ok(None) => routes.only().cloned().ok_or(ReasonCode::RouteMismatch),
            Err(HostError) => Err(ReasonCode::RouteMismatch),
        }
    }

    /// Waits for more facts, for a while.
    fn hold(&mut self, facts: StreamFacts) -> Flow {
        if self.plugin.hold(self.id, facts) {
            // Still undecided: the RBAC lock is closed, client bytes stay here, and the server's
            // are counted.
            Flow::Continue
        } else {
            self.fail()
        }
    }

    fn finish(&mut self, facts: &StreamFacts, verdict: &Verdict<'_>) -> Flow {
        self.plugin.forget(self.id);
        match verdict.enforced.action {
            Action::Deny => self.deny(facts, verdict),
            Action::Accept | Action::Inspect(_) => match self.taken_route(facts, verdict) {
                Ok(route) => self.open(&route, facts, verdict),
                // It opens another route than the one that Envoy has taken.
                Err(code) => self.refuse(facts, code),
            },
        }
    }

    fn open(&mut self, route: &ChosenRoute, facts: &StreamFacts, verdict: &Verdict<'_>) -> Flow {
        let Ok(permit) = state::store_verdict(&self.plugin.host, route.token()) else {
            return self.fail();
        };
        self.plugin.note(facts, verdict);
        let flow = permit.go();
        self.phase = Phase::Open(permit);
        flow
    }

    fn deny(&mut self, facts: &StreamFacts, verdict: &Verdict<'_>) -> Flow {
        state::store_denial(&self.plugin.host, &verdict.enforced);
        self.plugin.note(facts, verdict);
        self.close()
    }

    fn refuse(&mut self, facts: &StreamFacts, code: ReasonCode) -> Flow {
        self.deny(facts, &Verdict::refusal(code))
    }

    /// Something that must not fail did.
    fn fail(&mut self) -> Flow {
        let facts = StreamFacts::refused(self.protocol(), ReasonCode::EngineError);
        self.refuse(&facts, ReasonCode::EngineError)
    }

    fn close(&mut self) -> Flow {
        self.phase = Phase::Closed;
        self.plugin.forget(self.id);
        // If it stays open, nothing passes through it any more.
        let _ = self.plugin.host.close_downstream();
        Flow::Stop
    }
}

impl<H: Host> Drop for Network<H> {
    fn drop(&mut self) {
        self.plugin.forget(self.id);
    }
}

/// Our own reading, in the engine's words. It knows no more than that there is none where the
/// bytes never came.
fn hello(reading: Option<&Reading>) -> Hello<'_> {
    match reading {
        Some(Reading::Hello {
            sni: Some(sni),
            ech,
        }) => Hello::Name { sni, ech: *ech },
        Some(Reading::Hello { sni: None, .. }) => Hello::NoName,
        Some(Reading::TooLong) => Hello::TooLong,
        Some(Reading::Malformed | Reading::Incomplete) | None => Hello::Malformed,
    }
}

#[cfg(test)]
pub(crate) mod tests;
