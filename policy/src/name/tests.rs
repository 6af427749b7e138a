use super::*;

fn long(label: usize, name: usize) -> String {
    let labels = std::iter::repeat_n("a".repeat(label), name.div_ceil(label + 1));
    let joined = labels.collect::<Vec<_>>().join(".");
    joined.chars().take(name).collect()
}

#[test]
fn names_have_one_normal_form() {
    let table: &[(&[u8], Result<&str, ReasonCode>)] = &[
        (b"example.com", Ok("example.com")),
        (b"EXAMPLE.com.", Ok("example.com")),
        (b"localhost", Ok("localhost")),
        (b"_dmarc.example.com", Ok("_dmarc.example.com")),
        (b"-a-.example.com", Ok("-a-.example.com")),
        (b"xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
        (b"1.2.3.4.com", Ok("1.2.3.4.com")),
        (b"0x.example.com", Ok("0x.example.com")),
        (b"", Err(ReasonCode::NameMalformed)),
        (b".", Err(ReasonCode::NameMalformed)),
        (b"..", Err(ReasonCode::NameMalformed)),
        (b"example.com..", Err(ReasonCode::NameMalformed)),
        (b".example.com", Err(ReasonCode::NameMalformed)),
        (b"a..example.com", Err(ReasonCode::NameMalformed)),
        (b"a b.example.com", Err(ReasonCode::NameMalformed)),
        (b"a,b.example.com", Err(ReasonCode::NameMalformed)),
        (b"a@b.example.com", Err(ReasonCode::NameMalformed)),
        (b"a%2eb.example.com", Err(ReasonCode::NameMalformed)),
        (b"a/b.example.com", Err(ReasonCode::NameMalformed)),
        (b"a\0.example.com", Err(ReasonCode::NameMalformed)),
        (b"*.example.com", Err(ReasonCode::NameMalformed)),
        (b"[example.com]", Err(ReasonCode::NameMalformed)),
        (b"example.com:443", Err(ReasonCode::NameMalformed)),
        (
            "b\u{fc}cher.example".as_bytes(),
            Err(ReasonCode::NameMalformed),
        ),
        (b"\xff.example.com", Err(ReasonCode::NameMalformed)),
        (b"127.1", Err(ReasonCode::AddressForm)),
        (b"2130706433", Err(ReasonCode::AddressForm)),
        (b"0x7f000001", Err(ReasonCode::AddressForm)),
        (b"0X7f.0x1", Err(ReasonCode::AddressForm)),
        (b"1.2.3.4", Err(ReasonCode::AddressForm)),
        (b"1.2.3.4.", Err(ReasonCode::AddressForm)),
        (b"example.123", Err(ReasonCode::AddressForm)),
    ];
    for (bytes, expected) in table {
        let parsed = Name::parse(bytes);
        let text = parsed.as_ref().map(Name::as_str).map_err(|code| *code);
        assert_eq!(text, *expected, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn lengths_are_those_of_the_dns() {
    for (label, name, fine) in [
        (63, 63, true),
        (64, 64, false),
        (63, 253, true),
        (50, 254, false),
    ] {
        let text = long(label, name);
        assert_eq!(text.len(), name);
        assert_eq!(Name::parse(text.as_bytes()).is_ok(), fine, "{label} {name}");
    }
    let dotted = format!("{}.", long(63, 253));
    assert!(
        Name::parse(dotted.as_bytes()).is_ok(),
        "the dot is not counted"
    );
}

#[test]
fn authorities() {
    type Parsed<'a> = Result<(&'a str, Option<u16>), ReasonCode>;
    let table: &[(&str, Parsed<'_>)] = &[
        ("Example.com", Ok(("example.com", None))),
        ("example.com:443", Ok(("example.com", Some(443)))),
        ("example.com.:443", Ok(("example.com", Some(443)))),
        ("example.com:65535", Ok(("example.com", Some(65535)))),
        ("192.0.2.1", Ok(("192.0.2.1", None))),
        ("192.0.2.1:80", Ok(("192.0.2.1", Some(80)))),
        ("[2001:DB8::1]", Ok(("2001:db8::1", None))),
        ("[2001:db8::1]:80", Ok(("2001:db8::1", Some(80)))),
        ("[::ffff:192.0.2.1]", Ok(("192.0.2.1", None))),
        ("[::ffff:c000:201]:80", Ok(("192.0.2.1", Some(80)))),
        ("example.com:", Err(ReasonCode::NameMalformed)),
        ("example.com:0", Err(ReasonCode::NameMalformed)),
        ("example.com:65536", Err(ReasonCode::NameMalformed)),
        ("example.com:000080", Err(ReasonCode::NameMalformed)),
        ("example.com:+80", Err(ReasonCode::NameMalformed)),
        ("example.com: 80", Err(ReasonCode::NameMalformed)),
        ("example.com:80:80", Err(ReasonCode::NameMalformed)),
        ("example.com:http", Err(ReasonCode::NameMalformed)),
        (":80", Err(ReasonCode::NameMalformed)),
        ("2001:db8::1", Err(ReasonCode::NameMalformed)),
        ("[]", Err(ReasonCode::NameMalformed)),
        ("[", Err(ReasonCode::NameMalformed)),
        ("[::1", Err(ReasonCode::NameMalformed)),
        ("[::1]x", Err(ReasonCode::NameMalformed)),
        ("[::1]:", Err(ReasonCode::NameMalformed)),
        ("[::1].example.com", Err(ReasonCode::NameMalformed)),
        ("[example.com]", Err(ReasonCode::NameMalformed)),
        ("[192.0.2.1]", Err(ReasonCode::NameMalformed)),
        ("[fe80::1%25eth0]", Err(ReasonCode::AddressForm)),
        ("[fe80::1%eth0]", Err(ReasonCode::AddressForm)),
        ("[1::2::3]", Err(ReasonCode::AddressForm)),
        ("0300.0.0.1:80", Err(ReasonCode::AddressForm)),
        ("192.0.2.01", Err(ReasonCode::AddressForm)),
        ("user@example.com", Err(ReasonCode::NameMalformed)),
        ("user:80@example.com", Err(ReasonCode::NameMalformed)),
    ];
    for (text, expected) in table {
        let parsed = Authority::parse(text.as_bytes());
        if let Ok(Authority { host, .. }) = &parsed {
            let again = Authority::parse(host.in_authority().as_bytes());
            assert_eq!(again.map(|again| again.host).as_ref(), Ok(host), "{text}");
        }
        let parsed = parsed.map(|a| (a.host.to_string(), a.port));
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(parsed, expected, "{text}");
    }
}

#[test]
fn server_names_have_no_port_and_no_brackets() {
    for (text, expected) in [
        ("Example.com.", Ok("example.com")),
        ("192.0.2.1", Ok("192.0.2.1")),
        ("example.com:443", Err(ReasonCode::NameMalformed)),
        ("[::1]", Err(ReasonCode::NameMalformed)),
        ("::1", Err(ReasonCode::NameMalformed)),
        ("127.1", Err(ReasonCode::AddressForm)),
    ] {
        let parsed = Authority::parse_sni(text.as_bytes()).map(|host| host.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text}");
    }
}

#[test]
fn patterns_and_what_they_match() {
    let table: &[(&str, &[&str], &[&str])] = &[
        (
            "api.example.com",
            &["api.example.com"],
            &["example.com", "a.api.example.com", "apixexample.com"],
        ),
        (
            "*.example.com",
            &["a.example.com", "a.b.example.com"],
            &["example.com", "aexample.com", "example.com.evil.org"],
        ),
        (
            "+.example.com",
            &["a.example.com"],
            &["example.com", "a.b.example.com"],
        ),
        (
            "ec2.*.amazonaws.com",
            &["ec2.eu.amazonaws.com"],
            &[
                "ec2.amazonaws.com",
                "ec2.a.b.amazonaws.com",
                "x.ec2.eu.amazonaws.com",
            ],
        ),
        (
            "api-*.example.com",
            &["api-1.example.com", "api-.example.com"],
            &[
                "api.example.com",
                "xapi-1.example.com",
                "api-1.a.example.com",
            ],
        ),
        (
            "a*a.example.com",
            &["aa.example.com", "aba.example.com"],
            &["a.example.com", "ab.example.com"],
        ),
        (
            "*.s3-*.example.com",
            &["b.s3-eu.example.com", "a.b.s3-eu.example.com"],
            &["s3-eu.example.com", "b.s4-eu.example.com"],
        ),
        (
            "*.*.example.com",
            &["a.b.example.com", "a.b.c.example.com"],
            &["b.example.com", "example.com"],
        ),
        (
            "*a*b*.example.com",
            &["ab.example.com", "xaxbx.example.com"],
            &["ba.example.com"],
        ),
    ];
    for (text, matching, others) in table {
        let pattern = NamePattern::parse(text).expect(text);
        for name in *matching {
            let name = Name::parse(name.as_bytes()).expect(name);
            assert!(pattern.matches(&name), "{text} should match {name}");
        }
        for name in *others {
            let name = Name::parse(name.as_bytes()).expect(name);
            assert!(!pattern.matches(&name), "{text} should not match {name}");
        }
    }
}

#[test]
fn what_is_no_pattern() {
    for (text, error) in [
        ("*", PatternError::TooWide),
        ("*.com", PatternError::TooWide),
        ("+.com", PatternError::TooWide),
        ("*github.com", PatternError::TooWide),
        ("a.*.com", PatternError::TooWide),
        ("a.b.c*", PatternError::TooWide),
        ("**.example.com", PatternError::DoubleStar),
        ("a**b.example.com", PatternError::DoubleStar),
        ("*a*.*b*.x*.example.com", PatternError::TooManyStars),
        ("a+.example.com", PatternError::Plus),
        ("a.+.example.com", PatternError::Plus),
        ("", PatternError::NotAName),
        (".example.com", PatternError::NotAName),
        ("a..example.com", PatternError::NotAName),
        ("*..example.com", PatternError::NotAName),
        ("example.com..", PatternError::NotAName),
        ("a b.example.com", PatternError::NotAName),
        ("example.com:443", PatternError::Port),
        ("192.0.2.1", PatternError::Address),
        ("127.1", PatternError::Address),
        ("2001:db8::1", PatternError::Address),
        ("0x7f.1", PatternError::Address),
        ("b\u{fc}cher.example", PatternError::NotAscii),
        ("a?.example.com", PatternError::Syntax('?')),
        ("[ab].example.com", PatternError::Syntax('[')),
        ("{a,b}.example.com", PatternError::Syntax('{')),
        ("^a.example.com$", PatternError::Syntax('^')),
        ("a|b.example.com", PatternError::Syntax('|')),
    ] {
        assert_eq!(NamePattern::parse(text), Err(error), "{text}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn addresses_in_brackets_are_one_address() {
    let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
    let plain: IpAddr = "10.0.0.1".parse().expect("an address");
    let compatible: IpAddr = "::10.0.0.1".parse().expect("an address");
    assert_eq!(canonical(mapped), plain);
    assert_eq!(canonical(plain), plain);
    assert_eq!(canonical(compatible), compatible);
}

#[test]
fn a_pattern_that_no_name_is_short_enough_for_is_refused() {
    for (base, fine) in [(251, true), (252, false)] {
        for front in ["*.", "+."] {
            let text = format!("{front}{}", long(63, base));
            assert_eq!(NamePattern::parse(&text).is_ok(), fine, "{front} {base}");
        }
    }
}
