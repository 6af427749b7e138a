use egress_policy::verdict::{Action, Decision, ReasonCode, RuleRef};

use super::*;

/// Status, gRPC status, and the header's JSON.
#[test]
fn every_denial_has_its_status_and_says_in_a_header_what_decided() {
    let policy = RuleRef::Policy { policy: "seed" };
    for (rule, reason, status, grpc_status, header) in [
        (
            policy,
            ReasonCode::Default,
            403,
            7,
            r#"{"policy":"seed","tier":null,"rule":null,"reason":"default"}"#,
        ),
        (
            RuleRef::None,
            ReasonCode::LimitStreams,
            429,
            8,
            r#"{"policy":null,"tier":null,"rule":null,"reason":"limit_streams"}"#,
        ),
    ] {
        let decision = Decision {
            action: Action::Deny,
            reason,
            rule,
        };
        for wants_json in [false, true] {
            let denial = Denial::new("w", "d", &decision);
            let response = response(&denial, wants_json);
            assert_eq!(
                (response.status, response.grpc_status),
                (status, grpc_status)
            );
            let headers = response.headers.iter();
            let found = headers.filter(|(name, _)| *name == DENIED_HEADER);
            let found: Vec<_> = found.map(|(_, value)| value.as_str()).collect();
            assert_eq!(found, [header]);
        }
    }
}

#[test]
fn bytes_of_a_client_are_made_printable_and_short() {
    assert_eq!(printable(b"a\r\n\xff\"<"), r#"a\r\n\xff\"<"#);
    assert_eq!(printable(&[b'a'; 10_000]).len(), 256);
}
