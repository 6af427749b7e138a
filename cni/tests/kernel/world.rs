//! A node, its pods, the rest of the cluster and the outside, all in network namespaces.
//!
//! ```text
//! pods ── main plugin ── node ── up0 ── outside   192.0.2.254, 203.0.113.0/24, metadata, …
//!                          └──── cl0 ── cluster   10.244.1.0/24: other node's pods
//! ```
//! The node forwards, DNATs Services like kube-proxy, and has somebody else's nftables and
//! iptables rules, which must be the same afterwards.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use egress_cni::attachment::{AttachmentId, PodIdentity};
use egress_cni::config::NodeConfig;
use egress_cni::guard::Guard;
use egress_cni::nft::Nft;
use egress_cni::store::{Record, Store};
use serde_json::{Value, json};

use crate::probe::netns_path;
use crate::sandbox::sh;

/// How the pod's interface is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Main {
    /// The reference `bridge` plugin; bridged frames do not see the routed hooks.
    Bridge,
    /// The reference `bridge` plugin with `br_netfilter` and masquerading.
    BridgeNetfilter,
    /// The reference `ptp` plugin with masquerading.
    Ptp,
    /// A host-routed veth as Calico makes it: a /32 on the pod, a route on the host.
    Routed,
}

/// A pod that was attached.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) v4: IpAddr,
    pub(crate) v6: IpAddr,
    pub(crate) result: Value,
}

impl Pod {
    pub(crate) fn address(&self, six: bool) -> IpAddr {
        if six { self.v6 } else { self.v4 }
    }

    pub(crate) fn id(&self) -> AttachmentId {
        AttachmentId {
            container_id: self.name.clone(),
            ifname: "eth0".to_owned(),
        }
    }
}

/// The whole arrangement.
pub(crate) struct World {
    pub(crate) main: Main,
    pub(crate) state_dir: PathBuf,
    pub(crate) config_file: PathBuf,
    pub(crate) config: Value,
    next: u8,
}

/// The plugin under test.
pub(crate) fn plugin() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_egress-warden-cni"))
}

/// The path of a reference plugin.
pub(crate) fn reference(name: &str) -> PathBuf {
    let folders = [
        std::env::var("CNI_PLUGINS").unwrap_or_default(),
        "/usr/lib/cni".into(),
        "/opt/cni/bin".into(),
    ];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("the reference CNI plugin `{name}` is missing: install containernetworking-plugins")
    })
}

/// One call of a plugin over environment and standard input.
pub(crate) fn call(
    program: &Path,
    verb: &str,
    env: &[(&str, &str)],
    config: &Value,
) -> Result<Value, Value> {
    let mut child = Command::new(program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CNI_COMMAND", verb)
        .env("CNI_PATH", "/usr/lib/cni:/opt/cni/bin")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A plugin that answers without reading its input is allowed to.
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(config.to_string().as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if output.status.success() {
        Ok(value)
    } else if value.is_null() {
        Err(json!({"stdout": text, "stderr": String::from_utf8_lossy(&output.stderr)}))
    } else {
        Err(value)
    }
}

impl World {
    pub(crate) fn new(main: Main) -> Self {
        let root = PathBuf::from("/run/world");
        std::fs::create_dir_all(&root).unwrap();
        sh(TOPOLOGY);
        sh(match main {
            Main::BridgeNetfilter => {
                "for f in iptables ip6tables; do echo 1 > /proc/sys/net/bridge/bridge-nf-call-$f; done"
            }
            Main::Bridge | Main::Ptp | Main::Routed => {
                "for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo 0 > $f; done"
            }
        });
        let mut world = Self {
            main,
            state_dir: root.join("state"),
            config_file: root.join("config.json"),
            config: json!({
                "exemptNamespaces": ["kube-system"],
                "clusterNetworks": ["10.244.0.0/16", "fd00:10:244::/56"],
                "serviceNetworks": ["10.96.0.0/16"],
                "dns": {"addresses": ["10.244.1.53", "fd00:10:244:1::53", "169.254.20.10"]},
                "reach": [{"networks": ["203.0.113.64/32"], "protocol": "TCP", "ports": [6443]}],
                "gateway": {
                    "namespace": "istio-egress", "serviceAccount": "egressgateway",
                    "addresses": ["10.244.1.7", "fd00:10:244:1::7"], "ports": [8443],
                    "reach": [{"networks": ["10.244.1.12/32"], "protocol": "TCP", "ports": [15012]}]
                },
                "udpExceptions": [{"name": "ntp", "namespaces": ["clock"], "matchLabels": {"app": "chrony"},
                    "networks": ["203.0.113.123/32", "2001:db8:f::123/128"], "ports": [123]}]
            }),
            next: 2,
        };
        world.write_config();
        world
    }

    /// Writes the configuration file, as the agent would.
    pub(crate) fn write_config(&mut self) {
        std::fs::write(&self.config_file, self.config.to_string()).unwrap();
    }

    pub(crate) fn node_config(&self) -> NodeConfig {
        NodeConfig::load(&self.config_file).unwrap()
    }

    pub(crate) fn guard(&self) -> Guard {
        Guard::new(
            Store::open(&self.state_dir).unwrap(),
            Nft::new("/usr/sbin/nft".into()),
        )
    }

    /// What the agent does when the API server tells it about a pod.
    pub(crate) fn identify(&self, pod: &Pod, service_account: &str, labels: &[(&str, &str)]) {
        let guard = self.guard();
        let locked = guard.store().lock().unwrap();
        let record = guard.store().get(&pod.id()).unwrap().unwrap();
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let identity = Some(PodIdentity {
            service_account: service_account.to_owned(),
            labels,
            uid: String::new(),
        });
        guard
            .admit(&locked, &self.node_config(), Record { identity, ..record })
            .unwrap();
    }

    /// The plugin's part of the conflist.
    pub(crate) fn chained(&self, previous: Option<&Value>) -> Value {
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "egress-warden-cni",
            "configFile": self.config_file, "stateDir": self.state_dir, "nft": "/usr/sbin/nft"
        });
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        config
    }

    /// Makes a pod; with `guard` the chain ends in the plugin under test.
    pub(crate) fn pod(&mut self, namespace: &str, name: &str, guard: bool) -> Pod {
        sh(&format!(
            "ip netns add {name}; ip -n {name} link set lo up
             ip netns exec {name} sh -c 'for f in all default; do echo 0 > /proc/sys/net/ipv6/conf/$f/accept_dad; done'"
        ));
        let number = self.next;
        self.next += 1;
        let result = self.main_add(name, number);
        let address = |six: bool| -> IpAddr {
            let ips = result["ips"].as_array().unwrap();
            let text = ips
                .iter()
                .map(|ip| ip["address"].as_str().unwrap())
                .find(|ip| ip.contains(':') == six)
                .unwrap();
            text.split('/').next().unwrap().parse().unwrap()
        };
        let (v4, v6) = (address(false), address(true));
        let mut pod = Pod {
            name: name.into(),
            namespace: namespace.into(),
            v4,
            v6,
            result,
        };
        if guard {
            let passed_on = self
                .verb("ADD", &pod)
                .unwrap_or_else(|error| panic!("ADD: {error}"));
            assert_eq!(
                passed_on, pod.result,
                "the previous result is handed on unchanged"
            );
            pod.result = passed_on;
        }
        pod
    }

    /// Calls the plugin under test for `pod`.
    pub(crate) fn verb(&self, verb: &str, pod: &Pod) -> Result<Value, Value> {
        call(
            &plugin(),
            verb,
            &Self::environment(pod)
                .iter()
                .map(|(k, v)| (*k, v.as_str()))
                .collect::<Vec<_>>(),
            &self.chained(Some(&pod.result)),
        )
    }

    pub(crate) fn environment(pod: &Pod) -> Vec<(&'static str, String)> {
        vec![
            ("CNI_CONTAINERID", pod.name.clone()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_NETNS", netns_path(&pod.name).display().to_string()),
            (
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={}",
                    pod.namespace, pod.name
                ),
            ),
        ]
    }

    fn main_add(&self, name: &str, number: u8) -> Value {
        if self.main == Main::Routed {
            return routed(name, number);
        }
        let ipam = json!({
            "type": "host-local", "dataDir": "/run/world/ipam",
            "ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00:10:244::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
        });
        let masquerade = self.main != Main::Bridge;
        let config = match self.main {
            Main::Ptp => {
                json!({"cniVersion": "1.0.0", "name": "pods", "type": "ptp", "ipMasq": masquerade, "ipam": ipam})
            }
            Main::Bridge | Main::BridgeNetfilter | Main::Routed => {
                json!({"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isGateway": true,
                "hairpinMode": true, "ipMasq": masquerade, "ipam": ipam})
            }
        };
        let netns = netns_path(name).display().to_string();
        let env = [
            ("CNI_CONTAINERID", name),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", netns.as_str()),
        ];
        let program = reference(config["type"].as_str().unwrap());
        reference("host-local");
        let result = call(&program, "ADD", &env, &config)
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut portmap = json!({"cniVersion": "1.0.0", "name": "pods", "type": "portmap", "snat": true,
            "capabilities": {"portMappings": true}, "prevResult": result});
        portmap["runtimeConfig"] = json!({"portMappings": [{"hostPort": 30000 + u32::from(number), "containerPort": 80, "protocol": "tcp"}]});
        call(&reference("portmap"), "ADD", &env, &portmap)
            .unwrap_or_else(|error| panic!("portmap: {error}"))
    }

    /// Packets refused for `pod`, from the counters in the kernel's sets.
    pub(crate) fn refused(&self, pod: &Pod) -> u64 {
        let record = self
            .guard()
            .store()
            .get(&pod.id())
            .unwrap()
            .expect("the pod has a record");
        let link = record.attachment.host_link;
        // Families apart: nft 1.0.6 keeps only one in its cache.
        let scripts = [
            format!(
                "get element inet egress_warden dropped4 {{ {} }}
                 get element inet egress_warden dropped6 {{ {} }}
                 get element inet egress_warden dropped_if {{ {link} }}",
                pod.v4, pod.v6
            ),
            format!("get element bridge egress_warden dropped_if {{ {link} }}"),
        ];
        let packets = |script: &String| -> u64 {
            let text = nft(script);
            let counts = text.split("counter packets ").skip(1);
            counts
                .map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap())
                .sum()
        };
        scripts.iter().map(packets).sum()
    }
}

/// Runs an nft script that has to succeed, and returns what it prints.
pub(crate) fn nft(script: &str) -> String {
    let mut child = Command::new("/usr/sbin/nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft: {script}");
    String::from_utf8(output.stdout).unwrap()
}

/// A veth as Calico makes it.
fn routed(name: &str, number: u8) -> Value {
    let host = format!("cali{number}");
    sh(&format!(
        "ip link add {host} type veth peer name eth0 netns {name}
         echo 1 > /proc/sys/net/ipv4/conf/{host}/proxy_arp
         echo 0 > /proc/sys/net/ipv4/neigh/{host}/proxy_delay
         ip link set {host} up; ip -n {name} link set eth0 up
         ip addr add fe80::1/64 dev {host} nodad
         ip -n {name} addr add 10.244.0.{number}/32 dev eth0
         ip -n {name} addr add fd00:10:244::{number}/128 dev eth0 nodad
         ip -n {name} route add 169.254.1.1 dev eth0 scope link
         ip -n {name} route add default via 169.254.1.1 dev eth0
         ip -n {name} route add default via fe80::1 dev eth0
         ip route add 10.244.0.{number} dev {host}; ip route add fd00:10:244::{number} dev {host}"
    ));
    json!({"cniVersion": "1.0.0",
        "interfaces": [{"name": host}, {"name": "eth0", "sandbox": netns_path(name)}],
        "ips": [{"address": format!("10.244.0.{number}/32"), "interface": 1}, {"address": format!("fd00:10:244::{number}/128"), "interface": 1}]})
}

const TOPOLOGY: &str = r"
mkdir -p /run/world
for f in all default; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/$f/accept_source_route; echo 0 > /proc/sys/net/ipv6/conf/$f/accept_dad; done
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
for n in outside cluster; do ip netns add $n; ip -n $n link set lo up; done
for n in outside cluster; do
  ip netns exec $n sh -c 'for f in all default; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done; echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all'
done
# The uplink to the outside.
ip link add up0 type veth peer name eth0 netns outside
ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad
ip -n outside addr add 192.0.2.254/24 dev eth0; ip -n outside addr add 2001:db8::fe/64 dev eth0 nodad
ip link set up0 up; ip -n outside link set eth0 up
ip route add default via 192.0.2.254; ip route add default via 2001:db8::fe
ip -n outside route add 10.0.0.0/8 via 192.0.2.1; ip -n outside route add fd00::/8 via 2001:db8::1
for a in 203.0.113.1 203.0.113.9 203.0.113.53 203.0.113.64 203.0.113.123 198.51.100.9 169.254.169.254 100.100.100.200 10.99.0.1; do ip -n outside addr add $a/32 dev lo; done
for a in 2001:db8:f::1 2001:db8:f::53 2001:db8:f::123 64:ff9b::cb00:7101 64:ff9b::a63:1 2002:cb00:7101::1 fd00:ec2::254 fd00:99::1; do ip -n outside addr add $a/128 dev lo nodad; done
# The rest of the cluster.
ip link add cl0 type veth peer name eth0 netns cluster
ip addr add 10.10.0.1/24 dev cl0; ip addr add fd00:10:10::1/64 dev cl0 nodad
ip -n cluster addr add 10.10.0.2/24 dev eth0; ip -n cluster addr add fd00:10:10::2/64 dev eth0 nodad
ip link set cl0 up; ip -n cluster link set eth0 up
ip route add 10.244.1.0/24 via 10.10.0.2; ip route add fd00:10:244:1::/64 via fd00:10:10::2
ip -n cluster route add default via 10.10.0.1; ip -n cluster route add default via fd00:10:10::1
for a in 10.244.1.7 10.244.1.12 10.244.1.53 10.244.1.80; do ip -n cluster addr add $a/32 dev lo; done
for a in fd00:10:244:1::7 fd00:10:244:1::53 fd00:10:244:1::80; do ip -n cluster addr add $a/128 dev lo nodad; done
# A node-local resolver, and Services as kube-proxy would DNAT them. 10.96.7.7 has an endpoint outside.
ip addr add 169.254.20.10/32 dev lo
# kube-proxy in IPVS mode gives the node every Service's address, and hands on in the input hook.
ip addr add 10.96.5.5/32 dev lo
nft -f - <<'N'
table ip kube-proxy {
  chain prerouting { type nat hook prerouting priority dstnat; policy accept;
    ip daddr 10.96.0.10 udp dport 53 dnat to 10.244.1.53
    ip daddr 10.96.0.80 tcp dport 80 dnat to 10.244.1.80
    ip daddr 10.96.7.7 tcp dport 80 dnat to 203.0.113.9
  }
}
table inet somebody-else {
  chain forward { type filter hook forward priority 0; policy accept;
    counter
  }
}
N
";
