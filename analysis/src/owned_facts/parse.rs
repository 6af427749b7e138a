//! Facts as the command line writes them.

use std::net::IpAddr;

use egress_policy::case::line::{AskerLine, LineError, TargetLine};
use egress_policy::destination::{Destination, Hello, from_tls};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::{Host, canonical};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{OwnedClaims, OwnedFacts, Who};
use crate::failure::Failure;

impl From<LineError> for Failure {
    fn from(error: LineError) -> Self {
        Self::new(error.to_string()).with_hint(error.hint)
    }
}

/// `--from`: the caller and what it claims. Without labels, what it claims stays open.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_caller(
    text: &str,
    trust_domain: &str,
) -> Result<(Fact<Who>, Fact<OwnedClaims>), Failure> {
    let line = AskerLine::parse(text, trust_domain)?;
    let caller = line.peer.caller().map(Who::from);
    Ok((caller, line.claims.unwrap_or(Fact::Pending)))
}

/// `--to`: a destination as a URL, and the server name inside TLS if it is another.
///
/// # Errors
/// What is wrong with the text. A host that the gateway would refuse is no error: the refusal is
/// the answer.
pub fn parse_to(text: &str, sni: Option<&str>) -> Result<OwnedFacts, Failure> {
    let line = TargetLine::parse(text)?;
    let mut situation = OwnedFacts::pending(line.protocol);
    if line.protocol == Protocol::Http {
        situation.path = Fact::Known(Some(line.request_path()));
        situation.method = Fact::Known("GET".to_owned());
        situation.upgrade = Fact::Known(line.upgrade.map(str::to_owned));
    }
    match &line.destination {
        Err(code) => situation.refused = Some(*code),
        Ok(dialled) if line.protocol == Protocol::Tls => judge_tls(&mut situation, dialled, sni),
        Ok(dialled) => set_destination(&mut situation, dialled),
    }
    Ok(situation)
}

/// A client that dials an address sends no server name unless it is told one (RFC 6066 §3).
fn judge_tls(situation: &mut OwnedFacts, dialled: &Destination, sni: Option<&str>) {
    let hello = match (sni, &dialled.host) {
        (Some("none"), _) | (None, Host::Address(_)) => Hello::NoName,
        (Some(name), _) => Hello::Name {
            sni: name.as_bytes(),
            ech: false,
        },
        (None, Host::Name(name)) => Hello::Name {
            sni: name.as_str().as_bytes(),
            ech: false,
        },
    };
    match from_tls(dialled, hello, false) {
        Ok(agreed) => {
            set_destination(situation, &agreed);
            if let Host::Address(address) = dialled.host {
                situation.address = Fact::Known(address);
            }
        }
        Err(code) => situation.refused = Some(code),
    }
}

fn set_destination(situation: &mut OwnedFacts, agreed: &Destination) {
    situation.port = Fact::Known(agreed.port);
    match &agreed.host {
        Host::Name(name) => situation.name = Fact::Known(Some(name.clone())),
        Host::Address(address) => {
            situation.name = Fact::Known(None);
            situation.address = Fact::Known(*address);
        }
    }
}

/// `--address`: where a name leads.
///
/// # Errors
/// The text is neither an address nor `unknown` nor `missing`.
pub fn parse_address(text: &str) -> Result<Fact<IpAddr>, Failure> {
    Ok(match text {
        "unknown" => Fact::Pending,
        "missing" => Fact::Missing,
        _ => Fact::Known(canonical(text.parse().map_err(|_| {
            Failure::new(format!("`{text}` is no address"))
                .with_hint("an IPv4 or IPv6 address, public, unknown or missing")
        })?)),
    })
}

/// `--time`.
///
/// # Errors
/// The text is neither RFC 3339 nor `unknown` nor `missing`.
pub fn parse_time(text: &str) -> Result<Fact<i64>, Failure> {
    Ok(match text {
        "unknown" => Fact::Pending,
        "missing" => Fact::Missing,
        _ => Fact::Known(
            OffsetDateTime::parse(text, &Rfc3339)
                .map_err(|_| {
                    Failure::new(format!("`{text}` is no time"))
                        .with_hint("RFC 3339, for example 2027-01-31T00:00:00Z")
                })?
                .unix_timestamp(),
        ),
    })
}

/// A time in RFC 3339.
#[must_use]
pub fn time_text(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}
