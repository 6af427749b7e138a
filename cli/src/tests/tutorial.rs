//! Every command of docs/tutorial.md, as it is written there.

use std::fmt::Write as _;

use super::support::Folder;

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

#[test]
fn every_command_of_the_tutorial_does_what_it_says() {
    let folder = Folder::with(&[]);
    let mut lines = TUTORIAL.lines().peekable();
    let mut file: Option<&str> = None;
    let mut ran = 0;
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("<!-- file: ") {
            file = name.strip_suffix(" -->");
        } else if line == "```yaml" {
            let mut text = String::new();
            for line in lines.by_ref().take_while(|line| *line != "```") {
                writeln!(text, "{line}").unwrap();
            }
            folder.write(file.take().expect("a block of YAML is a file"), &text);
        } else if let Some(command) = line.strip_prefix("$ ") {
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && *line != "```") {
                expected.push(line);
            }
            step(&folder, command, &expected);
            ran += 1;
        }
    }
    assert!(ran >= 14, "{ran}");
}

fn step(folder: &Folder, command: &str, expected: &[&str]) {
    let (command, exit) = match command.split_once("  # exits ") {
        Some((command, exit)) => (command, exit.parse().unwrap()),
        None => (command, 0),
    };
    if let Some(sed) = command.strip_prefix("sed ") {
        return rewrite(folder, sed);
    }
    let line = command
        .strip_prefix("warden ")
        .expect("a command of warden");
    let seen = folder.warden(line);
    assert_eq!(seen.exit, exit, "{command}\n{seen:?}");
    for line in expected {
        let found = seen.stdout.lines().any(|seen| seen == *line);
        assert!(found, "{command} does not print `{line}`:\n{}", seen.stdout);
    }
}

/// `'s/FROM/TO/' IN > OUT`, the one form that the tutorial uses.
fn rewrite(folder: &Folder, sed: &str) {
    let (script, files) = sed.rsplit_once("' ").unwrap();
    let mut parts = script
        .trim_start_matches("'s/")
        .trim_end_matches('/')
        .split('/');
    let unescaped = |text: &str| {
        text.replace("\\[", "[")
            .replace("\\]", "]")
            .replace("\\n", "\n")
    };
    let (from, to) = (
        unescaped(parts.next().unwrap()),
        unescaped(parts.next().unwrap()),
    );
    let (input, output) = files.split_once(" > ").unwrap();
    let text = folder.read(input);
    assert!(text.contains(&from), "{input} does not hold `{from}`");
    folder.write(output, &text.replacen(&from, &to, 1));
}
