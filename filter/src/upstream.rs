//! The upstream HTTP filter: the judgement ends here, where the address is known and no byte of
//! the request has been sent.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use egress_policy::destination::{of_request, of_tunnel};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::{Host as Target, canonical};
use egress_policy::verdict::{Action, Code, Verdict};

use crate::denial::{Subject, response, written};
use crate::gathered::{Gathered, Place};
use crate::host::{Flow, Host, HostError};
use crate::http::CLUSTER;
use crate::plugin::Plugin;
use crate::record;
use crate::state;

const ADDRESS: &[&str] = &["upstream", "address"];

/// One attempt to send a request.
#[derive(Debug)]
pub struct Upstream<H> {
    plugin: Rc<Plugin<H>>,
}

impl<H: Host> Upstream<H> {
    /// A request under this configuration.
    pub const fn new(plugin: Rc<Plugin<H>>) -> Self {
        Self { plugin }
    }

    /// Ends the judgement.
    pub fn on_request_headers(&self) -> Flow {
        let gathered = self.gather();
        let verdict = self.plugin.conclude(&gathered, Code::AddressUnchecked);
        self.plugin.note(&gathered, &verdict);
        if verdict.enforced.action == Action::Accept {
            Flow::Continue
        } else {
            self.deny(&gathered, &verdict)
        }
    }

    fn gather(&self) -> Gathered {
        let host = &self.plugin.host;
        let handed_on = state::handed_on(host).ok().flatten();
        // Without the downstream filter's mark nobody has judged this request.
        let Some(mut gathered) = handed_on.as_deref().and_then(Gathered::from_wire) else {
            return Gathered::refused(Protocol::Http, Code::FactsMissing);
        };
        gathered.now = self.plugin.now();
        let address = address(host).ok().flatten();
        gathered.address = address.map_or(Fact::Missing, Fact::Known);
        if !self.leads_there(&gathered) {
            gathered.place = Place::Refused(Code::RouteMismatch);
        }
        gathered
    }

    /// Whether the request is on its way to what was judged: by a cluster that carries it, and to
    /// the address that was asked for, if one was.
    fn leads_there(&self, gathered: &Gathered) -> bool {
        let Some(judged) = gathered.place.agreed() else {
            return false;
        };
        let cluster = self.plugin.host.property(CLUSTER).ok().flatten();
        let route = cluster.and_then(|cluster| {
            let routes = &self.plugin.config.routes;
            routes.resolve(&cluster).ok().map(Cow::into_owned)
        });
        let by_route = route.is_some_and(|route| {
            let authority = written(judged);
            let leads_to = match route.protocol {
                Protocol::Tcp => of_tunnel(authority.as_bytes(), &route),
                _ => of_request(authority.as_bytes(), &route, None),
            };
            route.protocol == gathered.protocol && leads_to.as_ref() == Ok(judged)
        });
        by_route
            && match (&judged.host, gathered.address) {
                (Target::Address(asked), Fact::Known(connected)) => *asked == connected,
                (Target::Address(_) | Target::Name(_), _) => true,
            }
    }

    fn deny(&self, gathered: &Gathered, verdict: &Verdict<'_>) -> Flow {
        let host = &self.plugin.host;
        state::mark_denied(host, &verdict.enforced);
        let destination = gathered
            .place
            .agreed()
            .map_or_else(|| "unknown".to_owned(), written);
        let subject = Subject {
            workload: record::workload(gathered),
            destination: &destination,
        };
        let wants_json = host
            .request_headers()
            .is_ok_and(|headers| crate::request::Seen::of(&headers).wants_json);
        // If the answer cannot be sent the request still goes nowhere.
        let _ = host.respond(&response(subject, &verdict.enforced, wants_json));
        Flow::Stop
    }
}

/// Where Envoy connects; `None` if it has not chosen yet.
///
/// # Errors
/// If it cannot be read, or is not an address and port.
pub fn address(host: &impl Host) -> Result<Option<IpAddr>, HostError> {
    let Some(bytes) = host.property(ADDRESS)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| HostError)?;
    let address: SocketAddr = text.parse().map_err(|_| HostError)?;
    Ok(Some(canonical(address.ip())))
}

#[cfg(test)]
mod tests;
