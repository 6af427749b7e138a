//! A question as one line of text: who asks, and for what as a URL. The command line and case files
//! write it alike.

use crate::destination::Destination;
use crate::facts::{Caller, Fact, OwnedClaims, Protocol, SpiffeId};
use crate::name::{Authority, Host};
use crate::reason::ReasonCode;

use super::{Asker, HelloSeen, Peer, Target};

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LineError {
    message: String,
    /// What to write instead.
    pub hint: &'static str,
}

const ASKER_HINT: &str = "NAMESPACE/SERVICE-ACCOUNT[,label=KEY=VALUE]...[,cluster=NAME][,trust-domain=NAME], a spiffe:// id, plaintext, no-certificate, malformed, unknown or missing";
const TARGET_HINT: &str = "http://HOST[:PORT]/PATH, https://HOST, tls://HOST:PORT, ws://HOST, tcp://HOST:PORT or udp://ADDRESS:PORT";

/// Who asks, as `NAMESPACE/SERVICE-ACCOUNT,label=KEY=VALUE` and what else the hint lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskerLine {
    /// What the connection proves.
    pub peer: Peer,
    /// What the peer metadata claims; `None` where the line says nothing of it.
    pub claims: Option<Fact<OwnedClaims>>,
}

impl AskerLine {
    /// Reads a line. A service account without a trust domain is of `trust_domain`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, trust_domain: &str) -> Result<Self, LineError> {
        let wrong = |message: String| LineError {
            message,
            hint: ASKER_HINT,
        };
        let mut parts = text.split(',');
        let who = parts.next().unwrap_or_default();
        let mut trust_domain = trust_domain;
        let mut said = Said::default();
        for part in parts {
            match part.split_once('=') {
                Some(("trust-domain", name)) => trust_domain = name,
                Some((word, value)) if said.take(word, value) => {}
                Some(("label", _)) => {
                    return Err(wrong(format!("`{part}` is not label=KEY=VALUE")));
                }
                _ => return Err(wrong(format!("`{part}` says nothing about a caller"))),
            }
        }
        let peer = peer(who, trust_domain).ok_or_else(|| wrong(format!("`{who}` is no caller")))?;
        Ok(Self {
            claims: said.claims(&peer),
            peer,
        })
    }
}

fn peer(who: &str, trust_domain: &str) -> Option<Peer> {
    Some(match who {
        "unknown" => Peer::Pending,
        "missing" => Peer::Missing,
        "plaintext" => Peer::Plaintext,
        "no-certificate" => Peer::NoCertificate,
        // A certificate without a name is of no workload.
        "malformed" => Peer::UriSans(Vec::new()),
        _ if who.starts_with("spiffe://") => Peer::UriSans(vec![who.as_bytes().to_vec()]),
        _ => {
            let (namespace, account) = who.split_once('/')?;
            let id = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}");
            SpiffeId::parse(id.as_bytes()).ok()?;
            Peer::UriSans(vec![id.into_bytes()])
        }
    })
}

/// What a line says of claims.
#[derive(Default)]
struct Said {
    labels: Vec<(String, String)>,
    cluster: Option<String>,
    namespace: Option<String>,
    /// `claims=none`: there are some, and they are those that the line says.
    none: bool,
    open: Option<Fact<OwnedClaims>>,
}

impl Said {
    /// Whether it is something of claims.
    fn take(&mut self, word: &str, value: &str) -> bool {
        match (word, value) {
            ("label", label) => {
                let Some((key, value)) = label.split_once('=') else {
                    return false;
                };
                self.labels.push((key.to_owned(), value.to_owned()));
            }
            ("cluster", name) => self.cluster = Some(name.to_owned()),
            ("claimed-namespace", name) => self.namespace = Some(name.to_owned()),
            ("claims", "none") => self.none = true,
            ("claims", "unknown") => self.open = Some(Fact::Pending),
            ("claims", "missing") => self.open = Some(Fact::Missing),
            _ => return false,
        }
        true
    }

    fn claims(self, peer: &Peer) -> Option<Fact<OwnedClaims>> {
        if self.open.is_some() {
            return self.open;
        }
        let some = self.none
            || !self.labels.is_empty()
            || self.cluster.is_some()
            || self.namespace.is_some();
        some.then(|| {
            let own = || {
                let caller = peer.caller();
                let workload = caller.known().and_then(Caller::workload);
                workload.map(|id| id.namespace.to_owned())
            };
            Fact::Known(OwnedClaims {
                namespace: self.namespace.or_else(own).unwrap_or_default(),
                cluster: self.cluster,
                labels: self.labels,
            })
        })
    }
}

/// A case says everything of its caller: what is not in the line is not there.
impl From<AskerLine> for Asker {
    fn from(line: AskerLine) -> Self {
        let (labels, namespace, cluster) = match line.claims {
            None => (Fact::Known(Vec::new()), None, None),
            Some(Fact::Known(claims)) => (
                Fact::Known(claims.labels),
                Some(claims.namespace),
                claims.cluster,
            ),
            Some(Fact::Pending) => (Fact::Pending, None, None),
            Some(Fact::Missing) => (Fact::Missing, None, None),
        };
        Self {
            peer: line.peer,
            labels,
            metadata_namespace: namespace,
            cluster,
        }
    }
}

/// For what, as a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetLine<'t> {
    /// What the client speaks.
    pub protocol: Protocol,
    /// The upgrade that it asks for.
    pub upgrade: Option<&'static str>,
    /// The host and its port, as written.
    pub authority: &'t str,
    /// The same read, with the scheme's port where none is written; or why the gateway refuses it.
    pub destination: Result<Destination, ReasonCode>,
    /// What stands behind the authority, from its `/` or `?` on; empty where nothing does.
    pub path: &'t str,
}

/// What a scheme stands for: the protocol, the port where none is written, and the upgrade.
fn scheme(word: &str) -> Option<(Protocol, Option<u16>, Option<&'static str>)> {
    // RFC 3986 §3.1: schemes are case-insensitive.
    Some(match word.to_ascii_lowercase().as_str() {
        "http" => (Protocol::Http, Some(80), None),
        "ws" => (Protocol::Http, Some(80), Some("websocket")),
        "https" | "tls" | "wss" => (Protocol::Tls, Some(443), None),
        "tcp" => (Protocol::Tcp, None, None),
        "udp" => (Protocol::Udp, None, None),
        _ => return None,
    })
}

impl<'t> TargetLine<'t> {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with the text. A host that the gateway would refuse is no error: the refusal is
    /// the answer.
    pub fn parse(text: &'t str) -> Result<Self, LineError> {
        let wrong = |message: String| LineError {
            message,
            hint: TARGET_HINT,
        };
        let (word, rest) = text
            .split_once("://")
            .ok_or_else(|| wrong(format!("`{text}` has no scheme")))?;
        let (protocol, port, upgrade) =
            scheme(word).ok_or_else(|| wrong(format!("unknown scheme `{word}`")))?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let destination = match Authority::parse(authority.as_bytes()) {
            Err(code) => Err(code),
            Ok(parsed) => Ok(Destination {
                host: parsed.host,
                port: parsed
                    .port
                    .or(port)
                    .ok_or_else(|| wrong(format!("`{text}` names no port")))?,
            }),
        };
        Ok(Self {
            protocol,
            upgrade,
            authority,
            destination,
            path,
        })
    }

    /// The path of a request; `/` where none is written.
    #[must_use]
    pub fn request_path(&self) -> String {
        if self.path.starts_with('/') {
            self.path.to_owned()
        } else {
            format!("/{}", self.path)
        }
    }

    /// What a gateway is given when a client asks for it.
    ///
    /// # Errors
    /// It is UDP, which no gateway is asked for.
    pub(super) fn target(&self) -> Result<Target, LineError> {
        let mut target = Target {
            protocol: self.protocol,
            ..Target::default()
        };
        let port = self.destination.as_ref().map(|one| one.port).ok();
        match self.protocol {
            Protocol::Udp => {
                return Err(LineError {
                    message: "UDP does not go through the gateway".to_owned(),
                    hint: "`warden explain --to udp://ADDRESS:PORT` answers for it",
                });
            }
            Protocol::Http => {
                target.authority = Some(self.authority.as_bytes().to_vec());
                target.port = port.or(Some(80));
                target.path = Fact::Known(Some(self.request_path().into_bytes()));
                target.upgrade = Fact::Known(self.upgrade.map(str::to_owned));
            }
            Protocol::Tls | Protocol::Tcp => {
                let dialled = match &self.destination {
                    Ok(Destination { host, port }) => format!("{}:{port}", host.in_authority()),
                    Err(_) => self.authority.to_owned(),
                };
                target.dialled = Some(dialled.into_bytes());
            }
        }
        if self.protocol == Protocol::Tls {
            target.hello = Fact::Known(match &self.destination {
                // A client that dials an address sends no server name (RFC 6066 section 3).
                Ok(Destination {
                    host: Host::Address(_),
                    ..
                }) => HelloSeen::NoName,
                Ok(Destination { host, .. }) => HelloSeen::Name {
                    sni: host.to_string().into_bytes(),
                    ech: false,
                },
                Err(_) => HelloSeen::Malformed,
            });
        }
        Ok(target)
    }
}
