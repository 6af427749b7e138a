//! What Envoy does, as far as the filter's design rests on it. `docs/evidence/envoy.md` tells what was seen;
//! each statement there names a test here. The module is a probe that writes down what it sees and
//! decides nothing.

use std::net::SocketAddrV4;

use anyhow::{Context, Result};
use integration::certificates::Authority;
use integration::classes::Class;
use integration::client::{Heard, Response, hear, request};
use integration::envoy::{eventually, validate};
use integration::extension::{Chain, Extension};
use integration::mesh::{
    APP1, HOSTS, Mesh, Plan, SSH_BANNER, address_of, gateway_config, sidecar_config,
    write_certificates, write_outside_certificates,
};
use integration::{sandboxed, template, workspace};
use serde_json::Value;

const HTTP: &str = "context=http verdict=accept:open host=authority port=80 reroute=yes";
const CONNECT: &str =
    "context=http verdict=accept:literal host=authority-host port=authority-port reroute=yes";
const FORWARD: &str = "context=http verdict=forward rest=\u{1}wörld";
const TLS: &str = "context=network verdict=accept:open cluster=warden-tls-open class=open port=443";
const DIRECT: &str = "context=network at=data verdict=accept:literal";

/// The probe at one of the gateway's places.
fn probe(name: &'static str, settings: &str) -> Extension {
    let chain = match name {
        "warden-tls" | "warden-direct" => Chain::Network,
        _ => Chain::Http,
    };
    Extension {
        name,
        chain,
        wasm: workspace::wasm("fixture_probe"),
        configuration: format!("name={name}\n{}", settings.replace(' ', "\n")),
    }
}

fn probes() -> Vec<Extension> {
    vec![
        probe("warden-http", HTTP),
        probe("warden-connect", CONNECT),
        probe("warden-tls", TLS),
        probe("warden-direct", DIRECT),
        probe("warden-ended", HTTP),
    ]
}

fn start(extensions: &[Extension], change: fn(&mut Value)) -> Result<Mesh> {
    Mesh::start(&Plan {
        extensions,
        workloads: &[APP1],
        classes: &classes(),
        workers: 1,
        discovered: false,
        change: &change,
    })
}

/// One that refuses nothing public, and one that refuses most.
fn classes() -> [Class; 2] {
    [
        Class::named("open", &["10.0.0.0/8", "169.254.0.0/16"]),
        Class::named("shut", &["10.0.0.0/8", "140.0.0.0/8", "198.51.100.0/24"]),
    ]
}

fn unchanged(_: &mut Value) {}

fn get(mesh: &Mesh, authority: &str) -> Result<Response> {
    let mut stream = mesh.dial(&APP1, SocketAddrV4::new(address_of("github.com")?, 80))?;
    let headers = [("Host", authority.as_bytes())];
    request(&mut stream, "GET", "/", &headers)?.context("closed")
}

/// Whether TLS with `name` works end to end.
fn tls_works(mesh: &Mesh, name: &str) -> Result<bool> {
    let Some(mut session) = mesh.dial_tls(&APP1, address_of("github.com")?, name)? else {
        return Ok(false);
    };
    let headers = [("Host", name.as_bytes())];
    Ok(request(&mut session, "GET", "/", &headers)?.is_some_and(|answer| answer.status == 200))
}

fn first_words(mesh: &Mesh, name: &str, port: u16) -> Result<Heard> {
    hear(&mut mesh.dial(&APP1, SocketAddrV4::new(address_of(name)?, port))?)
}

/// The first line that the probe at `name` wrote in `callback`, once it is there.
fn line(mesh: &Mesh, name: &str, callback: &str) -> Result<String> {
    let start = format!("probe {name} {callback} ");
    let mut found = None;
    eventually(&start, || {
        let log = mesh.gateway.log().unwrap_or_default();
        found = log
            .lines()
            .find_map(|line| Some(line.split_once(&start)?.1.to_owned()));
        found.is_some()
    })?;
    found.context("gone")
}

#[track_caller]
fn assert_has(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "no {word} in: {line}");
    }
}

const PRINCIPAL: &str = "uri_san_peer_certificate=spiffe://cluster.local/ns/app1-ns/sa/app1";
const LABEL: &str = "filter_state.wasm.downstream_peer.labels.egress-ruleset=app1";

sandboxed! {
    fn request_headers_show_who_calls_and_where_to_but_no_address() -> Result<()> {
        let mesh = start(&probes(), unchanged)?;
        assert_eq!(get(&mesh, "api.github.com")?.status, 200);
        let seen = line(&mesh, "warden-http", "headers")?;
        assert_has(&seen, &[
            PRINCIPAL, LABEL,
            " connection.mtls=1", " request.host=api.github.com", " request.path=/",
            " downstream_peer.namespace=app1-ns",
            " xds.cluster_name=warden-http", " xds.route_name=http",
            " xds.listener_metadata.filter_metadata.warden.role=http",
        ]);
        Ok(())
    }

    fn a_verdict_chooses_its_class_and_a_class_that_is_not_there_none() -> Result<()> {
        let mesh = start(&probes(), unchanged)?;
        let with = |settings: &str| probe("warden-http", &HTTP.replace("verdict=accept:open", settings));
        let rows = [
            ("verdict=accept:open", 200),
            // All of its addresses are refused.
            ("verdict=accept:shut", 403),
            // No name resolves where addresses are dialled by number.
            ("verdict=accept:literal", 503),
            // Not there (yet), or no whole word.
            ("verdict=accept:3f9a1c2e", 403), ("verdict=accept:ope", 403), ("verdict=accept:open2", 403),
            ("verdict=accept", 403), ("verdict=forward", 403), ("verdict=deny", 403),
            ("verdict=inspect:dlp:3f9a1c2e", 403), ("verdict=inspect:ids:open", 403),
        ];
        for (settings, expected) in rows {
            assert!(mesh.update(&with(settings))?);
            let arrived = mesh.outside.seen().len();
            assert_eq!(get(&mesh, "api.github.com")?.status, expected, "{settings}");
            assert_eq!(mesh.outside.seen().len() > arrived, expected == 200, "{settings}");
        }
        // What the module writes is what the access log prints, with what was connected to.
        let address = address_of("api.github.com")?;
        eventually("the access log", || {
            let log = mesh.gateway.log().unwrap_or_default();
            log.lines().any(|line| line.contains(&format!("upstream={address}:80"))
                && line.ends_with("verdict=accept:open "))
        })
    }

    fn a_changed_header_has_the_route_chosen_anew_and_so_does_asking_for_it() -> Result<()> {
        let mesh = start(&probes(), unchanged)?;
        let settings = |reroute: &str| probe("warden-http", &HTTP.replace("reroute=yes", reroute));
        for (reroute, expected) in [
            ("reroute=yes", 200), ("reroute=no", 403), ("removes=user-agent", 200),
        ] {
            assert!(mesh.update(&settings(reroute))?);
            let mut stream = mesh.dial(&APP1, SocketAddrV4::new(address_of("github.com")?, 80))?;
            let headers = [("Host", &b"api.github.com"[..]), ("User-Agent", b"x")];
            let answer = request(&mut stream, "GET", "/", &headers)?.context("closed")?;
            assert_eq!(answer.status, expected, "{reroute}");
            // The lock's denial has the module's header; a server's answer has none, whatever it sent.
            let said = r#"x-egress-warden-denied: {"policy":null,"tier":null,"rule":null,"reason":"engine_error"}"#;
            assert_eq!(answer.head.contains(said), expected == 403, "{answer:?}");
            assert_eq!(answer.head.matches("x-egress-warden-denied").count(), usize::from(expected == 403));
        }
        Ok(())
    }

    fn a_refused_name_is_answered_like_a_denial_and_a_name_that_is_not_there_is_not() -> Result<()> {
        let mut extensions = probes();
        extensions[1] = probe("warden-connect", &CONNECT.replace("literal", "open"));
        let mesh = start(&extensions, unchanged)?;
        let ask = |host: &str, accept: &[u8]| -> Result<Response> {
            let mut stream = mesh.dial(&APP1, SocketAddrV4::new(address_of("github.com")?, 80))?;
            let headers = [("Host", host.as_bytes()), ("Accept", accept)];
            request(&mut stream, "GET", "/", &headers)?.context("closed")
        };
        let denied = ask("rebind.github.com", b"*/*")?;
        let words = "egress denied: the name resolves to an address inside the network\n\
            workload: spiffe://cluster.local/ns/app1-ns/sa/app1\ndestination: rebind.github.com\n\
            rule: no rule (private_address)\ncode: private_address\n";
        assert_eq!(denied.status, 403);
        assert!(denied.body.starts_with(words), "{denied:?}");
        let head = denied.head.to_lowercase();
        assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        let by = r#"x-egress-warden-denied: {"policy":null,"tier":null,"rule":null,"reason":"private_address"}"#;
        assert!(head.contains(by), "{head}");
        let denied = ask("rebind.github.com", b"application/json")?;
        let body: Value = serde_json::from_str(&denied.body)?;
        assert_eq!((denied.status, &body["reason"]), (403, &"private_address".into()));
        assert_eq!(ask("nowhere.github.com", b"*/*")?.status, 503);
        // The same for a tunnel.
        let leaf = mesh.mesh_authority.workload(APP1.identity)?;
        for (authority, expected) in [("rebind.github.com:22", 403), ("nowhere.github.com:22", 503)] {
            let mut session = mesh.gateway_tls(15008, Some(&leaf))?.context("refused")?;
            let headers = [("Host", authority.as_bytes())];
            let answer = request(&mut session, "CONNECT", authority, &headers)?.context("closed")?;
            assert_eq!(answer.status, expected, "{authority}");
        }
        assert!(mesh.outside.seen().is_empty());
        Ok(())
    }

    fn a_tunnel_shows_the_dialled_address_and_connects_there_without_dns() -> Result<()> {
        let mesh = start(&probes(), unchanged)?;
        assert_eq!(first_words(&mesh, "partner.example", 22)?, Heard::Bytes(SSH_BANNER.into()));
        let seen = line(&mesh, "warden-connect", "headers")?;
        assert_has(&seen, &[
            PRINCIPAL, LABEL,
            " request.method=CONNECT", " request.host=203.0.113.7:22",
            " xds.cluster_name=warden-tcp", " xds.route_name=tcp",
        ]);
        assert!(!seen.contains("request.path"));
        assert_eq!(mesh.dns.asked(), Vec::<String>::new());
        Ok(())
    }

    fn labels_and_inner_sni_are_seen_together_before_any_dns_query() -> Result<()> {
        let mut extensions = probes();
        extensions[1] = probe("warden-connect", FORWARD);
        let mesh = start(&extensions, unchanged)?;
        assert!(tls_works(&mesh, "api.github.com")?);
        let seen = line(&mesh, "warden-tls", "new")?;
        assert_has(&seen, &[
            " connection.requested_server_name=api.github.com",
            " filter_state.warden.principal=spiffe://cluster.local/ns/app1-ns/sa/app1",
            " filter_state.warden.dialled=140.82.112.3:443",
            &format!(" filter_state.warden.peer={}", APP1.peer.header()),
            // Whatever the outer context wrote comes in byte for byte.
            " filter_state.warden.facts=forward \u{1}wörld",
            " xds.listener_metadata.filter_metadata.warden.role=tls-inner",
        ]);
        assert!(!seen.contains("xds.cluster_name"), "not known at accept");
        assert_has(&line(&mesh, "warden-tls", "data")?, &[" xds.cluster_name=warden-tls-open"]);

        // Closed at accept, the name is not even resolved.
        assert!(mesh.update(&probe("warden-tls", "context=network deny=new"))?);
        assert!(!tls_works(&mesh, "evilgithub.com")?);
        assert_eq!(mesh.dns.asked(), ["api.github.com"]);
        assert!(mesh.outside.seen_at(address_of("evilgithub.com")?, 443).is_empty());
        Ok(())
    }

    fn the_first_use_of_a_name_connects_over_http_and_tls() -> Result<()> {
        let mut extensions = probes();
        extensions[1] = probe("warden-connect", FORWARD);
        let mesh = start(&extensions, unchanged)?;
        assert_eq!(get(&mesh, "api.github.com")?.body, "api.github.com\n");
        assert!(tls_works(&mesh, "codeload.github.com")?);
        // One question per name and port: the cache's key is both.
        assert_eq!(mesh.dns.asked(), ["api.github.com", "codeload.github.com"]);
        assert!(!tls_works(&mesh, "nowhere.github.com")?);
        Ok(())
    }

    fn the_verdict_chooses_host_and_port_and_a_port_in_the_host_wins() -> Result<()> {
        let mut extensions = probes();
        extensions[0] = probe("warden-http", &HTTP.replace("host=authority", "host=api.github.com"));
        let mesh = start(&extensions, unchanged)?;
        // Whatever Host says, the judged name and port are what is connected to.
        assert_eq!(get(&mesh, "evilgithub.com:22")?.body, "api.github.com\n");
        assert_eq!(mesh.dns.asked(), ["api.github.com"]);
        // A trap for the filter: a port in dynamic_host beats dynamic_port.
        assert!(mesh.update(&probe(
            "warden-http",
            &HTTP.replace("host=authority", "host=api.github.com:23")
        ))?);
        let _ = get(&mesh, "api.github.com");
        assert_eq!(mesh.outside.seen_at(address_of("api.github.com")?, 23).len(), 1);
        Ok(())
    }

    fn what_goes_inward_cannot_leave_by_another_route_and_the_reverse() -> Result<()> {
        let mesh = start(&probes(), unchanged)?;
        assert!(!tls_works(&mesh, "api.github.com")?, "accept does not open the inner route");
        assert!(mesh.update(&probe("warden-connect", FORWARD))?);
        assert!(tls_works(&mesh, "api.github.com")?);
        assert_eq!(first_words(&mesh, "partner.example", 22)?, Heard::Closed);
        assert!(mesh.outside.seen_at(address_of("partner.example")?, 22).is_empty());
        Ok(())
    }

    fn a_verdict_chooses_the_proxy_which_hears_only_of_names_that_have_an_address_left() -> Result<()> {
        let to_proxy = |verdict: &str| {
            let mut probe = probe("warden-http", HTTP);
            probe.configuration = format!(
                "name=warden-http\ncontext=http\nverdict={verdict}\nrest=facts\nhost=authority\nport=80\n\
                 proxy=dlp\nrule=p/t/r\nworkload=somebody\ndestination=api.github.com:80\nreroute=yes"
            );
            probe
        };
        let mut extensions = probes();
        extensions[0] = to_proxy("inspect:dlp:open");
        let mesh = start(&extensions, unchanged)?;
        assert_eq!(get(&mesh, "api.github.com")?.body, "api.github.com\n");
        let tunnels = mesh.inspection_proxy.seen();
        assert_eq!(tunnels.len(), 1, "{tunnels:?}");
        assert_eq!(tunnels[0].destination, "api.github.com:80");
        assert_eq!(tunnels[0].rule.as_deref(), Some("p/t/r"));
        assert_eq!(tunnels[0].workload.as_deref(), Some("somebody"));
        let request = String::from_utf8_lossy(&tunnels[0].bytes).to_lowercase();
        let address = address_of("api.github.com")?;
        assert!(request.contains(&format!("x-egress-warden-address: {address}:80\r\n")), "{request}");

        // No address is left of the one, none at all is of the other.
        assert_eq!(get(&mesh, "rebind.github.com")?.status, 403);
        assert_eq!(get(&mesh, "nowhere.github.com")?.status, 503);
        assert!(mesh.update(&to_proxy("inspect:dlp:shut"))?);
        assert_eq!(get(&mesh, "api.github.com")?.status, 403);
        assert_eq!(mesh.inspection_proxy.seen().len(), 1);

        // Accepted goes straight, for another inspection proxy nowhere, and a client's word is none.
        assert!(mesh.update(&to_proxy("accept:open"))?);
        assert_eq!(get(&mesh, "api.github.com")?.status, 200);
        for verdict in ["inspect:ids:open", "inspect:dlp2:open", "inspect:dlp", "inspect:"] {
            assert!(mesh.update(&to_proxy(verdict))?);
            assert_eq!(get(&mesh, "api.github.com")?.status, 403, "{verdict}");
        }
        assert_eq!(mesh.inspection_proxy.seen().len(), 1);

        // An inspection proxy that is down closes.
        assert!(mesh.update(&to_proxy("inspect:dlp:open"))?);
        mesh.inspection_proxy.stop()?;
        let arrived = mesh.outside.seen().len();
        let mut other = to_proxy("inspect:dlp:open");
        other.configuration = other.configuration.replace("p/t/r", "p/t/other");
        assert!(mesh.update(&other)?);
        assert_eq!(get(&mesh, "api.github.com")?.status, 503);
        assert_eq!(mesh.outside.seen().len(), arrived);
        Ok(())
    }

    fn with_the_lock_alone_nothing_gets_out() -> Result<()> {
        let mesh = start(&[], |config| {
            template::remove_filters(
                config,
                &["warden-http", "warden-connect", "warden-tls", "warden-direct", "warden-ended"],
            );
        })?;
        for (name, _) in HOSTS {
            assert_eq!(get(&mesh, name)?.status, 403, "{name}");
            assert!(!tls_works(&mesh, name)?, "{name}");
            assert_eq!(first_words(&mesh, name, 22)?, Heard::Closed, "{name}");
        }
        assert!(mesh.outside.seen().is_empty());
        assert!(mesh.dns.asked().is_empty());
        Ok(())
    }

    fn without_its_filter_the_inner_listener_leads_nowhere() -> Result<()> {
        let mut extensions = probes();
        extensions[1] = probe("warden-connect", FORWARD);
        let mesh = start(&extensions, |config| {
            template::remove_filters(config, &["warden-tls", "lock"]);
        })?;
        assert!(!tls_works(&mesh, "api.github.com")?);
        assert!(mesh.outside.seen().is_empty());
        assert!(mesh.dns.asked().is_empty());
        Ok(())
    }

    fn the_network_lock_stops_bytes_but_not_the_connection() -> Result<()> {
        let mut extensions = probes();
        extensions[1] = probe("warden-connect", FORWARD);
        // It chooses a way and opens none.
        extensions[2] = probe("warden-tls", &TLS.replace("accept:open", "deny"));
        let mesh = start(&extensions, unchanged)?;
        assert!(!tls_works(&mesh, "api.github.com")?);
        let seen = mesh.outside.seen_at(address_of("api.github.com")?, 443);
        assert!(seen.iter().all(|seen| seen.server_name.is_none() && seen.bytes.is_empty()));
        Ok(())
    }

    fn labels_are_unknown_when_the_banner_comes() -> Result<()> {
        let mesh = start(&probes(), unchanged)?;
        let mut stream = integration::client::connect(SocketAddrV4::new(APP1.sidecar, 15022))?;
        assert_eq!(hear(&mut stream)?, Heard::Bytes(SSH_BANNER.into()));
        let at_accept = line(&mesh, "warden-direct", "new")?;
        assert_has(&at_accept, &[" connection.requested_server_name=tcp-22.partner.example"]);
        assert!(!at_accept.contains("uri_san"));
        let at_banner = line(&mesh, "warden-direct", "upstream")?;
        assert_has(&at_banner, &[
            PRINCIPAL, " connection.mtls=1", " xds.cluster_name=outbound|22||partner.example",
        ]);
        assert!(!at_banner.contains("downstream_peer"));

        std::io::Write::write_all(&mut stream, b"SSH-2.0-client\r\n")?;
        assert_eq!(hear(&mut stream)?, Heard::Bytes(b"SSH-2.0-client\r\n".into()));
        assert_has(&line(&mesh, "warden-direct", "data")?, &[PRINCIPAL, LABEL]);
        // The preamble was for the gateway alone.
        assert_eq!(mesh.outside.seen_at(address_of("partner.example")?, 22)[0].bytes, b"SSH-2.0-client\r\n");
        Ok(())
    }

    fn a_refused_update_leaves_the_running_policy() -> Result<()> {
        let mesh = start(&probes(), unchanged)?;
        for bad in ["context=http configure=refuse", "context=http configure=trap"] {
            assert!(!mesh.update(&probe("warden-http", bad))?, "{bad}");
            assert_eq!(get(&mesh, "api.github.com")?.status, 200, "{bad}");
        }
        assert_eq!(mesh.gateway.stat(
            "extension_config_discovery.http_filter.warden-http.update_rejected")?, 2);
        assert!(mesh.update(&probe("warden-http", "context=http deny=headers"))?);
        assert_eq!(get(&mesh, "api.github.com")?.status, 403);
        Ok(())
    }

    fn a_first_policy_that_is_refused_closes() -> Result<()> {
        let mut extensions = probes();
        extensions[0] = probe("warden-http", "context=http configure=refuse");
        let mesh = start(&extensions, unchanged)?;
        assert!(get(&mesh, "api.github.com")?.status >= 400);
        assert!(mesh.outside.seen().is_empty());
        assert!(mesh.dns.asked().is_empty());
        // The next good one heals it.
        assert!(mesh.update(&probe("warden-http", HTTP))?);
        assert_eq!(get(&mesh, "api.github.com")?.status, 200);
        Ok(())
    }

    fn a_trap_closes_and_the_module_comes_back() -> Result<()> {
        let mut extensions = probes();
        extensions[0] = probe("warden-http", &format!("{HTTP} trap=x-trap"));
        let mesh = start(&extensions, unchanged)?;
        assert_eq!(get(&mesh, "api.github.com")?.status, 200);
        let arrived = mesh.outside.seen().len();
        let mut stream = mesh.dial(&APP1, SocketAddrV4::new(address_of("github.com")?, 80))?;
        let headers = [("Host", &b"api.github.com"[..]), ("x-trap", b"1")];
        let answer = request(&mut stream, "GET", "/", &headers)?.context("closed")?;
        assert_eq!(answer.status, 503);
        assert_eq!(mesh.outside.seen().len(), arrived);
        // Never anything but closed or judged until it is back.
        eventually("the module's return", || {
            let status = get(&mesh, "api.github.com").map_or(0, |answer| answer.status);
            assert!(matches!(status, 200 | 503), "{status}");
            status == 200
        })
    }
}

#[test]
fn the_bootstraps_are_valid_as_they_are() -> Result<()> {
    let files = tempfile::tempdir()?;
    let authority = Authority::new("mesh")?;
    write_certificates(files.path(), &authority, &[APP1])?;
    write_outside_certificates(files.path(), &authority, &authority)?;
    for extension in probes() {
        extension.write(files.path())?;
    }
    validate(&gateway_config(files.path(), &classes(), &unchanged)?)?;
    validate(&sidecar_config(files.path(), &APP1)?)
}
