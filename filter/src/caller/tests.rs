use super::*;
use crate::fake::{APP1, Fails, Fake};

#[test]
fn one_spiffe_uri_is_an_identity_and_nothing_else_is() {
    let rows: [(&[&[u8]], Identity); 7] = [
        (&[APP1.as_bytes()], Identity::Workload(APP1.into())),
        (&[], Identity::Malformed),
        (&[b""], Identity::Malformed),
        (&[APP1.as_bytes(), APP1.as_bytes()], Identity::Malformed),
        (&[APP1.as_bytes(), b""], Identity::Malformed),
        (
            &[b"spiffe://cluster.local/ns/app1-ns/sa/app1\0.evil"],
            Identity::Malformed,
        ),
        (
            &[b"spiffe://cluster.local/ns/app1-ns/sa/\xff"],
            Identity::Malformed,
        ),
    ];
    for (sans, expected) in rows {
        assert_eq!(
            Identity::from_uri_sans(sans.iter().copied()),
            expected,
            "{sans:?}"
        );
    }
}

#[test]
fn before_the_handshake_is_complete_nobody_is_known_not_to_be() {
    assert_eq!(identity_so_far(&Fake::default()), Fact::Pending);
    assert_eq!(identity(&Fake::default()), Fact::Known(Identity::Plaintext));
    let dash = Fake::default().with(&["filter_state", "warden.principal"], "-");
    assert_eq!(identity_so_far(&dash), Fact::Pending);
}

#[test]
fn an_identity_that_cannot_be_read_is_not_known() {
    let odd = Fake::default().with(&["connection", "mtls"], [1, 0]);
    assert_eq!(identity(&odd), Fact::Missing);
    let failing = Fake::app1();
    failing.fail(Fails::From(0));
    assert_eq!(identity(&failing), Fact::Missing);
    assert_eq!(identity_so_far(&failing), Fact::Missing);
}
