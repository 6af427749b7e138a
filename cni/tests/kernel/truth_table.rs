//! Every route out of a pod, with and without the node guard.

use std::cell::Cell;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};

use crate::packet::{Shape, Transport, build};
use crate::probe::{Capture, send};
use crate::sandbox::{sandboxed, sh};
use crate::world::{Main, Pod, World};

/// Where a probe would arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    Outside,
    Cluster,
    /// Another pod on the same node.
    Neighbour,
    /// A UDP socket of the node itself.
    Node,
}

/// What a pod of a class may do with a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Pass,
    Refuse,
    /// Not the node guard's decision: some kernels' connection tracking takes it for damaged.
    Either,
}
use Expect::{Either, Pass, Refuse};

impl Expect {
    const fn word(self) -> &'static str {
        match self {
            Pass => "passes",
            Refuse => "dropped",
            Either => "either",
        }
    }
}

#[derive(Clone, Copy)]
struct Route {
    name: &'static str,
    place: Location,
    /// Destination; `{pod}` is the neighbour's address.
    to: &'static str,
    transport: Transport,
    shape: Shape,
    /// Source address, if not the pod's own.
    from: Option<&'static str>,
    workload: Expect,
    gateway: Expect,
}

const fn route(
    name: &'static str,
    place: Location,
    to: &'static str,
    transport: Transport,
    workload: Expect,
    gateway: Expect,
) -> Route {
    Route {
        name,
        place,
        to,
        transport,
        shape: Shape::Plain,
        from: None,
        workload,
        gateway,
    }
}

const fn shaped(shape: Shape, route: Route) -> Route {
    Route { shape, ..route }
}

const fn spoofed(from: &'static str, route: Route) -> Route {
    Route {
        from: Some(from),
        ..route
    }
}

use Location::{Cluster, Neighbour, Node, Outside};
use Transport::{
    Echo, Esp, Gre, Ipv4, Ipv6, NeighbourSolicitation, RouterAdvertisement, Sctp, TcpAck, TcpSyn,
    Udp, UdpLite, Unassigned, Unreachable,
};

/// The routes. Without the plugin every one of them arrives; that too is asserted.
#[rustfmt::skip]
const ROUTES: &[Route] = &[
    route("TCP 443 to an outside address", Outside, "203.0.113.1", TcpSyn(443), Refuse, Pass),
    route("TCP 443 to an outside address, IPv6", Outside, "2001:db8:f::1", TcpSyn(443), Refuse, Pass),
    route("TCP 22 to another outside address", Outside, "198.51.100.9", TcpSyn(22), Refuse, Pass),
    route("TCP ACK without a connection", Outside, "203.0.113.1", TcpAck(443), Refuse, Pass),
    route("UDP to an outside address", Outside, "203.0.113.1", Udp(9999), Refuse, Pass),
    route("UDP to an outside address, IPv6", Outside, "2001:db8:f::1", Udp(9999), Refuse, Pass),
    route("QUIC (UDP 443)", Outside, "203.0.113.1", Udp(443), Refuse, Pass),
    route("QUIC (UDP 443), IPv6", Outside, "2001:db8:f::1", Udp(443), Refuse, Pass),
    route("ICMP echo", Outside, "203.0.113.1", Echo, Refuse, Pass),
    route("ICMPv6 echo", Outside, "2001:db8:f::1", Echo, Refuse, Pass),
    route("an ICMP error about nothing", Outside, "203.0.113.1", Unreachable, Refuse, Refuse),
    route("a neighbour solicitation to an outside address", Outside, "2001:db8:f::1", NeighbourSolicitation, Refuse, Pass),
    route("SCTP INIT", Outside, "203.0.113.1", Sctp(5000), Refuse, Pass),
    route("SCTP INIT, IPv6", Outside, "2001:db8:f::1", Sctp(5000), Refuse, Pass),
    route("GRE", Outside, "203.0.113.1", Gre, Refuse, Pass),
    route("GRE, IPv6", Outside, "2001:db8:f::1", Gre, Refuse, Pass),
    route("ESP", Outside, "203.0.113.1", Esp, Refuse, Pass),
    route("UDP-Lite", Outside, "203.0.113.1", UdpLite(53), Refuse, Either),
    route("an unassigned protocol", Outside, "203.0.113.1", Unassigned, Refuse, Pass),
    route("IPv4 in IPv4", Outside, "203.0.113.1", Ipv4, Refuse, Pass),
    route("IPv6 in IPv4 (6in4)", Outside, "203.0.113.1", Ipv6, Refuse, Pass),
    route("IPv4 in IPv6", Outside, "2001:db8:f::1", Ipv4, Refuse, Pass),
    route("NAT64 form of an outside IPv4 address", Outside, "64:ff9b::cb00:7101", TcpSyn(443), Refuse, Pass),
    route("NAT64 form of a private IPv4 address", Outside, "64:ff9b::a63:1", TcpSyn(443), Refuse, Refuse),
    route("6to4 form of an outside IPv4 address", Outside, "2002:cb00:7101::1", TcpSyn(443), Refuse, Pass),
    route("a private address beyond the cluster", Outside, "10.99.0.1", TcpSyn(443), Refuse, Refuse),
    route("a private address beyond the cluster, IPv6", Outside, "fd00:99::1", TcpSyn(443), Refuse, Refuse),
    route("DNS over UDP to a foreign resolver", Outside, "203.0.113.53", Udp(53), Refuse, Pass),
    route("DNS over TCP to a foreign resolver", Outside, "203.0.113.53", TcpSyn(53), Refuse, Pass),
    route("DNS over TLS to a foreign resolver", Outside, "203.0.113.53", TcpSyn(853), Refuse, Pass),
    route("DNS over QUIC to a foreign resolver", Outside, "203.0.113.53", Udp(853), Refuse, Pass),
    route("DNS over UDP to a foreign resolver, IPv6", Outside, "2001:db8:f::53", Udp(53), Refuse, Pass),
    route("DNS to a resolver in another pod", Cluster, "10.244.1.80", Udp(53), Refuse, Refuse),
    route("DNS over TLS to another pod", Cluster, "10.244.1.80", TcpSyn(853), Refuse, Refuse),
    route("cloud metadata", Outside, "169.254.169.254", TcpSyn(80), Refuse, Refuse),
    route("cloud metadata, IPv6", Outside, "fd00:ec2::254", TcpSyn(80), Refuse, Refuse),
    route("cloud metadata in shared address space", Outside, "100.100.100.200", TcpSyn(80), Refuse, Refuse),
    route("a Service whose endpoint lies outside", Outside, "10.96.7.7", TcpSyn(80), Refuse, Pass),
    route("a Service without endpoints", Outside, "10.96.9.9", TcpSyn(80), Refuse, Refuse),
    route("the API server, stated, outside the cluster networks", Outside, "203.0.113.64", TcpSyn(6443), Pass, Pass),
    route("another port of the API server's address", Outside, "203.0.113.64", TcpSyn(22), Refuse, Pass),
    route("UDP exception of another pod", Outside, "203.0.113.123", Udp(123), Refuse, Pass),
    route("a UDP port of the node", Node, "192.0.2.1", Udp(9999), Refuse, Refuse),
    route("a UDP port of the node, IPv6", Node, "2001:db8::1", Udp(9999), Refuse, Refuse),
    route("a Service that ends on the node first, as in IPVS mode", Node, "10.96.5.5", Udp(9999), Refuse, Refuse),
    route("the node's own resolver", Node, "169.254.20.10", Udp(53), Pass, Pass),
    route("another port of the node's resolver", Node, "169.254.20.10", Udp(9999), Refuse, Refuse),
    route("cluster DNS through its Service", Cluster, "10.96.0.10", Udp(53), Pass, Pass),
    route("cluster DNS, UDP", Cluster, "10.244.1.53", Udp(53), Pass, Pass),
    route("cluster DNS, TCP, IPv6", Cluster, "fd00:10:244:1::53", TcpSyn(53), Pass, Pass),
    route("a Service with an endpoint in the cluster", Cluster, "10.96.0.80", TcpSyn(80), Pass, Refuse),
    route("a pod on another node", Cluster, "10.244.1.80", TcpSyn(8080), Pass, Refuse),
    route("a pod on another node, UDP, IPv6", Cluster, "fd00:10:244:1::80", Udp(8080), Pass, Refuse),
    route("IPv4 in IPv4 to another node", Cluster, "10.244.1.80", Ipv4, Refuse, Refuse),
    route("IPv6 in IPv4 to another node", Cluster, "10.244.1.80", Ipv6, Refuse, Refuse),
    route("IPv4 in IPv6 to another node", Cluster, "fd00:10:244:1::80", Ipv4, Refuse, Refuse),
    route("GRE to another node", Cluster, "10.244.1.80", Gre, Refuse, Refuse),
    route("ESP to another node", Cluster, "10.244.1.80", Esp, Refuse, Refuse),
    route("VXLAN to another node", Cluster, "10.244.1.80", Udp(4789), Refuse, Refuse),
    route("VXLAN on Linux's own port to another node", Cluster, "10.244.1.80", Udp(8472), Refuse, Refuse),
    route("Geneve to another node, IPv6", Cluster, "fd00:10:244:1::80", Udp(6081), Refuse, Refuse),
    route("the gateway's rendered port", Cluster, "10.244.1.7", TcpSyn(8443), Pass, Refuse),
    route("the gateway's rendered port, IPv6", Cluster, "fd00:10:244:1::7", TcpSyn(8443), Pass, Refuse),
    route("the gateway's admin port", Cluster, "10.244.1.7", TcpSyn(15000), Refuse, Refuse),
    route("the gateway by ICMP", Cluster, "10.244.1.7", Echo, Refuse, Refuse),
    route("the control plane", Cluster, "10.244.1.12", TcpSyn(15012), Pass, Pass),
    route("another pod of the node", Neighbour, "{pod}", TcpSyn(8080), Pass, Refuse),
    route("DNS to another pod of the node", Neighbour, "{pod}", Udp(53), Refuse, Refuse),
    spoofed("10.244.0.200", route("another pod's source address", Outside, "203.0.113.1", Udp(9999), Refuse, Refuse)),
    spoofed("10.244.0.200", route("another pod's source address, to the cluster", Cluster, "10.244.1.80", Udp(8080), Refuse, Refuse)),
    spoofed("10.10.0.2", route("another node's source address", Outside, "203.0.113.1", Udp(9999), Refuse, Refuse)),
    spoofed("198.51.100.77", route("an outside source address", Outside, "203.0.113.1", TcpSyn(443), Refuse, Refuse)),
    spoofed("2001:db8::77", route("an outside source address, IPv6", Outside, "2001:db8:f::1", Udp(9999), Refuse, Refuse)),
    spoofed("fd00:10:244::200", route("another pod's source address, IPv6", Cluster, "fd00:10:244:1::80", Udp(8080), Refuse, Refuse)),
    spoofed("198.51.100.77", route("an outside source address to a pod of the node", Neighbour, "{pod}", Udp(8080), Refuse, Refuse)),
    shaped(Shape::Fragments, route("UDP in fragments", Outside, "203.0.113.1", Udp(9999), Refuse, Pass)),
    shaped(Shape::Fragments, route("UDP in fragments, IPv6", Outside, "2001:db8:f::1", Udp(9999), Refuse, Pass)),
    shaped(Shape::Fragments, route("DNS to a foreign resolver in fragments", Outside, "203.0.113.53", Udp(53), Refuse, Pass)),
    shaped(Shape::Fragments, route("TCP SYN in fragments", Outside, "203.0.113.1", TcpSyn(443), Refuse, Pass)),
    shaped(Shape::Fragments, route("the gateway's admin port in fragments", Cluster, "10.244.1.7", TcpSyn(15000), Refuse, Refuse)),
    shaped(Shape::Fragments, route("fragments to a pod on another node", Cluster, "10.244.1.80", Udp(8080), Pass, Refuse)),
    shaped(Shape::ExtensionHeaders, route("UDP behind IPv6 extension headers", Outside, "2001:db8:f::1", Udp(9999), Refuse, Pass)),
    shaped(Shape::ExtensionHeaders, route("TCP behind IPv6 extension headers", Outside, "2001:db8:f::1", TcpSyn(443), Refuse, Pass)),
    shaped(Shape::ExtensionHeaders, route("the gateway's admin port behind extension headers", Cluster, "fd00:10:244:1::7", TcpSyn(15000), Refuse, Refuse)),
    shaped(Shape::SourceRoute, route("a source route by way of the node", Outside, "192.0.2.1", Udp(9999), Refuse, Refuse)),
    shaped(Shape::SourceRoute, route("a source route by way of another node", Cluster, "10.244.1.80", Udp(8080), Refuse, Refuse)),
    shaped(Shape::SourceRoute, route("a routing header by way of another node, IPv6", Cluster, "fd00:10:244:1::80", Udp(8080), Refuse, Refuse)),
    shaped(Shape::IpOption, route("UDP behind an IPv4 option", Outside, "203.0.113.1", Udp(9999), Refuse, Pass)),
];

/// Routes that end on the link: bridges only.
#[rustfmt::skip]
const BRIDGED: &[Route] = &[
    spoofed("fe80::42", route("a router advertisement, link-local", Neighbour, "{pod6}", RouterAdvertisement, Refuse, Refuse)),
    route("multicast to the pods of the node", Neighbour, "224.0.0.251", Udp(5353), Refuse, Refuse),
    route("multicast to the pods of the node, IPv6", Neighbour, "ff02::fb", Udp(5353), Refuse, Refuse),
    shaped(Shape::Fragments, route("the fragments of a packet to a pod of the node", Neighbour, "{pod}", Udp(8080), Pass, Refuse)),
    shaped(Shape::ExtensionHeaders, route("DNS behind extension headers to a pod of the node", Neighbour, "{pod6}", Udp(53), Refuse, Refuse)),
    route("IPv4 in IPv4 to a pod of the node", Neighbour, "{pod}", Ipv4, Refuse, Refuse),
    shaped(Shape::SourceRoute, route("a source route by way of a pod of the node", Neighbour, "{pod}", Udp(8080), Refuse, Refuse)),
    route("a router advertisement to a pod of the node", Neighbour, "{pod6}", RouterAdvertisement, Refuse, Refuse),
];

pub(crate) struct Bench {
    captures: Vec<(Location, Capture)>,
    node: Vec<UdpSocket>,
    neighbour: Pod,
    token: Cell<u64>,
}

impl Bench {
    pub(crate) fn start(neighbour: &Pod) -> Self {
        let node = [
            "192.0.2.1:9999",
            "[2001:db8::1]:9999",
            "169.254.20.10:53",
            "169.254.20.10:9999",
            "10.96.5.5:9999",
        ]
        .map(|address| {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let captures = [
            (Outside, "outside"),
            (Cluster, "cluster"),
            (Neighbour, neighbour.name.as_str()),
        ];
        Self {
            captures: captures
                .map(|(place, netns)| (place, Capture::start(netns)))
                .into(),
            node: node.into(),
            neighbour: neighbour.clone(),
            token: Cell::new(1),
        }
    }

    /// Whether one plain packet from `pod` to `to` arrives at `place`.
    pub(crate) fn reaches(
        &mut self,
        pod: &Pod,
        place: Location,
        to: &'static str,
        transport: Transport,
    ) -> bool {
        self.arrives(pod, &route(to, place, to, transport, Either, Either))
    }

    fn next_token(&self) -> u64 {
        self.token.set(self.token.get() + 1);
        self.token.get()
    }

    fn destination(&self, route: &Route) -> IpAddr {
        match route.to {
            "{pod}" => self.neighbour.v4,
            "{pod6}" => self.neighbour.v6,
            text => text.parse().unwrap(),
        }
    }

    /// Sends the route's packets from `pod`; whether they arrived. A control packet that the
    /// node sends afterwards on the same way tells when to stop waiting.
    fn arrives(&mut self, pod: &Pod, route: &Route) -> bool {
        let to = self.destination(route);
        let from = route
            .from
            .map_or(pod.address(to.is_ipv6()), |from| from.parse().unwrap());
        // No probe is judged as part of an earlier one's flow.
        let flushed = Command::new("conntrack")
            .arg("-F")
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(flushed.success(), "conntrack -F");
        let (probe, control) = (self.next_token(), self.next_token());
        send(
            &pod.name,
            to,
            &build(from, to, route.transport, route.shape, probe),
        );
        if route.place == Node {
            let mut buffer = [0; 2048];
            let received = self.node.iter().any(|socket| {
                std::iter::from_fn(|| {
                    socket
                        .recv(&mut buffer)
                        .ok()
                        .map(|length| buffer[..length].to_vec())
                })
                .any(|bytes| crate::probe::tokens(&bytes).contains(&probe))
            });
            return received;
        }
        let place = if route.place == Outside {
            Outside
        } else {
            route.place
        };
        let (marker_to, marker_from): (IpAddr, IpAddr) = match (place, to.is_ipv6()) {
            (Outside, false) => ("192.0.2.254".parse().unwrap(), "192.0.2.1".parse().unwrap()),
            (Outside, true) => (
                "2001:db8::fe".parse().unwrap(),
                "2001:db8::1".parse().unwrap(),
            ),
            (Cluster, false) => ("10.10.0.2".parse().unwrap(), "10.10.0.1".parse().unwrap()),
            (Cluster, true) => (
                "fd00:10:10::2".parse().unwrap(),
                "fd00:10:10::1".parse().unwrap(),
            ),
            (_, false) => (self.neighbour.v4, "192.0.2.1".parse().unwrap()),
            (_, true) => (self.neighbour.v6, "2001:db8::1".parse().unwrap()),
        };
        send(
            "node",
            marker_to,
            &build(marker_from, marker_to, Udp(7), Shape::Plain, control),
        );
        let capture = self
            .captures
            .iter_mut()
            .find(|(at, _)| *at == place)
            .map(|(_, capture)| capture)
            .unwrap();
        assert!(
            capture.wait(control),
            "the control packet of `{}` did not arrive",
            route.name
        );
        capture.has(probe)
    }
}

/// One line of the printed table.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a line of a table has columns"
)]
struct Line {
    route: &'static str,
    expected: [&'static str; 2],
    without: bool,
    workload: bool,
    refused: u64,
    gateway: bool,
    wrong: bool,
}

fn table(main: Main) {
    let mut world = World::new(main);
    let neighbour = world.pod("app2-ns", "neighbour", true);
    let bare = world.pod("app1-ns", "bare", false);
    let workload = world.pod("app1-ns", "workload", true);
    let exempt = world.pod("kube-system", "exempt", true);
    let gateway = world.pod("istio-egress", "gateway", true);
    world.identify(&gateway, "egressgateway", &[]);
    let mut bench = Bench::start(&neighbour);
    // Address resolution first, so that no probe waits in a queue for it.
    for pod in [&bare, &workload, &exempt, &gateway] {
        let [v4, v6] = [neighbour.v4, neighbour.v6];
        let resolved = "while ip -n $P neigh | grep -q INCOMPLETE; do :; done";
        // Sending anything to each next hop makes the kernel look for it.
        let ask = format!(
            "P={}; for a in 10.244.1.53 fd00:10:244:1::53 {v4} {v6}; do nsenter --net=/run/netns/$P bash -c \"echo > /dev/udp/$a/7\"; done; {resolved}",
            pod.name
        );
        sh(&ask);
    }
    let mut lines = Vec::new();
    let bridged = if main == Main::Bridge { BRIDGED } else { &[] };
    for route in ROUTES.iter().chain(bridged) {
        let without = bench.arrives(&bare, route);
        let exempted = bench.arrives(&exempt, route);
        let before = world.refused(&workload);
        let guarded = bench.arrives(&workload, route);
        let refused = world.refused(&workload) - before;
        let before = world.refused(&gateway);
        let from_gateway = bench.arrives(&gateway, route);
        let refused_gateway = world.refused(&gateway) - before;
        let as_said = |expect: Expect, passed: bool| expect == Either || passed == (expect == Pass);
        let counted =
            |expect: Expect, count: u64| expect == Either || (expect == Refuse) == (count > 0);
        let wrong = !without
            || !exempted
            || !as_said(route.workload, guarded)
            || !as_said(route.gateway, from_gateway)
            || !counted(route.workload, refused)
            || !counted(route.gateway, refused_gateway);
        lines.push(Line {
            route: route.name,
            expected: [route.workload, route.gateway].map(Expect::word),
            without,
            workload: guarded,
            refused,
            gateway: from_gateway,
            wrong,
        });
    }
    print(main, &lines);
    assert!(
        lines.iter().all(|line| !line.wrong),
        "{main:?}: lines marked `<--` are not as expected"
    );
}

/// A line of text for people, or of JSON for `cargo xtask demo --bypass`.
fn print(main: Main, lines: &[Line]) {
    let word = |passed: bool| if passed { "passes" } else { "dropped" };
    let as_json = std::env::var_os("EGRESS_CNI_JSON").is_some();
    if !as_json {
        println!(
            "\n{main:?}\n{:<55} {:>8} {:>9} {:>8} {:>8}",
            "route", "without", "workload", "counted", "gateway"
        );
    }
    for line in lines {
        let Line {
            route,
            expected: [of_workload, of_gateway],
            without,
            workload,
            refused,
            gateway,
            wrong,
        } = line;
        if as_json {
            let row = serde_json::json!({
                "plugin": format!("{main:?}"), "route": route, "without": word(*without),
                "workload": word(*workload), "counted": refused, "gateway": word(*gateway),
                "expected": {"workload": of_workload, "gateway": of_gateway}, "asExpected": !wrong
            });
            println!("{row}");
            continue;
        }
        let mark = if *wrong { " <--" } else { "" };
        println!(
            "{route:<55} {:>8} {:>9} {refused:>8} {:>8}{mark}",
            word(*without),
            word(*workload),
            word(*gateway)
        );
    }
}

#[test]
fn bridge() {
    sandboxed("truth_table::bridge", || table(Main::Bridge));
}

#[test]
fn bridge_with_br_netfilter_and_masquerade() {
    sandboxed(
        "truth_table::bridge_with_br_netfilter_and_masquerade",
        || table(Main::BridgeNetfilter),
    );
}

#[test]
fn ptp_with_masquerade() {
    sandboxed("truth_table::ptp_with_masquerade", || table(Main::Ptp));
}

#[test]
fn host_routed_veth() {
    sandboxed("truth_table::host_routed_veth", || table(Main::Routed));
}

/// Frames from port to port of one bridge are judged without connection tracking.
#[test]
fn a_gateway_on_the_same_bridge() {
    sandboxed("truth_table::a_gateway_on_the_same_bridge", || {
        let mut world = World::new(Main::Bridge);
        let gateway = world.pod("istio-egress", "gateway", true);
        let workload = world.pod("app1-ns", "workload", true);
        world.config["gateway"]["addresses"] = serde_json::json!([gateway.v4, gateway.v6]);
        world.write_config();
        world.identify(&gateway, "egressgateway", &[]);
        {
            let guard = world.guard();
            let locked = guard.store().lock().unwrap();
            let followed = guard.store().followed().unwrap();
            guard
                .refresh(&locked, &world.node_config(), &followed)
                .unwrap();
        }
        let mut bench = Bench::start(&gateway);
        #[rustfmt::skip]
        let table = [
            route("a rendered port", Neighbour, "{pod}", TcpSyn(8443), Pass, Pass),
            route("a rendered port, IPv6", Neighbour, "{pod6}", TcpSyn(8443), Pass, Pass),
            route("the admin port", Neighbour, "{pod}", TcpSyn(15000), Refuse, Pass),
            route("the admin port, IPv6", Neighbour, "{pod6}", TcpSyn(15000), Refuse, Pass),
            shaped(Shape::Fragments, route("the admin port in fragments", Neighbour, "{pod}", TcpSyn(15000), Refuse, Pass)),
            shaped(Shape::Fragments, route("the admin port in fragments, IPv6", Neighbour, "{pod6}", TcpSyn(15000), Refuse, Pass)),
            shaped(Shape::ExtensionHeaders, route("the admin port behind extension headers", Neighbour, "{pod6}", TcpSyn(15000), Refuse, Pass)),
            route("UDP", Neighbour, "{pod}", Udp(8443), Refuse, Pass),
            route("DNS", Neighbour, "{pod}", Udp(53), Refuse, Pass),
            route("an echo", Neighbour, "{pod}", Echo, Refuse, Pass),
            // What stays open, harmless: nothing answers TCP that began with no SYN.
            route("TCP without a connection", Neighbour, "{pod}", TcpAck(15000), Pass, Pass),
        ];
        for route in &table {
            let before = world.refused(&workload);
            let passed = bench.arrives(&workload, route);
            let counted = world.refused(&workload) > before;
            let wanted = route.workload == Pass;
            assert_eq!((passed, counted), (wanted, !wanted), "{}", route.name);
        }
    });
}
