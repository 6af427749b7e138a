//! The network filter: TLS that came out of a tunnel, and chains with one destination each.
//!
//! Judges at every event with the facts that have come by then. Client bytes are held until the
//! verdict; of the server's a few may pass before it, because server-first protocols wait for
//! theirs. After a denial nothing passes.
//!
//! Never placed before an HTTP connection manager: there Envoy chooses no cluster for the
//! connection, which is a mismatch of routes and closes it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use egress_policy::destination::{Agreed, Hello, Route, of_chain, of_tls, of_tunnel};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::Host as Target;
use egress_policy::verdict::{Action, Code, Evaluation, Ruling, Verdict};

use crate::caller::{identity, identity_so_far};
use crate::denial::written;
use crate::gathered::{Gathered, Place, RequestLine};
use crate::hello::{MAX_READ, Reader, Reading};
use crate::host::{Flow, Host, HostError};
use crate::plugin::Plugin;
use crate::position::CLUSTER;
use crate::recheck::Began;
use crate::state::{self, Mark};
use crate::upstream;

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
    began: Began,
    origin: Origin,
    hello: Reader,
    server_bytes: usize,
    phase: Phase,
    /// The inspection cluster that Envoy was told to connect to.
    device: Option<String>,
}

/// Where the connection comes from.
#[derive(Debug)]
enum Origin {
    /// Out of a tunnel, with the facts that the outer connection had.
    Tunnel(Box<Gathered>),
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
            device: None,
        }
    }

    /// Judges by what is known at accept.
    pub fn on_new_connection(&mut self) -> Flow {
        let host = &self.plugin.host;
        match state::carried_inward(host) {
            Ok(Some(entry)) if !entry.is(Mark::Forward) => return self.fail(),
            Ok(Some(entry)) => match Gathered::from_wire(entry.facts()) {
                Some(facts) => self.origin = Origin::Tunnel(Box::new(facts)),
                None => return self.fail(),
            },
            Ok(None) => {}
            Err(HostError) => return self.fail(),
        }
        let gathered = self.gather(&Moment::Accept);
        let plugin = Rc::clone(&self.plugin);
        let evaluation = plugin.evaluate(&gathered);
        let device = match &evaluation {
            Evaluation::Final(verdict) => match verdict.enforced.action {
                Action::Inspect(device) => Some((device, verdict.enforced)),
                Action::Accept | Action::Deny => None,
            },
            Evaluation::Undecided => plugin.device_unless_denied(&gathered),
        };
        if let Some((device, rule)) = device
            && self.choose_device(device, &rule, &gathered).is_err()
        {
            return self.fail();
        }
        match evaluation {
            // TLS is opened only when its ClientHello has been read.
            Evaluation::Final(verdict) if self.opens(&verdict, &gathered) => self.wait(gathered),
            Evaluation::Final(verdict) => self.finish(&gathered, &verdict),
            Evaluation::Undecided => self.wait(gathered),
        }
    }

    /// Makes Envoy connect by way of a device. Only here: `tcp_proxy` chooses its cluster right
    /// after this. What comes over the wire, on a chain of its own, cannot go by way of one: its
    /// caller is not known yet.
    fn choose_device(
        &mut self,
        device: &str,
        rule: &Ruling<'_>,
        gathered: &Gathered,
    ) -> Result<(), HostError> {
        if matches!(self.origin, Origin::Chain) {
            return Ok(());
        }
        let host = &self.plugin.host;
        let cluster = self.plugin.device_cluster(device).ok_or(HostError)?;
        state::tell_device(host, device, rule, gathered)?;
        state::connect_by(host, cluster)?;
        self.device = Some(device.to_owned());
        Ok(())
    }

    /// Whether a verdict opens, but not before the ClientHello has been read.
    fn opens(&self, verdict: &Verdict<'_>, gathered: &Gathered) -> bool {
        gathered.protocol != Protocol::Tcp && self.mark_of(verdict).is_some()
    }

    /// The mark of a verdict that opens the way that Envoy has taken.
    fn mark_of<'v>(&self, verdict: &Verdict<'v>) -> Option<Mark<'v>> {
        match (verdict.enforced.action, self.device.as_deref()) {
            (Action::Accept, None) => Some(Mark::Accept),
            (Action::Inspect(chosen), Some(device)) if chosen == device => {
                Some(Mark::Inspect(chosen))
            }
            (Action::Accept | Action::Inspect(_) | Action::Deny, _) => None,
        }
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
        let verdict = plugin.conclude(&gathered, Code::FactsMissing);
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
            Evaluation::Final(verdict) if !self.opens(&verdict, &gathered) => {
                self.finish(&gathered, &verdict)
            }
            Evaluation::Final(_) | Evaluation::Undecided => {
                self.server_bytes = self.server_bytes.saturating_add(size);
                if self.server_bytes > MAX_SERVER_BYTES {
                    return self.finish(&gathered, &Verdict::refusal(Code::UndecidedLimit));
                }
                if self.plugin.wait(self.id, gathered) {
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
            .ends(self.began, Protocol::Tcp, || match &self.origin {
                Origin::Tunnel(facts) => facts.identity.clone(),
                Origin::Chain => identity(&self.plugin.host),
            })
    }

    /// The next bytes of the ClientHello; `None` where there is none to read.
    fn read_hello(&mut self, size: usize) -> Option<Reading> {
        let protocol = match &self.origin {
            Origin::Tunnel(facts) => Ok(facts.protocol),
            Origin::Chain => self.route().map(|route| route.protocol),
        };
        if protocol != Ok(Protocol::Tls) {
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

    fn gather(&self, moment: &Moment) -> Gathered {
        let mut gathered = match &self.origin {
            Origin::Tunnel(facts) => self.out_of_tunnel(facts, moment),
            Origin::Chain => self.on_chain(moment),
        };
        gathered.now = self.plugin.now();
        gathered
    }

    /// TLS whose connection was judged outside as far as it could be: now its name is known.
    fn out_of_tunnel(&self, facts: &Gathered, moment: &Moment) -> Gathered {
        let mut gathered = facts.clone();
        let judged = match facts.place.agreed() {
            Some(dialled) if facts.protocol == Protocol::Tls => self.inner_name(dialled, moment),
            Some(_) | None => Err(Code::RouteMismatch),
        };
        let judged = judged.and_then(|judged| self.leads_to(&judged, moment).map(|()| judged));
        match judged.and_then(|judged| Ok((judged, self.address(moment)?))) {
            Ok((judged, address)) => {
                gathered.place = Place::Judged(judged);
                gathered.address = address;
            }
            Err(code) => gathered.place = Place::Refused(code),
        }
        gathered
    }

    /// The name that Envoy's inspector found, and by which Envoy connects.
    fn inner_name(&self, dialled: &Agreed, moment: &Moment) -> Result<Agreed, Code> {
        let property = |path| self.plugin.host.property(path);
        let found = property(SNI).map_err(|HostError| Code::FactsMissing)?;
        let found = found.filter(|sni| !sni.is_empty());
        let refuse_ech = self.plugin.config.refuse_ech;
        let (sni, ech) = match (found, moment) {
            (Some(sni), Moment::Client(Some(Reading::Hello { sni: own, ech }))) => match own {
                Some(own) if own.eq_ignore_ascii_case(&sni) => (sni, *ech),
                // Two readers of one ClientHello differ over it.
                Some(_) | None => return Err(Code::SniMismatch),
            },
            (Some(_), Moment::Client(reading)) => {
                return of_tls(dialled, hello(reading.as_ref()), refuse_ech);
            }
            (Some(sni), Moment::Accept | Moment::Server) => (sni, false),
            (None, _) => {
                let reason = property(INSPECTOR).ok().flatten();
                return Err(match reason.as_deref() {
                    Some(b"ClientHelloNotDetected") => Code::HelloMalformed,
                    Some(b"ClientHelloTooLarge") => Code::HelloTooLong,
                    Some(_) | None => Code::SniMissing,
                });
            }
        };
        of_tls(dialled, Hello::Name { sni: &sni, ech }, refuse_ech)
    }

    /// Whether Envoy's cluster is the device's that it was told, or one that may carry TLS to this
    /// name and port.
    fn leads_to(&self, judged: &Agreed, moment: &Moment) -> Result<(), Code> {
        if let Some(device) = &self.device {
            let cluster = self.plugin.host.property(CLUSTER).ok().flatten();
            let chosen = cluster.and_then(|cluster| self.plugin.device_of(&cluster));
            return (chosen == Some(device))
                .then_some(())
                .ok_or(Code::RouteMismatch);
        }
        match (self.route(), moment) {
            (Ok(route), _) if route.protocol == Protocol::Tls => {
                of_tunnel(written(judged).as_bytes(), &route).map(|_| ())
            }
            // Envoy has not chosen yet.
            (Err(_), Moment::Accept) => Ok(()),
            (Ok(_) | Err(_), _) => Err(Code::RouteMismatch),
        }
    }

    /// A connection on a chain of its own: the chain's cluster is its destination.
    fn on_chain(&self, moment: &Moment) -> Gathered {
        let route = self.route();
        let mut gathered = Gathered {
            protocol: route.as_ref().map_or(Protocol::Tcp, |route| route.protocol),
            identity: match moment {
                Moment::Accept | Moment::Server => identity_so_far(&self.plugin.host),
                Moment::Client(_) => identity(&self.plugin.host),
            },
            claims: self
                .plugin
                .claims_so_far(matches!(moment, Moment::Client(_))),
            place: Place::Unknown,
            address: Fact::Missing,
            request: RequestLine::none(),
            now: Fact::Missing,
        };
        gathered.place = match (route, self.address(moment)) {
            (Ok(route), Ok(address)) => {
                gathered.address = address;
                Place::judged(self.chain_place(&route, address, moment))
            }
            (Err(_), Ok(_)) if matches!(moment, Moment::Accept) => Place::Unknown,
            (Err(code), _) | (Ok(_), Err(code)) => Place::Refused(code),
        };
        gathered
    }

    fn chain_place(
        &self,
        route: &Route,
        connected: Fact<IpAddr>,
        moment: &Moment,
    ) -> Result<Agreed, Code> {
        let chain = of_chain(route)?;
        if let (Target::Address(judged), Fact::Known(connected)) = (&chain.host, connected)
            && *judged != connected
        {
            return Err(Code::RouteMismatch);
        }
        match (route.protocol, moment) {
            (Protocol::Tcp, _) | (Protocol::Tls, Moment::Accept | Moment::Server) => Ok(chain),
            (Protocol::Tls, Moment::Client(reading)) => {
                let refuse_ech = self.plugin.config.refuse_ech;
                let named = of_tls(&chain, hello(reading.as_ref()), refuse_ech)?;
                // A name is no reason to connect to an address that the chain, not the name, says.
                (named == chain).then_some(named).ok_or(Code::RouteMismatch)
            }
            (Protocol::Http | Protocol::Udp, _) => Err(Code::RouteMismatch),
        }
    }

    /// The route of Envoy's cluster; before Envoy has chosen one, the only one there is.
    fn route(&self) -> Result<Route, Code> {
        let routes = &self.plugin.config.routes;
        match self.plugin.host.property(CLUSTER) {
            Ok(Some(cluster)) => routes.resolve(&cluster).map(Cow::into_owned),
            Ok(None) => routes.only().cloned().ok_or(Code::RouteMismatch),
            Err(HostError) => Err(Code::RouteMismatch),
        }
    }

    /// Where Envoy has connected, or would have without a device.
    fn address(&self, moment: &Moment) -> Result<Fact<IpAddr>, Code> {
        match (upstream::address(&self.plugin.host), moment) {
            (Ok(Some(address)), _) => Ok(Fact::Known(address)),
            (Ok(None), Moment::Accept) => Ok(Fact::Pending),
            (Ok(None), Moment::Server | Moment::Client(_)) => Ok(Fact::Missing),
            (Err(HostError), _) => Err(Code::FactsMissing),
        }
    }

    /// Goes on without a verdict, for a while.
    fn wait(&mut self, gathered: Gathered) -> Flow {
        if let (Origin::Tunnel(_), Some(agreed)) = (&self.origin, gathered.place.agreed())
            && state::connect_tls_to(&self.plugin.host, agreed).is_err()
        {
            return self.fail();
        }
        if self.plugin.wait(self.id, gathered) {
            Flow::Continue
        } else {
            self.fail()
        }
    }

    fn finish(&mut self, gathered: &Gathered, verdict: &Verdict<'_>) -> Flow {
        self.plugin.forget(self.id);
        let refused = Verdict::refusal(Code::RouteMismatch);
        let verdict = match self.mark_of(verdict) {
            Some(mark) if state::mark(&self.plugin.host, mark).is_ok() => {
                self.phase = Phase::Open;
                self.plugin.note(gathered, verdict);
                return Flow::Continue;
            }
            Some(_) => return self.fail(),
            None if verdict.enforced.action == Action::Deny => verdict,
            // It opens another way than the one that Envoy has taken.
            None => &refused,
        };
        state::mark_denied(&self.plugin.host, &verdict.enforced);
        self.plugin.note(gathered, verdict);
        self.close()
    }

    /// Something that must not fail did.
    fn fail(&mut self) -> Flow {
        let gathered = Gathered::refused(Protocol::Tcp, Code::EngineError);
        let verdict = Verdict::refusal(Code::EngineError);
        state::mark_denied(&self.plugin.host, &verdict.enforced);
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
mod tests;
