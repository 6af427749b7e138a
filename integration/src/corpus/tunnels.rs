//! Tunnels, and TLS inside them.

use super::tables::{ADDRESSES, ALLOWED, CONNECT, HTTP};
use super::wire::{Lines, data, http1, http2, spellings, stream};
use super::{Attempt, fields, one, request1, spelled, two};
use crate::cases::client_hello;

/// CONNECT and its relatives.
pub(super) fn tunnels(claim: &[u8]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let payload = data(b"GET / HTTP/1.1\r\nHost: evilgithub.com\r\n\r\n");
    for text in spelled(2) {
        let name = text.escape_debug();
        for port in ["", ":22", ":80"] {
            let authority = format!("{text}{port}");
            let connect = http2(&fields("CONNECT", authority.as_bytes(), claim), true);
            let early = [&connect[..], &payload].concat();
            attempts.push(one(format!("CONNECT {name}{port}"), CONNECT, early.clone()));
            if port == ":80" {
                let what = format!("CONNECT {name}{port} on the HTTP port");
                attempts.push(one(what, HTTP, early));
                let line = format!("CONNECT {authority}");
                let lines: Lines<'_> = vec![
                    (b"Host", ALLOWED.as_bytes()),
                    (b"x-envoy-peer-metadata", claim),
                ];
                let what = format!("HTTP/1.1 CONNECT {name}{port}");
                attempts.push(one(what, HTTP, http1(line.as_bytes(), &lines)));
            }
        }
    }
    let partner = b"203.0.113.7:22";
    for (what, method, extra) in [
        (
            "extended CONNECT",
            "CONNECT",
            vec![
                (&b":protocol"[..], &b"websocket"[..]),
                (b":scheme", b"http"),
                (b":path", b"/"),
            ],
        ),
        (
            "CONNECT-UDP",
            "CONNECT",
            vec![
                (&b":protocol"[..], &b"connect-udp"[..]),
                (b":scheme", b"https"),
                (b":path", b"/.well-known/masque/udp/198.51.100.66/443/"),
            ],
        ),
        (
            "CONNECT with a path",
            "CONNECT",
            vec![(&b":scheme"[..], &b"http"[..]), (b":path", b"/")],
        ),
        ("connect in lower case", "connect", vec![]),
        ("GET on the tunnel's port", "GET", vec![]),
    ] {
        for authority in [
            &b"198.51.100.66:22"[..],
            b"evilgithub.com:22",
            b"203.0.113.8:22",
            b"203.0.113.7:25",
        ] {
            let mut lines = fields(method, authority, claim);
            for (index, field) in extra.iter().enumerate() {
                lines.insert(2 + index, *field);
            }
            for port in [HTTP, CONNECT] {
                let what = format!("{what} {} at {port}", authority.escape_ascii());
                attempts.push(one(
                    what,
                    port,
                    [http2(&lines, true), payload.clone()].concat(),
                ));
            }
        }
    }
    // An allowed tunnel, and then something else on its connection.
    let allowed = http2(&fields("CONNECT", partner, claim), true);
    for authority in [
        &b"198.51.100.66:22"[..],
        b"203.0.113.8:22",
        b"169.254.169.254:80",
    ] {
        let second = stream(3, &fields("CONNECT", authority, claim));
        let what = format!("a second tunnel to {}", authority.escape_ascii());
        attempts.push(two(what, CONNECT, allowed.clone(), second));
    }
    attempts
}

/// CONNECT as HTTP/1.1 has it (RFC 9110 §9.3.6), where bytes of one request can pass for another.
pub(super) fn over_http1(claim: &[u8]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let denied = [
        &b"198.51.100.66:22"[..],
        b"evilgithub.com:22",
        b"203.0.113.8:22",
        b"169.254.169.254:80",
    ];
    let partner = &b"203.0.113.7:22"[..];
    let connect = |target: &[u8], lines: &[(&[u8], &[u8])]| {
        let mut all: Lines<'_> = vec![(b"Host", target), (b"x-envoy-peer-metadata", claim)];
        all.extend_from_slice(lines);
        http1(&[b"CONNECT ", target].concat(), &all)
    };
    let get = b"GET / HTTP/1.1\r\nHost: evilgithub.com\r\n\r\n";
    for text in spelled(4) {
        for port in ["", ":22", ":80", ":443"] {
            let target = format!("{text}{port}");
            let what = format!("HTTP/1.1 CONNECT {} to the tunnels", target.escape_debug());
            let first = [connect(target.as_bytes(), &[]), get.to_vec()].concat();
            attempts.push(one(what, CONNECT, first));
        }
    }
    for target in denied {
        let shown = target.escape_ascii();
        let second = connect(target, &[]);
        let length = second.len().to_string();
        // What is denied does not come through on the back of what is allowed, and the reverse.
        for (what, first) in [
            ("behind a tunnel", connect(partner, &[])),
            (
                "as the body of a tunnel",
                connect(partner, &[(b"Content-Length", length.as_bytes())]),
            ),
            (
                "behind a chunked tunnel",
                [
                    connect(partner, &[(b"Transfer-Encoding", b"chunked")]),
                    b"0\r\n\r\n".to_vec(),
                ]
                .concat(),
            ),
            (
                "behind two framings",
                [
                    connect(
                        partner,
                        &[
                            (b"Transfer-Encoding", b"chunked"),
                            (b"Content-Length", b"5"),
                        ],
                    ),
                    b"0\r\n\r\n".to_vec(),
                ]
                .concat(),
            ),
            (
                "behind a request that is no tunnel",
                request1(ALLOWED.as_bytes(), claim),
            ),
        ] {
            let both = [&first[..], &second].concat();
            attempts.push(one(
                format!("HTTP/1.1 CONNECT {shown} {what}"),
                CONNECT,
                both,
            ));
        }
        let attempt = |what: &str, line: &[u8], lines: &[(&[u8], &[u8])]| {
            let mut all: Lines<'_> = vec![(b"x-envoy-peer-metadata", claim)];
            all.extend_from_slice(lines);
            let bytes = [http1(line, &all), get.to_vec()].concat();
            one(format!("HTTP/1.1 {what} {shown}"), CONNECT, bytes)
        };
        let line = |method: &[u8], rest: &[u8]| [method, b" ", rest].concat();
        attempts.extend([
            // Target and Host name different places.
            attempt(
                "Host allowed",
                &line(b"CONNECT", target),
                &[(b"Host", partner)],
            ),
            attempt(
                "target allowed",
                &line(b"CONNECT", partner),
                &[(b"Host", target)],
            ),
            attempt(
                "two Hosts",
                &line(b"CONNECT", target),
                &[(b"Host", partner), (b"Host", target)],
            ),
            attempt("no Host", &line(b"CONNECT", target), &[]),
            attempt(
                "an upgrade to HTTP/2",
                &line(b"CONNECT", target),
                &[
                    (b"Host", partner),
                    (b"Connection", b"Upgrade, HTTP2-Settings"),
                    (b"Upgrade", b"h2c"),
                    (b"HTTP2-Settings", b""),
                ],
            ),
            attempt(
                "lower case",
                &line(b"connect", target),
                &[(b"Host", target)],
            ),
            attempt(
                "a whole URI",
                &line(b"CONNECT", &[b"http://", target, b"/"].concat()),
                &[(b"Host", partner)],
            ),
            attempt(
                "a path",
                &line(b"CONNECT", &[target, b"/x"].concat()),
                &[(b"Host", partner)],
            ),
            attempt(
                "a user",
                &line(b"CONNECT", &[b"203.0.113.7:22@", target].concat()),
                &[(b"Host", partner)],
            ),
            attempt(
                "a tab in the line",
                &[b"CONNECT\t203.0.113.7:22 ", target].concat(),
                &[(b"Host", partner)],
            ),
            attempt("GET", &line(b"GET", b"/"), &[(b"Host", target)]),
            attempt(
                "POST as a tunnel",
                &line(b"POST", b"/"),
                &[
                    (b"Host", target),
                    (b"Upgrade", b"CONNECT"),
                    (b"Connection", b"Upgrade"),
                ],
            ),
        ]);
        // Line ends and folds that a laxer reader takes for others.
        for (what, between) in [
            ("a bare LF", &b"\n"[..]),
            ("a bare CR", b"\r"),
            ("a fold", b"\r\n "),
            ("a NUL", b"\0"),
        ] {
            let bytes = [
                b"CONNECT 203.0.113.7:22 HTTP/1.1\r\nHost: 203.0.113.7:22",
                between,
                b"Host: ",
                target,
                b"\r\nx-envoy-peer-metadata: ",
                claim,
                b"\r\n\r\nCONNECT ",
                target,
                b" HTTP/1.1\r\n\r\n",
            ]
            .concat();
            attempts.push(one(format!("HTTP/1.1 {what} {shown}"), CONNECT, bytes));
        }
        for version in ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0"] {
            let bytes = [
                &b"CONNECT "[..],
                target,
                b" ",
                version.as_bytes(),
                b"\r\nx-envoy-peer-metadata: ",
                claim,
                b"\r\n\r\n",
            ]
            .concat();
            attempts.push(one(format!("{version} CONNECT {shown}"), CONNECT, bytes));
        }
    }
    attempts
}

/// Server names inside a tunnel that is allowed to carry TLS anywhere the name may go.
pub(super) fn hellos(claim: &[u8]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let names: Vec<Option<Vec<u8>>> = spelled(3)
        .map(|text| Some(text.into_bytes()))
        .chain(
            ADDRESSES
                .iter()
                .flat_map(|address| spellings(*address))
                .map(|text| Some(text.into_bytes())),
        )
        .chain([
            None,
            Some(vec![b'a'; 300]),
            Some(b"evilgithub.com\0.github.com".to_vec()),
            Some(b"\xff.github.com".to_vec()),
        ])
        .collect();
    for name in names {
        let shown = name
            .as_deref()
            .map_or("none".to_owned(), |name| name.escape_ascii().to_string());
        for ech in [false, true] {
            let hello = client_hello(name.as_deref(), ech);
            let connect = http2(&fields("CONNECT", b"198.51.100.66:443", claim), true);
            let what = format!("server name {shown}, ECH {ech}");
            attempts.push(one(what, CONNECT, [connect, data(&hello)].concat()));
        }
    }
    // The right name, and bytes that a laxer reader takes for another's beginning.
    let good = client_hello(Some(b"evilgithub.com"), false);
    let connect = http2(&fields("CONNECT", b"198.51.100.66:443", claim), true);
    for (what, bytes) in [
        (
            "half a hello",
            good.get(..good.len() / 2).unwrap_or_default().to_vec(),
        ),
        ("a hello behind a byte", [&[0][..], &good].concat()),
        (
            "SSLv2's beginning",
            [&[0x80, 0x2e, 1, 3, 1][..], &good].concat(),
        ),
        (
            "HTTP where TLS belongs",
            b"GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n".to_vec(),
        ),
        (
            "an alert first",
            [&[21, 3, 1, 0, 2, 1, 0][..], &good].concat(),
        ),
        (
            "two hellos",
            [
                client_hello(Some(ALLOWED.as_bytes()), false)
                    .get(..40)
                    .unwrap_or_default(),
                &good,
            ]
            .concat(),
        ),
        (
            "PROXY's line first",
            [&b"PROXY TCP4 127.0.0.1 140.82.112.5 1 443\r\n"[..], &good].concat(),
        ),
    ] {
        let first = [&connect[..], &data(&bytes)].concat();
        attempts.push(one(what, CONNECT, first));
    }
    attempts
}
