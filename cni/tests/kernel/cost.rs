//! What the node guard costs with one pod and with five thousand, as ratios within one run.

use std::io::Write as _;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use egress_cni::attachment::{Attachment, AttachmentId};
use egress_cni::config::NodeConfig;
use egress_cni::guard::Guard;
use egress_cni::nft::Nft;
use egress_cni::store::{Record, Store};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde_json::json;

use crate::probe::inside;
use crate::sandbox::{sandboxed, sh};
use crate::world::plugin;

const MANY: u16 = 5000;
const ROUNDS: usize = 31;
const PACKETS: u32 = 4000;
/// The most that five thousand pods may cost compared to one.
const LIMIT: f64 = 1.3;

const CONFIG: &str = r#"{"exemptNamespaces": [], "clusterNetworks": ["10.244.0.0/16"], "dns": {"addresses": ["10.244.255.53"]}}"#;

/// A node in its own network namespace, with one real pod and `pods - 1` others.
struct Node {
    name: &'static str,
    guard: Guard,
}

impl Node {
    fn new(name: &'static str, pods: u16) -> Self {
        sh(&format!(
            "ip netns add {name}; ip netns add {name}-pod; ip netns add {name}-out
             ip netns exec {name} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
             ip -n {name} link add host0 type veth peer name eth0 netns {name}-pod
             ip -n {name} link add up0 type veth peer name eth0 netns {name}-out
             ip -n {name} addr add 10.244.0.1/32 dev host0; ip -n {name} link set host0 up
             ip -n {name} addr add 192.0.2.1/24 dev up0; ip -n {name} link set up0 up
             ip -n {name} route add 10.244.128.2 dev host0
             ip -n {name}-pod addr add 10.244.128.2/32 dev eth0; ip -n {name}-pod link set eth0 up
             ip -n {name}-pod route add 10.244.0.1 dev eth0; ip -n {name}-pod route add default via 10.244.0.1
             ip -n {name}-out addr add 192.0.2.2/24 dev eth0; ip -n {name}-out addr add 10.244.255.1/32 dev eth0
             ip -n {name}-out link set eth0 up; ip -n {name}-out route add default via 192.0.2.1
             ip netns exec {name}-out sh -c 'echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all; nft add table ip quiet;
               nft add chain ip quiet input \"{{ type filter hook input priority 0; policy drop; }}\"'
             ip -n {name} route add default via 192.0.2.2; ip -n {name} route add 10.244.255.0/24 via 192.0.2.2"
        ));
        let root = PathBuf::from(format!("/run/{name}"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("config.json"), CONFIG).unwrap();
        let guard = Guard::new(
            Store::open(&root.join("state")).unwrap(),
            Nft::new("/usr/sbin/nft".into()),
        );
        let locked = guard.store().lock().unwrap();
        for number in 0..pods {
            let (link, address) = if number == 0 {
                ("host0".to_owned(), "10.244.128.2".to_owned())
            } else {
                (
                    format!("veth{number}"),
                    format!("10.244.{}.{}", number / 200, 10 + number % 200),
                )
            };
            let attachment = Attachment {
                id: AttachmentId {
                    container_id: format!("pod{number}"),
                    ifname: "eth0".to_owned(),
                },
                network: "pods".to_owned(),
                namespace: "app".to_owned(),
                pod: format!("pod{number}"),
                host_link: link.try_into().unwrap(),
                addresses: vec![address.parse().unwrap()],
            };
            guard
                .store()
                .put(&locked, &Record::new(attachment, None))
                .unwrap();
        }
        let config = NodeConfig::parse("cost", CONFIG).unwrap();
        inside(name, || guard.rebuild(&locked, &config).unwrap());
        drop(locked);
        sh(&format!(
            "nsenter --net=/run/netns/{name}-pod bash -c 'echo > /dev/udp/10.244.0.1/7'"
        ));
        Self { name, guard }
    }

    /// Nanoseconds of processor time that sending [`PACKETS`] from the pod takes, forwarding
    /// included: on veth it happens in the sender's own context.
    fn packets(&self, to: &str) -> f64 {
        inside(&format!("{}-pod", self.name), || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            let before = processor_time();
            for _ in 0..PACKETS {
                // An ICMP error of an earlier packet may be reported here; it changes nothing.
                let _ = socket.send(b"payload");
            }
            processor_time() - before
        })
    }

    /// Nanoseconds of processor time that one ADD takes, `nft` included; the DEL after it is not
    /// measured.
    fn add(&self, round: usize) -> f64 {
        let config = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "egress-warden-cni", "nft": "/usr/sbin/nft",
            "configFile": format!("/run/{}/config.json", self.name), "stateDir": format!("/run/{}/state", self.name),
            "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "x"}],
                "ips": [{"address": "10.244.250.9/32", "interface": 0}]}
        });
        let call = |verb: &str| {
            inside(self.name, || {
                let before = children_time();
                let mut child = Command::new(plugin())
                    .env_clear()
                    .env("CNI_COMMAND", verb)
                    .env("CNI_CONTAINERID", format!("round{round}"))
                    .env("CNI_IFNAME", "eth0")
                    .env("CNI_NETNS", format!("/run/netns/{}-pod", self.name))
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
                child
                    .stdin
                    .take()
                    .unwrap()
                    .write_all(config.to_string().as_bytes())
                    .unwrap();
                assert!(child.wait().unwrap().success(), "{verb}");
                children_time() - before
            })
        };
        let time = call("ADD");
        call("DEL");
        time
    }
}

/// This thread's time on a processor, in nanoseconds.
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The time on a processor of all children that have ended, and of theirs, in nanoseconds.
fn children_time() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let nanoseconds =
        |time: TimeVal| f64::from(i32::try_from(time.num_microseconds()).unwrap()) * 1e3;
    nanoseconds(usage.user_time()) + nanoseconds(usage.system_time())
}

/// The ratio of the quickest rounds: other work on the machine only ever adds time.
fn ratio(name: &str, measure: impl Fn(&Node, usize) -> f64, one: &Node, many: &Node) -> f64 {
    let (mut least_one, mut least_many) = (f64::MAX, f64::MAX);
    for round in 0..ROUNDS {
        least_one = least_one.min(measure(one, round));
        least_many = least_many.min(measure(many, round));
    }
    let ratio = least_many / least_one;
    println!("{name}: {ratio:.2} times with {MANY} pods what it takes with one");
    ratio
}

#[test]
fn five_thousand_pods_cost_no_more_than_one() {
    sandboxed("cost::five_thousand_pods_cost_no_more_than_one", || {
        let (one, many) = (Node::new("one", 1), Node::new("many", MANY));
        assert_eq!(many.guard.store().all().unwrap().len(), usize::from(MANY));
        let passing = ratio(
            "a packet that passes",
            |node, _| node.packets("10.244.255.1:9"),
            &one,
            &many,
        );
        let refused = ratio(
            "a packet that is dropped",
            |node, _| node.packets("192.0.2.2:9"),
            &one,
            &many,
        );
        let add = ratio("an ADD", Node::add, &one, &many);
        assert!(passing <= LIMIT && refused <= LIMIT && add <= LIMIT);
    });
}
