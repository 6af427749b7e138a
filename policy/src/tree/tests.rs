use super::*;

#[test]
fn json_keeps_order_duplicates_and_spelling() {
    let json = Json::parse(r#"{"b": 1.50, "a": "x\n", "b": [true, null]}"#).expect("JSON");
    let Ok(Shape::Map(pairs)) = json.shape() else {
        panic!("a mapping");
    };
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, ["b", "a", "b"]);
    assert!(matches!(pairs[0].1.shape(), Ok(Shape::Number(text)) if text == "1.50"));
    assert!(matches!(pairs[1].1.shape(), Ok(Shape::Text(text)) if text == "x\n"));
    assert!(matches!(pairs[2].1.shape(), Ok(Shape::List(items)) if items.len() == 2));
}

#[test]
fn what_is_no_json() {
    for text in ["", "{", "{]", "{a: 1}", "[1,]", "{} x", "\u{feff}{}", "'a'"] {
        assert!(Json::parse(text).is_err(), "{text}");
    }
}

#[test]
fn deep_documents_are_refused_before_anything_recurses() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(Json::parse(&nested(MAX_DEPTH)).is_ok());
    assert!(Json::parse(&nested(MAX_DEPTH + 1)).is_err());
    assert!(Json::parse(&nested(1_000_000)).is_err());
    assert!(Json::parse(&"[".repeat(1_000_000)).is_err());
    let quoted = format!(r#"["{}\"["]"#, "[".repeat(1_000));
    assert!(
        Json::parse(&quoted).is_ok(),
        "brackets inside a text do not nest"
    );
}

#[test]
fn yaml_and_json_are_the_same_tree() {
    let yaml: Tree =
        serde_saphyr::from_str("a: [1, x, true, null, -2, '5']\nb: {}\n").expect("YAML");
    let json: Tree =
        serde_json::from_str(r#"{"a": [1, "x", true, null, -2, "5"], "b": {}}"#).expect("JSON");
    assert_eq!(yaml, json);
}

#[test]
fn yaml_refuses_duplicate_keys() {
    assert!(serde_saphyr::from_str::<Tree>("a: 1\na: 2\n").is_err());
    assert!(serde_saphyr::from_str::<Tree>("x: {a: 1, a: 1}\n").is_err());
}
