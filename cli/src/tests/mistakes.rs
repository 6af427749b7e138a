//! Natural mistakes: what somebody writes first, where the command points, and what it says.
//!
//! `mistakes.txt` is a table of blocks. `WARDEN_BLESS=1 cargo test -p warden mistakes` writes the
//! answers anew, for a reviewer to read in the diff. What the block's first word names is put into an
//! otherwise sound policy (an element of `to` or `from`, a rule, a field of `spec`, or the whole file),
//! into install settings (`install`, a field of `spec`), into a case file (`case`, or the whole of it as
//! `cases`) or into a list (`list`); or it is what `warden explain` is asked (`ask`).

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::support::{Folder, INSTALL};

/// The blocks' file, from the package's folder.
const TABLE: &str = "src/tests/mistakes.txt";
/// Fewest mistakes that the table holds.
const LEAST: usize = 200;

/// A policy with one part in it.
fn policy(kind: &str, part: &str) -> String {
    let rule = |from: &str, to: &str| {
        format!("    - {{name: r, from: [{from}], to: [{to}], action: Accept}}")
    };
    let (from, to) = (
        "{namespaces: [a]}",
        "{domainNames: [a.example], ports: [443]}",
    );
    let (spec, rule) = match kind {
        "to" => ("", rule(from, part)),
        "from" => ("", rule(part, to)),
        "rule" => ("", format!("    - {part}")),
        "spec" => (part, rule(from, to)),
        "file" => return format!("{part}\n"),
        other => panic!("no part is called {other}"),
    };
    let spec = if spec.is_empty() {
        String::new()
    } else {
        format!("  {spec}\n")
    };
    format!(
        "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {{name: p}}\n\
         spec:\n  identity: {{trustDomains: [cluster.local]}}\n{spec}  tiers:\n  - name: t\n    \
         rules:\n{rule}\n"
    )
}

/// The files of a block and the command that reads them.
fn input(kind: &str, part: &str) -> (Vec<(&'static str, String)>, String) {
    let sound = || {
        (
            "policy.yaml",
            policy("to", "{domainNames: [a.example], ports: [443]}"),
        )
    };
    let check = |files: &str| format!("check {files} --output json");
    let test = || "test cases.yaml --output json".to_owned();
    match kind {
        "install" => {
            let first = part.split(':').next().unwrap_or_default();
            let field = format!("  {first}:");
            let others = INSTALL
                .lines()
                .take_while(|line| !line.starts_with("  policies"));
            let others: Vec<&str> = others.filter(|line| !line.starts_with(&field)).collect();
            let settings = format!("{}\n  {part}\n", others.join("\n"));
            (
                vec![("install.yaml", settings), sound()],
                check("install.yaml policy.yaml"),
            )
        }
        "case" => {
            let cases = format!("policies: [policy.yaml]\ncases:\n- {part}\n");
            (vec![("cases.yaml", cases), sound()], test())
        }
        "cases" => (vec![("cases.yaml", format!("{part}\n")), sound()], test()),
        "list" => {
            let digest = Sha256::digest(format!("{part}\n"));
            let destination = format!(
                "destinations: {{d: {{file: list.txt, sha256: {digest:x}, date: 2026-11-20, ports: [443]}}}}"
            );
            let policy = policy("spec", &destination).replace(
                "{domainNames: [a.example], ports: [443]}",
                "{destination: d}",
            );
            let list = ("list.txt", format!("{part}\n"));
            (vec![list, ("policy.yaml", policy)], check("policy.yaml"))
        }
        "ask" => (vec![sound()], format!("explain policy.yaml {part}")),
        kind => (
            vec![("policy.yaml", policy(kind, part))],
            check("policy.yaml"),
        ),
    }
}

/// What is said, a line for each diagnostic: place, code, message, and the hint behind `=`. The place
/// has the file's name where it is another than the block's.
fn answers(kind: &str, part: &str) -> Vec<String> {
    let (files, line) = input(kind, part);
    let own = files.first().map_or("", |(name, _)| *name);
    let borrowed: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let seen = Folder::with(&borrowed).warden(&line);
    if seen.exit == 1 || kind == "ask" {
        let said = if seen.exit == 1 {
            &seen.stderr
        } else {
            &seen.stdout
        };
        let said: Vec<&str> = said.lines().map(str::trim).take(4).collect();
        return vec![format!("exit {}: {}", seen.exit, said.join(" "))];
    }
    let json = seen.json();
    let found = json["diagnostics"].as_array().into_iter().flatten();
    found
        .map(|one| {
            let place = &one["place"];
            let file = match place["file"].as_str() {
                Some(file) if file != own => format!("{file}:"),
                _ => String::new(),
            };
            let place = format!("{file}{}:{}", place["line"], place["column"]);
            let (code, message) = (
                one["code"].as_str().unwrap(),
                one["message"].as_str().unwrap(),
            );
            match one["hint"].as_str() {
                Some(hint) => format!("{place} {code}: {message} = {hint}"),
                None => format!("{place} {code}: {message}"),
            }
        })
        .collect()
}

#[test]
fn each_gets_the_sentence_that_its_author_needs() {
    let table = std::fs::read_to_string(TABLE).unwrap();
    let (mut blessed, mut count) = (String::new(), 0);
    for block in table.split("\n\n") {
        let lines: Vec<&str> = block.lines().collect();
        let written: Vec<&str> = lines
            .iter()
            .copied()
            .filter(|line| !line.starts_with("> "))
            .collect();
        let expected: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("> "))
            .collect();
        let part = written.join("\n");
        if part.starts_with('#') || part.trim().is_empty() {
            write!(blessed, "{}\n\n", part.trim()).unwrap();
            continue;
        }
        let (kind, part) = part.split_once(": ").unwrap();
        let said = answers(kind, &part.replace("\\t", "\t"));
        count += 1;
        assert!(!said.is_empty(), "nothing is said of\n{block}");
        if std::env::var_os("WARDEN_BLESS").is_none() {
            assert_eq!(said, expected, "{block}");
        }
        let said = said.join("\n> ");
        write!(blessed, "{}\n> {said}\n\n", written.join("\n")).unwrap();
    }
    assert!(count >= LEAST, "{count} mistakes");
    if std::env::var_os("WARDEN_BLESS").is_some() {
        std::fs::write(TABLE, format!("{}\n", blessed.trim())).unwrap();
    }
}
