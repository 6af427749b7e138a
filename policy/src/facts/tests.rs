use super::*;

#[test]
fn spiffe_ids_in_istios_form() {
    let id = SpiffeId::parse(b"spiffe://cluster.local/ns/app1-ns/sa/app1").expect("an id");
    assert_eq!(
        (id.trust_domain, id.namespace, id.service_account),
        ("cluster.local", "app1-ns", "app1")
    );
    let table: &[&[u8]] = &[
        b"",
        b"spiffe://",
        b"spiffe://cluster.local",
        b"spiffe://cluster.local/ns/a/sa",
        b"spiffe://cluster.local/ns/a/sa/",
        b"spiffe://cluster.local/ns//sa/b",
        b"spiffe:///ns/a/sa/b",
        b"spiffe://cluster.local/ns/a/sa/b/",
        b"spiffe://cluster.local/ns/a/sa/b/c",
        b"spiffe://cluster.local/sa/b/ns/a",
        b"spiffe://cluster.local/NS/a/sa/b",
        b"spiffe://cluster.local/ns/../sa/b",
        b"spiffe://cluster.local/ns/./sa/b",
        b"spiffe://cluster.local/ns/a%2fb/sa/c",
        b"spiffe://cluster.local/ns/a/sa/b?x",
        b"spiffe://cluster.local/ns/a/sa/b#x",
        b"spiffe://user@cluster.local/ns/a/sa/b",
        b"spiffe://cluster.local:8080/ns/a/sa/b",
        b"spiffe://cluster.local/ns/a/sa/b\0",
        b"spiffe://cluster.local/ns/a/sa/b ",
        b" spiffe://cluster.local/ns/a/sa/b",
        b"SPIFFE://cluster.local/ns/a/sa/b",
        b"https://cluster.local/ns/a/sa/b",
        b"spiffe://cluster.local/ns/a/sa/\xff",
    ];
    for uri in table {
        let shown = String::from_utf8_lossy(uri);
        assert_eq!(
            SpiffeId::parse(uri),
            Err(ReasonCode::IdentityMalformed),
            "{shown}"
        );
    }
    let long = format!("spiffe://cluster.local/ns/a/sa/{}", "b".repeat(256));
    assert_eq!(
        SpiffeId::parse(long.as_bytes()),
        Err(ReasonCode::IdentityMalformed)
    );
}

#[test]
fn exactly_one_uri_san_is_an_identity() {
    let good: &[u8] = b"spiffe://cluster.local/ns/a/sa/b";
    let other: &[u8] = b"spiffe://cluster.local/ns/a/sa/c";
    assert!(Caller::from_uri_sans([good]).workload().is_some());
    for sans in [
        vec![],
        vec![good, other],
        vec![good, good],
        vec![other, b"x"],
    ] {
        assert_eq!(Caller::from_uri_sans(sans), Caller::Malformed);
    }
}

#[test]
fn claims_count_only_beside_a_certificate_that_they_agree_with() {
    let id = SpiffeId {
        trust_domain: "cluster.local",
        namespace: "a",
        service_account: "b",
    };
    let claims = |namespace| Claims {
        namespace,
        cluster: None,
        labels: &[("k", "v")],
    };
    let workload = Fact::Known(Caller::Workload(id));
    let known = Fact::Known(claims("a"));
    let table = [
        (workload, known, known),
        (workload, Fact::Known(claims("b")), Fact::Missing),
        (workload, Fact::Known(claims("A")), Fact::Missing),
        (workload, Fact::Pending, Fact::Pending),
        (workload, Fact::Missing, Fact::Missing),
        (Fact::Pending, known, Fact::Pending),
        (Fact::Pending, Fact::Pending, Fact::Pending),
        (Fact::Pending, Fact::Missing, Fact::Missing),
        (Fact::Missing, known, Fact::Missing),
        (Fact::Known(Caller::NoCertificate), known, Fact::Missing),
        (Fact::Known(Caller::Plaintext), known, Fact::Missing),
        (Fact::Known(Caller::Malformed), known, Fact::Missing),
    ];
    for (caller, claimed, counting) in table {
        let mut facts = Facts::pending(Protocol::Http);
        facts.caller = caller;
        facts.claims = claimed;
        assert_eq!(facts.counting_claims(), counting, "{caller:?} {claimed:?}");
    }
}
