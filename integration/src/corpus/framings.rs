//! What HTTP's framing can hide.

use super::tables::{ALLOWED, HTTP};
use super::wire::{data, http1, http2, http2_in_pieces, stream, trailers};
use super::{Attempt, fields, one, request1};

/// What HTTP's framing can hide.
pub(super) fn framings(claim: &[u8]) -> Vec<Attempt> {
    let metadata: (&[u8], &[u8]) = (b"x-envoy-peer-metadata", claim);
    let evil = request1(b"evilgithub.com", claim);
    let allowed: (&[u8], &[u8]) = (b"Host", ALLOWED.as_bytes());
    let post = |lines: &[(&[u8], &[u8])], body: &[u8]| {
        [
            http1(b"POST /", &[&[allowed, metadata], lines].concat()),
            body.to_vec(),
        ]
        .concat()
    };
    let chunked = [&b"0\r\n\r\n"[..], &evil].concat();
    let mut huge = fields("GET", b"evilgithub.com", claim);
    let long = vec![b'a'; 60_000];
    huge.push((b"x-long", &long));
    let get = fields("GET", b"evilgithub.com", claim);
    let ok = fields("GET", ALLOWED.as_bytes(), claim);
    let host: (&[u8], &[u8]) = (b"host", b"evilgithub.com");
    let authority: (&[u8], &[u8]) = (b":authority", b"evilgithub.com");
    vec![
        one(
            "pipelined behind an allowed one",
            HTTP,
            [request1(ALLOWED.as_bytes(), claim), evil.clone()].concat(),
        ),
        one(
            "length and chunks",
            HTTP,
            post(
                &[
                    (b"Content-Length", b"4"),
                    (b"Transfer-Encoding", b"chunked"),
                ],
                &chunked,
            ),
        ),
        one(
            "chunks and length",
            HTTP,
            post(
                &[
                    (b"Transfer-Encoding", b"chunked"),
                    (b"Content-Length", b"4"),
                ],
                &chunked,
            ),
        ),
        one(
            "two lengths",
            HTTP,
            post(
                &[(b"Content-Length", b"0"), (b"Content-Length", b"90")],
                &evil,
            ),
        ),
        one(
            "a length of plus",
            HTTP,
            post(&[(b"Content-Length", b"+0")], &evil),
        ),
        one(
            "an unknown coding",
            HTTP,
            post(&[(b"Transfer-Encoding", b"xchunked")], &chunked),
        ),
        one(
            "a coding after a tab",
            HTTP,
            post(&[(b"Transfer-Encoding", b"\tchunked")], &chunked),
        ),
        one(
            "chunks end short",
            HTTP,
            post(&[(b"Transfer-Encoding", b"chunked")], &chunked),
        ),
        one(
            "a folded Host",
            HTTP,
            b"GET / HTTP/1.1\r\nHost: api.github.com\r\n evilgithub.com\r\n\r\n".to_vec(),
        ),
        one(
            "a Host after a bare CR",
            HTTP,
            b"GET / HTTP/1.1\r\nHost: api.github.com\rHost: evilgithub.com\r\n\r\n".to_vec(),
        ),
        one(
            "lines that end with LF",
            HTTP,
            b"GET / HTTP/1.1\nHost: evilgithub.com\n\n".to_vec(),
        ),
        one(
            "a space before the colon",
            HTTP,
            b"GET / HTTP/1.1\r\nHost : evilgithub.com\r\n\r\n".to_vec(),
        ),
        one(
            "HTTP/1.0 without Host",
            HTTP,
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        ),
        one(
            "HTTP/1.0 with an absolute form",
            HTTP,
            b"GET http://evilgithub.com/ HTTP/1.0\r\n\r\n".to_vec(),
        ),
        one("HTTP/0.9", HTTP, b"GET /\r\n".to_vec()),
        one(
            "an https target",
            HTTP,
            http1(b"GET https://evilgithub.com/", &[allowed, metadata]),
        ),
        one(
            "a target with userinfo",
            HTTP,
            http1(
                b"GET http://api.github.com@evilgithub.com/",
                &[allowed, metadata],
            ),
        ),
        one(
            "the asterisk form",
            HTTP,
            http1(b"OPTIONS *", &[(b"Host", b"evilgithub.com"), metadata]),
        ),
        one(
            "the authority form for GET",
            HTTP,
            http1(b"GET evilgithub.com:80", &[allowed, metadata]),
        ),
        one(
            "a path that looks like a target",
            HTTP,
            http1(
                b"GET //evilgithub.com/",
                &[(b"Host", b"github.com"), metadata],
            ),
        ),
        one(
            "plaintext HTTP/2 upgrade",
            HTTP,
            http1(
                b"GET /",
                &[
                    (b"Host", b"evilgithub.com"),
                    (b"Connection", b"Upgrade, HTTP2-Settings"),
                    (b"Upgrade", b"h2c"),
                    metadata,
                ],
            ),
        ),
        one("header fields in pieces", HTTP, http2_in_pieces(&get)),
        one("a huge header", HTTP, http2(&huge, false)),
        one(
            "another stream behind an allowed one",
            HTTP,
            [http2(&ok, false), stream(3, &get)].concat(),
        ),
        one(
            "a stream number twice",
            HTTP,
            [http2(&ok, false), stream(1, &get)].concat(),
        ),
        one(
            "an even stream",
            HTTP,
            [http2(&ok, false), stream(2, &get)].concat(),
        ),
        one(
            "trailers with Host",
            HTTP,
            [http2(&ok, true), trailers(&[host])].concat(),
        ),
        one(
            "trailers with :authority",
            HTTP,
            [http2(&ok, true), trailers(&[authority])].concat(),
        ),
        one(
            "a pseudo header behind the others",
            HTTP,
            http2(&[&ok[..], &[authority]].concat(), false),
        ),
        one(
            "a half-closed stream",
            HTTP,
            [http2(&get, false), data(b"more")].concat(),
        ),
        one(
            "data before a verdict",
            HTTP,
            [http2(&get, true), data(&[b'x'; 9000])].concat(),
        ),
        one(
            "another scheme",
            HTTP,
            http2(
                &[
                    (b":method", b"GET"),
                    (b":authority", b"evilgithub.com"),
                    (b":scheme", b"https"),
                    (b":path", b"/"),
                    metadata,
                ],
                false,
            ),
        ),
        one(
            "an absolute :path",
            HTTP,
            http2(
                &[
                    (b":method", b"GET"),
                    (b":authority", ALLOWED.as_bytes()),
                    (b":scheme", b"http"),
                    (b":path", b"http://evilgithub.com/"),
                    metadata,
                ],
                false,
            ),
        ),
    ]
}
