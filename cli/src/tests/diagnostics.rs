//! Every diagnostic as it is drawn: message, hint and underline, in `diagnostics/*.txt`.
//!
//! A page is a command, the files that it reads, and what it prints. `WARDEN_BLESS=1 cargo test -p
//! warden diagnostics` writes the last part anew, for a reviewer to read in the diff.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use egress_policy::defect::DefectKind;

use super::support::Folder;
use egress_analysis::lint::{ERRORS, Lint};

/// One page.
struct Page {
    path: PathBuf,
    about: String,
    command: String,
    files: Vec<(String, String)>,
    output: String,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut page = Self {
            path,
            about: String::new(),
            command: String::new(),
            files: Vec::new(),
            output: String::new(),
        };
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("==> ") {
                page.files.push((name.to_owned(), String::new()));
            } else if let Some((_, text)) = page.files.last_mut() {
                writeln!(text, "{line}").unwrap();
            } else if let Some(command) = line.strip_prefix("$ warden ") {
                command.clone_into(&mut page.command);
            } else {
                writeln!(page.about, "{line}").unwrap();
            }
        }
        if page.files.last().is_some_and(|(name, _)| name == "output") {
            page.output = page.files.pop().unwrap().1;
        }
        page
    }

    fn run(&self) -> String {
        let folder = Folder::with(&[]);
        for (name, text) in &self.files {
            folder.write(name, text);
        }
        folder.warden(&self.command).stdout
    }

    fn bless(&self, output: &str) {
        let mut text = format!("{}$ warden {}\n", self.about, self.command);
        for (name, content) in &self.files {
            write!(text, "==> {name}\n{content}").unwrap();
        }
        write!(text, "==> output\n{output}").unwrap();
        std::fs::write(&self.path, text).unwrap();
    }
}

fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir("src/tests/diagnostics")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

#[test]
fn every_page_is_drawn_as_it_stands() {
    let bless = std::env::var_os("WARDEN_BLESS").is_some();
    let pages = pages();
    assert!(!pages.is_empty());
    for page in pages {
        let seen = page.run();
        if bless {
            page.bless(&seen);
        } else {
            assert_eq!(seen, page.output, "{}", page.path.display());
        }
    }
}

#[test]
fn every_code_has_its_page() {
    let drawn: String = pages().into_iter().map(|page| page.output).collect();
    let errors = DefectKind::ALL.into_iter().map(DefectKind::as_str);
    let own = [
        "install",
        "port_protocol",
        "fail_open",
        "list_changed",
        "list_unreadable",
        "too_many_classes",
        "foreign_file",
    ];
    let codes: Vec<&str> = errors.clone().chain(own).collect();
    let explained: Vec<&str> = ERRORS.iter().map(|(code, _)| *code).collect();
    assert_eq!(explained, codes);
    let lints = Lint::ALL
        .into_iter()
        .map(|lint| (lint.severity().as_str(), lint.code()));
    let errors = errors.chain(own).map(|code| ("error", code));
    let missing: Vec<String> = lints
        .chain(errors)
        .map(|(severity, code)| format!("{severity}[{code}]"))
        .filter(|title| !drawn.lines().any(|line| line.starts_with(title.as_str())))
        .collect();
    assert!(
        missing.is_empty(),
        "no page in diagnostics/ shows {missing:?}"
    );
}

/// The sources whose messages are about policies.
const SOURCES: &[&str] = &[
    "../policy/src/address.rs",
    "../policy/src/decode.rs",
    "../policy/src/name.rs",
    "../policy/src/path.rs",
    "../policy/src/policy_set.rs",
    "../policy/src/port.rs",
    "../policy/src/read.rs",
    "../policy/src/read/rule.rs",
    "../policy/src/read/rule/to.rs",
    "../policy/src/read/words.rs",
    "../analysis/src/document/yaml.rs",
    "../analysis/src/lists.rs",
    "../analysis/src/settings.rs",
];

/// What no policy file can show, each with its reason.
const NOT_SHOWN: &[(&str, &str)] = &[
    (
        "the policy is too large to be compiled",
        "takes four thousand million rules",
    ),
    (
        "this document has too many parts",
        "takes four thousand million parts",
    ),
    (
        "this ends nothing",
        "the parser sees to it that ends have starts",
    ),
    (
        "more than {MAX_INSPECTION_PROXIES} inspection proxies, or a policy too large to be compiled",
        "the same",
    ),
    (
        "this alias leads to no anchor before it",
        "the parser says so first",
    ),
    (
        "`{shown}` is not UTF-8 (byte {at})",
        "these pages are UTF-8; a test of lists shows it",
    ),
    (
        "`{name}`: the gateway reads no lists from files",
        "shown by `manifest.txt` with each name",
    ),
];

/// The texts of messages in a source: what stands in `#[error("...")]`, behind a `DefectKind::`,
/// and in `let message = ...;`.
fn messages(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (mark, end) in [
        ("#[error(", ")]"),
        ("DefectKind::", ";"),
        ("let message = ", ";"),
        ("fault(span", ")"),
    ] {
        for rest in source.split(mark).skip(1) {
            let statement = rest.split(end).next().unwrap();
            // The first sentence is the message; what follows is its hint, and what is one word is
            // a field. A message by name is found where it gets its text.
            let mut texts = statement.split('"').skip(1).step_by(2);
            if !statement.contains(" message,") {
                found.extend(texts.find(|text| text.contains(' ')).map(str::to_owned));
            }
        }
    }
    found
}

/// Whether a line holds the fixed parts of a message in their order.
fn shows(line: &str, message: &str) -> bool {
    let mut rest = line;
    let mut inside = message;
    loop {
        let (fixed, next) = inside.split_once('{').unwrap_or((inside, ""));
        let Some((_, after)) = rest.split_once(fixed) else {
            return false;
        };
        rest = after;
        match next.split_once('}') {
            None => return true,
            Some((_, after)) => inside = after,
        }
    }
}

#[test]
fn every_message_has_its_page() {
    let drawn: String = pages().into_iter().map(|page| page.output).collect();
    let titles: Vec<&str> = drawn
        .lines()
        .filter(|line| line.starts_with("error["))
        .collect();
    let mut asked = BTreeSet::new();
    let mut missing = BTreeSet::new();
    for path in SOURCES {
        let source = std::fs::read_to_string(path).unwrap();
        let code = source.split("#[cfg(test)]").next().unwrap();
        for message in messages(code) {
            let excused = NOT_SHOWN.iter().any(|(text, _)| *text == message);
            if !excused && !titles.iter().any(|title| shows(title, &message)) {
                missing.insert(message.clone());
            }
            asked.insert(message);
        }
    }
    assert!(asked.len() >= 70, "{}: {asked:#?}", asked.len());
    assert!(
        missing.is_empty(),
        "no page in diagnostics/ shows {missing:#?}: add them to one, and bless it"
    );
    for (text, _) in NOT_SHOWN {
        assert!(asked.contains(*text), "`{text}` is no message any more");
    }
}
