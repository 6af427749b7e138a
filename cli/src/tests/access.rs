//! `warden who` and `warden what`: the answers, their forms and their exit codes.

use super::support::{Folder, REFERENCE};

/// The question, the exit code, and the columns of the first row: who, to, answer and rule.
const ANSWERS: &str = "
who --to https://api.github.com/x      | 0 | app1-ns; label egress-ruleset app1 | https://api.github.com/x | Accept | seed/apps/app1-github
who --to 203.0.113.7:22                | 0 | app1-ns; label egress-ruleset app1 | 203.0.113.7:22 | Accept | seed/apps/app1-partner-ssh
who --to *.github.com                  | 0 | app1-ns; label egress-ruleset app1 | port 80, 443 | Accept | seed/apps/app1-github
who --to https://github.com            | 2 | Nobody may reach https://github.com.
who --to https://203.0.113.7           | 2 | Nobody may reach https://203.0.113.7.
what --from app1-ns/a,label=egress-ruleset=app1 | 0 | app1-ns/a,label=egress-ruleset=app1 | *.github.com; port 80, 443 | Accept | seed/apps/app1-github
what --from app3-ns                    | 2 | app3-ns may reach nothing.
what --from plaintext                  | 2 | plaintext may reach nothing.
who --to ftp://api.github.com          | 1 | error: unknown scheme `ftp`
what --from unknown                    | 1 | error: `unknown` is about no caller, so there is nothing that it may reach
who --to https://a.example --method GET | 1 | error: --method is of requests: ask for http://HOST/PATH
";

#[test]
fn what_is_asked_and_what_is_said() {
    let folder = Folder::with(&[("policy.yaml", REFERENCE)]);
    for line in ANSWERS.lines().filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (command, question) = cells[0].split_once(' ').unwrap();
        let ran = folder.warden(&format!("{command} policy.yaml {question}"));
        assert_eq!(ran.exit.to_string(), cells[1], "{line}: {ran:?}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let mut rows = said.lines();
        let row = if cells.len() > 3 {
            rows.nth(1).unwrap_or_default()
        } else {
            rows.next().unwrap_or_default()
        };
        let columns: Vec<&str> = row
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect();
        let expected = &cells[2..];
        assert!(columns.starts_with(expected), "{line}: {said}");
    }
}

#[test]
fn for_a_pull_request_and_for_a_program() {
    let folder = Folder::with(&[("policy.yaml", REFERENCE)]);
    let ran = folder.warden("who policy.yaml --to *.github.com --output markdown");
    let wanted = "### Who may reach \\*.github.com\n\n| who | to | answer | by | notes |\n|---|---|---|---|---|\n";
    assert!(ran.stdout.starts_with(wanted), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("\nEveryone else is denied.\n"),
        "{}",
        ran.stdout
    );
    let ran = folder.warden("what policy.yaml --from app1-ns --output json");
    let json = ran.json();
    assert_eq!(json["complete"], true);
    assert_eq!(json["denied"], true);
    let answers = json["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 2, "{json:#}");
    for answer in answers {
        assert_eq!(answer["decision"]["verdict"], "Accept");
        assert_eq!(answer["parts"][0]["claimed"], true);
        assert_eq!(answer["parts"][0]["who"], "label egress-ruleset app1");
    }
}

/// One line says that a run is long, and one how long it was; 100,000 names take their own time.
#[test]
fn a_hundred_thousand_names() {
    const NAMES: usize = 100_000;
    let names: Vec<String> = (0..NAMES)
        .map(|i| format!("h{i}.s{}.example.com", i % 977))
        .collect();
    let text = |names: &[String]| {
        let rules = names.chunks(100).enumerate().map(|(i, names)| {
            format!(
                "    - {{name: r{i}, from: [{{namespaces: [team-{}]}}], to: [{{domainNames: [{}], ports: [443]}}], action: Accept}}\n",
                i % 50,
                names.join(", ")
            )
        });
        format!(
            "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {{name: big}}\nspec:\n  identity: {{trustDomains: [cluster.local]}}\n  tiers:\n  - name: apps\n    rules:\n{}",
            rules.collect::<String>()
        )
    };
    let folder = Folder::with(&[("big.yaml", &text(&names))]);
    for (line, must) in [
        (
            "who big.yaml --to https://h77.s77.example.com --limit 600",
            "team-0 ",
        ),
        ("what big.yaml --from team-7 --limit 600", "big/apps/r7"),
        (
            "who big.yaml --to *.s5.example.com --limit 600",
            "h5.s5.example.com",
        ),
    ] {
        let ran = folder.warden(line);
        println!("{line}: {}", ran.stderr);
        assert_eq!(ran.exit, 0, "{line}: {ran:?}");
        assert!(ran.stdout.contains(must), "{line}: {}", ran.stdout);
        assert!(ran.stderr.lines().count() <= 2, "{line}: {}", ran.stderr);
    }
}
