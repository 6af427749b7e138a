//! The upstream HTTP filter: the judgement ends here, where the address is known and no byte of
//! the request has been sent.
//!
//! In a cluster that connects to the outside only what is accepted goes on; in one that leads to an
//! inspection device only what that device is to inspect. There too the address is that of the judged
//! name: Envoy resolves it and then connects to the device instead.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use egress_policy::destination::{of_request, of_tunnel};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::{Host as Target, canonical};
use egress_policy::verdict::{Action, Code, Verdict};

use crate::denial::{Subject, response, written};
use crate::gathered::{Gathered, Place};
use crate::host::{Flow, Host, HostError};
use crate::plugin::Plugin;
use crate::position::CLUSTER;
use crate::record;
use crate::state::{self, Mark};

const ADDRESS: &[&str] = &["upstream", "address"];

/// One attempt to send a request.
#[derive(Debug)]
pub struct Upstream<H: Host> {
    plugin: Rc<Plugin<H>>,
}

impl<H: Host> Upstream<H> {
    /// A request under this configuration.
    pub fn new(plugin: Rc<Plugin<H>>) -> Self {
        // It ends with the request downstream.
        let _ = plugin.begin();
        Self { plugin }
    }

    /// Ends the judgement.
    pub fn on_request_headers(&self) -> Flow {
        let cluster = self.plugin.host.property(CLUSTER).ok().flatten();
        let cluster = cluster.unwrap_or_default();
        let device = self.plugin.device_of(&cluster);
        let gathered = self.gather(&cluster, device);
        let verdict = match self.plugin.conclude(&gathered, Code::AddressUnchecked) {
            verdict if belongs(verdict.enforced.action, device) => verdict,
            _ => Verdict::refusal(Code::RouteMismatch),
        };
        self.plugin.note(&gathered, &verdict);
        if verdict.enforced.action == Action::Deny {
            self.deny(&gathered, &verdict)
        } else {
            Flow::Continue
        }
    }

    fn gather(&self, cluster: &[u8], device: Option<&str>) -> Gathered {
        let host = &self.plugin.host;
        let handed_on = state::handed_on(host).ok().flatten();
        // Without the downstream filter's mark nobody has judged this request.
        let judged = handed_on.and_then(|entry| {
            let mark = device.map_or(Mark::Accept, Mark::Inspect);
            Some((Gathered::from_wire(entry.facts())?, entry.is(mark)))
        });
        let Some((mut gathered, by_its_way)) = judged else {
            return Gathered::refused(Protocol::Http, Code::FactsMissing);
        };
        gathered.now = self.plugin.now();
        gathered.address = address(host)
            .ok()
            .flatten()
            .map_or(Fact::Missing, Fact::Known);
        if !(by_its_way && self.leads_there(&gathered, cluster, device)) {
            gathered.place = Place::Refused(Code::RouteMismatch);
        }
        gathered
    }

    /// Whether the request is on its way to what was judged: by a cluster that carries it, and to
    /// the address that was asked for, if one was. A device is told what was judged.
    fn leads_there(&self, gathered: &Gathered, cluster: &[u8], device: Option<&str>) -> bool {
        let Some(judged) = gathered.place.agreed() else {
            return false;
        };
        let by_route = || {
            let route = self.plugin.config.routes.resolve(cluster);
            route.is_ok_and(|route| {
                let authority = written(judged);
                let leads_to = match route.protocol {
                    Protocol::Tcp => of_tunnel(authority.as_bytes(), &route),
                    _ => of_request(authority.as_bytes(), &route, None),
                };
                route.protocol == gathered.protocol && leads_to.as_ref() == Ok(judged)
            })
        };
        (device.is_some() || by_route())
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

/// Whether a verdict may go by this cluster: an inspection device's, or any other.
fn belongs(action: Action<'_>, device: Option<&str>) -> bool {
    match action {
        Action::Deny => true,
        Action::Accept => device.is_none(),
        Action::Inspect(chosen) => device == Some(chosen),
    }
}

/// Where Envoy connects, or would without a device; `None` if it has not chosen yet.
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
