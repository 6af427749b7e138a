//! The downstream HTTP filter: requests and CONNECT tunnels.
//!
//! Gathers, asks, acts. What only the resolved address can still change goes on to the upstream
//! filter; TLS inside a tunnel goes inward, where its server name is known.

use std::rc::Rc;

use egress_policy::config::ServerName;
use egress_policy::destination::{Route, of_request, of_tunnel};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::Host as Target;
use egress_policy::settings::AddressCheck;
use egress_policy::verdict::{Action, Code, Evaluation, Verdict};

use crate::denial::{Subject, printable, response, written};
use crate::ended::Ended;
use crate::gathered::{Gathered, Place, RequestLine};
use crate::host::{Flow, Host, HostError};
use crate::plugin::Plugin;
use crate::record;
use crate::request::{INSPECT, Seen};
use crate::state::{self, Mark};

/// The cluster that Envoy has chosen.
pub const CLUSTER: &[&str] = &["xds", "cluster_name"];

/// One request.
#[derive(Debug)]
pub struct Http<H> {
    plugin: Rc<Plugin<H>>,
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

impl<H: Host> Http<H> {
    /// A request under this configuration.
    pub const fn new(plugin: Rc<Plugin<H>>) -> Self {
        Self { plugin }
    }

    /// Judges the request.
    pub fn on_request_headers(&self) -> Flow {
        let host = &self.plugin.host;
        let Ok(headers) = host.request_headers() else {
            return self.deny_unread();
        };
        let seen = Seen::of(&headers);
        let (gathered, way, dynamic) = self.gather(&seen);
        match (self.plugin.evaluate(&gathered), way) {
            (Evaluation::Final(verdict), way) => match (verdict.enforced.action, way) {
                (Action::Accept, Way::Out) => {
                    self.open(&seen, &gathered, way, dynamic, Some(&verdict))
                }
                (Action::Accept, Way::Checked | Way::Inward) => {
                    self.open(&seen, &gathered, way, dynamic, None)
                }
                (Action::Inspect(device), Way::Checked) => {
                    self.inspect(&seen, &gathered, &verdict, device)
                }
                // Nothing would notice if it went out directly.
                (Action::Inspect(_), Way::Out | Way::Inward) => {
                    self.deny(&seen, &gathered, &Verdict::refusal(Code::RouteMismatch))
                }
                (Action::Deny, _) => self.deny(&seen, &gathered, &verdict),
            },
            (Evaluation::Undecided, Way::Checked | Way::Inward) => {
                self.open(&seen, &gathered, way, dynamic, None)
            }
            (Evaluation::Undecided, Way::Out) => {
                self.deny(&seen, &gathered, &Verdict::refusal(Code::AddressUnchecked))
            }
        }
    }

    fn gather(&self, seen: &Seen<'_>) -> (Gathered, Way, bool) {
        let ended = (self.plugin.config.server_name == ServerName::Application)
            .then(|| Ended::of(&self.plugin.host));
        let mut gathered = self.caller(seen, ended.as_ref());
        let cluster = self.plugin.host.property(CLUSTER).ok().flatten();
        let cluster = cluster.as_deref().unwrap_or_default();
        let routes = &self.plugin.config.routes;
        let (way, dynamic) = match routes.resolve(cluster) {
            Err(code) => {
                gathered.place = Place::Refused(code);
                (Way::Out, false)
            }
            Ok(route) => {
                let towards = Towards {
                    route: &route,
                    ends_tls: routes.ends_tls(cluster),
                    checks_tunnels: routes.checks_tunnels(cluster),
                    ended: ended.as_ref(),
                };
                let way = self.place(seen, towards, &mut gathered);
                (way, route.host.is_dynamic() && way != Way::Inward)
            }
        };
        (gathered, way, dynamic)
    }

    /// Who asks, and for what: by the connection, or by the tunnel that it came through.
    fn caller(&self, seen: &Seen<'_>, ended: Option<&Ended>) -> Gathered {
        let (identity, claims) = match ended.map(Ended::tunnel) {
            Some(Ok(Some(facts))) => (facts.identity.clone(), facts.claims.clone()),
            // Whoever it was, it is not whom this connection shows.
            Some(Err(_)) => (Fact::Missing, Fact::Missing),
            None | Some(Ok(None)) => {
                let peer = self.plugin.peer(seen.claims);
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
                if self.plugin.config.address_check == AddressCheck::Upstream {
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

    fn open(
        &self,
        seen: &Seen<'_>,
        gathered: &Gathered,
        way: Way,
        dynamic: bool,
        last: Option<&Verdict<'_>>,
    ) -> Flow {
        match self.write(seen, gathered, way, dynamic) {
            Ok(()) => {
                if let Some(verdict) = last {
                    self.plugin.note(gathered, verdict);
                }
                Flow::Continue
            }
            Err(HostError) => self.deny(seen, gathered, &Verdict::refusal(Code::EngineError)),
        }
    }

    /// Sends the request by way of a device: the route to it is chosen by a header that only this
    /// filter sets. No facts are handed on, so that wherever else the request goes the upstream
    /// filter denies it.
    fn inspect(
        &self,
        seen: &Seen<'_>,
        gathered: &Gathered,
        verdict: &Verdict<'_>,
        device: &str,
    ) -> Flow {
        let host = &self.plugin.host;
        let written = self.strip(seen).and_then(|()| {
            host.set_request_header(INSPECT, device)?;
            host.clear_route_cache()?;
            state::mark(host, Mark::Accept)
        });
        match written {
            Ok(()) => {
                self.plugin.note(gathered, verdict);
                Flow::Continue
            }
            Err(HostError) => self.deny(seen, gathered, &Verdict::refusal(Code::EngineError)),
        }
    }

    /// Removes the mesh's own words. Envoy then chooses the route anew, and does not tell; so the
    /// upstream filter compares the cluster that carries the request with the one judged here.
    fn strip(&self, seen: &Seen<'_>) -> Result<(), HostError> {
        let host = &self.plugin.host;
        let mut names = seen.inward.iter();
        names.try_for_each(|name| host.remove_request_header(name))
    }

    /// The verdict comes last: whatever fails before leaves the lock closed.
    fn write(
        &self,
        seen: &Seen<'_>,
        gathered: &Gathered,
        way: Way,
        dynamic: bool,
    ) -> Result<(), HostError> {
        let host = &self.plugin.host;
        // The headers of a tunnel end here.
        if gathered.protocol == Protocol::Http {
            self.strip(seen)?;
        }
        if let (true, Some(agreed)) = (dynamic, gathered.place.agreed()) {
            state::connect_to(host, agreed)?;
        }
        if way != Way::Out {
            state::hand_on(host, &gathered.to_wire().ok_or(HostError)?)?;
        }
        state::mark(
            host,
            match way {
                Way::Out | Way::Checked => Mark::Accept,
                Way::Inward => Mark::Forward,
            },
        )
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

#[cfg(test)]
mod tests;
