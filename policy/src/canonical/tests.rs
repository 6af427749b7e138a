use super::*;
use crate::tree::{Json, Tree};

fn of(json: &str) -> String {
    hex(&hash(&Json::parse(json).expect("JSON")).expect("a hash"))
}

#[test]
fn one_document_has_one_hash_however_it_is_written() {
    let plain = of(r#"{"a":[1,"x"],"b":{"c":true,"d":null}}"#);
    assert_eq!(
        of("{ \"b\": {\"d\": null, \"c\": true},\n \"a\": [1, \"\\u0078\"] }"),
        plain
    );
    let yaml: Tree = serde_saphyr::from_str("b: {d: null, c: true}\na: [1, x]\n").expect("YAML");
    assert_eq!(hex(&hash(&&yaml).expect("a hash")), plain);
}

#[test]
fn different_documents_have_different_hashes() {
    let documents = [
        "{}",
        "[]",
        "null",
        "\"\"",
        "0",
        "\"0\"",
        "[0]",
        "[[]]",
        "[1,2]",
        "[12]",
        "[2,1]",
        "{\"a\":1}",
        "{\"a\":\"1\"}",
        "{\"a1\":1}",
        "[\"a\",1]",
        "[\"a,1\"]",
        "true",
        "\"true\"",
    ];
    let hashes: std::collections::BTreeSet<String> =
        documents.iter().map(|json| of(json)).collect();
    assert_eq!(hashes.len(), documents.len());
}

/// Known from outside: `printf '{"a":1}' | sha256sum`.
#[test]
fn the_hash_is_sha_256_over_canonical_json() {
    assert_eq!(
        of("{ \"a\" : 1 }"),
        "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    );
}
