use super::*;

/// Exit code and answer of one call that needs no kernel.
fn answer(verb: &str, input: &mut dyn Read) -> (u8, serde_json::Value) {
    let mut output = Vec::new();
    let get = |name: &str| (name == "CNI_COMMAND").then(|| verb.to_owned());
    let code = run(get, input, &mut output, &mut std::io::sink());
    (code, serde_json::from_slice(&output).unwrap())
}

#[test]
fn version_answers_whatever_else_is_asked() {
    for (input, version) in [
        ("", "1.1.0"),
        ("{}", "1.1.0"),
        (r#"{"cniVersion": "0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion": "0.2.0"}"#, "0.2.0"),
        (r#"{"cniVersion": "9.9.9", "of": "tomorrow"}"#, "9.9.9"),
    ] {
        let (code, value) = answer("VERSION", &mut input.as_bytes());
        assert_eq!(
            (code, &value["cniVersion"]),
            (0, &version.into()),
            "{input}"
        );
        assert_eq!(value["supportedVersions"], serde_json::json!(VERSIONS));
    }
    assert_eq!(answer("VERSION", &mut "{".as_bytes()).1["code"], 6);
}

#[test]
fn input_that_cannot_be_read_is_a_failure_of_its_own() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
    }
    for verb in ["GC", "STATUS", "VERSION"] {
        let (code, value) = answer(verb, &mut Broken);
        assert_eq!((code, &value["code"]), (1, &5.into()), "{verb}");
    }
}
