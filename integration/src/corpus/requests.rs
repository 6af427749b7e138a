//! Requests whose destination is written oddly.

use super::tables::{ADDRESSES, ALLOWED, CONNECT, HEADERS, HTTP, TARGETS};
use super::wire::{Lines, data, http1, http2, spellings};
use super::{Attempt, fields, one, request1, spelled};

/// Every spelling in every place where HTTP has an authority.
pub(super) fn authorities(claim: &[u8]) -> Vec<Attempt> {
    let allowed = ALLOWED.as_bytes();
    let mut attempts = Vec::new();
    for shift in 0..2 {
        for text in spelled(shift) {
            let odd = text.as_bytes();
            let say = |form: &str| format!("{form}: {}", text.escape_debug());
            let metadata: (&[u8], &[u8]) = (b"x-envoy-peer-metadata", claim);
            let target = [b"GET http://", odd, b"/"].concat();
            let twice =
                |first, second| http1(b"GET /", &[(b"Host", first), (b"Host", second), metadata]);
            let mut host_too = fields("GET", allowed, claim);
            host_too.push((b"host", odd));
            let only_host: Lines<'_> = vec![
                (b":method", b"GET"),
                (b":scheme", b"http"),
                (b":path", b"/"),
                (b"host", odd),
                metadata,
            ];
            let mut doubled = fields("GET", allowed, claim);
            doubled.insert(2, (b":authority", odd));
            attempts.extend([
                one(say("Host"), HTTP, request1(odd, claim)),
                one(
                    say("absolute form"),
                    HTTP,
                    http1(&target, &[(b"Host", allowed), metadata]),
                ),
                one(say("second Host"), HTTP, twice(allowed, odd)),
                one(say("first Host"), HTTP, twice(odd, allowed)),
                one(
                    say(":authority"),
                    HTTP,
                    http2(&fields("GET", odd, claim), false),
                ),
                one(say("host beside :authority"), HTTP, http2(&host_too, false)),
                one(
                    say("host in place of :authority"),
                    HTTP,
                    http2(&only_host, false),
                ),
                one(say("second :authority"), HTTP, http2(&doubled, false)),
            ]);
        }
    }
    attempts
}

/// Every spelling of every address, as Host and as the target of a tunnel.
pub(super) fn addresses(claim: &[u8]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for text in ADDRESSES.iter().flat_map(|address| spellings(*address)) {
        for port in ["", ":80", ":15000"] {
            let authority = format!("{text}{port}");
            let host = authority.as_bytes();
            attempts.push(one(
                format!("Host: {authority}"),
                HTTP,
                request1(host, claim),
            ));
        }
        for port in [22, 80, 443] {
            let authority = format!("{text}:{port}");
            let connect = http2(&fields("CONNECT", authority.as_bytes(), claim), true);
            let early = [connect, data(b"hello\r\n")].concat();
            attempts.push(one(format!("CONNECT {authority}"), CONNECT, early));
        }
    }
    attempts
}

/// Every header line beside a name that is not allowed, and beside one that is.
pub(super) fn headers(claim: &[u8]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for (index, (name, value)) in HEADERS.iter().enumerate() {
        for shift in 0..2 {
            let target = TARGETS
                .get((index + shift) % TARGETS.len())
                .copied()
                .unwrap_or(ALLOWED);
            let value = value.replace("{t}", target);
            let (name, value) = (name.as_bytes(), value.as_bytes());
            for host in [target, ALLOWED] {
                let say = |form: &str| {
                    format!(
                        "{form} {host} with {}: {}",
                        name.escape_ascii(),
                        value.escape_ascii()
                    )
                };
                let host = host.as_bytes();
                let lines: Lines<'_> = vec![
                    (b"Host", host),
                    (name, value),
                    (b"x-envoy-peer-metadata", claim),
                ];
                attempts.push(one(say("HTTP/1.1"), HTTP, http1(b"GET /", &lines)));
                let lower = name.to_ascii_lowercase();
                let mut lines = fields("GET", host, claim);
                lines.push((&lower, value));
                attempts.push(one(say("HTTP/2"), HTTP, http2(&lines, false)));
            }
        }
    }
    attempts
}
