use super::*;

#[test]
fn paths_that_every_server_reads_alike() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a.b/c-d_e~f",
        "/a/...",
        "/.well-known/x",
        "/a:b@c!$&'()*+,=",
        "/caf%C3%A9",
        "/caf%c3%a9",
        "/a%20b",
        "/%7B%22%7D",
    ] {
        let parsed = RequestPath::parse(Some(path.as_bytes()));
        assert_eq!(parsed, RequestPath::Clean(path), "{path}");
    }
}

#[test]
fn the_query_is_cut_off() {
    for (whole, path) in [("/a?b", "/a"), ("/a?", "/a"), ("/a?/../%2f;", "/a")] {
        let parsed = RequestPath::parse(Some(whole.as_bytes()));
        assert_eq!(parsed, RequestPath::Clean(path), "{whole}");
    }
}

#[test]
fn paths_that_servers_read_differently() {
    let table: &[&[u8]] = &[
        b"",
        b"*",
        b"a",
        b"http://example.com/a",
        b"//a",
        b"/a//b",
        b"/a//",
        b"/.",
        b"/..",
        b"/a/./b",
        b"/a/../b",
        b"/a/..",
        b"/%2e%2e/b",
        b"/a%2fb",
        b"/a%2Fb",
        b"/a%5cb",
        b"/a\\b",
        b"/a;b",
        b"/a/..;/b",
        b"/a%3bb",
        b"/a%23b",
        b"/a#b",
        b"/a%3fb",
        b"/a%25b",
        b"/%61",
        b"/%41",
        b"/%30",
        b"/%40",
        b"/%21",
        b"/a%2Bb",
        b"/%7e",
        b"/a%00b",
        b"/a%0ab",
        b"/a%7fb",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/%+f",
        b"/a b",
        b"/a\tb",
        b"/a\0b",
        b"/a\xffb",
        "/caf\u{e9}".as_bytes(),
    ];
    for path in table {
        let parsed = RequestPath::parse(Some(path));
        let shown = String::from_utf8_lossy(path);
        assert_eq!(parsed, RequestPath::Malformed, "{shown}");
    }
}

#[test]
fn no_path_is_its_own_thing() {
    assert_eq!(RequestPath::parse(None), RequestPath::Absent);
}

#[test]
fn globs_and_what_they_match() {
    let table: &[(&str, &[&str], &[&str])] = &[
        ("/a", &["/a"], &["/", "/a/", "/ab", "/A", "/a/b"]),
        ("/a/*", &["/a/b", "/a/"], &["/a", "/a/b/c", "/b/a"]),
        (
            "/a/**",
            &["/a/b", "/a/b/c", "/a/"],
            &["/a", "/ab", "/b/a/c"],
        ),
        ("/**", &["/", "/a", "/a/b"], &[]),
        ("/**/x", &["/x", "/a/x", "/a/b/x"], &["/ax", "/x/a"]),
        (
            "/a/**/z",
            &["/a/z", "/a/b/z", "/a/b/c/z"],
            &["/az", "/a/bz"],
        ),
        ("/a*z", &["/az", "/abz"], &["/a/z", "/abzq"]),
        ("/{a,b}/c", &["/a/c", "/b/c"], &["/ab/c", "/c"]),
        ("/a.b", &["/a.b"], &["/axb"]),
        ("/a(b)+$", &["/a(b)+$"], &["/ab", "/abb"]),
    ];
    for (glob, matching, others) in table {
        let pattern = PathPattern::parse(glob).expect(glob);
        assert_eq!(pattern.as_str(), *glob);
        for path in *matching {
            assert!(pattern.matches(path), "{glob} should match {path}");
        }
        for path in *others {
            assert!(!pattern.matches(path), "{glob} should not match {path}");
        }
    }
}

#[test]
fn what_is_no_glob() {
    use PathPatternError::{DoubleStar, NeverMatches, NotAbsolute};
    for (text, error) in [
        ("", NotAbsolute),
        ("a", NotAbsolute),
        ("*", NotAbsolute),
        ("/a**", DoubleStar),
        ("/**a/b", DoubleStar),
        ("/a/***", DoubleStar),
        ("/{**,a}", DoubleStar),
        ("/*{a,*}", DoubleStar),
        ("/{a,*}*", DoubleStar),
        ("/a//b", NeverMatches),
        ("/a/../b", NeverMatches),
        ("/a/.", NeverMatches),
        ("/a?b", NeverMatches),
        ("/a;b", NeverMatches),
        ("/a#b", NeverMatches),
        ("/a\\b", NeverMatches),
        ("/a%20b", NeverMatches),
        ("/[ab]", NeverMatches),
        ("/a b", NeverMatches),
        ("/caf\u{e9}", NeverMatches),
    ] {
        let parsed = PathPattern::parse(text).map(|pattern| pattern.to_string());
        assert_eq!(parsed, Err(error.clone()), "{text}");
        assert!(!error.hint().is_empty());
    }
    for text in ["/{a,b", "/a,b}", "/{a,}", "/{}", "/}{", "/{{a,b}"] {
        let parsed = PathPattern::parse(text).map(|pattern| pattern.to_string());
        assert_eq!(parsed, Err(PathPatternError::Braces), "{text}");
    }
}

#[test]
fn braces_stand_for_a_bounded_number_of_globs() {
    let nested = PathPattern::parse("/{a,{b,c}d}/{e,f/g}").unwrap();
    for (path, matched) in [
        ("/a/e", true),
        ("/bd/f/g", true),
        ("/cd/e", true),
        ("/b/e", false),
        ("/a/f", false),
    ] {
        assert_eq!(nested.matches(path), matched, "{path}");
    }
    let many = "/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}";
    assert!(PathPattern::parse(many).is_ok());
    let more = PathPattern::parse(&format!("{many}{{a,b}}"));
    assert_eq!(more, Err(PathPatternError::Alternatives));
    // However many pairs of braces there are, no stack grows with them.
    let deep = "{a}".repeat(20_000);
    let pattern = PathPattern::parse(&format!("/{deep}")).unwrap();
    assert!(pattern.matches(&format!("/{}", "a".repeat(20_000))));
}

/// Every path of up to six pieces under every glob of up to five, as globset reads them.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn globs_match_as_in_globset() {
    let words = |pieces: &[&str], most: u32| -> Vec<String> {
        let mut words = Vec::new();
        let mut last = vec!["/".to_owned()];
        for _ in 0..most {
            words.append(&mut last.clone());
            let longer = last
                .iter()
                .flat_map(|word| pieces.iter().map(move |piece| format!("{word}{piece}")));
            last = longer.collect();
        }
        words.append(&mut last);
        words
    };
    let paths: Vec<_> = words(&["/", "a", "b"], 6)
        .into_iter()
        .filter(|path| is_clean(path))
        .collect();
    let mut compared = 0;
    for glob in words(&["/", "a", "*", "**", "{a,b}", "{a/b,*}"], 5) {
        let Ok(pattern) = PathPattern::parse(&glob) else {
            continue;
        };
        let other = globset::GlobBuilder::new(&glob)
            .literal_separator(true)
            .backslash_escape(false)
            .build()
            .unwrap()
            .compile_matcher();
        compared += 1;
        for path in &paths {
            assert_eq!(
                pattern.matches(path),
                other.is_match(path),
                "{glob}, {path}"
            );
        }
    }
    assert!(compared > 1_000, "{compared}");
}
