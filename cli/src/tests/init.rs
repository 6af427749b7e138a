//! `warden init`, and that what it writes is fit to begin with.

use super::outputs::wrong;
use super::support::Folder;
use crate::schema::{cases_schema, policy_schema, settings_schema};

const WRITTEN: [&str; 7] = [
    "policy.yaml",
    "install.yaml",
    "cases.yaml",
    ".github/workflows/egress.yml",
    ".schemas/policy.schema.json",
    ".schemas/settings.schema.json",
    ".schemas/cases.schema.json",
];

#[test]
fn what_it_writes_passes_every_command() {
    let folder = Folder::with(&[]);
    let ran = folder.warden("init");
    assert_eq!(ran.exit, 0, "{ran:?}");
    for name in WRITTEN {
        assert!(!folder.read(name).is_empty(), "{name}");
    }
    for (line, says) in [
        (
            "check --strict install.yaml policy.yaml",
            "0 errors, 0 warnings",
        ),
        ("check .", "0 errors, 0 warnings"),
        ("fmt --check policy.yaml", ""),
        ("test .", "4 passed, 0 failed"),
        ("test cases.yaml --coverage", "2 of 2 rules decide a case"),
        (
            "render --install install.yaml policy.yaml",
            "kind: EnvoyFilter",
        ),
        ("docs policy.yaml", "shop/web"),
    ] {
        let ran = folder.warden(line);
        assert_eq!(ran.exit, 0, "{line}: {ran:?}");
        assert!(ran.stdout.contains(says), "{line}: {ran:?}");
    }
}

/// The first line of each file names the schema that is beside it, and the file fits it.
#[test]
fn editors_find_the_schemas() {
    let folder = Folder::with(&[]);
    assert_eq!(folder.warden("init sub").exit, 0);
    for (file, name, schema) in [
        ("policy.yaml", "policy", policy_schema()),
        ("install.yaml", "settings", settings_schema()),
        ("cases.yaml", "cases", cases_schema()),
    ] {
        let text = folder.read(&format!("sub/{file}"));
        let first = format!("# yaml-language-server: $schema=.schemas/{name}.schema.json\n");
        assert!(text.starts_with(&first), "{file}");
        let kept = folder.read(&format!("sub/.schemas/{name}.schema.json"));
        assert_eq!(kept, format!("{schema:#}\n"));
        let found = wrong(
            &schema,
            &schema,
            &crate::schema::tests::parsed(file, text),
            "",
        );
        assert!(found.is_empty(), "{file}: {found:#?}");
    }
}

#[test]
fn nothing_is_overwritten_unless_it_is_said() {
    let folder = Folder::with(&[("cases.yaml", "mine"), ("install.yaml", "mine")]);
    let ran = folder.warden("init");
    assert_eq!((ran.exit, ran.stdout.as_str()), (1, ""));
    let error = "error: install.yaml, cases.yaml are there already\n  help: `--force` replaces them; nothing was written\n";
    assert_eq!(ran.stderr, error);
    assert_eq!(folder.names(".").len(), 2);
    assert_eq!(folder.read("cases.yaml"), "mine");
    assert_eq!(folder.warden("init --force").exit, 0);
    assert!(
        folder
            .read("cases.yaml")
            .contains("policies: [policy.yaml]")
    );
    // What it wrote itself is no exception.
    assert_eq!(folder.warden("init").exit, 1);
}

/// The workflow uses the repository's action, with inputs that it has.
#[test]
fn the_workflow_fits_the_action() {
    let folder = Folder::with(&[]);
    assert!(folder.warden("init").stdout.contains("yours to fill in"));
    let named = folder.warden("init --force --action o/egress-warden@v1");
    assert!(!named.stdout.contains("yours to fill in"), "{named:?}");
    let workflow = folder.read(".github/workflows/egress.yml");
    assert!(
        workflow.contains("uses: o/egress-warden@v1\n"),
        "{workflow}"
    );
    let workflow = crate::schema::tests::parsed("egress.yml", workflow);
    let action = include_str!("../../../action.yml").to_owned();
    let action = crate::schema::tests::parsed("action.yml", action);
    let steps = workflow.pointer("/jobs/policies/steps").unwrap();
    let with = steps.as_array().unwrap().last().unwrap()["with"].clone();
    let inputs = action["inputs"].as_object().unwrap();
    for name in with.as_object().unwrap().keys() {
        assert!(inputs.contains_key(name), "{name}");
    }
    assert!(inputs.contains_key("no-gains"));
    for file in ["install.yaml", "policy.yaml"] {
        assert!(with["policies"].as_str().unwrap().contains(file));
    }
}
