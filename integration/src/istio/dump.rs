//! Configuration dumps over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::envoy::PATIENCE;

/// Fetches a JSON document.
///
/// # Errors
/// If there is none.
pub fn of(address: SocketAddrV4, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("no header")?;
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_lowercase();
    let body = answer.get(end + 4..).unwrap_or_default();
    ensure!(head.starts_with("http/1.1 200"), "{head}");
    let body = if head.contains("transfer-encoding: chunked") {
        unchunked(body)?
    } else {
        body.to_vec()
    };
    serde_json::from_slice(&body).context("no JSON")
}

/// A chunked body (RFC 9112 §7.1) in one piece.
fn unchunked(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body
            .windows(2)
            .position(|two| two == b"\r\n")
            .context("no chunk")?;
        let (size, rest) = body.split_at(end);
        let size = usize::from_str_radix(std::str::from_utf8(size)?, 16)?;
        let rest = rest.get(2..).context("no chunk")?;
        if size == 0 {
            return Ok(whole);
        }
        whole.extend_from_slice(rest.get(..size).context("short chunk")?);
        body = rest.get(size + 2..).context("short chunk")?;
    }
}
