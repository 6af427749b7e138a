//! What one workload may take of the gateway, in a real Envoy.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration::client::request;
use integration::dns::{Answer, Name};
use integration::envoy::eventually_within;
use integration::mesh::{APP1, Mesh, address_of};
use integration::noisy::{self, Size};
use integration::sandbox::FIGURE;
use integration::{demo, sandbox, sandboxed};

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
    let to = SocketAddrV4::new(address_of("github.com")?, 80);
    let mut stream = mesh.dial(&APP1, to)?;
    let answer = request(&mut stream, "GET", path, &[("Host", host.as_bytes())])?;
    Ok(answer.context("closed")?.status)
}

sandboxed! {
    fn a_noisy_neighbour_costs_nobody_a_request() -> Result<()> {
        let outcome = noisy::run(Size::SHORT, |_| {})?;
        for line in noisy::table(&outcome).lines() {
            eprintln!("{FIGURE}{line}");
        }
        noisy::judge(&outcome)
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
