use base64::engine::general_purpose::{STANDARD as PADDED, STANDARD_NO_PAD};

use super::*;

const KEYS: [&str; 2] = ["egress-ruleset", "team"];

fn keys() -> Vec<String> {
    KEYS.iter().map(|key| (*key).to_owned()).collect()
}

fn text_entry(key: &str, value: &str) -> Entry {
    entry(key, Some(Kind::Text(value.to_owned())))
}

fn entry(key: &str, kind: Option<Kind>) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Some(Value { kind }),
    }
}

fn labels(fields: Vec<Entry>) -> Entry {
    entry("LABELS", Some(Kind::Struct(Struct { fields })))
}

fn metadata(fields: Vec<Entry>) -> Vec<u8> {
    Struct { fields }.encode_to_vec()
}

fn decode(fields: Vec<Entry>) -> Option<OwnedClaims> {
    let header = PADDED.encode(metadata(fields));
    from_peer_metadata(header.as_bytes(), &keys()).ok()
}

fn claims(labels: &[(&str, &str)]) -> OwnedClaims {
    OwnedClaims {
        namespace: "app1-ns".to_owned(),
        cluster: None,
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[test]
fn peer_metadata_is_read_as_far_as_policies_ask() {
    let namespace = || text_entry("NAMESPACE", "app1-ns");
    let ruleset = || text_entry("egress-ruleset", "app1");
    let long = "a".repeat(MAX_VALUE + 1);
    let many = || {
        (0..=MAX_LABELS)
            .map(|i| text_entry(&i.to_string(), ""))
            .collect()
    };
    let rows: Vec<(&str, Vec<Entry>, Option<OwnedClaims>)> = vec![
        (
            "a workload",
            vec![
                namespace(),
                labels(vec![ruleset(), text_entry("other", "x")]),
            ],
            Some(claims(&[("egress-ruleset", "app1")])),
        ),
        (
            "with a cluster",
            vec![
                namespace(),
                text_entry("CLUSTER_ID", "east"),
                labels(vec![]),
            ],
            Some(OwnedClaims {
                cluster: Some("east".to_owned()),
                ..claims(&[])
            }),
        ),
        (
            "an empty value",
            vec![namespace(), labels(vec![text_entry("team", "")])],
            Some(claims(&[("team", "")])),
        ),
        ("without labels", vec![namespace()], Some(claims(&[]))),
        ("without namespace", vec![labels(vec![ruleset()])], None),
        ("two namespaces", vec![namespace(), namespace()], None),
        (
            "a label twice",
            vec![namespace(), labels(vec![ruleset(), ruleset()])],
            None,
        ),
        (
            "labels twice",
            vec![namespace(), labels(vec![]), labels(vec![])],
            None,
        ),
        (
            "a label that is no text",
            vec![namespace(), labels(vec![entry("team", None)])],
            None,
        ),
        (
            "an unselected one",
            vec![namespace(), labels(vec![entry("other", None)])],
            Some(claims(&[])),
        ),
        (
            "labels as text",
            vec![namespace(), text_entry("LABELS", "x")],
            None,
        ),
        (
            "a value over the cap",
            vec![namespace(), labels(vec![text_entry("team", &long)])],
            None,
        ),
        ("too many labels", vec![namespace(), labels(many())], None),
    ];
    for (what, fields, expected) in rows {
        assert_eq!(decode(fields), expected, "{what}");
    }
}

#[test]
fn the_header_is_base64_with_or_without_padding() {
    let bytes = metadata(vec![text_entry("NAMESPACE", "app1-ns")]);
    for header in [PADDED.encode(&bytes), STANDARD_NO_PAD.encode(&bytes)] {
        assert_eq!(
            from_peer_metadata(header.as_bytes(), &keys()),
            Ok(claims(&[])),
            "{header}"
        );
    }
    let long = PADDED.encode(vec![0; MAX_HEADER]);
    for bad in [
        &b""[..],
        b"!",
        b"YW=I",
        b"\xff\xfe",
        b"AAAA",
        long.as_bytes(),
    ] {
        assert_eq!(
            from_peer_metadata(bad, &keys()),
            Err(Unclear),
            "{}",
            bad.escape_ascii()
        );
    }
}

#[test]
fn hostile_protobuf_is_no_claim_and_no_trap() {
    let deep = (0..10_000).fold(Vec::new(), |inner: Vec<u8>, _| {
        // fields[0] = {key: "", value: {struct: inner}}, as long as the lengths fit.
        let value = field(5, &inner);
        let entry = field(2, &value);
        field(1, &entry)
    });
    assert!(
        Struct::decode(deep.as_slice()).is_err(),
        "nesting is limited"
    );
    let mut seed = 1_u64;
    let good = metadata(vec![
        text_entry("NAMESPACE", "app1-ns"),
        labels(vec![text_entry("team", "pay")]),
    ]);
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut bytes = good.clone();
        let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
        bytes[at] = u8::try_from(seed >> 56).unwrap();
        let header = PADDED.encode(bytes);
        // Whatever it says, it says it without a trap.
        let _ = from_peer_metadata(header.as_bytes(), &keys());
    }
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut field = vec![tag << 3 | 2];
    while length >= 128 {
        field.push(u8::try_from(length & 127).unwrap() | 128);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    field.extend_from_slice(bytes);
    field
}
