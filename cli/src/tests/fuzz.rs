//! No input makes a subcommand panic: documents cut, spliced and scrambled, a short run of each.

use clap::CommandFactory;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sha2::Digest;

use super::support::{Folder, MODULE, REFERENCE};

const CASES: &str = include_str!("../../../cases/reference.yaml");
const INSTALL: &str = include_str!("../../../istio/reference/install.yaml");
const LISTED: &str = "apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: p}
spec:
  identity: {trustDomains: [cluster.local]}
  destinations:
    a: {file: list.txt, sha256: d8e3d49fd6a6eae8b9a7f6ddf7d5a3a3d8e3d49fd6a6eae8b9a7f6ddf7d5a3a3, date: 2026-11-20, ports: [443]}
    b: [{file: list.txt, sha256: x, date: 2026-11-20}, &c {domainNames: [a.example]}]
  tiers: [{name: t, rules: [{name: r, to: [{destination: a}, {destination: b}], action: Accept}]}]
";

/// Pieces that policies are made of, and that parsers stumble over.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "- ",
    "\n",
    "  ",
    "*",
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    ">\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\t",
    "\u{0}",
    "\u{feff}",
    "é",
    "\u{1f600}",
    "null",
    "~",
    "0x",
    ".inf",
    "<<: ",
    "? ",
    "# ",
    "spec:",
    "tiers:",
    "rules:",
    "name: ",
    "from:",
    "to:",
    "ports: [0-]",
    "domainNames: [*.x.y]",
    "networks: [::/0]",
    "expires: \"9999-12-31T23:59:59Z\"",
    "kind: WasmPlugin",
    "pluginConfig:",
    "policies: []",
    "kind: EgressGateway",
    "99999999999999999999",
    "-",
    "\\",
    "\\ud83d",
    "@",
    "`",
    "*.münchen.de",
];

fn scrambled(seed: &'static str) -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0..40_usize,
        prop::sample::select(PIECES),
    );
    prop::collection::vec(edit, 1..8).prop_map(move |edits| {
        let mut chars: Vec<char> = seed.chars().collect();
        for (index, cut, piece) in edits {
            let at = index.index(chars.len() + 1);
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

#[test]
fn no_document_makes_a_subcommand_panic() {
    let folder = Folder::with(&[("good.yaml", REFERENCE), ("cases.yaml", CASES)]);
    folder.write("policies/reference.yaml", REFERENCE);
    folder.write("install.yaml", INSTALL);
    folder.write("dump.json", DUMP);
    folder.write_bytes("module.wasm", MODULE);
    let commands = [
        "check -",
        "check - --output json",
        "check - --output github",
        "explain - --from app1-ns/a --to https://api.github.com",
        "who - --to https://api.github.com --limit 1",
        "who - --to *.github.com --limit 1 --output json",
        "what - --from app1-ns --limit 1 --output markdown",
        "diff - good.yaml --limit 1",
        "diff good.yaml - --limit 1 --output markdown",
        "docs -",
        "docs - --format html",
        "fmt -",
        "render --install install.yaml -",
        "render --install install.yaml --prune-list -",
        "render --install install.yaml --udp-exceptions -",
        "doctor --install install.yaml -",
        "revoke a/b --owner o --reason r -",
        "verify --gateway dump.json --install install.yaml -",
        "package --module module.wasm --layout image.tar --install install.yaml -",
    ];
    let others = [
        (CASES, "test - --coverage --verbose"),
        (CASES, "test - --output github"),
        (CASES, "explain --case - --output json"),
        (INSTALL, "check - good.yaml"),
        (INSTALL, "render --install - good.yaml"),
        (INSTALL, "doctor --install - good.yaml"),
        (
            INSTALL,
            "doctor --install install.yaml --mesh-config - good.yaml",
        ),
        (
            INSTALL,
            "doctor --install install.yaml --istiod-env - good.yaml",
        ),
        (
            CLUSTER,
            "doctor --install install.yaml --namespaces - good.yaml",
        ),
        (
            CLUSTER,
            "doctor --install install.yaml --pods - good.yaml --output json",
        ),
        (INSTALL, "render --install install.yaml --adopt - good.yaml"),
        (DUMP, "verify --gateway - --install install.yaml good.yaml"),
        (LISTED, "check -"),
        (LISTED, "fmt -"),
    ];
    let lines = others.iter().map(|(_, line)| *line);
    let lines: Vec<&str> = commands.iter().copied().chain(lines).collect();
    assert_eq!(untouched(&lines), OTHERWISE);
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let which = 0..commands.len();
    runner
        .run(&(scrambled(REFERENCE), which), |(text, which)| {
            let ran = folder.warden_with(commands[which], &text);
            prop_assert!(ran.is_documented(), "{ran:?}");
            Ok(())
        })
        .unwrap();
    for (seed, line) in others {
        runner
            .run(&scrambled(seed), |text| {
                prop_assert!(folder.warden_with(line, &text).is_documented(), "{line}");
                Ok(())
            })
            .unwrap();
    }
}

/// What `render --history` keeps, cut and scrambled.
#[test]
fn no_history_makes_rollback_panic() {
    let folder = Folder::with(&[("good.yaml", REFERENCE), ("install.yaml", INSTALL)]);
    let line = "render --install install.yaml --history renders good.yaml";
    assert_eq!(folder.warden(line).exit, 0);
    let name = folder.names("renders").pop().unwrap();
    let hash = name.split('.').nth(1).unwrap();
    let line = format!("rollback {hash} --history renders");
    assert_eq!(folder.warden(&line).exit, 0);
    let path = format!("renders/{name}");
    let seed: &'static str = folder.read(&path).leak();
    let mut runner = TestRunner::new(Config {
        cases: 50,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&scrambled(seed), |text| {
            folder.write(&path, &text);
            let ran = folder.warden(&line);
            prop_assert!(ran.is_documented(), "{ran:?}");
            Ok(())
        })
        .unwrap();
}

/// What a cluster has, as little of it as the checks look at.
const CLUSTER: &str = "kind: Namespace
metadata: {name: app1-ns, labels: {istio-injection: enabled, istio.io/rev: canary}}
---
kind: Pod
metadata: {name: p, namespace: app1-ns, annotations: {sidecar.istio.io/status: '{\"revision\": \"a\"}', proxy.istio.io/config: a}}
spec:
  securityContext: {fsGroup: 1, supplementalGroups: [1.5]}
  initContainers: [{name: istio-proxy, image: docker.io/istio/proxyv2, args: [proxy, sidecar], restartPolicy: Always}]
  containers: [{name: app, securityContext: {runAsUser: 18446744073709551615, capabilities: {add: [NET_ADMIN]}}}]
";

/// A gateway's configuration, as little of it as there can be.
const DUMP: &str = r#"{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [{"name": "a", "active_state": {"listener": {"name": "a", "filter_chains": [{"filters": []}]}}}]}]}"#;

/// Subcommands that are given no document: arguments alone, which are scrambled below, or what
/// `render` kept, or nothing.
const OTHERWISE: [&str; 4] = ["init", "schema", "rollback", "completions"];

/// The subcommands that none of these lines names.
fn untouched(lines: &[&str]) -> Vec<String> {
    let command = crate::commands::Cli::command();
    let all = command
        .get_subcommands()
        .map(|one| one.get_name().to_owned());
    all.filter(|name| {
        !lines
            .iter()
            .any(|line| line.split(' ').next() == Some(name))
    })
    .collect()
}

/// Lists of every sort, with the digest that they have.
#[test]
fn no_list_makes_check_panic() {
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let list =
        "# Partners.\n*.partner.example\n203.0.113.0/24\n2001:db8::/32\nm\u{fc}nchen.example\n";
    let folder = Folder::with(&[]);
    runner
        .run(&scrambled(list), |list| {
            let digest = format!("{:x}", sha2::Sha256::digest(&list));
            folder.write("list.txt", &list);
            folder.write(
                "policy.yaml",
                &LISTED.replace("sha256: x", &format!("sha256: {digest}")),
            );
            prop_assert!(folder.warden("check policy.yaml").is_documented());
            Ok(())
        })
        .unwrap();
}

#[test]
fn no_argument_makes_a_subcommand_panic() {
    let folder = Folder::with(&[("good.yaml", REFERENCE)]);
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let word = "[a-z0-9:/@.,=*\\[\\]%?é-]{0,24}";
    let scheme = prop::sample::select(&["http", "https", "tls", "tcp", "udp", "ws", "x"][..]);
    runner
        .run(&(word, scheme, word, word), |(from, scheme, to, more)| {
            for line in [
                format!("explain good.yaml --from a{from} --to {scheme}://{to}"),
                format!("explain good.yaml --from a/b,{from} --to {scheme}://{to} --address={more}"),
                format!("explain good.yaml --from a/b --to {scheme}://x.{to}:1 --sni={more} --time={from}"),
                format!("check --explain={from}"),
                format!("schema --output-of={from}"),
                format!("completions {to}x"),
                format!("rollback {from}x --history {scheme}"),
                format!("revoke a{from} --owner o --reason r --review={more} good.yaml"),
                format!("package --module good.yaml --push x{to}/{more}"),
            ] {
                prop_assert!(folder.warden(&line).is_documented(), "{line}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        let list = [before.as_str(); 10].join(", ");
        text = format!("{text}b{level}: &a{level} [{list}]\n");
    }
    let ran = Folder::with(&[]).warden_with("check -", &text);
    assert_eq!(ran.exit, 3);
    assert!(
        ran.stdout.contains("aliases make this too large"),
        "{ran:?}"
    );
}

#[test]
fn nesting_has_a_bound() {
    let yaml = "[".repeat(5_000);
    let json = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    for text in [yaml, json] {
        let ran = Folder::with(&[]).warden_with("check -", &text);
        assert_eq!(ran.exit, 3, "{ran:?}");
    }
}
