//! What tunnels carry to the end and what they lose, by framing; and that both are judged alike.
//!
//! A loss is a test too. It fails as soon as Envoy loses nothing any more: then `docs/evidence/envoy.md`,
//! `docs/how-to/operate.md` and the default of `tunnel.framing` are to be looked at again.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::client::{self, End};
use integration::envoy::eventually;
use integration::mesh::{APP1, APP2, Mesh, Plan, address_of};
use integration::outside::Speech;
use integration::peer::Peer;
use integration::{classes, policy, sandboxed, verdicts};
use serde_json::{Value, json};

const SIZE: usize = 20_000_000;
/// What a sidecar takes of a tunnel that nobody reads.
const WINDOW: usize = 64 << 20;

/// A port by the framing that `envoy-config/sidecar.yaml` gives it, and how the server there speaks.
const HTTP1_DOWNLOAD: u16 = 5432;
const HTTP1_LATE: u16 = 20;
const HTTP2_DOWNLOAD: u16 = 7000;
const HTTP2_LATE: u16 = 7001;
const HTTP2_UNTIL: u16 = 7002;
const HTTP2_LINGER: u16 = 7003;

fn start() -> Result<Mesh> {
    start_with(&|_| {})
}

fn start_with(change: &dyn Fn(&mut Value)) -> Result<Mesh> {
    let policy = json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": "tunnels"},
        "spec": {"identity": {"trustDomains": ["cluster.local"]}, "tiers": [{"name": "t", "rules": [{
            "name": "partner",
            "from": [{"namespaces": ["app1-ns"], "matchLabels": {"egress-ruleset": "app1"}}],
            "to": [
                {"networks": ["203.0.113.7/32"], "protocols": ["TCP"]},
                {"domainNames": ["partner.example"], "ports": [7000], "protocols": ["TCP"]},
                {"domainNames": ["metadata.example"], "ports": [7000], "protocols": ["TCP"]},
            ],
            "action": "Accept",
        }]}]},
    });
    let policies = [policy];
    let mesh = Mesh::start(&Plan {
        extensions: &policy::everywhere(&policies),
        workloads: &[APP1, APP2],
        classes: &classes::of(&policies),
        workers: 1,
        discovered: false,
        change,
    })?;
    for (port, speech) in [
        (HTTP1_DOWNLOAD, Speech::Download(SIZE)),
        (HTTP1_LATE, Speech::Late(SIZE)),
        (HTTP2_DOWNLOAD, Speech::Download(SIZE)),
        (HTTP2_LATE, Speech::Late(SIZE)),
        (HTTP2_LINGER, Speech::Linger(SIZE)),
    ] {
        let address = address_of("partner.example")?;
        mesh.outside
            .serve(&mesh.outside_authority, address, port, &speech)?;
    }
    Ok(mesh)
}

/// Dials the partner through app1's sidecar.
fn dial(mesh: &Mesh, port: u16) -> Result<TcpStream> {
    mesh.dial(
        &APP1,
        SocketAddrV4::new(address_of("partner.example")?, port),
    )
}

/// Waits until the server gets nothing more rid of: everything on the way is full, or everything
/// is on the way.
fn stalled(mesh: &Mesh, port: u16) -> Result<()> {
    let address = address_of("partner.example")?;
    let sent = || -> usize {
        let seen = mesh.outside.seen_at(address, port);
        seen.iter().map(|seen| seen.sent).sum()
    };
    eventually("the server to send", || sent() > 0)?;
    let mut before = 0;
    eventually("the server to stand still", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = sent();
        std::mem::replace(&mut before, now) == now
    })
}

/// A download whose server closes first, read slowly.
fn download(mesh: &Mesh, port: u16) -> Result<(usize, End)> {
    let mut stream = dial(mesh, port)?;
    stalled(mesh, port)?;
    client::drain_slowly(&mut stream)
}

/// What comes when the client's own direction has ended.
fn late(mesh: &Mesh, port: u16) -> Result<(usize, End)> {
    let mut stream = dial(mesh, port)?;
    stream.write_all(b"question")?;
    // It ends when the tunnel stands: a connection that has ended before is another matter.
    let address = address_of("partner.example")?;
    eventually("the server to hear the question", || {
        let seen = mesh.outside.seen_at(address, port);
        seen.iter().any(|seen| seen.bytes == b"question")
    })?;
    stream.shutdown(Shutdown::Write)?;
    client::drain_slowly(&mut stream)
}

sandboxed! {
    fn over_http1_everything_arrives_when_the_server_closes_first() -> Result<()> {
        let mesh = start()?;
        ensure!(download(&mesh, HTTP1_DOWNLOAD)? == (SIZE, End::Clean));
        Ok(())
    }

    fn over_http2_what_fits_into_the_window_arrives_when_the_server_closes_first() -> Result<()> {
        let mesh = start()?;
        ensure!(download(&mesh, HTTP2_DOWNLOAD)? == (SIZE, End::Clean));
        Ok(())
    }

    /// Expected to fail one day: a loss that `docs/how-to/operate.md` states.
    fn over_http2_what_exceeds_the_window_is_lost_when_the_server_closes_first() -> Result<()> {
        let mesh = start()?;
        let full = Arc::new(AtomicBool::new(false));
        let (authority, address) = (&mesh.outside_authority, address_of("partner.example")?);
        let speech = Speech::Until(WINDOW, Arc::clone(&full));
        mesh.outside.serve(authority, address, HTTP2_UNTIL, &speech)?;
        let mut stream = dial(&mesh, HTTP2_UNTIL)?;
        mesh.gateway.stuck()?;
        full.store(true, Ordering::Relaxed);
        stalled(&mesh, HTTP2_UNTIL)?;
        let sent: usize = mesh.outside.seen_at(address, HTTP2_UNTIL).iter()
            .map(|seen| seen.sent).sum();
        let (came, end) = client::drain_slowly(&mut stream)?;
        ensure!(came < sent, "Envoy loses nothing of {sent} bytes any more: say so where the loss is stated");
        // Nobody takes it for the whole.
        ensure!(end == End::Cut, "{came} of {sent} bytes, and it looks like all");
        Ok(())
    }

    fn over_http2_a_late_answer_arrives_when_the_client_ends_first() -> Result<()> {
        let mesh = start()?;
        let came = late(&mesh, HTTP2_LATE)?;
        ensure!(came == (SIZE, End::Clean), "{came:?}");
        Ok(())
    }

    /// Expected to fail one day: a loss that `docs/how-to/operate.md` states.
    fn over_http1_a_late_answer_is_lost_when_the_client_ends_first() -> Result<()> {
        let mesh = start()?;
        let (came, _) = late(&mesh, HTTP1_LATE)?;
        ensure!(came < SIZE, "Envoy loses nothing any more: say so where the loss is stated");
        Ok(())
    }

    /// Expected to fail one day: a loss that `docs/how-to/operate.md` states.
    fn what_a_client_sends_after_the_servers_end_is_lost() -> Result<()> {
        let mesh = start()?;
        let mut stream = dial(&mesh, HTTP2_LINGER)?;
        ensure!(client::drain_slowly(&mut stream)? == (SIZE, End::Clean));
        let said = stream.write_all(b"thanks").and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read(&mut [0; 1]);
        let address = address_of("partner.example")?;
        let heard: usize = mesh.outside.seen_at(address, HTTP2_LINGER).iter()
            .map(|seen| seen.bytes.len()).sum();
        ensure!(heard == 0, "Envoy loses nothing any more ({said:?}): say so where the loss is stated");
        Ok(())
    }

    /// What waits for a client that reads nothing more does not stay at the gateway for ever.
    fn a_closing_tunnel_that_nobody_reads_ends() -> Result<()> {
        let mesh = start_with(&|config| {
            let listeners = config.pointer_mut("/static_resources/listeners");
            for listener in listeners.and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(time) = listener.pointer_mut("/socket_options/0/int_value") {
                    *time = json!(3000);
                }
            }
        })?;
        let active = || mesh.gateway.stat("listener.127.0.0.2_15008.downstream_cx_active");
        let before = active()?;
        let stream = dial(&mesh, HTTP1_DOWNLOAD)?;
        stalled(&mesh, HTTP1_DOWNLOAD)?;
        ensure!(active()? == before + 1, "the tunnel stands");
        eventually("the gateway to give it up", || active().is_ok_and(|now| now == before))?;
        drop(stream);
        Ok(())
    }

    /// The same question in both framings, with every kind of fact that the answer rests on.
    fn both_framings_are_judged_alike() -> Result<()> {
        let mesh = start()?;
        let app1 = "spiffe://cluster.local/ns/app1-ns/sa/app1";
        let app2 = "spiffe://cluster.local/ns/app2-ns/sa/app2";
        let abroad = "spiffe://elsewhere.example/ns/app1-ns/sa/app1";
        let unlabelled = Peer { labels: &[("app", "app1")], ..APP1.peer };
        let partner = "203.0.113.7:7000";
        for (what, identity, peer, target, accepted) in [
            ("app1, an address", app1, Some(APP1.peer), partner, true),
            ("app1, a name", app1, Some(APP1.peer), "partner.example:7000", true),
            ("another account", app2, Some(APP1.peer), partner, false),
            ("another trust domain", abroad, Some(APP1.peer), partner, false),
            ("no label", app1, Some(unlabelled), partner, false),
            ("no claim", app1, None, partner, false),
            ("another's claim", app1, Some(APP2.peer), partner, false),
            ("another address", app1, Some(APP1.peer), "203.0.113.8:22", false),
            ("another name", app1, Some(APP1.peer), "mail.example:7000", false),
            ("another port of the name", app1, Some(APP1.peer), "partner.example:7001", false),
            ("a name that leads to the metadata service", app1, Some(APP1.peer), "metadata.example:7000", false),
        ] {
            let leaf = mesh.mesh_authority.workload(identity)?;
            let claim = peer.map(|peer| peer.header());
            let mut seen = Vec::new();
            for http2 in [false, true] {
                let before = mesh.gateway.log()?.len();
                let opened = connect(&mesh, &leaf, claim.as_deref(), target, http2)
                    .with_context(|| format!("{what}, HTTP/2 {http2}"))?;
                let line = verdicts::last_since(&mesh.gateway, before);
                let line = line.map(|line| (line.rule_path(), line.action, line.reason));
                seen.push((opened, line));
            }
            ensure!(seen[0].1 == seen[1].1, "{what}: {seen:?}");
            for (opened, _) in &seen {
                ensure!(*opened == accepted, "{what}: {seen:?}");
            }
        }
        let metadata = mesh.outside.seen_at(address_of("metadata.example")?, 7000);
        ensure!(metadata.is_empty(), "{metadata:?}");
        Ok(())
    }
}

/// Asks the gateway's tunnel port for a tunnel, without a sidecar; whether it was opened.
fn connect(
    mesh: &Mesh,
    leaf: &integration::certificates::Leaf,
    claim: Option<&str>,
    target: &str,
    http2: bool,
) -> Result<bool> {
    let mut session = mesh.gateway_tls(15008, Some(leaf))?.context("refused")?;
    if !http2 {
        let mut headers = vec![("Host", target.as_bytes())];
        headers.extend(claim.map(|claim| ("x-envoy-peer-metadata", claim.as_bytes())));
        let answer = client::request(&mut session, "CONNECT", target, &headers)?;
        return Ok(answer.is_some_and(|answer| answer.status == 200));
    }
    let mut fields = vec![
        (&b":method"[..], &b"CONNECT"[..]),
        (b":authority", target.as_bytes()),
    ];
    fields.extend(claim.map(|claim| (&b"x-envoy-peer-metadata"[..], claim.as_bytes())));
    session.write_all(&integration::corpus::wire::http2(&fields, true))?;
    session.flush()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !integration::corpus::wire::is_whole(&answer) {
        if integration::corpus::wire::is_accepted(&answer) {
            return Ok(true);
        }
        match session.read(&mut buffer) {
            Ok(length) if length > 0 => answer.extend(buffer.get(..length).unwrap_or_default()),
            Ok(_) | Err(_) => return Ok(false),
        }
    }
    Ok(integration::corpus::wire::is_accepted(&answer))
}
