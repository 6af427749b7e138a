//! Every command of docs/tutorial.md, as it is written there. What is marked as needing a cluster
//! or a registry is not run: of `warden` its options are read, and what `kubectl` would be given is
//! noted by a stand-in, so that each rendered file is applied once before the last step.

use std::fmt::Write as _;
use std::path::Path;

use clap::Parser;

use super::support::{Folder, MODULE, Ran};
use crate::commands::Cli;

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

/// The marks of what is not run here.
const ELSEWHERE: [&str; 2] = ["  # needs a cluster", "  # needs a registry"];

#[test]
fn every_command_of_the_tutorial_does_what_it_says() {
    let folder = Folder::with(&[]);
    folder.write_bytes("egress_filter.wasm", &module());
    let mut lines = TUTORIAL.lines().peekable();
    let (mut file, mut digest_into) = (None, None);
    let (mut ran, mut elsewhere) = (0, 0);
    let mut applied: Vec<Vec<String>> = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(name) = comment(line, "file: ") {
            file = Some(name);
        } else if let Some(name) = comment(line, "the digest goes into: ") {
            digest_into = Some(name);
        } else if line == "```yaml" || line == "```text" {
            let mut text = String::new();
            for line in lines.by_ref().take_while(|line| *line != "```") {
                writeln!(text, "{line}").unwrap();
            }
            folder.write(file.take().expect("a block of text is a file"), &text);
        } else if let Some(command) = line.strip_prefix("$ ") {
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && *line != "```") {
                expected.push(line);
            }
            let mark = ELSEWHERE.iter().find_map(|mark| command.strip_suffix(mark));
            if let Some(command) = mark {
                assert!(expected.is_empty(), "{command}: who has seen this?");
                applied.push(is_well_formed(&folder, command));
                elsewhere += 1;
            } else {
                let seen = step(&folder, command, &expected);
                if let (Some(seen), Some(into)) = (seen, digest_into.take()) {
                    paste_digest(&folder, &seen, into);
                }
                ran += 1;
            }
        }
    }
    assert_eq!((ran, elsewhere), (28, 17), "(run, marked)");
    applied.retain(|files| !files.is_empty());
    let mut all = applied.pop().unwrap();
    all.sort_unstable();
    let mut once = applied.concat();
    once.sort_unstable();
    assert_eq!(once, all, "the steps, and everything again");
    let plugin = folder.read("rendered/istio-egress.wasmplugin.egress-warden-http.yaml");
    assert!(!plugin.contains(ZEROS), "{plugin}");
    assert!(plugin.contains("*.partner.example"), "{plugin}");
    assert!(!plugin.contains("shadowWorkloads"), "{plugin}");
}

fn comment<'t>(line: &'t str, what: &str) -> Option<&'t str> {
    line.strip_prefix("<!-- ")?
        .strip_prefix(what)?
        .strip_suffix(" -->")
}

/// The module as `cargo xtask wasm` builds it, else one as small as one gets: what is packaged is
/// not run here.
fn module() -> Vec<u8> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::fs::read(target.join("wasm32-wasip1/wasm/egress_filter.wasm"))
        .unwrap_or_else(|_| MODULE.to_vec())
}

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The digest that `warden package` prints, put where the tutorial has zeros.
fn paste_digest(folder: &Folder, seen: &Ran, into: &str) {
    let digest = seen.stdout.split('"').nth(1).expect("a digest in quotes");
    let text = folder.read(into);
    assert!(text.contains(ZEROS), "{text}");
    folder.write(into, &text.replace(ZEROS, digest));
}

/// A command that is not run here: of `kubectl`, alone or in a loop, or of `warden` with something
/// that only the cluster gives. Gives the files that it applies.
fn is_well_formed(folder: &Folder, command: &str) -> Vec<String> {
    if command.starts_with("warden ") {
        let parsed = Cli::try_parse_from(command.split_whitespace());
        assert!(parsed.is_ok(), "{command}: {parsed:?}");
        return Vec::new();
    }
    assert!(command.contains("kubectl "), "`{command}` needs no cluster");
    folder.applied_by(command)
}

fn step(folder: &Folder, command: &str, expected: &[&str]) -> Option<Ran> {
    let (command, exit) = match command.split_once("  # exits ") {
        Some((command, exit)) => (command, exit.parse().unwrap()),
        None => (command, 0),
    };
    if let Some(sed) = command.strip_prefix("sed ") {
        rewrite(folder, sed);
        return None;
    }
    let line = command
        .strip_prefix("warden ")
        .expect("a command of warden");
    let seen = folder.warden(line);
    assert_eq!(seen.exit, exit, "{command}\n{seen:?}");
    for line in expected {
        let found = seen.stdout.lines().any(|seen| seen == *line);
        assert!(found, "{command} does not print `{line}`:\n{}", seen.stdout);
    }
    Some(seen)
}

/// `'s/FROM/TO/' IN > OUT`, the one form that the tutorial uses.
fn rewrite(folder: &Folder, sed: &str) {
    let (script, files) = sed.rsplit_once("' ").unwrap();
    let mut parts = script
        .trim_start_matches("'s/")
        .trim_end_matches('/')
        .split('/');
    let unescaped = |text: &str| {
        text.replace("\\[", "[")
            .replace("\\]", "]")
            .replace("\\n", "\n")
    };
    let (from, to) = (
        unescaped(parts.next().unwrap()),
        unescaped(parts.next().unwrap()),
    );
    let (input, output) = files.split_once(" > ").unwrap();
    assert_ne!(input, output, "the shell empties it first");
    let text = folder.read(input);
    assert!(text.contains(&from), "{input} does not hold `{from}`");
    folder.write(output, &text.replacen(&from, &to, 1));
}
