//! Ways past the gateway, as whoever has a pod would try them: raw bytes inside the mesh's TLS,
//! with the identity and the labels of app1. Tables of spellings, header lines and framings, put
//! together by rule; what counts is what arrives outside.

mod framings;
mod requests;
mod tables;
mod tunnels;
pub mod wire;

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cases::client_hello;
use crate::certificates::Leaf;
use crate::mesh::{APP1, Mesh, address_of};
use crate::outside::Received;

use tables::{ALLOWED, AUTHORITIES, CONNECT, HTTP, TARGETS};
use wire::{Lines, data, http1, http2};

/// How long an attempt waits for something to happen. What is accepted arrives long before.
const WAIT: Duration = Duration::from_millis(400);
/// Attempts at a time.
const AT_A_TIME: usize = 12;

/// One attempt: two flights of bytes at a port of the gateway.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// In words.
    pub what: String,
    /// The gateway's port.
    pub port: u16,
    /// Sent at once.
    pub first: Vec<u8>,
    /// Sent after the first answer, or after a while.
    pub then: Vec<u8>,
}

/// An attempt's answer; empty where none came.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The attempt.
    pub what: String,
    /// What came back.
    pub bytes: Vec<u8>,
}

/// Everything.
#[must_use]
pub fn all() -> Vec<Attempt> {
    let claim = APP1.peer.header();
    let claim = claim.as_bytes();
    [
        requests::authorities(claim),
        requests::addresses(claim),
        requests::headers(claim),
        tunnels::tunnels(claim),
        tunnels::over_http1(claim),
        tunnels::hellos(claim),
        framings::framings(claim),
    ]
    .concat()
}

/// What does arrive, in every form: without these the rest would show nothing.
#[must_use]
pub fn controls() -> Vec<Attempt> {
    let claim = APP1.peer.header();
    let claim = claim.as_bytes();
    let ssh = fields("CONNECT", b"203.0.113.7:22", claim);
    let tls = fields("CONNECT", b"140.82.112.5:443", claim);
    let hello = client_hello(Some(ALLOWED.as_bytes()), false);
    let host = ALLOWED.as_bytes();
    vec![
        one("control: HTTP/1.1", HTTP, request1(host, claim)),
        one(
            "control: HTTP/2",
            HTTP,
            http2(&fields("GET", host, claim), false),
        ),
        two(
            "control: a tunnel",
            CONNECT,
            http2(&ssh, true),
            data(b"hello\r\n"),
        ),
        two(
            "control: a tunnel over HTTP/1.1",
            CONNECT,
            http1(
                b"CONNECT 203.0.113.7:22",
                &[
                    (b"Host", b"203.0.113.7:22"),
                    (b"x-envoy-peer-metadata", claim),
                ],
            ),
            b"hello\r\n".to_vec(),
        ),
        two(
            "control: TLS in a tunnel",
            CONNECT,
            http2(&tls, true),
            data(&hello),
        ),
    ]
}

fn one(what: impl Into<String>, port: u16, first: Vec<u8>) -> Attempt {
    two(what, port, first, Vec::new())
}

fn two(what: impl Into<String>, port: u16, first: Vec<u8>, then: Vec<u8>) -> Attempt {
    Attempt {
        what: what.into(),
        port,
        first,
        then,
    }
}

/// The spellings of all targets; the target changes from row to row, so that each spelling is
/// tried with several over the forms.
fn spelled(shift: usize) -> impl Iterator<Item = String> {
    let row = move |(index, template): (usize, &&str)| {
        let target = TARGETS
            .get((index + shift) % TARGETS.len())
            .copied()
            .unwrap_or(ALLOWED);
        template
            .replace("{t}", target)
            .replace("{T}", &target.to_ascii_uppercase())
            .replace("{a}", ALLOWED)
    };
    AUTHORITIES.iter().enumerate().map(row)
}

fn request1(host: &[u8], claim: &[u8]) -> Vec<u8> {
    http1(
        b"GET /",
        &[(b"Host", host), (b"x-envoy-peer-metadata", claim)],
    )
}

fn fields<'a>(method: &'a str, authority: &'a [u8], claim: &'a [u8]) -> Lines<'a> {
    let mut fields: Lines<'a> = vec![(b":method", method.as_bytes()), (b":authority", authority)];
    if method != "CONNECT" {
        fields.extend([(&b":scheme"[..], &b"http"[..]), (b":path", b"/")]);
    }
    fields.push((b"x-envoy-peer-metadata", claim));
    fields
}

/// Makes every attempt, a few at a time.
///
/// # Errors
/// If the gateway refuses app1's certificate.
pub fn run(mesh: &Mesh, attempts: &[Attempt]) -> Result<Vec<Answered>> {
    let leaf = mesh.mesh_authority.workload(APP1.identity)?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Answered>> {
        let mut answered = Vec::new();
        while let Some(attempt) = attempts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = exchange(mesh, &leaf, attempt).with_context(|| attempt.what.clone())?;
            answered.push(Answered {
                what: attempt.what.clone(),
                bytes,
            });
        }
        Ok(answered)
    };
    let parts: Vec<Result<Vec<Answered>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| anyhow::bail!("a thread failed"))
        };
        threads.into_iter().map(join).collect()
    });
    Ok(parts
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// Both flights and everything that comes back.
fn exchange(mesh: &Mesh, leaf: &Leaf, attempt: &Attempt) -> Result<Vec<u8>> {
    let mut session = mesh
        .gateway_tls(attempt.port, Some(leaf))?
        .context("no handshake")?;
    session.sock.set_read_timeout(Some(WAIT))?;
    let mut answer = Vec::new();
    let flights = [
        (&attempt.first, attempt.then.is_empty()),
        (&attempt.then, true),
    ];
    for (flight, is_last) in flights {
        // The gateway may hang up at any time; that is an answer too.
        let said = session.write_all(flight).and_then(|()| session.flush());
        let mut buffer = [0; 4096];

        while said.is_ok() && !wire::is_whole(&answer) {
            match session.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    // A tunnel that stands: the second flight may go.
                    if !is_last && wire::is_accepted(&answer) {
                        break;
                    }
                }
                Ok(_) | Err(_) => break,
            }
        }
        if is_last || said.is_err() {
            break;
        }
    }
    Ok(answer)
}

/// What arrived outside and should not have, in words.
///
/// # Errors
/// If an address is unknown.
pub fn through(seen: &[Received]) -> Result<Vec<String>> {
    let address = |name| address_of(name).map(IpAddr::V4);
    let github = [address("api.github.com")?, address("codeload.github.com")?];
    let partner = address("partner.example")?;
    let bad = |seen: &&Received| match seen.address {
        Some((address, 80)) if github.contains(&address) => !only_allowed_hosts(&seen.bytes),
        Some((address, 443)) if github.contains(&address) => false,
        Some((address, 22)) => address != partner,
        Some(_) | None => true,
    };
    let words = |seen: &Received| format!("{:?} saw {}", seen.address, seen.bytes.escape_ascii());
    Ok(seen.iter().filter(bad).map(words).collect())
}

/// Whether every request among these bytes is for a name that app1 may reach.
fn only_allowed_hosts(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let hosts = text
        .split("\r\n")
        .filter_map(|line| line.strip_prefix("host:"));
    let mut hosts = hosts.map(str::trim).peekable();
    // HTTP/2 is noted as the request's URI.
    if hosts.peek().is_none() {
        return text.is_empty()
            || text
                .split("http://")
                .skip(1)
                .all(|uri| allowed(uri.split('/').next().unwrap_or_default()));
    }
    hosts.all(allowed)
}

/// `*.github.com`, as it may stand in Host.
#[must_use]
pub fn allowed(host: &str) -> bool {
    let name = host.strip_suffix(":80").unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.strip_suffix(".github.com")
        .is_some_and(|front| !front.is_empty() && front.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_arrive_is_told_from_what_may_not() {
        for (host, expected) in [
            ("api.github.com", true),
            ("api.github.com:80", true),
            ("api.github.com.", true),
            ("github.com", false),
            ("evilgithub.com", false),
            ("api.github.com:22", false),
            ("evil.example,api.github.com", false),
            ("evil.example@api.github.com", false),
        ] {
            assert_eq!(allowed(host), expected, "{host}");
        }
        let seen = |name: &str, port, bytes: &[u8]| Received {
            address: Some((address_of(name).unwrap().into(), port)),
            bytes: bytes.to_vec(),
            ..Received::default()
        };
        for (seen, passes) in [
            (
                seen(
                    "api.github.com",
                    80,
                    b"GET / HTTP/1.1\r\nhost: api.github.com\r\n\r\n",
                ),
                true,
            ),
            (
                seen(
                    "api.github.com",
                    80,
                    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                ),
                false,
            ),
            (
                seen("api.github.com", 80, b"http://codeload.github.com/x"),
                true,
            ),
            (seen("api.github.com", 80, b"http://evil.example/x"), false),
            (seen("api.github.com", 443, b""), true),
            (seen("api.github.com", 22, b""), false),
            (seen("github.com", 80, b""), false),
            (seen("partner.example", 22, b"x"), true),
            (seen("partner.example", 25, b""), false),
            // Not even a connection: the address is never tried.
            (seen("rebind.github.com", 80, b""), false),
            (seen("metadata.example", 80, b""), false),
        ] {
            assert_eq!(
                through(std::slice::from_ref(&seen)).unwrap().is_empty(),
                passes,
                "{seen:?}"
            );
        }
    }
}
