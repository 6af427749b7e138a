//! Servers of the outside world, which write down every connection and every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use egress_policy::contract::DENIED_HEADER;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;

/// What every server says that the gateway has denied.
pub const FORGED: &str = "forged";

/// How a server speaks.
#[derive(Clone, Debug)]
pub enum Speech {
    /// HTTP, 1.1 or 2 as the client likes: every request is answered with 200 and the server's name,
    /// and with a header that says [`FORGED`] of the gateway; gRPC in its trailers too.
    Http(&'static str),
    /// The same inside TLS.
    Https(&'static str),
    /// The same with a certificate for all of these names; it says the first.
    HttpsOf(&'static [&'static str]),
    /// Sends this line first and then echoes (SSH and SMTP begin like that).
    Banner(&'static str),
    /// Waits for the client and echoes.
    Echo,
    /// Sends so many bytes at once and closes, as a download does that ends with its connection.
    /// What the client sends meanwhile is read.
    Download(usize),
    /// The same, but only its own direction ends; it goes on reading until the client's does.
    Linger(usize),
    /// Reads until the client's direction ends, and then sends so many bytes.
    Late(usize),
    /// Sends so many bytes, and then little by little until it is told to close.
    Until(usize, Arc<AtomicBool>),
    /// HTTP/1.1 where the client speaks it, else an echo.
    HttpOrEcho(&'static str),
}

/// What a server saw of one connection.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Where it arrived: the server's address and port.
    pub address: Option<(IpAddr, u16)>,
    /// Bytes from the client; inside TLS those of the application.
    pub bytes: Vec<u8>,
    /// TLS only: the name the client asked for, if the handshake was completed.
    pub server_name: Option<String>,
    /// TLS only: the certificate that the client showed.
    pub client_certificate: Option<Vec<u8>>,
    /// Whether HTTP/2 was spoken.
    pub http2: bool,
    /// Downloads only: how many bytes the kernel has taken from the server.
    pub sent: usize,
    /// Whether the client has gone, or the server has closed.
    pub closed: bool,
}

type Record = Arc<Mutex<Vec<Received>>>;

/// All servers; they run until the process ends.
#[derive(Clone, Default)]
pub struct Outside {
    record: Record,
}

impl Outside {
    /// Starts one server. At the unspecified address it listens at every address.
    ///
    /// # Errors
    /// If the port is taken or no certificate can be made.
    pub fn serve(
        &self,
        authority: &Authority,
        address: impl Into<IpAddr>,
        port: u16,
        speech: &Speech,
    ) -> Result<()> {
        let tls = match speech {
            Speech::Https(name) => Some(tls(authority, &[name])?),
            Speech::HttpsOf(names) => Some(tls(authority, names)?),
            _ => None,
        };
        let speech = match speech {
            Speech::HttpsOf(names) => Speech::Https(names.first().copied().unwrap_or_default()),
            other => other.clone(),
        };
        self.listen((address.into(), port), &speech, tls.map(Arc::new))
    }

    /// Starts a server at a port of every address: HTTP/1.1 where the client speaks it, else echo.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn serve_everywhere(&self, port: u16) -> Result<()> {
        let everywhere = (Ipv6Addr::UNSPECIFIED.into(), port);
        self.listen(everywhere, &Speech::HttpOrEcho("outside"), None)
    }

    fn listen(
        &self,
        address: (IpAddr, u16),
        speech: &Speech,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<()> {
        let listener = TcpListener::bind(address)?;
        let (record, speech) = (Arc::clone(&self.record), speech.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Heads and bodies go in pieces, which must not wait for one another.
                let _ = stream.set_nodelay(true);
                let index = begin(&record, &stream);
                let (record, speech, tls) = (Arc::clone(&record), speech.clone(), tls.clone());
                std::thread::spawn(move || {
                    let note = Note { record, index };
                    // The client's or Envoy's hanging up is no error here.
                    let _ = match (tls, &speech) {
                        (Some(config), _) => talk_tls(stream, config, &speech, &note),
                        (None, Speech::Http(name)) if begins_http2(&stream) => {
                            talk_http2(stream, name, &note)
                        }
                        (
                            None,
                            Speech::Download(_)
                            | Speech::Linger(_)
                            | Speech::Late(_)
                            | Speech::Until(..),
                        ) => talk_at_length(stream, &speech, &note),
                        (None, Speech::HttpOrEcho(name)) if begins_http1(&stream) => {
                            talk(stream, &Speech::Http(name), &note)
                        }
                        (None, _) => talk(stream, &speech, &note),
                    };
                    note.change(|seen| seen.closed = true);
                });
            }
        });
        Ok(())
    }

    /// Everything seen so far, in order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Received> {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What one server has seen so far.
    #[must_use]
    pub fn seen_at(&self, address: impl Into<IpAddr>, port: u16) -> Vec<Received> {
        let mut seen = self.seen();
        let at = Some((address.into(), port));
        seen.retain(|seen| seen.address == at);
        seen
    }
}

struct Note {
    record: Record,
    index: usize,
}

impl Note {
    fn change(&self, change: impl FnOnce(&mut Received)) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = record.get_mut(self.index) {
            change(seen);
        }
    }
}

fn begin(record: &Record, stream: &TcpStream) -> usize {
    let arrived = stream.local_addr().ok();
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    record.push(Received {
        // An IPv4 client of an IPv6 socket came to the IPv4 address.
        address: arrived.map(|at| (at.ip().to_canonical(), at.port())),
        ..Received::default()
    });
    record.len() - 1
}

/// A server that speaks both versions of HTTP and looks at a client's certificate if it shows one.
fn tls(authority: &Authority, names: &[&str]) -> Result<ServerConfig> {
    let leaf = authority.server_of(names)?;
    let certificate = CertificateDer::from_pem_slice(leaf.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?;
    let mut roots = RootCertStore::empty();
    let authority = authority.certificate();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let clients = WebPkiClientVerifier::builder(roots.into()).allow_unauthenticated();
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(clients.build()?)
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn talk_tls(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    speech: &Speech,
    note: &Note,
) -> Result<()> {
    stream.set_nonblocking(true)?;
    let runtime = runtime()?;
    let session = runtime.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        TlsAcceptor::from(config).accept(stream).await
    })?;
    let (_, connection) = session.get_ref();
    let certificates = connection.peer_certificates().unwrap_or_default();
    let client = certificates.first().map(|shown| shown.to_vec());
    note.change(|seen| {
        seen.server_name = connection.server_name().map(str::to_owned);
        seen.client_certificate = client;
    });
    if let (Some(b"h2"), Speech::Https(name)) = (connection.alpn_protocol(), speech) {
        return runtime.block_on(answer_http2(session, name, note));
    }
    let (stream, connection) = session.into_inner();
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    talk(StreamOwned::new(connection, stream), speech, note)
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_io().build()?)
}

fn talk(mut stream: impl Read + Write + Close, speech: &Speech, note: &Note) -> Result<()> {
    if let Speech::Banner(line) = speech {
        stream.write_all(line.as_bytes())?;
    }
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let mut upgraded = false;
    loop {
        let length = stream.read(&mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            stream.close();
            return Ok(());
        }
        note.change(|seen| seen.bytes.extend_from_slice(bytes));
        match speech {
            Speech::Http(name) | Speech::Https(name) if !upgraded => {
                request.extend_from_slice(bytes);
                while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                    if asks_for_websocket(request.get(..end).unwrap_or_default()) {
                        upgraded = true;
                        stream.write_all(SWITCHED)?;
                        break;
                    }
                    let is_head = request.starts_with(b"HEAD ");
                    request.drain(..end + 4);
                    let body = if is_head {
                        String::new()
                    } else {
                        format!("{name}\n")
                    };
                    write!(
                        stream,
                        "HTTP/1.1 200 OK\r\n{DENIED_HEADER}: {FORGED}\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    )?;
                }
            }
            _ => stream.write_all(bytes)?,
        }
        stream.flush()?;
    }
}

/// A server whose direction ends before or after the client's.
fn talk_at_length(mut stream: TcpStream, speech: &Speech, note: &Note) -> Result<()> {
    let mut reader = stream.try_clone()?;
    let mut read = || -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let length = reader.read(&mut buffer)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            note.change(|seen| seen.bytes.extend_from_slice(bytes));
        }
    };
    if let Speech::Late(size) = speech {
        read()?;
        return send(&mut stream, *size, note);
    }
    std::thread::scope(|scope| {
        scope.spawn(&mut read);
        let sent = match speech {
            Speech::Download(size) | Speech::Linger(size) => send(&mut stream, *size, note),
            Speech::Until(size, told) => {
                // So that it closes although nothing more goes.
                stream.set_write_timeout(Some(Duration::from_millis(50)))?;
                let mut all = send(&mut stream, *size, note);
                while all.is_ok() && !told.load(Ordering::Relaxed) {
                    all = send_some(&mut stream, 1024, note).map(drop);
                    std::thread::sleep(Duration::from_millis(2));
                }
                all
            }
            _ => Ok(()),
        };
        let which = match speech {
            Speech::Linger(_) => Shutdown::Write,
            _ => Shutdown::Both,
        };
        let closed = stream.shutdown(which);
        sent.and(closed.map_err(Into::into))
    })
}

fn send(stream: &mut TcpStream, size: usize, note: &Note) -> Result<()> {
    let mut left = size;
    while left > 0 {
        left -= send_some(stream, left, note)?;
    }
    Ok(())
}

/// Sends up to so many bytes, 64 KiB at most, and says how many; none if the stream's time is over.
fn send_some(stream: &mut TcpStream, most: usize, note: &Note) -> Result<usize> {
    static PIECE: [u8; 65536] = [b'.'; 65536];
    let length = match stream.write(PIECE.get(..most).unwrap_or(&PIECE)) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
        other => other?,
    };
    note.change(|seen| seen.sent += length);
    Ok(length)
}

/// After this an upgraded server echoes; what it echoes is no frame, which nobody here reads.
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";

/// Whether a request's head asks for a WebSocket (RFC 6455 §4.1).
fn asks_for_websocket(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().any(|line| line == "upgrade: websocket")
}

/// Whether the client's first byte may be that of a request.
fn begins_http1(stream: &TcpStream) -> bool {
    let mut first = [0; 1];
    stream.peek(&mut first).is_ok() && first[0].is_ascii_uppercase()
}

/// Whether the client's first bytes are those of HTTP/2's preface (RFC 9113 §3.4).
fn begins_http2(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    loop {
        match stream.peek(&mut first) {
            Ok(3) => return &first == b"PRI",
            Ok(1 | 2) => {}
            Ok(_) | Err(_) => return false,
        }
    }
}

fn talk_http2(stream: TcpStream, name: &'static str, note: &Note) -> Result<()> {
    stream.set_nonblocking(true)?;
    runtime()?.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        answer_http2(stream, name, note).await
    })
}

/// Answers every stream, gRPC in its own form; what is noted of each is its authority and path.
async fn answer_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    name: &'static str,
    note: &Note,
) -> Result<()> {
    note.change(|seen| seen.http2 = true);
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let uri = request.uri().to_string();
        note.change(|seen| seen.bytes.extend_from_slice(uri.as_bytes()));
        let grpc = http::HeaderValue::from_static("application/grpc");
        if request.headers().get("content-type") == Some(&grpc) {
            let answer = http::Response::builder()
                .header("content-type", grpc)
                .header(DENIED_HEADER, FORGED);
            let mut body = respond.send_response(answer.body(())?, false)?;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            trailers.insert(DENIED_HEADER, http::HeaderValue::from_static(FORGED));
            body.send_trailers(trailers)?;
            continue;
        }
        let text = format!("{name}\n");
        let answer = http::Response::builder()
            .header("content-length", text.len())
            .header(DENIED_HEADER, FORGED);
        let mut body = respond.send_response(answer.body(())?, false)?;
        body.send_data(bytes::Bytes::from(text), true)?;
    }
    Ok(())
}

trait Close {
    fn close(&mut self);
}

impl Close for TcpStream {
    fn close(&mut self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Close for StreamOwned<ServerConnection, TcpStream> {
    fn close(&mut self) {
        let _ = self.sock.shutdown(Shutdown::Both);
    }
}
