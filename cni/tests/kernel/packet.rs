//! Packets written byte by byte, for protocols the kernel lacks and forms no socket sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What follows the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A UDP datagram to a port.
    Udp(u16),
    /// A TCP SYN to a port.
    TcpSyn(u16),
    /// A TCP ACK to a port, without a connection.
    TcpAck(u16),
    /// An echo request of the address family.
    Echo,
    /// An SCTP INIT to a port.
    Sctp(u16),
    /// A GRE packet (RFC 2784) with nothing but the token inside.
    Gre,
    /// An ESP packet.
    Esp,
    /// UDP-Lite (RFC 3828).
    UdpLite(u16),
    /// A protocol number nobody has.
    Unassigned,
    /// An IPv4 packet as payload.
    Ipv4,
    /// An IPv6 packet as payload.
    Ipv6,
    /// A router advertisement (ICMPv6 only).
    RouterAdvertisement,
    /// A neighbour solicitation (ICMPv6 only).
    NeighbourSolicitation,
    /// An ICMP error about a packet that was never sent (IPv4 only).
    Unreachable,
}

/// How the transport is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One packet.
    Plain,
    /// Two fragments; the transport header is in the first.
    Fragments,
    /// IPv6 with hop-by-hop and destination options in front of the transport.
    ExtensionHeaders,
    /// IPv4 with an option (router alert) in the header.
    IpOption,
    /// With a further hop, [`FURTHER`] or its IPv6 counterpart, behind the destination: a loose
    /// source route (RFC 791), or a routing header of type 0 (RFC 2460).
    SourceRoute,
}

/// Where a source-routed packet is really to go.
const FURTHER: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1),
);

const ID: u16 = 0x4217;
const SOURCE_PORT: u16 = 40_000;

/// The IP packets of one probe, source and destination as given, `token` in the payload.
pub(crate) fn build(
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    shape: Shape,
    token: u64,
) -> Vec<Vec<u8>> {
    // Eight bytes in, the token is whole in one fragment whether or not the node puts the
    // packet together and splits it again.
    let mut payload = vec![b'.'; 8];
    payload.extend(b"egress-warden-probe-");
    payload.extend(token.to_be_bytes());
    payload.resize(64, b'.');
    let (protocol, body) = transport_bytes(source, destination, transport, &payload);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            v4(source, destination, protocol, &body, shape)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            v6(source, destination, protocol, &body, shape)
        }
        _ => panic!("address families differ"),
    }
}

/// A neighbour advertisement (RFC 4861, section 4.4) that says where `target` is; the token
/// rides in an option that is to be skipped.
pub(crate) fn advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: [u8; 6],
    token: u64,
) -> Vec<u8> {
    let option = [
        &[253, 4, 0, 0][..],
        b"egress-warden-probe-",
        &token.to_be_bytes(),
    ]
    .concat();
    let body = [
        &[136, 0, 0, 0, 0x60, 0, 0, 0][..],
        &target.octets(),
        &[2, 1],
        &mac,
        &option,
    ]
    .concat();
    let body = checksummed(source.into(), destination.into(), 58, body, 2);
    v6(source, destination, 58, &body, Shape::Plain).remove(0)
}

/// A UDP datagram whose first fragment ends within the extension headers, so that the port is
/// in the second (forbidden by RFC 7112); the token is in both.
pub(crate) fn tiny_fragments(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    port: u16,
    token: u64,
) -> [Vec<u8>; 2] {
    let mark = [&b"egress-warden-probe-"[..], &token.to_be_bytes()].concat();
    // Destination options of 40 bytes, of which 32 are in the first fragment.
    let options = [&[17, 4, 0x1e, 36][..], &mark, &[0; 8]].concat();
    let (_, udp) = transport_bytes(
        source.into(),
        destination.into(),
        Transport::Udp(port),
        &mark,
    );
    let whole = [&options[..], &udp].concat();
    let fragment = |offset: u16, more: u16, part: &[u8]| {
        let header = [
            &[60, 0][..],
            &(offset | more).to_be_bytes(),
            &[0, 0, 0x42, 0x18],
            part,
        ]
        .concat();
        v6(source, destination, 44, &header, Shape::Plain).remove(0)
    };
    [fragment(0, 1, &whole[..32]), fragment(32, 0, &whole[32..])]
}

fn transport_bytes(
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    payload: &[u8],
) -> (u8, Vec<u8>) {
    let six = source.is_ipv6();
    let ports = |port: u16| [SOURCE_PORT.to_be_bytes(), port.to_be_bytes()].concat();
    match transport {
        Transport::Udp(port) | Transport::UdpLite(port) => {
            let length = u16::try_from(8 + payload.len()).unwrap();
            // UDP-Lite has a checksum coverage in the length's place; 0 is everything.
            let (protocol, length) = if matches!(transport, Transport::Udp(_)) {
                (17, length)
            } else {
                (136, 0)
            };
            let body = [&ports(port)[..], &length.to_be_bytes(), &[0, 0], payload].concat();
            (
                protocol,
                checksummed(source, destination, protocol, body, 6),
            )
        }
        Transport::TcpSyn(port) | Transport::TcpAck(port) => {
            let flags = if matches!(transport, Transport::TcpSyn(_)) {
                0x02
            } else {
                0x10
            };
            let fixed = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
            (
                6,
                checksummed(
                    source,
                    destination,
                    6,
                    [&ports(port)[..], &fixed, payload].concat(),
                    16,
                ),
            )
        }
        Transport::Echo if six => (
            58,
            checksummed(
                source,
                destination,
                58,
                [&[128, 0, 0, 0, 0x42, 0x17, 0, 1], payload].concat(),
                2,
            ),
        ),
        Transport::Echo => {
            let mut body = [&[8, 0, 0, 0, 0x42, 0x17, 0, 1], payload].concat();
            let sum = checksum(0, &body);
            body[2..4].copy_from_slice(&sum.to_be_bytes());
            (1, body)
        }
        Transport::RouterAdvertisement => (
            58,
            checksummed(
                source,
                destination,
                58,
                [
                    &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
                    payload,
                ]
                .concat(),
                2,
            ),
        ),
        Transport::NeighbourSolicitation => (
            58,
            checksummed(
                source,
                destination,
                58,
                [&[135, 0, 0, 0, 0, 0, 0, 0], payload].concat(),
                2,
            ),
        ),
        Transport::Unreachable => {
            let (IpAddr::V4(here), IpAddr::V4(there)) = (source, destination) else {
                panic!("this one is written for IPv4")
            };
            let (protocol, body) =
                transport_bytes(destination, source, Transport::Udp(40_001), payload);
            let about = v4(there, here, protocol, &body, Shape::Plain).remove(0);
            let mut body = [&[3, 3, 0, 0, 0, 0, 0, 0], &about[..]].concat();
            let sum = checksum(0, &body);
            body[2..4].copy_from_slice(&sum.to_be_bytes());
            (1, body)
        }
        Transport::Sctp(port) => (132, sctp_init(&ports(port), payload)),
        Transport::Gre => (47, [&[0, 0, 0x08, 0x00], payload].concat()),
        Transport::Esp => (50, [&[0, 0, 0x42, 0x17, 0, 0, 0, 1], payload].concat()),
        Transport::Unassigned => (200, payload.to_vec()),
        Transport::Ipv4 => {
            let (from, to) = (Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(203, 0, 113, 1));
            let (protocol, body) =
                transport_bytes(from.into(), to.into(), Transport::Udp(9), payload);
            (4, v4(from, to, protocol, &body, Shape::Plain).remove(0))
        }
        Transport::Ipv6 => {
            let (from, to) = (Ipv6Addr::LOCALHOST, "2001:db8:f::1".parse().unwrap());
            let (protocol, body) =
                transport_bytes(from.into(), IpAddr::V6(to), Transport::Udp(9), payload);
            (41, v6(from, to, protocol, &body, Shape::Plain).remove(0))
        }
    }
}

/// An SCTP INIT (RFC 9260), alone in its packet as it has to be.
fn sctp_init(ports: &[u8], payload: &[u8]) -> Vec<u8> {
    // The token rides in an unknown parameter that is to be skipped (type 0x8042): an
    // INIT chunk has to be alone in its packet.
    let parameter = [
        &[0x80, 0x42][..],
        &u16::try_from(4 + payload.len()).unwrap().to_be_bytes(),
        payload,
    ]
    .concat();
    let fixed = [0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    let length = u16::try_from(4 + fixed.len() + parameter.len()).unwrap();
    let chunk = [&[1, 0][..], &length.to_be_bytes(), &fixed, &parameter].concat();
    let mut body = [ports, &[0; 8], &chunk].concat();
    let sum = crc32c(&body);
    body[8..12].copy_from_slice(&sum.to_le_bytes());
    body
}

fn v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    body: &[u8],
    shape: Shape,
) -> Vec<Vec<u8>> {
    let options = match shape {
        Shape::IpOption => vec![148, 4, 0, 0],
        // Type, length, pointer to the first address, padding.
        Shape::SourceRoute => [&[131, 7, 4][..], &FURTHER.0.octets(), &[0]].concat(),
        Shape::Plain | Shape::Fragments | Shape::ExtensionHeaders => Vec::new(),
    };
    let one = |fragment: u16, body: &[u8]| {
        let header = 20 + options.len();
        let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
        packet.extend(u16::try_from(header + body.len()).unwrap().to_be_bytes());
        packet.extend(ID.to_be_bytes());
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(&options);
        let sum = checksum(0, &packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(body);
        packet
    };
    match shape {
        Shape::Fragments => vec![one(0x2000, &body[..16]), one(2, &body[16..])],
        Shape::Plain | Shape::IpOption | Shape::ExtensionHeaders | Shape::SourceRoute => {
            vec![one(0, body)]
        }
    }
}

fn v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    body: &[u8],
    shape: Shape,
) -> Vec<Vec<u8>> {
    let one = |next: u8, body: &[u8]| {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        packet.extend([next, if protocol == 58 { 255 } else { 64 }]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(body);
        packet
    };
    match shape {
        Shape::Fragments => {
            let fragment = |offset: u16, body: &[u8]| {
                let mut header = vec![protocol, 0];
                header.extend(offset.to_be_bytes());
                header.extend([0, 0, 0x42, 0x17]);
                one(44, &[&header, body].concat())
            };
            vec![fragment(1, &body[..16]), fragment(16, &body[16..])]
        }
        Shape::ExtensionHeaders => {
            let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
            let destination_options = [protocol, 0, 1, 4, 0, 0, 0, 0];
            vec![one(
                0,
                &[&hop_by_hop[..], &destination_options, body].concat(),
            )]
        }
        Shape::SourceRoute => {
            let header = [&[protocol, 2, 0, 1, 0, 0, 0, 0][..], &FURTHER.1.octets()].concat();
            vec![one(43, &[&header, body].concat())]
        }
        Shape::Plain | Shape::IpOption => vec![one(protocol, body)],
    }
}

/// `body` with the pseudo-header checksum at `at`.
fn checksummed(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    mut body: Vec<u8>,
    at: usize,
) -> Vec<u8> {
    let mut pseudo = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            [source.octets(), destination.octets()].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            [source.octets(), destination.octets()].concat()
        }
        _ => panic!("address families differ"),
    };
    pseudo.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    let sum = checksum(sum(&pseudo), &body);
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    body
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum()
}

fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut total = start + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap()
}

/// CRC-32C, which SCTP (RFC 9260, appendix A) and so connection tracking require.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}
