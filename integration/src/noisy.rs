//! One workload takes all it can get of the gateway, in every way that is known, while another sends
//! ordinary requests.
//!
//! The noisy one has replaced its sidecar: it speaks to the gateway itself, with a certificate that
//! the mesh gave it, so that nothing but the gateway holds it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use egress_policy::limits::Limits;
use serde_json::{Value, json};

use crate::certificates::Leaf;
use crate::client::{self, Tls};
use crate::envoy::{Envoy, eventually_within};
use crate::http2_raw::Raw;
use crate::mesh::{APP1, APP2, GATEWAY, GATEWAY_NAME, Mesh, Plan, address_of};
use crate::{classes, policy, sandbox, verdicts};

/// The port for requests, and the one for tunnels.
const HTTP: u16 = 8080;
const TUNNELS: u16 = 15008;
/// A server that accepts and never reads.
const SLOW: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 150);
const SLOW_NAME: &str = "slow.web.example";
/// How long names stay, in the caches and in the budgets.
const LIFETIME: u32 = 5;
/// What the gateway's heap may take: the plan.
pub const HEAP: u64 = 256 << 20;
/// The gateway's workers.
const WORKERS: u8 = 2;
/// What the quiet one asks for.
const QUIET: &str = "api.weather.gov";

/// Requests and tunnels that one workload may have open here: fewer than by default, so that an attack
/// reaches it, and more than undecided tunnels.
const STREAMS: u32 = 400;

/// How long, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How long each attack lasts.
    pub each: Duration,
    /// Undecided tunnels that are opened.
    pub tunnels: usize,
    /// Names that are asked for.
    pub names: usize,
    /// Connections that never begin TLS.
    pub silent: usize,
    /// How long the gateway waits for a handshake and for a head, if it is not as configured: an
    /// attack lasts longer.
    pub edge: Option<&'static str>,
}

impl Size {
    /// As in the report that this is an answer to.
    pub const WHOLE: Self = Self {
        each: Duration::from_secs(12),
        tunnels: 2_000,
        names: 4_000,
        silent: 3_000,
        edge: None,
    };
    /// For every test run.
    pub const SHORT: Self = Self {
        each: Duration::from_millis(1_500),
        tunnels: 600,
        names: 800,
        silent: 600,
        edge: Some("1s"),
    };
}

/// What the quiet one and the gateway had while an attack went on.
#[derive(Clone, Debug)]
pub struct Phase {
    /// The attack; the first row has none.
    pub name: &'static str,
    /// The quiet one's requests.
    pub requests: usize,
    /// What went wrong with them.
    pub failures: Vec<String>,
    /// The time within which 99 in 100 were answered.
    pub p99: Duration,
    /// The most that the gateway had of everything.
    pub most: Footprint,
}

impl Phase {
    /// The same attack once more: it counts how long the quiet one waited at least.
    fn and_again(mut self, other: Self) -> Self {
        self.failures.extend(other.failures);
        Self {
            requests: self.requests.saturating_add(other.requests),
            p99: self.p99.min(other.p99),
            most: self.most.or_more(other.most),
            ..self
        }
    }
}

/// How long the quiet one may wait, by how long it does without an attack. Below the least a figure
/// says more about the machine than about the gateway.
fn longest(quiet: &Phase) -> Duration {
    const LEAST: Duration = Duration::from_millis(20);
    quiet.p99.max(LEAST).saturating_mul(10)
}

/// How often an attack is played again in which the quiet one waited too long: what an attack does it
/// does again, and what else the machine had to do is over.
const AGAIN: usize = 2;

/// What came of it.
#[derive(Clone, Debug)]
pub struct NoisyOutcome {
    /// One for each attack, after one without.
    pub phases: Vec<Phase>,
    /// Denials by limits, by code.
    pub limited: BTreeMap<&'static str, u64>,
    /// Bytes that the denials of one attack wrote to the log, and how many denials they were.
    pub log: (u64, u64),
    /// Denials that the log told by a line, those that it told in a sum, and all that there were.
    pub told: (u64, u64, u64),
    /// Connections that the gateway ended because they did not begin TLS.
    pub silent_ended: u64,
    /// Heads that it ended because they took too long.
    pub heads_ended: u64,
}

type Attack = fn(&Noisy<'_>, Instant);

/// The attacks, in order.
const ATTACKS: [(&str, Attack); 11] = [
    ("uploads to a server that does not read", uploads),
    ("tunnels through which nothing comes", undecided),
    ("names under a wildcard", names),
    ("connections without TLS", silent),
    ("denials in a loop", denials),
    ("rapid reset", rapid_reset),
    ("CONTINUATION without end", continuation),
    ("SETTINGS and PING", settings),
    ("windows of one byte", one_byte_windows),
    ("slow bodies", slow_bodies),
    ("heads a byte at a time", slow_heads),
];

/// Those of them whose harm is seen where no limit holds them.
const TELLING: [(&str, Attack); 2] = [
    ("tunnels through which nothing comes", undecided),
    ("names under a wildcard", names),
];

/// Which version of HTTP a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// The noisy workload.
struct Noisy<'m> {
    mesh: &'m Mesh,
    leaf: Leaf,
    size: Size,
}

impl<'m> Noisy<'m> {
    fn at(mesh: &'m Mesh, size: Size) -> Result<Self> {
        Ok(Self {
            mesh,
            leaf: mesh.mesh_authority.workload(APP1.identity)?,
            size,
        })
    }
}

impl Noisy<'_> {
    fn http2(&self, port: u16, settings: &[(u16, u32)]) -> Result<Raw> {
        Raw::begin(tls(self.mesh, &self.leaf, port, Version::Two)?, settings)
    }
}

/// A connection to a port of the gateway, as whoever has this certificate, for this version.
///
/// # Errors
/// If the gateway does not take it.
pub fn tls(mesh: &Mesh, leaf: &Leaf, port: u16, version: Version) -> Result<Tls> {
    let stream = TcpStream::connect((GATEWAY, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    let authority = mesh.mesh_authority.certificate();
    let config = client::tls_config(&authority, Some(leaf))?;
    let mut config = (*config).clone();
    let protocol: &[u8] = match version {
        Version::One => b"http/1.1",
        Version::Two => b"h2",
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    client::tls(stream, Arc::new(config), GATEWAY_NAME)?.context("no TLS")
}

/// Plays all of it. Must be called in a sandbox.
///
/// # Errors
/// If the bench does not work, or the gateway does not come back to where it began.
pub fn run(size: Size, mut progress: impl FnMut(&Phase)) -> Result<NoisyOutcome> {
    let limits = json!({
        "workers": WORKERS, "nameLifetimeSeconds": LIFETIME, "streams": STREAMS,
    });
    let mesh = start(size, &limits)?;
    let noisy = Noisy::at(&mesh, size)?;
    // Everything has been used once, so that nothing of what is seen later is a first time.
    let warm = watched(&mesh, "warming up", size.each, || {})?;
    ensure!(warm.failures.is_empty(), "{:?}", warm.failures);
    let before = Footprint::of(&mesh.gateway)?;
    let mut phases = vec![watched(
        &mesh,
        "nothing",
        size.each.max(Duration::from_secs(3)),
        || {},
    )?];
    let mut log = (0, 0);
    for (name, attack) in ATTACKS {
        let (written, denied) = (log_length(&mesh)?, denials_so_far(&mesh)?);
        let play = || {
            let end = Instant::now() + size.each;
            watched(&mesh, name, size.each, || attack(&noisy, end))
        };
        let mut phase = play()?;
        for _ in 0..AGAIN {
            if phase.p99 <= longest(phases.first().unwrap_or(&warm)) {
                break;
            }
            phase = phase.and_again(play()?);
        }
        phases.push(phase);
        if name == "denials in a loop" {
            log = (
                log_length(&mesh)?.saturating_sub(written),
                denials_so_far(&mesh)?.saturating_sub(denied),
            );
        }
        progress(phases.last().context("a phase")?);
    }
    let mut limited = BTreeMap::new();
    for code in ["limit_streams", "limit_undecided", "limit_names"] {
        let counter = format!("wasmcustom.warden_verdicts.deny.{code}.none");
        limited.insert(code, mesh.gateway.stat(&counter)?);
    }
    // The budgets' tables are looked through once a minute.
    let mut after = before;
    eventually_within(Duration::from_mins(3), "the gateway's footprint", || {
        after = Footprint::of(&mesh.gateway).unwrap_or(after);
        after.is_back_at(&before)
    })
    .with_context(|| format!("before: {before:?}, after: {after:?}"))?;
    // So are the sums of denials.
    let mut told = (0, 0, 0);
    eventually_within(Duration::from_mins(2), "the sums of denials", || {
        told = told_of_denials(&mesh).unwrap_or(told);
        told.0.saturating_add(told.1) >= told.2
    })
    .with_context(|| format!("{told:?}"))?;
    let stats = mesh.gateway.get("/stats?usedonly")?;
    Ok(NoisyOutcome {
        phases,
        limited,
        log,
        told,
        silent_ended: sum(&stats, |name| {
            name.ends_with(".downstream_cx_transport_socket_connect_timeout")
        }),
        heads_ended: sum(&stats, |name| {
            name.ends_with(".downstream_rq_header_timeout")
        }),
    })
}

/// The attacks that the module's limits hold, at a gateway without any: what they take there. Must be
/// called in a sandbox.
///
/// # Errors
/// If the bench does not work.
pub fn without_limits(size: Size) -> Result<Vec<Phase>> {
    let none = 1_000_000;
    let limits = json!({
        "workers": 1, "nameLifetimeSeconds": LIFETIME, "streams": none, "undecidedTunnels": none,
        "newNamesPerMinute": none, "names": none, "denialLinesPerMinute": none,
    });
    let mesh = start(size, &limits)?;
    let noisy = Noisy::at(&mesh, size)?;
    let mut phases = Vec::new();
    for (name, attack) in TELLING {
        let end = Instant::now() + size.each;
        phases.push(watched(&mesh, name, size.each, || attack(&noisy, end))?);
    }
    Ok(phases)
}

/// Sets how long a TLS handshake and the head of a request may take, wherever the gateway ends TLS. How
/// many such places there are, and those that have no such time.
pub fn hurry(config: &mut Value, time: &str) -> (usize, Vec<String>) {
    let (mut found, mut without) = (0_usize, Vec::new());
    let listeners = config.pointer_mut("/static_resources/listeners");
    let listeners = listeners.and_then(Value::as_array_mut);
    for listener in listeners.into_iter().flatten() {
        let name = listener.get("name").cloned().unwrap_or_default();
        let chains = listener.get_mut("filter_chains");
        let chains = chains.and_then(Value::as_array_mut).into_iter().flatten();
        for chain in chains.filter(|chain| chain.get("transport_socket").is_some()) {
            found = found.saturating_add(1);
            crate::template::each_object(chain, &mut |object| {
                let kind = object.get("@type").and_then(Value::as_str);
                let field = if object.contains_key("transport_socket") {
                    "transport_socket_connect_timeout"
                } else if kind.is_some_and(|kind| kind.ends_with(".v3.HttpConnectionManager")) {
                    "request_headers_timeout"
                } else {
                    return;
                };
                match object.get_mut(field) {
                    Some(value) => *value = json!(time),
                    None => without.push(format!("{name}: {field}")),
                }
            });
        }
    }
    (found, without)
}

fn start(size: Size, limits: &Value) -> Result<Mesh> {
    let policies = [policy()];
    let mesh = Mesh::start(&Plan {
        extensions: &policy::limited(&policies, limits)?,
        workloads: &[APP2],
        classes: &classes::of(&policies),
        workers: WORKERS,
        discovered: false,
        change: &|config| {
            crate::template::each_object(config, &mut |object| {
                for (field, value) in [
                    ("host_ttl", json!(format!("{LIFETIME}s"))),
                    ("max_heap_size_bytes", json!(HEAP)),
                ] {
                    if object.contains_key(field) {
                        object.insert(field.to_owned(), value);
                    }
                }
            });
            if let Some(edge) = size.edge {
                hurry(config, edge);
            }
        },
    })?;
    sandbox::assign([SLOW])?;
    let never_reads = TcpListener::bind((SLOW, 80))?;
    std::thread::spawn(move || {
        // Kept, and never read.
        let held: Vec<_> = never_reads.incoming().map_while(Result::ok).collect();
        drop(held);
    });
    mesh.dns
        .add(SLOW_NAME, crate::dns::Answer::of(&[IpAddr::V4(SLOW)]));
    let served = address_of(QUIET)?;
    for number in 0..size.names {
        let answer = crate::dns::Answer::of(&[IpAddr::V4(served)]);
        mesh.dns.add(&name(number), answer);
    }
    Ok(mesh)
}

fn name(number: usize) -> String {
    format!("n{number}.web.example")
}

/// Both workloads may do what they do here, the noisy one much of it.
fn policy() -> Value {
    json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": "noisy"},
        "spec": {
            "identity": {"trustDomains": ["cluster.local"]},
            "tiers": [{"name": "apps", "rules": [
                {"name": "noisy", "from": [{"namespaces": ["app1-ns"]}],
                 "to": [{"domainNames": ["*.web.example"], "ports": [80, 443, 9443]}],
                 "action": "Accept"},
                {"name": "quiet", "from": [{"namespaces": ["app2-ns"]}],
                 "to": [{"domainNames": [QUIET], "ports": [80]}], "action": "Accept"},
            ]}],
            "default": "Deny",
        },
    })
}

/// What of the gateway can be used up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Requests and tunnels that are open.
    pub streams: u64,
    /// Tunnels of which nothing has come back yet.
    pub undecided: u64,
    /// Names that the module remembers of workloads.
    pub names: u64,
    /// Names in Envoy's DNS caches.
    pub hosts: u64,
    /// Open files and connections.
    pub descriptors: u64,
    /// Bytes that Envoy has allocated.
    pub allocated: u64,
}

/// The sum of the counters and gauges whose name is wanted.
fn sum(stats: &str, wanted: impl Fn(&str) -> bool) -> u64 {
    stats
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| wanted(name))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}

impl Footprint {
    fn of(gateway: &Envoy) -> Result<Self> {
        let stats = gateway.get("/stats?usedonly")?;
        let gauge = |wanted: &str| sum(&stats, |name| name == wanted);
        Ok(Self {
            streams: gauge("wasmcustom.warden_streams_open"),
            undecided: gauge("wasmcustom.warden_tunnels_undecided"),
            names: gauge("wasmcustom.warden_names_held"),
            hosts: sum(&stats, |name| name.ends_with(".num_hosts")),
            descriptors: gateway.descriptors()?,
            allocated: gauge("server.memory_allocated"),
        })
    }

    /// The larger of both, of everything.
    fn or_more(self, other: Self) -> Self {
        Self {
            streams: self.streams.max(other.streams),
            undecided: self.undecided.max(other.undecided),
            names: self.names.max(other.names),
            hosts: self.hosts.max(other.hosts),
            descriptors: self.descriptors.max(other.descriptors),
            allocated: self.allocated.max(other.allocated),
        }
    }

    /// A few descriptors more are connections of the quiet one.
    fn is_back_at(&self, before: &Self) -> bool {
        self.streams <= before.streams.max(1)
            && self.undecided == 0
            && self.names <= before.names.max(1)
            && self.hosts <= before.hosts.max(1)
            && self.descriptors <= before.descriptors.saturating_add(16)
    }
}

fn log_length(mesh: &Mesh) -> Result<u64> {
    Ok(u64::try_from(mesh.gateway.log()?.len())?)
}

fn denials_so_far(mesh: &Mesh) -> Result<u64> {
    mesh.gateway
        .stat("wasmcustom.warden_verdicts.deny.default.noisy")
}

/// Denials that the log told by a line, those that it told in a sum, and all that there were.
fn told_of_denials(mesh: &Mesh) -> Result<(u64, u64, u64)> {
    let stats = mesh.gateway.get("/stats?usedonly")?;
    let all = sum(&stats, |name| {
        name.starts_with("wasmcustom.warden_verdicts.deny.")
    });
    let told = verdicts::denials(&mesh.gateway.log()?);
    let sum = |of: fn(&verdicts::Denials) -> u64| told.values().map(of).sum();
    Ok((sum(|told| told.lines), sum(|told| told.summed), all))
}

/// The quiet one's requests while something goes on.
fn watched(
    mesh: &Mesh,
    name: &'static str,
    time: Duration,
    what: impl FnOnce() + Send,
) -> Result<Phase> {
    let stop = AtomicBool::new(false);
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        let quiet = scope.spawn(|| quiet(mesh, &stop));
        let watch = scope.spawn(|| {
            let mut most = Footprint::default();
            while !stop.load(Ordering::Relaxed) {
                most = most.or_more(Footprint::of(&mesh.gateway).unwrap_or_default());
                std::thread::sleep(Duration::from_millis(200));
            }
            most
        });
        what();
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        stop.store(true, Ordering::Relaxed);
        let (mut times, failures) = quiet.join().map_err(|_| anyhow::anyhow!("quiet"))??;
        let most = watch.join().map_err(|_| anyhow::anyhow!("watch"))?;
        times.sort_unstable();
        let at = times.len().saturating_mul(99).div_euclid(100);
        let p99 = times.get(at).or(times.last()).copied();
        Ok(Phase {
            name,
            requests: times.len().saturating_add(failures.len()),
            failures,
            p99: p99.context("the quiet workload was never answered")?,
            most,
        })
    })
}

/// Ordinary requests, one after the other, until told to stop.
fn quiet(mesh: &Mesh, stop: &AtomicBool) -> Result<(Vec<Duration>, Vec<String>)> {
    let to = SocketAddrV4::new(address_of(QUIET)?, 80);
    let (mut times, mut failures) = (Vec::new(), Vec::new());
    let mut stream = None;
    while !stop.load(Ordering::Relaxed) {
        let mut connection = match stream.take() {
            Some(stream) => stream,
            None => mesh.dial(&APP2, to)?,
        };
        let began = Instant::now();
        let headers = [("Host", QUIET.as_bytes())];
        match client::request(&mut connection, "GET", "/", &headers) {
            Ok(Some(answer)) if answer.status == 200 => {
                times.push(began.elapsed());
                stream = Some(connection);
            }
            Ok(Some(answer)) => failures.push(format!("{} {}", answer.status, answer.body)),
            Ok(None) => failures.push("closed".to_owned()),
            Err(error) => failures.push(format!("{error:#}")),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok((times, failures))
}

/// Does something on so many connections at once, and on others where they end, until the end.
fn on_each(
    noisy: &Noisy<'_>,
    end: Instant,
    port: u16,
    count: usize,
    settings: &[(u16, u32)],
    work: impl Fn(&mut Raw) + Sync,
) {
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                while Instant::now() < end {
                    // A gateway that takes no more connections has done its part.
                    if let Ok(mut connection) = noisy.http2(port, settings) {
                        connection.listen(Duration::from_millis(50));
                        work(&mut connection);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
}

fn post() -> [(&'static str, &'static str); 4] {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", SLOW_NAME),
    ]
}

fn uploads(noisy: &Noisy<'_>, end: Instant) {
    // However they fall on the workers, one has more than its share.
    on_each(noisy, end, HTTP, 8, &[], |connection| {
        let streams: Vec<_> = (0..60).map(|_| connection.open(&post(), false)).collect();
        while Instant::now() < end && !connection.closed {
            let sent: usize = streams
                .iter()
                .map(|stream| connection.upload(*stream))
                .sum();
            let wait = if sent == 0 { 50 } else { 1 };
            connection.listen(Duration::from_millis(wait));
        }
    });
}

fn undecided(noisy: &Noisy<'_>, end: Instant) {
    let each = 100;
    let authority = format!("{SLOW_NAME}:443");
    on_each(
        noisy,
        end,
        TUNNELS,
        noisy.size.tunnels.div_ceil(each),
        &[],
        |connection| {
            for _ in 0..each {
                connection.open(&[(":method", "CONNECT"), (":authority", &authority)], false);
            }
            while Instant::now() < end && !connection.closed {
                connection.listen(Duration::from_millis(100));
            }
        },
    );
}

fn names(noisy: &Noisy<'_>, end: Instant) {
    let next = AtomicUsize::new(0);
    on_each(noisy, end, HTTP, 4, &[], |connection| {
        while Instant::now() < end && !connection.closed {
            let number = next.fetch_add(1, Ordering::Relaxed) % noisy.size.names;
            let host = name(number);
            let head = [
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", host.as_str()),
            ];
            connection.open(&head, true);
            if number.is_multiple_of(32) {
                connection.listen(Duration::from_millis(1));
            }
        }
    });
}

fn silent(noisy: &Noisy<'_>, end: Instant) {
    let held: Vec<_> = (0..noisy.size.silent)
        .map_while(|_| TcpStream::connect((GATEWAY, HTTP)).ok())
        .collect();
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    drop(held);
}

/// More than the log has lines for, however long that takes.
const DENIALS: u64 = 400;

fn denials(noisy: &Noisy<'_>, end: Instant) {
    let so_far = || denials_so_far(noisy.mesh).unwrap_or(u64::MAX);
    let enough = so_far().saturating_add(DENIALS);
    let goes_on = || Instant::now() < end || so_far() < enough;
    let latest = end + Duration::from_mins(1);
    let path = format!("/{}", "p".repeat(30_000));
    while goes_on() && Instant::now() < latest {
        let end = end.max(Instant::now() + Duration::from_millis(500));
        on_each(noisy, end, HTTP, 2, &[], |connection| {
            while Instant::now() < end && !connection.closed {
                let head = [
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":path", path.as_str()),
                    (":authority", "evil.example"),
                ];
                connection.open(&head, true);
                connection.listen(Duration::from_millis(1));
            }
        });
    }
}

fn rapid_reset(noisy: &Noisy<'_>, end: Instant) {
    on_each(noisy, end, HTTP, 4, &[], |connection| {
        while Instant::now() < end && !connection.closed {
            for _ in 0..50 {
                let stream = connection.open(&post(), false);
                connection.reset(stream);
            }
            connection.listen(Duration::from_millis(1));
        }
    });
}

fn continuation(noisy: &Noisy<'_>, end: Instant) {
    on_each(noisy, end, HTTP, 4, &[], |connection| {
        connection.endless_head(&post(), 1_000);
        connection.listen(Duration::from_millis(1));
    });
}

fn settings(noisy: &Noisy<'_>, end: Instant) {
    on_each(noisy, end, HTTP, 4, &[], |connection| {
        // Its answers are not read.
        while Instant::now() < end && !connection.closed {
            connection.settings_and_pings(500);
        }
    });
}

fn one_byte_windows(noisy: &Noisy<'_>, end: Instant) {
    // SETTINGS_INITIAL_WINDOW_SIZE.
    on_each(noisy, end, HTTP, 4, &[(4, 1)], |connection| {
        let host = name(0);
        let head = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", host.as_str()),
        ];
        let mut streams: Vec<_> = (0..50).map(|_| connection.open(&head, true)).collect();
        while Instant::now() < end && !connection.closed {
            for stream in &streams {
                connection.one_byte_more(*stream);
            }
            streams.push(connection.open(&head, true));
            connection.listen(Duration::from_millis(1));
        }
    });
}

fn slow_bodies(noisy: &Noisy<'_>, end: Instant) {
    on_each(noisy, end, HTTP, 20, &[], |connection| {
        let stream = connection.open(&post(), false);
        while Instant::now() < end && !connection.closed {
            connection.send(stream, b"s");
            connection.listen(Duration::from_millis(300));
        }
    });
}

/// Of both versions, at both ports; each of them again when the gateway has ended it.
fn slow_heads(noisy: &Noisy<'_>, end: Instant) {
    std::thread::scope(|scope| {
        for number in 0..24_u8 {
            let port = if number % 4 < 2 { HTTP } else { TUNNELS };
            let version = match number % 2 {
                0 => Version::One,
                _ => Version::Two,
            };
            scope.spawn(move || {
                while Instant::now() < end {
                    // A gateway that takes no more connections has done its part.
                    if let Ok(tls) = tls(noisy.mesh, &noisy.leaf, port, version) {
                        let _ = drip(tls, version, end);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
}

/// Sends the head of a request a byte at a time, until `end` or until the gateway has ended it; whether
/// it has. A stream of HTTP/2 ends for itself, and its connection has no other.
///
/// # Errors
/// If the connection cannot be begun.
pub fn drip(tls: Tls, version: Version, end: Instant) -> Result<bool> {
    const PAUSE: Duration = Duration::from_millis(20);
    match version {
        Version::One => {
            let mut tls = tls;
            tls.sock.set_read_timeout(Some(PAUSE))?;
            let begin = b"GET / HTTP/1.1\r\nHost: n0.web.example\r\nX-Slow: ".iter();
            let mut head = begin.chain(std::iter::repeat(&b's'));
            while Instant::now() < end {
                let byte = head.next().copied().unwrap_or(b's');
                if tls.write_all(&[byte]).and_then(|()| tls.flush()).is_err() {
                    return Ok(true);
                }
                match tls.read(&mut [0; 1024]) {
                    Ok(0) => return Ok(true),
                    Err(error)
                        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                    {
                        return Ok(true);
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            Ok(false)
        }
        Version::Two => {
            let mut connection = Raw::begin(tls, &[])?;
            // Nothing may come between the bytes of a frame.
            while !connection.greeted && !connection.closed && Instant::now() < end {
                connection.listen(PAUSE);
            }
            for byte in Raw::long_head(&post()) {
                connection.write(&[byte]);
                connection.listen(PAUSE);
                if connection.closed || connection.answers > 0 || connection.resets > 0 {
                    return Ok(true);
                }
                if Instant::now() >= end {
                    break;
                }
            }
            Ok(false)
        }
    }
}

/// The table, for the user.
#[must_use]
pub fn table(outcome: &NoisyOutcome) -> String {
    let mut text = format!(
        "{:42} {:>8} {:>8} {:>9} {:>10}\n",
        "attack", "requests", "failed", "p99 ms", "MiB"
    );
    for phase in &outcome.phases {
        let Phase {
            name,
            requests,
            failures,
            p99,
            most,
        } = phase;
        let line = format!(
            "{name:42} {requests:>8} {:>8} {:>9.1} {:>10}\n",
            failures.len(),
            p99.as_secs_f64() * 1e3,
            most.allocated >> 20,
        );
        text.push_str(&line);
    }
    text
}

/// Whether one workload took no more than it may; the quiet one has little.
///
/// # Errors
/// What it took.
pub fn bounded(phase: &Phase) -> Result<()> {
    /// Of the quiet one.
    const BESIDE: u64 = 2;
    let Phase { name, most, .. } = phase;
    let limits = Limits::DEFAULT;
    // Names live for less than a minute, but two minutes may meet within their life.
    let names = limits.new_names_per_minute.saturating_mul(2);
    for (what, seen, may) in [
        ("requests and tunnels", most.streams, STREAMS),
        (
            "undecided tunnels",
            most.undecided,
            limits.undecided_tunnels,
        ),
        ("names", most.names, names),
    ] {
        let may = u64::from(may).saturating_add(BESIDE);
        ensure!(seen <= may, "{name}: {seen} {what}, {may} may be");
    }
    ensure!(most.allocated < HEAP, "{name}: {} bytes", most.allocated);
    Ok(())
}

/// What must hold.
///
/// # Errors
/// What does not.
pub fn judge(outcome: &NoisyOutcome) -> Result<()> {
    let quiet = outcome.phases.first().context("no phases")?;
    for phase in &outcome.phases {
        let name = phase.name;
        ensure!(phase.failures.is_empty(), "{name}: {:?}", phase.failures);
        bounded(phase)?;
        ensure!(
            phase.p99 <= longest(quiet),
            "{name}: {:?}, usually {:?}",
            phase.p99,
            quiet.p99
        );
    }
    for (code, count) in &outcome.limited {
        ensure!(*count > 0, "{code} was never reached");
    }
    ensure!(
        outcome.silent_ended > 0,
        "no connection without TLS was ended"
    );
    ensure!(outcome.heads_ended > 0, "no head was ended");
    let (lines, summed, all) = outcome.told;
    ensure!(
        summed > 0 && lines.saturating_add(summed) == all,
        "{lines} lines and {summed} summed up, of {all} denials"
    );
    let (bytes, denied) = outcome.log;
    ensure!(denied >= DENIALS, "only {denied} denials");
    // Envoy's own access log has a line for each.
    ensure!(
        bytes < denied.saturating_mul(2048),
        "{denied} denials wrote {bytes} bytes of log"
    );
    Ok(())
}
