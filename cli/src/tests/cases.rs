//! The project's decision cases, asked of `warden test` and of `warden explain`.

use egress_policy::case::{CaseFile, ExpectedAnswer, Subject};
use serde_json::{Value, json};

use super::support::Folder;

/// Every case file in `cases/`, with its folder.
fn cases() -> Folder {
    let folder = Folder::with(&[]);
    copy(std::path::Path::new("../cases"), "", &folder);
    folder
}

fn copy(from: &std::path::Path, to: &str, folder: &Folder) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{to}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &format!("{name}/"), folder);
        } else {
            folder.write(&name, &std::fs::read_to_string(entry.path()).unwrap());
        }
    }
}

fn files() -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir("../cases")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.to_lowercase().ends_with(".yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_case_passes() {
    let ran = cases().warden(&format!("test --output json {}", files().join(" ")));
    assert_eq!(ran.exit, 0, "{ran:?}");
    let passed = ran.json()["passed"].as_u64().unwrap();
    assert!(passed >= 150, "{passed}");
}

/// A URL is what a client asks for: it is judged as the mesh of the policies carries it, as `explain`
/// judges it.
#[test]
fn urls_are_judged_as_the_mesh_carries_them() {
    let folder = cases();
    for (policy, from, to, expect) in [
        // At a port of opaque TCP the sidecar goes by address.
        (
            "reference",
            "app1-ns/app1,label=egress-ruleset=app1",
            "http://203.0.113.7:22/",
            "Accept",
        ),
        (
            "reference",
            "app1-ns/app1,label=egress-ruleset=app1",
            "https://api.github.com:8443",
            "Deny",
        ),
        // TLS at a port of requests, and requests at a port of TLS.
        (
            "reference",
            "app1-ns/app1,label=egress-ruleset=app1",
            "https://api.github.com:80",
            "Deny",
        ),
        (
            "reference",
            "app1-ns/app1,label=egress-ruleset=app1",
            "http://api.github.com:443",
            "Deny",
        ),
        // The gateway speaks TLS itself.
        (
            "origination",
            "app1-ns/app1,label=egress-ruleset=app1",
            "http://api.payments.example/v1/ledger",
            "Accept",
        ),
        (
            "origination",
            "app1-ns/app1,label=egress-ruleset=app1",
            "http://api.payments.example/admin",
            "Deny",
        ),
    ] {
        let file = format!(
            "policies: [policies/{policy}.yaml]\ncases:\n- {{from: \"{from}\", to: \"{to}\", expect: {expect}}}\n"
        );
        folder.write("line.yaml", &file);
        let ran = folder.warden("test line.yaml --verbose");
        assert_eq!(ran.exit, 0, "{to}: {ran:?}");
        let exit = if expect == "Deny" { 2 } else { 0 };
        let explained = folder.warden(&format!(
            "explain policies/{policy}.yaml --from {from} --to {to}"
        ));
        assert_eq!(explained.exit, exit, "{to}: {explained:?}");
    }
}

#[test]
fn explain_answers_every_case() {
    let folder = cases();
    let mut asked = 0;
    for file in files() {
        let text = std::fs::read_to_string(format!("../cases/{file}")).unwrap();
        let source =
            std::sync::Arc::new(egress_analysis::document::Source::new(file.clone(), text));
        let documents = egress_analysis::document::Documents::parse(source)
            .unwrap()
            .with_a_labels();
        let cases = CaseFile::read(&documents.roots().next().unwrap()).unwrap();
        for case in cases
            .cases
            .iter()
            .filter(|case| case.is_for(Subject::Engine))
        {
            for (i, step) in case.steps.iter().enumerate() {
                let step_number = (i + 1).to_string();
                let ran = folder.run(&[
                    "explain",
                    "--output",
                    "json",
                    "--case",
                    &file,
                    "--case-name",
                    &case.name,
                    "--step",
                    &step_number,
                ]);
                let exit = match &step.expect {
                    ExpectedAnswer::Undecided => 5,
                    expected if expected.opens() => 0,
                    _ => 2,
                };
                assert_eq!(ran.exit, exit, "{file}: {}: {ran:?}", case.name);
                let seen = answer(&ran.json());
                match &step.expect {
                    ExpectedAnswer::Verdict(verdict) => assert_eq!(seen[0][0], *verdict, "{file}"),
                    expect => assert_eq!(seen, expected(expect), "{file}: {}", case.name),
                }
                asked += 1;
            }
        }
    }
    assert!(asked >= 150, "{asked}");
}

fn answer(json: &Value) -> Value {
    let ruling = |json: &Value| {
        let parts = ["verdict", "policy", "tier", "rule", "reason"];
        json!(parts.map(|part| &json[part]))
    };
    let would_be = &json["wouldBe"];
    json!([
        ruling(json),
        if would_be.is_null() {
            Value::Null
        } else {
            ruling(would_be)
        }
    ])
}

fn expected(expected: &ExpectedAnswer) -> Value {
    match expected {
        ExpectedAnswer::Undecided => json!([["Undecided", null, null, null, null], null]),
        ExpectedAnswer::Verdict(verdict) => json!(verdict),
        ExpectedAnswer::Final { enforced, would_be } => {
            let ruling = |r: &egress_policy::case::ExpectedDecision| {
                let by = &r.decided_by;
                json!([r.verdict, by.policy, by.tier, by.rule, by.reason])
            };
            json!([ruling(enforced), would_be.as_ref().map(ruling)])
        }
    }
}
