//! What the fuzz targets assert of the `warden` command: whatever comes in, a subcommand ends with
//! one of its exit codes, and says why where it is not the good one. The command's own tests replay
//! the corpus through the same functions, without the fuzzer.

use std::path::Path;

use warden::{Console, Exit, run};

/// What a subcommand is given beside standard input. The folder is `cases/`.
const LINES: [&[&str]; 14] = [
    &["check", "-"],
    &["check", "-", "policies/reference.yaml", "--output", "json"],
    &["check", "-", "--output", "github"],
    &["explain", "-", "--from", "a/b", "--to", "https://a.example"],
    &[
        "explain",
        "-",
        "--from",
        "a/b",
        "--to",
        "tcp://192.0.2.1:22",
        "--output",
        "json",
    ],
    &["explain", "--case", "-"],
    &["test", "-", "--coverage", "--verbose"],
    &["test", "-", "--output", "github"],
    &["diff", "-", "policies/reference.yaml", "--limit", "1"],
    &[
        "diff",
        "policies/reference.yaml",
        "-",
        "--limit",
        "1",
        "--output",
        "markdown",
    ],
    &["docs", "-", "--format", "html"],
    &["render", "--install", "-", "policies/reference.yaml"],
    &[
        "doctor",
        "--install",
        "../istio/reference/install.yaml",
        "--namespaces",
        "-",
        "policies/reference.yaml",
    ],
    &[
        "doctor",
        "--install",
        "../istio/reference/install.yaml",
        "--pods",
        "-",
        "policies/reference.yaml",
        "--output",
        "json",
    ],
];

struct Ran {
    exit: Exit,
    stdout: Vec<u8>,
    said: bool,
}

fn warden(args: &[&str], mut stdin: &[u8]) -> Ran {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    let args = std::iter::once("warden").chain(args.iter().copied());
    let exit = run(
        args,
        &mut Console {
            stdin: &mut stdin,
            stdout: &mut stdout,
            stderr: &mut stderr,
            now: Some(1_796_083_200),
            directory: &folder,
            color: false,
        },
    );
    Ran {
        exit,
        said: !(stdout.is_empty() && stderr.is_empty()),
        stdout,
    }
}

/// The first byte says which subcommand, the others are its standard input.
///
/// # Panics
/// Where what the module says does not hold, as all functions here.
pub fn command(bytes: &[u8]) {
    let Some((first, stdin)) = bytes.split_first() else {
        return;
    };
    let which = usize::from(*first) % LINES.len();
    let line = LINES.get(which).copied().unwrap_or_default();
    let ran = warden(line, stdin);
    assert!(ran.exit == Exit::Ok || ran.said, "{line:?} says nothing");
}

/// `explain`'s arguments, one a line: `--from`, `--to`, `--method`, `--sni`, `--address`, `--time`.
pub fn question(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let names = ["--from", "--to", "--method", "--sni", "--address", "--time"];
    let args: Vec<String> = names
        .iter()
        .zip(text.lines())
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut line = vec!["explain", "policies/reference.yaml", "--output", "json"];
    line.extend(args.iter().map(String::as_str));
    let ran = warden(&line, &[]);
    assert!(ran.said, "{line:?} says nothing");
}

/// What `fmt` writes it leaves alone, and `check` thinks of both the same.
pub fn fmt(bytes: &[u8]) {
    let once = warden(&["fmt", "-"], bytes);
    if once.exit != Exit::Ok {
        assert!(once.said);
        return;
    }
    let twice = warden(&["fmt", "-"], &once.stdout);
    assert_eq!(twice.exit, Exit::Ok);
    assert_eq!(once.stdout, twice.stdout);
    let check = |text: &[u8]| warden(&["check", "-"], text).exit;
    assert_eq!(check(bytes), check(&once.stdout));
}
