//! The node guard's truth table as tables of a demo.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::report::{self, Row, cell};

/// Who tries each route: its field of a line, and what it is called.
const WHO: [(&str, &str); 2] = [("workload", "workload"), ("gateway", "gateway")];

/// What the pod network of a line is called.
#[must_use]
pub fn plugin(line: &Value) -> &str {
    text(line, "/plugin")
}

fn text<'v>(line: &'v Value, pointer: &str) -> &'v str {
    line.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A row for each who and route, with the pod network.
#[must_use]
pub fn rows(lines: &[Value]) -> Vec<(String, Row)> {
    let of = |line: &Value| WHO.map(|who| (plugin(line).to_owned(), row(line, who)));
    lines.iter().flat_map(of).collect()
}

fn row(line: &Value, (field, who): (&str, &str)) -> Row {
    let expected = text(line, &format!("/expected/{field}"));
    let seen = text(line, &format!("/{field}"));
    let without = text(line, "/without");
    let dropped = seen == "dropped";
    let counted = line.get("counted").and_then(Value::as_u64) > Some(0);
    Row {
        as_expected: (expected == "either" || expected == seen)
            && without == "passes"
            && line.get("asExpected") == Some(&Value::Bool(true)),
        workload: who.to_owned(),
        destination: text(line, "/route").to_owned(),
        expected: expected.to_owned(),
        seen: format!("{seen} (without the guard: {without})"),
        rule: cell(dropped.then_some("node guard")),
        // The counter is read of the workload alone.
        code: cell((dropped && counted && field == "workload").then_some("counted")),
    }
}

/// A table of what all pod networks have in common, and one of each other result.
#[must_use]
pub fn tables(lines: &[Value]) -> String {
    let mut by_row: Vec<(Row, Vec<String>)> = Vec::new();
    for (plugin, row) in rows(lines) {
        match by_row.iter_mut().find(|(known, _)| *known == row) {
            Some((_, plugins)) => plugins.push(plugin),
            None => by_row.push((row, vec![plugin])),
        }
    }
    let mut groups: BTreeMap<(usize, String), Vec<Row>> = BTreeMap::new();
    for (row, plugins) in by_row {
        // What holds in the most networks comes first.
        let key = (usize::MAX - plugins.len(), plugins.join(", "));
        groups.entry(key).or_default().push(row);
    }
    let tables = groups
        .into_iter()
        .map(|((_, plugins), rows)| format!("pod network {plugins}:\n{}", report::table(rows)));
    tables.collect::<Vec<_>>().join("\n")
}

/// What the table shows, in a sentence.
#[must_use]
pub fn summary(lines: &[Value]) -> String {
    let count = |field: &str, word: &str| {
        let found = lines.iter().filter(|line| text(line, field) == word);
        found.count()
    };
    format!(
        "{} routes: {} arrive without the guard; with it {} of a workload's and {} of the gateway's",
        lines.len(),
        count("/without", "passes"),
        count("/workload", "passes"),
        count("/gateway", "passes"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{rows, summary, tables};

    fn line(plugin: &str, route: &str, [without, workload, gateway]: [&str; 3]) -> Value {
        json!({
            "plugin": plugin, "route": route, "without": without, "workload": workload,
            "counted": u64::from(workload == "dropped"), "gateway": gateway,
            "expected": {"workload": "dropped", "gateway": "passes"}, "asExpected": true,
        })
    }

    #[test]
    fn what_networks_have_in_common_is_told_once() {
        let good = ["passes", "dropped", "passes"];
        let lines = [
            line("Bridge", "QUIC", good),
            line("Bridge", "a router advertisement", good),
            line("Ptp", "QUIC", good),
        ];
        let text = tables(&lines);
        assert_eq!(text.matches("QUIC").count(), 2, "{text}");
        assert!(text.starts_with("pod network Bridge, Ptp:\n"), "{text}");
        assert!(!text.contains("DIFFERS"), "{text}");
        assert!(text.contains("node guard  counted"), "{text}");
        assert_eq!(rows(&lines).len(), 6);
        assert_eq!(
            summary(&lines),
            "3 routes: 3 arrive without the guard; with it 0 of a workload's and 3 of the gateway's"
        );
    }

    #[test]
    fn a_way_that_is_open_or_shows_nothing_differs() {
        for words in [
            ["passes", "passes", "passes"],
            ["dropped", "dropped", "passes"],
        ] {
            assert!(
                tables(&[line("Ptp", "QUIC", words)]).contains("DIFFERS"),
                "{words:?}"
            );
        }
    }
}
