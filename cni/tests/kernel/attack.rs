//! A pod that is root in its own network namespace, and flows that must not be disturbed.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::packet::{Shape, Transport, build};
use crate::probe::{Capture, DEADLINE, inside, send};
use crate::sandbox::{is_root, sandboxed, sh};
use crate::world::{Main, Pod, World};

/// A TCP echo server in a network namespace, until the test's process ends.
pub(crate) fn echo_server(netns: &str, address: &str) -> SocketAddr {
    let listener = inside(netns, || TcpListener::bind(address).unwrap());
    let local = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    local
}

/// One message there and back.
pub(crate) fn ping_pong(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && &answer == b"ping"
}

pub(crate) fn connect(netns: &str, to: SocketAddr, patience: Duration) -> Option<TcpStream> {
    inside(netns, || {
        let stream = TcpStream::connect_timeout(&to, patience).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Some(stream)
    })
}

/// What an attacker in the pod tries, as user 1337 with NET_ADMIN and NET_RAW, after the pod's
/// own traffic rules have been put in place. Every step must succeed: the pod owns its own
/// network namespace, and that must not help.
const ATTACK: &str = r"
nft flush ruleset
iptables -F; iptables -t nat -F
ip addr add 10.244.0.201/32 dev lo
ip addr add 203.0.113.200/32 dev lo
ip addr add 10.244.0.202/32 dev eth0
ip link add link eth0 name second type macvlan mode bridge
ip addr add 10.244.0.203/24 dev second
ip link set second up
ip link add tunnel type vxlan id 7 remote 203.0.113.1 dstport 4789 dev eth0
ip addr add 172.31.7.1/24 dev tunnel
ip link set tunnel up
";

fn attack(main: Main) {
    let mut world = World::new(main);
    let (bare, pod) = (
        world.pod("app1-ns", "bare", false),
        world.pod("app1-ns", "pod", true),
    );
    let target = echo_server("outside", "203.0.113.1:8443");
    let mut outside = Capture::start("outside");
    let rules = "nft add table ip sidecar; nft add chain ip sidecar output '{ type nat hook output priority -100; }'
        nft add rule ip sidecar output meta skuid != 1337 tcp dport 1-65535 redirect to :15001";
    for attacker in [&bare, &pod] {
        sh(&format!(
            "nsenter --net=/run/netns/{} bash -euc \"{rules}\"",
            attacker.name
        ));
        let output = as_1337(attacker, ATTACK);
        assert!(output.0, "the attacker owns its namespace: {}", output.1);
    }
    assert!(
        reaches(&bare, target),
        "without the plugin the attack gets out"
    );
    assert!(!reaches(&pod, target));
    let refused = world.refused(&pod);
    assert!(refused > 0, "and is counted");

    // With each of the addresses the attacker gave itself, on each interface.
    let mut token = 1000;
    for from in [
        "10.244.0.201",
        "203.0.113.200",
        "10.244.0.202",
        "10.244.0.203",
    ] {
        let from: IpAddr = from.parse().unwrap();
        for (attacker, expected) in [(&bare, true), (&pod, false)] {
            token += 2;
            send(
                &attacker.name,
                target.ip(),
                &build(from, target.ip(), Transport::Udp(53), Shape::Plain, token),
            );
            let marker = "192.0.2.254".parse().unwrap();
            send(
                "node",
                marker,
                &build(
                    "192.0.2.1".parse().unwrap(),
                    marker,
                    Transport::Udp(7),
                    Shape::Plain,
                    token + 1,
                ),
            );
            assert!(outside.wait(token + 1));
            assert_eq!(outside.has(token), expected, "{} as {from}", attacker.name);
        }
    }
    // Through the tunnel device: the outer packet is UDP to the outside.
    let tunnel = |pod: &Pod| {
        inside(&pod.name, || {
            let socket = UdpSocket::bind("172.31.7.1:0").unwrap();
            socket.set_broadcast(true).unwrap();
            socket
                .send_to(b"egress-warden-probe-TUNNELLD", "172.31.7.255:9")
                .unwrap();
        });
    };
    let inner = u64::from_be_bytes(*b"TUNNELLD");
    tunnel(&pod);
    let before = world.refused(&pod);
    assert!(before > refused);
    assert!(!outside.has(inner));
    tunnel(&bare);
    assert!(
        outside.wait(inner),
        "without the plugin the tunnel gets out"
    );
}

/// Runs a script inside the pod as the sidecar's user with every capability a network
/// namespace gives.
pub(crate) fn as_1337(pod: &Pod, script: &str) -> (bool, String) {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", pod.name));
    if is_root() {
        command.args(["setpriv", "--reuid=1337", "--regid=1337", "--clear-groups"]);
        command.args([
            "--inh-caps=+net_admin,+net_raw",
            "--ambient-caps=+net_admin,+net_raw",
        ]);
    } else {
        println!("NOT ROOT: this user namespace has one user id, so the attacker is not user 1337");
    }
    let output = command
        .args(["bash", "-euc", script])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("XTABLES_LOCKFILE", "/run/world/xtables.lock")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn reaches(pod: &Pod, to: SocketAddr) -> bool {
    // Refusals are silent; what passes passes at once.
    as_1337(
        pod,
        &format!(
            "exec timeout 3 bash -c 'exec 3<>/dev/tcp/{}/{}'",
            to.ip(),
            to.port()
        ),
    )
    .0
}

#[test]
fn net_admin_and_user_1337_behind_a_bridge() {
    sandboxed("attack::net_admin_and_user_1337_behind_a_bridge", || {
        attack(Main::Bridge);
    });
}

#[test]
fn net_admin_and_user_1337_behind_ptp() {
    sandboxed("attack::net_admin_and_user_1337_behind_ptp", || {
        attack(Main::Ptp);
    });
}

#[test]
fn replies_and_running_connections_are_not_disturbed() {
    sandboxed(
        "attack::replies_and_running_connections_are_not_disturbed",
        || {
            let mut world = World::new(Main::BridgeNetfilter);
            let pod = world.pod("app1-ns", "pod", true);
            let gateway = world.pod("istio-egress", "gateway", true);
            world.identify(&gateway, "egressgateway", &[]);
            let served = echo_server("pod", "0.0.0.0:80");
            let inside_cluster = echo_server("cluster", "10.244.1.80:8080");
            let outside = echo_server("outside", "203.0.113.1:443");
            let to_pod = SocketAddr::new(pod.v4, served.port());
            let host_port = SocketAddr::new("192.0.2.1".parse().unwrap(), 30002);
            let mut flows = [
                (
                    "from the outside, routed",
                    connect("outside", to_pod, DEADLINE).unwrap(),
                ),
                (
                    "from the outside, host port",
                    connect("outside", host_port, DEADLINE).unwrap(),
                ),
                ("from the node", connect("node", to_pod, DEADLINE).unwrap()),
                (
                    "from another node's pod",
                    connect("cluster", to_pod, DEADLINE).unwrap(),
                ),
                (
                    "to another node's pod",
                    connect("pod", inside_cluster, DEADLINE).unwrap(),
                ),
                (
                    "from the gateway to the outside",
                    connect("gateway", outside, DEADLINE).unwrap(),
                ),
            ];
            for round in 0..10 {
                let other = world.pod("app2-ns", &format!("other{round}"), true);
                for (name, flow) in &mut flows {
                    assert!(ping_pong(flow), "{name}, after an ADD");
                }
                assert!(world.verb("DEL", &other).is_ok());
                let guard = world.guard();
                let locked = guard.store().lock().unwrap();
                if round % 2 == 0 {
                    guard
                        .refresh(
                            &locked,
                            &world.node_config(),
                            &guard.store().followed().unwrap(),
                        )
                        .unwrap();
                } else {
                    guard.rebuild(&locked, &world.node_config()).unwrap();
                }
                drop(locked);
                for (name, flow) in &mut flows {
                    assert!(ping_pong(flow), "{name}, after a DEL and a reload");
                }
            }
            assert_eq!(
                world.refused(&pod),
                0,
                "nothing of all that was counted as an attempt"
            );
        },
    );
}

#[test]
fn flows_from_before_the_guard_end_with_it() {
    sandboxed("attack::flows_from_before_the_guard_end_with_it", || {
        let mut world = World::new(Main::Bridge);
        let pod = world.pod("app1-ns", "pod", false);
        let server = echo_server("outside", "203.0.113.1:443");
        let mut flow = connect("pod", server, DEADLINE).unwrap();
        assert!(ping_pong(&mut flow));
        assert!(world.verb("ADD", &pod).is_ok());
        // Also when the kernel has forgotten who began, and the outside end speaks first.
        sh("conntrack -F 2>/dev/null");
        let outside = server.ip();
        send(
            "outside",
            pod.v4,
            &build(outside, pod.v4, Transport::TcpAck(40_000), Shape::Plain, 1),
        );
        flow.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        assert!(!ping_pong(&mut flow));
        assert!(world.refused(&pod) > 0);
    });
}
