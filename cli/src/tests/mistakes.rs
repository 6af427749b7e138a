//! Natural mistakes: what somebody writes first, where the command points, and what it says.
//!
//! `mistakes.txt` is a table of blocks. `WARDEN_BLESS=1 cargo test -p warden mistakes` writes the
//! answers anew, for a reviewer to read in the diff. What the block's first word names is put into an
//! otherwise sound policy: an element of `to` or `from`, a rule, a field of `spec`, or a whole file.

use std::fmt::Write as _;

use super::support::Folder;

/// The blocks' file, from the package's folder.
const TABLE: &str = "src/tests/mistakes.txt";
/// Fewest mistakes that the table holds.
const LEAST: usize = 100;

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

/// What is said, a line for each diagnostic: place, code, message, and the hint behind `=`.
fn answers(policy: &str) -> Vec<String> {
    let folder = Folder::with(&[("policy.yaml", policy)]);
    let seen = folder.warden("check policy.yaml --output json");
    if seen.stdout.is_empty() {
        return vec![format!(
            "exit {}: {}",
            seen.exit,
            seen.stderr.replace('\n', " ").trim()
        )];
    }
    let json = seen.json();
    let found = json["diagnostics"].as_array().unwrap().iter();
    found
        .map(|one| {
            let place = &one["place"];
            let place = format!("{}:{}", place["line"], place["column"]);
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
        let said = answers(&policy(kind, part.replace("\\t", "\t").as_str()));
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
