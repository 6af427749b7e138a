//! What has to be done to bring a live gateway to where a case has it.

use std::net::IpAddr;

use egress_policy::case::{
    Case, DEFAULT_ADDRESS, DEFAULT_NOW, ExpectedAnswer, Gateway, HelloSeen, Peer, Subject,
};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::settings::AddressCheck;

use super::hello;

/// Why a case cannot be played.
pub type LeftOut = &'static str;

/// What to try.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What the connection proves.
    pub peer: Proof,
    /// Namespace, labels and cluster of the metadata; `None` sends none.
    pub metadata: Option<Metadata>,
    /// The bytes of the request or behind the tunnel.
    pub speech: Speech,
    /// The name that is resolved, if one is.
    pub name: Option<String>,
    /// Where it leads: one answer after the other.
    pub answers: Vec<Vec<IpAddr>>,
    /// The aliases on the way there.
    pub chain: Vec<String>,
    /// What of the answers may be connected to.
    pub connects: Vec<IpAddr>,
    /// What must come.
    pub expect: ExpectedAnswer,
}

/// What the connection proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A certificate with these URI SANs.
    UriSans(Vec<String>),
    /// TLS without a certificate.
    NoCertificate,
    /// No TLS.
    Plaintext,
}

/// The metadata's claims.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The namespace.
    pub namespace: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// The cluster.
    pub cluster: Option<String>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum Speech {
    /// A request over this cluster.
    Http {
        /// The route's cluster.
        cluster: String,
        /// Host.
        authority: Vec<u8>,
        /// The method.
        method: String,
        /// The path.
        path: String,
        /// The upgrade token.
        upgrade: Option<String>,
    },
    /// A tunnel to this authority, and its first bytes.
    Tunnel {
        /// CONNECT's authority.
        authority: Vec<u8>,
        /// What is said inside.
        bytes: Vec<u8>,
    },
}

/// What to try for a case.
///
/// # Errors
/// Why it cannot be tried.
pub fn attempt(case: &Case, gateway: &Gateway) -> Result<Attempt, LeftOut> {
    if !case.is_for(Subject::Live) {
        return Err("a case for the engine alone");
    }
    let step = case.steps.last().ok_or("no step")?;
    let input = &step.input;
    if step.limit {
        return Err("a limit of time or bytes");
    }
    if input.refused.is_some() {
        return Err("a failed host call");
    }
    if input.now != Fact::Known(DEFAULT_NOW) {
        return Err("another time than now");
    }
    let verdict = match &step.expect {
        ExpectedAnswer::Undecided => return Err("a moment before the last"),
        ExpectedAnswer::Verdict(verdict) => verdict,
        ExpectedAnswer::Final { enforced, .. } => enforced.verdict,
    };
    if verdict == "Inspect" {
        return Err("an inspection proxy");
    }
    let answers = match (&input.to.answers, input.to.address) {
        (answers, _) if !answers.is_empty() => answers.clone(),
        (_, Fact::Known(address)) => vec![vec![address]],
        (_, Fact::Pending | Fact::Missing) => return Err("an address that cannot be read"),
    };
    let connects = match &step.connects {
        Some(connects) => connects.clone(),
        // Of an answer whose addresses are the case's point nothing is left where it says nothing.
        None if !input.to.answers.is_empty() => Vec::new(),
        None => answers.concat(),
    };
    if gateway.settings.address_check == AddressCheck::None && answers != [[DEFAULT_ADDRESS]] {
        return Err("an address that is known although nobody looks at it");
    }
    let peer = proof(&input.from.peer)?;
    let (speech, name) = match input.to.protocol {
        Protocol::Http => http(&input.to)?,
        Protocol::Tls => tls(&input.to)?,
        Protocol::Tcp => {
            let name = input.to.dialled.as_deref().and_then(host_of);
            (tunnel(&input.to, b"hello\r\n".to_vec())?, name)
        }
        Protocol::Udp => return Err("UDP"),
    };
    Ok(Attempt {
        metadata: metadata(&input.from, &peer)?,
        peer,
        speech,
        name,
        answers,
        chain: input.to.chain.clone(),
        connects,
        expect: step.expect.clone(),
    })
}

fn proof(peer: &Peer) -> Result<Proof, LeftOut> {
    match peer {
        Peer::UriSans(sans) => {
            let texts = sans.iter().map(|san| String::from_utf8(san.clone()));
            let texts: Result<Vec<_>, _> = texts.collect();
            let texts = texts.map_err(|_| "a certificate that cannot be made")?;
            if !texts.iter().all(|text| text.is_ascii()) {
                return Err("a certificate that cannot be made");
            }
            Ok(Proof::UriSans(texts))
        }
        Peer::NoCertificate => Ok(Proof::NoCertificate),
        Peer::Plaintext => Ok(Proof::Plaintext),
        Peer::Pending | Peer::Missing => Err("a certificate that cannot be read"),
    }
}

fn metadata(from: &egress_policy::case::Asker, proof: &Proof) -> Result<Option<Metadata>, LeftOut> {
    let labels = match &from.labels {
        Fact::Known(labels) => labels.clone(),
        Fact::Missing => return Ok(None),
        Fact::Pending => return Err("labels that still come"),
    };
    let own = match proof {
        Proof::UriSans(sans) => sans.first().and_then(|san| {
            let (_, rest) = san.split_once("/ns/")?;
            rest.split('/').next().map(str::to_owned)
        }),
        Proof::NoCertificate | Proof::Plaintext => None,
    };
    let namespace = from.metadata_namespace.clone().or(own).unwrap_or_default();
    Ok(Some(Metadata {
        namespace,
        labels,
        cluster: from.cluster.clone(),
    }))
}

type Spoken = (Speech, Option<String>);

fn http(to: &egress_policy::case::Target) -> Result<Spoken, LeftOut> {
    if to.app_sni.is_some() {
        return Err("application TLS that ends at the gateway");
    }
    let cluster = match (&to.cluster, to.port) {
        (Some(cluster), _) => {
            String::from_utf8(cluster.clone()).map_err(|_| "a cluster's name that is no text")?
        }
        (None, Some(port)) => super::bootstrap::http_cluster(port),
        (None, None) => return Err("a route without a port"),
    };
    let (Fact::Known(method), Fact::Known(path), Fact::Known(upgrade)) =
        (&to.method, &to.path, &to.upgrade)
    else {
        return Err("a request that cannot be read");
    };
    let path = path.clone().ok_or("CONNECT where there is no tunnel")?;
    if method == "CONNECT" {
        return Err("CONNECT where there is no tunnel");
    }
    if method.bytes().any(|byte| byte.is_ascii_lowercase())
        || upgrade.as_deref() == Some("connect-udp")
    {
        return Err("a request that Envoy itself refuses");
    }
    let path = String::from_utf8(path).map_err(|_| "a request that Envoy itself refuses")?;
    if is_normalised_by_envoy(&path) {
        return Err("a path that Envoy normalises before the module sees it");
    }
    let authority = to.authority.clone().unwrap_or_default();
    if authority
        .iter()
        .any(|byte| *byte < b' ' || *byte == 0x7F || *byte >= 0x80)
        || authority.contains(&b' ')
    {
        return Err("a Host that Envoy itself refuses");
    }
    let name = host_of(&authority);
    let speech = Speech::Http {
        cluster,
        authority,
        method: method.clone(),
        path,
        upgrade: upgrade.clone(),
    };
    Ok((speech, name))
}

fn tls(to: &egress_policy::case::Target) -> Result<Spoken, LeftOut> {
    let (bytes, name) = match &to.hello {
        Fact::Known(HelloSeen::Name { sni, .. }) if sni.is_empty() || sni.contains(&0) => {
            return Err("a server name that Envoy itself refuses");
        }
        Fact::Known(HelloSeen::Name { sni, ech }) => {
            (hello::client_hello(Some(sni), *ech), host_of(sni))
        }
        Fact::Known(HelloSeen::NoName) => (hello::client_hello(None, false), None),
        Fact::Known(HelloSeen::Malformed) => (b"GET / HTTP/1.1\r\n\r\n".to_vec(), None),
        Fact::Known(HelloSeen::TooLong) => return Err("a ClientHello beyond Envoy's own limit"),
        Fact::Pending | Fact::Missing => return Err("a ClientHello that still comes"),
    };
    Ok((tunnel(to, bytes)?, name))
}

fn tunnel(to: &egress_policy::case::Target, bytes: Vec<u8>) -> Result<Speech, LeftOut> {
    if to.cluster.is_some() {
        return Err("a chain for one destination");
    }
    let authority = to.dialled.clone().ok_or("a chain for one destination")?;
    let printable = authority.iter().all(|byte| (0x21..0x7F).contains(byte));
    let port = authority
        .rsplit(|byte| *byte == b':')
        .next()
        .unwrap_or_default();
    if !printable {
        return Err("an authority that Envoy itself refuses");
    }
    // The gateway's configuration says that 443 carries TLS and every other port opaque bytes.
    let carries_tls = port == b"443";
    if carries_tls != (to.protocol == Protocol::Tls) {
        return Err("a port that carries another protocol here");
    }
    Ok(Speech::Tunnel { authority, bytes })
}

/// Envoy removes dot segments and turns backslashes and escapes of unreserved characters into what
/// they stand for (`normalize_path`, RFC 3986 §6).
fn is_normalised_by_envoy(path: &str) -> bool {
    let escapes_unreserved = path.split('%').skip(1).any(|rest| {
        let byte = rest
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    });
    let has_dots = path
        .split(['/', '\\'])
        .any(|segment| matches!(segment.split(';').next(), Some("." | "..")));
    escapes_unreserved || has_dots || path.contains('\\')
}

/// The name that is looked up for an authority or SNI, if it is one.
fn host_of(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok()?;
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let numeric = host
        .rsplit('.')
        .next()?
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    // IPv6 stands in brackets.
    let is_name = !host.is_empty() && !numeric && !host.starts_with('[');
    is_name.then_some(host)
}

impl Attempt {
    /// The outside port that the attempt leads to.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let digits = match &self.speech {
            Speech::Http { cluster, .. } => cluster.strip_prefix("warden-http-")?,
            Speech::Tunnel { authority, .. } => {
                let text = std::str::from_utf8(authority).ok()?;
                text.rsplit_once(':')?.1
            }
        };
        digits.parse().ok().filter(|port| *port != 0)
    }
}
