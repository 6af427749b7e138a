//! The node agent on a real kernel, with the reference plugins and a stand-in API server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use egress_cni::agent::cluster::{ApiServer, Cluster as _, TAINT};
use egress_cni::agent::install::NodePaths;
use egress_cni::agent::metrics::Metrics;
use egress_cni::agent::nflog::Log;
use egress_cni::agent::{Agent, Settings, attribute, tell_plugin, uninstall};
use serde_json::{Value, json};

use crate::api_server::{Fault, Stub, pod, slices};
use crate::packet::{Shape, Transport, build};
use crate::probe::{DEADLINE, send};
use crate::sandbox::{sandboxed, sh};
use crate::truth_table::{Bench, Location};
use crate::world::{Main, Pod, World, call, nft, plugin, reference};

pub(crate) struct Node {
    pub(crate) stub: Stub,
    paths: NodePaths,
    agent: Agent<ApiServer>,
    pub(crate) metrics: Arc<Metrics>,
    _doorbell: Receiver<()>,
}

pub(crate) fn node(world: &World, plugins: &Value) -> Node {
    let root = PathBuf::from("/run/world");
    for folder in ["net.d", "bin", "results", "kube", "etc"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for name in ["ptp", "host-local", "portmap"] {
        std::fs::copy(reference(name), root.join("bin").join(name)).unwrap();
    }
    let list_of_plugins = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins});
    std::fs::write(
        root.join("net.d/10-pods.conflist"),
        list_of_plugins.to_string(),
    )
    .unwrap();
    let stub = Stub::start(&root.join("kube"));
    stub.set_taints(&json!([{"key": TAINT, "effect": "NoSchedule"}]), "1");
    let paths = NodePaths {
        net_dir: root.join("net.d"),
        bin_dir: root.join("bin"),
        plugin_source: plugin(),
        entry: json!({"configFile": "/run/world/etc/config.json", "stateDir": world.state_dir, "nft": "/usr/sbin/nft"}),
    };
    let settings = Settings {
        config_source: world.config_file.clone(),
        config_file: root.join("etc/config.json"),
        results_dir: root.join("results"),
        paths: paths.clone(),
    };
    let metrics = Arc::new(Metrics::default());
    let (client, doorbell) = stub.client();
    let agent = Agent::new(settings, world.guard(), client, Arc::clone(&metrics));
    Node {
        stub,
        paths,
        agent,
        metrics,
        _doorbell: doorbell,
    }
}

pub(crate) fn ptp() -> Value {
    json!([{"type": "ptp", "ipam": {"type": "host-local", "dataDir": "/run/world/canary-ipam",
        "ranges": [[{"subnet": "10.244.9.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}, {"type": "portmap", "capabilities": {"portMappings": true}}])
}

impl Node {
    pub(crate) fn pass(&mut self) -> String {
        self.agent
            .pass()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Passes until all is well.
    fn mend(&mut self) {
        let end = Instant::now() + DEADLINE;
        loop {
            let errors = self.pass();
            if errors.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "{errors}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// These are the node's pods, and the agent has heard of it.
    fn pods(&self, pods: &[Value]) {
        self.stub.set_pods(pods);
        let wanted: BTreeSet<String> = pods
            .iter()
            .map(|pod| format!("{} {}", pod["metadata"]["name"], pod["metadata"]["labels"]))
            .collect();
        let end = Instant::now() + DEADLINE;
        let known = || -> BTreeSet<String> {
            let pods = self.agent.cluster().pods().unwrap_or_default();
            pods.into_iter()
                .map(|pod| format!("{} {}", json!(pod.name), json!(pod.identity.labels)))
                .collect()
        };
        while known() != wanted {
            assert!(Instant::now() < end, "{:?}", known());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A pod that the agent knows is what it is from its ADD on: a gateway pod may fetch at once, a pod with
/// exceptions has them. Nobody else is, and nobody waits for an agent that does not say anything but
/// who may be the gateway.
#[test]
fn pods_are_known_before_their_interface() {
    sandboxed("agent::pods_are_known_before_their_interface", || {
        let mut world = World::new(Main::Routed);
        let mut node = node(&world, &ptp());
        let known = |namespace: &str, name: &str, account: &str, uid: &str| {
            let mut pod = pod(namespace, name, account, &json!({"app": "chrony"}), false);
            pod["metadata"]["uid"] = json!(uid);
            pod
        };
        node.pods(&[
            known("istio-egress", "gateway", "egressgateway", "u1"),
            known("istio-egress", "other", "default", "u2"),
            known("clock", "clock", "default", "u3"),
        ]);
        node.mend();
        let pods = node.agent.cluster().pods().unwrap();
        tell_plugin(world.guard().store(), &pods).unwrap();
        for (namespace, name, uid, kind, waits) in [
            ("istio-egress", "gateway", "u1", "gateway", false),
            ("istio-egress", "other", "u2", "workload", false),
            // The same name, and another pod.
            ("istio-egress", "gateway", "u4", "workload", true),
            ("istio-egress", "gateway", "", "workload", false),
            ("app1-ns", "gateway", "u5", "workload", false),
            ("clock", "clock", "u3", "workload with exceptions", false),
            ("clock", "clock", "u6", "workload", false),
        ] {
            let case = format!("{namespace}/{name} {uid}");
            let added = world.pod("x", &format!("p{uid}{}", namespace.len()), false);
            let added = Pod {
                namespace: namespace.to_owned(),
                ..added
            };
            let mut environment = World::environment(&added);
            for (variable, value) in &mut environment {
                if *variable == "CNI_ARGS" {
                    *value = format!(
                        "K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}"
                    );
                }
            }
            let environment: Vec<_> = environment
                .iter()
                .map(|(variable, value)| (*variable, value.as_str()))
                .collect();
            let start = Instant::now();
            let config = world.chained(Some(&added.result));
            call(&plugin(), "ADD", &environment, &config).unwrap();
            assert_eq!(start.elapsed() > Duration::from_secs(2), waits, "{case}");
            let record = world.guard().store().get(&added.id()).unwrap().unwrap();
            let gateways = nft("list set inet egress_warden gateway_pod4");
            let found = match record.grants.len() {
                _ if gateways.contains(&added.v4.to_string()) => "gateway",
                0 => "workload",
                _ => "workload with exceptions",
            };
            assert_eq!(found, kind, "{case}");
        }
    });
}

/// What libcni writes about an attachment.
fn cached(pod: &Pod) {
    let entry = json!({
        "kind": "cniCacheV1", "containerId": pod.name, "config": "e30=", "ifName": "eth0", "networkName": "pods",
        "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", pod.namespace], ["K8S_POD_NAME", pod.name]],
        "result": pod.result
    });
    std::fs::write(
        format!("/run/world/results/pods-{}-eth0", pod.name),
        entry.to_string(),
    )
    .unwrap();
}

#[test]
fn installs_proves_adopts_repairs_and_goes() {
    sandboxed("agent::installs_proves_adopts_repairs_and_goes", || {
        use Transport::{TcpSyn, Udp};
        let mut world = World::new(Main::Routed);
        let neighbour = world.pod("app2-ns", "neighbour", false);
        let running = world.pod("clock", "running", false);
        let gateway = world.pod("istio-egress", "gateway", false);
        let mut bench = Bench::start(&neighbour);
        let mut node = node(&world, &ptp());
        sh(
            "echo '{\"broken\": 1}' > /run/world/results/other; echo text > /run/world/results/text",
        );
        for pod in [&neighbour, &running, &gateway] {
            cached(pod);
        }
        assert!(
            bench.reaches(&running, Location::Outside, "203.0.113.1", TcpSyn(443)),
            "not guarded yet"
        );

        // First pass: executable, chain, canary, running pods, taint.
        assert_eq!(node.pass(), "");
        assert_eq!(
            std::fs::read("/run/world/bin/egress-warden-cni").unwrap(),
            std::fs::read(plugin()).unwrap()
        );
        assert!(!bench.reaches(&running, Location::Outside, "203.0.113.1", TcpSyn(443)));
        assert!(
            node.metrics
                .render()
                .contains("egress_cni_canary_counted 1")
        );
        let taint = node
            .stub
            .requests()
            .into_iter()
            .find(|request| request.verb == "PATCH")
            .unwrap();
        assert_eq!(taint.body["spec"]["taints"], json!([]));
        assert!(
            world
                .guard()
                .store()
                .all()
                .unwrap()
                .iter()
                .all(|record| record.attachment.namespace != "egress-warden-canary")
        );
        assert_eq!(
            sh("ls /run/world/canary-ipam/pods | grep -c '^10' || true"),
            "0",
            "the canary gave its address back"
        );

        // Who a pod is comes from the API server and is followed.
        assert!(!bench.reaches(&gateway, Location::Outside, "203.0.113.1", TcpSyn(443)));
        let gateway_pod = pod(
            "istio-egress",
            "gateway",
            "egressgateway",
            &json!({}),
            false,
        );
        node.pods(&[
            gateway_pod.clone(),
            pod(
                "clock",
                "running",
                "default",
                &json!({"app": "chrony"}),
                false,
            ),
        ]);
        assert_eq!(node.pass(), "");
        assert!(bench.reaches(&gateway, Location::Outside, "203.0.113.1", TcpSyn(443)));
        assert!(bench.reaches(&running, Location::Outside, "203.0.113.123", Udp(123)));
        node.pods(&[
            gateway_pod.clone(),
            pod("clock", "running", "default", &json!({}), false),
        ]);
        assert_eq!(node.pass(), "");
        assert!(!bench.reaches(&running, Location::Outside, "203.0.113.123", Udp(123)));

        // Services are followed to their endpoints, wherever these lie.
        world.config["reachServices"] = json!(["default/kubernetes"]);
        world.config["gateway"]["services"] = json!(["istio-egress/gw"]);
        world.write_config();
        let slice = |address: &str, port: u16| {
            [
                json!({"addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [{"port": port, "protocol": "TCP"}]}),
            ]
        };
        node.stub
            .set_slices("default", "kubernetes", &slice("203.0.113.9", 6443));
        node.stub
            .set_slices("istio-egress", "gw", &slice("10.244.1.80", 8443));
        node.stub.fail(&slices("istio-egress"), Fault::Status(403));
        assert!(
            node.pass().contains("status 403"),
            "an unanswered question is reported"
        );
        assert_ne!(node.stub.taints(), json!([]), "and the node is tainted");
        assert!(!bench.reaches(&running, Location::Outside, "203.0.113.9", TcpSyn(6443)));
        assert!(bench.reaches(&running, Location::Cluster, "10.244.1.80", TcpSyn(15000)));
        node.stub.heal();
        node.mend();
        assert_eq!(node.stub.taints(), json!([]));
        assert!(bench.reaches(&running, Location::Outside, "203.0.113.9", TcpSyn(6443)));
        assert!(!bench.reaches(&running, Location::Cluster, "10.244.1.80", TcpSyn(15000)));

        // A broken configuration replaces nothing, and shows.
        std::fs::write(&world.config_file, "{}").unwrap();
        assert_eq!(node.pass(), "");
        assert!(
            node.metrics
                .render()
                .contains("egress_cni_config_rejected 1")
        );
        assert!(bench.reaches(&running, Location::Outside, "203.0.113.9", TcpSyn(6443)));
        world.write_config();

        // Whatever is taken away or put there comes back as it was.
        for damage in [
            "flush ruleset".to_owned(),
            "delete table bridge egress_warden".to_owned(),
            "flush chain inet egress_warden forward".to_owned(),
            "flush set inet egress_warden guarded_if".to_owned(),
            "flush set inet egress_warden pod4".to_owned(),
            format!(
                "add element inet egress_warden count_only4 {{ {} }}",
                running.v4
            ),
            "add element inet egress_warden cluster4 { 203.0.113.0/24 }".to_owned(),
            "add element inet egress_warden reach4 { 203.0.113.1 . tcp . 443 }".to_owned(),
            "insert rule inet egress_warden forward accept".to_owned(),
        ] {
            nft(&damage);
            assert_eq!(node.pass(), "", "{damage}");
            assert!(
                !bench.reaches(&running, Location::Outside, "203.0.113.1", TcpSyn(443)),
                "{damage}"
            );
        }
        let conflist = Path::new("/run/world/net.d/10-pods.conflist");
        let mut tampered: Value =
            serde_json::from_slice(&std::fs::read(conflist).unwrap()).unwrap();
        tampered["plugins"].as_array_mut().unwrap().remove(1);
        std::fs::write(conflist, tampered.to_string()).unwrap();
        assert_eq!(node.pass(), "");
        assert!(
            std::fs::read_to_string(conflist)
                .unwrap()
                .contains("egress-warden-cni")
        );

        // A pod that went without a DEL is forgotten with its interface.
        let before = world.guard().store().all().unwrap().len();
        sh(
            "rm /run/world/results/pods-gateway-eth0; ip netns del gateway; for i in $(seq 1000); do ip link show cali4 >/dev/null 2>&1 || exit 0; done; exit 1",
        );
        assert_eq!(node.pass(), "");
        assert_eq!(world.guard().store().all().unwrap().len(), before - 1);

        let in_force = Path::new("/run/world/etc/config.json");
        assert!(in_force.exists());
        uninstall(&node.paths, in_force, world.guard()).unwrap();
        assert!(!in_force.exists());
        assert_eq!(sh("nft list tables | grep egress || true"), "");
        assert!(
            !std::fs::read_to_string(conflist)
                .unwrap()
                .contains("egress-warden-cni")
        );
        assert!(
            !Path::new("/run/world/bin/egress-warden-cni").exists() && !world.state_dir.exists()
        );
        assert!(bench.reaches(&running, Location::Outside, "203.0.113.1", TcpSyn(443)));
    });
}

#[test]
fn a_datapath_that_skips_netfilter_keeps_the_node_tainted() {
    sandboxed(
        "agent::a_datapath_that_skips_netfilter_keeps_the_node_tainted",
        || {
            let world = World::new(Main::Routed);
            let mut node = node(&world, &json!([{"type": "skipping"}]));
            std::fs::write("/run/world/bin/skipping", SKIPPING_PLUGIN).unwrap();
            sh("chmod 755 /run/world/bin/skipping");
            // The canary gives up at its deadline: this is the one test that waits for one.
            let errors = node.pass();
            assert!(errors.contains("not counted"), "{errors}");
            assert!(node.metrics.render().contains("egress_cni_ready 0"));
            assert!(
                node.stub
                    .requests()
                    .iter()
                    .all(|request| request.verb != "PATCH"),
                "the taint stays"
            );
            // The same plugin without the short cut is proven at once.
            sh("sed -i '/fwd to up0/d' /run/world/bin/skipping");
            assert_eq!(node.pass(), "");
        },
    );
}

/// A main plugin whose datapath takes packets from the pod's device straight to the uplink, as
/// eBPF host routing does: netfilter's forward hook never sees them.
const SKIPPING_PLUGIN: &str = r#"#!/bin/bash
set -eu
if [ "$CNI_COMMAND" = ADD ]; then
  ip link add canary0 type veth peer name canary1
  ip link set canary0 address 02:00:00:00:00:01 up
  tid=${CNI_NETNS#*/task/}; tid=${tid%%/*}
  ip link set canary1 netns "$tid"
  nsenter --net="$CNI_NETNS" sh -c 'ip link set canary1 name eth0; ip addr add 10.244.8.2/32 dev eth0; ip link set eth0 up
    ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1
    ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent'
  nft add table netdev skipping
  nft add chain netdev skipping in '{ type filter hook ingress device canary0 priority 0; }'
  nft add rule netdev skipping in fwd to up0
  echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "'"$CNI_NETNS"'"}], "ips": [{"address": "10.244.8.2/32", "interface": 0}]}'
else
  nft delete table netdev skipping || true
  ip link del canary0 || true
fi
"#;

#[test]
fn refusals_become_metrics_with_pod_protocol_and_port() {
    sandboxed(
        "agent::refusals_become_metrics_with_pod_protocol_and_port",
        || {
            {
                let mut world = World::new(Main::Bridge);
                let pod = world.pod("app1-ns", "pod", true);
                let other = world.pod("app2-ns", "other", true);
                let log = Log::open().unwrap();
                let metrics = Metrics::default();
                for (from, to, transport) in [
                    (pod.v4, "203.0.113.1", Transport::TcpSyn(443)),
                    (pod.v6, "2001:db8:f::1", Transport::Udp(443)),
                    (pod.v4, "203.0.113.1", Transport::Echo),
                    (pod.v4, "203.0.113.1", Transport::Gre),
                    // Not its own source: attributed by the veth, not to whom it names.
                    (other.v4, "203.0.113.1", Transport::Udp(4000)),
                    // Port to port on the bridge.
                    (pod.v4, "{other}", Transport::Udp(53)),
                ] {
                    let to = if to == "{other}" {
                        other.v4
                    } else {
                        to.parse().unwrap()
                    };
                    send(&pod.name, to, &build(from, to, transport, Shape::Plain, 1));
                }
                let records = world.guard().store().all().unwrap();
                let end = Instant::now() + DEADLINE;
                let mut seen = 0;
                while seen < 6 {
                    assert!(
                        Instant::now() < end,
                        "only {seen} refusals were logged: {}",
                        metrics.render()
                    );
                    for refusal in log.next().unwrap() {
                        let name = attribute(&records, &refusal).expect("every refusal has a pod");
                        metrics.attempt(&name, &refusal.flow);
                        seen += 1;
                    }
                }
                let text = metrics.render();
                for (protocol, port) in [
                    ("tcp", "443"),
                    ("udp", "443"),
                    ("icmp", "none"),
                    ("gre", "none"),
                    ("udp", "4000"),
                    ("udp", "53"),
                ] {
                    let line = format!(
                        "egress_bypass_attempts_total{{namespace=\"app1-ns\",pod=\"pod\",protocol=\"{protocol}\",port=\"{port}\"}} 1\n"
                    );
                    assert!(text.contains(&line), "{line}{text}");
                }
                // The log is limited per pod, the counter is not.
                let before = world.refused(&pod);
                let flood: Vec<Vec<u8>> = (0..500)
                    .flat_map(|token| {
                        build(
                            pod.v4,
                            "203.0.113.1".parse().unwrap(),
                            Transport::Udp(9),
                            Shape::Plain,
                            token,
                        )
                    })
                    .collect();
                send(&pod.name, "203.0.113.1".parse().unwrap(), &flood);
                assert_eq!(world.refused(&pod), before + 500);
            }
        },
    );
}
