use egress_policy::name::Name;

use super::*;
use crate::fake::APP1;

fn facts() -> StreamFacts {
    StreamFacts {
        protocol: Protocol::Http,
        identity: Fact::Known(Identity::Workload(APP1.into())),
        claims: Fact::Known(OwnedClaims {
            namespace: "app1-ns".to_owned(),
            cluster: Some("east".to_owned()),
            labels: vec![
                ("a".to_owned(), String::new()),
                ("b".to_owned(), "\"\n".to_owned()),
            ],
        }),
        destination: DestinationState::Judged(Destination {
            host: Target::Name(Name::parse(b"api.github.com").unwrap()),
            port: 80,
        }),
        request: RequestLine::none(),
        now: Fact::Missing,
    }
}

#[test]
fn facts_arrive_as_they_were_sent() {
    let judged = |host: &[u8]| {
        let host = Authority::parse(host).unwrap().host;
        DestinationState::Judged(Destination { host, port: 443 })
    };
    let rows = [
        facts(),
        StreamFacts {
            identity: Fact::Missing,
            claims: Fact::Missing,
            ..facts()
        },
        StreamFacts {
            identity: Fact::Known(Identity::Plaintext),
            ..facts()
        },
        StreamFacts {
            identity: Fact::Known(Identity::NoCertificate),
            ..facts()
        },
        StreamFacts {
            identity: Fact::Known(Identity::Malformed),
            ..facts()
        },
        StreamFacts {
            destination: judged(b"203.0.113.7"),
            ..facts()
        },
        StreamFacts {
            destination: judged(b"[2001:db8::1]"),
            protocol: Protocol::Tls,
            ..facts()
        },
    ];
    for sent in rows {
        let bytes = sent.to_wire().unwrap();
        assert_eq!(StreamFacts::from_wire(&bytes), Some(sent));
    }
}

#[test]
fn a_refused_request_hands_nothing_on() {
    assert_eq!(
        StreamFacts::refused(Protocol::Http, ReasonCode::NameMalformed).to_wire(),
        None
    );
}

#[test]
fn what_nobody_wrote_is_not_read() {
    let good = facts().to_wire().unwrap();
    for end in 0..good.len() {
        assert_eq!(StreamFacts::from_wire(&good[..end]), None, "{end} octets");
    }
    let text = String::from_utf8(good).unwrap();
    for (from, to) in [
        ("\"HTTP\"", "\"QUIC\""),
        ("api.github.com", "api..github.com"),
        ("\"port\":80", "\"port\":65536"),
        ("\"port\"", "\"more\":1,\"port\""),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        assert_eq!(StreamFacts::from_wire(changed.as_bytes()), None, "{to}");
    }
}
