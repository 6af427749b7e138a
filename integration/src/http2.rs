//! An HTTP/2 client that opens all its streams at once.

use std::future::Future;
use std::net::TcpStream;

use anyhow::{Context, Result};
use http::Request;

use crate::envoy::PATIENCE;

/// Sends a GET request to every authority over one connection, all streams open before the first
/// answer is read. Status and body of each, in order.
///
/// # Errors
/// If the connection or a stream is reset.
pub fn get_all(stream: TcpStream, requests: &[Request<()>]) -> Result<Vec<(u16, String)>> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange(stream, requests)).await? })
}

async fn exchange(stream: TcpStream, requests: &[Request<()>]) -> Result<Vec<(u16, String)>> {
    let stream = tokio::net::TcpStream::from_std(stream)?;
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
            let response = response.await?;
            let status = response.status().as_u16();
            let mut body = response.into_body();
            let mut text = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                text.extend_from_slice(&data);
            }
            answers.push((status, String::from_utf8_lossy(&text).into_owned()));
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
