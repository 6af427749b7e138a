//! The downstream HTTP filter: requests and CONNECT tunnels.
//!
//! Gathers, asks, acts. What only the resolved address can still change goes on to the upstream
//! filter; TLS inside a tunnel goes inward, where its server name is known.

use std::cell::Cell;
use std::rc::Rc;

use egress_policy::config::ServerName;
use egress_policy::destination::{Route, RouteHost, of_request, of_tunnel};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::Host as Target;
use egress_policy::settings::AddressCheck;
use egress_policy::verdict::{Action, Code, Evaluation, Ruling, Verdict};

use crate::caller::identity;
use crate::denial::{Subject, printable, response, written};
use crate::ended::Ended;
use crate::gathered::{Gathered, Place, RequestLine};
use crate::host::{Flow, Headers, Host, HostError};
use crate::plugin::Plugin;
use crate::position::Position;
use crate::recheck::Began;
use crate::record;
use crate::request::Seen;
use crate::state::{self, Mark};

/// One request.
#[derive(Debug)]
pub struct Http<H: Host> {
    plugin: Rc<Plugin<H>>,
    began: Began,
    protocol: Cell<Protocol>,
    ended: Cell<bool>,
}

/// Where an undenied request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Straight out: this verdict is the last.
    Out,
    /// Out by a cluster whose upstream filter checks the address and ends the judgement.
    Checked,
    /// To the internal listener that reads the server name and ends the judgement.
    Inward,
}

/// How the route's cluster connects.
#[derive(Clone, Copy, Debug, Default)]
struct Connects {
    /// To the host that the verdict names.
    dynamic: bool,
    /// To any such host, with what the client sends and nothing more: a device could as well. A
    /// cluster for certain names may speak TLS to them.
    inspectable: bool,
}

/// The route that Envoy has chosen, and what the configuration says of its cluster.
#[derive(Clone, Copy, Debug)]
struct Towards<'a> {
    route: &'a Route,
    /// It leads to where the TLS inside a tunnel ends.
    ends_tls: bool,
    /// The module stands in it too, for tunnels.
    checks_tunnels: bool,
    /// The application's TLS, if it ended at this listener.
    ended: Option<&'a Ended>,
}

/// A request that is being judged.
struct Asked<'h> {
    headers: &'h Headers,
    seen: Seen<'h>,
}

impl<H: Host> Http<H> {
    /// A request under this configuration.
    pub fn new(plugin: Rc<Plugin<H>>) -> Self {
        Self {
            began: plugin.begin(),
            plugin,
            protocol: Cell::new(Protocol::Http),
            ended: Cell::new(false),
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

    /// Judges the request.
    pub fn on_request_headers(&self) -> Flow {
        let host = &self.plugin.host;
        let Ok(headers) = host.request_headers() else {
            return self.deny_unread();
        };
        let asked = Asked {
            headers: &headers,
            seen: Seen::of(&headers),
        };
        let (gathered, way, route) = self.gather(&asked.seen);
        self.protocol.set(gathered.protocol);
        let dynamic = route.dynamic;
        let evaluation = self.plugin.evaluate(&gathered);
        let done = match (&evaluation, way) {
            (Evaluation::Final(verdict), way) => match (verdict.enforced.action, way) {
                (Action::Deny, _) => return self.deny(&asked.seen, &gathered, verdict),
                (Action::Inspect(device), Way::Out | Way::Checked)
                    if gathered.protocol == Protocol::Tcp =>
                {
                    self.through_device(&asked, &gathered, device, &verdict.enforced)
                }
                (Action::Inspect(device), Way::Checked) if route.inspectable => {
                    self.to_device(&asked, &gathered, device, &verdict.enforced)
                }
                // Nobody looks up where it leads, or the gateway would have begun TLS of its own.
                (Action::Inspect(_), Way::Out | Way::Checked) => {
                    let verdict = Verdict::refusal(Code::RouteMismatch);
                    return self.deny(&asked.seen, &gathered, &verdict);
                }
                (Action::Accept, Way::Out | Way::Checked)
                | (Action::Accept | Action::Inspect(_), Way::Inward) => {
                    self.open(&asked, &gathered, way, dynamic)
                }
            },
            (Evaluation::Undecided, Way::Checked) => {
                match self.plugin.device_unless_denied(&gathered) {
                    Some((device, rule)) if route.inspectable => {
                        self.to_device(&asked, &gathered, device, &rule)
                    }
                    // The upstream filter does not let out what is to be inspected.
                    Some(_) | None => self.open(&asked, &gathered, way, dynamic),
                }
            }
            (Evaluation::Undecided, Way::Inward) => self.open(&asked, &gathered, way, dynamic),
            (Evaluation::Undecided, Way::Out) => {
                let verdict = Verdict::refusal(Code::AddressUnchecked);
                return self.deny(&asked.seen, &gathered, &verdict);
            }
        };
        match (done, evaluation) {
            (Err(HostError), _) => {
                let verdict = Verdict::refusal(Code::EngineError);
                self.deny(&asked.seen, &gathered, &verdict)
            }
            (Ok(()), Evaluation::Final(verdict)) if is_last(&verdict, &gathered, way) => {
                self.plugin.note(&gathered, &verdict);
                Flow::Continue
            }
            (Ok(()), _) => Flow::Continue,
        }
    }

    fn gather(&self, seen: &Seen<'_>) -> (Gathered, Way, Connects) {
        let host = &self.plugin.host;
        let ended =
            (self.plugin.config.server_name == ServerName::Application).then(|| Ended::of(host));
        let looked_at_again =
            self.plugin.config.address_check == AddressCheck::Classes && !seen.is_connect();
        let position = if looked_at_again {
            Position::noted(host)
        } else {
            Position::now(host)
        };
        let mut gathered = self.caller(seen, position.connection, ended.as_ref());
        let cluster = position.cluster.as_deref().unwrap_or_default();
        let routes = &self.plugin.config.routes;
        let (way, connects) = match routes.resolve(cluster) {
            Err(code) => {
                gathered.place = Place::Refused(code);
                (Way::Out, Connects::default())
            }
            Ok(route) => {
                let towards = Towards {
                    route: &route,
                    ends_tls: routes.ends_tls(cluster),
                    checks_tunnels: routes.checks_tunnels(cluster),
                    ended: ended.as_ref(),
                };
                let way = self.place(seen, towards, &mut gathered);
                let plain = matches!(route.host, RouteHost::Dynamic | RouteHost::AnyBut(_));
                let connects = Connects {
                    dynamic: route.host.is_dynamic() && way != Way::Inward,
                    inspectable: plain && gathered.protocol == Protocol::Http,
                };
                (way, connects)
            }
        };
        (gathered, way, connects)
    }

    /// Who asks, and for what: by the connection, or by the tunnel that it came through.
    fn caller(&self, seen: &Seen<'_>, connection: Option<u64>, ended: Option<&Ended>) -> Gathered {
        let (identity, claims) = match ended.map(Ended::tunnel) {
            Some(Ok(Some(facts))) => (facts.identity.clone(), facts.claims.clone()),
            // Whoever it was, it is not whom this connection shows.
            Some(Err(_)) => (Fact::Missing, Fact::Missing),
            None | Some(Ok(None)) => {
                let peer = self.plugin.peer(connection, seen.claims);
                (peer.identity.clone(), peer.claims.clone())
            }
        };
        Gathered {
            protocol: Protocol::Http,
            identity,
            claims,
            place: Place::Unknown,
            address: Fact::Pending,
            request: seen.line.clone(),
            now: self.plugin.now(),
        }
    }

    /// Where the request leads, by what its route carries.
    fn place(&self, seen: &Seen<'_>, towards: Towards<'_>, gathered: &mut Gathered) -> Way {
        let authority = seen.authority.unwrap_or_default();
        let route = towards.route;
        match (route.protocol, seen.is_connect()) {
            (Protocol::Http, true) if towards.ends_tls => {
                gathered.place = dialled(authority, route);
                gathered.request = RequestLine::pending();
                Way::Inward
            }
            (Protocol::Http, _) if !towards.ends_tls => {
                gathered.place = Place::judged(match towards.ended {
                    None => of_request(authority, route, None),
                    Some(ended) => ended.destination(authority, route),
                });
                if self.plugin.config.address_check == AddressCheck::Classes {
                    return Way::Checked;
                }
                gathered.address = Fact::Missing;
                Way::Out
            }
            (Protocol::Tcp, true) => {
                gathered.place = Place::judged(of_tunnel(authority, route));
                gathered.protocol = Protocol::Tcp;
                gathered.request = RequestLine::none();
                if towards.checks_tunnels {
                    return Way::Checked;
                }
                // Nothing reads the resolved address in time.
                gathered.address = Fact::Missing;
                Way::Out
            }
            (Protocol::Tls, true) => {
                gathered.place = dialled(authority, route);
                gathered.protocol = Protocol::Tls;
                gathered.request = RequestLine::none();
                Way::Inward
            }
            (Protocol::Http | Protocol::Tcp | Protocol::Tls | Protocol::Udp, _) => {
                gathered.place = Place::Refused(Code::RouteMismatch);
                Way::Out
            }
        }
    }

    /// The verdict comes last: whatever fails before leaves the lock closed.
    fn open(
        &self,
        asked: &Asked<'_>,
        gathered: &Gathered,
        way: Way,
        dynamic: bool,
    ) -> Result<(), HostError> {
        let host = &self.plugin.host;
        // The headers of a tunnel end here.
        if gathered.protocol == Protocol::Http {
            self.strip(asked)?;
        }
        if let (true, Some(agreed)) = (dynamic, gathered.place.agreed()) {
            state::connect_to(host, agreed)?;
        }
        match way {
            Way::Out => state::mark(host, Mark::Accept),
            Way::Checked => state::hand_on(host, Mark::Accept, &wire(gathered)?),
            Way::Inward => state::hand_on(host, Mark::Forward, &wire(gathered)?),
        }
    }

    /// Sends the request by way of a device. The mark chooses the route, whose lock and upstream
    /// filter let nothing else through, as those of every other route do not let this.
    fn to_device(
        &self,
        asked: &Asked<'_>,
        gathered: &Gathered,
        device: &str,
        rule: &Ruling<'_>,
    ) -> Result<(), HostError> {
        let host = &self.plugin.host;
        self.strip(asked)?;
        state::connect_to(host, gathered.place.agreed().ok_or(HostError)?)?;
        state::tell_device(host, device, rule, gathered)?;
        host.clear_route_cache()?;
        state::hand_on(host, Mark::Inspect(device), &wire(gathered)?)
    }

    /// Sends a tunnel of opaque bytes to a device, which is asked to go on to the dialled address.
    /// The lock of every other route stays closed for it.
    fn through_device(
        &self,
        asked: &Asked<'_>,
        gathered: &Gathered,
        device: &str,
        rule: &Ruling<'_>,
    ) -> Result<(), HostError> {
        let host = &self.plugin.host;
        self.strip(asked)?;
        state::tell_device(host, device, rule, gathered)?;
        host.clear_route_cache()?;
        state::mark(host, Mark::Inspect(device))
    }

    /// Removes the mesh's own words. Envoy then chooses the route anew, and does not tell; so the
    /// upstream filter compares the cluster that carries the request with the one judged here.
    fn strip(&self, asked: &Asked<'_>) -> Result<(), HostError> {
        let host = &self.plugin.host;
        match asked.seen.inward.as_slice() {
            [] => Ok(()),
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

    fn deny(&self, seen: &Seen<'_>, gathered: &Gathered, verdict: &Verdict<'_>) -> Flow {
        let host = &self.plugin.host;
        state::mark_denied(host, &verdict.enforced);
        let destination = gathered
            .place
            .agreed()
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
        let seen = Seen::of(&nothing);
        let gathered = Gathered::refused(Protocol::Http, Code::EngineError);
        self.deny(&seen, &gathered, &Verdict::refusal(Code::EngineError))
    }
}

/// What was dialled for TLS inside a tunnel. An address says nothing of the name that the
/// ClientHello will ask for.
fn dialled(authority: &[u8], route: &Route) -> Place {
    match of_tunnel(authority, route) {
        Ok(agreed) if matches!(agreed.host, Target::Address(_)) => Place::Dialled(agreed),
        agreed => Place::judged(agreed),
    }
}

/// Whether no other context has a say after this one.
fn is_last(verdict: &Verdict<'_>, gathered: &Gathered, way: Way) -> bool {
    let inspected = matches!(verdict.enforced.action, Action::Inspect(_));
    way == Way::Out || (inspected && gathered.protocol == Protocol::Tcp)
}

fn wire(gathered: &Gathered) -> Result<Vec<u8>, HostError> {
    gathered.to_wire().ok_or(HostError)
}

#[cfg(test)]
mod tests;
