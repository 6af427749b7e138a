//! The cluster's own addresses: pods, Services and nodes are reached straight, everything else by
//! the gateway, whatever an application says in Host.
//!
//! What a pod sends is redirected as Istio's own rules have it: all of it, by the user of the
//! process, with none of the cluster's networks left out.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, ensure};
use egress_render::install::Networks;
use egress_render::{Install, Rendered};
use integration::certificates::Authority;
use integration::client::{self, Heard};
use integration::envoy::PATIENCE;
use integration::istio::pod::{Capture, Pod};
use integration::istio::reference;
use integration::istio::testbed::{Bench, Families, Plan, install};
use integration::istio::tools::Program;
use integration::outside::{Outside, Speech};
use integration::sandbox;

cases!(
    &[Program::Istiod];
    what_is_inside_is_reached_straight,
    without_the_patches_what_is_inside_is_sent_to_the_gateway,
    an_ipv6_only_pod_reaches_what_is_inside,
    what_is_inside_ends_at_the_borders_of_its_networks,
    registered_pods_are_those_that_the_control_plane_knows,
);

/// A pod without a sidecar.
const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 244, 3, 2);
const PLAIN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 3, 0, 0, 0, 2);
/// A pod with one, in `app2-ns`.
const MESHED: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
const MESHED_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 2, 0, 0, 0, 2);
/// The Service `web` of the namespace `plain`.
const WEB: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 80);
const WEB_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x80);
/// A Service that the sidecar does not know.
const UNKNOWN: Ipv4Addr = Ipv4Addr::new(10, 96, 7, 7);
const NODE: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 4);
/// Outside: allowed for HTTP, allowed at port 22, allowed at no port, and a private one on the
/// premises.
const GITHUB: Ipv4Addr = Ipv4Addr::new(140, 82, 112, 5);
const PARTNER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);
const PREMISES: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);

/// What an application does.
#[derive(Clone, Copy, Debug)]
enum Try {
    /// An HTTP request for this Host.
    Http(&'static str),
    /// It says something that is no HTTP.
    Says,
    /// It waits for the server to speak.
    Hears,
}
use Try::{Hears, Http, Says};

/// One attempt of app1: what it shows, where it dials, what it does, and what comes of it with the
/// patches and without: the name of who answers, an HTTP status, or `closed`.
type Row = (&'static str, (IpAddr, u16), Try, &'static str, &'static str);

const fn v4(address: Ipv4Addr, port: u16) -> (IpAddr, u16) {
    (IpAddr::V4(address), port)
}

const fn v6(address: Ipv6Addr, port: u16) -> (IpAddr, u16) {
    (IpAddr::V6(address), port)
}

/// 80 and 8081 are ports that some Service declares HTTP, so that sidecars have a listener for
/// them at every address. 443, 9090 and 9091 are nobody's.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("a pod, HTTP", v4(PLAIN, 80), Http("10.244.3.2"), "plain", "403"),
    ("a pod, HTTP for what is allowed outside", v4(PLAIN, 80), Http("api.github.com"), "plain", "api.github.com"),
    ("a pod, HTTP for what is not", v4(PLAIN, 80), Http("evilgithub.com"), "plain", "403"),
    ("a pod, HTTP at a port without a listener", v4(PLAIN, 9090), Http("10.244.3.2"), "plain", "closed"),
    ("a pod, the server speaks first", v4(PLAIN, 9091), Hears, "plain", "closed"),
    ("a pod, no HTTP at a port declared HTTP", v4(PLAIN, 8081), Says, "plain", "closed"),
    ("a pod, no HTTP at port 443", v4(PLAIN, 443), Says, "plain", "closed"),
    ("a pod, by IPv6, HTTP", v6(PLAIN_V6, 80), Http("[fd00:10:244:3::2]"), "plain", "403"),
    ("a pod, by IPv6, HTTP for what is allowed outside", v6(PLAIN_V6, 80), Http("api.github.com"), "plain", "api.github.com"),
    ("a pod, by IPv6, HTTP at a port without a listener", v6(PLAIN_V6, 9090), Http("[fd00:10:244:3::2]"), "plain", "closed"),
    ("a pod, by IPv6, the server speaks first", v6(PLAIN_V6, 9091), Hears, "plain", "closed"),
    ("a pod, by IPv6, no HTTP at a port declared HTTP", v6(PLAIN_V6, 8081), Says, "plain", "closed"),
    ("a pod with a sidecar, HTTP", v4(MESHED, 80), Http("10.244.2.2"), "meshed", "403"),
    ("a pod with a sidecar, TCP", v4(MESHED, 9091), Says, "meshed", "closed"),
    ("a pod with a sidecar, by IPv6, HTTP", v6(MESHED_V6, 80), Http("[fd00:10:244:2::2]"), "meshed", "403"),
    // A connection to an address is no mTLS, here as in any mesh.
    ("a pod that wants mTLS, HTTP by its address", v4(MESHED, 8082), Http("10.244.2.2"), "503", "403"),
    ("a pod that wants mTLS, TCP by its address", v4(MESHED, 9092), Says, "closed", "closed"),
    ("a headless Service that wants mTLS, HTTP", v4(MESHED, 8082), Http("peers.app2-ns.svc.cluster.local:8082"), "meshed", "meshed"),
    ("a headless Service that wants mTLS, TCP", v4(MESHED, 7000), Says, "meshed", "meshed"),
    ("a headless Service, TCP", v4(PLAIN, 5432), Hears, "plain", "plain"),
    ("a Service, HTTP", v4(WEB, 80), Http("web.plain"), "plain", "plain"),
    ("a Service, HTTP by its address", v4(WEB, 80), Http("10.96.0.80"), "plain", "plain"),
    ("a Service, by IPv6, HTTP", v6(WEB_V6, 80), Http("web.plain"), "plain", "plain"),
    ("a Service that the sidecar does not know, HTTP", v4(UNKNOWN, 80), Http("other.hidden"), "inside", "403"),
    ("a Service that the sidecar does not know, TCP", v4(UNKNOWN, 9091), Hears, "inside", "closed"),
    ("an ExternalName Service", v4(GITHUB, 80), Http("ext.plain"), "403", "403"),
    ("a node, HTTP", v4(NODE, 9090), Http("172.18.0.4"), "inside", "closed"),
    ("outside, HTTP that is allowed", v4(GITHUB, 80), Http("api.github.com"), "api.github.com", "api.github.com"),
    ("outside, HTTP that is not", v4(GITHUB, 80), Http("evilgithub.com"), "403", "403"),
    ("outside, a pod's address as Host", v4(GITHUB, 80), Http("10.244.3.2"), "403", "403"),
    ("outside, TCP that is allowed", v4(PARTNER, 22), Hears, "SSH-2.0-outside", "SSH-2.0-outside"),
    ("outside, TCP that is not", v4(OTHER, 22), Hears, "closed", "closed"),
    ("outside, no HTTP at a port declared HTTP", v4(OTHER, 8081), Says, "closed", "closed"),
    ("a private address on the premises, HTTP", v4(PREMISES, 80), Http("10.0.0.6"), "403", "403"),
    ("a private address on the premises, TCP", v4(PREMISES, 22), Hears, "closed", "closed"),
];

/// What the cluster holds beside the reference case.
const OBJECTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: plain}
---
apiVersion: v1
kind: Pod
metadata: {name: plain-0, namespace: plain, labels: {app: plain}}
spec:
  containers: [{name: app, image: app}]
status: {phase: Running, podIP: 10.244.3.2, podIPs: [{ip: 10.244.3.2}, {ip: 'fd00:10:244:3::2'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: plain}
spec:
  clusterIP: 10.96.0.80
  clusterIPs: [10.96.0.80, 'fd00:10:96::80']
  ipFamilies: [IPv4, IPv6]
  selector: {app: plain}
  ports:
  - {name: http, port: 80}
  - {name: http-raw, port: 8081}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: plain, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports:
- {name: http, port: 80, protocol: TCP}
- {name: http-raw, port: 8081, protocol: TCP}
endpoints:
- {addresses: [10.244.3.2], conditions: {ready: true}, targetRef: {kind: Pod, name: plain-0, namespace: plain}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: plain}
spec:
  clusterIP: None
  selector: {app: plain}
  ports: [{name: tcp, port: 5432}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: plain, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: tcp, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [10.244.3.2], conditions: {ready: true}, targetRef: {kind: Pod, name: plain-0, namespace: plain}}
---
apiVersion: v1
kind: Service
metadata: {name: ext, namespace: plain}
spec: {type: ExternalName, externalName: api.github.com, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: app2-ns}
spec:
  clusterIP: None
  selector: {app: app2}
  ports:
  - {name: http, port: 8082}
  - {name: tcp, port: 7000}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: peers-1, namespace: app2-ns, labels: {kubernetes.io/service-name: peers}}
addressType: IPv4
ports:
- {name: http, port: 8082, protocol: TCP}
- {name: tcp, port: 7000, protocol: TCP}
endpoints:
- {addresses: [10.244.2.2], conditions: {ready: true}, targetRef: {kind: Pod, name: app2-0, namespace: app2-ns}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: app2-ns}
spec:
  selector: {matchLabels: {app: app2}}
  mtls: {mode: PERMISSIVE}
  portLevelMtls:
    7000: {mode: STRICT}
    8082: {mode: STRICT}
    9092: {mode: STRICT}
";

/// The networks of the reference case and those of IPv6, with a network of nodes whose borders are
/// no borders of octets.
const NETWORKS: &str = "{pods: [10.244.0.0/16, 'fd00:10:244::/48'], \
    services: [10.96.0.0/12, 'fd00:10:96::/112'], nodes: [172.18.0.0/16, 10.160.0.0/11]}";

fn settings(networks: &str) -> Result<Install> {
    let mut install = install()?;
    let networks: Networks = serde_saphyr::from_str(networks)?;
    install.spec.cluster.networks = Some(networks);
    let known = ["app1-ns", "app2-ns", "plain"].map(str::to_owned);
    install.spec.workloads.mesh_hosts = Some(known.to_vec());
    // What chooses a framing chooses a cluster too, and what is inside has to win.
    install.spec.tunnel =
        serde_saphyr::from_str("{exceptions: [{framing: HTTP1, ports: [8081]}]}")?;
    Ok(install)
}

fn rendered(networks: &str) -> Result<Rendered> {
    reference::of(&settings(networks)?, &[reference::policy()?])
}

/// A running mesh, and the pod without a sidecar.
struct Town {
    bench: Bench,
    plain: Pod,
}

impl Town {
    fn start(manifests: String, families: Families) -> Result<Self> {
        let mut plan = Plan::changed(manifests);
        plan.sound = families != Families::V6;
        plan.capture = Capture::Everything;
        plan.families = families;
        OBJECTS.clone_into(&mut plan.others);
        sandbox::forward()?;
        let bench = Bench::start(&plan)?;
        let bare = Pod::start(3, Capture::Nothing)?;
        bare.run(|| {
            for address in [IpAddr::from(PLAIN), PLAIN_V6.into()] {
                serves(address, "plain", &[80, 8081, 9090, 443], &[9091, 5432])?;
            }
            Ok(())
        })?;
        bench.inside("app2", || {
            for address in [IpAddr::from(MESHED), MESHED_V6.into()] {
                serves(address, "meshed", &[80, 8082, 7000, 9091, 9092], &[])?;
            }
            Ok(())
        })?;
        sandbox::assign([UNKNOWN, NODE])?;
        for address in [UNKNOWN, NODE] {
            serves(address.into(), "inside", &[80, 8081, 9090], &[9091])?;
        }
        for port in [8081, 9090] {
            let authority = &bench.outside_authority;
            bench.outside.serve(authority, OTHER, port, &Speech::Echo)?;
        }
        Ok(Self { bench, plain: bare })
    }

    fn tries(&self, (ip, port): (IpAddr, u16), attempt: Try) -> Result<String> {
        self.bench
            .inside("app1", move || tries(SocketAddr::new(ip, port), attempt))
    }

    /// Whether a pod's own TLS is reached, at a port that is nobody's.
    fn tls(&self) -> Result<bool> {
        let certificate = self.plain.run(|| {
            let authority = Authority::new("pods")?;
            Outside::default().serve(&authority, PLAIN, 8443, &Speech::Https("plain.example"))?;
            Ok(authority.certificate())
        })?;
        self.bench.inside("app1", move || {
            let stream = client::connect(SocketAddrV4::new(PLAIN, 8443))?;
            let config = client::tls_config(&certificate, None)?;
            Ok(client::tls(stream, config, "plain.example")?.is_some())
        })
    }

    /// Every row whose outcome is another than expected.
    fn wrong<'r>(
        &self,
        rows: impl IntoIterator<Item = &'r Row>,
        expected: impl Fn(&'r Row) -> &'static str,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for row in rows {
            let (what, address, attempt, ..) = *row;
            let found = self.tries(address, attempt);
            let found = found.unwrap_or_else(|error| format!("{error:#}"));
            if found != expected(row) {
                wrong.push(format!("{what}: {found}, not {}", expected(row)));
            }
        }
        wrong
    }
}

fn what_is_inside_is_reached_straight() -> Result<()> {
    let town = Town::start(rendered(NETWORKS)?.yaml(), Families::Dual)?;
    let wrong = town.wrong(ROWS, |row| row.3);
    ensure!(wrong.is_empty(), "{wrong:#?}");
    ensure!(town.tls()?, "a pod, TLS");
    Ok(())
}

/// The test that can fail: the same rows without the patches.
fn without_the_patches_what_is_inside_is_sent_to_the_gateway() -> Result<()> {
    let rendered = rendered(NETWORKS)?;
    let others = rendered
        .objects()
        .iter()
        .filter(|object| object.name() != "egress-warden-inside");
    let texts: Vec<_> = others.map(egress_render::Object::yaml).collect();
    let town = Town::start(texts.join("---\n"), Families::Dual)?;
    let wrong = town.wrong(ROWS, |row| row.4);
    ensure!(wrong.is_empty(), "{wrong:#?}");
    ensure!(!town.tls()?, "a pod, TLS");
    Ok(())
}

/// What Istio tells a sidecar whose pod has no IPv4 address.
fn an_ipv6_only_pod_reaches_what_is_inside() -> Result<()> {
    let town = Town::start(rendered(NETWORKS)?.yaml(), Families::V6)?;
    let rows = ROWS.iter().filter(|row| row.1.0.is_ipv6());
    let wrong = town.wrong(rows, |row| row.3);
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The last address before a network, its first, its last, and the first behind it.
const BORDERS: &[(&str, bool)] = &[
    ("10.95.255.254", false),
    ("10.96.0.1", true),
    ("10.111.255.254", true),
    ("10.112.0.1", false),
    ("10.159.255.254", false),
    ("10.160.0.1", true),
    ("10.191.255.254", true),
    ("10.192.0.1", false),
    ("10.243.255.254", false),
    ("10.244.255.254", true),
    ("10.245.0.1", false),
    ("fd00:10:95:ffff:ffff:ffff:ffff:ffff", false),
    ("fd00:10:96::1", true),
    ("fd00:10:96::ffff", true),
    ("fd00:10:96::1:0", false),
    ("fd00:10:243:ffff:ffff:ffff:ffff:ffff", false),
    ("fd00:10:244:ffff:ffff:ffff:ffff:ffff", true),
    ("fd00:10:245::1", false),
];

fn what_is_inside_ends_at_the_borders_of_its_networks() -> Result<()> {
    let town = Town::start(rendered(NETWORKS)?.yaml(), Families::Dual)?;
    let addresses: Vec<IpAddr> = BORDERS
        .iter()
        .map(|(address, _)| address.parse())
        .collect::<Result<_, _>>()?;
    for address in &addresses {
        sandbox::assign_also(*address)?;
    }
    let mut wrong = Vec::new();
    for (address, (text, is_inside)) in addresses.iter().zip(BORDERS) {
        serves(*address, "inside", &[80, 8081], &[9091])?;
        for (port, attempt, outside) in [
            (80, Http("some.example"), "403"),
            (9091, Hears, "closed"),
            (8081, Says, "closed"),
        ] {
            let found = town.tries((*address, port), attempt)?;
            let expected = if *is_inside { "inside" } else { outside };
            if found != expected {
                wrong.push(format!("{text} {port}: {found}, not {expected}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// In a flat network no prefix tells a pod from another machine: what the control plane has a
/// listener for goes straight, its neighbour through the gateway.
fn registered_pods_are_those_that_the_control_plane_knows() -> Result<()> {
    const REGISTERED: &[Row] = &[
        (
            "a headless Service, TCP",
            v4(PLAIN, 5432),
            Hears,
            "plain",
            "",
        ),
        (
            "a headless Service that wants mTLS, TCP",
            v4(MESHED, 7000),
            Says,
            "meshed",
            "",
        ),
        (
            "a headless Service that wants mTLS, HTTP",
            v4(MESHED, 8082),
            Http("peers.app2-ns.svc.cluster.local:8082"),
            "meshed",
            "",
        ),
        ("a Service", v4(WEB, 80), Http("web.plain"), "plain", ""),
        (
            "a Service that the sidecar does not know",
            v4(UNKNOWN, 9091),
            Hears,
            "inside",
            "",
        ),
        (
            "another port of a pod",
            v4(PLAIN, 9091),
            Hears,
            "closed",
            "",
        ),
        (
            "a pod by its address, HTTP",
            v4(PLAIN, 80),
            Http("10.244.3.2"),
            "403",
            "",
        ),
    ];
    let networks = "{pods: registered, services: [10.96.0.0/12, 'fd00:10:96::/112'], nodes: []}";
    let town = Town::start(rendered(networks)?.yaml(), Families::Dual)?;
    let wrong = town.wrong(REGISTERED, |row| row.3);
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

fn tries(address: SocketAddr, attempt: Try) -> Result<String> {
    let stream = TcpStream::connect(address).with_context(|| address.to_string());
    let mut stream = match stream {
        Err(error) if is_refused(&error) => return Ok("closed".to_owned()),
        other => other?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    if let Http(host) = attempt {
        let answer = client::request(&mut stream, "GET", "/", &[("Host", host.as_bytes())])?;
        return Ok(match answer {
            None => "closed".to_owned(),
            Some(answer) if answer.status == 200 => answer.body.trim().to_owned(),
            Some(answer) => answer.status.to_string(),
        });
    }
    if let Says = attempt {
        // Closed at once is no error of ours.
        let _ = stream.write_all(b"\x00 no HTTP\n");
    }
    Ok(match client::hear(&mut stream)? {
        Heard::Closed => "closed".to_owned(),
        Heard::Bytes(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
    })
}

fn is_refused(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Servers that say their name: some after what a client says, as HTTP if it was HTTP, some first.
fn serves(address: IpAddr, name: &'static str, second: &[u16], first: &[u16]) -> Result<()> {
    let all = second.iter().map(|port| (port, false));
    for (port, speaks) in all.chain(first.iter().map(|port| (port, true))) {
        let listener =
            TcpListener::bind((address, *port)).with_context(|| format!("{address} {port}"))?;
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that goes is no error.
                thread::spawn(move || answer(stream, name, speaks));
            }
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str, speaks: bool) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    if speaks {
        stream.write_all(name.as_bytes())?;
    }
    // A sidecar uses its connections again.
    loop {
        let length = stream.read(&mut bytes)?;
        let said = bytes.get(..length).unwrap_or_default();
        if said.is_empty() {
            return Ok(());
        }
        if said.starts_with(b"GET ") {
            let length = name.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}"
            )?;
        } else {
            stream.write_all(name.as_bytes())?;
        }
    }
}
