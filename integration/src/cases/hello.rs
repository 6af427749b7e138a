//! `ClientHello`s with any server name, also one that no TLS library would send.

/// A ClientHello (RFC 8446 §4.1.2) in one record, with this server name (RFC 6066 §3) and, if
/// asked, an encrypted ClientHello beside it.
pub(crate) fn client_hello(sni: Option<&[u8]>, ech: bool) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(name) = sni {
        let entry = [&[0][..], &sized16(name)].concat();
        extensions.extend(extension(0, &sized16(&entry)));
    }
    // Groups: X25519. Signatures: ECDSA with P-256. Versions: TLS 1.3 and 1.2.
    extensions.extend(extension(10, &sized16(&[0, 0x1D])));
    extensions.extend(extension(13, &sized16(&[4, 3])));
    extensions.extend(extension(43, &[4, 3, 4, 3, 3]));
    let share = [&[0, 0x1D][..], &sized16(&[9; 32])].concat();
    extensions.extend(extension(51, &sized16(&share)));
    if ech {
        // Outer form: suite, configuration id, key and payload; nobody can open it.
        let body = [
            &[0, 0, 1, 0, 1, 7][..],
            &sized16(&[5; 32]),
            &sized16(&[6; 64]),
        ]
        .concat();
        extensions.extend(extension(0xFE0D, &body));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(32);
    body.extend([8; 32]);
    body.extend(sized16(&[0x13, 1, 0xC0, 0x2B]));
    body.extend([1, 0]);
    body.extend(sized16(&extensions));
    let [_, length @ ..] = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let handshake = [&[1][..], &length, &body].concat();
    [&[22, 3, 1][..], &sized16(&handshake)].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized16(body)].concat()
}

/// Bytes behind their length.
fn sized16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_library_reads_the_name() {
        for ech in [false, true] {
            let mut bytes = &client_hello(Some(b"api.github.com"), ech)[..];
            let mut acceptor = rustls::server::Acceptor::default();
            acceptor.read_tls(&mut bytes).unwrap();
            let accepted = acceptor.accept().ok().flatten().unwrap();
            assert_eq!(
                accepted.client_hello().server_name(),
                Some("api.github.com")
            );
        }
    }
}
