//! An HTTP/2 client that opens all its streams at once.

use std::future::Future;
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::envoy::PATIENCE;

/// What one stream was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers and trailers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// Sends every request over one connection, all streams open before the first answer is read. What
/// each was answered, in order.
///
/// # Errors
/// If the connection or a stream is reset.
pub fn send_all(stream: TcpStream, requests: &[Request<()>]) -> Result<Vec<Answer>> {
    stream.set_nonblocking(true)?;
    in_time(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        exchange(stream, requests).await
    })
}

/// The same inside TLS for `name`.
///
/// # Errors
/// As [`send_all`]; if the handshake fails, or the server does not speak HTTP/2.
pub fn send_all_tls(
    stream: TcpStream,
    config: &ClientConfig,
    name: &str,
    requests: &[Request<()>],
) -> Result<Vec<Answer>> {
    stream.set_nonblocking(true)?;
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(name.to_owned())?;
    in_time(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let connector = TlsConnector::from(Arc::new(config));
        let session = connector.connect(name, stream).await?;
        ensure!(
            session.get_ref().1.alpn_protocol() == Some(b"h2"),
            "no HTTP/2"
        );
        exchange(session, requests).await
    })
}

fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await? })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: &[Request<()>],
) -> Result<Vec<Answer>> {
    let (mut client, connection) = h2::client::handshake(stream).await?;
    let mut connection = std::pin::pin!(connection);
    let answers = std::pin::pin!(async {
        let mut pending = Vec::new();
        for request in requests {
            client = client.ready().await?;
            let (response, _) = client.send_request(request.clone(), true)?;
            pending.push(response);
        }
        let mut answers = Vec::new();
        for response in pending {
            let (head, mut body) = response.await?.into_parts();
            let mut text = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                text.extend_from_slice(&data);
            }
            let mut headers = head.headers;
            headers.extend(body.trailers().await?.unwrap_or_default());
            answers.push(Answer {
                status: head.status.as_u16(),
                headers,
                body: String::from_utf8_lossy(&text).into_owned(),
            });
        }
        anyhow::Ok(answers)
    });
    let mut answers = answers;
    // The connection makes the streams' progress, on this one thread.
    std::future::poll_fn(|context| {
        let ended = connection.as_mut().poll(context);
        match answers.as_mut().poll(context) {
            std::task::Poll::Ready(answers) => std::task::Poll::Ready(answers),
            std::task::Poll::Pending => match ended {
                std::task::Poll::Ready(end) => std::task::Poll::Ready(
                    end.context("connection")
                        .and_then(|()| anyhow::bail!("connection closed")),
                ),
                std::task::Poll::Pending => std::task::Poll::Pending,
            },
        }
    })
    .await
}
