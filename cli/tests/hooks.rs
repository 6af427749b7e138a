//! `.pre-commit-hooks.yaml` and `action.yml`: what they run, run by the built command on a folder
//! that is in order and on one that is not.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use egress_render::adopt;
use serde_json::Value;

const POLICY: &str = include_str!("../../cases/policies/reference.yaml");
const CASES: &str = "policies: [policies/policy.yaml]
cases:
- name: GitHub
  from: {workload: app1-ns/app1, labels: {egress-ruleset: app1}}
  to: {authority: api.github.com, port: 80}
  expect: {verdict: VERDICT, policy: seed, tier: apps, rule: app1-github, reason: rule}
";

struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("warden-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    /// Runs a script as GitHub does, with this command on the PATH. Whether it succeeded, and what
    /// it said.
    fn bash(&self, script: &str, env: &[(String, String)]) -> (bool, String) {
        let built = Path::new(env!("CARGO_BIN_EXE_warden")).parent().unwrap();
        let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
        let ran = Command::new("bash")
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
            .current_dir(&self.0)
            .env("PATH", path)
            .env("GITHUB_STEP_SUMMARY", self.0.join("summary.md"))
            .envs(env.iter().cloned())
            .output()
            .unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        (ran.status.success(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Files in order, and the same with a defect, a case that fails, and a rule more.
fn folders(name: &str) -> [Folder; 2] {
    let cases = CASES.replace("VERDICT", "Accept");
    let good = [
        ("policies/policy.yaml", POLICY),
        ("base/policy.yaml", POLICY),
        ("cases.yaml", &cases),
    ];
    let wider = POLICY
        .replace("[22]", "[22, 2222]")
        .replace("default: Deny", "default: Deny   ");
    let cases = CASES.replace("VERDICT", "Deny");
    let bad = [
        ("policies/policy.yaml", wider.as_str()),
        ("broken/policy.yaml", "kind: ClusterEgressPolicy\n"),
        ("base/policy.yaml", POLICY),
        ("cases.yaml", &cases),
    ];
    [
        Folder::with(&format!("{name}-good"), &good),
        Folder::with(&format!("{name}-bad"), &bad),
    ]
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap()
}

#[test]
fn every_hook_passes_and_fails() {
    let document = format!(
        "kind: Hooks\nhooks:\n{}",
        include_str!("../../.pre-commit-hooks.yaml")
    );
    let hooks = adopt::read(&document).unwrap();
    let hooks = hooks[0]["hooks"].as_array().unwrap();
    let [good, bad] = folders("hooks");
    for hook in hooks {
        let (id, entry) = (text(hook, "id"), text(hook, "entry"));
        assert_eq!(text(hook, "language"), "system", "{id}");
        // pre-commit adds `args`, and the changed files unless it is told not to.
        let (files, broken) = match id {
            "warden-check" => ("policies", "broken"),
            "warden-fmt" => (
                "--check policies/policy.yaml",
                "--check policies/policy.yaml",
            ),
            "warden-test" => ("cases.yaml", "cases.yaml"),
            other => panic!("`{other}` is not tried"),
        };
        assert_eq!(hook["pass_filenames"] == false, id != "warden-fmt", "{id}");
        let (passed, said) = good.bash(&format!("{entry} {files}"), &[]);
        assert!(passed, "{id}: {said}");
        let (passed, said) = bad.bash(&format!("{entry} {broken}"), &[]);
        assert!(!passed && !said.contains("Usage:"), "{id}: {said}");
    }
    assert_eq!(hooks.len(), 3);
}

/// The environment of a step: each variable is one of the action's inputs.
fn environment(action: &Value, step: &Value, inputs: &[(&str, &str)]) -> Vec<(String, String)> {
    let variables = step["env"].as_object().into_iter().flatten();
    let value = |from: &Value| {
        let input = from.as_str().unwrap();
        let input = input.strip_prefix("${{ inputs.").unwrap();
        let input = input.strip_suffix(" }}").unwrap();
        assert!(action["inputs"][input].is_object(), "no input `{input}`");
        let given = inputs.iter().find(|(name, _)| *name == input);
        given.map_or("", |(_, value)| value).to_owned()
    };
    variables
        .map(|(name, from)| (name.clone(), value(from)))
        .collect()
}

#[test]
fn every_step_of_the_action_passes_and_fails() {
    let document = format!("kind: Action\n{}", include_str!("../../action.yml"));
    let action = adopt::read(&document).unwrap();
    let action = &action[0];
    let steps = action["runs"]["steps"].as_array().unwrap();
    let [good, bad] = folders("action");
    let mut tried = Vec::new();
    for step in steps {
        let (name, script) = (text(step, "name"), text(step, "run"));
        assert_eq!(text(step, "shell"), "bash", "{name}");
        if script.starts_with("cargo install") {
            assert!(
                script.contains("--path \"$GITHUB_ACTION_PATH/cli\""),
                "{script}"
            );
            continue;
        }
        let policies = |of: &'static str| {
            [
                ("policies", of),
                ("base", "base"),
                ("cases", "cases.yaml"),
                ("no-gains", "true"),
            ]
        };
        let (passed, said) = good.bash(script, &environment(action, step, &policies("policies")));
        assert!(passed, "{name}: {said}");
        let broken = if name == "Check" {
            "broken"
        } else {
            "policies"
        };
        let (passed, said) = bad.bash(script, &environment(action, step, &policies(broken)));
        assert!(!passed && !said.contains("Usage:"), "{name}: {said}");
        tried.push(name);
    }
    assert_eq!(tried, ["Check", "Test", "Compare"]);
    let summary = |folder: &Folder| std::fs::read_to_string(folder.0.join("summary.md")).unwrap();
    assert!(
        summary(&good).contains("no change in meaning"),
        "{}",
        summary(&good)
    );
    assert!(summary(&bad).contains("**gains**"), "{}", summary(&bad));
}
