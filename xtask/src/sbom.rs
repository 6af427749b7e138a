//! The lists of crates that the module and programs are linked from, for bills of materials.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, output, root};

const FILE: &str = "package/module-crates.json";

/// Writes the module's list anew.
pub(crate) fn write() -> Result<()> {
    std::fs::write(root().join(FILE), module()?).context(FILE)
}

/// What Cargo resolves for the module.
fn module() -> Result<String> {
    resolved("egress-filter", "wasm32-wasip1")
}

/// What Cargo resolves for a package, as JSON, one crate a line.
pub(crate) fn resolved(package: &str, target: &str) -> Result<String> {
    let mut tree = cargo(&["tree", "--locked", "--edges=normal,no-proc-macro"]);
    tree.arg(format!("--package={package}"))
        .arg(format!("--target={target}"))
        .args(["--prefix=none", "--format={p}\t{l}"]);
    let text = output(&mut tree)?;
    let crates: BTreeSet<_> = text.lines().filter_map(entry).collect();
    ensure!(!crates.is_empty(), "cargo tree lists nothing");
    let lines: Vec<_> = crates.into_iter().collect();
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// `NAME vVERSION (PATH)`, a tab, the licence, and perhaps that it stood before.
fn entry(line: &str) -> Option<String> {
    let (package, license) = line.split_once('\t')?;
    let license = license.trim_end_matches(" (*)");
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let mut text = format!(r#"  {{"name": "{name}", "version": "{version}""#);
    if !license.is_empty() {
        // Writing to a String does not fail.
        let _ = write!(text, r#", "license": "{license}""#);
    }
    text.push('}');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_is_what_cargo_resolves() {
        let committed = std::fs::read_to_string(root().join(FILE)).unwrap();
        assert_eq!(
            committed,
            module().unwrap(),
            "write it anew: cargo xtask sbom"
        );
    }

    #[test]
    fn lines_of_cargo_tree() {
        for (line, expected) in [
            (
                "a v1.0.0 (/somewhere)\tMIT",
                Some(r#"  {"name": "a", "version": "1.0.0", "license": "MIT"}"#),
            ),
            (
                "b v0.1.0-rc.1\t (*)",
                Some(r#"  {"name": "b", "version": "0.1.0-rc.1"}"#),
            ),
            (
                "c v2.0.0\tMIT/Apache-2.0 (*)",
                Some(r#"  {"name": "c", "version": "2.0.0", "license": "MIT/Apache-2.0"}"#),
            ),
            ("", None),
        ] {
            assert_eq!(entry(line).as_deref(), expected, "{line}");
        }
    }
}
