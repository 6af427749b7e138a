//! Frames that no IP socket sends: tags, other ethertypes, answers for other hosts' addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;

use nix::ifaddrs::getifaddrs;
use socket2::{Domain, Socket, Type};

use crate::packet::{Shape, Transport, advertisement, build, tiny_fragments};
use crate::probe::{Capture, inside};
use crate::sandbox::{sandboxed, sh};
use crate::world::{Main, Pod, World};

type Mac = [u8; 6];

/// Sends a frame out of the pod's own interface.
fn send_frame(pod: &Pod, frame: &[u8]) {
    inside(&pod.name, || {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
        let address = getifaddrs()
            .unwrap()
            .filter(|interface| interface.interface_name == "eth0")
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .unwrap();
        nix::sys::socket::bind(socket.as_raw_fd(), &address).unwrap();
        assert_eq!(socket.send(frame).unwrap(), frame.len());
    });
}

fn mac(pod: &Pod) -> Mac {
    let text = sh(&format!(
        "ip netns exec {} cat /sys/class/net/eth0/address 2>/dev/null || ip -n {} -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'",
        pod.name, pod.name
    ));
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

fn frame(to: Mac, from: Mac, types: &[u16], body: &[u8]) -> Vec<u8> {
    let types: Vec<u8> = types.iter().flat_map(|word| word.to_be_bytes()).collect();
    [&to[..], &from, &types, body].concat()
}

/// An ARP reply (RFC 826) that says where `claimed` is; the token rides in the padding.
fn arp_reply(from: Mac, claimed: Ipv4Addr, to: Mac, asker: Ipv4Addr, token: &[u8]) -> Vec<u8> {
    [
        &[0, 1, 8, 0, 6, 4, 0, 2][..],
        &from,
        &claimed.octets(),
        &to,
        &asker.octets(),
        token,
    ]
    .concat()
}

const IP4: u16 = 0x0800;
const IP6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

/// Everything a pod might put on the bridge to reach a neighbour at a port that is closed, or
/// as somebody else. The last column of each: whether it arrives from a guarded pod.
fn attempts(
    pod: &Pod,
    neighbour: &Pod,
    bystander: &Pod,
    token: u64,
) -> Vec<(&'static str, Vec<u8>, bool)> {
    let (from, to) = (mac(pod), mac(neighbour));
    let ip = |port: u16| {
        build(
            pod.v4,
            neighbour.v4,
            Transport::Udp(port),
            Shape::Plain,
            token,
        )
        .remove(0)
    };
    let mark = [&b"egress-warden-probe-"[..], &token.to_be_bytes()].concat();
    let (IpAddr::V4(own4), IpAddr::V4(other4), IpAddr::V4(there4)) =
        (pod.v4, bystander.v4, neighbour.v4)
    else {
        panic!("an IPv4 address")
    };
    let (IpAddr::V6(own6), IpAddr::V6(other6), IpAddr::V6(there6)) =
        (pod.v6, bystander.v6, neighbour.v6)
    else {
        panic!("an IPv6 address")
    };
    let link_local: Ipv6Addr = "fe80::42".parse().unwrap();
    let arp = |claimed| arp_reply(from, claimed, to, there4, &mark);
    let advertise = |source, target| advertisement(source, there6, target, from, token);
    let tiny = tiny_fragments(own6, there6, 53, token);
    vec![
        (
            "a plain packet to an open port",
            frame(to, from, &[IP4], &ip(8080)),
            true,
        ),
        (
            "a plain packet to a closed port",
            frame(to, from, &[IP4], &ip(53)),
            false,
        ),
        (
            "the same with a VLAN tag",
            frame(to, from, &[VLAN, 7, IP4], &ip(53)),
            false,
        ),
        (
            "the same with a priority tag",
            frame(to, from, &[VLAN, 0, IP4], &ip(53)),
            false,
        ),
        (
            "the same with two tags",
            frame(to, from, &[QINQ, 7, VLAN, 8, IP4], &ip(53)),
            false,
        ),
        (
            "an open port with two tags",
            frame(to, from, &[VLAN, 7, VLAN, 8, IP4], &ip(8080)),
            false,
        ),
        (
            "an ethertype for experiments",
            frame(to, from, &[0x88b5], &ip(8080)),
            false,
        ),
        (
            "PPPoE",
            frame(to, from, &[0x8864, 0x1100, 1, 94, 0x0021], &ip(8080)),
            false,
        ),
        (
            "MPLS",
            frame(to, from, &[0x8847, 0x0001, 0x0140], &ip(8080)),
            false,
        ),
        (
            "LLC",
            frame(
                to,
                from,
                &[100],
                &[&[0xaa, 0xaa, 3, 0, 0, 0][..], &ip(8080)].concat(),
            ),
            false,
        ),
        (
            "IPv6 behind the ethertype of IPv4",
            frame(
                to,
                from,
                &[IP4],
                &build(
                    pod.v6,
                    neighbour.v6,
                    Transport::Udp(8080),
                    Shape::Plain,
                    token,
                )[0],
            ),
            false,
        ),
        (
            "the first fragment without a port",
            frame(to, from, &[IP6], &tiny[0]),
            false,
        ),
        (
            "an ARP reply for itself",
            frame(to, from, &[ARP], &arp(own4)),
            true,
        ),
        (
            "an ARP reply for another pod",
            frame(to, from, &[ARP], &arp(other4)),
            false,
        ),
        (
            "an ARP reply for the bridge",
            frame(to, from, &[ARP], &arp("10.244.0.1".parse().unwrap())),
            false,
        ),
        (
            "an ARP reply for another pod with a VLAN tag",
            frame(to, from, &[VLAN, 7, ARP], &arp(other4)),
            false,
        ),
        (
            "a priority tag alone",
            frame(to, from, &[VLAN, 0, IP4], &ip(8080)),
            false,
        ),
        (
            "an advertisement of another pod with a priority tag",
            frame(to, from, &[VLAN, 0, IP6], &advertise(own6, other6)),
            false,
        ),
        (
            "an advertisement of itself",
            frame(to, from, &[IP6], &advertise(own6, own6)),
            true,
        ),
        (
            "an advertisement of its link-local address",
            frame(to, from, &[IP6], &advertise(link_local, link_local)),
            true,
        ),
        (
            "an advertisement of another pod",
            frame(to, from, &[IP6], &advertise(own6, other6)),
            false,
        ),
        (
            "an advertisement of another pod from a link-local address",
            frame(to, from, &[IP6], &advertise(link_local, other6)),
            false,
        ),
        (
            "an advertisement of the bridge",
            frame(
                to,
                from,
                &[IP6],
                &advertise(link_local, "fd00:10:244::1".parse().unwrap()),
            ),
            false,
        ),
    ]
}

#[test]
fn nothing_but_plain_ip_crosses_a_bridge() {
    sandboxed("frames::nothing_but_plain_ip_crosses_a_bridge", || {
        let mut world = World::new(Main::Bridge);
        let neighbour = world.pod("app2-ns", "neighbour", true);
        let bystander = world.pod("app2-ns", "bystander", true);
        let bare = world.pod("app1-ns", "bare", false);
        let pod = world.pod("app1-ns", "pod", true);
        let mut capture = Capture::start("neighbour");
        let arrives = |capture: &mut Capture, sender: &Pod, number: usize, token: u64| {
            let (_, bytes, _) = &attempts(sender, &neighbour, &bystander, token)[number];
            send_frame(sender, bytes);
            // What is sent later on the same way tells when to stop waiting.
            let (_, control, _) = &attempts(&bare, &neighbour, &bystander, token + 1)[0];
            send_frame(&bare, control);
            assert!(capture.wait(token + 1));
            capture.has(token)
        };
        let mut wrong = Vec::new();
        let list = attempts(&pod, &neighbour, &bystander, 0);
        let mut token = 1;
        // A bridge with VLANs tags what it forwards, and drops some frames by itself.
        for vlans in [false, true] {
            if vlans && !sh("ip link set cni0 type bridge vlan_filtering 1 || echo no").is_empty() {
                println!("not shown: this kernel's bridge has no VLANs (BRIDGE_VLAN_FILTERING)");
                continue;
            }
            for (number, (name, _, expected)) in list.iter().enumerate() {
                let without = arrives(&mut capture, &bare, number, token);
                let before = world.refused(&pod);
                let guarded = arrives(&mut capture, &pod, number, token + 2);
                let counted = world.refused(&pod) > before;
                println!("{vlans:>5} {name:<60} {without:>7} {guarded:>7} {counted:>7}");
                if !(without || vlans) || guarded != *expected || counted == *expected {
                    wrong.push((vlans, *name));
                }
                token += 4;
            }
        }
        assert_eq!(wrong, []);
    });
}
