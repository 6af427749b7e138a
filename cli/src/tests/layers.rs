//! Several policies under install settings, in `test` and `diff`.

use super::support::{Folder, INSTALL, REFERENCE, rule_path};

const TEAM: &str = "apiVersion: egress-warden.io/v1alpha1
kind: EgressPolicy
metadata: {name: team}
spec:
  identity: {trustDomains: [cluster.local]}
  appliesTo: {namespaces: [app1-ns]}
  tiers:
  - name: t
    rules:
    - {name: github-api, to: [{domainNames: [api.github.com], ports: [80]}], action: Accept}
  default: Deny
";

const CASES: &str = "
cases:
- name: both accept
  from: {workload: app1-ns/a, labels: {egress-ruleset: app1}}
  to: {authority: api.github.com, port: 80}
  expect: {verdict: Accept, policy: seed, tier: apps, rule: app1-github, reason: rule}
- name: the team's policy is the stricter one
  from: {workload: app1-ns/a, labels: {egress-ruleset: app1}}
  to: {authority: gist.github.com, port: 80}
  expect: {verdict: Deny, policy: team, reason: default}
";

fn folder(policies: &str) -> Folder {
    Folder::with(&[
        ("install.yaml", INSTALL),
        ("seed.yaml", REFERENCE),
        ("team.yaml", TEAM),
        ("cases.yaml", &format!("policies: {policies}{CASES}")),
    ])
}

/// Wherever the install settings are named, the order is theirs, and so are the grants.
#[test]
fn cases_run_under_the_install_settings() {
    for (policies, line) in [
        (
            "[team.yaml, seed.yaml]",
            "test --install install.yaml cases.yaml",
        ),
        ("[install.yaml, team.yaml, seed.yaml]", "test cases.yaml"),
        ("[seed.yaml, team.yaml]", "test cases.yaml"),
    ] {
        let folder = folder(policies);
        let ran = folder.warden(&format!("{line} --output json"));
        assert_eq!(ran.exit, 0, "{policies}: {ran:?}");
        let json = ran.json();
        let policy = |case: usize| json["cases"][case]["policy"].clone();
        assert_eq!([policy(0), policy(1)], ["seed", "team"], "{policies}");
        let ran = folder.warden(&format!("{line} --verbose"));
        let line = "    Deny by team (default)";
        assert!(ran.stdout.lines().any(|seen| seen == line), "{ran:?}");
    }
    // Without them the order of the arguments holds, and this one is wrong.
    assert_eq!(
        folder("[team.yaml, seed.yaml]")
            .warden("test cases.yaml")
            .exit,
        3
    );
}

#[test]
fn cases_do_not_run_beyond_what_is_granted() {
    let folder = folder("[install.yaml, seed.yaml, team.yaml]");
    folder.write("install.yaml", &INSTALL.replace("[app1-ns]", "[app2-ns]"));
    let ran = folder.warden("test cases.yaml");
    assert_eq!(ran.exit, 3);
    assert!(
        ran.stderr.contains("`app1-ns` is not granted to `team`"),
        "{ran:?}"
    );
}

#[test]
fn a_failed_case_names_what_decided_and_stands_on_its_line() {
    let folder = folder("[seed.yaml]");
    let ran = folder.warden("test cases.yaml");
    assert_eq!(ran.exit, 4);
    assert!(
        ran.stdout
            .contains("FAILED cases.yaml: the team's policy is the stricter one"),
        "{ran:?}"
    );
    let ran = folder.warden("test cases.yaml --output github");
    assert_eq!(ran.exit, 4);
    assert!(
        ran.stdout.starts_with("::error file=cases.yaml,line=7,"),
        "{ran:?}"
    );
}

#[test]
fn cases_come_from_standard_input_and_from_folders() {
    let folder = folder("[seed.yaml, team.yaml]");
    let ran = folder.warden_with("test -", &folder.read("cases.yaml"));
    assert_eq!(ran.exit, 0, "{ran:?}");
    // What lies beside the cases is left out.
    let ran = folder.warden("test .");
    assert_eq!(ran.stdout, "2 passed, 0 failed\n", "{ran:?}");
    assert_eq!(folder.warden("test seed.yaml").exit, 3);
}

/// Differences of what holds together, not of one file.
#[test]
fn a_difference_of_layers() {
    let folder = folder("[]");
    folder.write("wide.yaml", &TEAM.replace("[80]", "[80, 443]"));
    folder.write("old/install.yaml", INSTALL);
    folder.write("old/a-team.yaml", TEAM);
    folder.write("old/seed.yaml", REFERENCE);
    folder.write("new/install.yaml", INSTALL);
    folder.write("new/a-team.yaml", &TEAM.replace("[80]", "[80, 443]"));
    folder.write("new/seed.yaml", REFERENCE);
    for line in [
        "diff --old seed.yaml team.yaml --new seed.yaml wide.yaml",
        "diff --install install.yaml --old team.yaml seed.yaml --new wide.yaml seed.yaml",
        "diff old new",
    ] {
        let ran = folder.warden(&format!("{line} --output json"));
        let json = ran.json();
        assert_eq!(json["complete"], true, "{line}: {ran:?}");
        let differences = json["differences"].as_array().unwrap();
        assert_eq!(differences.len(), 1, "{line}: {ran:?}");
        assert_eq!(differences[0]["change"], "gains", "{line}");
        let by = ["old", "new"].map(|side| rule_path(&differences[0][side]));
        assert_eq!(by, ["team", "seed/apps/app1-github"], "{line}");
        assert_eq!(differences[0]["witness"]["port"], 443, "{line}: {ran:?}");
    }
    // Without the second layer the first one's verdicts hold.
    let ran = folder.warden("diff --old seed.yaml team.yaml --new seed.yaml --output json");
    assert_eq!(ran.json()["differences"][0]["change"], "gains", "{ran:?}");
    for line in [
        "diff old",
        "diff --old seed.yaml",
        "diff seed.yaml --old team.yaml --new seed.yaml",
        "diff --install install.yaml seed.yaml seed.yaml",
    ] {
        assert_ne!(folder.warden(line).exit, 0, "{line}");
    }
}

/// Manifests that carry different policies are no single side.
#[test]
fn two_manifests_are_not_one_side() {
    let folder = folder("[]");
    let manifest = |text: &str| {
        let inner = text.trim_end().replace('\n', "\n      ");
        format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: w}}\nspec:\n  failStrategy: FAIL_RELOAD\n  pluginConfig:\n    context: http\n    labels: none\n    addressCheck: classes\n    addressClasses: []\n    ports: [{{port: 443, protocol: TLS}}]\n    policies:\n    - {inner}\n"
        )
    };
    let other = REFERENCE.replace("203.0.113.7/32", "203.0.113.8/32");
    folder.write(
        "both.yaml",
        &format!("{}---\n{}", manifest(REFERENCE), manifest(&other)),
    );
    let ran = folder.warden("diff both.yaml seed.yaml");
    assert_eq!(ran.exit, 1, "{ran:?}");
    assert!(ran.stderr.contains("carry different policies"), "{ran:?}");
}

/// What `check` and `render` refuse because it would change what a port carries for everybody is
/// not answered as if it were so.
#[test]
fn explain_answers_nothing_of_a_set_that_is_not_rendered() {
    let folder = Folder::with(&[
        ("seed.yaml", REFERENCE),
        (
            "team.yaml",
            &TEAM.replace("ports: [80]}", "ports: [22], protocols: [TLS]}"),
        ),
    ]);
    let facts = "--from app1-ns/app1,label=egress-ruleset=app1 --to tcp://203.0.113.7:22";
    let ran = folder.warden(&format!("explain seed.yaml team.yaml {facts}"));
    assert_eq!(ran.exit, 3, "{ran:?}");
    assert!(ran.stderr.contains("error[port_protocol]"), "{ran:?}");
    assert!(ran.stderr.contains("team.yaml:"), "{ran:?}");
    let alone = folder.warden(&format!("explain seed.yaml {facts}"));
    assert_eq!(alone.exit, 0, "{alone:?}");
}
