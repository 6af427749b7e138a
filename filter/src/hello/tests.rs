use tls_parser::{
    SNIType, TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions,
    parse_tls_plaintext,
};

use super::*;

/// A ClientHello message with these extensions.
pub(crate) fn message(extensions: Option<&[(u16, Vec<u8>)]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 0x01]);
    body.extend([1, 0]);
    if let Some(extensions) = extensions {
        let mut list = Vec::new();
        for (kind, data) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend(vector16(data));
        }
        body.extend(vector16(&list));
    }
    handshake(CLIENT_HELLO, &body)
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length, bytes].concat()
}

pub(crate) fn name_extension(name: &[u8]) -> (u16, Vec<u8>) {
    let entry = [&[HOST_NAME][..], &vector16(name)].concat();
    (SERVER_NAME, vector16(&entry))
}

/// The message in records of at most `size` octets.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |fragment| [&[HANDSHAKE, 3, 1][..], &vector16(fragment)].concat();
    message.chunks(size).flat_map(record).collect()
}

/// A ClientHello for `name`, in one record.
pub(crate) fn stream(name: &str) -> Vec<u8> {
    records(
        &message(Some(&[name_extension(name.as_bytes())])),
        MAX_RECORD,
    )
}

fn read(stream: &[u8]) -> Reading {
    Reader::default().feed(stream)
}

fn named(name: &[u8]) -> Reading {
    Reading::Hello {
        sni: Some(name.to_vec()),
        ech: false,
    }
}

#[test]
fn what_a_hello_says_is_read() {
    let name = || name_extension(b"api.github.com");
    let ech = (ENCRYPTED_CLIENT_HELLO, vec![0; 40]);
    let grease = (0x2a2a, vec![]);
    let unnamed = Reading::Hello {
        sni: None,
        ech: false,
    };
    let rows = [
        ("a name", message(Some(&[name()])), named(b"api.github.com")),
        (
            "among others",
            message(Some(&[grease.clone(), name(), grease])),
            named(b"api.github.com"),
        ),
        ("no extensions", message(None), unnamed.clone()),
        ("an empty list of extensions", message(Some(&[])), unnamed),
        (
            "ECH beside a name",
            message(Some(&[name(), ech.clone()])),
            Reading::Hello {
                sni: Some(b"api.github.com".to_vec()),
                ech: true,
            },
        ),
        (
            "ECH alone",
            message(Some(&[ech])),
            Reading::Hello {
                sni: None,
                ech: true,
            },
        ),
        (
            "any bytes as a name",
            message(Some(&[name_extension(b"\xff\0")])),
            named(b"\xff\0"),
        ),
        (
            "two names in two extensions",
            message(Some(&[name(), name()])),
            Reading::Malformed,
        ),
        (
            "two names in one",
            message(Some(&[(
                SERVER_NAME,
                vector16(&[0, 0, 1, b'a', 0, 0, 1, b'b']),
            )])),
            Reading::Malformed,
        ),
        (
            "another kind of name",
            message(Some(&[(SERVER_NAME, vector16(&[1, 0, 1, b'a']))])),
            Reading::Malformed,
        ),
        (
            "an empty name",
            message(Some(&[name_extension(b"")])),
            Reading::Malformed,
        ),
        (
            "an empty name extension",
            message(Some(&[(SERVER_NAME, vec![])])),
            Reading::Malformed,
        ),
        ("a ServerHello", handshake(2, &[0; 40]), Reading::Malformed),
        (
            "a body too short for its fields",
            handshake(CLIENT_HELLO, &[3, 3, 0]),
            Reading::Malformed,
        ),
        (
            "octets behind the extensions",
            {
                let mut body = message(Some(&[name()])).split_off(HANDSHAKE_HEADER);
                body.push(0);
                handshake(CLIENT_HELLO, &body)
            },
            Reading::Malformed,
        ),
        (
            "the longest",
            message(Some(&[name(), (21, vec![0; MAX_HELLO - 70])])),
            named(b"api.github.com"),
        ),
        (
            "longer",
            message(Some(&[(21, vec![0; MAX_HELLO])])),
            Reading::TooLong,
        ),
    ];
    for (what, message, expected) in rows {
        assert_eq!(read(&records(&message, MAX_RECORD)), expected, "{what}");
    }
}

#[test]
fn what_is_no_hello_is_said_at_once() {
    for (what, stream) in [
        ("a request", &b"GET / HTTP/1.1\r\n"[..]),
        ("a banner", b"SSH-2.0-x\r\n"),
        ("one byte of one", b"S"),
        ("SSL 2", b"\x80\x2e\x01\x03\x01"),
        ("another major version", b"\x16\x02"),
        ("an alert", b"\x15\x03\x01\x00\x02\x02\x28"),
        ("an empty record", b"\x16\x03\x01\x00\x00"),
        ("a record over the limit", b"\x16\x03\x01\x40\x01"),
        (
            "a hello whose length is over the limit",
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        ),
    ] {
        let reading = read(stream);
        assert!(
            matches!(reading, Reading::Malformed | Reading::TooLong),
            "{what}: {reading:?}"
        );
    }
}

#[test]
fn a_hello_reads_the_same_however_it_is_cut() {
    let message = message(Some(&[
        name_extension(b"api.github.com"),
        (21, vec![0; 200]),
    ]));
    for size in [1, 2, 3, 4, 5, 7, 100, MAX_RECORD] {
        let stream = records(&message, size);
        for step in [1, 2, 5, 6, 64, stream.len()] {
            let mut reader = Reader::default();
            let mut arrived = 0;
            let last = loop {
                arrived = (arrived + step).min(stream.len());
                let reading = reader.feed(&stream[reader.read()..arrived]);
                if reading != Reading::Incomplete || arrived == stream.len() {
                    break reading;
                }
            };
            assert_eq!(
                last,
                named(b"api.github.com"),
                "records of {size}, {step} at a time"
            );
            // The bytes behind the hello are not asked for.
            assert!(
                arrived == stream.len(),
                "records of {size}, {step} at a time"
            );
        }
    }
}

#[test]
fn every_prefix_is_incomplete() {
    let stream = stream("api.github.com");
    for end in 0..stream.len() {
        assert_eq!(read(&stream[..end]), Reading::Incomplete, "{end} octets");
    }
}

/// The names that another parser finds in a hello of one record, if it parses it at all.
fn by_another_parser(stream: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (_, record) = parse_tls_plaintext(stream).ok()?;
    let [TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello))] = record.msg.as_slice()
    else {
        return None;
    };
    let (_, extensions) = parse_tls_client_hello_extensions(hello.ext.unwrap_or_default()).ok()?;
    let mut names = Vec::new();
    for extension in extensions {
        if let TlsExtension::SNI(list) = extension {
            let hosts = list.iter().filter(|(kind, _)| *kind == SNIType::HostName);
            names.extend(hosts.map(|(_, name)| name.to_vec()));
        }
    }
    Some(names)
}

#[test]
fn another_parser_finds_no_other_name() {
    let base = records(
        &message(Some(&[
            (0x2a2a, vec![]),
            name_extension(b"api.github.com"),
            (43, vec![2, 3, 4]),
            (51, vec![0; 36]),
        ])),
        MAX_RECORD,
    );
    // xorshift64, so that a failure can be had again.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % u64::try_from(below).unwrap()).unwrap()
    };
    let (mut named, mut agreed) = (0, 0);
    for _ in 0..50_000 {
        let mut stream = base.clone();
        for _ in 0..=next(3) {
            let at = next(stream.len());
            stream[at] = u8::try_from(next(256)).unwrap();
        }
        let Reading::Hello { sni: Some(sni), .. } = read(&stream) else {
            continue;
        };
        named += 1;
        if let Some(names) = by_another_parser(&stream) {
            agreed += 1;
            assert_eq!(names, [sni], "{}", stream.escape_ascii());
        }
    }
    assert!(
        named > 10_000 && agreed > 10_000,
        "{named} named, {agreed} agreed"
    );
}
