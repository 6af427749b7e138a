//! A server that costs little: every request is answered with the same 200 of 256 bytes, and what is
//! no HTTP with a few bytes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Result;
use bytes::Bytes;

/// Bytes of every body.
const BODY: [u8; 256] = [b'x'; 256];
/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Serves HTTP, 1.1 or 2, at port 80 of this address, and tunnels at port 443, until the process
/// ends.
///
/// # Errors
/// If a port is taken.
pub(super) fn start(address: Ipv4Addr) -> Result<()> {
    serve((address, 80), http)?;
    serve((address, 443), tunnel)
}

fn serve(address: (Ipv4Addr, u16), speak: fn(TcpStream) -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.set_nodelay(true);
            // The gateway's hanging up is no error here.
            std::thread::spawn(move || speak(stream));
        }
    });
    Ok(())
}

fn http(stream: TcpStream) -> Result<()> {
    let mut first = [0; PREFACE.len()];
    // Envoy writes the preface in one piece.
    let length = stream.peek(&mut first)?;
    if first.get(..length) == Some(PREFACE) {
        http2(stream)
    } else {
        http1(stream)
    }
}

fn http1(mut stream: TcpStream) -> Result<()> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY.len());
    answer.push_str(&String::from_utf8_lossy(&BODY));
    let mut seen = Vec::new();
    let mut buffer = [0; 16_384];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        seen.extend_from_slice(buffer.get(..length).unwrap_or_default());
        // Requests have no body and wait for their answer.
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            stream.write_all(answer.as_bytes())?;
        }
    }
}

fn http2(stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(request) = connection.accept().await {
            let (_, mut respond) = request?;
            let mut body = respond.send_response(http::Response::new(()), false)?;
            body.send_data(Bytes::from_static(&BODY), true)?;
        }
        Ok(())
    })
}

/// Answers the first bytes and closes with the client.
fn tunnel(mut stream: TcpStream) -> Result<()> {
    let mut buffer = [0; 16_384];
    if stream.read(&mut buffer)? > 0 {
        stream.write_all(&BODY)?;
    }
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}
