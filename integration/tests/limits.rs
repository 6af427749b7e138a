//! What one workload may take of the gateway, in a real Envoy.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener};
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
/// The reference case lets app1 there.
const IMPATIENT_NAME: &str = "impatient.github.com";

/// Answers each request and keeps the connection, for `rest` after the last answer.
fn impatient(rest: Duration) -> Result<()> {
    sandbox::assign([IMPATIENT])?;
    let listener = TcpListener::bind((IMPATIENT, 80))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || -> std::io::Result<()> {
                stream.set_read_timeout(Some(rest))?;
                let mut buffer = [0; 4096];
                loop {
                    // Nothing for so long, or the end.
                    if stream.read(&mut buffer)? == 0 {
                        return Ok(());
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                }
            });
        }
    });
    Ok(())
}

fn get(mesh: &Mesh, host: &str) -> Result<u16> {
    let to = SocketAddrV4::new(address_of("github.com")?, 80);
    let mut stream = mesh.dial(&APP1, to)?;
    let answer = request(&mut stream, "GET", "/", &[("Host", host.as_bytes())])?;
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

    fn a_server_that_closes_idle_connections_costs_no_request() -> Result<()> {
        let mesh = demo::start(|_| {})?;
        impatient(Duration::from_millis(20))?;
        mesh.dns.add(IMPATIENT_NAME, Answer::of(&[IpAddr::V4(IMPATIENT)]));
        let mut refused = Vec::new();
        for number in 0..300_u64 {
            let status = get(&mesh, IMPATIENT_NAME)?;
            if status != 200 {
                refused.push((number, status));
            }
            // Around the time at which the server closes.
            std::thread::sleep(Duration::from_millis(number % 25));
        }
        eprintln!("{FIGURE}a server that closes idle connections: {} of 300 refused", refused.len());
        ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    }

    fn one_failure_of_a_resolver_does_not_stay() -> Result<()> {
        let mesh = demo::start(|_| {})?;
        let address = IpAddr::V4(address_of("api.github.com")?);
        mesh.dns.add("flaky.github.com", Name::InTurn(vec![Answer::Failure, Answer::of(&[address])]));
        // Envoy's own default is a minute.
        let mut seen = Vec::new();
        eventually_within(Duration::from_secs(20), "the name", || {
            seen.extend(get(&mesh, "flaky.github.com"));
            std::thread::sleep(Duration::from_millis(200));
            seen.last() == Some(&200)
        }).with_context(|| format!("{seen:?}"))?;
        ensure!(seen.first() == Some(&503), "the failure was never seen: {seen:?}");
        Ok(())
    }
}
