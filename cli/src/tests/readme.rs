//! The verdicts that the README shows, and its policy.

use super::support::{Folder, REFERENCE};

const README: &str = include_str!("../../../README.md");

#[test]
fn every_explain_line_of_the_readme_is_what_the_command_prints() {
    let folder = Folder::with(&[]);
    folder.write("cases/policies/reference.yaml", REFERENCE);
    let mut lines = README.lines();
    let mut compared = 0;
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ warden explain ") else {
            continue;
        };
        let seen = folder.warden(&format!("explain {command}"));
        assert_eq!(seen.stdout.lines().next(), lines.next(), "{command}");
        compared += 1;
    }
    assert_eq!(compared, 3);
}

#[test]
fn the_policy_of_the_readme_is_without_defects() {
    let (_, rest) = README.split_once("```yaml\n").expect("a policy");
    let (policy, _) = rest.split_once("```").expect("its end");
    let folder = Folder::with(&[("policy.yaml", policy)]);
    let seen = folder.warden("check policy.yaml");
    assert_eq!(seen.exit, 0, "{seen:?}");
}
