//! `docs/evidence/advisories.md` names cases and tests: they are there.

use std::path::Path;

/// The texts in backquotes behind this word.
fn named<'t>(row: &'t str, word: &str) -> Vec<&'t str> {
    row.split(&format!("{word} `"))
        .skip(1)
        .filter_map(|rest| rest.split_once('`'))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_case_and_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let page = read(&root.join("docs/evidence/advisories.md"));
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.skip(1).collect();
    assert!(rows.len() > 25, "{}", rows.len());
    let cases: String = std::fs::read_dir(root.join("cases"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| read(&path))
        .collect();
    for row in rows {
        let (in_cases, in_tests) = (named(row, "case"), named(row, "test"));
        assert!(
            !in_cases.is_empty() || !in_tests.is_empty(),
            "shown by nothing: {row}"
        );
        for name in in_cases {
            assert!(
                cases.contains(&format!("- name: {name}\n")),
                "no case `{name}`"
            );
        }
        for name in in_tests {
            let (file, function) = name.split_once("::").unwrap();
            let found = read(&root.join(file)).contains(&format!("fn {function}("));
            assert!(found, "no test `{name}`");
        }
    }
}
