//! What people hand to a command by mistake, and what it says.

use super::support::{Folder, REFERENCE};

#[test]
fn files_that_are_no_policies() {
    let folder = Folder::with(&[
        ("zero.yaml", ""),
        ("map.yaml", "apiVersion: v1\nkind: ConfigMap\n"),
    ]);
    folder.write("folder/notes.txt", "");
    folder.write_bytes("utf16.yaml", b"\xff\xfea\0");
    for (line, exit, said, hint) in [
        (
            "check zero.yaml",
            3,
            "`zero.yaml` is empty",
            "`kind: ClusterEgressPolicy`",
        ),
        (
            "check -",
            3,
            "`<stdin>` is empty",
            "`kind: ClusterEgressPolicy`",
        ),
        (
            "check map.yaml",
            3,
            "no policy is in `map.yaml`",
            "`kind: ClusterEgressPolicy`",
        ),
        (
            "check utf16.yaml",
            1,
            "is not UTF-8 (byte 0)",
            "save it as UTF-8",
        ),
        ("check folder", 1, "holds no YAML or JSON file", ""),
        ("check gone.yaml", 1, "`gone.yaml`: No such file", ""),
        ("fmt folder", 1, "holds no YAML or JSON file", ""),
        (
            "revoke a/b --owner o --reason r folder",
            1,
            "`folder`: Is a directory",
            "name the files in it",
        ),
        (
            "test map.yaml",
            3,
            "`map.yaml` is no case file",
            "`policies` and `cases`",
        ),
        (
            "check --explain list_change",
            1,
            "unknown code",
            "did you mean `list_changed`?",
        ),
    ] {
        let ran = folder.warden(line);
        assert_eq!(ran.exit, exit, "{line}: {ran:?}");
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(text.contains(said), "{line}: {ran:?}");
        assert!(text.contains(hint), "{line}: {ran:?}");
    }
}

#[test]
fn a_code_of_an_error_is_explained_too() {
    let ran = Folder::with(&[]).warden("check --explain never_matches");
    assert!(
        ran.stdout.starts_with("never_matches (error)\n\n"),
        "{ran:?}"
    );
}

/// Line ends of another system and a byte order mark are no part of what is drawn or underlined.
#[test]
fn line_ends_and_marks_of_other_systems() {
    let plain = Folder::with(&[("policy.yaml", REFERENCE)]).warden("check policy.yaml");
    assert!(plain.stdout.contains("warning["), "{plain:?}");
    let dos = REFERENCE.replace('\n', "\r\n");
    for text in [dos, format!("\u{feff}{REFERENCE}")] {
        let ran = Folder::with(&[("policy.yaml", &text)]).warden("check policy.yaml");
        assert_eq!(ran.stdout, plain.stdout);
    }
}
