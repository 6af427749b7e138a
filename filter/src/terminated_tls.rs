//! Where TLS of the application ends at this gateway: its server name, and whose tunnel it came
//! through.

use egress_policy::destination::{Destination, Route, from_request, from_terminated_tls};
use egress_policy::facts::Protocol;
use egress_policy::verdict::ReasonCode;

use crate::host::Host;
use crate::network::SNI;
use crate::state;
use crate::stream_facts::StreamFacts;

/// A connection whose TLS the application began for a name, and this gateway ended.
#[derive(Debug)]
pub struct TerminatedTls {
    server_name: Result<Vec<u8>, ReasonCode>,
    tunnel: Result<Option<Box<StreamFacts>>, ReasonCode>,
}

impl TerminatedTls {
    /// Reads it of the current connection.
    pub fn of(host: &impl Host) -> Self {
        let server_name = match host.property(SNI) {
            Ok(Some(name)) if !name.is_empty() => Ok(name),
            Ok(_) => Err(ReasonCode::SniMissing),
            Err(_) => Err(ReasonCode::FactsMissing),
        };
        let tunnel = match state::read_from_tunnel(host) {
            Ok(None) => Ok(None),
            Ok(Some(facts)) if facts.protocol == Protocol::Http => Ok(Some(Box::new(facts))),
            Ok(Some(_)) | Err(_) => Err(ReasonCode::EngineError),
        };
        Self {
            server_name,
            tunnel,
        }
    }

    /// The facts of the tunnel around it, which say who calls: the connection itself knows nobody.
    /// `None` where there is no tunnel.
    ///
    /// # Errors
    /// If they cannot be read: then nobody is known.
    pub fn tunnel(&self) -> Result<Option<&StreamFacts>, ReasonCode> {
        match &self.tunnel {
            Ok(facts) => Ok(facts.as_deref()),
            Err(code) => Err(*code),
        }
    }

    /// Where a request on this connection leads.
    ///
    /// # Errors
    /// [`ReasonCode::HostMismatch`] where Host is another name than the server name, which HTTP/2
    /// allows a client that trusts the certificate for both (RFC 9113 §9.1.1), and those of
    /// [`from_terminated_tls`].
    pub fn destination(&self, authority: &[u8], route: &Route) -> Result<Destination, ReasonCode> {
        let tunnel = self.tunnel()?;
        let server_name = self.server_name.as_deref().map_err(|code| *code)?;
        match tunnel {
            None => from_request(authority, route, Some(server_name)),
            Some(facts) => {
                let dialled = facts.destination.known().ok_or(ReasonCode::RouteMismatch)?;
                from_terminated_tls(dialled, server_name, authority, route)
            }
        }
    }
}

#[cfg(test)]
mod tests;
