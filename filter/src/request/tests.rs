use super::*;
use crate::host::write_pairs;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    Headers::parse(write_pairs(&pairs.collect::<Vec<_>>()).unwrap()).unwrap()
}

#[test]
fn json_is_answered_to_who_asks_for_it() {
    for (accept, expected) in [
        (vec!["application/json"], true),
        (vec!["text/html, Application/JSON ; charset=utf-8"], true),
        (vec!["text/html", "application/problem+json;q=0.1"], true),
        (vec!["application/json;q=0"], false),
        (vec!["application/json; Q=0.000"], false),
        (vec!["*/*"], false),
        (vec!["application/jsonx"], false),
        (vec![], false),
    ] {
        let pairs: Vec<_> = accept.iter().map(|value| ("accept", *value)).collect();
        assert_eq!(
            ParsedHeaders::of(&headers(&pairs)).wants_json,
            expected,
            "{accept:?}"
        );
    }
}

#[test]
fn what_comes_twice_is_not_one_known_thing() {
    let all = headers(&[
        (":method", "GET"),
        (":method", "POST"),
        (":path", "/a"),
        (":path", "/b"),
        (":authority", "a.example"),
        (":authority", "b.example"),
        ("upgrade", "websocket"),
        (":protocol", "websocket"),
    ]);
    let parsed = ParsedHeaders::of(&all);
    assert_eq!(parsed.line.method, Fact::Missing);
    assert_eq!(parsed.line.path, OwnedPath::Malformed);
    assert_eq!(parsed.line.upgrade, Fact::Missing);
    assert_eq!(parsed.authority, None);
}

#[test]
fn an_extended_connect_is_an_upgrade_to_its_protocol() {
    let all = headers(&[(":method", "CONNECT"), (":protocol", "WebSocket")]);
    let parsed = ParsedHeaders::of(&all);
    assert!(parsed.is_connect());
    assert_eq!(
        parsed.line.upgrade,
        Fact::Known(Some("websocket".to_owned()))
    );
}
