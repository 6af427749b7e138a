//! Making the attempts. Nothing here changes anything at the other end: a request has no body,
//! a connection says no more than its first words, a datagram asks a question that anybody may.

mod http;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use schemars::JsonSchema;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Attempt, Message, ProbeResult};

/// Most bytes of an answer that are read.
const MOST_READ: usize = 16 * 1024;
/// Attempts at a time.
const AT_A_TIME: usize = 8;
/// Nobody lives here (RFC 5737, RFC 3849): a connection that is established was taken by a proxy.
const NOWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 254)), 9),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x254)),
        9,
    ),
];

/// Which families of TCP a proxy in the pod takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Captured {
    /// Over IPv4.
    #[serde(rename = "ipv4")]
    pub(crate) v4: bool,
    /// Over IPv6.
    #[serde(rename = "ipv6")]
    pub(crate) v6: bool,
}

impl Captured {
    /// Whether a connection to this address is taken.
    pub(crate) const fn takes(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }
}

/// Finds out.
pub(crate) fn redirected(timeout: Duration) -> Captured {
    let [v4, v6] = NOWHERE.map(|to| TcpStream::connect_timeout(&to, timeout).is_ok());
    Captured { v4, v6 }
}

/// Whether this user may send ICMP echo requests (icmp(7): `ping_group_range`).
pub(crate) fn may_ping() -> bool {
    ping_socket(IpAddr::V4(Ipv4Addr::LOCALHOST)).is_ok()
}

/// Looks the names up with the system's resolver. An IPv4 address is preferred: that is what a
/// gateway prefers.
pub(crate) fn resolve_all(names: &[String]) -> BTreeMap<String, IpAddr> {
    let found = in_parallel(
        names,
        |_| {},
        |name| {
            let found: Vec<IpAddr> = (name.as_str(), 0)
                .to_socket_addrs()
                .map(|found| found.map(|address| address.ip()).collect())
                .unwrap_or_default();
            let v4 = found.iter().find(|address| address.is_ipv4());
            v4.or(found.first()).copied()
        },
    );
    let pairs = names.iter().cloned().zip(found);
    pairs
        .filter_map(|(name, address)| Some((name, address??)))
        .collect()
}

/// Makes every attempt, a few at a time, and says after each how many are done.
pub(crate) fn try_all(
    attempts: &[&Attempt],
    timeout: Duration,
    done: impl FnMut(usize),
) -> Vec<ProbeResult> {
    let seen = in_parallel(attempts, done, |attempt| attempt.make(timeout));
    let lost = || ProbeResult::Unclear("the attempt was not made".to_owned());
    seen.into_iter()
        .map(|seen| seen.unwrap_or_else(lost))
        .collect()
}

/// `work` over all items on a few threads; the results in the order of the items.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    mut done: impl FnMut(usize),
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let next = AtomicUsize::new(0);
    let (next, work) = (&next, &work);
    std::thread::scope(|scope| {
        let (report, reports) = channel();
        for _ in 0..AT_A_TIME.min(items.len()) {
            let report = report.clone();
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    if report.send((index, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(report);
        for (count, (index, result)) in reports.into_iter().enumerate() {
            if let Some(slot) = results.get_mut(index) {
                *slot = Some(result);
            }
            done(count + 1);
        }
    });
    results
}

impl Attempt {
    fn make(&self, timeout: Duration) -> ProbeResult {
        let deadline = Instant::now() + timeout;
        match self {
            Self::Http {
                to,
                method,
                authority,
                path,
                headers,
            } => {
                let mut request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: warden-verify\r\n\
                     Accept: application/json\r\nConnection: close\r\n"
                );
                for (name, value) in headers {
                    request.extend([name, ": ", value.as_str(), "\r\n"]);
                }
                request.push_str("\r\n");
                let said = say(*to, request.as_bytes(), deadline, |so_far| {
                    http::complete(so_far, *method == "HEAD")
                });
                said.map_or_else(|seen| seen, |said| http::read(&said))
            }
            Self::Tls { to, name } => match hello(name.as_deref()) {
                Err(error) => ProbeResult::Unclear(error),
                // Any TLS record is the other side's: the gateway speaks none here.
                Ok(hello) => say(*to, &hello, deadline, |so_far| !so_far.is_empty())
                    .map_or_else(|seen| seen, |said| said.first_words(is_tls)),
            },
            Self::Tcp { to } => say(*to, &[], deadline, |so_far| !so_far.is_empty())
                .map_or_else(|seen| seen, |said| said.first_words(|_| true)),
            Self::Direct { to } => match TcpStream::connect_timeout(to, timeout) {
                Ok(stream) => {
                    let _ = stream.shutdown(Shutdown::Both);
                    ProbeResult::Reached("connected".to_owned())
                }
                Err(error) => not_connected(&error),
            },
            Self::Udp { to, message } => datagram(*to, *message, timeout),
            Self::Ping { to } => ping(*to, timeout),
        }
    }
}

/// What was heard on a connection.
struct Said {
    bytes: Vec<u8>,
    /// The other side ended it.
    ended: bool,
}

impl Said {
    fn first_words(&self, fits: impl Fn(&[u8]) -> bool) -> ProbeResult {
        match self {
            Self { bytes, .. } if fits(bytes) && !bytes.is_empty() => {
                ProbeResult::Reached(printable(bytes))
            }
            Self { bytes, .. } if !bytes.is_empty() => ProbeResult::Unclear(printable(bytes)),
            Self { ended: true, .. } => ProbeResult::Refused("closed".to_owned()),
            Self { .. } => ProbeResult::Open,
        }
    }
}

/// A handshake record or an alert (RFC 8446 §5.1).
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 3, ..])
}

fn printable(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    let shown = bytes.get(..LONGEST).unwrap_or(bytes);
    if is_tls(bytes) {
        return "a TLS record".to_owned();
    }
    shown.trim_ascii_end().escape_ascii().to_string()
}

/// Connects, says something, and listens until it is enough, the other side ends it, or time is
/// up.
fn say(
    to: SocketAddr,
    words: &[u8],
    deadline: Instant,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Said, ProbeResult> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut stream =
        TcpStream::connect_timeout(&to, at_least(left())).map_err(|error| not_connected(&error))?;
    let mut said = Said {
        bytes: Vec::new(),
        ended: false,
    };
    let _ = stream.set_write_timeout(Some(at_least(left())));
    // An answer may have come before what was to be said was taken.
    let _ = stream.write_all(words);
    let mut buffer = [0; 4096];
    while said.bytes.len() < MOST_READ && !enough(&said.bytes) && !left().is_zero() {
        let _ = stream.set_read_timeout(Some(at_least(left())));
        match stream.read(&mut buffer) {
            Ok(0) => {
                said.ended = true;
                break;
            }
            Ok(length) => said
                .bytes
                .extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                said.ended = !is_timeout(error.kind());
                break;
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    Ok(said)
}

/// The standard library takes no zero for a timeout.
fn at_least(time: Duration) -> Duration {
    time.max(Duration::from_millis(1))
}

const fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn not_connected(error: &std::io::Error) -> ProbeResult {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => ProbeResult::Dropped,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
            ProbeResult::Refused("reset".to_owned())
        }
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            ProbeResult::Refused("no route".to_owned())
        }
        ErrorKind::PermissionDenied => ProbeResult::Refused("forbidden on the way".to_owned()),
        ErrorKind::AddrNotAvailable | ErrorKind::Unsupported => {
            ProbeResult::Refused("no address of this family".to_owned())
        }
        _ => ProbeResult::Unclear(error.to_string()),
    }
}

/// A ClientHello as a common client writes it. The handshake goes no further.
pub(super) fn hello(name: Option<&str>) -> Result<Vec<u8>, String> {
    let text = |error: rustls::Error| error.to_string();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = name.is_some();
    let server = ServerName::try_from(name.unwrap_or("none.invalid").to_owned())
        .map_err(|error| error.to_string())?;
    let mut session = ClientConnection::new(Arc::new(config), server).map_err(text)?;
    let mut bytes = Vec::new();
    session
        .write_tls(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn datagram(to: SocketAddr, message: Message, timeout: Duration) -> ProbeResult {
    let own: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let asked = UdpSocket::bind((own, 0)).and_then(|socket| {
        socket.connect(to)?;
        socket.set_read_timeout(Some(at_least(timeout)))?;
        socket.send(&message.bytes())?;
        Ok(socket)
    });
    match asked {
        Ok(socket) => answer(|buffer| socket.recv(buffer)),
        Err(error) => not_connected(&error),
    }
}

/// What comes back on a socket that has asked.
fn answer(receive: impl FnOnce(&mut [u8]) -> std::io::Result<usize>) -> ProbeResult {
    match receive(&mut [0; 1500]) {
        Ok(length) => ProbeResult::Reached(format!("{length} bytes")),
        Err(error) if is_timeout(error.kind()) => ProbeResult::Dropped,
        // The destination says so, or a firewall in its place.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            ProbeResult::Unclear("port unreachable".to_owned())
        }
        Err(error) => not_connected(&error),
    }
}

impl Message {
    fn bytes(self) -> Vec<u8> {
        match self {
            // Header: id, RD, one question; root, NS, IN (RFC 1035 §4.1).
            Self::Dns => vec![0x77, 0x64, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1],
            Self::Quic => {
                // Long header, a reserved version (RFC 9000 §15), eight bytes of each connection
                // id, and at least 1,200 bytes in all (§14.1).
                let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8];
                packet.extend(*b"egress-w");
                packet.push(8);
                packet.extend(*b"warden-v");
                packet.resize(1200, 0);
                packet
            }
            // Version 4, mode 3 (client).
            Self::Ntp => {
                let mut packet = vec![0x23];
                packet.resize(48, 0);
                packet
            }
            Self::Empty => Vec::new(),
        }
    }
}

fn ping_socket(to: IpAddr) -> std::io::Result<Socket> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    Socket::new(domain, Type::DGRAM, Some(protocol))
}

fn ping(to: IpAddr, timeout: Duration) -> ProbeResult {
    // Echo request; the kernel fills in identifier and checksum (icmp(7)).
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let request = [kind, 0, 0, 0, 0, 0, 0, 1, b'w', b'd'];
    let asked = ping_socket(to).and_then(|socket| {
        socket.connect(&SocketAddr::new(to, 0).into())?;
        socket.set_read_timeout(Some(at_least(timeout)))?;
        socket.send(&request)?;
        Ok(socket)
    });
    match asked {
        Ok(mut socket) => answer(|buffer| socket.read(buffer)),
        Err(error) => not_connected(&error),
    }
}
