//! The repository's Markdown: links resolve, functions that pages name exist, and pages for users
//! keep to plain English and do not speak of tests.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Phrases that plain English does without.
const AVOIDED: [&str; 6] = [
    "nobody",
    "of its own",
    "by it",
    "what there is",
    "is to be had",
    "the way to",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Markdown file of the repository, by its path from the root, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut folders = vec![PathBuf::new()];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push((path, std::fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    assert!(pages.len() > 25, "{}", pages.len());
    pages
}

/// The text without fenced blocks.
fn prose(page: &str) -> String {
    let mut fenced = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text without what stands in backquotes.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let headings = headings.filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    headings.map(anchor).collect()
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(normal.pop(), "{}", path.display()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[test]
fn every_relative_link_and_anchor_resolves() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, page) in pages() {
        for rest in without_code(&prose(&page)).split("](").skip(1) {
            let (link, _) = rest.split_once(')').unwrap();
            if link.contains("://") {
                continue;
            }
            seen += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => normal(&path.parent().unwrap().join(file)),
            };
            let there = root().join(&target);
            let has_anchor = || {
                std::fs::read_to_string(&there).is_ok_and(|page| anchors(&page).contains(fragment))
            };
            if !there.exists() || !fragment.is_empty() && !has_anchor() {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "{seen}");
}

/// Functions as `path.rs::name`. Tests of the node guard are named by module instead; a test of that
/// crate looks for them.
#[test]
fn every_function_that_a_page_names_exists() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, page) in pages() {
        for name in prose(&page).split('`').skip(1).step_by(2) {
            let Some((file, function)) = name.split_once(".rs::") else {
                continue;
            };
            seen += 1;
            let text = std::fs::read_to_string(root().join(format!("{file}.rs")));
            let found = text.is_ok_and(|text| text.contains(&format!("fn {function}")));
            if !found {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 60, "{seen}");
}

#[test]
fn pages_for_users_are_plain_and_do_not_speak_of_tests() {
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        let is_for_users = path == Path::new("docs/tutorial.md")
            || path.starts_with("docs/how-to")
            || path.starts_with("docs/reference");
        if !is_for_users {
            continue;
        }
        let text = without_code(&prose(&page)).to_lowercase();
        let letter = |c: char| c.is_alphanumeric();
        let words = text.split(|c: char| !letter(c)).filter(|w| !w.is_empty());
        let words = format!(" {} ", words.collect::<Vec<_>>().join(" "));
        let words = words.replace(" on the way to ", " ");
        for phrase in AVOIDED {
            if words.contains(&format!(" {phrase} ")) {
                wrong.push(format!("{}: {phrase}", path.display()));
            }
        }
        for of_tests in ["cargo test", "integration/tests", "tests.rs"] {
            if prose(&page).contains(of_tests) {
                wrong.push(format!("{}: {of_tests}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
