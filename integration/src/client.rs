//! Dials as an application does, through its sidecar, or at the gateway without one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::certificates::Leaf;
use crate::envoy::PATIENCE;

/// The port to which a sidecar has everything redirected.
pub const REDIRECT: u16 = 15001;

/// A TLS session over a connection.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects to `destination` through the sidecar at `sidecar`.
///
/// The PROXY protocol's line stands for the kernel's redirection: it tells the sidecar which
/// address was dialled.
///
/// # Errors
/// If the sidecar does not accept.
pub fn dial(sidecar: Ipv4Addr, destination: SocketAddrV4) -> Result<TcpStream> {
    let mut stream = connect(SocketAddrV4::new(sidecar, REDIRECT))?;
    let (ip, port) = (destination.ip(), destination.port());
    let own = stream.local_addr()?.port();
    write!(stream, "PROXY TCP4 {sidecar} {ip} {own} {port}\r\n")?;
    Ok(stream)
}

/// Connects directly.
///
/// # Errors
/// If nobody accepts.
pub fn connect(address: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What the other side said first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing: it closed or reset the connection.
    Closed,
}

/// Waits for the first bytes or the end.
///
/// # Errors
/// If neither comes.
pub fn hear(stream: &mut impl Read) -> Result<Heard> {
    let mut buffer = vec![0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Ok(Heard::Closed),
        Ok(length) => {
            buffer.truncate(length);
            Ok(Heard::Bytes(buffer))
        }
        Err(error) if gone(error.kind()) => Ok(Heard::Closed),
        Err(error) => Err(error.into()),
    }
}

/// Reads until the connection ends; what came.
///
/// # Errors
/// If it does not end.
pub fn drain(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Heard::Bytes(more) = hear(stream)? {
        bytes.extend(more);
    }
    Ok(bytes)
}

/// How a connection ended that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Clean,
    /// By a reset, or by TLS that was not closed.
    Cut,
}

/// Reads as an application that has other things to do: a little at a time, with a pause of three
/// seconds after the first megabyte. How many bytes came, and how it ended.
///
/// # Errors
/// If it does not end.
pub fn drain_slowly(stream: &mut impl Read) -> Result<(usize, End)> {
    const PIECE: Duration = Duration::from_millis(5);
    /// Longer than Envoy waits by default when it closes a connection.
    const PAUSE: Duration = Duration::from_secs(3);
    let mut buffer = vec![0; 65536];
    let (mut came, mut paused) = (0, false);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((came, End::Clean)),
            Ok(length) => came += length,
            Err(error) if gone(error.kind()) => return Ok((came, End::Cut)),
            Err(error) => return Err(error.into()),
        }
        let pause = if came > 1 << 20 && !paused {
            paused = true;
            PAUSE
        } else {
            PIECE
        };
        std::thread::sleep(pause);
    }
}

fn gone(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::NotConnected
    )
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and header lines as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Sends one HTTP/1.1 request with these header lines and reads the response; the connection can
/// be used again. `None` if it was closed instead.
///
/// # Errors
/// If what comes is no response.
pub fn request(
    stream: &mut (impl Read + Write),
    method: &str,
    target: &str,
    headers: &[(&str, &[u8])],
) -> Result<Option<Response>> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    match stream.write_all(&bytes).and_then(|()| stream.flush()) {
        Err(error) if gone(error.kind()) => return Ok(None),
        other => other?,
    }
    response(stream, method != "HEAD")
}

fn response(stream: &mut impl Read, has_body: bool) -> Result<Option<Response>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match hear(stream)? {
            Heard::Bytes(more) => bytes.extend(more),
            Heard::Closed => return Ok(None),
        }
    };
    let rest = bytes.split_off(head_end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.trim().parse::<usize>())?;
    let mut body = rest;
    while has_body && body.len() < length {
        match hear(stream)? {
            Heard::Bytes(more) => body.extend(more),
            Heard::Closed => break,
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Response { status, head, body }))
}

/// A TLS client that trusts one authority and may show a certificate.
///
/// # Errors
/// If a PEM is none.
pub fn tls_config(authority: &str, identity: Option<&Leaf>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes())?],
            PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?,
        )?,
    };
    Ok(Arc::new(config))
}

/// Shakes hands for `name` and verifies the server. `None` if the connection was closed instead.
///
/// # Errors
/// If the server is another one or does not speak TLS.
pub fn tls(mut stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> Result<Option<Tls>> {
    let mut session = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
    while session.is_handshaking() {
        match session.complete_io(&mut stream) {
            Ok(_) => {}
            Err(error) if gone(error.kind()) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(!session.is_handshaking(), "handshake not complete");
    Ok(Some(StreamOwned::new(session, stream)))
}
