//! What a refused packet was: addresses, protocol, port, from its first bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A packet's addressing. Parsing is total: whatever a pod sends yields a flow or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The source the packet claims.
    pub source: IpAddr,
    /// Where it wanted to go.
    pub destination: IpAddr,
    /// The transport protocol's number (IANA), extension headers skipped.
    pub protocol: u8,
    /// The destination port, for protocols that have one and if it is in these bytes.
    pub port: Option<u16>,
}

/// The most extension headers that are looked through; the kernel's own parser is as patient.
const EXTENSIONS: usize = 8;

impl Flow {
    /// Reads an IP packet from its IP header on.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::v4(packet),
            6 => Self::v6(packet),
            _ => None,
        }
    }

    fn v4(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let protocol = *packet.get(9)?;
        let first = u16::from_be_bytes(array(packet, 6)?) % 0x2000 == 0;
        Some(Self {
            source: Ipv4Addr::from(array::<4>(packet, 12)?).into(),
            destination: Ipv4Addr::from(array::<4>(packet, 16)?).into(),
            protocol,
            port: first
                .then(|| port(protocol, packet.get(header..)?))
                .flatten(),
        })
    }

    fn v6(packet: &[u8]) -> Option<Self> {
        let (mut protocol, mut at, mut first) = (*packet.get(6)?, 40, true);
        for _ in 0..EXTENSIONS {
            let length = match protocol {
                // Hop-by-hop, routing, destination options: in units of 8 after the first.
                0 | 43 | 60 => packet
                    .get(at + 1)
                    .map(|length| (usize::from(*length) + 1) * 8),
                44 => {
                    first &= array(packet, at + 2)
                        .is_some_and(|bytes| u16::from_be_bytes(bytes) & 0xfff8 == 0);
                    Some(8)
                }
                _ => break,
            };
            let (Some(length), Some(next)) = (length, packet.get(at)) else {
                break;
            };
            protocol = *next;
            at += length;
        }
        Some(Self {
            source: Ipv6Addr::from(array::<16>(packet, 8)?).into(),
            destination: Ipv6Addr::from(array::<16>(packet, 24)?).into(),
            protocol,
            port: first.then(|| port(protocol, packet.get(at..)?)).flatten(),
        })
    }

    /// The protocol's name as a metric label; one of a fixed few.
    #[must_use]
    pub fn protocol_name(&self) -> &'static str {
        match self.protocol {
            1 => "icmp",
            6 => "tcp",
            17 => "udp",
            58 => "icmpv6",
            132 => "sctp",
            136 => "udplite",
            47 => "gre",
            4 | 41 => "ipip",
            50 | 51 => "ipsec",
            _ => "other",
        }
    }
}

fn port(protocol: u8, transport: &[u8]) -> Option<u16> {
    matches!(protocol, 6 | 17 | 132 | 136)
        .then(|| array(transport, 2).map(u16::from_be_bytes))
        .flatten()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 10, 0, 0, 9, 203, 0, 113, 1]);
        packet.extend(transport);
        packet
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet.extend("fd00::9".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(rest);
        packet
    }

    #[test]
    fn protocol_and_port_of_every_form() {
        let ports = [0x9c, 0x40, 0x01, 0xbb];
        let hop = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        let fragment = |offset: u8| [17, 0, 0, offset, 0, 0, 0, 1];
        for (packet, name, port) in [
            (v4(6, 0, &ports), "tcp", Some(443)),
            (v4(17, 0x2000, &ports), "udp", Some(443)),
            (v4(17, 0x0002, &ports), "udp", None),
            (v4(6, 0, &ports[..3]), "tcp", None),
            (v4(1, 0, &[8, 0, 1, 1]), "icmp", None),
            (v4(47, 0, &ports), "gre", None),
            (v4(200, 0, &ports), "other", None),
            (v6(17, &ports), "udp", Some(443)),
            (
                v6(0, &[&hop(60)[..], &hop(6), &ports].concat()),
                "tcp",
                Some(443),
            ),
            (
                v6(44, &[&fragment(1)[..], &ports].concat()),
                "udp",
                Some(443),
            ),
            (v6(44, &[&fragment(16)[..], &ports].concat()), "udp", None),
            (v6(58, &[128, 0, 0, 0]), "icmpv6", None),
        ] {
            let flow = Flow::parse(&packet).unwrap();
            assert_eq!(
                (flow.protocol_name(), flow.port),
                (name, port),
                "{packet:02x?}"
            );
        }
    }

    #[test]
    fn every_prefix_and_every_first_byte_is_survived() {
        let long = v6(0, &[&[43, 255, 0, 0][..], &[44; 100]].concat());
        for packet in [v4(6, 0, &[1, 2, 3, 4]), long] {
            for end in 0..packet.len() {
                let mut prefix = packet[..end].to_vec();
                for first in 0..=255 {
                    if let Some(byte) = prefix.first_mut() {
                        *byte = first;
                    }
                    let _ = Flow::parse(&prefix);
                }
            }
        }
        assert_eq!(Flow::parse(&[]), None);
    }
}
