//! No input makes a subcommand panic: documents cut, spliced and scrambled, a short run of each.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::support::{Folder, REFERENCE};

const CASES: &str = include_str!("../../../cases/reference.yaml");

/// Pieces that policies are made of, and that parsers stumble over.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "- ",
    "\n",
    "  ",
    "*",
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    ">\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\t",
    "\u{0}",
    "\u{feff}",
    "é",
    "\u{1f600}",
    "null",
    "~",
    "0x",
    ".inf",
    "<<: ",
    "? ",
    "# ",
    "spec:",
    "tiers:",
    "rules:",
    "name: ",
    "from:",
    "to:",
    "ports: [0-]",
    "domainNames: [*.x.y]",
    "networks: [::/0]",
    "expires: \"9999-12-31T23:59:59Z\"",
    "kind: WasmPlugin",
    "pluginConfig:",
    "policies: []",
    "kind: Install",
    "99999999999999999999",
    "-",
    "\\",
    "\\ud83d",
    "@",
    "`",
    "*.münchen.de",
];

fn scrambled(seed: &'static str) -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0..40_usize,
        prop::sample::select(PIECES),
    );
    prop::collection::vec(edit, 1..8).prop_map(move |edits| {
        let mut chars: Vec<char> = seed.chars().collect();
        for (index, cut, piece) in edits {
            let at = index.index(chars.len() + 1);
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

#[test]
fn no_document_makes_a_subcommand_panic() {
    let folder = Folder::with(&[("good.yaml", REFERENCE), ("cases.yaml", CASES)]);
    folder.write("policies/reference.yaml", REFERENCE);
    let commands = [
        "check -",
        "check - --output json",
        "check - --output github",
        "explain - --from app1-ns/a --to https://api.github.com",
        "diff - good.yaml --limit 1",
        "diff good.yaml - --limit 1 --output markdown",
        "docs -",
        "docs - --format html",
        "fmt -",
    ];
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let which = 0..commands.len();
    runner
        .run(&(scrambled(REFERENCE), which), |(text, which)| {
            let exit = folder.warden_with(commands[which], &text).exit;
            prop_assert!(exit <= 5);
            Ok(())
        })
        .unwrap();
    runner
        .run(&scrambled(CASES), |text| {
            folder.write("scrambled.yaml", &text);
            prop_assert!(folder.warden("test scrambled.yaml --coverage").exit <= 5);
            Ok(())
        })
        .unwrap();
}

#[test]
fn no_argument_makes_a_subcommand_panic() {
    let folder = Folder::with(&[("good.yaml", REFERENCE)]);
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let word = "[a-z0-9:/@.,=*\\[\\]%?é-]{0,24}";
    let scheme = prop::sample::select(&["http", "https", "tls", "tcp", "udp", "ws", "x"][..]);
    runner
        .run(&(word, scheme, word, word), |(from, scheme, to, more)| {
            for line in [
                format!("explain good.yaml --from a{from} --to {scheme}://{to}"),
                format!("explain good.yaml --from a/b,{from} --to {scheme}://{to} --address={more}"),
                format!("explain good.yaml --from a/b --to {scheme}://x.{to}:1 --sni={more} --time={from}"),
                format!("check --explain={from}"),
            ] {
                prop_assert!(folder.warden(&line).exit <= 5, "{line}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        let list = [before.as_str(); 10].join(", ");
        text = format!("{text}b{level}: &a{level} [{list}]\n");
    }
    let ran = Folder::with(&[]).warden_with("check -", &text);
    assert_eq!(ran.exit, 3);
    assert!(
        ran.stdout.contains("aliases make this too large"),
        "{ran:?}"
    );
}

#[test]
fn nesting_has_a_bound() {
    let yaml = "[".repeat(5_000);
    let json = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    for text in [yaml, json] {
        let ran = Folder::with(&[]).warden_with("check -", &text);
        assert_eq!(ran.exit, 3, "{ran:?}");
    }
}
