//! What is tried, what is expected of it, and how what comes back is judged.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use egress_analysis::decision::ReasonWord;
use egress_policy::facts::Fact;
use egress_policy::verdict::ReasonCode;
use socket2::{Domain, Socket, Type};

use super::plan::Planned;
use super::*;
use crate::Console;
use crate::output::Output;
use crate::sources::{Inputs, load};
use egress_analysis::bundle::PolicyBundle;
use egress_analysis::owned_facts::parse_caller;

const POLICY: &str = r#"
apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: seed}
spec:
  identity: {trustDomains: [cluster.local]}
  tiers:
  - name: apps
    rules:
    - name: pages
      from: [{namespaces: [app1-ns]}]
      to: [{domainNames: ["*.github.com"], ports: [80], paths: ["/v{1,2}/**"]}]
      action: Accept
    - name: upload
      from: [{namespaces: [app1-ns]}]
      to: [{domainNames: [upload.example.com], ports: [80], methods: [POST]}]
      action: Accept
    - name: tls
      from: [{namespaces: [app1-ns]}]
      to: [{domainNames: [api.example.com], ports: [443]}]
      action: Accept
    - name: ssh
      from: [{namespaces: [app1-ns]}]
      to: [{networks: [203.0.113.7/32, 203.0.113.64/26], except: [203.0.113.65/32], ports: [22], protocols: [TCP]}]
      action: Accept
    - name: time
      from: [{namespaces: [app1-ns]}]
      to: [{networks: [192.0.2.123/32], ports: [123], protocols: [UDP]}]
      action: Accept
    - name: others
      from: [{namespaces: [app2-ns]}]
      to: [{domainNames: [api.weather.gov], ports: [80]}]
      action: Accept
"#;

fn bundle(policy: &str) -> PolicyBundle {
    let mut loaded = load(
        &Inputs {
            files: vec!["-".to_owned()],
        },
        &mut Console {
            stdin: &mut policy.as_bytes(),
            stdout: &mut Vec::new(),
            stderr: &mut Vec::new(),
            now: None,
            directory: std::path::Path::new("."),
            color: false,
        },
    )
    .unwrap();
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    loaded.bundles.remove(0)
}

/// What is planned for `app1-ns/app1`, where these names lead somewhere.
fn planned(names: &[(&str, [u8; 4])], groups: &[Group], direct: &Direct) -> Planned {
    planned_for(POLICY, names, groups, direct)
}

/// The same of another policy.
fn planned_for(
    policy: &str,
    names: &[(&str, [u8; 4])],
    groups: &[Group],
    direct: &Direct,
) -> Planned {
    let bundle = bundle(policy);
    let set = bundle.compile().unwrap();
    let (caller, claims) = parse_caller("app1-ns/app1,claims=none", "cluster.local").unwrap();
    let workload = Workload {
        caller,
        claims,
        now: Fact::Known(0),
    };
    let mut plan = Plan::new(&bundle, &set, workload, Vec::new());
    let asked = plan.names(100);
    let known = names.iter().map(|(name, octets)| {
        assert!(
            asked.iter().any(|asked| asked == name),
            "{name} in {asked:?}"
        );
        ((*name).to_owned(), IpAddr::V4(Ipv4Addr::from(*octets)))
    });
    plan.set_resolved(known.collect());
    plan.probes(groups, direct)
}

fn words(planned: &Planned) -> Vec<String> {
    let row = |probe: &Probe| {
        let expected = &probe.expected;
        let by = expected.decided_by.words();
        let by = by.as_deref().unwrap_or("-");
        format!("{}: {:?} {by}", probe.attempt, expected.verdict)
    };
    planned.probes.iter().map(row).collect()
}

#[test]
fn every_destination_that_a_rule_names_is_tried_and_the_engine_says_what_to_expect() {
    let names = [
        ("www.github.com", [140, 82, 112, 4]),
        ("api.example.com", [10, 0, 0, 5]),
    ];
    let planned = planned(&names, &[Group::Destinations], &Direct::default());
    assert_eq!(
        words(&planned),
        [
            "http://www.github.com/v1/zz: Reached seed/apps/pages",
            "tcp 203.0.113.7:22: Reached seed/apps/ssh",
            // The first of the network is excepted.
            "tcp 203.0.113.66:22: Reached seed/apps/ssh",
            "ntp 192.0.2.123:123: Reached seed/apps/time",
            // Where the name leads is known, and no name may lead there.
            "tls api.example.com at 10.0.0.5:443: Refused seed/apps/tls (private_address)",
            "http://api.weather.gov/: Refused seed (default)",
        ]
    );
    assert_eq!(planned.not_tried, ["seed/apps/upload: asks for POST"]);
    let lives = |probe: &&Probe| probe.known_live;
    assert_eq!(
        planned.probes.iter().filter(lives).count(),
        3,
        "{planned:?}"
    );
}

/// Where the gateway speaks TLS itself, the application speaks HTTP at the port for it.
#[test]
fn a_name_that_the_gateway_speaks_tls_to_is_tried_over_http() {
    for (port, wanted) in [
        (443, "http://pay.example/: Reached seed/apps/pay"),
        (8443, "http://pay.example:8443/: Reached seed/apps/pay"),
    ] {
        let rule = format!(
            "to: [{{domainNames: [pay.example], ports: [{port}], tls: {{originate: true}}}}]"
        );
        let policy = POLICY.split("    - name: pages").next().unwrap();
        let policy = format!("{policy}    - {{name: pay, {rule}, action: Accept}}\n");
        let groups = [Group::Destinations];
        let planned = planned_for(&policy, &[], &groups, &Direct::default());
        assert_eq!(words(&planned), [wanted]);
    }
}

/// Where the pod is told an address that stands for a name over opaque TCP, the name is asked for.
#[test]
fn a_name_over_opaque_tcp_is_judged_as_a_name_where_an_address_stands_for_it() {
    const NAMES: &str = r"
apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: seed}
spec:
  identity: {trustDomains: [cluster.local]}
  tiers:
  - name: apps
    rules:
    - name: db
      from: [{namespaces: [app1-ns]}]
      to: [{domainNames: [db.example], ports: [5432], protocols: [TCP]}]
      action: Accept
";
    for (address, wanted) in [
        (
            [240, 241, 7, 9],
            "tcp 240.241.7.9:5432: Reached seed/apps/db",
        ),
        // No address stands for it: the sidecar asks for where it leads.
        (
            [203, 0, 113, 9],
            "tcp 203.0.113.9:5432: Refused seed (default)",
        ),
    ] {
        let groups = [Group::Destinations];
        let planned = planned_for(
            NAMES,
            &[("db.example", address)],
            &groups,
            &Direct::default(),
        );
        assert_eq!(words(&planned), [wanted]);
    }
}

#[test]
fn near_misses_are_misses() {
    let names = [("api.github.com", [140, 82, 112, 5])];
    let planned = planned(&names, &[Group::NearMisses], &Direct::default());
    let words = words(&planned);
    for wanted in [
        "http://github.com/: Refused seed (default)",
        "http://evilgithub.com/: Refused seed (default)",
        "http://api.github.com.evil.example/: Refused seed (default)",
        "tls zz.example.com at 198.51.100.1:443: Refused seed (default)",
        "http://api.github.com,evil.example/: Refused no rule (name_malformed)",
        "http://api.github.com:22/: Refused no rule (route_mismatch)",
        "tcp 203.0.113.7:23: Refused seed (default)",
        "tcp 203.0.113.6:22: Refused seed (default)",
        "tcp 203.0.113.8:22: Refused seed (default)",
        "tls 198.51.100.1:443 without a server name: Refused no rule (sni_missing)",
    ] {
        assert!(
            words.iter().any(|word| word == wanted),
            "{wanted} in {words:#?}"
        );
    }
    let expected = |probe: &Probe| probe.expected.verdict == Expectation::Refused;
    assert!(planned.probes.iter().all(expected), "{words:#?}");
}

#[test]
fn no_way_around_is_expected_to_be_open_but_what_a_udp_rule_excepts() {
    let direct = Direct {
        may_ping: true,
        resolvers: vec![IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8))],
        ..Direct::default()
    };
    let names = [("api.github.com", [140, 82, 112, 5])];
    let all = planned(&names, &[Group::Bypass], &direct);
    let expected = |probe: &Probe| probe.expected.verdict == Expectation::Refused;
    assert!(all.probes.iter().all(expected), "{:#?}", words(&all));
    let tried: Vec<String> = all
        .probes
        .iter()
        .map(|probe| probe.attempt.to_string())
        .collect();
    for wanted in [
        "tcp 140.82.112.5:80 directly",
        "tcp 169.254.169.254:80 directly",
        "tcp [fd00:ec2::254]:80 directly",
        "quic 140.82.112.5:443",
        "dns over udp 1.1.1.1:53",
        "tcp 1.1.1.1:853 directly",
        "ping 140.82.112.5",
    ] {
        assert!(
            tried.iter().any(|word| word == wanted),
            "{wanted} in {tried:#?}"
        );
    }
    assert!(
        !tried.iter().any(|word| word.contains("8.8.8.8")),
        "the pod's own resolver"
    );

    // What a proxy takes would not go past it; what cannot be tried is said.
    let captured = Direct {
        captured: Captured {
            v4: true,
            v6: false,
        },
        ..Direct::default()
    };
    let some = planned(&names, &[Group::Bypass], &captured);
    let v4_direct = |probe: &Probe| {
        matches!(
            probe.attempt,
            Attempt::Direct {
                to: SocketAddr::V4(_)
            }
        )
    };
    assert!(!some.probes.iter().any(v4_direct), "{:#?}", words(&some));
    assert_eq!(some.not_tried.len(), 2, "{:?}", some.not_tried);
}

#[test]
fn a_limit_says_what_it_leaves_out() {
    let mut planned = planned(&[], &[Group::Destinations], &Direct::default());
    planned.cut(2);
    assert_eq!(planned.probes.len(), 2);
    assert!(
        planned
            .not_tried
            .iter()
            .any(|what| what == "4 more of destinations (--most 2)")
    );
}

#[test]
fn nothing_unclear_passes_for_good() {
    use Comparison::{AsExpected, Differs, Unclear};
    let probe = |verdict, inhabited| Probe {
        group: Group::Destinations,
        why: String::new(),
        attempt: Attempt::Tcp {
            to: SocketAddr::from(([203, 0, 113, 7], 22)),
        },
        expected: ProbeExpectation {
            verdict,
            decided_by: WrittenDecidedBy::default(),
        },
        known_live: inhabited,
    };
    let reached = ProbeResult::Reached(String::new());
    let denied = ProbeResult::Denied(WrittenDecidedBy::default());
    let (refused, unclear) = (
        ProbeResult::Refused(String::new()),
        ProbeResult::Unclear(String::new()),
    );
    // Seen; judged where refused is expected, where reached is, where nobody may live, and where
    // nothing is known.
    let table = [
        (&reached, Differs, AsExpected, AsExpected, Unclear),
        (&ProbeResult::Open, Unclear, AsExpected, AsExpected, Unclear),
        (&denied, AsExpected, Differs, Differs, Unclear),
        (&refused, AsExpected, Differs, Unclear, Unclear),
        (&ProbeResult::Dropped, AsExpected, Differs, Unclear, Unclear),
        (&unclear, Unclear, Unclear, Unclear, Unclear),
    ];
    for (seen, closed, open, empty, undecided) in table {
        assert_eq!(
            judge(&probe(Expectation::Refused, true), seen),
            closed,
            "{seen:?}"
        );
        assert_eq!(
            judge(&probe(Expectation::Reached, true), seen),
            open,
            "{seen:?}"
        );
        assert_eq!(
            judge(&probe(Expectation::Reached, false), seen),
            empty,
            "{seen:?}"
        );
        assert_eq!(
            judge(&probe(Expectation::Undecided, true), seen),
            undecided,
            "{seen:?}"
        );
    }
}

/// A server that hears first words and says its own; where it listens.
fn server(hears: bool, says: &'static [u8], then_closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            if hears {
                let _ = stream.read(&mut [0; 4096]);
            }
            let _ = stream.write_all(says);
            if !then_closes {
                kept.push(stream);
            }
        }
    });
    address
}

#[test]
fn what_is_seen_is_what_the_other_side_did() {
    let tls = |to| Attempt::Tls {
        to,
        name: Some("api.example.com".to_owned()),
    };
    let http = |to| Attempt::Http {
        to,
        method: "GET",
        authority: "api.example.com".to_owned(),
        path: "/".to_owned(),
        headers: Vec::new(),
    };
    let tcp = |to| Attempt::Tcp { to };
    let direct = |to| Attempt::Direct { to };
    // Bound, so that no other server gets the port, and never listening.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let nobody = silent.local_addr().unwrap().as_socket().unwrap();
    let reached = |text: &str| ProbeResult::Reached(text.to_owned());
    let refused = |text: &str| ProbeResult::Refused(text.to_owned());
    let table = [
        (
            tcp(server(false, b"SSH-2.0-x\r\n", false)),
            reached("SSH-2.0-x"),
        ),
        (tcp(server(false, b"", false)), ProbeResult::Open),
        (tcp(server(false, b"", true)), refused("closed")),
        (tcp(nobody), refused("reset")),
        (direct(nobody), refused("reset")),
        (direct(server(false, b"", false)), reached("connected")),
        (
            tls(server(true, b"\x16\x03\x03\x00\x02\x02\x00", false)),
            reached("a TLS record"),
        ),
        (
            tls(server(true, b"\x15\x03\x03\x00\x02\x02\x28", true)),
            reached("a TLS record"),
        ),
        (tls(server(true, b"", true)), refused("closed")),
        (
            tls(server(true, b"HTTP/1.1 400", false)),
            ProbeResult::Unclear("HTTP/1.1 400".to_owned()),
        ),
        (
            http(server(
                true,
                b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
                false,
            )),
            reached("204"),
        ),
        (http(server(true, b"", true)), refused("closed")),
        (http(server(true, b"", false)), ProbeResult::Dropped),
    ];
    let attempts: Vec<&Attempt> = table.iter().map(|(attempt, _)| attempt).collect();
    let mut done = 0;
    let seen = try_all(&attempts, Duration::from_secs(1), |count| {
        done = done.max(count);
    });
    assert_eq!(done, table.len());
    for ((attempt, expected), seen) in table.iter().zip(&seen) {
        assert_eq!(seen, expected, "{attempt}");
    }
}

#[test]
fn a_client_hello_carries_the_name_or_none() {
    let find = |bytes: &[u8]| bytes.windows(15).any(|part| part == b"api.example.com");
    let named = probe::hello(Some("api.example.com")).unwrap();
    assert!(find(&named) && named.starts_with(&[0x16, 3]));
    let bare = probe::hello(None).unwrap();
    assert!(!find(&bare) && !bare.windows(7).any(|part| part == b"invalid"));
}

fn by_default() -> WrittenDecidedBy {
    WrittenDecidedBy {
        policy: Some("seed".to_owned()),
        reason: Some(ReasonWord(ReasonCode::Default)),
        ..WrittenDecidedBy::default()
    }
}

#[test]
fn the_report_is_as_documented() {
    let planned = planned(&[], &[Group::Destinations], &Direct::default());
    let seen = [
        ProbeResult::Reached("200".to_owned()),
        ProbeResult::Open,
        ProbeResult::Denied(by_default()),
        ProbeResult::Refused("closed".to_owned()),
        ProbeResult::Dropped,
        ProbeResult::Unclear("503".to_owned()),
    ];
    let outcomes = planned.probes.into_iter().zip(seen);
    let captured = Captured::default();
    let report = PodReport::new("a/b", captured, outcomes, planned.not_tried, false);
    let written = |output: Output| {
        let mut stdout = Vec::new();
        let mut console = Console {
            stdin: &mut std::io::empty(),
            stdout: &mut stdout,
            stderr: &mut std::io::sink(),
            now: None,
            directory: std::path::Path::new("."),
            color: false,
        };
        output.write(&report, &mut console).unwrap();
        String::from_utf8(stdout).unwrap()
    };
    let json = serde_json::from_str(&written(Output::Json)).unwrap();
    crate::tests::outputs::is_as_documented("verify", &json);
    assert_eq!(json["probes"].as_array().unwrap().len(), 6);
    assert_eq!(json["probes"][2]["seen"]["reason"], "default");
    assert!(written(Output::Human).contains("denied by the gateway: seed (default)"));
}
