//! Credential helpers on PATH: they are asked, and what they say is used.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use egress_package::credentials::{Credentials, CredentialsError, HELPER_LIMIT, files, find};

/// Set in the run that has the helpers on its PATH: a process does not change its own.
const INSIDE: &str = "EGRESS_PACKAGE_HELPERS";

fn helper(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    // What is asked is kept, for the test to look at.
    std::fs::write(
        &path,
        format!(
            "#!/bin/sh\necho \"$1 $(cat)\" >> {}/asked\n{script}\n",
            folder.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "compared with what a look-up gives"
)]
fn basic(user: &str, password: &str) -> Result<Option<Credentials>, CredentialsError> {
    Ok(Some(Credentials::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    }))
}

fn said(outcome: Result<Option<Credentials>, CredentialsError>) -> String {
    match outcome {
        Ok(found) => panic!("{found:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_helper_on_path_is_asked() {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return asked(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_helper_on_path_is_asked", "--nocapture"])
        .env(INSIDE, folder.path())
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("DOCKER_CONFIG", folder.path())
        .env_remove("REGISTRY_AUTH_FILE")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("test result: ok. 1 passed"));
}

fn asked(folder: &Path) {
    // As those of Amazon (a name and a password), Google (the same) and Azure (a token that is
    // exchanged) answer.
    helper(
        folder,
        "ecr-login",
        r#"echo '{"ServerURL":"x","Username":"AWS","Secret":"p:q"}'"#,
    );
    helper(
        folder,
        "gcloud",
        r#"echo '{"Username":"_dcgcloud_token","Secret":"ya29"}'"#,
    );
    helper(
        folder,
        "acr-env",
        r#"echo '{"Username":"<token>","Secret":"refresh"}'"#,
    );
    helper(
        folder,
        "empty",
        "echo credentials not found in native keychain; exit 1",
    );
    helper(
        folder,
        "broken",
        "echo 'secret-service: locked' >&2; exit 1",
    );
    helper(folder, "odd", "echo '[]'");
    helper(folder, "stuck", "exec sleep 20");

    let helpers = r#"{"credHelpers":{"1.dkr.ecr.eu-west-1.amazonaws.com":"ecr-login","europe-docker.pkg.dev":"gcloud",
        "team.azurecr.io":"acr-env","e.example":"empty","b.example":"broken","o.example":"odd"},
        "auths":{"own.example":{"auth":"dTpw"}, "1.dkr.ecr.eu-west-1.amazonaws.com":{"auth":"b2xkOm9sZA=="}}}"#;
    // As Docker leaves it: the folder's file is the one that is read.
    std::fs::write(folder.join("config.json"), helpers).unwrap();
    assert_eq!(
        files(|name| std::env::var_os(name)),
        [folder.join("config.json")]
    );
    let helpers = &std::fs::read_to_string(folder.join("config.json")).unwrap();
    let find = |text: &str, registry: &str| find("f", text, registry, HELPER_LIMIT);
    assert_eq!(
        find(helpers, "1.dkr.ecr.eu-west-1.amazonaws.com"),
        basic("AWS", "p:q"),
        "before what is in the file"
    );
    assert_eq!(
        find(helpers, "europe-docker.pkg.dev"),
        basic("_dcgcloud_token", "ya29")
    );
    assert_eq!(
        find(helpers, "team.azurecr.io"),
        Ok(Some(Credentials::Identity("refresh".to_owned())))
    );
    assert_eq!(find(helpers, "own.example"), basic("u", "p"));
    assert_eq!(find(helpers, "e.example"), Ok(None), "it keeps nothing");
    assert_eq!(find(helpers, "other.example"), Ok(None), "nobody was named");
    assert_eq!(
        said(find(helpers, "b.example")),
        "`docker-credential-broken`, which keeps the credentials for b.example, fails: secret-service: locked"
    );
    assert!(said(find(helpers, "o.example")).contains("answers no `Username` and `Secret`"));

    let start = Instant::now();
    let stuck = egress_package::credentials::find(
        "f",
        r#"{"credsStore":"stuck"}"#,
        "s.example",
        Duration::from_secs(2),
    );
    assert!(start.elapsed() < Duration::from_secs(15));
    let hint = stuck.as_ref().unwrap_err().hint().unwrap();
    assert!(hint.contains("`docker-credential-stuck get`"), "{hint}");
    assert_eq!(
        said(stuck),
        "`docker-credential-stuck`, which keeps the credentials for s.example, does not answer within 2 s"
    );

    // A store is asked about every registry that has no secret of its own in the file.
    let store =
        r#"{"credsStore":"ecr-login","auths":{"own.example":{"auth":"dTpw"},"known.example":{}}}"#;
    assert_eq!(find(store, "known.example"), basic("AWS", "p:q"));
    assert_eq!(find(store, "unknown.example"), basic("AWS", "p:q"));
    assert_eq!(find(store, "own.example"), basic("u", "p"));
    assert_eq!(find(store, "docker.io"), basic("AWS", "p:q"));

    let asked = std::fs::read_to_string(folder.join("asked")).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    assert_eq!(
        asked,
        [
            "get 1.dkr.ecr.eu-west-1.amazonaws.com",
            "get europe-docker.pkg.dev",
            "get team.azurecr.io",
            "get e.example",
            "get b.example",
            "get o.example",
            "get s.example",
            "get known.example",
            "get unknown.example",
            "get https://index.docker.io/v1/",
        ]
    );
}
