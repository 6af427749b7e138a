//! `/metrics`, `/readyz` and `/healthz` over HTTP/1.1.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::metrics::Metrics;

/// What `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at a time: probes and scrapes are few and short. More wait.
const CONNECTIONS: usize = 16;

/// For one connection, which is one request.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the exporter serves.
#[derive(Debug, Clone, Default)]
pub struct Exporter {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the node is guarded, for the readiness probe.
    pub ready: Arc<AtomicBool>,
}

impl Exporter {
    /// Serves for ever.
    ///
    /// # Errors
    /// The operating system's; a client that goes away is none.
    pub async fn serve(self, listener: TcpListener) -> Result<()> {
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/readyz", get(ready))
            .route("/healthz", get("ok\n"))
            .with_state(self)
            .layer(map_response(closing));
        let bounded = Bounded {
            listener,
            slots: Arc::new(Semaphore::new(CONNECTIONS)),
        };
        axum::serve(bounded, routes).await
    }
}

async fn metrics(State(exporter): State<Exporter>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], exporter.metrics.render())
}

async fn ready(State(exporter): State<Exporter>) -> impl IntoResponse {
    if exporter.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not guarded\n")
    }
}

async fn closing(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// Connections that a client which says nothing neither keeps nor piles up.
struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Never closed, so a slot comes.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let connection = Connection {
            stream,
            deadline: Box::pin(tokio::time::sleep(DEADLINE)),
            _slot: slot,
        };
        (connection, address)
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn late(&mut self, context: &mut Context<'_>) -> Option<Error> {
        let late = self.deadline.as_mut().poll(context).is_ready();
        late.then(|| Error::from(ErrorKind::TimedOut))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if let Some(late) = self.late(context) {
            return Poll::Ready(Err(late));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        if let Some(late) = self.late(context) {
            return Poll::Ready(Err(late));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn ask(at: SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        write!(stream, "{request}\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn probes_and_scrapes_are_answered_whatever_others_do() {
        let exporter = Exporter::default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let at = listener.local_addr().unwrap();
        runtime.spawn(exporter.clone().serve(listener));
        for (request, status, body) in [
            ("GET /healthz HTTP/1.1", "200 OK", "ok\n"),
            (
                "GET /readyz HTTP/1.1",
                "503 Service Unavailable",
                "not guarded\n",
            ),
            ("GET /metrics HTTP/1.1", "200 OK", "# EOF\n"),
            ("GET / HTTP/1.1", "404 Not Found", ""),
            ("POST /metrics HTTP/1.1", "405 Method Not Allowed", ""),
        ] {
            let answer = ask(at, request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{answer}"
            );
            assert!(answer.ends_with(body), "{answer}");
        }
        assert!(
            ask(at, "GET /metrics HTTP/1.1").contains(&format!("content-type: {OPEN_METRICS}\r\n"))
        );
        exporter.ready.store(true, Ordering::Release);
        assert!(ask(at, "GET /readyz HTTP/1.1").starts_with("HTTP/1.1 200 OK"));

        // As many as are served at a time, which say nothing or never end: an answer comes all
        // the same, when they have had their time.
        let silent: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let mut stream = std::net::TcpStream::connect(at).unwrap();
                if number % 2 == 0 {
                    write!(stream, "GET /metrics HTTP/1.1\r\nX: ").unwrap();
                }
                stream
            })
            .collect();
        assert!(ask(at, "GET /healthz HTTP/1.1").starts_with("HTTP/1.1 200 OK"));
        drop(silent);
    }
}
