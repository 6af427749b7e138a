//! How much of the gateway one pod may take, before anybody knows who it is.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::attack::{connect, echo_server, ping_pong};
use crate::packet::{Shape, Transport, build};
use crate::probe::{Capture, DEADLINE, send};
use crate::sandbox::sandboxed;
use crate::world::{Main, Pod, World, nft};

/// The gateway's port on another node, for each address family.
const GATEWAY: [&str; 2] = ["10.244.1.7:8443", "[fd00:10:244:1::7]:8443"];

/// Another server of the cluster.
const SERVER: [&str; 2] = ["10.244.1.80:8080", "[fd00:10:244:1::80]:8080"];

/// How long a refused connection is waited for: its SYN is dropped, so nothing ever comes.
const SILENCE: Duration = Duration::from_secs(2);

fn world(main: Main, connections: u32, rate: u32, burst: u32) -> World {
    let mut world = World::new(main);
    world.config["gateway"]["limits"] = json!({
        "connections": connections, "newConnectionsPerSecond": rate, "burst": burst,
    });
    world.write_config();
    world
}

/// Connections that were dropped over the limit, from the kernel's counters.
fn limited(world: &World, pod: &Pod) -> u64 {
    let record = world.guard().store().get(&pod.id()).unwrap().unwrap();
    let scripts = [
        format!("get element inet egress_warden limited4 {{ {} }}", pod.v4),
        format!("get element inet egress_warden limited6 {{ {} }}", pod.v6),
        format!(
            "get element bridge egress_warden limited_if {{ {} }}",
            record.attachment.host_link
        ),
    ];
    let packets = |script: &String| -> u64 {
        let text = nft(script);
        let (_, rest) = text.split_once("counter packets ").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    scripts.iter().map(packets).sum()
}

/// Opens one more and says whether it stands.
fn opens(pod: &Pod, to: SocketAddr, flows: &mut Vec<TcpStream>) -> bool {
    let flow = connect(&pod.name, to, SILENCE);
    let stands = flow.is_some();
    flows.extend(flow);
    stands
}

fn connections_that_stand(main: Main) {
    const MOST: usize = 5;
    let mut world = world(main, 5, 1000, 1000);
    let (greedy, other) = (
        world.pod("app1-ns", "greedy", true),
        world.pod("app2-ns", "other", true),
    );
    for (gateway, server) in GATEWAY.iter().zip(SERVER) {
        let gateway = echo_server("cluster", gateway);
        let server = echo_server("cluster", server);
        let (mut flows, mut others, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..MOST {
            assert!(opens(&greedy, gateway, &mut flows), "{gateway}, {number}");
        }
        let before = limited(&world, &greedy);
        assert!(!opens(&greedy, gateway, &mut flows), "{gateway}: one more");
        assert!(limited(&world, &greedy) > before, "and it is counted");
        for number in 0..MOST {
            assert!(
                opens(&other, gateway, &mut others),
                "{gateway}: another pod has all of its own, {number}"
            );
            assert!(
                opens(&greedy, server, &mut elsewhere),
                "{server}: what is no gateway is not limited, {number}"
            );
            assert!(opens(&greedy, server, &mut elsewhere), "{server}, {number}");
        }
        assert_eq!(limited(&world, &other), 0);
        assert_eq!(
            world.refused(&greedy),
            0,
            "a limit is no attempt to get round"
        );
        for flow in &mut flows {
            assert!(ping_pong(flow), "{gateway}: what stands goes on");
        }
        // What is closed is given back, and no reload forgets what stands.
        let guard = world.guard();
        let locked = guard.store().lock().unwrap();
        guard
            .refresh(
                &locked,
                &world.node_config(),
                &guard.store().followed().unwrap(),
            )
            .unwrap();
        drop(locked);
        assert!(!opens(&greedy, gateway, &mut flows), "{gateway}: reloaded");
        drop(flows.pop());
        let end = Instant::now() + DEADLINE;
        while !opens(&greedy, gateway, &mut flows) {
            assert!(Instant::now() < end, "{gateway}: never given back");
        }
        assert!(!opens(&greedy, gateway, &mut flows), "{gateway}: again");
    }
    // Nothing is left of a pod that is gone.
    let counted = || {
        ["gateway_open4", "gateway_open6"]
            .map(|set| nft(&format!("list set inet egress_warden {set}")))
            .concat()
    };
    assert!(world.verb("DEL", &greedy).is_ok());
    for address in [greedy.v4, greedy.v6] {
        assert!(!counted().contains(&format!("{address} ")), "{}", counted());
    }
}

/// Sends `count` SYNs to the gateway at once; how many arrived, and the seconds it took.
fn syns(pod: &Pod, to: &str, capture: &mut Capture, first: u64, count: u64) -> (u64, u64) {
    let to: SocketAddr = to.parse().unwrap();
    let source = pod.address(to.is_ipv6());
    let began = Instant::now();
    let packets: Vec<_> = (first..first + count)
        .flat_map(|token| {
            build(
                source,
                to.ip(),
                Transport::TcpSyn(to.port()),
                Shape::Plain,
                token,
            )
        })
        .collect();
    send(&pod.name, to.ip(), &packets);
    let took = began.elapsed().as_secs() + 1;
    // One that nothing limits, behind them.
    let marker = build(
        source,
        to.ip(),
        Transport::Udp(9),
        Shape::Plain,
        first + count,
    );
    send(&pod.name, to.ip(), &marker);
    let arrived = |capture: &mut Capture| {
        (first..first + count)
            .filter(|token| capture.has(*token))
            .count()
    };
    // The first of them always passes.
    assert!(capture.wait(first), "{to}");
    (u64::try_from(arrived(capture)).unwrap(), took)
}

fn new_connections(main: Main) {
    const BURST: u64 = 3;
    const TRIED: u64 = 40;
    let mut world = world(main, 1000, 1, 3);
    let (greedy, other) = (
        world.pod("app1-ns", "greedy", true),
        world.pod("app2-ns", "other", true),
    );
    let mut cluster = Capture::start("cluster");
    let mut token = 10_000;
    for to in GATEWAY {
        let before = limited(&world, &greedy);
        let (passed, took) = syns(&greedy, to, &mut cluster, token, TRIED);
        assert!(
            (1..=BURST + took + 1).contains(&passed),
            "{main:?} {to}: {passed}"
        );
        assert_eq!(
            limited(&world, &greedy) - before,
            TRIED - passed,
            "{main:?} {to}: what did not pass is counted"
        );
        token += TRIED + 1;
        let (passed, _) = syns(&other, to, &mut cluster, token, BURST);
        assert_eq!(passed, BURST, "{main:?} {to}: another pod has its own");
        token += BURST + 1;
    }
}

#[test]
fn one_pod_has_so_many_connections_to_the_gateway_and_no_more() {
    sandboxed(
        "limits::one_pod_has_so_many_connections_to_the_gateway_and_no_more",
        || connections_that_stand(Main::Bridge),
    );
}

#[test]
fn one_pod_has_so_many_connections_to_the_gateway_behind_ptp() {
    sandboxed(
        "limits::one_pod_has_so_many_connections_to_the_gateway_behind_ptp",
        || connections_that_stand(Main::Ptp),
    );
}

#[test]
fn one_pod_opens_so_many_in_a_second_and_no_more() {
    sandboxed(
        "limits::one_pod_opens_so_many_in_a_second_and_no_more",
        || new_connections(Main::Bridge),
    );
}

#[test]
fn one_pod_opens_so_many_in_a_second_behind_a_routed_link() {
    sandboxed(
        "limits::one_pod_opens_so_many_in_a_second_behind_a_routed_link",
        || new_connections(Main::Routed),
    );
}

/// Port to port on one bridge nothing is tracked: the rate holds, the number does not.
#[test]
fn the_rate_holds_between_ports_of_one_bridge() {
    sandboxed("limits::the_rate_holds_between_ports_of_one_bridge", || {
        let mut world = world(Main::Bridge, 1000, 1, 3);
        let gateway = world.pod("istio-egress", "gateway", true);
        world.config["gateway"]["addresses"] = json!([gateway.v4, gateway.v6]);
        world.write_config();
        world.identify(&gateway, "egressgateway", &[]);
        let guard = world.guard();
        let locked = guard.store().lock().unwrap();
        guard.rebuild(&locked, &world.node_config()).unwrap();
        drop(locked);
        let mut arriving = Capture::start("gateway");
        let mut token = 20_000;
        // The budget is the link's, whatever the family.
        for (address, name) in [(gateway.v4, "four"), (gateway.v6, "six")] {
            let to = SocketAddr::new(address, 8443).to_string();
            let greedy = world.pod("app1-ns", name, true);
            let other = world.pod("app2-ns", &format!("other{name}"), true);
            let before = limited(&world, &greedy);
            let (passed, took) = syns(&greedy, &to, &mut arriving, token, 40);
            assert!((1..=3 + took + 1).contains(&passed), "{to}: {passed}");
            assert_eq!(limited(&world, &greedy) - before, 40 - passed, "{to}");
            token += 41;
            let (passed, _) = syns(&other, &to, &mut arriving, token, 3);
            assert_eq!(passed, 3, "{to}: another pod has its own");
            token += 4;
        }
    });
}

#[test]
fn a_namespace_that_is_only_counted_is_not_limited() {
    sandboxed(
        "limits::a_namespace_that_is_only_counted_is_not_limited",
        || {
            let mut world = world(Main::Bridge, 1000, 1, 3);
            world.config["countOnlyNamespaces"] = json!(["app1-ns"]);
            world.write_config();
            let pod = world.pod("app1-ns", "pod", true);
            let mut cluster = Capture::start("cluster");
            let (passed, took) = syns(&pod, GATEWAY[0], &mut cluster, 1, 40);
            assert_eq!(passed, 40);
            assert!(limited(&world, &pod) >= 40 - 3 - took - 1);
        },
    );
}

/// The kernel passes over another definition of a set that it has; the node guard does not.
#[test]
fn changed_limits_reach_running_pods() {
    sandboxed("limits::changed_limits_reach_running_pods", || {
        let mut world = world(Main::Bridge, 1000, 1000, 1000);
        let pod = world.pod("app1-ns", "pod", true);
        let gateway = echo_server("cluster", GATEWAY[0]);
        let mut flows = Vec::new();
        for connections in [4, 6] {
            world.config["gateway"]["limits"]["connections"] = json!(connections);
            world.write_config();
            let guard = world.guard();
            let locked = guard.store().lock().unwrap();
            let followed = guard.store().followed().unwrap();
            guard
                .refresh(&locked, &world.node_config(), &followed)
                .unwrap();
            drop(locked);
            flows.clear();
            for number in 0..connections {
                assert!(opens(&pod, gateway, &mut flows), "{connections}, {number}");
            }
            assert!(!opens(&pod, gateway, &mut flows), "{connections}: one more");
        }
    });
}
