//! What one workload may take of the gateway, in a real Envoy.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use egress_policy::limits::Limits;
use integration::client::{Heard, connect, hear, request};
use integration::dns::{Answer, Name};
use integration::envoy::eventually_within;
use integration::mesh::{APP1, APP2, GATEWAY, Mesh, Plan, Workload, address_of};
use integration::noisy::{self, Size, Version};
use integration::sandbox::FIGURE;
use integration::verdicts::{self, Denials};
use integration::{classes, demo, policy, sandbox, sandboxed};
use serde_json::{Value, json};

/// Where a server listens that closes every connection once it has rested.
const IMPATIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 151);
/// Paths of requests.
type Heads = Arc<Mutex<Vec<String>>>;

/// The reference case lets app1 there.
const IMPATIENT_NAME: &str = "impatient.github.com";

/// Answers each request and keeps the connection, for `rest` after the last answer. Every head that
/// arrives is noted.
fn impatient(rest: Duration) -> Result<Heads> {
    sandbox::assign([IMPATIENT])?;
    let listener = TcpListener::bind((IMPATIENT, 80))?;
    let heads = Heads::default();
    let noted = Arc::clone(&heads);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let noted = Arc::clone(&noted);
            std::thread::spawn(move || -> std::io::Result<()> {
                stream.set_read_timeout(Some(rest))?;
                let mut buffer = [0; 4096];
                loop {
                    // Nothing for so long, or the end.
                    let length = stream.read(&mut buffer)?;
                    if length == 0 {
                        return Ok(());
                    }
                    let head = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    noted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(path);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                }
            });
        }
    });
    Ok(heads)
}

fn get(mesh: &Mesh, host: &str, path: &str) -> Result<u16> {
    get_as(mesh, &APP1, host, path)
}

fn get_as(mesh: &Mesh, workload: &Workload, host: &str, path: &str) -> Result<u16> {
    let to = SocketAddrV4::new(address_of("github.com")?, 80);
    let mut stream = mesh.dial(workload, to)?;
    let answer = request(&mut stream, "GET", path, &[("Host", host.as_bytes())])?;
    Ok(answer.context("closed")?.status)
}

/// Two workloads, the reference case, other limits, and changes to the gateway.
fn start(limits: &Value, change: &dyn Fn(&mut Value)) -> Result<Mesh> {
    let policies = [policy::reference()?];
    Mesh::start(&Plan {
        extensions: &policy::limited(&policies, limits)?,
        workloads: &[APP1, APP2],
        classes: &classes::of(&policies),
        workers: 1,
        discovered: false,
        change,
    })
}

/// Has the gateway take its heap for as full as a file says.
fn fill_by(config: &mut Value, file: &Path) {
    const HEAP: &str = "envoy.resource_monitors.fixed_heap";
    const INJECTED: &str = "envoy.resource_monitors.injected_resource";
    integration::template::each_object(config, &mut |object| {
        if object.get("name").is_none_or(|name| name != HEAP) {
            return;
        }
        object.insert("name".to_owned(), json!(INJECTED));
        if let Some(config) = object.get_mut("typed_config") {
            let kind =
                "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig";
            *config = json!({
                "@type": format!("type.googleapis.com/{kind}"),
                "filename": file,
            });
        }
    });
}

/// Says how full it is. The file is replaced, which is what Envoy notices.
fn fill(file: &Path, part: &str) -> Result<()> {
    let staged = file.with_extension("staged");
    std::fs::write(&staged, part)?;
    std::fs::rename(staged, file)?;
    Ok(())
}

/// Waits until the gateway does this, or does not any more.
fn becomes(mesh: &Mesh, action: &str, active: bool) -> Result<()> {
    let gauge = format!("overload.envoy.overload_actions.{action}.active");
    eventually_within(Duration::from_secs(20), action, || {
        mesh.gateway
            .stat(&gauge)
            .is_ok_and(|value| value == u64::from(active))
    })
}

/// Waits until a counter is there: Envoy adds to it after it has ended what it counts.
fn counts(mesh: &Mesh, counter: &str, expected: u64) -> Result<()> {
    let mut seen = 0;
    eventually_within(Duration::from_secs(5), counter, || {
        seen = mesh.gateway.stat(counter).unwrap_or(seen);
        seen == expected
    })
    .with_context(|| format!("{seen}, not {expected}"))
}

/// Begins TLS with the gateway, and waits only so long.
fn handshake(mesh: &Mesh, time: Duration) -> Result<bool> {
    let stream = connect(SocketAddrV4::new(GATEWAY, 8080))?;
    stream.set_read_timeout(Some(time))?;
    let leaf = mesh.mesh_authority.workload(APP1.identity)?;
    let authority = mesh.mesh_authority.certificate();
    let config = integration::client::tls_config(&authority, Some(&leaf))?;
    let name = integration::mesh::GATEWAY_NAME;
    Ok(integration::client::tls(stream, config, name).is_ok_and(|session| session.is_some()))
}

sandboxed! {
    fn a_noisy_neighbour_costs_nobody_a_request() -> Result<()> {
        let outcome = noisy::run(Size::SHORT, |_| {})?;
        for line in noisy::table(&outcome).lines() {
            eprintln!("{FIGURE}{line}");
        }
        noisy::judge(&outcome)
    }

    /// What the test above looks for is there where nothing limits a workload: it would notice.
    fn without_limits_a_workload_takes_more() -> Result<()> {
        let size = Size { each: Duration::from_secs(4), ..Size::SHORT };
        let phases = noisy::without_limits(size)?;
        for phase in &phases {
            eprintln!("{FIGURE}without limits, {}: {:?}", phase.name, phase.most);
            ensure!(noisy::bounded(phase).is_err(), "{}: {:?}", phase.name, phase.most);
        }
        let [tunnels, names] = phases.as_slice() else {
            anyhow::bail!("other attacks: {phases:?}");
        };
        let limits = Limits::DEFAULT;
        ensure!(tunnels.most.undecided > 2 * u64::from(limits.undecided_tunnels), "{tunnels:?}");
        ensure!(names.most.names > 2 * u64::from(limits.new_names_per_minute), "{names:?}");
        Ok(())
    }

    /// Nothing of it is closed by the client.
    fn the_gateway_ends_what_never_begins() -> Result<()> {
        let places = RefCell::new((0, Vec::new()));
        let limits = json!({"workers": 1});
        let mesh = start(&limits, &|config| {
            *places.borrow_mut() = noisy::hurry(config, "1s");
        })?;
        // Both ports, the fallback form, and where the gateway ends an application's TLS.
        ensure!(places.borrow().0 == 4, "{places:?}");
        ensure!(places.borrow().1.is_empty(), "without a time: {places:?}");
        let most = Duration::from_secs(10);
        for port in [8080, 15008] {
            for first in [&b""[..], b"\x16\x03\x01"] {
                let began = Instant::now();
                let mut stream = TcpStream::connect((GATEWAY, port))?;
                stream.set_read_timeout(Some(most))?;
                stream.write_all(first)?;
                let heard = hear(&mut stream).with_context(|| format!("{port}: never closed"))?;
                ensure!(heard == Heard::Closed, "{port}: {heard:?}");
                ensure!(began.elapsed() > Duration::from_millis(500), "{port}: refused at once");
            }
            let counter = format!(
                "listener.127.0.0.2_{port}.downstream_cx_transport_socket_connect_timeout"
            );
            counts(&mesh, &counter, 2)?;
        }
        let leaf = mesh.mesh_authority.workload(APP1.identity)?;
        for (port, manager) in [(8080, "http"), (15008, "connect")] {
            for (number, version) in [(1, Version::One), (2, Version::Two)] {
                let tls = noisy::tls(&mesh, &leaf, port, version)?;
                let ended = noisy::drip(tls, version, Instant::now() + most)?;
                ensure!(ended, "{port}, {version:?}: a head that never ends");
                let counter = format!("http.{manager}.downstream_rq_header_timeout");
                counts(&mesh, &counter, number).with_context(|| format!("{version:?}"))?;
            }
        }
        Ok(())
    }

    /// By the thresholds as configured. How full the heap is says a file, so that nothing depends on
    /// how Envoy's allocator gives memory back.
    fn a_gateway_whose_heap_is_full_takes_no_more_and_recovers() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("full");
        fill(&file, "0.5")?;
        let limits = json!({"workers": 1});
        let mesh = start(&limits, &|config| fill_by(config, &file))?;
        let address = address_of("api.github.com")?;
        let arrived = || mesh.outside.seen_at(address, 80).len();
        let (long, short) = (Duration::from_secs(20), Duration::from_secs(1));
        ensure!(get(&mesh, "api.github.com", "/")? == 200);
        ensure!(handshake(&mesh, long)?, "taken while there is room");

        fill(&file, "0.94")?;
        becomes(&mesh, "shrink_heap", true)?;
        ensure!(handshake(&mesh, long)?, "taken while there is room");
        fill(&file, "0.96")?;
        becomes(&mesh, "stop_accepting_connections", true)?;
        ensure!(!handshake(&mesh, short)?, "a new connection is taken");
        ensure!(get(&mesh, "api.github.com", "/")? == 200, "by a connection that stands");

        fill(&file, "0.99")?;
        becomes(&mesh, "stop_accepting_requests", true)?;
        let before = arrived();
        for _ in 0..3 {
            let status = get(&mesh, "api.github.com", "/")?;
            ensure!(status == 503, "{status}");
        }
        ensure!(arrived() == before, "a request went out");
        ensure!(mesh.gateway.stat("http.http.downstream_rq_overload_close")? == 3);

        fill(&file, "0.5")?;
        for action in ["stop_accepting_requests", "stop_accepting_connections", "shrink_heap"] {
            becomes(&mesh, action, false)?;
        }
        ensure!(get(&mesh, "api.github.com", "/")? == 200);
        ensure!(handshake(&mesh, long)?, "taken again");
        Ok(())
    }

    /// The heap itself is what is measured.
    fn a_gateway_with_too_small_a_heap_lets_nothing_out() -> Result<()> {
        let found = RefCell::new(0);
        let limits = json!({"workers": 1});
        let mesh = start(&limits, &|config| {
            integration::template::each_object(config, &mut |object| {
                if let Some(size) = object.get_mut("max_heap_size_bytes") {
                    *size = json!(1 << 20);
                    *found.borrow_mut() += 1;
                }
            });
        })?;
        ensure!(*found.borrow() == 1, "no heap is stated");
        for action in ["shrink_heap", "stop_accepting_connections", "stop_accepting_requests"] {
            becomes(&mesh, action, true)?;
        }
        ensure!(!handshake(&mesh, Duration::from_secs(2))?, "a connection is taken");
        let to = SocketAddrV4::new(address_of("github.com")?, 80);
        let mut stream = mesh.dial(&APP1, to)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let answer = request(&mut stream, "GET", "/", &[("Host", b"api.github.com")]);
        ensure!(!matches!(&answer, Ok(Some(answer)) if answer.status == 200), "{answer:?}");
        let seen = mesh.outside.seen();
        ensure!(seen.is_empty(), "{seen:?}");
        ensure!(mesh.dns.asked().is_empty(), "{:?}", mesh.dns.asked());
        Ok(())
    }

    /// What is beyond the budget for lines is in a sum, by identity and code, and both together are all.
    fn no_denial_is_lost() -> Result<()> {
        const LINES: u64 = 10;
        let limits = json!({"workers": 1, "denialLinesPerMinute": LINES});
        let mesh = start(&limits, &|_| {})?;
        let mut denied = Vec::new();
        for (workload, host, code, count) in [
            (&APP1, "evil.example", "default", 60_u64),
            (&APP1, "169.254.169.254", "rule", 30),
            (&APP2, "evil.example", "default", 25),
        ] {
            for number in 0..count {
                let status = get_as(&mesh, workload, host, &format!("/{number}"))?;
                ensure!(status == 403, "{host}: {status}");
            }
            denied.push(((workload.identity.to_owned(), code.to_owned()), count));
        }
        // Another line of these workloads is not expected any more.
        let mut told = verdicts::denials(&mesh.gateway.log()?);
        let all = |told: &Denials| told.lines.saturating_add(told.summed);
        eventually_within(Duration::from_mins(3), "the sums", || {
            told = mesh.gateway.log().map_or_else(|_| told.clone(), |log| verdicts::denials(&log));
            std::thread::sleep(Duration::from_millis(500));
            denied.iter().all(|(key, count)| told.get(key).is_some_and(|told| all(told) >= *count))
        }).with_context(|| format!("{told:?}"))?;
        let mut sum = 0;
        for (key, count) in &denied {
            let told = told.get(key).context("nothing told")?;
            ensure!(all(told) == *count, "{key:?}: {told:?} of {count}");
            ensure!(told.summed > 0, "{key:?}: {told:?}");
            sum += count;
        }
        for workload in [APP1, APP2] {
            let of = told.iter().filter(|((whose, _), _)| whose == workload.identity);
            let lines: u64 = of.map(|(_, told)| told.lines).sum();
            // A minute may have ended meanwhile.
            ensure!((LINES..=3 * LINES).contains(&lines), "{}: {lines}", workload.name);
        }
        let stats = mesh.gateway.get("/stats?filter=warden_verdicts.deny")?;
        let counted: u64 = stats.lines()
            .filter_map(|line| line.split_once(": ")?.1.trim().parse::<u64>().ok())
            .sum();
        ensure!(counted == sum, "{counted} counted, {sum} denied");
        Ok(())
    }

    /// A request that has not gone out when its connection ends goes out on another; one that has is
    /// not sent again, and is the 503 that remains.
    fn a_server_that_closes_idle_connections_costs_only_requests_that_were_sent() -> Result<()> {
        let mesh = demo::start(|_| {})?;
        let heads = impatient(Duration::from_millis(20))?;
        mesh.dns.add(IMPATIENT_NAME, Answer::of(&[IpAddr::V4(IMPATIENT)]));
        let mut refused = 0_u64;
        for number in 0..300_u64 {
            let status = get(&mesh, IMPATIENT_NAME, &format!("/{number}"))?;
            ensure!(status == 200 || status == 503, "{status}");
            refused += u64::from(status == 503);
            // Around the time at which the server closes.
            std::thread::sleep(Duration::from_millis(number % 25));
        }
        let stats = mesh.gateway.get("/stats?filter=warden-http.*destroy_remote_with_active_rq")?;
        let sent: u64 = stats.lines()
            .filter_map(|line| line.split_once(": ")?.1.trim().parse::<u64>().ok())
            .sum();
        eprintln!("{FIGURE}a server that closes idle connections: {refused} of 300 requests refused");
        ensure!(refused <= sent, "{refused} refused, {sent} of them sent: {stats}");
        let mut heads = heads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        heads.sort_unstable();
        let twice = heads.windows(2).find(|pair| pair[0] == pair[1]);
        ensure!(twice.is_none(), "{twice:?} came twice");
        Ok(())
    }

    fn one_failure_of_a_resolver_does_not_stay() -> Result<()> {
        let mesh = demo::start(|_| {})?;
        let address = IpAddr::V4(address_of("api.github.com")?);
        // The resolver in Envoy asks more than once before it gives up.
        let mut answers = vec![Answer::Failure; 12];
        answers.push(Answer::of(&[address]));
        mesh.dns.add("flaky.github.com", Name::InTurn(answers));
        // Envoy's own default is a minute.
        let mut seen = Vec::new();
        eventually_within(Duration::from_secs(20), "the name", || {
            seen.extend(get(&mesh, "flaky.github.com", "/"));
            std::thread::sleep(Duration::from_millis(200));
            seen.last() == Some(&200)
        }).with_context(|| format!("{seen:?}"))?;
        ensure!(seen.first() == Some(&503), "the failure was never seen: {seen:?}");
        Ok(())
    }
}
