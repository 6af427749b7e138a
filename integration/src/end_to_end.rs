//! The whole way together: a pod's network namespace, its sidecar, the egress gateway with the
//! module, the outside; and the guard in the node's kernel, which leaves no other way.
//!
//! Everything is real but the application and the Kubernetes around it: Envoys in network
//! namespaces of their own, the CNI plugin through its own protocol, nftables, conntrack.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use egress_cni::attachment::{AttachmentId, PodIdentity};
use egress_cni::config::NodeConfig;
use egress_cni::guard::Guard;
use egress_cni::nft::Nft;
use egress_cni::plugin;
use egress_cni::store::{Record, Store};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use warden::Exit;

use crate::certificates::Authority;
use crate::client::{self, Heard};
use crate::dns::Dns;
use crate::envoy::Envoy;
use crate::mesh::{self, APP1, HOSTS, SSH_BANNER, Workload, address_of};
use crate::outside::{Outside, Speech};
use crate::{classes, command, policy, sandbox, verify};

/// The pod's address.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
/// The gateway pod's address.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 53);
/// What a pod on the node is called inside the test.
const PODS: [(&str, &str, Ipv4Addr); 2] = [
    ("app1", "app1-ns", POD),
    ("gateway", "istio-egress", GATEWAY),
];
/// A public resolver of the outside world, which is also one of its hosts.
const FOREIGN_RESOLVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// Refusals are silent; what passes answers at once.
pub const SILENCE: Duration = Duration::from_secs(2);

/// Node, two host-routed pods, a resolver on another node, and the outside behind a router.
const TOPOLOGY: &str = r"
mount -t tmpfs tmpfs /run; mkdir /run/netns
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
for n in app1 gateway cluster outside; do ip netns add $n; ip -n $n link set lo up; done
attach() {
  ip link add $3 type veth peer name eth0 netns $1
  echo 1 > /proc/sys/net/ipv4/conf/$3/proxy_arp
  echo 0 > /proc/sys/net/ipv4/neigh/$3/proxy_delay
  ip link set $3 up; ip -n $1 link set eth0 up
  ip -n $1 addr add $2/32 dev eth0
  ip -n $1 route add 169.254.1.1 dev eth0 scope link; ip -n $1 route add default via 169.254.1.1
  ip route add $2 dev $3
}
attach app1 10.244.0.2 pod0
attach gateway 10.244.0.3 pod1
attach cluster 10.244.1.53 node1
ip link add up0 type veth peer name eth0 netns outside
ip addr add 192.0.2.1/24 dev up0; ip link set up0 up; ip -n outside link set eth0 up
ip -n outside addr add 192.0.2.254/24 dev eth0; ip -n outside route add default via 192.0.2.1
ip route add default via 192.0.2.254
ip netns exec app1 sh -c 'echo 0 0 > /proc/sys/net/ipv4/ping_group_range'
";

/// What `istio-init` sets up in the pod: TCP to everywhere but the mesh goes to the sidecar.
const CAPTURE: &str = "table ip capture { chain output { type nat hook output priority -100; \
    ip daddr != { 10.244.0.0/16, 127.0.0.0/8 } meta l4proto tcp dnat to 10.244.0.2:15002; }; }";

fn sh(script: &str) -> Result<()> {
    command::run(Command::new("bash").args(["-euc", script]))
}

/// Moves this thread to the network namespace of that name.
fn inside_here(netns: &str) -> Result<()> {
    Ok(setns(
        File::open(Path::new("/run/netns").join(netns))?,
        CloneFlags::CLONE_NEWNET,
    )?)
}

/// Runs `body` on a thread in the network namespace of that name.
///
/// # Errors
/// What it returns.
pub fn inside<T: Send>(netns: &str, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let work = || inside_here(netns).and_then(|()| body());
    std::thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| anyhow::anyhow!("a thread failed in {netns}"))?
}

/// An Envoy in a network namespace. Envoy ends with the thread that started it, so that thread
/// stays until this value goes.
struct Resident {
    _stay: Sender<()>,
    _envoy: Envoy,
}

impl Resident {
    fn start(
        netns: &'static str,
        address: Ipv4Addr,
        config: PathBuf,
        log: PathBuf,
    ) -> Result<Self> {
        let (stay, go) = channel::<()>();
        let (report, started) = channel();
        std::thread::spawn(move || {
            let envoy = inside_here(netns).and_then(|()| {
                let mut envoy = Envoy::start(&config, address, log)?;
                envoy.ready().map(|()| envoy)
            });
            // Ends with an error when the other side has gone, which is what is waited for.
            let _ = report.send(envoy).is_ok_and(|()| go.recv().is_ok());
        });
        let envoy = started.recv()?.with_context(|| netns.to_owned())?;
        Ok(Self {
            _stay: stay,
            _envoy: envoy,
        })
    }
}

/// Puts this arrangement's addresses in place of the single-namespace bench's.
fn readdress(config: &mut Value) {
    match config {
        Value::String(text) if *text == mesh::GATEWAY.to_string() => *text = GATEWAY.to_string(),
        Value::String(text) if *text == mesh::DNS.to_string() => *text = RESOLVER.to_string(),
        Value::Array(items) => items.iter_mut().for_each(readdress),
        Value::Object(fields) => fields.values_mut().for_each(readdress),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The guard of the node, through the plugin's own protocol and what the agent adds.
pub struct Node {
    files: tempfile::TempDir,
}

impl Node {
    /// A node without a guard yet.
    ///
    /// # Errors
    /// If its configuration cannot be written.
    pub fn new() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let config = json!({
            "exemptNamespaces": [],
            "clusterNetworks": ["10.244.0.0/16"],
            "dns": {"addresses": [RESOLVER]},
            "gateway": {
                "namespace": "istio-egress", "serviceAccount": "egress-gateway",
                "addresses": [GATEWAY], "ports": [8080, 15008, 15022]
            }
        });
        std::fs::write(files.path().join("config.json"), config.to_string())?;
        Ok(Self { files })
    }

    /// Takes every rule out of the node's kernel.
    ///
    /// # Errors
    /// If `nft` fails.
    pub fn unguard() -> Result<()> {
        sh("nft flush ruleset")
    }

    /// Guards both pods.
    ///
    /// # Errors
    /// If the plugin refuses.
    pub fn guard(&self) -> Result<()> {
        for (name, namespace, address) in PODS {
            let netns = format!("/run/netns/{name}");
            let arguments = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
            let environment = [
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", name),
                ("CNI_IFNAME", "eth0"),
                ("CNI_NETNS", &netns),
                ("CNI_ARGS", &arguments),
            ];
            let config = json!({
                "cniVersion": "1.0.0", "name": "pods", "type": "egress-warden-cni",
                "configFile": self.files.path().join("config.json"), "stateDir": self.files.path().join("state"),
                "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": netns}],
                    "ips": [{"address": format!("{address}/32"), "interface": 0}]}
            });
            let get = |name: &str| {
                environment
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            let mut answer = Vec::new();
            let code = plugin::run(
                get,
                &mut config.to_string().as_bytes(),
                &mut answer,
                &mut std::io::stderr(),
            );
            ensure!(
                code == 0,
                "ADD {name}: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        // The agent learns from the API server which pod is the gateway's.
        let guard = Guard::new(
            Store::open(&self.files.path().join("state"))?,
            Nft::new("/usr/sbin/nft".into()),
        );
        let locked = guard.store().lock()?;
        let id = AttachmentId {
            container_id: "gateway".to_owned(),
            ifname: "eth0".to_owned(),
        };
        let record = guard.store().get(&id)?.context("the gateway's record")?;
        let identity = PodIdentity {
            service_account: "egress-gateway".to_owned(),
            ..PodIdentity::default()
        };
        let config = NodeConfig::load(&self.files.path().join("config.json"))?;
        guard.admit(
            &locked,
            &config,
            Record {
                identity: Some(identity),
                ..record
            },
        )?;
        Ok(())
    }
}

/// Everything that runs; it ends with this value.
pub struct EndToEnd {
    _gateway: Resident,
    _sidecar: Resident,
    /// The outside servers.
    pub outside: Outside,
    /// What the gateway asks for names.
    pub dns: Dns,
    /// The mesh's authority.
    pub mesh_authority: Authority,
    outside_authority: Authority,
    _files: tempfile::TempDir,
}

/// Starts everything but the guard; must be called inside a [`sandbox`].
///
/// # Errors
/// If a part does not start.
pub fn start(change: &dyn Fn(&mut Value)) -> Result<EndToEnd> {
    ensure!(
        sandbox::inside(),
        "not in a sandbox: the host's network stays as it is"
    );
    sh(TOPOLOGY)?;
    let files = tempfile::tempdir()?;
    let (mesh_authority, outside_authority) = (Authority::new("mesh")?, Authority::new("outside")?);
    let names = HOSTS
        .iter()
        .map(|(name, address)| ((*name).to_owned(), IpAddr::V4(*address)));
    let dns = inside("cluster", || Dns::start(RESOLVER, names))?;
    sandbox::resolve_with(RESOLVER, &files.path().join("resolv.conf"))?;
    let outside = Outside::default();
    for (name, address) in HOSTS {
        sh(&format!("ip -n outside addr add {address}/32 dev lo"))?;
        for (port, speech) in [
            (80, Speech::Http(name)),
            (443, Speech::Https(name)),
            (22, Speech::Banner(SSH_BANNER)),
        ] {
            inside("outside", || {
                outside.serve(&outside_authority, *address, port, &speech)
            })?;
        }
    }
    inside("outside", || {
        Dns::start::<IpAddr>(FOREIGN_RESOLVER, []).map(drop)
    })?;
    let workload = Workload {
        sidecar: POD,
        ..APP1
    };
    mesh::write_certificates(
        files.path(),
        &mesh_authority,
        std::slice::from_ref(&workload),
    )?;
    mesh::write_outside_certificates(files.path(), &outside_authority, &mesh_authority)?;
    let policies = [policy::reference()?];
    for extension in policy::everywhere(&policies) {
        extension.write(files.path())?;
    }
    let config = mesh::gateway_config(files.path(), &classes::of(&policies), &|config| {
        readdress(config);
        change(config);
    })?;
    let log = |name: &str| files.path().join(format!("{name}.log"));
    let gateway = Resident::start("gateway", mesh::ADMIN, config, log("gateway"))?;
    let config = mesh::sidecar_config(files.path(), &workload)?;
    let mut text: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    readdress(&mut text);
    std::fs::write(&config, text.to_string())?;
    let sidecar = Resident::start("app1", workload.admin(), config, log("app1"))?;
    Ok(EndToEnd {
        _gateway: gateway,
        _sidecar: sidecar,
        outside,
        dns,
        mesh_authority,
        outside_authority,
        _files: files,
    })
}

impl EndToEnd {
    /// Has the pod's kernel send its TCP to the sidecar.
    ///
    /// # Errors
    /// If `nft` fails.
    pub fn capture() -> Result<()> {
        sh(&format!("ip netns exec app1 nft '{CAPTURE}'"))
    }

    /// What whoever may change the pod's network does first.
    ///
    /// # Errors
    /// If `nft` fails.
    pub fn uncapture() -> Result<()> {
        sh("ip netns exec app1 nft flush ruleset")
    }

    /// `warden verify` of the reference case inside the pod.
    ///
    /// # Errors
    /// As [`verify::reference`].
    pub fn verify(arguments: &[&str]) -> Result<(Exit, String)> {
        inside("app1", || verify::reference(&APP1, arguments))
    }

    /// The status of an HTTP request from the pod through its sidecar.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn http(name: &str) -> Result<u16> {
        Self::http_at(address_of(name)?, name)
    }

    /// The same where the name led the pod to this address.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn http_at(address: Ipv4Addr, name: &str) -> Result<u16> {
        let to = SocketAddrV4::new(address, 80);
        inside("app1", || {
            let mut stream = client::dial(POD, to)?;
            let answer = client::request(&mut stream, "GET", "/", &[("Host", name.as_bytes())])?;
            Ok(answer.context("closed")?.status)
        })
    }

    /// What the pod hears first on a TCP connection through its sidecar.
    ///
    /// # Errors
    /// If nothing comes.
    pub fn tcp(name: &str, port: u16) -> Result<Heard> {
        let to = SocketAddrV4::new(address_of(name)?, port);
        inside("app1", || client::hear(&mut client::dial(POD, to)?))
    }

    /// Whether a TLS handshake for `name` succeeds through the sidecar.
    ///
    /// # Errors
    /// If somebody else answers.
    pub fn tls(&self, name: &str) -> Result<bool> {
        self.tls_at(address_of(name)?, name)
    }

    /// The same where the name led the pod to this address.
    ///
    /// # Errors
    /// If somebody else answers.
    pub fn tls_at(&self, address: Ipv4Addr, name: &str) -> Result<bool> {
        let to = SocketAddrV4::new(address, 443);
        let config = client::tls_config(&self.outside_authority.certificate(), None)?;
        inside("app1", || {
            Ok(client::tls(client::dial(POD, to)?, config, name)?.is_some())
        })
    }

    /// Whether a plain TCP connection from a pod, past every proxy, is established.
    ///
    /// # Errors
    /// If there is no such pod.
    pub fn connects(netns: &str, to: impl Into<IpAddr>, port: u16) -> Result<bool> {
        let to = SocketAddr::new(to.into(), port);
        inside(netns, || {
            Ok(TcpStream::connect_timeout(&to, SILENCE).is_ok())
        })
    }
}
