//! The HTTP filter: requests and CONNECT tunnels.
//!
//! Collects the facts, asks the engine, acts. Its verdict is final, and says by which address class
//! the request goes out; only TLS inside a tunnel goes inward first, where its server name is known.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use egress_policy::config::ServerName;
use egress_policy::contract::DENIED_HEADER;
use egress_policy::denial::Denial;
use egress_policy::destination::{Route, RouteHost, from_request, from_tunnel};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::Host as Target;
use egress_policy::verdict::{Action, Decision, Evaluation, ReasonCode, Verdict};

use crate::budget::Taken;
use crate::caller::identity;
use crate::denial::{printable, response, written};
use crate::host::{Flow, Headers, Host, HostError};
use crate::plugin::Plugin;
use crate::position::Position;
use crate::record;
use crate::request::ParsedHeaders;
use crate::revalidation::StreamEpoch;
use crate::state::{self, Permit, VerdictToken};
use crate::stream_facts::{DestinationState, RequestLine, StreamFacts};
use crate::terminated_tls::TerminatedTls;

/// One request.
#[derive(Debug)]
pub struct Http<H: Host> {
    plugin: Rc<Plugin<H>>,
    epoch: StreamEpoch,
    protocol: Cell<Protocol>,
    ended: Cell<bool>,
    /// What it has of its workload's budget, until it ends.
    taken: RefCell<Option<Taken>>,
}

/// Where a request goes next, if it is not denied.
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
    /// To any such host, with what the client sends and nothing more, as an inspection proxy does.
    /// A cluster for certain names may speak TLS to them.
    inspectable: bool,
}

impl ConnectMode {
    /// `listed`: the configuration lists the cluster by its name.
    fn of(route: &Route, listed: bool) -> Self {
        let dynamic = route.host.is_dynamic();
        Self {
            dynamic,
            // Istio's own wildcard clusters resolve without a class.
            by_class: dynamic && listed,
            inspectable: matches!(route.host, RouteHost::Dynamic | RouteHost::AllExcept(_)),
        }
    }
}

/// The route that Envoy has chosen, and what the configuration says of its cluster.
#[derive(Clone, Copy, Debug)]
struct SelectedRoute<'a> {
    route: &'a Route,
    /// It leads to where the TLS inside a tunnel ends.
    ends_tls: bool,
    /// The application's TLS, if it ended at this listener.
    terminated: Option<&'a TerminatedTls>,
}

/// A request that is being judged.
struct RequestView<'h> {
    headers: &'h Headers,
    parsed: ParsedHeaders<'h>,
}

impl<H: Host> Http<H> {
    /// A request under this configuration.
    pub fn new(plugin: Rc<Plugin<H>>) -> Self {
        Self {
            epoch: plugin.begin(),
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
        if !self.plugin.ends(self.epoch, protocol, || identity(host)) {
            // The request has its permit, or this is the answer that denies it.
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

    /// An answer ends with trailers. They are the server's, so that they say nothing of denials; its
    /// headers lose the word by the route.
    pub fn on_answer_trailers(&self) -> Flow {
        // Nothing is let through by it.
        let _ = self.plugin.host.remove_response_trailer(DENIED_HEADER);
        self.on_more()
    }

    /// Judges the request.
    pub fn on_request_headers(&self) -> Flow {
        let Ok(headers) = self.plugin.host.request_headers() else {
            return self.deny_unread();
        };
        let request = RequestView {
            headers: &headers,
            parsed: ParsedHeaders::of(&headers),
        };
        let (facts, hop, mode) = self.collect(&request.parsed);
        self.protocol.set(facts.protocol);
        let (action, verdict) = match self.plugin.evaluate(&facts) {
            Evaluation::Final(verdict) => (Some(verdict.enforced.action), verdict),
            Evaluation::Undecided => (None, Verdict::refusal(ReasonCode::FactsMissing)),
        };
        let admitted = match (action, hop) {
            // Denied, or undecided where no more facts come.
            (Some(Action::Deny), NextHop::Upstream | NextHop::InternalListener)
            | (None, NextHop::Upstream) => Err(verdict),
            (Some(Action::Accept | Action::Inspect(_)), NextHop::Upstream) => self
                .let_out(&request, &facts, mode, &verdict)
                .map_err(Verdict::refusal),
            // The internal listener decides, whatever is final here.
            (Some(Action::Accept | Action::Inspect(_)) | None, NextHop::InternalListener) => {
                self.forward(&facts, mode).map_err(Verdict::refusal)
            }
        };
        match admitted {
            Ok(permit) => permit.go(),
            Err(verdict) => self.deny(&request.parsed, &facts, &verdict),
        }
    }

    /// The facts, and where the request leads.
    fn collect(&self, parsed: &ParsedHeaders<'_>) -> (StreamFacts, NextHop, ConnectMode) {
        let host = &self.plugin.host;
        let terminated = (self.plugin.config.server_name == ServerName::Application)
            .then(|| TerminatedTls::of(host));
        let position = Position::noted(host);
        let mut facts = self.caller(parsed, position.connection, terminated.as_ref());
        // Without a cluster there is no route: none has an empty name.
        let cluster = position.cluster.as_deref().unwrap_or_default();
        let routes = &self.plugin.config.routes;
        match routes.resolve(cluster) {
            Err(code) => {
                facts.destination = DestinationState::Refused(code);
                (facts, NextHop::Upstream, ConnectMode::default())
            }
            Ok(route) => {
                let selected = SelectedRoute {
                    route: &route,
                    ends_tls: routes.ends_tls(cluster),
                    terminated: terminated.as_ref(),
                };
                let hop = Self::follow(parsed, selected, &mut facts);
                let listed = matches!(route, Cow::Borrowed(_));
                (facts, hop, ConnectMode::of(&route, listed))
            }
        }
    }

    /// Who asks, and for what: by the connection, or by the tunnel that it came through.
    fn caller(
        &self,
        parsed: &ParsedHeaders<'_>,
        connection: Option<u64>,
        terminated: Option<&TerminatedTls>,
    ) -> StreamFacts {
        let (identity, claims) = match terminated.map(TerminatedTls::tunnel) {
            Some(Ok(Some(outer))) => (outer.identity.clone(), outer.claims.clone()),
            // Whoever it was, it is not whom this connection shows.
            Some(Err(_)) => (Fact::Missing, Fact::Missing),
            None | Some(Ok(None)) => {
                let peer = self.plugin.peer(connection, parsed.claims);
                (peer.identity.clone(), peer.claims.clone())
            }
        };
        StreamFacts {
            protocol: Protocol::Http,
            identity,
            claims,
            destination: DestinationState::Unknown,
            request: parsed.line.clone(),
            now: self.plugin.now(),
        }
    }

    /// Where the request leads, by what its route carries.
    fn follow(
        parsed: &ParsedHeaders<'_>,
        selected: SelectedRoute<'_>,
        facts: &mut StreamFacts,
    ) -> NextHop {
        // An empty authority is malformed, and so is none.
        let authority = parsed.authority.unwrap_or_default();
        let route = selected.route;
        match (route.protocol, parsed.is_connect()) {
            (Protocol::Http, true) if selected.ends_tls => {
                facts.destination = dialled(authority, route);
                facts.request = RequestLine::pending();
                NextHop::InternalListener
            }
            (Protocol::Http, _) if !selected.ends_tls => {
                facts.destination = DestinationState::judged(match selected.terminated {
                    None => from_request(authority, route, None),
                    Some(terminated) => terminated.destination(authority, route),
                });
                NextHop::Upstream
            }
            (Protocol::Tcp, true) => {
                facts.destination = DestinationState::judged(from_tunnel(authority, route));
                facts.protocol = Protocol::Tcp;
                facts.request = RequestLine::none();
                NextHop::Upstream
            }
            (Protocol::Tls, true) => {
                facts.destination = dialled(authority, route);
                facts.protocol = Protocol::Tls;
                facts.request = RequestLine::none();
                NextHop::InternalListener
            }
            (Protocol::Http | Protocol::Tcp | Protocol::Tls | Protocol::Udp, _) => {
                facts.destination = DestinationState::Refused(ReasonCode::RouteMismatch);
                NextHop::Upstream
            }
        }
    }

    /// Takes what the request needs of its workload's budget.
    fn take(&self, facts: &StreamFacts, hop: NextHop, mode: ConnectMode) -> Result<(), ReasonCode> {
        let undecided = hop == NextHop::InternalListener;
        let resolved = mode.dynamic && !undecided;
        let taken = self.plugin.take(facts, true, undecided, resolved)?;
        if let Ok(mut held) = self.taken.try_borrow_mut() {
            *held = Some(taken);
        }
        Ok(())
    }

    /// Sends the tunnel inward.
    fn forward(&self, facts: &StreamFacts, mode: ConnectMode) -> Result<Permit, ReasonCode> {
        self.take(facts, NextHop::InternalListener, mode)?;
        let forwarded = state::forward(&self.plugin.host, facts);
        forwarded.map_err(|HostError| ReasonCode::EngineError)
    }

    /// Lets the request out, directly or through an inspection proxy, by its address class: the
    /// verdict token chooses the class's route, whose RBAC lock opens for this token alone.
    fn let_out(
        &self,
        request: &RequestView<'_>,
        facts: &StreamFacts,
        mode: ConnectMode,
        verdict: &Verdict<'_>,
    ) -> Result<Permit, ReasonCode> {
        let class = self.plugin.class_of(facts, verdict, mode.by_class)?;
        self.take(facts, NextHop::Upstream, mode)?;
        let token = match verdict.enforced.action {
            Action::Accept => VerdictToken::Accept(&class),
            Action::Inspect(proxy) if mode.inspectable => VerdictToken::Inspect(proxy, &class),
            // The gateway would have begun TLS itself, or connects as its configuration says.
            Action::Inspect(_) | Action::Deny => return Err(ReasonCode::RouteMismatch),
        };
        let permit = self
            .open(request, facts, mode, token, &verdict.enforced)
            .map_err(|HostError| ReasonCode::EngineError)?;
        self.plugin.note(facts, verdict);
        Ok(permit)
    }

    /// Prepares the request and writes the verdict token. The token comes last: whatever fails before
    /// leaves the RBAC lock closed.
    fn open(
        &self,
        request: &RequestView<'_>,
        facts: &StreamFacts,
        mode: ConnectMode,
        token: VerdictToken<'_>,
        decision: &Decision<'_>,
    ) -> Result<Permit, HostError> {
        let host = &self.plugin.host;
        self.strip(request)?;
        if mode.dynamic {
            state::connect_to(host, facts.destination.known().ok_or(HostError)?)?;
        }
        if let VerdictToken::Inspect(proxy, _) = token {
            state::set_inspection_metadata(host, proxy, decision, facts)?;
        }
        state::store_verdict(host, token)
    }

    /// Removes the mesh's own headers, and has Envoy choose the route anew when it is next asked for
    /// one. A change of headers does that by itself (`docs/evidence/envoy.md`).
    fn strip(&self, request: &RequestView<'_>) -> Result<(), HostError> {
        /// Up to so many calls cost less than to hand over all headers once.
        const FEW: usize = 4;
        let host = &self.plugin.host;
        match request.parsed.inward.as_slice() {
            [] => host.clear_route_cache(),
            few if few.len() <= FEW => few
                .iter()
                .try_for_each(|name| host.remove_request_header(name)),
            // A client that writes them itself makes one call of it.
            several => {
                let stays = |name: &[u8]| {
                    let inward = |word: &&str| name.eq_ignore_ascii_case(word.as_bytes());
                    !several.iter().any(inward)
                };
                let headers = request.headers.iter().filter(|(name, _)| stays(name));
                host.set_request_headers(&headers.collect::<Vec<_>>())
            }
        }
    }

    fn deny(&self, parsed: &ParsedHeaders<'_>, facts: &StreamFacts, verdict: &Verdict<'_>) -> Flow {
        let host = &self.plugin.host;
        state::store_denial(host, &verdict.enforced);
        let destination = facts
            .destination
            .known()
            .map_or_else(|| printable(parsed.authority.unwrap_or_default()), written);
        let denial = Denial::new(record::workload(facts), &destination, &verdict.enforced);
        // If the answer cannot be sent the request still goes nowhere.
        let _ = host.respond(&response(&denial, parsed.wants_json));
        self.plugin.note(facts, verdict);
        Flow::Stop
    }

    /// The request itself cannot be read.
    fn deny_unread(&self) -> Flow {
        let nothing = Headers::default();
        let parsed = ParsedHeaders::of(&nothing);
        let facts = StreamFacts::refused(Protocol::Http, ReasonCode::EngineError);
        self.deny(&parsed, &facts, &Verdict::refusal(ReasonCode::EngineError))
    }
}

/// What was dialled for TLS inside a tunnel. An address says nothing of the name that the
/// ClientHello will ask for.
fn dialled(authority: &[u8], route: &Route) -> DestinationState {
    match from_tunnel(authority, route) {
        Ok(destination) if matches!(destination.host, Target::Address(_)) => {
            DestinationState::Dialled(destination)
        }
        destination => DestinationState::judged(destination),
    }
}

#[cfg(test)]
mod tests;
