//! Runs docs/tutorial.md: every file that it shows, and every line of its shell blocks, in order, in a
//! fresh folder, by the shell and the real `warden`. What is printed is compared with what the page
//! shows. What is marked as needing a cluster or a registry is not run: of `warden` its options are
//! read, and a stand-in for `kubectl` notes what it would apply, so that each rendered file is applied
//! once before the last step.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers")]

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TUTORIAL: &str = include_str!("../../docs/tutorial.md");

/// The marks of what is not run here.
const ELSEWHERE: [&str; 2] = ["  # needs a cluster", "  # needs a registry"];

/// What stands for whatever is left out.
const LEFT_OUT: &str = "...";

/// The digest before the module has one.
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A module as small as one gets, where `cargo xtask wasm` has not built the real one: what is packaged
/// is not run here.
const MODULE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\x02\x06\x07\x01\x7f\0A\x80\x08\x0b\x07\x1c\x01\x18warden_embedded_policies\x03\0\x0b\x07\x01\0A\x10\x0b\x01x";

/// Something that the page has the reader do.
#[derive(Debug, PartialEq, Eq)]
enum Step<'t> {
    /// Save this text under this name.
    Save(&'t str, String),
    /// Run this line, which ends with this code and prints these lines.
    Run(&'t str, i32, Vec<&'t str>),
    /// Run this line where there is a cluster or a registry.
    Elsewhere(&'t str),
}

/// The steps of the page, in order.
fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut name = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let comment = line.strip_prefix("<!-- file: ");
        name = comment.and_then(|rest| rest.strip_suffix(" -->")).or(name);
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if language == "console" {
            steps.extend(commands(&block));
        } else {
            let name = name
                .take()
                .unwrap_or_else(|| panic!("a block without a name: {block:?}"));
            let mut text = String::new();
            for line in block {
                writeln!(text, "{line}").unwrap();
            }
            steps.push(Step::Save(name, text));
        }
    }
    steps
}

/// The commands of a block, each with what it prints.
fn commands<'t>(block: &[&'t str]) -> Vec<Step<'t>> {
    let mut steps = Vec::new();
    for line in block {
        let Some(command) = line.strip_prefix("$ ") else {
            let Some(Step::Run(_, _, shown)) = steps.last_mut() else {
                panic!("`{line}` is printed by nothing that runs here");
            };
            shown.push(*line);
            continue;
        };
        let mark = ELSEWHERE.iter().find_map(|mark| command.strip_suffix(mark));
        steps.push(match (mark, command.split_once("  # exits ")) {
            (Some(command), _) => Step::Elsewhere(command),
            (None, Some((command, exit))) => Step::Run(command, exit.parse().unwrap(), Vec::new()),
            (None, None) => Step::Run(command, 0, Vec::new()),
        });
    }
    steps
}

/// Whether a text is what is shown, where [`LEFT_OUT`] stands for any text within a line, and alone for
/// any lines.
fn is_shown(shown: &[&str], printed: &[&str]) -> bool {
    match shown {
        [] => printed.is_empty(),
        [LEFT_OUT, rest @ ..] => {
            (0..=printed.len()).any(|skipped| is_shown(rest, printed.get(skipped..).unwrap()))
        }
        [line, rest @ ..] => printed
            .split_first()
            .is_some_and(|(first, others)| fits(line, first) && is_shown(rest, others)),
    }
}

fn fits(shown: &str, line: &str) -> bool {
    match shown.split_once(LEFT_OUT) {
        None => shown == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.any(|at| fits(after, rest.get(at..).unwrap()))
        }),
    }
}

/// A folder in which the reader is, with a home and programs that stand for others. It goes away with
/// the test.
struct Reader {
    all: PathBuf,
    folder: PathBuf,
}

impl Reader {
    fn new() -> Self {
        let all = std::env::temp_dir().join(format!("warden-tutorial-{}", std::process::id()));
        let reader = Self {
            folder: all.join("empty folder"),
            all,
        };
        for folder in ["empty folder", "bin", "home/egress-warden"] {
            std::fs::create_dir_all(reader.all.join(folder)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_warden"), reader.all.join("bin/warden")).unwrap();
        reader.program("kubectl", include_str!("kubectl.sh"));
        let module = reader.module();
        let cargo = format!(
            "#!/bin/sh\ncase \"$PWD: $*\" in */egress-warden': xtask wasm') echo '{}' ;; *) exit 1 ;; esac\n",
            module.display()
        );
        reader.program("cargo", &cargo);
        reader
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.all.join("bin").join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The module where `cargo xtask wasm` says it is.
    fn module(&self) -> PathBuf {
        let path = self.all.join("egress_filter.wasm");
        let built = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/wasm32-wasip1/wasm/egress_filter.wasm");
        let module = std::fs::read(built).unwrap_or_else(|_| MODULE.to_vec());
        std::fs::write(&path, module).unwrap();
        path
    }

    fn sh(&self, line: &str) -> Output {
        let path = std::env::var("PATH").unwrap();
        Command::new("sh")
            .args(["-c", line])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", self.all.join("bin").display()))
            .env("HOME", self.all.join("home"))
            .env("APPLIED", self.all.join("applied"))
            .output()
            .unwrap()
    }

    fn run(&self, line: &str, exit: i32, shown: &[&str]) {
        let ran = self.sh(line);
        let text = String::from_utf8(ran.stdout).unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(exit), "{line}\n{text}{errors}");
        let printed: Vec<&str> = text.lines().collect();
        assert!(
            shown.is_empty() || is_shown(shown, &printed),
            "`{line}` prints\n{text}\nand the page shows\n{}",
            shown.join("\n")
        );
    }

    /// A line that is not run here: of `kubectl`, alone or in a loop, or of `warden` with something that
    /// only the cluster gives. Gives the files that it applies.
    fn elsewhere(&self, line: &str) -> Vec<String> {
        std::fs::write(self.all.join("applied"), "").unwrap();
        if line.starts_with("warden ") {
            self.run(&format!("{line} --help"), 0, &[]);
        } else {
            assert!(line.contains("kubectl "), "`{line}` needs no cluster");
            self.run(line, 0, &[]);
        }
        let applied = std::fs::read_to_string(self.all.join("applied")).unwrap();
        applied.lines().map(str::to_owned).collect()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.all);
    }
}

#[test]
fn every_line_of_the_tutorial_does_what_it_says() {
    let reader = Reader::new();
    let (mut saved, mut ran, mut elsewhere) = (0, 0, 0);
    let mut applied: Vec<Vec<String>> = Vec::new();
    for step in steps(TUTORIAL) {
        match step {
            Step::Save(name, text) => {
                std::fs::write(reader.folder.join(name), text).unwrap();
                saved += 1;
            }
            Step::Run(line, exit, shown) => {
                reader.run(line, exit, &shown);
                ran += 1;
            }
            Step::Elsewhere(line) => {
                applied.push(reader.elsewhere(line));
                elsewhere += 1;
            }
        }
    }
    assert_eq!((saved, ran, elsewhere), (4, 34, 18), "(saved, run, marked)");
    applied.retain(|files| !files.is_empty());
    let mut all = applied.pop().unwrap();
    all.sort_unstable();
    let mut once = applied.concat();
    once.sort_unstable();
    assert_eq!(once, all, "the steps, and everything again");
    let plugin = reader.read("rendered/istio-egress.wasmplugin.egress-warden-http.yaml");
    assert!(!plugin.contains(ZEROS), "{plugin}");
    assert!(plugin.contains("*.partner.example"), "{plugin}");
    assert!(!plugin.contains("shadowWorkloads"), "{plugin}");
}

/// What only GNU's programs know, which a Mac's do not.
#[test]
fn no_line_needs_gnu() {
    for step in steps(TUTORIAL) {
        let (Step::Run(line, ..) | Step::Elsewhere(line)) = step else {
            continue;
        };
        for word in [
            "sha256sum",
            "sed -i",
            "sed -r",
            "readlink -f",
            "date -d",
            "xargs -r",
            "grep -P",
        ] {
            assert!(!line.contains(word), "{word}: {line}");
        }
        // A replacement of sed's with a line's end in it.
        let sed = line.starts_with("sed ") && line.contains("\\n");
        assert!(!sed, "{line}");
    }
}

#[test]
fn a_page_is_read_and_compared() {
    let page = "<!-- file: a.yaml -->\n```yaml\nx: 1\n```\n```console\n$ cat a.yaml\nx: 1\n$ false  # exits 1\n$ kubectl get pods  # needs a cluster\n```\n";
    assert_eq!(
        steps(page),
        [
            Step::Save("a.yaml", "x: 1\n".to_owned()),
            Step::Run("cat a.yaml", 0, vec!["x: 1"]),
            Step::Run("false", 1, Vec::new()),
            Step::Elsewhere("kubectl get pods"),
        ]
    );
    for (shown, printed, expected) in [
        (&["a", "b"][..], &["a", "b"][..], true),
        (&["a"], &["a", "b"], false),
        (&["a", "..."], &["a", "b", "c"], true),
        (&["a", "..."], &["a"], true),
        (&["...", "c"], &["a", "b", "c"], true),
        (&["...", "c"], &["a", "c", "b"], false),
        (&["a ... c"], &["a b c"], true),
        (&["a ... c"], &["a b"], false),
        (&["sum 70cc..."], &["sum 70cc..."], true),
    ] {
        assert_eq!(is_shown(shown, printed), expected, "{shown:?} {printed:?}");
    }
}
