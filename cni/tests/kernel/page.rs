//! `docs/evidence/bypass.md` names the test that shows each row: they are there.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The texts in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of the tests in a source file; none if it is not there.
fn tests_in(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    text.split("#[test]")
        .skip(1)
        .filter_map(|rest| rest.split_once("fn ")?.1.split_once('('))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Whether `name` (`file`, `file::test`, `file::test_*`, a path, `path::test`) is something that
/// runs.
fn exists(name: &str) -> bool {
    // The suites with Envoy and Istio write their tests in macros.
    if let Some((path, test)) = name.split_once(".rs::") {
        let text = std::fs::read_to_string(root().join(format!("{path}.rs"))).unwrap_or_default();
        return text.contains(&format!("fn {test}("));
    }
    if name.contains('/') {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_default();
        let cases = Path::new(name)
            .extension()
            .is_some_and(|kind| kind == "yaml")
            && !text.is_empty();
        return cases || text.contains("sandboxed! {\n    fn ") || !tests_in(name).is_empty();
    }
    let Some((module, test)) = name.split_once("::") else {
        let golden = root().join("cni/tests/golden").join(name).is_file();
        return golden || !tests_in(&format!("cni/tests/kernel/{name}.rs")).is_empty();
    };
    let tests = tests_in(&format!("cni/tests/kernel/{module}.rs"));
    match test.strip_suffix('*') {
        Some(begin) => tests.iter().any(|name| name.starts_with(begin)),
        None => tests.iter().any(|name| name == test),
    }
}

/// What is wrong with a row's third column.
fn wrong(row: &str) -> Vec<String> {
    let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
    // Configuration that a test was run with.
    let names: Vec<&str> = quoted(shown)
        .filter(|name| !["bridge", "accept_source_route"].contains(name))
        .collect();
    let missing = names.iter().filter(|name| !exists(name));
    let mut wrong: Vec<String> = missing.map(|name| format!("no test `{name}`")).collect();
    if names.is_empty() && !shown.contains("not tested") {
        wrong.push(format!("shown by nothing: {row}"));
    }
    wrong
}

#[test]
fn every_test_that_the_page_of_bypasses_names_exists() {
    let page = std::fs::read_to_string(root().join("docs/evidence/bypass.md")).unwrap();
    // Only tables of ways have a column of tests; a table ends where a line is no row.
    let mut rows: Vec<&str> = Vec::new();
    let mut in_table = false;
    for line in page.lines() {
        let header = line.starts_with("| Way |");
        in_table = header || in_table && line.starts_with('|');
        if in_table && !header && line.starts_with("| ") {
            rows.push(line);
        }
    }
    assert!(rows.len() > 35, "{}", rows.len());
    for row in rows {
        assert_eq!(wrong(row), [""; 0], "{row}");
    }
    for row in [
        "| way | part | `truth_table_of_old` |",
        "| way | part | `attack::flows_from_before` |",
        "| way | part | `attack::of_tomorrow_*` |",
        "| way | part | `agent::nothing` tests |",
        "| way | part | `integration/tests/gone.rs` |",
        "| way | part | `render/src/envoy/inspection/tests.rs::of_tomorrow` |",
        "| way | part | by thinking |",
    ] {
        assert_eq!(wrong(row).len(), 1, "{row}");
    }
}
