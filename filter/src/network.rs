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
use egress_policy::destination::{Destination, Hello, Route, from_chain, from_tls, from_tunnel};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::verdict::{Action, Evaluation, ReasonCode, Verdict};

use crate::caller::{identity, identity_so_far};
use crate::denial::written;
use crate::hello::{MAX_READ, Reader, Reading};
use crate::host::{Flow, Host, HostError};
use crate::owned_facts::{DestinationState, OwnedFacts, RequestLine};
use crate::plugin::Plugin;
use crate::position::CLUSTER;
use crate::revalidation::StreamEpoch;
use crate::state::{self, VerdictToken};

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
    began: StreamEpoch,
    origin: Origin,
    hello: Reader,
    server_bytes: usize,
    phase: Phase,
    /// The way that Envoy was told to take, if it was told one.
    chosen: Option<ChosenRoute>,
}

/// A way out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ChosenRoute {
    /// The token that opens it.
    word: String,
    /// Its address class.
    class: Rc<str>,
    /// The cluster that it goes by; `None` where that is the chain's.
    cluster: Option<String>,
}

/// Where the connection comes from.
#[derive(Debug)]
enum Origin {
    /// Out of a tunnel, with the facts that the outer connection had.
    Tunnel(Box<OwnedFacts>),
    /// Over the wire, on a chain of its own.
    Chain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Undecided,
    Open,
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
            began: plugin.begin(),
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
        let gathered = self.gather(&Moment::Accept);
        let plugin = Rc::clone(&self.plugin);
        let verdict = match (plugin.evaluate(&gathered), &self.origin) {
            (Evaluation::Final(verdict), _) => verdict,
            (Evaluation::Undecided, Origin::Chain) => return self.hold(gathered),
            // Nothing more comes of who calls and where to; and only now can the way be chosen.
            (Evaluation::Undecided, Origin::Tunnel(_)) => {
                Verdict::refusal(ReasonCode::FactsMissing)
            }
        };
        if verdict.enforced.action == Action::Deny {
            return self.finish(&gathered, &verdict);
        }
        let way = match self.way_of(&gathered, &verdict) {
            Ok(way) => way,
            Err(code) => return self.finish(&gathered, &Verdict::refusal(code)),
        };
        if let Origin::Tunnel(_) = self.origin {
            // The tunnel counts as the stream; the name is asked for here.
            if let Err(code) = self.plugin.take(&gathered, false, false, true) {
                return self.finish(&gathered, &Verdict::refusal(code));
            }
            if self.choose(&way, &gathered, &verdict).is_err() {
                return self.fail();
            }
            self.chosen = Some(way);
        } else if gathered.protocol == Protocol::Tcp {
            return self.finish(&gathered, &verdict);
        }
        // TLS is opened only when its ClientHello has been read.
        self.hold(gathered)
    }

    /// The way that a verdict opens: out of a tunnel by the clusters of its address class, on a
    /// chain of its own by the chain's, which knows no class. What comes over the wire cannot go by
    /// way of a device: at accept, when Envoy chooses, its caller is not known yet.
    fn way_of(
        &self,
        gathered: &OwnedFacts,
        verdict: &Verdict<'_>,
    ) -> Result<ChosenRoute, ReasonCode> {
        let by_class = matches!(self.origin, Origin::Tunnel(_));
        let class = self.plugin.class_of(gathered, verdict, by_class)?;
        let (mark, base) = match (verdict.enforced.action, by_class) {
            (Action::Accept, true) => (VerdictToken::Accept(&class), Some(self.base(gathered)?)),
            (Action::Accept, false) => (VerdictToken::Accept(&class), None),
            (Action::Inspect(device), true) => {
                let base = self.plugin.device_cluster(device);
                let base = base.ok_or(ReasonCode::EngineError)?;
                (VerdictToken::Inspect(device, &class), Some(base))
            }
            (Action::Inspect(_), false) | (Action::Deny, _) => {
                return Err(ReasonCode::RouteMismatch);
            }
        };
        Ok(ChosenRoute {
            word: mark.word(),
            class: Rc::clone(&class),
            cluster: base.map(|base| class_cluster(base, &class)),
        })
    }

    /// The cluster for TLS, of which there is one for each class, if it may carry TLS to this name
    /// and port.
    fn base(&self, gathered: &OwnedFacts) -> Result<&'static str, ReasonCode> {
        let judged = gathered
            .destination
            .known()
            .ok_or(ReasonCode::RouteMismatch)?;
        let route = self.plugin.config.routes.resolve(CLUSTER_TLS.as_bytes())?;
        from_tunnel(written(judged).as_bytes(), &route)?;
        let carries = route.protocol == Protocol::Tls && route.host.is_dynamic();
        carries
            .then_some(CLUSTER_TLS)
            .ok_or(ReasonCode::RouteMismatch)
    }

    /// Makes Envoy take the way. Only at accept: `tcp_proxy` chooses its cluster right after it.
    fn choose(
        &self,
        way: &ChosenRoute,
        gathered: &OwnedFacts,
        verdict: &Verdict<'_>,
    ) -> Result<(), HostError> {
        let host = &self.plugin.host;
        if let Action::Inspect(device) = verdict.enforced.action {
            state::set_inspection_metadata(host, device, &verdict.enforced, gathered)?;
        }
        let judged = gathered.destination.known().ok_or(HostError)?;
        state::connect_tls_to(host, judged, &way.class)?;
        state::connect_by(host, way.cluster.as_deref().ok_or(HostError)?)
    }

    /// Whether a verdict opens the way that Envoy has taken.
    fn opens(
        &self,
        gathered: &OwnedFacts,
        verdict: &Verdict<'_>,
    ) -> Result<ChosenRoute, ReasonCode> {
        let way = self.way_of(gathered, verdict)?;
        let taken = match (&self.chosen, &way.cluster) {
            (Some(chosen), Some(cluster)) => {
                let taken = self.plugin.host.property(CLUSTER).ok().flatten();
                *chosen == way && taken.as_deref() == Some(cluster.as_bytes())
            }
            // On a chain of its own the destination was read of the cluster.
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        taken.then_some(way).ok_or(ReasonCode::RouteMismatch)
    }

    /// Holds client bytes until the verdict.
    pub fn on_downstream_data(&mut self, size: usize) -> Flow {
        match self.phase {
            Phase::Closed => return Flow::Stop,
            Phase::Open | Phase::Undecided if self.ends() => return self.close(),
            Phase::Open => return Flow::Continue,
            Phase::Undecided if self.plugin.is_overdue(self.id) => return self.close(),
            Phase::Undecided if size == 0 => return Flow::Stop,
            Phase::Undecided => {}
        }
        let reading = match self.read_hello(size) {
            Some(Reading::Incomplete) => return Flow::Stop,
            reading => reading,
        };
        let gathered = self.gather(&Moment::Client(reading));
        let plugin = Rc::clone(&self.plugin);
        let verdict = plugin.conclude(&gathered, ReasonCode::FactsMissing);
        self.finish(&gathered, &verdict)
    }

    /// Lets a banner pass while some completion of the facts accepts.
    pub fn on_upstream_data(&mut self, size: usize) -> Flow {
        match self.phase {
            Phase::Closed => return Flow::Stop,
            Phase::Open | Phase::Undecided if self.ends() => return self.close(),
            Phase::Open => return Flow::Continue,
            Phase::Undecided if self.plugin.is_overdue(self.id) => return self.close(),
            Phase::Undecided => {}
        }
        let gathered = self.gather(&Moment::Server);
        let plugin = Rc::clone(&self.plugin);
        match plugin.evaluate(&gathered) {
            // TLS is opened only when its ClientHello has been read.
            Evaluation::Final(verdict)
                if gathered.protocol == Protocol::Tcp
                    || self.opens(&gathered, &verdict).is_err() =>
            {
                self.finish(&gathered, &verdict)
            }
            Evaluation::Final(_) | Evaluation::Undecided => {
                self.server_bytes = self.server_bytes.saturating_add(size);
                if self.server_bytes > MAX_SERVER_BYTES {
                    return self.finish(&gathered, &Verdict::refusal(ReasonCode::UndecidedLimit));
                }
                if self.plugin.hold(self.id, gathered) {
                    Flow::Continue
                } else {
                    self.fail()
                }
            }
        }
    }

    /// Whether it has to end, opened or not, because its policy has been replaced.
    fn ends(&self) -> bool {
        self.plugin
            .ends(self.began, self.protocol(), || match &self.origin {
                Origin::Tunnel(facts) => facts.identity.clone(),
                Origin::Chain => identity(&self.plugin.host),
            })
    }

    /// What it carries; bytes where even that is not known.
    fn protocol(&self) -> Protocol {
        match &self.origin {
            Origin::Tunnel(facts) => facts.protocol,
            Origin::Chain => self.route().map_or(Protocol::Tcp, |route| route.protocol),
        }
    }

    /// The next bytes of the ClientHello; `None` where there is none to read.
    fn read_hello(&mut self, size: usize) -> Option<Reading> {
        if self.protocol() != Protocol::Tls {
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

    fn gather(&self, moment: &Moment) -> OwnedFacts {
        let mut gathered = match &self.origin {
            Origin::Tunnel(facts) => self.out_of_tunnel(facts, moment),
            Origin::Chain => self.on_chain(moment),
        };
        gathered.now = self.plugin.now();
        gathered
    }

    /// TLS whose connection was judged outside as far as it could be: now its name is known.
    fn out_of_tunnel(&self, facts: &OwnedFacts, moment: &Moment) -> OwnedFacts {
        let mut gathered = facts.clone();
        let judged = match facts.destination.known() {
            Some(dialled) if facts.protocol == Protocol::Tls => self.inner_name(dialled, moment),
            Some(_) | None => Err(ReasonCode::RouteMismatch),
        };
        gathered.destination = DestinationState::judged(judged);
        gathered
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
    fn on_chain(&self, moment: &Moment) -> OwnedFacts {
        let route = self.route();
        let mut gathered = OwnedFacts {
            protocol: route.as_ref().map_or(Protocol::Tcp, |route| route.protocol),
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
        gathered.destination = match route {
            Ok(route) => DestinationState::judged(self.chain_place(&route, moment)),
            Err(_) if matches!(moment, Moment::Accept) => DestinationState::Unknown,
            Err(code) => DestinationState::Refused(code),
        };
        gathered
    }

    fn chain_place(&self, route: &Route, moment: &Moment) -> Result<Destination, ReasonCode> {
        let chain = from_chain(route)?;
        match (route.protocol, moment) {
            (Protocol::Tcp, _) | (Protocol::Tls, Moment::Accept | Moment::Server) => Ok(chain),
            (Protocol::Tls, Moment::Client(reading)) => {
                let refuse_ech = self.plugin.config.refuse_ech;
                let named = from_tls(&chain, hello(reading.as_ref()), refuse_ech)?;
                // A name is no reason to connect to an address that the chain, not the name, says.
                (named == chain)
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

    /// Goes on without a verdict, for a while.
    fn hold(&mut self, gathered: OwnedFacts) -> Flow {
        if self.plugin.hold(self.id, gathered) {
            Flow::Continue
        } else {
            self.fail()
        }
    }

    fn finish(&mut self, gathered: &OwnedFacts, verdict: &Verdict<'_>) -> Flow {
        self.plugin.forget(self.id);
        let refused;
        let verdict = match verdict.enforced.action {
            Action::Deny => verdict,
            Action::Accept | Action::Inspect(_) => match self.opens(gathered, verdict) {
                Ok(way) if state::store_verdict_word(&self.plugin.host, &way.word).is_ok() => {
                    self.phase = Phase::Open;
                    self.plugin.note(gathered, verdict);
                    return Flow::Continue;
                }
                Ok(_) => return self.fail(),
                // It opens another way than the one that Envoy has taken.
                Err(code) => {
                    refused = Verdict::refusal(code);
                    &refused
                }
            },
        };
        state::store_denial(&self.plugin.host, &verdict.enforced);
        self.plugin.note(gathered, verdict);
        self.close()
    }

    /// Something that must not fail did.
    fn fail(&mut self) -> Flow {
        let gathered = OwnedFacts::refused(self.protocol(), ReasonCode::EngineError);
        let verdict = Verdict::refusal(ReasonCode::EngineError);
        state::store_denial(&self.plugin.host, &verdict.enforced);
        self.plugin.note(&gathered, &verdict);
        self.close()
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
