//! Tables of the demos, with the same columns in all of them.

/// The columns: whether what was seen is what was expected, who, whereto, both, and what decided.
pub const COLUMNS: [&str; 7] = [
    "",
    "workload",
    "destination",
    "expected",
    "seen",
    "rule",
    "code",
];

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whether what was seen is what was expected.
    pub as_expected: bool,
    /// Who tries.
    pub workload: String,
    /// What.
    pub destination: String,
    /// What is expected.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// The rule or default that decided; `-` if there is none.
    pub rule: String,
    /// The code of the verdict; `-` if there is none.
    pub code: String,
}

/// The rows below the columns' names, with a mark where one is not as expected.
#[must_use]
pub fn table(rows: impl IntoIterator<Item = Row>) -> String {
    let cells = rows.into_iter().map(|row| {
        let mark = if row.as_expected { "ok" } else { "DIFFERS" };
        let Row {
            as_expected: _,
            workload,
            destination,
            expected,
            seen,
            rule,
            code,
        } = row;
        [
            mark.to_owned(),
            workload,
            destination,
            expected,
            seen,
            rule,
            code,
        ]
    });
    warden::table(COLUMNS, &cells.collect::<Vec<_>>())
}

/// The last line of a demo.
#[must_use]
pub fn summary(rows: usize, differ: usize) -> String {
    format!("{rows} rows, {differ} differ")
}

/// A cell for what may be absent.
#[must_use]
pub fn cell(text: Option<&str>) -> String {
    match text {
        None | Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, cell, summary, table};

    #[test]
    fn rows_stand_below_their_columns_and_are_marked() {
        let row = |as_expected: bool, code: Option<&str>| Row {
            as_expected,
            workload: "app1".to_owned(),
            destination: "http://x".to_owned(),
            expected: "denied".to_owned(),
            seen: "reached".to_owned(),
            rule: cell(None),
            code: cell(code),
        };
        let text = table([row(true, Some("default")), row(false, Some(""))]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "         workload  destination  expected  seen     rule  code",
                "ok       app1      http://x     denied    reached  -     default",
                "DIFFERS  app1      http://x     denied    reached  -     -",
            ]
        );
        assert_eq!(summary(2, 1), "2 rows, 1 differ");
    }
}
