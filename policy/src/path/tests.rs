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
    let unclosed = PathPattern::parse("/{a,b");
    assert!(
        matches!(unclosed, Err(PathPatternError::Glob(_))),
        "{unclosed:?}"
    );
}
