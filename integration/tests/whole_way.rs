//! The whole way together, and `warden verify` inside it.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread::ScopedJoinHandle;

use anyhow::{Result, ensure};
use integration::client::{self, Heard};
use integration::dns::Answer;
use integration::end_to_end::{self, EndToEnd, GATEWAY, Node, POD, SILENCE, inside};
use integration::mesh::{self, HOSTS, SSH_BANNER, address_of};
use integration::verify::attempts;
use integration::{sandboxed, template};
use warden::Exit;

/// Nobody is there.
const DEAD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 29);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Names whose answers hold addresses of both kinds, on a node that is guarded from the beginning or
/// never.
fn several_addresses(guarded: bool) -> Result<()> {
    let way = end_to_end::start(&|_| {})?;
    let node = Node::new()?;
    let private = address_of("rebind.github.com")?;
    let public = address_of("api.github.com")?;
    if guarded {
        node.guard()?;
    }
    let gets_there = EndToEnd::connects("gateway", private, 80)?;
    ensure!(gets_there != guarded, "the gateway's pod itself");
    let made = usize::from(gets_there);
    for (name, addresses, reached) in [
        ("inner", vec![private], false),
        ("dead-inner", vec![DEAD, private], false),
        ("metadata", vec![DEAD, METADATA, private], false),
        ("inner-public", vec![private, public], true),
        ("public-inner", vec![public, private], true),
    ] {
        let name = format!("{name}.github.com");
        let addresses: Vec<IpAddr> = addresses.into_iter().map(IpAddr::V4).collect();
        way.dns.add(&name, Answer::of(&addresses));
        let status = EndToEnd::http_at(public, &name)?;
        ensure!((status == 200) == reached, "{name}: {status}");
        // What the certificate says is another name's affair: the connection counts.
        let before = way.outside.seen_at(public, 443).len();
        let _ = way.tls_at(public, &name);
        let connected = way.outside.seen_at(public, 443).len() > before;
        ensure!(connected == reached, "{name}: TLS connected {connected}");
    }
    for (port, wanted) in [(80, made), (443, 0)] {
        let seen = way.outside.seen_at(private, port);
        ensure!(seen.len() == wanted, "{port}: {seen:?}");
    }
    Ok(())
}

sandboxed! {
    fn what_the_policy_accepts_works_and_there_is_no_other_way() -> Result<()> {
        let way = end_to_end::start(&|_| {})?;
        let node = Node::new()?;
        let github = address_of("api.github.com")?;

        // Without the guard the sidecar is a courtesy.
        ensure!(EndToEnd::connects("app1", github, 443)?, "without the guard the direct way is open");
        ensure!(EndToEnd::connects("app1", GATEWAY, 15008)?, "and so is the gateway's port");
        ensure!(!EndToEnd::connects("app1", GATEWAY, 15000)?, "its admin port is loopback's alone");
        node.guard()?;

        // What the policy accepts, over HTTP, TLS and TCP, works through sidecar and gateway.
        ensure!(EndToEnd::http("api.github.com")? == 200);
        ensure!(way.tls("api.github.com")?);
        ensure!(EndToEnd::tcp("partner.example", 22)? == Heard::Bytes(SSH_BANNER.into()));

        // What it denies does not, with the gateway's answer.
        let before = way.outside.seen().len();
        for name in ["evilgithub.com", "api.weather.gov", "github.com"] {
            ensure!(EndToEnd::http(name)? == 403, "{name}");
            ensure!(!way.tls(name)?, "{name}");
        }
        ensure!(EndToEnd::tcp("other-partner.example", 22)? == Heard::Closed);

        // And nothing works past them: not even what the policy accepts.
        let everywhere: Vec<(Ipv4Addr, u16)> =
            HOSTS.iter().flat_map(|(_, address)| [22, 80, 443].map(|port| (*address, port))).collect();
        let reached: Result<Vec<bool>> = std::thread::scope(|scope| {
            let tries: Vec<_> = everywhere
                .iter()
                .map(|(address, port)| scope.spawn(|| EndToEnd::connects("app1", *address, *port)))
                .collect();
            let joined = tries.into_iter().map(ScopedJoinHandle::join);
            joined.map(|one| one.map_err(|_| anyhow::anyhow!("a thread failed"))?).collect()
        });
        for (to, reached) in everywhere.iter().zip(reached?) {
            ensure!(!reached, "{to:?} directly");
        }
        inside("app1", || {
            let socket = UdpSocket::bind((POD, 0))?;
            socket.set_read_timeout(Some(SILENCE))?;
            socket.send_to(b"quic", (github, 443))?;
            ensure!(socket.recv(&mut [0; 16]).is_err());
            Ok(())
        })?;
        ensure!(!EndToEnd::connects("app1", GATEWAY, 15000)?, "the gateway's admin port");
        ensure!(!EndToEnd::connects("app1", Ipv4Addr::new(169, 254, 169, 254), 80)?, "metadata");
        ensure!(way.outside.seen().len() == before, "nothing of all that arrived: {:?}", way.outside.seen());

        // The gateway's port is open, but not to somebody without a certificate of the mesh.
        ensure!(EndToEnd::connects("app1", GATEWAY, 8080)?);
        let config = client::tls_config(&way.mesh_authority.certificate(), None)?;
        let nobody = inside("app1", || {
            let stream = client::connect(SocketAddrV4::new(GATEWAY, 8080))?;
            let Some(mut stream) = client::tls(stream, config, mesh::GATEWAY_NAME)? else { return Ok(true) };
            Ok(client::hear(&mut stream).is_err_and(|_| true) || client::hear(&mut stream)? == Heard::Closed)
        })?;
        ensure!(nobody, "without a certificate");

        // The gateway itself reaches the outside, and nothing private: a name that leads there is
        // stopped by the module, and by the kernel if it were not.
        ensure!(EndToEnd::connects("gateway", github, 443)?);
        ensure!(!EndToEnd::connects("gateway", address_of("rebind.github.com")?, 80)?);
        ensure!(EndToEnd::http("rebind.github.com")? == 403);

        // Still, after all that, the accepted way works.
        ensure!(EndToEnd::http("api.github.com")? == 200);
        Ok(())
    }

    fn names_with_several_addresses_lead_outside_or_nowhere() -> Result<()> {
        several_addresses(false)
    }

    /// The same with the guard: neither does the other's work, nor undoes it.
    fn names_with_several_addresses_lead_outside_or_nowhere_on_a_guarded_node() -> Result<()> {
        several_addresses(true)
    }

    fn verify_finds_nothing_where_nothing_is_and_every_hole_that_is_made() -> Result<()> {
        let way = end_to_end::start(&|_| {})?;
        let node = Node::new()?;
        EndToEnd::capture()?;
        node.guard()?;

        // As it should be: nothing differs and nothing is left open, through the sidecar and
        // past it.
        let (exit, report) = EndToEnd::verify(&["--output", "json"])?;
        ensure!(exit == Exit::Ok, "{report}");
        let tried = attempts(&report, "as_expected")?;
        for wanted in ["http://api.github.com/", "tcp 203.0.113.7:22", "ping 203.0.113.7"] {
            ensure!(tried.iter().any(|one| one == wanted), "{wanted} in {report}");
        }
        ensure!(report.contains("a proxy in the pod takes"), "{report}");
        let before = way.outside.seen().len();
        EndToEnd::uncapture()?;
        let (exit, report) = EndToEnd::verify(&["--only", "bypass", "--output", "json"])?;
        ensure!(exit == Exit::Ok, "{report}");
        let direct = "tcp 203.0.113.7:22 directly".to_owned();
        ensure!(attempts(&report, "as_expected")?.contains(&direct), "{report}");
        ensure!(way.outside.seen().len() == before, "{:?}", way.outside.seen());

        // A node without its guard.
        Node::unguard()?;
        let (exit, report) = EndToEnd::verify(&["--only", "bypass", "--output", "json"])?;
        ensure!(exit == Exit::Defects, "{report}");
        let found = attempts(&report, "differs")?;
        for wanted in [&direct, "tcp 8.8.8.8:443 directly", "tcp 169.254.169.254:80 directly",
            "dns over udp 8.8.8.8:53", "ping 203.0.113.7"]
        {
            ensure!(found.iter().any(|one| one == wanted), "{wanted} in {report}");
        }
        Ok(())
    }

    fn verify_finds_a_gateway_without_module_and_lock() -> Result<()> {
        let way = end_to_end::start(&template::open_wide)?;
        EndToEnd::capture()?;
        let (exit, report) = EndToEnd::verify(&["--only", "destinations,near-misses", "--output", "json"])?;
        ensure!(exit == Exit::Defects, "{report}");
        let found = attempts(&report, "differs")?;
        for wanted in ["http://api.weather.gov/", "http://evilgithub.com/", "http://github.com/",
            "tcp 203.0.113.8:22"]
        {
            ensure!(found.iter().any(|one| one == wanted), "{wanted} in {report}");
        }
        ensure!(!way.outside.seen().is_empty());
        Ok(())
    }

    fn verify_finds_a_gateway_that_denies_what_the_policy_accepts() -> Result<()> {
        let _way = end_to_end::start(&|config| template::remove_filters(config, &["warden-http"]))?;
        EndToEnd::capture()?;
        let (exit, report) = EndToEnd::verify(&["--only", "destinations", "--output", "json"])?;
        ensure!(exit == Exit::Defects, "{report}");
        ensure!(attempts(&report, "differs")? == ["http://api.github.com/"], "{report}");
        Ok(())
    }
}
