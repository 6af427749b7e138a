//! Bytes as no library would write them.

use std::fmt::Write;

/// HTTP/2's preface and an empty SETTINGS frame (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// An indexed field, `:status: 200` (RFC 7541 appendix A).
const STATUS_200: u8 = 0x88;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Header lines.
pub type Lines<'a> = Vec<(&'a [u8], &'a [u8])>;

/// An HTTP/1.1 request.
#[must_use]
pub fn http1(line: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = [line, b" HTTP/1.1\r\n"].concat();
    for (name, value) in headers {
        bytes.extend([*name, b": ", *value, b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes
}

/// An HTTP/2 connection whose first stream has these header fields, in this order. `open` leaves
/// the stream open.
#[must_use]
pub fn http2(fields: &[(&[u8], &[u8])], open: bool) -> Vec<u8> {
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
    let end = if open { 0 } else { END_STREAM };
    [PREFACE, &frame(HEADERS, end | END_HEADERS, 1, &block)].concat()
}

/// The same with the header block in frames of one byte each (RFC 9113 §6.10).
#[must_use]
pub fn http2_in_pieces(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
    let (first, rest) = block.split_at_checked(1).unwrap_or((&block, &[]));
    let mut bytes = [PREFACE, &frame(HEADERS, END_STREAM, 1, first)].concat();
    for (index, byte) in rest.iter().enumerate() {
        let last = if index + 1 == rest.len() {
            END_HEADERS
        } else {
            0
        };
        bytes.extend(frame(CONTINUATION, last, 1, &[*byte]));
    }
    bytes
}

/// A DATA frame on the first stream.
#[must_use]
pub fn data(bytes: &[u8]) -> Vec<u8> {
    frame(DATA, 0, 1, bytes)
}

/// Trailers on the first stream.
#[must_use]
pub fn trailers(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
}

/// A request on another stream of a connection that has begun.
#[must_use]
pub fn stream(id: u32, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect();
    frame(HEADERS, END_STREAM | END_HEADERS, id, &block)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal field that is not indexed, with a literal name, no Huffman code (RFC 7541 §6.2.2).
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &sized(name), &sized(value)].concat()
}

/// A string behind its length, an integer with a prefix of seven bits (RFC 7541 §5.1, §5.2).
fn sized(bytes: &[u8]) -> Vec<u8> {
    const PREFIX: usize = 127;
    let mut length = Vec::new();
    if bytes.len() < PREFIX {
        length.extend(u8::try_from(bytes.len()));
    } else {
        length.push(127);
        let mut rest = bytes.len() - PREFIX;
        while rest >= 128 {
            length.extend(u8::try_from(rest % 128 + 128));
            rest /= 128;
        }
        length.extend(u8::try_from(rest));
    }
    [&length, bytes].concat()
}

/// Whether an answer says all there is to learn: a response's head, or the end of the first
/// stream. A stream that was accepted is not over with that.
#[must_use]
pub fn is_whole(answer: &[u8]) -> bool {
    if answer.starts_with(b"HTTP/1") {
        return answer.windows(4).any(|four| four == b"\r\n\r\n");
    }
    let mut rest = answer;
    while let Some((head, after)) = rest.split_at_checked(9) {
        let [a, b, c, kind, flags, ..] = *head else {
            break;
        };
        let accepted = kind == HEADERS && after.first() == Some(&STATUS_200);
        let ends = matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0;
        if matches!(kind, RST_STREAM | GOAWAY) || ends || (kind == HEADERS && !accepted) {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        rest = after.get(length..).unwrap_or_default();
    }
    false
}

/// Whether the first stream was accepted.
#[must_use]
pub fn is_accepted(answer: &[u8]) -> bool {
    let stands = [0, 0, 0, 1, STATUS_200];
    // Flags and the first bytes of the stream's number stand before these.
    answer.windows(stands.len()).any(|five| five == stands)
}

/// An IPv4 address in every spelling that some resolver or parser takes for it.
#[must_use]
pub fn spellings(address: [u8; 4]) -> Vec<String> {
    let [a, b, c, d] = address;
    let whole = u32::from_be_bytes(address);
    let (low, tail) = (
        u32::from_be_bytes([0, b, c, d]),
        u32::from_be_bytes([0, 0, c, d]),
    );
    let (high, half) = (whole >> 16, whole & 0xffff);
    let mut hex = String::new();
    for byte in address {
        // Writing to a String does not fail.
        let _ = write!(hex, "0x{byte:x}.");
    }
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{whole}"),
        format!("0x{whole:x}"),
        format!("0{whole:o}"),
        format!("{a}.{low}"),
        format!("{a}.{b}.{tail}"),
        hex.trim_end_matches('.').to_owned(),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("00{a}.{b}.{c}.{d}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[::ffff:{high:x}:{half:x}]"),
        format!("[::{a}.{b}.{c}.{d}]"),
        format!("[64:ff9b::{a}.{b}.{c}.{d}]"),
        format!("[2002:{high:x}:{half:x}::1]"),
        format!("[2001:0:{high:x}:{half:x}::]"),
        format!("[::ffff:{a}.{b}.{c}.{d}%25lo]"),
        format!("::ffff:{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}.nip.io"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_fields_are_as_the_rfcs_have_them() {
        // RFC 7541 C.2.2: a literal without indexing, here with a literal name.
        assert_eq!(field(b"a", b"bc"), b"\x00\x01a\x02bc");
        // RFC 7541 C.1.2: 1337 with a prefix of five bits; here 1337 with seven.
        assert_eq!(sized(&[0; 1337])[..3], [127, 0xba, 9]);
        assert_eq!(
            frame(HEADERS, 5, 1, b"x"),
            b"\x00\x00\x01\x01\x05\x00\x00\x00\x01x"
        );
        assert!(!is_whole(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"));
        assert!(is_whole(
            b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x05\x00\x00\x00\x01x"
        ));
    }

    #[test]
    fn spellings_are_of_the_address() {
        let of = spellings([169, 254, 169, 254]);
        for wanted in [
            "2852039166",
            "0xa9fea9fe",
            "169.254.43518",
            "0251.0376.0251.0376",
            "[::ffff:a9fe:a9fe]",
        ] {
            assert!(of.iter().any(|text| text == wanted), "{wanted} in {of:?}");
        }
    }
}
