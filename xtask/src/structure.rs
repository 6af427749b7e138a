//! `cargo xtask structure`: whether each idea still has one home.
//!
//! Fails on a circle between the files of a crate, on a public type that is named by a word which the
//! glossary has retired, and on a string of `policy::contract` that is written out elsewhere. A file
//! may use the file that declares it and the other way round: together they are one module.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::run::root;

/// The crates whose structure is looked at, by their folders.
const CRATES: [&str; 8] = [
    "policy",
    "analysis",
    "filter",
    "render",
    "package",
    "cli",
    "cni",
    "integration",
];

/// Words that say too little for the name of a public type; the glossary has better ones.
const RETIRED: [&str; 9] = [
    "Place", "Way", "Seen", "Asked", "Gathered", "Spot", "Problem", "Ruling", "Basis",
];

/// Strings of the contract that are also everyday words.
const EVERYDAY: [&str; 4] = ["deny", "forward", "literal", "unchecked"];

/// Looks at everything.
///
/// # Errors
/// What is wrong, one line each.
pub(crate) fn check() -> Result<()> {
    let mut wrong = Vec::new();
    let contract = contract()?;
    let mut files = 0;
    for folder in CRATES {
        let modules = Modules::read(&root().join(folder).join("src"))?;
        files += modules.texts.len();
        wrong.extend(
            modules
                .circles()
                .map(|circle| format!("{folder}: a circle: {circle}")),
        );
        for (path, text) in &modules.texts {
            let name = format!("{folder}/src/{}", path.display());
            wrong.extend(
                retired(text).map(|word| format!("{name}: a public type is named `{word}`")),
            );
            // The test bench writes what an attacker would, and what Envoy's files say.
            if name != "policy/src/contract.rs" && folder != "integration" {
                let written = contract
                    .iter()
                    .filter(|one| text.contains(&format!("\"{one}\"")));
                wrong.extend(written.map(|one| {
                    format!("{name}: \"{one}\" is written out: it is in policy::contract")
                }));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    crate::run::progress(&format!("structure: {files} files, no circle"));
    Ok(())
}

/// The strings that the module and the gateway's configuration share.
fn contract() -> Result<Vec<String>> {
    let path = root().join("policy/src/contract.rs");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let constants = text.lines().filter(|line| line.starts_with("pub const"));
    let strings = constants.filter_map(|line| line.split('"').nth(1));
    let strings = strings
        .filter(|one| !EVERYDAY.contains(one))
        .map(str::to_owned);
    let strings: Vec<_> = strings.collect();
    ensure!(
        strings.len() > 20,
        "the contract's constants were not found"
    );
    Ok(strings)
}

fn retired(text: &str) -> impl Iterator<Item = &'static str> {
    RETIRED.into_iter().filter(move |word| {
        text.lines().any(|line| {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.next() == Some("pub")
                && matches!(words.next(), Some("struct" | "enum" | "trait" | "type"))
                && words.next() == Some(word)
        })
    })
}

/// The files of a crate without those of tests, and which of them use which.
struct Modules {
    /// By the path below `src`.
    texts: BTreeMap<PathBuf, String>,
    /// The modules that are files, by their names.
    names: BTreeMap<Vec<String>, PathBuf>,
}

impl Modules {
    fn read(source: &Path) -> Result<Self> {
        let mut texts = BTreeMap::new();
        let mut folders = vec![source.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries =
                std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
            for entry in entries {
                let path = entry?.path();
                let of_tests = path
                    .file_stem()
                    .is_some_and(|stem| stem == "tests" || stem == "bin");
                if path.is_dir() {
                    folders.extend((!of_tests).then_some(path));
                } else if !of_tests && path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path)?;
                    texts.insert(path.strip_prefix(source)?.to_owned(), text);
                }
            }
        }
        // Modules that only tests have.
        let only_tests: BTreeSet<Vec<String>> = texts
            .iter()
            .flat_map(|(path, text)| {
                let declared = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
                    let line = rest.lines().next()?.trim_start_matches("pub(crate) ");
                    line.strip_prefix("mod ")?.strip_suffix(';')
                });
                declared.map(|one| [module(path), vec![one.to_owned()]].concat())
            })
            .collect();
        texts.retain(|path, _| !only_tests.iter().any(|one| module(path).starts_with(one)));
        let names = texts
            .keys()
            .map(|path| (module(path), path.clone()))
            .collect();
        Ok(Self { texts, names })
    }

    /// Circles, each once, as the files on the way round.
    fn circles(&self) -> impl Iterator<Item = String> {
        let edges: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> = self
            .names
            .iter()
            .map(|(name, path)| {
                let text = self.texts.get(path).map_or("", String::as_str);
                (name, self.used(name, text))
            })
            .collect();
        let mut circles = BTreeSet::new();
        for start in self.names.keys() {
            let mut seen = BTreeSet::new();
            let mut ways = vec![vec![start.clone()]];
            while let Some(way) = ways.pop() {
                let Some(last) = way.last() else { continue };
                for next in edges.get(last).into_iter().flatten() {
                    let mut longer = way.clone();
                    longer.push(next.clone());
                    if next == start {
                        let smallest = way.iter().min() == Some(start);
                        circles.extend(smallest.then(|| words(&longer)));
                    } else if seen.insert(next.clone()) {
                        ways.push(longer);
                    }
                }
            }
        }
        circles.into_iter()
    }

    /// The other modules that a file uses, but for those that it lies in and that lie in it.
    fn used(&self, name: &[String], text: &str) -> BTreeSet<Vec<String>> {
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let mut found = BTreeSet::new();
        for path in paths(text) {
            let mut steps = path.iter().map(String::as_str).peekable();
            let mut target: Vec<String> = match steps.next() {
                Some("crate") => Vec::new(),
                Some("super") => {
                    let mut up = 1;
                    while steps.next_if_eq(&"super").is_some() {
                        up += 1;
                    }
                    name.iter()
                        .take(name.len().saturating_sub(up))
                        .cloned()
                        .collect()
                }
                _ => continue,
            };
            for step in steps {
                let mut deeper = target.clone();
                deeper.push(step.to_owned());
                if !self.names.contains_key(&deeper) {
                    break;
                }
                target = deeper;
            }
            if !target.starts_with(name) && !name.starts_with(&target) {
                found.insert(target);
            }
        }
        found
    }
}

fn words(circle: &[Vec<String>]) -> String {
    let names: Vec<_> = circle.iter().map(|name| name.join("::")).collect();
    names.join(" -> ")
}

/// The module that a file is: `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module(path: &Path) -> Vec<String> {
    let mut name: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(
        name.last().map(String::as_str),
        Some("lib" | "main" | "mod")
    ) {
        name.pop();
    }
    name
}

/// Every path that begins with `crate` or `super`, the groups of `use` written out.
fn paths(text: &str) -> Vec<Vec<String>> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    for begin in ["crate::", "super::"] {
        for (at, _) in code.match_indices(begin) {
            let before = code.get(..at).and_then(|text| text.chars().next_back());
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let rest = code.get(at..).unwrap_or_default();
            expand(&mut rest.chars().peekable(), &mut Vec::new(), &mut found);
        }
    }
    found
}

/// One path, or the paths of a group, from where the text stands.
fn expand(
    text: &mut std::iter::Peekable<std::str::Chars<'_>>,
    before: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) {
    let depth = before.len();
    loop {
        let mut word = String::new();
        while let Some(c) = text.next_if(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
        }
        if !word.is_empty() {
            before.push(word);
        }
        if text.next_if_eq(&':').is_some() && text.next_if_eq(&':').is_some() {
            if text.next_if_eq(&'{').is_some() {
                loop {
                    while text.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
                    if text.peek().is_none() || text.next_if_eq(&'}').is_some() {
                        break;
                    }
                    let left = text.clone().count();
                    expand(text, before, found);
                    // `self`, `*` and `as` are no paths.
                    while text.next_if(|c| !matches!(c, ',' | '}')).is_some() {}
                    if text.clone().count() == left {
                        break;
                    }
                }
                break;
            }
            continue;
        }
        found.push(before.clone());
        break;
    }
    before.truncate(depth);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_groups_are_written_out() {
        let text = "use crate::a::{b, c::{D, e::F}};\nlet x = super::g(1);\n// crate::no\n";
        let found = paths(text);
        let texts: Vec<_> = found.iter().map(|path| path.join("::")).collect();
        let wanted = [
            "crate::a::b",
            "crate::a::c::D",
            "crate::a::c::e::F",
            "super::g",
        ];
        assert_eq!(texts, wanted);
    }

    #[test]
    fn a_circle_is_found_and_a_parent_is_none() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "mod d;\nuse crate::b::X;"),
            ("a/d.rs", "use super::Y;\nuse crate::c::Z;"),
            ("b.rs", "use crate::c;"),
            ("c.rs", "use crate::a;"),
        ];
        let texts: BTreeMap<_, _> = files
            .iter()
            .map(|(name, text)| (PathBuf::from(name), (*text).to_owned()))
            .collect();
        let names = texts
            .keys()
            .map(|path| (module(path), path.clone()))
            .collect();
        let modules = Modules { texts, names };
        let found: Vec<_> = modules.circles().collect();
        assert_eq!(found, ["a -> b -> c -> a"]);
    }

    #[test]
    fn retired_words_are_found_in_public_names_alone() {
        for (text, expected) in [
            ("pub struct Place {", 1),
            ("pub enum Place<'d> {", 1),
            ("pub(crate) struct Place;", 0),
            ("struct Place;", 0),
            ("pub struct Placed;", 0),
        ] {
            assert_eq!(retired(text).count(), expected, "{text}");
        }
    }
}
