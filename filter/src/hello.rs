//! The ClientHello of TLS (RFC 8446 §4.1.2), over any number of records.
//!
//! Envoy's own inspector finds the name that is judged and connected to. This reading says why
//! there is none, sees what Envoy does not say, and can only deny.

/// Longest ClientHello that is read, in octets of its handshake message. Those of current clients,
/// with post-quantum key shares, have about 2,000.
pub const MAX_HELLO: usize = 16 * 1024;
/// Most bytes of the stream that are looked at at once.
pub const MAX_READ: usize = 32 * 1024;

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
/// RFC 8446 §5.1: 2^14 octets of plaintext.
const MAX_RECORD: usize = 16_384;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// RFC 9849 §5.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// What the first bytes of a stream are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// More bytes are needed.
    Incomplete,
    /// A whole ClientHello.
    Hello {
        /// The server name, as sent.
        sni: Option<Vec<u8>>,
        /// An encrypted ClientHello stands beside it.
        ech: bool,
    },
    /// Not a ClientHello, or one that contradicts itself.
    Malformed,
    /// Longer than is read.
    TooLong,
}

/// Reads the first bytes of a stream as they come, each once.
#[derive(Debug, Default)]
pub struct Reader {
    message: Vec<u8>,
    left_in_record: usize,
    read: usize,
}

impl Reader {
    /// How many bytes of the stream have been read: where the next ones are wanted from.
    #[must_use]
    pub const fn read(&self) -> usize {
        self.read
    }

    /// Goes on with the bytes from [`Reader::read`] on, which may end anywhere.
    pub fn feed(&mut self, bytes: &[u8]) -> Reading {
        let mut stream = Cursor(bytes);
        let reading = self.records(&mut stream);
        self.read = self
            .read
            .saturating_add(bytes.len().saturating_sub(stream.0.len()));
        match reading {
            Ok(()) => Reading::Incomplete,
            Err(reading) => reading,
        }
    }

    /// Takes records off the stream; an error is where the reading ends.
    fn records(&mut self, stream: &mut Cursor<'_>) -> Result<(), Reading> {
        loop {
            let available = self.left_in_record.min(stream.0.len());
            let fragment = stream.take(available).ok_or(Reading::Malformed)?;
            self.message.extend_from_slice(fragment);
            self.left_in_record = self.left_in_record.saturating_sub(available);
            if let Some(body) = body(&self.message)? {
                return Err(client_hello(body).unwrap_or(Reading::Malformed));
            }
            match *stream.0 {
                [] => return Ok(()),
                [HANDSHAKE] | [HANDSHAKE, 3, ..] => {}
                _ => return Err(Reading::Malformed),
            }
            let Some([_, _, _, high, low]) = stream.array::<RECORD_HEADER>() else {
                return Ok(());
            };
            self.left_in_record = usize::from(u16::from_be_bytes([high, low]));
            // RFC 8446 §5.1: no empty fragments of handshake messages.
            if self.left_in_record == 0 || self.left_in_record > MAX_RECORD {
                return Err(Reading::Malformed);
            }
        }
    }
}

/// The body of the handshake message, once all of it is there.
fn body(message: &[u8]) -> Result<Option<&[u8]>, Reading> {
    match message.first() {
        Some(&CLIENT_HELLO) | None => {}
        Some(_) => return Err(Reading::Malformed),
    }
    let Some((&[_, a, b, c], rest)) = message.split_first_chunk::<HANDSHAKE_HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, a, b, c]);
    match usize::try_from(length) {
        Ok(length) if length <= MAX_HELLO => Ok(rest.get(..length)),
        Ok(_) | Err(_) => Err(Reading::TooLong),
    }
}

fn client_hello(body: &[u8]) -> Option<Reading> {
    let mut hello = Cursor(body);
    hello.take(2 + 32)?; // legacy_version, random
    hello.vector8()?; // legacy_session_id
    hello.vector16()?; // cipher_suites
    hello.vector8()?; // legacy_compression_methods
    let (mut sni, mut ech) = (None, false);
    if hello.0.is_empty() {
        // TLS 1.2 allows a ClientHello without extensions (RFC 5246 §7.4.1.2).
        return Some(Reading::Hello { sni, ech });
    }
    let mut extensions = Cursor(hello.vector16()?);
    if !hello.0.is_empty() {
        return None;
    }
    let mut seen_name = false;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        match kind {
            // RFC 8446 §4.2: not twice.
            SERVER_NAME if seen_name => return None,
            SERVER_NAME => {
                seen_name = true;
                sni = Some(server_name(data)?);
            }
            ENCRYPTED_CLIENT_HELLO => ech = true,
            _ => {}
        }
    }
    Some(Reading::Hello { sni, ech })
}

/// RFC 6066 §3: one name of each type, and `host_name` is the only type.
fn server_name(extension: &[u8]) -> Option<Vec<u8>> {
    let mut extension = Cursor(extension);
    let mut list = Cursor(extension.vector16()?);
    let [kind] = list.array()?;
    let name = list.vector16()?;
    let alone = extension.0.is_empty() && list.0.is_empty();
    (alone && kind == HOST_NAME && !name.is_empty()).then(|| name.to_vec())
}

/// What is left to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
pub(crate) mod tests;
