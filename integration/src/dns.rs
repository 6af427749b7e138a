//! A DNS server that knows a few names and writes down every question.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

const HEADER: usize = 12;
const NXDOMAIN: u8 = 3;
const TYPE_A: u8 = 1;
const TYPE_AAAA: u8 = 28;
const TTL: [u8; 4] = [0, 0, 0, 60];

/// The server; it runs until the process ends.
#[derive(Clone)]
pub struct Dns {
    asked: Arc<Mutex<Vec<String>>>,
    names: Arc<Mutex<BTreeMap<String, IpAddr>>>,
}

impl Dns {
    /// Answers for these names on port 53 of `address`.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(address: Ipv4Addr, names: BTreeMap<String, IpAddr>) -> Result<Self> {
        let socket = UdpSocket::bind((address, 53))?;
        let server = Self {
            asked: Arc::default(),
            names: Arc::new(Mutex::new(names)),
        };
        let (asked, names) = (Arc::clone(&server.asked), Arc::clone(&server.names));
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut packet) {
                let Some((name, question)) = packet.get(..length).and_then(question) else {
                    continue;
                };
                let known = names
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(&name)
                    .copied();
                asked
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(name);
                let reply = reply(question, known);
                let id = packet.get(..2).unwrap_or_default();
                let _ = socket.send_to(&[id, &reply].concat(), peer);
            }
        });
        Ok(server)
    }

    /// Knows these names from now on, and no others.
    pub fn set(&self, names: &BTreeMap<String, IpAddr>) {
        names.clone_into(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Every name asked for so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The first question's name, in lower case, and its bytes (RFC 1035 §4.1.2).
fn question(packet: &[u8]) -> Option<(String, &[u8])> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            break;
        }
        let label = packet.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + length;
    }
    Some((labels.join("."), packet.get(HEADER..at + 5)?))
}

/// Everything behind the transaction id. A name without an address of the family asked for is
/// answered without one.
fn reply(question: &[u8], known: Option<IpAddr>) -> Vec<u8> {
    let kind = match question {
        [.., 0, kind, 0, 1] => *kind,
        _ => 0,
    };
    let answer = match known {
        Some(IpAddr::V4(address)) if kind == TYPE_A => Some(address.octets().to_vec()),
        Some(IpAddr::V6(address)) if kind == TYPE_AAAA => Some(address.octets().to_vec()),
        Some(_) | None => None,
    };
    let code = if known.is_some() { 0 } else { NXDOMAIN };
    let answers = u8::from(answer.is_some());
    let mut bytes = vec![0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0];
    bytes.extend_from_slice(question);
    if let Some(octets) = answer {
        // A pointer to the question's name, then class, lifetime and address.
        bytes.extend_from_slice(&[0xC0, 0x0C, 0, kind, 0, 1]);
        bytes.extend_from_slice(&TTL);
        bytes.extend_from_slice(&[0, u8::try_from(octets.len()).unwrap_or(0)]);
        bytes.extend(octets);
    }
    bytes
}
