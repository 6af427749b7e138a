//! Interfaces that no ADD made: a second network, or the work of a process with NET_ADMIN.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use crate::agent::{node, ptp};
use crate::api_server::events;
use crate::attack::as_1337;
use crate::packet::{Shape, Transport, build};
use crate::probe::{Capture, DEADLINE, send};
use crate::sandbox::{sandboxed, sh};
use crate::world::{Main, Pod, World, nft};

/// Whether a datagram from `from` to the router outside gets there by the pod's own routes.
fn gets_out(outside: &mut Capture, pod: &Pod, from: &str, to: &str, token: u64) -> bool {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    send(
        &pod.name,
        to,
        &build(from, to, Transport::Udp(9), Shape::Plain, token),
    );
    let [here, there] = ["192.0.2.1", "192.0.2.254"].map(|text| text.parse().unwrap());
    send(
        "node",
        there,
        &build(here, there, Transport::Udp(7), Shape::Plain, token + 1),
    );
    assert!(outside.wait(token + 1));
    outside.has(token)
}

/// Devices on top of the node's own, made from inside the pod by the node's number there.
fn beyond(uplink: &str, vni: usize) -> String {
    format!(
        "ip link add link if{uplink} link-netnsid 0 name mv0 type macvlan mode bridge
         ip addr add 192.0.2.77/24 dev mv0; ip link set mv0 up
         ip link add link-netnsid 0 name vx0 type vxlan id {vni} remote 192.0.2.254 dstport 4789
         ip addr add 172.31.7.1/24 dev vx0; ip link set vx0 up"
    )
}

fn uplink() -> String {
    sh("ip -o link show up0 | cut -d: -f1")
}

fn interfaces(pod: &Pod) -> String {
    sh(&format!(
        "ip -n {} -br link | cut -d@ -f1 | cut -d' ' -f1 | sort | xargs",
        pod.name
    ))
}

#[test]
fn what_lies_beyond_the_guard_is_taken_away() {
    sandboxed(
        "extra_interfaces::what_lies_beyond_the_guard_is_taken_away",
        || {
            let mut world = World::new(Main::Routed);
            let pods = [
                ("app1-ns", "pod"),
                ("kube-system", "exempt"),
                ("rolling-out", "rolling"),
            ]
            .map(|(namespace, name)| world.pod(namespace, name, true));
            world.config["countOnlyNamespaces"] = json!(["rolling-out"]);
            world.write_config();
            let [pod, exempt, rolling] = &pods;
            let mut node = node(&world, &ptp());
            assert_eq!(node.pass(), "");
            let mut outside = Capture::start("outside");
            assert!(!gets_out(
                &mut outside,
                pod,
                "192.0.2.77",
                "192.0.2.254",
                10
            ));

            for (vni, attacker) in pods.iter().enumerate() {
                let (done, text) = as_1337(attacker, &beyond(&uplink(), vni));
                assert!(done, "the attacker makes its devices: {text}");
            }
            assert!(
                gets_out(&mut outside, pod, "192.0.2.77", "192.0.2.254", 20),
                "no rule of the node sees a macvlan on its uplink"
            );
            sh("ip -n pod neigh add 172.31.7.9 lladdr 02:00:00:00:00:09 dev vx0");
            assert!(
                gets_out(&mut outside, pod, "172.31.7.1", "172.31.7.9", 30),
                "nor a tunnel that begins in the node's own network namespace"
            );

            node.stub.requests();
            assert_eq!(node.pass(), "");
            assert_eq!(interfaces(pod), "eth0 lo");
            assert_eq!(interfaces(exempt), "eth0 lo mv0 vx0", "exempt is exempt");
            assert_eq!(
                interfaces(rolling),
                "eth0 lo mv0 vx0",
                "counting takes nothing"
            );
            assert!(!gets_out(
                &mut outside,
                pod,
                "192.0.2.77",
                "192.0.2.254",
                40
            ));
            assert!(!gets_out(&mut outside, pod, "172.31.7.1", "172.31.7.9", 50));
            let told: Vec<String> = node
                .stub
                .requests()
                .iter()
                .filter(|request| request.verb == "POST" && request.path == events("app1-ns"))
                .map(|request| request.body["note"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(
                told,
                ["interface mv0 (macvlan) is beyond the node guard: removed"],
                "one event a minute and pod"
            );
            let metrics = node.metrics.render();
            for line in [
                "egress_cni_interfaces_refused_total 2\n",
                "egress_cni_interfaces_beyond_guard 2\n",
                "egress_cni_pods_not_examined 0\n",
            ] {
                assert!(metrics.contains(line), "{line}{metrics}");
            }
        },
    );
}

#[test]
fn a_veth_that_nobody_announced_is_guarded() {
    sandboxed(
        "extra_interfaces::a_veth_that_nobody_announced_is_guarded",
        || {
            let mut world = World::new(Main::Routed);
            let pod = world.pod("app1-ns", "pod", true);
            let mut node = node(&world, &ptp());
            assert_eq!(node.pass(), "");
            let mut outside = Capture::start("outside");
            let attach = |number: u8| {
                sh(&format!(
                "ip link add extra{number} address 02:00:00:00:00:0{number} type veth peer name net{number} netns pod
                 ip link set extra{number} up; ip -n pod link set net{number} up
                 ip -n pod route replace 203.0.113.0/24 dev net{number}
                 ip -n pod neigh replace 203.0.113.9 lladdr 02:00:00:00:00:0{number} dev net{number}"
            ));
            };
            attach(1);
            // Not the pod's own address: the first interface's rules would not know it.
            let mut out =
                |token| gets_out(&mut outside, &pod, "10.244.0.200", "203.0.113.9", token);
            assert!(out(10), "nobody guards a veth that no ADD named");
            assert_eq!(node.pass(), "");
            assert!(!out(20));
            let counted = nft("get element inet egress_warden dropped_if { extra1 }");
            assert!(counted.contains("counter packets 1 "), "{counted}");
            assert_eq!(
                interfaces(&pod),
                "eth0 lo net1",
                "it may stay, and carry nothing"
            );

            // A pod without its first interface is looked into all the same.
            sh("ip -n pod link del eth0; ip -n pod link del net1");
            assert_eq!(node.pass(), "");
            attach(2);
            assert!(out(30));
            assert_eq!(node.pass(), "");
            assert!(!out(40));
            assert_eq!(node.pass(), "", "found again, nothing changes");

            sh(
                "ip netns del pod; for i in $(seq 1000); do ip link show extra2 >/dev/null 2>&1 || exit 0; done; exit 1",
            );
            assert_eq!(node.pass(), "");
            assert!(world.guard().store().all().unwrap().is_empty());
            assert!(world.guard().elements_in_kernel().unwrap().is_empty());
        },
    );
}

/// Why admission asks for a user namespace where a pod asks for NET_ADMIN.
#[test]
fn a_user_namespace_keeps_net_admin_inside_the_pod() {
    sandboxed(
        "extra_interfaces::a_user_namespace_keeps_net_admin_inside_the_pod",
        || {
            let _world = World::new(Main::Routed);
            let mut pod = Command::new("unshare")
                .args(["--user", "--map-root-user", "--net", "sleep", "600"])
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let namespace = format!("/proc/{}/ns/net", pod.id());
            let own = std::fs::read_link("/proc/self/ns/net").unwrap();
            let end = Instant::now() + DEADLINE;
            while std::fs::read_link(&namespace).is_ok_and(|theirs| theirs == own) {
                assert!(Instant::now() < end, "the pod did not get its namespaces");
                std::thread::yield_now();
            }
            sh(&format!(
                "ip netns attach owned {}; ip link add host0 type veth peer name eth0 netns owned; ip link set host0 up; ip -n owned link set eth0 up
                 ip netns add lent; ip link add host1 type veth peer name eth0 netns lent; ip link set host1 up; ip -n lent link set eth0 up",
                pod.id()
            ));
            let uplink = uplink();
            let make = format!(
                "ip link add link if{uplink} link-netnsid 0 name mv0 type macvlan 2>&1 && echo made"
            );
            let lent = sh(&format!(
                "nsenter --net=/run/netns/lent bash -c '{make}' || true"
            ));
            let owned = sh(&format!(
                "nsenter --user --net --target {} bash -c '{make}; ip link add inner0 type dummy && echo own' || true",
                pod.id()
            ));
            pod.kill().unwrap();
            pod.wait().unwrap();
            assert_eq!(lent, "made");
            assert!(
                owned.contains("Operation not permitted") && !owned.contains("made"),
                "{owned}"
            );
        },
    );
}
