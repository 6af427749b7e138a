//! Laws of names, ports and paths: what a pattern means, said a second time in the fewest words;
//! one normal form; and texts that survive being read and written.

use std::fmt::Display;
use std::io::Write as _;

use egress_policy::name::{Authority, Host, Name, NamePattern};
use egress_policy::path::PathPattern;
use egress_policy::port::{PortSet, parse_ports};

use super::generate::Rng;
use super::seed;

/// How many (pattern, name) pairs are compared.
const PAIRS: usize = 200_000;
/// How many texts the smaller laws take.
const TEXTS: usize = 20_000;

/// Few characters, so that near misses are near.
const CHARACTERS: &[char] = &['a', 'a', 'b', 'B', 'A', '1', '-', '_', 'x'];
/// What does not belong into a name or a pattern, or only in its place.
const ODD: &[char] = &[
    '*', '*', '+', '.', '?', ':', ',', '@', '%', '/', '[', '{', ' ', '\0', '\u{fc}',
];
/// Ends of names, some of them no end of a name.
const BASES: &[&str] = &[
    "b.a", "a.a", "A.b", "x.b.a", "a.1a", "-._", "b.a.", "a", "a.1", "a.0xa", "0x.b",
];

/// A text's labels, after one trailing dot.
fn labels(text: &str) -> Vec<&str> {
    text.strip_suffix('.').unwrap_or(text).split('.').collect()
}

/// "Labels of letters, digits, `-`, `_`, 1 to 63 octets, 253 in all", and no "last label that is a
/// number".
fn is_name(labels: &[&str]) -> bool {
    let of_label = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let last = labels[labels.len() - 1].to_ascii_lowercase();
    labels.join(".").len() <= 253
        && labels
            .iter()
            .all(|label| (1..=63).contains(&label.len()) && label.chars().all(of_label))
        && !last.starts_with("0x")
        && !last.chars().all(|c| c.is_ascii_digit())
}

/// "At most four per name, none in the last two labels"; `+.` stands only in front, and alone. With
/// a letter for each star the rest is a name.
fn is_pattern(text: &str) -> bool {
    let labels = labels(text);
    let filled: Vec<String> = match labels[0] {
        "+" => [&["x"], &labels[1..]].concat().join("."),
        _ => labels.join("."),
    }
    .split('.')
    .map(|label| label.replace('*', "x"))
    .collect();
    let filled: Vec<&str> = filled.iter().map(String::as_str).collect();
    let wild = |label: &&str| label.contains('*') || *label == "+";
    is_name(&filled)
        && text.matches('*').count() <= if labels[0] == "+" { 0 } else { 4 }
        && !text.contains("**")
        && !labels.iter().rev().take(2).any(wild)
}

/// "A leading `*.` means one or more labels; any other `*` stands inside one label"; `+.` is one.
fn means(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (labels(pattern), labels(name));
    match pattern[0] {
        "*" => (1..name.len()).any(|front| all_alike(&pattern[1..], &name[front..])),
        "+" => all_alike(&pattern[1..], &name[1..]),
        _ => all_alike(&pattern, &name),
    }
}

fn all_alike(pattern: &[&str], name: &[&str]) -> bool {
    let mut pairs = pattern.iter().zip(name);
    pattern.len() == name.len() && pairs.all(|(p, n)| alike(p.as_bytes(), n.as_bytes()))
}

fn alike(pattern: &[u8], label: &[u8]) -> bool {
    match (pattern, label) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            alike(rest, label) || (!label.is_empty() && alike(pattern, &label[1..]))
        }
        ([p, rest @ ..], [n, left @ ..]) => p.eq_ignore_ascii_case(n) && alike(rest, left),
        _ => false,
    }
}

fn run(rng: &mut Rng, most: usize) -> String {
    (0..rng.below(most + 1))
        .map(|_| *rng.pick(CHARACTERS))
        .collect()
}

fn label(rng: &mut Rng) -> String {
    match rng.below(100) {
        0 => "a".repeat(62 + rng.below(3)),
        _ => format!("{}{}", rng.pick(CHARACTERS), run(rng, 2)),
    }
}

fn base(rng: &mut Rng) -> String {
    match rng.below(50) {
        // Around the longest name.
        0 => format!(
            "{}.{}",
            "a".repeat(60 + rng.below(3)),
            vec!["a".repeat(62); 3].join(".")
        ),
        _ => (*rng.pick(BASES)).to_owned(),
    }
}

/// A text that is mostly a pattern.
fn pattern(rng: &mut Rng) -> String {
    let mut text = (*rng.pick(&["", "", "*.", "*.", "+.", "*.*."])).to_owned();
    for _ in 0..rng.below(3) {
        let mut middle = label(rng);
        for _ in 0..rng.below(3) {
            middle.insert(rng.below(middle.len() + 1), '*');
        }
        text.push_str(&middle);
        text.push('.');
    }
    text.push_str(&base(rng));
    if rng.chance(10) {
        text = damaged(rng, &text, ODD);
    }
    text
}

/// One character put in, replaced or taken out.
fn damaged(rng: &mut Rng, text: &str, with: &[char]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let at = rng.below(characters.len() + 1);
    let taken = rng.below(2);
    let end = (at + taken).min(characters.len());
    let put = (taken == 0 || rng.chance(60)).then(|| *rng.pick(with));
    characters.splice(at..end, put);
    characters.into_iter().collect()
}

/// A text that the pattern matches, or misses by little.
fn name_for(rng: &mut Rng, pattern: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (i, part) in labels(pattern).into_iter().enumerate() {
        match (i, part) {
            (0, "*") => {
                let deep = if rng.chance(2) { 118 } else { 1 };
                let count = deep + rng.below(3);
                parts.extend((0..count).map(|_| label(rng)));
            }
            (0, "+") => parts.push(label(rng)),
            _ => {
                let mut filled = String::new();
                for (i, literal) in part.split('*').enumerate() {
                    if i > 0 {
                        filled.push_str(&run(rng, 2));
                    }
                    filled.push_str(literal);
                }
                parts.push(filled);
            }
        }
    }
    match rng.below(12) {
        0 => parts.insert(0, label(rng)),
        1 => drop(parts.remove(0)),
        2 => parts.push("evil".to_owned()),
        3 => parts.reverse(),
        _ => {}
    }
    let mut text = parts.join(".");
    for _ in 0..rng.below(4).saturating_sub(1) {
        let with = [CHARACTERS, &['.', '.']].concat();
        text = damaged(rng, &text, &with);
    }
    spelt(rng, &text)
}

/// The same name in another spelling.
fn spelt(rng: &mut Rng, text: &str) -> String {
    let mut text: String = text
        .chars()
        .map(|c| {
            if rng.chance(20) {
                c.to_ascii_uppercase()
            } else {
                c
            }
        })
        .collect();
    if rng.chance(10) {
        text.push('.');
    }
    text
}

fn name(rng: &mut Rng) -> Name {
    loop {
        let text = format!("{}.{}", label(rng), base(rng));
        if let Ok(name) = Name::parse(text.as_bytes()) {
            return name;
        }
    }
}

fn survives<T: Display + PartialEq + std::fmt::Debug, E>(
    value: &T,
    parse: impl Fn(&str) -> Result<T, E>,
) {
    let text = value.to_string();
    let again = parse(&text).ok();
    assert_eq!(again.as_ref(), Some(value), "{text}");
    assert_eq!(again.map(|again| again.to_string()), Some(text));
}

#[test]
fn patterns_and_names_are_what_the_design_says() {
    let mut rng = Rng::new(seed("names"));
    let (mut pairs, mut refused) = (0_usize, 0_usize);
    let mut matched = [0_usize; 4];
    while pairs < PAIRS {
        let text = pattern(&mut rng);
        let parsed = NamePattern::parse(&text);
        assert_eq!(parsed.is_ok(), is_pattern(&text), "{text:?}: {parsed:?}");
        let Ok(pattern) = parsed else {
            refused += 1;
            continue;
        };
        survives(&pattern, NamePattern::parse);
        let form = match pattern {
            NamePattern::Exact(_) => 0,
            NamePattern::Suffix(_) => 1,
            NamePattern::OneBelow(_) => 2,
            NamePattern::Glob(_) => 3,
        };
        for _ in 0..8 {
            let asked = name_for(&mut rng, &text);
            let name = Name::parse(asked.as_bytes());
            assert_eq!(name.is_ok(), is_name(&labels(&asked)), "{asked:?}");
            let Ok(name) = name else { continue };
            survives(&name, |text| Name::parse(text.as_bytes()));
            let expected = means(&text, &asked);
            assert_eq!(pattern.matches(&name), expected, "{text:?} on {asked:?}");
            matched[form] += usize::from(expected);
            pairs += 1;
        }
    }
    let all: usize = matched.iter().sum();
    let _ = writeln!(
        std::io::stderr(),
        "{pairs} pairs, {all} matching {matched:?}, {refused} patterns refused"
    );
    assert!(all * 10 >= pairs && all * 10 <= pairs * 9, "{all} matched");
    for matching in matched {
        assert!(matching * 50 >= pairs, "a form is hardly tried {matched:?}");
    }
    assert!(refused * 100 >= pairs, "{refused} patterns refused");
}

#[test]
fn an_authority_has_one_normal_form() {
    let mut rng = Rng::new(seed("authorities"));
    for _ in 0..TEXTS {
        let name = name(&mut rng);
        let spelling = spelt(&mut rng, name.as_str());
        let host = Host::Name(name);
        let port = u16::try_from(1 + rng.below(65_535)).expect("a port");
        let parse = |text: &str| Authority::parse(text.as_bytes());
        let agreed = |port| {
            Ok(Authority {
                host: host.clone(),
                port,
            })
        };
        assert_eq!(parse(&spelling), agreed(None), "{spelling}");
        let with_port = format!("{spelling}:{port}");
        assert_eq!(parse(&with_port), agreed(Some(port)), "{with_port}");
        let sni = Authority::parse_sni(spelling.as_bytes());
        assert_eq!(sni.as_ref(), Ok(&host), "{spelling}");
        // One dot and one port are removed, not two, and not in the other order.
        for wrong in [
            format!("{host}.."),
            format!("{host}:{port}."),
            format!("{host}:{port}:{port}"),
            format!("{host}:0"),
            format!("{host}:{}", u32::from(port) + 65_536),
        ] {
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
        assert!(Authority::parse_sni(with_port.as_bytes()).is_err());
    }
}

#[test]
fn ports_survive_being_written() {
    let mut rng = Rng::new(seed("ports"));
    for _ in 0..TEXTS {
        let mut listed = Vec::new();
        for _ in 0..=rng.below(4) {
            // Near each other, so that ranges touch, overlap and reach the ends.
            let near = *rng.pick(&[0_usize, 440, 65_520]);
            let first = 1 + near + rng.below(14);
            let last = (first + rng.below(6)).min(65_535);
            let port = |port: usize| u16::try_from(port).expect("a port");
            listed.push(port(first)..=port(last));
        }
        let set = PortSet::new(listed.clone());
        survives(&set, |text| {
            let ranges: Result<Vec<_>, _> = text.split(',').map(parse_ports).collect();
            ranges.map(PortSet::new)
        });
        for port in (0..20).chain(435..470).chain(65_515..=65_535) {
            let expected = listed.iter().any(|range| range.contains(&port));
            assert_eq!(set.contains(port), expected, "{port} in {listed:?}");
        }
    }
}

#[test]
fn path_globs_survive_being_written() {
    const PIECES: &[&str] = &[
        "/", "/", "*", "**", "a", "b", "{a,b}", "{", ".", "~", ",", "%2f",
    ];
    let mut rng = Rng::new(seed("paths"));
    let mut parsed = 0;
    for _ in 0..TEXTS {
        let mut text = String::from("/");
        for _ in 0..rng.below(8) {
            text.push_str(rng.pick::<&str>(PIECES));
        }
        if let Ok(pattern) = PathPattern::parse(&text) {
            parsed += 1;
            assert_eq!(pattern.to_string(), text);
            survives(&pattern, PathPattern::parse);
            if !text.contains(['*', '{']) {
                assert!(pattern.matches(&text), "{text} does not match itself");
            }
        }
    }
    assert!(parsed * 10 >= TEXTS, "only {parsed} globs of {TEXTS} texts");
}
