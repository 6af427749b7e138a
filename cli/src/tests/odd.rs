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
    for (line, said, hint) in [
        (
            "check zero.yaml",
            "no policy was found",
            "`kind: ClusterEgressPolicy`",
        ),
        (
            "check -",
            "no policy was found",
            "`kind: ClusterEgressPolicy`",
        ),
        (
            "check map.yaml",
            "no policy was found",
            "`kind: ClusterEgressPolicy`",
        ),
        (
            "check utf16.yaml",
            "is not UTF-8 (byte 0)",
            "save it as UTF-8",
        ),
        ("check folder", "holds no YAML or JSON file", ""),
        ("check gone.yaml", "`gone.yaml`: No such file", ""),
        ("fmt folder", "holds no YAML or JSON file", ""),
        (
            "revoke a/b --owner o --reason r folder",
            "`folder`: Is a directory",
            "name the files in it",
        ),
        (
            "test map.yaml",
            "holds no case file",
            "`policies` and `cases`",
        ),
        (
            "check --explain list_change",
            "unknown code",
            "did you mean `list_changed`?",
        ),
    ] {
        let ran = folder.warden(line);
        assert_eq!(ran.exit, 1, "{line}: {ran:?}");
        assert!(ran.stderr.contains(said), "{line}: {ran:?}");
        assert!(ran.stderr.contains(hint), "{line}: {ran:?}");
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
