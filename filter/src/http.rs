//! The HTTP filter: requests and CONNECT tunnels.
//!
//! Gathers, asks, acts. Its verdict is the last word, and says by which address class the request
//! goes out; only TLS inside a tunnel goes inward first, where its server name is known.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use egress_policy::config::ServerName;
use egress_policy::destination::{Route, RouteHost, from_request, from_tunnel};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::Host as Target;
use egress_policy::verdict::{Action, Decision, Evaluation, ReasonCode, Verdict};

use crate::budget::Taken;
use crate::caller::identity;
use crate::denial::{Subject, printable, response, written};
use crate::host::{Flow, Headers, Host, HostError};
use crate::owned_facts::{DestinationState, OwnedFacts, RequestLine};
use crate::plugin::Plugin;
use crate::position::Position;
use crate::record;
use crate::request::ParsedHeaders;
use crate::revalidation::StreamEpoch;
use crate::state::{self, VerdictToken};
use crate::terminated_tls::TerminatedTls;

/// One request.
#[derive(Debug)]
pub struct Http<H: Host> {
    plugin: Rc<Plugin<H>>,
    began: StreamEpoch,
    protocol: Cell<Protocol>,
    ended: Cell<bool>,
    /// What it has of its workload's budget, until it ends.
    taken: RefCell<Option<Taken>>,
}

/// Where an undenied request goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextHop {
    /// Out: this verdict is the last.
    Upstream,
    /// To the internal listener that reads the server name and ends the judgement.
    InternalListener,
}

/// How the route's cluster connects.
#[derive(Clone, Copy, Debug, Default)]
struct ConnectMode {
    /// To the host that the verdict names.
    dynamic: bool,
    /// There is one for each address class.
    by_class: bool,
    /// To any such host, with what the client sends and nothing more: a device could as well. A
    /// cluster for certain names may speak TLS to them.
    inspectable: bool,
}

/// The route that Envoy has chosen, and what the configuration says of its cluster.
#[derive(Clone, Copy, Debug)]
struct SelectedRoute<'a> {
    route: &'a Route,
    /// It leads to where the TLS inside a tunnel ends.
    ends_tls: bool,
    /// The application's TLS, if it ended at this listener.
    ended: Option<&'a TerminatedTls>,
}

/// A request that is being judged.
struct RequestView<'h> {
    headers: &'h Headers,
    seen: ParsedHeaders<'h>,
}

impl<H: Host> Http<H> {
    /// A request under this configuration.
    pub fn new(plugin: Rc<Plugin<H>>) -> Self {
        Self {
            began: plugin.begin(),
            plugin,
            protocol: Cell::new(Protocol::Http),
            ended: Cell::new(false),
            taken: RefCell::default(),
        }
    }

    /// Looks at whether a request that was let through may go on: a body, a tunnel, an upgrade, in
    /// either direction.
    pub fn on_more(&self) -> Flow {
        if self.ended.get() {
            return Flow::Stop;
        }
        let host = &self.plugin.host;
        let protocol = self.protocol.get();
        if !self.plugin.ends(self.began, protocol, || identity(host)) {
            return Flow::Continue;
        }
        self.ended.set(true);
        // If it stays open, nothing passes through it any more.
        let _ = host.reset_request();
        Flow::Stop
    }

    /// Something comes back: a tunnel whose end was judged further in stands.
    pub fn on_answer(&self) -> Flow {
        if let Ok(mut taken) = self.taken.try_borrow_mut()
            && let Some(taken) = taken.as_mut()
        {
            taken.decided();
        }
        self.on_more()
    }

    /// Takes what it needs of its workload's budget.
    fn take(
        &self,
        gathered: &OwnedFacts,
        hop: NextHop,
        connects: ConnectMode,
    ) -> Result<(), ReasonCode> {
        let undecided = hop == NextHop::InternalListener;
        let resolved = connects.dynamic && !undecided;
        let taken = self.plugin.take(gathered, true, undecided, resolved)?;
        if let Ok(mut held) = self.taken.try_borrow_mut() {
            *held = Some(taken);
        }
        Ok(())
    }

    /// Takes it, and sends the tunnel inward.
    fn forward(&self, gathered: &OwnedFacts, connects: ConnectMode) -> Result<(), ReasonCode> {
        self.take(gathered, NextHop::InternalListener, connects)?;
        let forwarded = state::forward(&self.plugin.host, gathered);
        forwarded.map_err(|HostError| ReasonCode::EngineError)
    }

    /// Judges the request.
    pub fn on_request_headers(&self) -> Flow {
        let host = &self.plugin.host;
        let Ok(headers) = host.request_headers() else {
            return self.deny_unread();
        };
        let asked = RequestView {
            headers: &headers,
            seen: ParsedHeaders::of(&headers),
        };
        let (gathered, hop, connects) = self.gather(&asked.seen);
        self.protocol.set(gathered.protocol);
        let verdict = match (self.plugin.evaluate(&gathered), hop) {
            (Evaluation::Final(verdict), _) => verdict,
            (Evaluation::Undecided, NextHop::InternalListener) => {
                return match self.forward(&gathered, connects) {
                    Ok(()) => Flow::Continue,
                    Err(code) => self.refuse(&asked.seen, &gathered, code),
                };
            }
            // Nothing more comes.
            (Evaluation::Undecided, NextHop::Upstream) => {
                Verdict::refusal(ReasonCode::FactsMissing)
            }
        };
        let done = match (verdict.enforced.action, hop) {
            (Action::Deny, _) => return self.deny(&asked.seen, &gathered, &verdict),
            (Action::Accept | Action::Inspect(_), NextHop::InternalListener) => {
                self.forward(&gathered, connects)
            }
            (Action::Accept | Action::Inspect(_), NextHop::Upstream) => {
                self.let_out(&asked, &gathered, connects, &verdict)
            }
        };
        match (done, hop) {
            (Err(code), _) => self.refuse(&asked.seen, &gathered, code),
            (Ok(()), NextHop::InternalListener) => Flow::Continue,
            (Ok(()), NextHop::Upstream) => {
                self.plugin.note(&gathered, &verdict);
                Flow::Continue
            }
        }
    }

    fn gather(&self, seen: &ParsedHeaders<'_>) -> (OwnedFacts, NextHop, ConnectMode) {
        let host = &self.plugin.host;
        let ended = (self.plugin.config.server_name == ServerName::Application)
            .then(|| TerminatedTls::of(host));
        let position = Position::noted(host);
        let mut gathered = self.caller(seen, position.connection, ended.as_ref());
        let cluster = position.cluster.as_deref().unwrap_or_default();
        let routes = &self.plugin.config.routes;
        let (hop, connects) = match routes.resolve(cluster) {
            Err(code) => {
                gathered.destination = DestinationState::Refused(code);
                (NextHop::Upstream, ConnectMode::default())
            }
            Ok(route) => {
                let towards = SelectedRoute {
                    route: &route,
                    ends_tls: routes.ends_tls(cluster),
                    ended: ended.as_ref(),
                };
                let hop = Self::place(seen, towards, &mut gathered);
                let connects = ConnectMode {
                    dynamic: route.host.is_dynamic(),
                    // Istio's own wildcard clusters resolve without a class.
                    by_class: route.host.is_dynamic() && matches!(route, Cow::Borrowed(_)),
                    inspectable: matches!(route.host, RouteHost::Dynamic | RouteHost::AllExcept(_)),
                };
                (hop, connects)
            }
        };
        (gathered, hop, connects)
    }

    /// Who asks, and for what: by the connection, or by the tunnel that it came through.
    fn caller(
        &self,
        seen: &ParsedHeaders<'_>,
        connection: Option<u64>,
        ended: Option<&TerminatedTls>,
    ) -> OwnedFacts {
        let (identity, claims) = match ended.map(TerminatedTls::tunnel) {
            Some(Ok(Some(facts))) => (facts.identity.clone(), facts.claims.clone()),
            // Whoever it was, it is not whom this connection shows.
            Some(Err(_)) => (Fact::Missing, Fact::Missing),
            None | Some(Ok(None)) => {
                let peer = self.plugin.peer(connection, seen.claims);
                (peer.identity.clone(), peer.claims.clone())
            }
        };
        OwnedFacts {
            protocol: Protocol::Http,
            identity,
            claims,
            destination: DestinationState::Unknown,
            request: seen.line.clone(),
            now: self.plugin.now(),
        }
    }

    /// Where the request leads, by what its route carries.
    fn place(
        seen: &ParsedHeaders<'_>,
        towards: SelectedRoute<'_>,
        gathered: &mut OwnedFacts,
    ) -> NextHop {
        let authority = seen.authority.unwrap_or_default();
        let route = towards.route;
        match (route.protocol, seen.is_connect()) {
            (Protocol::Http, true) if towards.ends_tls => {
                gathered.destination = dialled(authority, route);
                gathered.request = RequestLine::pending();
                NextHop::InternalListener
            }
            (Protocol::Http, _) if !towards.ends_tls => {
                gathered.destination = DestinationState::judged(match towards.ended {
                    None => from_request(authority, route, None),
                    Some(ended) => ended.destination(authority, route),
                });
                NextHop::Upstream
            }
            (Protocol::Tcp, true) => {
                gathered.destination = DestinationState::judged(from_tunnel(authority, route));
                gathered.protocol = Protocol::Tcp;
                gathered.request = RequestLine::none();
                NextHop::Upstream
            }
            (Protocol::Tls, true) => {
                gathered.destination = dialled(authority, route);
                gathered.protocol = Protocol::Tls;
                gathered.request = RequestLine::none();
                NextHop::InternalListener
            }
            (Protocol::Http | Protocol::Tcp | Protocol::Tls | Protocol::Udp, _) => {
                gathered.destination = DestinationState::Refused(ReasonCode::RouteMismatch);
                NextHop::Upstream
            }
        }
    }

    /// Lets it out, straight or by way of a device, by its address class: the token chooses the
    /// class's route, whose lock opens for this token alone. The token comes last: whatever fails
    /// before leaves the lock closed.
    fn let_out(
        &self,
        asked: &RequestView<'_>,
        gathered: &OwnedFacts,
        connects: ConnectMode,
        verdict: &Verdict<'_>,
    ) -> Result<(), ReasonCode> {
        let class = self.plugin.class_of(gathered, verdict, connects.by_class)?;
        self.take(gathered, NextHop::Upstream, connects)?;
        let mark = match verdict.enforced.action {
            Action::Accept => VerdictToken::Accept(&class),
            Action::Inspect(device) if connects.inspectable => {
                VerdictToken::Inspect(device, &class)
            }
            // The gateway would have begun TLS of its own, or connects as its configuration says.
            Action::Inspect(_) | Action::Deny => return Err(ReasonCode::RouteMismatch),
        };
        self.open(asked, gathered, connects, mark, &verdict.enforced)
            .map_err(|HostError| ReasonCode::EngineError)
    }

    fn open(
        &self,
        asked: &RequestView<'_>,
        gathered: &OwnedFacts,
        connects: ConnectMode,
        mark: VerdictToken<'_>,
        ruling: &Decision<'_>,
    ) -> Result<(), HostError> {
        let host = &self.plugin.host;
        self.strip(asked)?;
        if connects.dynamic {
            state::connect_to(host, gathered.destination.known().ok_or(HostError)?)?;
        }
        if let VerdictToken::Inspect(device, _) = mark {
            state::set_inspection_metadata(host, device, ruling, gathered)?;
        }
        state::store_verdict(host, mark)
    }

    /// Removes the mesh's own words, and has Envoy choose the route anew when it is next asked for
    /// one. A change of headers does that by itself (`docs/evidence/envoy.md`).
    fn strip(&self, asked: &RequestView<'_>) -> Result<(), HostError> {
        let host = &self.plugin.host;
        match asked.seen.inward.as_slice() {
            [] => host.clear_route_cache(),
            [one] => host.remove_request_header(one),
            // In one call, however many they are.
            several => {
                let stays = |name: &[u8]| {
                    let inward = |word: &&str| name.eq_ignore_ascii_case(word.as_bytes());
                    !several.iter().any(inward)
                };
                let headers = asked.headers.iter().filter(|(name, _)| stays(name));
                let headers: Vec<_> = headers
                    .map(|(name, value)| (name.as_slice(), value.as_slice()))
                    .collect();
                host.set_request_headers(&headers)
            }
        }
    }

    fn refuse(&self, seen: &ParsedHeaders<'_>, gathered: &OwnedFacts, code: ReasonCode) -> Flow {
        self.deny(seen, gathered, &Verdict::refusal(code))
    }

    fn deny(&self, seen: &ParsedHeaders<'_>, gathered: &OwnedFacts, verdict: &Verdict<'_>) -> Flow {
        let host = &self.plugin.host;
        state::store_denial(host, &verdict.enforced);
        let destination = gathered
            .destination
            .known()
            .map_or_else(|| printable(seen.authority.unwrap_or_default()), written);
        let subject = Subject {
            workload: record::workload(gathered),
            destination: &destination,
        };
        // If the answer cannot be sent the request still goes nowhere.
        let _ = host.respond(&response(subject, &verdict.enforced, seen.wants_json));
        self.plugin.note(gathered, verdict);
        Flow::Stop
    }

    /// The request itself cannot be read.
    fn deny_unread(&self) -> Flow {
        let nothing = Vec::new();
        let seen = ParsedHeaders::of(&nothing);
        let gathered = OwnedFacts::refused(Protocol::Http, ReasonCode::EngineError);
        self.deny(&seen, &gathered, &Verdict::refusal(ReasonCode::EngineError))
    }
}

/// What was dialled for TLS inside a tunnel. An address says nothing of the name that the
/// ClientHello will ask for.
fn dialled(authority: &[u8], route: &Route) -> DestinationState {
    match from_tunnel(authority, route) {
        Ok(agreed) if matches!(agreed.host, Target::Address(_)) => {
            DestinationState::Dialled(agreed)
        }
        agreed => DestinationState::judged(agreed),
    }
}

#[cfg(test)]
mod tests;
