//! Clients: the gateway's neighbours, with connections that stay.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::workload::{FIRST, Target};
use crate::certificates::Authority;
use crate::client::{self, Tls};
use crate::mesh::GATEWAY_NAME;

/// The port for requests, and the one for tunnels.
const HTTP: u16 = 8080;
const TUNNELS: u16 = 15008;
/// Streams that are open at once on a connection of HTTP/2.
const STREAMS: usize = 2;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Exchange {
    /// A request of HTTP/1.1 on a connection that stays.
    Http1,
    /// A request of HTTP/2 on a connection that stays.
    Http2,
    /// A tunnel by CONNECT on a connection of HTTP/2 that stays, with a ClientHello and the first bytes
    /// of the answer.
    Tunnel,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// How many exchanges.
    pub(super) count: u32,
    /// How long each took.
    pub(super) times: Vec<Duration>,
}

impl Batch {
    fn and(mut self, other: Self) -> Self {
        self.times.extend(other.times);
        Self {
            count: self.count.saturating_add(other.count),
            ..self
        }
    }
}

/// Connections to one gateway.
pub(super) enum Clients {
    /// One request at a time on each.
    One(Vec<Http1>),
    /// Streams on each.
    Two(Http2),
}

impl Clients {
    /// Opens a connection for each target. Answers other than `status` are errors from now on.
    ///
    /// # Errors
    /// If the gateway does not take one.
    pub(super) fn open(
        gateway: Ipv4Addr,
        authority: &Authority,
        exchange: Exchange,
        targets: &[Target],
        status: u16,
    ) -> Result<Self> {
        let config = |target: &Target| {
            let leaf = authority.workload(&target.identity())?;
            client::tls_config(&authority.certificate(), Some(&leaf))
        };
        if exchange == Exchange::Http1 {
            let clients = targets
                .iter()
                .map(|target| Http1::open(gateway, config(target)?, target, status));
            return clients.collect::<Result<_>>().map(Self::One);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tunnel = exchange == Exchange::Tunnel;
        let port = if tunnel { TUNNELS } else { HTTP };
        let mut streams = Vec::new();
        for target in targets {
            let config = config(target)?;
            let sender = runtime.block_on(http2(SocketAddrV4::new(gateway, port), config))?;
            let stream = Stream::of(sender, target, tunnel, status)?;
            runtime
                .block_on(stream.clone().once(true))
                .with_context(|| format!("{target:?}"))?;
            streams.push(stream);
        }
        Ok(Self::Two(Http2 { runtime, streams }))
    }

    /// Repeats the exchange on all connections for so long.
    ///
    /// # Errors
    /// If one fails.
    pub(super) fn batch(&mut self, time: Duration) -> Result<Batch> {
        let end = Instant::now() + time;
        match self {
            Self::One(clients) => std::thread::scope(|scope| {
                let threads: Vec<_> = clients
                    .iter_mut()
                    .map(|client| scope.spawn(move || client.until(end)))
                    .collect();
                let mut whole = Batch::default();
                for thread in threads {
                    let batch = thread.join().map_err(|_| anyhow::anyhow!("a client"))??;
                    whole = whole.and(batch);
                }
                Ok(whole)
            }),
            Self::Two(clients) => clients.until(end, usize::MAX, STREAMS),
        }
    }

    /// Repeats it on one connection for so long, one at a time.
    ///
    /// # Errors
    /// If one fails.
    pub(super) fn alone(&mut self, time: Duration) -> Result<Batch> {
        let end = Instant::now() + time;
        match self {
            Self::One(clients) => clients.first_mut().context("no client")?.until(end),
            Self::Two(clients) => clients.until(end, 1, 1),
        }
    }
}

/// A connection of HTTP/1.1.
pub(super) struct Http1 {
    tls: Tls,
    request: Vec<u8>,
    status: u16,
    seen: Vec<u8>,
}

impl Http1 {
    fn open(
        gateway: Ipv4Addr,
        config: Arc<ClientConfig>,
        target: &Target,
        status: u16,
    ) -> Result<Self> {
        let stream = client::connect(SocketAddrV4::new(gateway, HTTP))?;
        let tls = client::tls(stream, config, GATEWAY_NAME)?.context("no TLS")?;
        let mut client = Self {
            tls,
            request: target.request(true),
            status,
            seen: Vec::new(),
        };
        client.once().with_context(|| format!("{target:?}"))?;
        client.request = target.request(false);
        Ok(client)
    }

    fn until(&mut self, end: Instant) -> Result<Batch> {
        let mut batch = Batch::default();
        while Instant::now() < end {
            batch.times.push(self.timed()?);
            batch.count = batch.count.saturating_add(1);
        }
        Ok(batch)
    }

    /// One request; how long it took.
    ///
    /// # Errors
    /// If it is not answered, or otherwise than expected.
    pub(super) fn timed(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.once()?;
        Ok(began.elapsed())
    }

    fn once(&mut self) -> Result<()> {
        self.tls.write_all(&self.request)?;
        self.tls.flush()?;
        self.seen.clear();
        let mut buffer = [0; 4096];
        let (head, length) = loop {
            let length = self.tls.read(&mut buffer)?;
            ensure!(length > 0, "closed");
            self.seen
                .extend_from_slice(buffer.get(..length).unwrap_or_default());
            if let Some(head) = head(&self.seen) {
                break head;
            }
        };
        while self.seen.len() < head.saturating_add(length) {
            let length = self.tls.read(&mut buffer)?;
            ensure!(length > 0, "closed");
            self.seen
                .extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
        let status = self.seen.get(9..12).unwrap_or_default();
        let expected = self.status.to_string();
        if status != expected.as_bytes() {
            bail!(
                "not {expected}: {}",
                String::from_utf8_lossy(self.seen.as_slice())
            );
        }
        Ok(())
    }
}

/// Length of the head and of the body, if the head is whole.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"content-length: ";
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = bytes.get(..end)?;
    let at = head.windows(NAME.len()).position(|name| name == NAME);
    let length = at.and_then(|at| {
        let digits = head.get(at + NAME.len()..)?;
        let digits = digits.split(|byte| *byte == b'\r').next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    });
    Some((end, length.unwrap_or(0)))
}

/// Connections of HTTP/2.
pub(super) struct Http2 {
    runtime: Runtime,
    streams: Vec<Stream>,
}

impl Http2 {
    /// On at most so many connections, so many streams at once on each.
    fn until(&self, end: Instant, connections: usize, streams: usize) -> Result<Batch> {
        self.runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for stream in self.streams.iter().take(connections) {
                for _ in 0..streams {
                    tasks.spawn(stream.clone().until(end));
                }
            }
            let mut whole = Batch::default();
            while let Some(batch) = tasks.join_next().await {
                whole = whole.and(batch??);
            }
            Ok(whole)
        })
    }
}

/// What is sent on one connection of HTTP/2.
#[derive(Clone)]
struct Stream {
    sender: SendRequest<Bytes>,
    request: Request<()>,
    /// The first bytes of a tunnel.
    hello: Option<Bytes>,
    status: u16,
}

impl Stream {
    fn of(sender: SendRequest<Bytes>, target: &Target, tunnel: bool, status: u16) -> Result<Self> {
        let host = &target.host;
        let request = if tunnel {
            let peer = |(name, _): &(&str, String)| name.starts_with("x-envoy-peer-metadata");
            let request = Request::connect(format!("{host}:443"));
            let headers = target.headers().into_iter().filter(peer);
            headers.fold(request, |request, (name, value)| {
                request.header(name, value)
            })
        } else {
            let request = Request::get(format!("http://{host}/v1/items?page=2"));
            let headers = target.headers().into_iter();
            headers.fold(request, |request, (name, value)| {
                request.header(name, value)
            })
        };
        Ok(Self {
            sender,
            request: request.body(())?,
            hello: tunnel.then(|| client_hello(host)).transpose()?,
            status,
        })
    }

    async fn until(self, end: Instant) -> Result<Batch> {
        let mut batch = Batch::default();
        while Instant::now() < end {
            let began = Instant::now();
            self.clone().once(false).await?;
            batch.times.push(began.elapsed());
            batch.count = batch.count.saturating_add(1);
        }
        Ok(batch)
    }

    async fn once(self, first: bool) -> Result<()> {
        let mut request = self.request;
        if first {
            let one = http::HeaderValue::from_static("1");
            request.headers_mut().insert(FIRST, one);
        }
        let mut sender = self.sender.ready().await?;
        let (response, mut send) = sender.send_request(request, self.hello.is_none())?;
        let (head, mut body) = response.await?.into_parts();
        let seen = head.status.as_u16();
        ensure!(seen == self.status, "{seen}, not {}", self.status);
        let tunnel = self.hello.is_some();
        if let Some(hello) = self.hello {
            send.send_data(hello, false)?;
        }
        let mut bytes = 0_usize;
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            if tunnel && bytes == 0 {
                // The answer has begun; the tunnel ends in order, as a reset would be held against
                // its client.
                send.send_data(Bytes::new(), true)?;
            }
            bytes = bytes.saturating_add(data.len());
        }
        ensure!(bytes > 0, "no answer");
        Ok(())
    }
}

/// A connection of HTTP/2, which is driven on this runtime.
async fn http2(address: SocketAddrV4, config: Arc<ClientConfig>) -> Result<SendRequest<Bytes>> {
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(GATEWAY_NAME)?;
    let session = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let (sender, connection) = h2::client::handshake(session).await?;
    tokio::spawn(async {
        // Its end is seen by the streams.
        let _ = connection.await;
    });
    Ok(sender)
}

/// A ClientHello for this name.
fn client_hello(name: &str) -> Result<Bytes> {
    // Whom it trusts does not matter: nothing is answered to it that it reads.
    let authority = Authority::new("nobody's")?;
    let config = client::tls_config(&authority.certificate(), None)?;
    let mut session = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
    let mut hello = Vec::new();
    session.write_tls(&mut hello)?;
    Ok(hello.into())
}
