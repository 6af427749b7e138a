//! The module in a real Envoy, where connections are long, slow, odd or change under it.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use http::Request;
use integration::client::{self, Heard, connect, hear, request};
use integration::demo;
use integration::envoy::eventually;
use integration::mesh::{APP1, APP2, HOSTS, Mesh, Plan, SSH_BANNER, Workload, address_of};
use integration::{classes, http2, policy, sandboxed, verdicts};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

fn start() -> Result<Mesh> {
    demo::start(|_| {})
}

fn port(name: &str, port: u16) -> Result<SocketAddrV4> {
    Ok(SocketAddrV4::new(address_of(name)?, port))
}

/// One request on a connection of its own.
fn status(mesh: &Mesh, workload: &Workload, host: &str) -> Result<u16> {
    let mut stream = mesh.dial(workload, port("github.com", 80)?)?;
    let answer = request(&mut stream, "GET", "/", &[("Host", host.as_bytes())])?;
    Ok(answer.context("closed")?.status)
}

/// The bytes of clients that one server saw.
fn bytes_at(mesh: &Mesh, address: Ipv4Addr, port: u16) -> Vec<u8> {
    let seen = mesh.outside.seen_at(address, port);
    seen.iter().flat_map(|seen| seen.bytes.clone()).collect()
}

sandboxed! {
    fn every_request_of_a_connection_is_judged() -> Result<()> {
        let mesh = start()?;
        let mut stream = mesh.dial(&APP1, port("github.com", 80)?)?;
        let hosts = [
            ("api.github.com", 200), ("evilgithub.com", 403), ("codeload.github.com", 200),
            ("github.com", 403), ("api.weather.gov", 403), ("api.github.com", 200),
        ];
        for round in 0..10 {
            for (host, expected) in hosts {
                let answer = request(&mut stream, "GET", "/", &[("Host", host.as_bytes())])?
                    .with_context(|| format!("closed in round {round} before {host}"))?;
                assert_eq!(answer.status, expected, "{host} in round {round}");
                if expected == 200 {
                    assert_eq!(answer.body, format!("{host}\n"));
                }
            }
        }
        Ok(())
    }

    fn every_stream_of_an_http2_connection_is_judged() -> Result<()> {
        let mesh = start()?;
        let hosts = ["api.github.com", "evilgithub.com", "codeload.github.com", "github.com"];
        let requests: Vec<_> = hosts.iter().cycle().take(32)
            .map(|host| Request::get(format!("http://{host}/")).body(()))
            .collect::<Result<_, _>>()?;
        let stream = mesh.dial(&APP1, port("github.com", 80)?)?;
        let answers = http2::send_all(stream, &requests)?;
        for (request, answer) in requests.iter().zip(answers) {
            let host = request.uri().host().context("host")?;
            if host.ends_with(".github.com") {
                assert_eq!((answer.status, answer.body), (200, format!("{host}\n")));
            } else {
                assert_eq!(answer.status, 403, "{host}");
            }
        }
        assert!(mesh.outside.seen_at(address_of("evilgithub.com")?, 80).is_empty());
        Ok(())
    }

    fn a_new_policy_takes_over_under_traffic_without_a_wrong_answer() -> Result<()> {
        let mesh = start()?;
        let open = policy::reference()?;
        let mut closed = open.clone();
        closed["spec"]["tiers"][1]["rules"]
            .as_array_mut().context("rules")?
            .retain(|rule| rule["name"] != "app1-github");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let traffic = scope.spawn(|| -> Result<[u32; 2]> {
                let mut counts = [0, 0];
                let mut stream = mesh.dial(&APP1, port("github.com", 80)?)?;
                while !stop.load(Ordering::Relaxed) {
                    // Nobody may ever reach this one, whichever policy is in force.
                    for (host, ever) in [("api.github.com", true), ("evilgithub.com", false)] {
                        let answer = request(&mut stream, "GET", "/", &[("Host", host.as_bytes())])?
                            .context("closed")?;
                        match answer.status {
                            200 if ever => counts[0] += 1,
                            403 => counts[1] += 1,
                            other => anyhow::bail!("{host}: {other} {}", answer.body),
                        }
                    }
                }
                Ok(counts)
            });
            let swaps = (|| -> Result<()> {
                for round in 0..6 {
                    let (policies, expected) = if round % 2 == 0 {
                        (&closed, 403)
                    } else {
                        (&open, 200)
                    };
                    let update = policy::at("warden-http", std::slice::from_ref(policies));
                    ensure!(mesh.update(&update)?, "refused");
                    // The main thread has it; the worker follows.
                    eventually("the new policy", || {
                        status(&mesh, &APP1, "api.github.com").is_ok_and(|seen| seen == expected)
                    })?;
                }
                Ok(())
            })();
            stop.store(true, Ordering::Relaxed);
            let counts = traffic.join().map_err(|_| anyhow::anyhow!("traffic thread"))??;
            assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
            swaps
        })
    }

    fn a_policy_that_is_refused_changes_nothing() -> Result<()> {
        let mesh = start()?;
        let before = |mesh: &Mesh| -> Result<String> {
            let log = mesh.gateway.log()?;
            Ok(verdicts::read(&log).pop().context("no verdict")?.policy_hash)
        };
        assert_eq!(status(&mesh, &APP1, "api.github.com")?, 200);
        let hash = before(&mesh)?;
        for bad in [json!({"kind": "ClusterEgressPolicy"}), json!("no policy"), json!(null)] {
            assert!(!mesh.update(&policy::at("warden-http", &[bad]))?);
            assert_eq!(status(&mesh, &APP1, "api.github.com")?, 200);
            assert_eq!(status(&mesh, &APP1, "evilgithub.com")?, 403);
            assert_eq!(before(&mesh)?, hash);
        }
        Ok(())
    }

    fn a_first_policy_that_is_refused_denies_everything() -> Result<()> {
        let mesh = Mesh::start(&Plan {
            extensions: &policy::everywhere(&[json!({"kind": "ClusterEgressPolicy"})]),
            workloads: &[APP1],
            classes: &[],
            workers: 1,
            discovered: false,
            change: &|_| {},
        })?;
        assert!(status(&mesh, &APP1, "api.github.com")? >= 400);
        assert!(mesh.dial_tls(&APP1, address_of("api.github.com")?, "api.github.com")?.is_none());
        let mut ssh = mesh.dial(&APP1, port("partner.example", 22)?)?;
        assert_eq!(hear(&mut ssh)?, Heard::Closed);
        assert!(mesh.outside.seen().is_empty());
        assert!(mesh.dns.asked().is_empty());
        Ok(())
    }

    fn a_tunnel_denied_at_accept_is_never_connected() -> Result<()> {
        let mesh = start()?;
        for (workload, name, number) in [
            (&APP1, "partner.example", 23), (&APP1, "other-partner.example", 22),
            (&APP2, "partner.example", 22), (&APP1, "mail.example", 25),
        ] {
            let mut stream = mesh.dial(workload, port(name, number)?)?;
            // The client speaks first and loudly; it makes no difference.
            let _ = stream.write_all(b"EHLO app\r\n");
            assert_eq!(client::drain(&mut stream)?, b"", "{} to {name}:{number}", workload.name);
            assert!(mesh.outside.seen_at(address_of(name)?, number).is_empty());
        }
        Ok(())
    }

    fn without_a_tunnel_the_banner_comes_and_a_denied_client_says_nothing() -> Result<()> {
        let mesh = start()?;
        let partner = address_of("partner.example")?;
        // The label decides, and it comes with the client's first bytes.
        let mut stream = connect(SocketAddrV4::new(demo::UNLABELLED.sidecar, 15022))?;
        assert_eq!(hear(&mut stream)?, Heard::Bytes(SSH_BANNER.into()));
        stream.write_all(b"SSH-2.0-client\r\n")?;
        assert_eq!(client::drain(&mut stream)?, b"");
        assert_eq!(bytes_at(&mesh, partner, 22), b"", "a denied client's byte arrived");

        // The certificate alone decides: not even the banner comes back.
        let mut stream = connect(SocketAddrV4::new(APP2.sidecar, 15022))?;
        assert_eq!(client::drain(&mut stream)?, b"");
        assert_eq!(bytes_at(&mesh, partner, 22), b"");

        let mut stream = connect(SocketAddrV4::new(APP1.sidecar, 15022))?;
        assert_eq!(hear(&mut stream)?, Heard::Bytes(SSH_BANNER.into()));
        stream.write_all(b"SSH-2.0-client\r\n")?;
        assert_eq!(hear(&mut stream)?, Heard::Bytes(b"SSH-2.0-client\r\n".into()));
        // The preamble was for the gateway alone.
        assert_eq!(bytes_at(&mesh, partner, 22), b"SSH-2.0-client\r\n");
        Ok(())
    }

    fn a_client_hello_may_come_one_byte_at_a_time() -> Result<()> {
        let mesh = start()?;
        let config = client::tls_config(&mesh.outside_authority.certificate(), None)?;
        for (name, expected) in [("api.github.com", true), ("evilgithub.com", false)] {
            let mut stream = mesh.dial(&APP1, port("github.com", 443)?)?;
            let server = name.to_owned().try_into()?;
            let mut session = rustls::ClientConnection::new(config.clone(), server)?;
            let mut hello = Vec::new();
            session.write_tls(&mut hello)?;
            for byte in hello {
                stream.write_all(&[byte])?;
            }
            let mut reached = true;
            while reached && session.is_handshaking() {
                reached = session.complete_io(&mut stream).is_ok();
            }
            assert_eq!(reached, expected, "{name}");
        }
        assert!(mesh.outside.seen_at(address_of("evilgithub.com")?, 443).is_empty());
        Ok(())
    }

    fn bytes_that_are_no_text_hurt_nobody() -> Result<()> {
        let mesh = start()?;
        let odd: &[u8] = b"\xff\xfe\x80";
        for (host, expected) in [("api.github.com", 200), ("evilgithub.com", 403)] {
            let mut stream = mesh.dial(&APP1, port("github.com", 80)?)?;
            let headers = [("Host", host.as_bytes()), ("x-odd", odd)];
            let answer = request(&mut stream, "GET", "/", &headers)?.context("closed")?;
            assert_eq!(answer.status, expected);
        }
        // As metadata it is no metadata.
        let leaf = mesh.mesh_authority.workload(APP1.identity)?;
        let mut session = mesh.gateway_tls(8080, Some(&leaf))?.context("refused")?;
        let headers = [("Host", &b"api.github.com"[..]), ("x-envoy-peer-metadata", odd)];
        let answer = request(&mut session, "GET", "/", &headers)?.context("closed")?;
        assert_eq!(answer.status, 403);
        assert_eq!(status(&mesh, &APP1, "api.github.com")?, 200);
        Ok(())
    }

    /// Connections inside the gateway are pooled, and a pool hands on what its first stream had.
    fn a_tunnel_does_not_pass_for_one_that_stands_already() -> Result<()> {
        let mesh = start()?;
        let (api, name) = (address_of("api.github.com")?, "api.github.com");
        let config = client::tls_config(&mesh.ending_authority.certificate(), None)?;
        let ended = |workload: &Workload| {
            client::tls(mesh.dial(workload, port("github.com", 9443)?)?, config.clone(), name)
        };
        let mut held = mesh.dial_tls(&APP1, api, name)?.context("refused")?;
        let mut held_ended = ended(&APP1)?.context("refused")?;
        for _ in 0..3 {
            // App1's stand, and app2 asks for the same.
            assert!(mesh.dial_tls(&APP2, api, name)?.is_none());
            if let Some(mut session) = ended(&APP2)? {
                let answer = request(&mut session, "GET", "/", &[("Host", name.as_bytes())])?;
                assert!(answer.is_none_or(|answer| answer.status == 403));
            }
            for session in [&mut held, &mut held_ended] {
                let answer = request(session, "GET", "/", &[("Host", name.as_bytes())])?;
                assert_eq!(answer.context("closed")?.status, 200);
            }
        }
        Ok(())
    }

    fn the_words_of_the_mesh_do_not_leave_it() -> Result<()> {
        let mesh = start()?;
        assert_eq!(status(&mesh, &APP1, "api.github.com")?, 200);
        let bytes = bytes_at(&mesh, address_of("api.github.com")?, 80);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(text.contains("host: api.github.com"));
        for word in ["x-envoy", "x-forwarded-", "spiffe", "warden"] {
            assert!(!text.contains(word), "{word} in: {text}");
        }
        Ok(())
    }

    /// A client that trusts one certificate for two names may send requests for both on one
    /// connection (RFC 9113 §9.1.1). What its TLS was begun for is what it gets.
    fn one_http2_connection_whose_tls_ends_here_reaches_one_name() -> Result<()> {
        let mesh = start()?;
        let config = client::tls_config(&mesh.ending_authority.certificate(), None)?;
        let request = |host: &str| Request::get(format!("https://{host}/")).body(());
        let requests = [
            request("api.github.com")?, request("codeload.github.com")?,
            request("evilgithub.com")?, request("api.github.com")?,
        ];
        let stream = mesh.dial(&APP1, port("github.com", 9443)?)?;
        let answers = http2::send_all_tls(stream, &config, "api.github.com", &requests)?;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 403, 403, 200], "{answers:?}");
        assert_eq!(answers[0].body, "api.github.com\n");
        assert!(answers[1].body.contains("host_mismatch"), "{:?}", answers[1]);
        assert!(mesh.outside.seen_at(address_of("codeload.github.com")?, 9443).is_empty());
        Ok(())
    }

    fn the_server_that_tls_is_originated_to_is_verified_and_sees_the_gateways_certificate() -> Result<()> {
        let mesh = start()?;
        let try_host = |host: &str| -> Result<u16> {
            let mut stream = mesh.dial(&APP1, port(host, 80)?)?;
            let answer = request(&mut stream, "GET", "/v1/x", &[("Host", host.as_bytes())])?;
            Ok(answer.context("closed")?.status)
        };
        assert_eq!(try_host("api.payments.example")?, 200);
        let seen = mesh.outside.seen_at(address_of("api.payments.example")?, 443);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].server_name.as_deref(), Some("api.payments.example"));
        let shown = std::fs::read(mesh.files().join("payments-client.pem"))?;
        let shown = CertificateDer::from_pem_slice(&shown)?;
        assert_eq!(seen[0].client_certificate.as_deref(), Some(&*shown));
        // The right authority for another name; the right name by an unknown authority.
        for host in ["misnamed.payments.example", "unknown.payments.example"] {
            assert_eq!(try_host(host)?, 503, "{host}");
            assert_eq!(bytes_at(&mesh, address_of(host)?, 443), b"", "{host}");
        }
        let class = classes::of(&[policy::demo()?]).pop().context("no class")?.name;
        let count = |what: &str| mesh.gateway.stat(&format!("cluster.warden-originate-{class}.ssl.{what}"));
        assert_eq!((count("fail_verify_san")?, count("fail_verify_error")?), (3, 3));
        // What never went out in the clear.
        for (name, address) in HOSTS.iter().filter(|(name, _)| name.ends_with("payments.example")) {
            assert!(mesh.outside.seen_at(*address, 80).is_empty(), "{name}");
        }
        Ok(())
    }

    fn grpc_is_originated_over_http2_and_denied_in_its_own_form() -> Result<()> {
        let mesh = start()?;
        let call = |method: &str| {
            Request::post(format!("http://api.payments.example/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
        };
        let requests = [call("payments.Ledger/List")?, call("payments.Admin/Drop")?];
        let stream = mesh.dial(&APP1, port("api.payments.example", 80)?)?;
        let answers = http2::send_all(stream, &requests)?;
        let status = |answer: &http2::Answer| answer.headers.get("grpc-status").cloned();
        // 7 is PERMISSION_DENIED.
        assert_eq!(status(&answers[0]).context("no status")?, "0", "{answers:?}");
        assert_eq!(status(&answers[1]).context("no status")?, "7", "{answers:?}");
        let seen = mesh.outside.seen_at(address_of("api.payments.example")?, 443);
        assert!(seen.len() == 1 && seen[0].http2, "{seen:?}");
        Ok(())
    }
}
