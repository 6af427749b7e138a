//! One table of exit codes for all commands, whatever the file is that they read.

use std::io::{Error, ErrorKind, Write};

use super::support::{Folder, INSTALL, MODULE, REFERENCE};
use crate::Pipe;

/// What stands in the file `x.yaml` that a command is given.
const INPUTS: [(&str, &str); 4] = [
    ("empty", ""),
    (
        "foreign",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {podSelector: {}}\n",
    ),
    (
        "field",
        "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {name: p}\nhosts: []\nspec: {identity: {trustDomains: [cluster.local]}, tiers: [{name: t, default: Deny}]}\n",
    ),
    ("broken", "kind: [ClusterEgressPolicy\nspec: {\n"),
];

/// A command, and its exit codes for the inputs in their order and for a file that is not there.
const EXITS: &str = "
check x.yaml                                                | 3 3 3 3 1
check good.yaml x.yaml                                      | 0 0 3 3 1
explain x.yaml --from a/b --to https://a.example            | 3 3 3 3 1
explain --case x.yaml                                       | 3 3 3 3 1
test x.yaml                                                 | 3 3 3 3 1
diff x.yaml good.yaml                                       | 3 3 3 3 1
diff good.yaml x.yaml                                       | 3 3 3 3 1
fmt x.yaml                                                  | 0 0 0 3 1
fmt --check x.yaml                                          | 3 0 0 3 1
docs x.yaml                                                 | 3 3 3 3 1
revoke a/b --owner o --reason r x.yaml                      | 3 3 3 3 1
render --install install.yaml x.yaml                        | 3 3 3 3 1
render --install x.yaml good.yaml                           | 3 3 3 3 1
doctor --install x.yaml good.yaml                           | 3 3 3 3 1
doctor --install install.yaml x.yaml                        | 3 3 3 3 1
verify --gateway dump.json --install x.yaml good.yaml       | 3 3 3 3 1
verify --gateway dump.json --install install.yaml x.yaml    | 3 3 3 3 1
verify --from a/b x.yaml                                    | 3 3 3 3 1
package --module module.wasm --layout o.tar --install x.yaml good.yaml    | 3 3 3 3 1
package --module module.wasm --layout o.tar --install install.yaml x.yaml | 3 3 3 3 1
";

#[test]
fn every_command_exits_by_one_table() {
    let install = include_str!("../../../istio/reference/install.yaml");
    let mut wrong = Vec::new();
    for line in EXITS.lines().filter(|line| !line.is_empty()) {
        let (command, exits) = line.split_once('|').unwrap();
        let inputs = INPUTS.iter().map(|(name, text)| (*name, Some(*text)));
        let inputs = inputs.chain([("missing", None)]);
        for ((name, text), exit) in inputs.zip(exits.split_whitespace()) {
            let folder = Folder::with(&[
                ("good.yaml", REFERENCE),
                ("install.yaml", install),
                ("dump.json", "{}"),
            ]);
            folder.write_bytes("module.wasm", MODULE);
            if let Some(text) = text {
                folder.write("x.yaml", text);
            }
            let ran = folder.warden(command.trim());
            if ran.exit.to_string() != exit {
                wrong.push(format!("{name}: {command}: {ran:?}"));
            }
            if let Some(text) = text {
                folder.write("x.yaml", text);
            }
            let json = folder.warden(&format!("{} --output json", command.trim()));
            // That it is JSON, and as its schema says, is seen to by whoever runs it.
            if json.exit != ran.exit || (json.exit == 1) != json.stdout.is_empty() {
                wrong.push(format!("{name}: {command} --output json: {json:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Arguments that are wrong, and arguments that only look so.
#[test]
fn arguments_that_are_wrong_exit_with_1() {
    let folder = Folder::with(&[("good.yaml", REFERENCE), ("install.yaml", INSTALL)]);
    for (line, exit) in [
        ("", 1),
        ("chek good.yaml", 1),
        ("check", 1),
        ("check --outputs json good.yaml", 1),
        ("check --explain no_such_code", 1),
        (
            "explain good.yaml --from a/b --to https://a.example:http",
            1,
        ),
        (
            "explain good.yaml --from a/b --to https://a.example:70000",
            1,
        ),
        ("explain good.yaml --from a/b --to https://a.example:0", 1),
        ("explain good.yaml --from a/b --to https://a.example:", 1),
        ("explain good.yaml --from a/b --to tcp://[2001:db8::1]:x", 1),
        ("explain good.yaml --from a/b --to a.example", 1),
        ("explain good.yaml --from b --to https://a.example", 1),
        ("explain good.yaml --from a/b --to HTTPS://a.example", 2),
        (
            "explain good.yaml --from a/b --to tls://[2001:db8::1]:443",
            2,
        ),
        ("schema", 0),
        ("--help", 0),
    ] {
        let ran = folder.warden(line);
        assert_eq!(ran.exit, exit, "{line}: {ran:?}");
        assert_eq!(ran.exit == 1, ran.stdout.is_empty(), "{line}: {ran:?}");
    }
}

/// A writer whose reader goes away after so many bytes.
struct Head(usize);

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Err(Error::from(ErrorKind::BrokenPipe))
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let run = |stdout: &mut dyn Write| {
        let mut stderr = Vec::new();
        let exit = crate::run(
            ["warden", "schema"],
            &mut crate::Console {
                stdin: &mut "".as_bytes(),
                stdout,
                stderr: &mut stderr,
                now: None,
                directory: std::path::Path::new("."),
                color: false,
            },
        );
        (exit.code(), stderr.is_empty())
    };
    assert_eq!(run(&mut Pipe::new(Head(10))), (0, true));
    // Any other writer's failure is one.
    assert_eq!(run(&mut Head(10)), (1, false));
}
