//! One workload takes all it can get of the gateway, in every way that is known, while another sends
//! ordinary requests.
//!
//! The noisy one has replaced its sidecar: it speaks to the gateway itself, with a certificate that
//! the mesh gave it, so that nothing but the gateway holds it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::certificates::Leaf;
use crate::client::{self, Tls};
use crate::envoy::{Envoy, eventually_within};
use crate::http2_raw::Raw;
use crate::mesh::{APP1, APP2, GATEWAY, GATEWAY_NAME, Mesh, Plan, address_of};
use crate::{classes, policy, sandbox};

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
}

impl Size {
    /// As in the report that this is an answer to.
    pub const WHOLE: Self = Self {
        each: Duration::from_secs(12),
        tunnels: 2_000,
        names: 4_000,
        silent: 3_000,
    };
    /// For every test run.
    pub const SHORT: Self = Self {
        each: Duration::from_millis(1_500),
        tunnels: 600,
        names: 800,
        silent: 600,
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
    /// The most that Envoy had allocated, in bytes.
    pub allocated: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One for each attack, after one without.
    pub phases: Vec<Phase>,
    /// Denials by limits, by code.
    pub limited: BTreeMap<&'static str, u64>,
    /// Bytes that the denials of one attack wrote to the log, and how many denials they were.
    pub log: (u64, u64),
}

type Attack = fn(&Noisy<'_>, Instant);

/// The attacks, in order.
const ATTACKS: [(&str, Attack); 10] = [
    ("uploads to a server that does not read", uploads),
    ("tunnels through which nothing comes", undecided),
    ("names under a wildcard", names),
    ("connections without TLS", silent),
    ("denials in a loop", denials),
    ("rapid reset", rapid_reset),
    ("CONTINUATION without end", continuation),
    ("SETTINGS and PING", settings),
    ("windows of one byte", one_byte_windows),
    ("slow heads and bodies", slow),
];

/// The noisy workload.
struct Noisy<'m> {
    mesh: &'m Mesh,
    leaf: Leaf,
    size: Size,
}

impl Noisy<'_> {
    fn tls(&self, port: u16) -> Result<Tls> {
        let stream = TcpStream::connect((GATEWAY, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let authority = self.mesh.mesh_authority.certificate();
        let config = client::tls_config(&authority, Some(&self.leaf))?;
        let mut config = (*config).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        client::tls(stream, Arc::new(config), GATEWAY_NAME)?.context("no TLS")
    }

    fn http2(&self, port: u16, settings: &[(u16, u32)]) -> Result<Raw> {
        Raw::begin(self.tls(port)?, settings)
    }
}

/// Plays all of it. Must be called in a sandbox.
///
/// # Errors
/// If the bench does not work, or the gateway does not come back to where it began.
pub fn run(size: Size, mut progress: impl FnMut(&Phase)) -> Result<Outcome> {
    let mesh = start(size)?;
    let noisy = Noisy {
        leaf: mesh.mesh_authority.workload(APP1.identity)?,
        mesh: &mesh,
        size,
    };
    sandbox::assign([SLOW])?;
    let server = TcpListener::bind((SLOW, 80))?;
    std::thread::spawn(move || {
        // Kept, and never read.
        let held: Vec<_> = server.incoming().map_while(Result::ok).collect();
        drop(held);
    });
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
        let end = Instant::now() + size.each;
        phases.push(watched(&mesh, name, size.each, || attack(&noisy, end))?);
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
    Ok(Outcome {
        phases,
        limited,
        log,
    })
}

fn start(size: Size) -> Result<Mesh> {
    let policies = [policy()];
    let limits = json!({"workers": WORKERS, "nameLifetimeSeconds": LIFETIME});
    let mut extensions = policy::everywhere(&policies);
    for extension in &mut extensions {
        let mut configuration: Value = serde_json::from_str(&extension.configuration)?;
        if let Some(fields) = configuration.as_object_mut() {
            fields.insert("limits".to_owned(), limits.clone());
        }
        extension.configuration = configuration.to_string();
    }
    let mesh = Mesh::start(&Plan {
        extensions: &extensions,
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
        },
    })?;
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
        "apiVersion": "warden.egress/v1alpha1",
        "kind": "EgressPolicy",
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
#[derive(Clone, Copy, Debug)]
struct Footprint {
    streams: u64,
    undecided: u64,
    names: u64,
    hosts: u64,
    descriptors: u64,
}

impl Footprint {
    fn of(gateway: &Envoy) -> Result<Self> {
        let stats = gateway.get("/stats?usedonly")?;
        let value = |line: &str| -> Option<u64> { line.split_once(": ")?.1.trim().parse().ok() };
        let sum = |wanted: &dyn Fn(&str) -> bool| {
            let lines = stats.lines().filter(|line| wanted(line));
            lines.filter_map(value).sum::<u64>()
        };
        let gauge = |name: &str| sum(&|line| line.starts_with(&format!("wasmcustom.{name}: ")));
        Ok(Self {
            streams: gauge("warden_streams_open"),
            undecided: gauge("warden_tunnels_undecided"),
            names: gauge("warden_names_held"),
            hosts: sum(&|line| line.contains(".num_hosts: ")),
            descriptors: gateway.descriptors()?,
        })
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
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                let allocated = mesh.gateway.stat("server.memory_allocated");
                most = most.max(allocated.unwrap_or_default());
                std::thread::sleep(Duration::from_millis(200));
            }
            most
        });
        what();
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        stop.store(true, Ordering::Relaxed);
        let (mut times, failures) = quiet.join().map_err(|_| anyhow::anyhow!("quiet"))??;
        let allocated = watch.join().map_err(|_| anyhow::anyhow!("watch"))?;
        times.sort_unstable();
        let at = times.len().saturating_mul(99).div_euclid(100);
        let p99 = times.get(at).or(times.last()).copied();
        Ok(Phase {
            name,
            requests: times.len().saturating_add(failures.len()),
            failures,
            p99: p99.context("the quiet workload was never answered")?,
            allocated,
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
    on_each(noisy, end, HTTP, 4, &[], |connection| {
        let streams: Vec<_> = (0..8).map(|_| connection.open(&post(), false)).collect();
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

fn slow(noisy: &Noisy<'_>, end: Instant) {
    on_each(noisy, end, HTTP, 20, &[], |connection| {
        let stream = connection.open(&post(), false);
        while Instant::now() < end && !connection.closed {
            connection.send(stream, b"s");
            connection.listen(Duration::from_millis(300));
        }
    });
    // One head that never ends, on a connection of each worker.
    for _ in 0..2 {
        if let Ok(mut tls) = noisy.tls(HTTP) {
            let _ = std::io::Write::write_all(&mut tls, b"PRI * HTTP/2.0\r\n\r\nSM");
        }
    }
}

/// The table, for the user.
#[must_use]
pub fn table(outcome: &Outcome) -> String {
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
            allocated,
        } = phase;
        let line = format!(
            "{name:42} {requests:>8} {:>8} {:>9.1} {:>10}\n",
            failures.len(),
            p99.as_secs_f64() * 1e3,
            allocated >> 20,
        );
        text.push_str(&line);
    }
    text
}

/// What must hold.
///
/// # Errors
/// What does not.
pub fn judge(outcome: &Outcome) -> Result<()> {
    let quiet = outcome.phases.first().context("no phases")?;
    // Below this a figure says more about the machine than about the gateway.
    let usual = quiet.p99.max(Duration::from_millis(50));
    for phase in &outcome.phases {
        let name = phase.name;
        ensure!(phase.failures.is_empty(), "{name}: {:?}", phase.failures);
        ensure!(phase.allocated < HEAP, "{name}: {} bytes", phase.allocated);
        ensure!(
            phase.p99 <= usual.saturating_mul(10),
            "{name}: {:?}, usually {:?}",
            phase.p99,
            quiet.p99
        );
    }
    for (code, count) in &outcome.limited {
        if *code != "limit_streams" {
            ensure!(*count > 0, "{code} was never reached");
        }
    }
    let (bytes, denied) = outcome.log;
    ensure!(denied >= DENIALS, "only {denied} denials");
    // Envoy's own access log has a line for each.
    ensure!(
        bytes < denied.saturating_mul(2048),
        "{denied} denials wrote {bytes} bytes of log"
    );
    Ok(())
}
