use super::*;

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect(text)
}

fn table() -> RouteTable {
    let mut routes = RouteTable::default();
    routes.add_istio_port(80, Protocol::Http);
    routes.add_istio_port(22, Protocol::Tcp);
    let wild = Route {
        host: RouteHost::Pattern(NamePattern::parse("*.example.com").expect("a pattern")),
        port: Some(443),
        protocol: Protocol::Http,
    };
    routes.add_cluster("wild".to_owned(), wild);
    routes
}

#[test]
fn clusters_that_a_verdict_may_lead_to() {
    let routes = table();
    let host = |cluster: &[u8]| routes.resolve(cluster).map(|route| route.host.clone());
    assert_eq!(
        host(b"outbound|80||Api.example.com."),
        Ok(RouteHost::Name(name("api.example.com")))
    );
    assert_eq!(
        host(b"outbound|22|v1|203.0.113.7"),
        Ok(RouteHost::Address([203, 0, 113, 7].into()))
    );
    assert!(matches!(
        host(b"outbound|80||*.example.com"),
        Ok(RouteHost::Pattern(_))
    ));
    assert!(matches!(host(b"wild"), Ok(RouteHost::Pattern(_))));
    let refused: &[&[u8]] = &[
        b"",
        b"PassthroughCluster",
        b"BlackHoleCluster",
        b"InboundPassthroughCluster",
        b"Wild",
        b"wild ",
        b"outbound|81||api.example.com",
        b"outbound|0||api.example.com",
        b"outbound|65536||api.example.com",
        b"outbound|+80||api.example.com",
        b"outbound|||api.example.com",
        b"outbound|80|api.example.com",
        b"outbound|80||api.example.com|x",
        b"outbound|80||",
        b"outbound|80||a,b",
        b"outbound|80||*",
        b"outbound|80||*.com",
        b"outbound|80||127.1",
        b"inbound|80||api.example.com",
        b"OUTBOUND|80||api.example.com",
        b"outbound|80||\xff",
    ];
    for cluster in refused {
        let shown = String::from_utf8_lossy(cluster);
        assert_eq!(host(cluster), Err(ReasonCode::RouteMismatch), "{shown}");
    }
}

#[test]
fn a_cluster_or_port_is_listed_once() {
    let mut routes = table();
    assert!(!routes.add_istio_port(80, Protocol::Tcp));
    let route = Route {
        host: RouteHost::Dynamic,
        port: None,
        protocol: Protocol::Tcp,
    };
    assert!(!routes.add_cluster("wild".to_owned(), route));
}

#[test]
fn a_request_goes_where_its_route_leads() {
    let fixed = Route {
        host: RouteHost::Name(name("api.example.com")),
        port: Some(80),
        protocol: Protocol::Http,
    };
    let dynamic = Route {
        host: RouteHost::Dynamic,
        ..fixed.clone()
    };
    let portless = Route {
        port: None,
        ..dynamic.clone()
    };
    for (authority, route, app_sni, expected) in [
        ("api.example.com", &fixed, None, Ok("api.example.com")),
        ("api.example.com:22", &fixed, None, Ok("api.example.com")),
        (
            "a.example.com",
            &fixed,
            None,
            Err(ReasonCode::RouteMismatch),
        ),
        ("192.0.2.1", &fixed, None, Err(ReasonCode::RouteMismatch)),
        ("a.example.com", &dynamic, None, Ok("a.example.com")),
        ("a.example.com:80", &dynamic, None, Ok("a.example.com")),
        (
            "a.example.com:22",
            &dynamic,
            None,
            Err(ReasonCode::RouteMismatch),
        ),
        ("192.0.2.1", &dynamic, None, Ok("192.0.2.1")),
        (
            "a.example.com",
            &portless,
            None,
            Err(ReasonCode::RouteMismatch),
        ),
        ("a,b", &dynamic, None, Err(ReasonCode::NameMalformed)),
        (
            "a.example.com",
            &dynamic,
            Some("A.example.com"),
            Ok("a.example.com"),
        ),
        (
            "a.example.com",
            &dynamic,
            Some("b.example.com"),
            Err(ReasonCode::HostMismatch),
        ),
        (
            "a.example.com",
            &dynamic,
            Some("a,b"),
            Err(ReasonCode::NameMalformed),
        ),
    ] {
        let agreed = from_request(authority.as_bytes(), route, app_sni.map(str::as_bytes));
        let host = agreed.map(|agreed| agreed.host.to_string());
        assert_eq!(host, expected.map(str::to_owned), "{authority} {app_sni:?}");
    }
}

#[test]
fn facts_of_a_destination() {
    let resolved = Fact::Known([192, 0, 2, 1].into());
    let named = Destination {
        host: Host::Name(name("a.example.com")),
        port: 80,
    };
    assert_eq!(named.facts(resolved).address, resolved);
    assert_eq!(named.facts(Fact::Pending).address, Fact::Pending);
    let literal = Destination {
        host: Host::Address([203, 0, 113, 7].into()),
        port: 22,
    };
    let facts = literal.facts(Fact::Pending);
    assert_eq!(facts.name, Fact::Known(None));
    assert_eq!(facts.address, Fact::Known([203, 0, 113, 7].into()));
}

#[test]
fn a_route_leads_to_its_hosts_on_its_port() {
    let to = |host: &str, port| Destination {
        host: Authority::parse_sni(host.as_bytes()).expect(host),
        port,
    };
    let route = |host, port| Route {
        host,
        port,
        protocol: Protocol::Tls,
    };
    let pattern = || NamePattern::parse("*.example.com").expect("a pattern");
    let rows = [
        (RouteHost::Name(name("a.example.com")), [true, false, false]),
        (
            RouteHost::Address([203, 0, 113, 7].into()),
            [false, false, true],
        ),
        (RouteHost::Pattern(pattern()), [true, false, false]),
        (RouteHost::OneOf([pattern()].into()), [true, false, false]),
        (RouteHost::Dynamic, [true, true, true]),
        (
            RouteHost::AllExcept([pattern()].into()),
            [false, true, true],
        ),
    ];
    for (hosts, expected) in rows {
        for (host, leads) in ["a.example.com", "a.example", "203.0.113.7"]
            .into_iter()
            .zip(expected)
        {
            let what = format!("{hosts:?} to {host}");
            let fixed = route(hosts.clone(), Some(443));
            assert_eq!(fixed.leads_to(&to(host, 443)), leads, "{what}");
            assert!(!fixed.leads_to(&to(host, 80)), "{what}");
            let any_port = route(hosts.clone(), None);
            assert_eq!(any_port.leads_to(&to(host, 80)), leads, "{what}");
        }
    }
}

#[test]
fn a_table_carries_one_protocol_or_none_that_can_be_named() {
    let tls = || Route {
        host: RouteHost::Dynamic,
        port: Some(443),
        protocol: Protocol::Tls,
    };
    let mut routes = RouteTable::default();
    assert_eq!(routes.protocol(), None);
    routes.add_cluster("one".to_owned(), tls());
    routes.add_cluster("two".to_owned(), tls());
    routes.add_istio_port(443, Protocol::Tls);
    assert_eq!(routes.protocol(), Some(Protocol::Tls));
    routes.add_istio_port(22, Protocol::Tcp);
    assert_eq!(routes.protocol(), None);
}
