//! HTTP/2 written frame by frame (RFC 9113), for what no library sends.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Tls;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest frame that a server takes unless it says otherwise.
const FRAME: usize = 16_384;
/// How long a read waits for more.
const TURN: Duration = Duration::from_millis(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A connection that obeys what it wants to.
pub struct Raw {
    tls: Tls,
    read: Vec<u8>,
    next: u32,
    /// Bytes that the server takes by now, on the connection and on each stream.
    connection: i64,
    streams: BTreeMap<u32, i64>,
    initial: i64,
    /// Heads of answers that came.
    pub answers: usize,
    /// Whether the server has said its settings, which are answered between frames.
    pub greeted: bool,
    /// Streams that the server has reset.
    pub resets: usize,
    /// Whether the server has had enough.
    pub closed: bool,
}

impl Raw {
    /// Begins a connection with these settings (identifier and value).
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn begin(tls: Tls, settings: &[(u16, u32)]) -> Result<Self> {
        tls.sock.set_read_timeout(Some(TURN))?;
        tls.sock.set_write_timeout(Some(Duration::from_secs(5)))?;
        let mut raw = Self {
            tls,
            read: Vec::new(),
            next: 1,
            connection: 65_535,
            streams: BTreeMap::new(),
            initial: 65_535,
            answers: 0,
            greeted: false,
            resets: 0,
            closed: false,
        };
        let mut bytes = PREFACE.to_vec();
        let body: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        bytes.extend(frame(SETTINGS, 0, 0, &body));
        raw.write(&bytes);
        Ok(raw)
    }

    /// Writes bytes; a server that closes or does not read ends the connection.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let written = self.tls.write_all(bytes).and_then(|()| self.tls.flush());
        self.closed = written.is_err();
    }

    /// Opens a stream with this head; its number.
    pub fn open(&mut self, head: &[(&str, &str)], end: bool) -> u32 {
        let stream = self.next;
        self.next = self.next.saturating_add(2);
        self.streams.insert(stream, self.initial);
        let block = block(head);
        let mut pieces = block.chunks(FRAME).peekable();
        let (mut kind, mut flags) = (HEADERS, if end { END_STREAM } else { 0 });
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                flags |= END_HEADERS;
            }
            bytes.extend(frame(kind, flags, stream, piece));
            (kind, flags) = (CONTINUATION, 0);
        }
        self.write(&bytes);
        stream
    }

    /// As much of a body as the server takes now; how much.
    pub fn upload(&mut self, stream: u32) -> usize {
        let window = self.streams.get(&stream).copied().unwrap_or_default();
        let most = window.min(self.connection);
        let length = usize::try_from(most).unwrap_or_default().min(FRAME);
        if length == 0 {
            return 0;
        }
        self.send(stream, &vec![b'u'; length]);
        length
    }

    /// A piece of a body.
    pub fn send(&mut self, stream: u32, bytes: &[u8]) {
        self.write(&frame(DATA, 0, stream, bytes));
        let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.connection = self.connection.saturating_sub(length);
        if let Some(window) = self.streams.get_mut(&stream) {
            *window = window.saturating_sub(length);
        }
    }

    /// Resets a stream (`CANCEL`).
    pub fn reset(&mut self, stream: u32) {
        self.streams.remove(&stream);
        self.write(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }

    /// A head that goes on for ever: `HEADERS` once, then so many `CONTINUATION` frames.
    pub fn endless_head(&mut self, head: &[(&str, &str)], frames: usize) {
        let stream = self.next;
        self.next = self.next.saturating_add(2);
        self.write(&frame(HEADERS, 0, stream, &block(head)));
        let more = block(&[("x-more", &"m".repeat(8_000))]);
        for _ in 0..frames {
            self.write(&frame(CONTINUATION, 0, stream, &more));
        }
    }

    /// A head that announces more than will come for a long time, to be sent piece by piece: its
    /// bytes.
    #[must_use]
    pub fn long_head(head: &[(&str, &str)]) -> Vec<u8> {
        let long = "s".repeat(FRAME / 2);
        let whole: Vec<_> = head.iter().copied().chain([("x-slow", &*long)]).collect();
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&whole))
    }

    /// Settings that each want an answer, and pings.
    pub fn settings_and_pings(&mut self, count: usize) {
        for _ in 0..count {
            let mut bytes = frame(SETTINGS, 0, 0, &[]);
            bytes.extend(frame(PING, 0, 0, &[7; 8]));
            self.write(&bytes);
        }
    }

    /// Takes one more byte of an answer.
    pub fn one_byte_more(&mut self, stream: u32) {
        self.write(&frame(WINDOW_UPDATE, 0, stream, &1_u32.to_be_bytes()));
    }

    /// Reads what has come within about `time`.
    pub fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut buffer = vec![0; 65_536];
        while !self.closed {
            match self.tls.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(length) => self
                    .read
                    .extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.closed = true,
            }
            while let Some(frame) = self.take() {
                self.hear(frame);
            }
            if Instant::now() >= end {
                break;
            }
        }
    }

    /// The next whole frame: kind, flags, stream and body.
    fn take(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let head: [u8; 9] = self.read.get(..9)?.try_into().ok()?;
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = head;
        let length = usize::try_from(u32::from_be_bytes([0, l2, l1, l0])).ok()?;
        let body = self.read.get(9..9 + length)?.to_vec();
        self.read.drain(..9 + length);
        let stream = u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]);
        Some((kind, flags, stream, body))
    }

    fn hear(&mut self, (kind, flags, stream, body): (u8, u8, u32, Vec<u8>)) {
        match kind {
            HEADERS => self.answers = self.answers.saturating_add(1),
            SETTINGS if flags & ACK == 0 => {
                for setting in body.chunks_exact(6) {
                    if let [0, 4, a, b, c, d] = setting {
                        self.initial = i64::from(u32::from_be_bytes([*a, *b, *c, *d]));
                    }
                }
                self.greeted = true;
                self.write(&frame(SETTINGS, ACK, 0, &[]));
            }
            PING if flags & ACK == 0 => self.write(&frame(PING, ACK, 0, &body)),
            WINDOW_UPDATE => {
                let by = body
                    .first_chunk::<4>()
                    .map_or(0, |bytes| i64::from(u32::from_be_bytes(*bytes)));
                if stream == 0 {
                    self.connection = self.connection.saturating_add(by);
                } else if let Some(window) = self.streams.get_mut(&stream) {
                    *window = window.saturating_add(by);
                }
            }
            RST_STREAM => {
                self.streams.remove(&stream);
                self.resets = self.resets.saturating_add(1);
            }
            GOAWAY => self.closed = true,
            _ => {}
        }
    }
}

/// A frame.
#[must_use]
fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let [_, a, b, c] = length.to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A header block of literals that are not indexed (RFC 7541, section 6.2.2).
fn block(head: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in head {
        bytes.push(0);
        for text in [name, value] {
            length(text.len(), &mut bytes);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn length(value: usize, bytes: &mut Vec<u8>) {
    let low = |value: usize| u8::try_from(value & 0x7f).unwrap_or_default();
    if value < 127 {
        bytes.push(low(value));
        return;
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push(low(rest) | 0x80);
        rest >>= 7;
    }
    bytes.push(low(rest));
}
