//! `/metrics`, `/readyz` and `/healthz` over HTTP/1.1, one request per connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::metrics::Metrics;

/// A request line that is longer than this is not one of ours.
const LONGEST_REQUEST: u64 = 8192;

/// What the exporter serves.
#[derive(Debug, Clone, Default)]
pub struct Exporter {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the node is guarded, for the readiness probe.
    pub ready: Arc<AtomicBool>,
}

impl Exporter {
    /// Serves for ever, one connection after the other: scrapes are few and short.
    pub fn serve(&self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            // A client that goes away harms nobody.
            let _ = self.answer(stream);
        }
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        let mut reader = BufReader::new(stream.try_clone()?.take(LONGEST_REQUEST));
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let (status, body) = self.respond(&request);
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn respond(&self, request: &str) -> (&'static str, String) {
        let mut words = request.split(' ');
        match (words.next(), words.next()) {
            (Some("GET"), Some("/metrics")) => ("200 OK", self.metrics.render()),
            (Some("GET"), Some("/healthz")) => ("200 OK", "ok\n".to_owned()),
            (Some("GET"), Some("/readyz")) if self.ready.load(Ordering::Acquire) => {
                ("200 OK", "ok\n".to_owned())
            }
            (Some("GET"), Some("/readyz")) => {
                ("503 Service Unavailable", "not guarded\n".to_owned())
            }
            _ => ("404 Not Found", String::new()),
        }
    }
}
