//! Facts as the command line writes them.

use std::net::IpAddr;

use egress_policy::destination::{Destination, Hello, from_tls};
use egress_policy::facts::{Fact, Protocol, SpiffeId};
use egress_policy::name::{Authority, Host, canonical};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{OwnedClaims, OwnedFacts, Who};
use crate::failure::Failure;

const FROM_HINT: &str = "NAMESPACE/SERVICE-ACCOUNT[,label=KEY=VALUE]...[,cluster=NAME][,trust-domain=NAME], a spiffe:// id, plaintext, no-certificate, malformed, unknown or missing";

/// `--from`: the caller and what it claims. Without labels, what it claims stays open.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_caller(
    text: &str,
    trust_domain: &str,
) -> Result<(Fact<Who>, Fact<OwnedClaims>), Failure> {
    let wrong = |what: String| Failure::new(what).with_hint(FROM_HINT);
    let mut parts = text.split(',');
    let who = parts.next().unwrap_or_default();
    let mut trust_domain = trust_domain.to_owned();
    let mut claims: Option<Fact<OwnedClaims>> = None;
    let mut claimed = OwnedClaims {
        namespace: String::new(),
        cluster: None,
        labels: Vec::new(),
    };
    let mut claims_namespace = None;
    for part in parts {
        match part.split_once('=') {
            Some(("label", label)) => {
                let (key, value) = label
                    .split_once('=')
                    .ok_or_else(|| wrong(format!("`{part}` is not label=KEY=VALUE")))?;
                claimed.labels.push((key.to_owned(), value.to_owned()));
            }
            Some(("cluster", name)) => claimed.cluster = Some(name.to_owned()),
            Some(("trust-domain", name)) => name.clone_into(&mut trust_domain),
            Some(("claimed-namespace", name)) => claims_namespace = Some(name.to_owned()),
            Some(("claims", "none")) => claims = Some(Fact::Known(claimed.clone())),
            Some(("claims", "unknown")) => claims = Some(Fact::Pending),
            Some(("claims", "missing")) => claims = Some(Fact::Missing),
            _ => return Err(wrong(format!("`{part}` says nothing about a caller"))),
        }
    }
    let caller = match who {
        "unknown" => Fact::Pending,
        "missing" => Fact::Missing,
        "plaintext" => Fact::Known(Who::Plaintext),
        "no-certificate" => Fact::Known(Who::NoCertificate),
        "malformed" => Fact::Known(Who::Malformed),
        _ if who.starts_with("spiffe://") => {
            Fact::Known(SpiffeId::parse(who.as_bytes()).map_or(Who::Malformed, owned))
        }
        _ => {
            let id = format!(
                "spiffe://{trust_domain}/{}",
                who.split_once('/')
                    .map_or_else(String::new, |(namespace, account)| {
                        format!("ns/{namespace}/sa/{account}")
                    })
            );
            let id = SpiffeId::parse(id.as_bytes())
                .map_err(|_| wrong(format!("`{who}` is no caller")))?;
            Fact::Known(owned(id))
        }
    };
    let said =
        !claimed.labels.is_empty() || claimed.cluster.is_some() || claims_namespace.is_some();
    let own_namespace = match &caller {
        Fact::Known(Who::Workload { namespace, .. }) => namespace.clone(),
        Fact::Known(_) | Fact::Pending | Fact::Missing => String::new(),
    };
    let namespace = claims_namespace.unwrap_or(own_namespace);
    let claims = match claims {
        Some(Fact::Known(metadata)) => Fact::Known(OwnedClaims {
            namespace,
            ..metadata
        }),
        Some(open) => open,
        None if said => Fact::Known(OwnedClaims {
            namespace,
            ..claimed
        }),
        None => Fact::Pending,
    };
    Ok((caller, claims))
}

fn owned(id: SpiffeId<'_>) -> Who {
    Who::Workload {
        trust_domain: id.trust_domain.to_owned(),
        namespace: id.namespace.to_owned(),
        service_account: id.service_account.to_owned(),
    }
}

/// What a scheme of `--to` stands for: the protocol, and the port where none is written.
struct Scheme {
    protocol: Protocol,
    port: Option<u16>,
    upgrade: Option<&'static str>,
}

fn scheme(word: &str) -> Option<Scheme> {
    let of = |protocol, port, upgrade| Scheme {
        protocol,
        port,
        upgrade,
    };
    Some(match word {
        "http" => of(Protocol::Http, Some(80), None),
        "ws" => of(Protocol::Http, Some(80), Some("websocket")),
        "https" | "tls" | "wss" => of(Protocol::Tls, Some(443), None),
        "tcp" => of(Protocol::Tcp, None, None),
        "udp" => of(Protocol::Udp, None, None),
        _ => return None,
    })
}

const TO_HINT: &str = "http://HOST[:PORT]/PATH, https://HOST, tls://HOST:PORT, ws://HOST, tcp://HOST:PORT or udp://ADDRESS:PORT";

/// `--to`: a destination as a URL, and the server name inside TLS if it is another.
///
/// # Errors
/// What is wrong with the text. A host that the gateway would refuse is no error: the refusal is
/// the answer.
pub fn parse_to(text: &str, sni: Option<&str>) -> Result<OwnedFacts, Failure> {
    let wrong = |what: String| Failure::new(what).with_hint(TO_HINT);
    let (word, rest) = text
        .split_once("://")
        .ok_or_else(|| wrong(format!("`{text}` has no scheme")))?;
    let scheme = scheme(word).ok_or_else(|| wrong(format!("unknown scheme `{word}`")))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let mut situation = OwnedFacts::pending(scheme.protocol);
    if scheme.protocol == Protocol::Http {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        situation.path = Fact::Known(Some(path));
        situation.method = Fact::Known("GET".to_owned());
        situation.upgrade = Fact::Known(scheme.upgrade.map(str::to_owned));
    }
    let parsed = match Authority::parse(authority.as_bytes()) {
        Ok(parsed) => parsed,
        Err(code) => {
            situation.refused = Some(code);
            return Ok(situation);
        }
    };
    let port = parsed
        .port
        .or(scheme.port)
        .ok_or_else(|| wrong(format!("`{text}` names no port")))?;
    let dialled = Destination {
        host: parsed.host,
        port,
    };
    if scheme.protocol == Protocol::Tls {
        judge_tls(&mut situation, &dialled, sni);
    } else {
        set_destination(&mut situation, &dialled);
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
