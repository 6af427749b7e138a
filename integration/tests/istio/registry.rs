//! Images in a real registry, and what other tools make of them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::certificates::Authority;
use integration::istio::tools::Program;
use integration::registry::Registry;
use integration::{command, sandbox, workspace};
use serde_json::Value;

cases!(
    &[Program::Registry, Program::Skopeo];
    the_compat_variant_in_a_registry,
    the_oci_variant_in_a_registry,
    an_ordinary_tool_reads_the_compat_variant,
    a_layout_is_what_is_pushed,
    an_image_with_policies_says_which,
    a_registry_that_asks_who_is_there,
    a_credential_helper_says_who_is_there,
    what_cannot_be_pushed_is_said,
    a_registry_of_a_private_authority,
);

const PORT: u16 = 5000;
const IMAGE: &str = "127.0.0.1:5000/team/egress-warden:0.1.0";

/// How a run of `warden` ended.
struct Ran {
    exit: warden::Exit,
    stdout: String,
    stderr: String,
}

/// Runs `warden package` on the built module.
fn package(folder: &Path, arguments: &[&str]) -> Result<Ran> {
    let module = workspace::wasm("egress_filter");
    workspace::built(&module)?;
    let module = module.to_string_lossy().into_owned();
    let mut all = vec!["warden", "package", "--module", &module];
    all.extend(arguments);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = warden::run(
        all,
        &mut warden::Console {
            stdin: &mut std::io::empty(),
            stdout: &mut stdout,
            stderr: &mut stderr,
            now: None,
            directory: folder,
            color: false,
        },
    );
    Ok(Ran {
        exit,
        stdout: String::from_utf8(stdout)?,
        stderr: String::from_utf8(stderr)?,
    })
}

/// The report of a run that went well.
fn made(folder: &Path, arguments: &[&str]) -> Result<Value> {
    let all: Vec<_> = arguments
        .iter()
        .copied()
        .chain(["--output", "json"])
        .collect();
    let ran = package(folder, &all)?;
    ensure!(ran.exit == warden::Exit::Ok, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).context("the report")
}

fn text<'v>(value: &'v Value, pointer: &str) -> Result<&'v str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no {pointer} in {value}"))
}

/// Runs skopeo without the machine's own settings.
fn skopeo(folder: &Path, arguments: &[&str]) -> Result<String> {
    let policy = folder.join("policy.json");
    std::fs::write(
        &policy,
        r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
    )?;
    let mut skopeo = Command::new("skopeo");
    skopeo.arg("--policy").arg(&policy).args(arguments);
    command::text(skopeo.current_dir(folder))
}

fn inspect(folder: &Path, image: &str, raw: bool) -> Result<Value> {
    let mut arguments = vec!["inspect", "--tls-verify=false"];
    arguments.extend(raw.then_some("--raw"));
    arguments.push(image);
    let text = skopeo(folder, &arguments)?;
    serde_json::from_str(&text).context("skopeo inspect")
}

fn pushed(variant: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    sandbox::assign([])?;
    let _registry = Registry::start(folder, PORT, None)?;
    let arguments = ["--push", IMAGE, "--variant", variant];
    let first = made(folder, &arguments)?;
    let second = made(folder, &arguments)?;
    ensure!(first == second, "two pushes differ: {first} {second}");
    let digest = format!("sha256:{}", text(&first, "/sha256")?);
    let image = format!("docker://{IMAGE}");
    let manifest = inspect(folder, &image, true)?;
    let annotation = "/annotations/org.opencontainers.image.title";
    ensure!(text(&manifest, annotation)? == "egress-warden");
    // A copy through another tool keeps every byte, so the digest.
    skopeo(
        folder,
        &[
            "copy",
            "--src-tls-verify=false",
            "--preserve-digests",
            &image,
            "oci:copy:0.1.0",
        ],
    )?;
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("copy/index.json"))?)?;
    ensure!(text(&index, "/manifests/0/digest")? == digest, "{index}");
    // What refers to the image is found by the tag that is made of its digest.
    let listed = format!(
        "docker://127.0.0.1:{PORT}/team/egress-warden:{}",
        digest.replace(':', "-")
    );
    let listed = inspect(folder, &listed, true)?;
    ensure!(text(&listed, "/manifests/0/artifactType")? == "application/vnd.cyclonedx+json");
    ensure!(
        listed.pointer("/manifests/1").is_none(),
        "listed twice: {listed}"
    );
    let bill = text(&listed, "/manifests/0/digest")?;
    ensure!(text(&first, "/billOfMaterials")? == bill);
    let bill = inspect(
        folder,
        &format!("docker://127.0.0.1:{PORT}/team/egress-warden@{bill}"),
        true,
    )?;
    ensure!(text(&bill, "/subject/digest")? == digest, "{bill}");
    Ok(())
}

/// What the registry's users are: `warden` with the password `secret` (htpasswd, bcrypt).
const USERS: &str = "warden:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

fn the_compat_variant_in_a_registry() -> Result<()> {
    pushed("compat")
}

fn the_oci_variant_in_a_registry() -> Result<()> {
    pushed("oci")
}

fn an_ordinary_tool_reads_the_compat_variant() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    sandbox::assign([])?;
    let _registry = Registry::start(folder, PORT, None)?;
    let said = made(folder, &["--push", IMAGE])?;
    let image = inspect(folder, &format!("docker://{IMAGE}"), false)?;
    ensure!(text(&image, "/Digest")? == format!("sha256:{}", text(&said, "/sha256")?));
    ensure!(text(&image, "/Architecture")? == "wasm");
    let labels = image.get("Labels").context("no labels")?;
    ensure!(text(labels, "/org.opencontainers.image.licenses")? == "Apache-2.0");
    Ok(())
}

/// The command of docs/how-to/large-policies.md that copies an archive.
fn documented_copy() -> Result<String> {
    let page = std::fs::read_to_string(workspace::root().join("docs/how-to/large-policies.md"))?;
    let start = page.find("skopeo copy ").context("no skopeo copy")?;
    let line = page.get(start..).and_then(|rest| rest.split('`').next());
    Ok(line.context("an open quote")?.replace('\n', " "))
}

fn a_layout_is_what_is_pushed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    sandbox::assign([])?;
    let _registry = Registry::start(folder, PORT, None)?;
    let pushed = made(folder, &["--push", IMAGE])?;
    made(folder, &["--layout", "image"])?;
    made(folder, &["--layout", "image.tar"])?;
    // The line that docs/how-to/large-policies.md has for it, to this registry.
    let documented = documented_copy()?;
    let words: Vec<_> = documented
        .split(' ')
        .map(|word| word.replace("docker://...", &format!("docker://{IMAGE}-copied")))
        .collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (program, arguments) = words.split_first().context("an empty line")?;
    ensure!(*program == "skopeo", "{documented}");
    skopeo(folder, &[arguments, &["--dest-tls-verify=false"]].concat())?;
    let image = inspect(folder, &format!("docker://{IMAGE}-copied"), false)?;
    let digest = format!("sha256:{}", text(&pushed, "/sha256")?);
    ensure!(text(&image, "/Digest")? == digest, "{documented}: {image}");
    for source in ["oci:image:0.1.0", "oci-archive:image.tar:0.1.0"] {
        let copied = "docker://127.0.0.1:5000/copied:1";
        skopeo(
            folder,
            &[
                "copy",
                "--dest-tls-verify=false",
                "--preserve-digests",
                source,
                copied,
            ],
        )?;
        let image = inspect(folder, copied, false)?;
        let digest = format!("sha256:{}", text(&pushed, "/sha256")?);
        ensure!(text(&image, "/Digest")? == digest, "{source}: {image}");
    }
    Ok(())
}

/// Policies in the image: the label says which, and the bytes are in the module.
fn an_image_with_policies_says_which() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    sandbox::assign([])?;
    let _registry = Registry::start(folder, PORT, None)?;
    let settings = integration::istio::reference::folder().join("install.yaml");
    let policy = workspace::root().join("cases/policies/reference.yaml");
    let said = made(
        folder,
        &[
            "--push",
            IMAGE,
            "--install",
            &settings.to_string_lossy(),
            &policy.to_string_lossy(),
        ],
    )?;
    let image = inspect(folder, &format!("docker://{IMAGE}"), false)?;
    let hash = text(&said, "/policy")?;
    ensure!(
        text(&image, "/Labels/egress-warden.io~1policy-hash")? == hash,
        "{image}"
    );
    let plain = made(folder, &["--push", IMAGE])?;
    ensure!(text(&plain, "/sha256")? != text(&said, "/sha256")?);
    Ok(())
}

fn a_registry_that_asks_who_is_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    sandbox::assign([])?;
    let _registry = Registry::start(folder, PORT, Some(USERS))?;
    // `warden:secret` and `warden:wrong`.
    let auth = |auth: &str| format!(r#"{{"auths": {{"127.0.0.1:5000": {{"auth": "{auth}"}}}}}}"#);
    std::fs::write(folder.join("right.json"), auth("d2FyZGVuOnNlY3JldA=="))?;
    std::fs::write(folder.join("wrong.json"), auth("d2FyZGVuOndyb25n"))?;
    std::fs::write(folder.join("none.json"), "{}")?;
    for (file, expected) in [
        ("none.json", "wants credentials and there are none"),
        ("wrong.json", "401 Unauthorized"),
        ("missing.json", "missing.json: No such file"),
    ] {
        let ran = package(folder, &["--push", IMAGE, "--registry-config", file])?;
        ensure!(ran.exit == warden::Exit::Failed, "{file}");
        ensure!(ran.stderr.contains(expected), "{file}: {}", ran.stderr);
        ensure!(
            !ran.stderr.contains("secret") && !ran.stderr.contains("d2Fy"),
            "{}",
            ran.stderr
        );
    }
    made(
        folder,
        &["--push", IMAGE, "--registry-config", "right.json"],
    )?;
    Ok(())
}

/// Set in the run that has the helpers on its PATH: a process does not change its own.
const HELPERS: &str = "WARDEN_TEST_HELPERS";

/// As the cloud providers have it: the file names a program, and the program has the secret.
fn a_credential_helper_says_who_is_there() -> Result<()> {
    let Some(folder) = std::env::var_os(HELPERS) else {
        return with_helpers();
    };
    let folder = Path::new(&folder);
    sandbox::assign([])?;
    let _registry = Registry::start(folder, PORT, Some(USERS))?;
    for (helper, expected) in [
        ("wrong", "401 Unauthorized"),
        (
            "locked",
            "`docker-credential-locked`, which keeps the credentials for 127.0.0.1:5000, fails: the keychain is locked",
        ),
        ("gone", "`docker-credential-gone`, which keeps"),
        ("none", "wants credentials and there are none"),
    ] {
        let file = format!(r#"{{"credHelpers": {{"127.0.0.1:5000": "{helper}"}}}}"#);
        std::fs::write(folder.join("config.json"), file)?;
        let ran = package(
            folder,
            &["--push", IMAGE, "--registry-config", "config.json"],
        )?;
        ensure!(
            ran.exit == warden::Exit::Failed && ran.stderr.contains(expected),
            "{helper}: {}",
            ran.stderr
        );
    }
    for file in [
        r#"{"credHelpers": {"127.0.0.1:5000": "right"}}"#,
        r#"{"credsStore": "right"}"#,
    ] {
        std::fs::write(folder.join("config.json"), file)?;
        made(
            folder,
            &["--push", IMAGE, "--registry-config", "config.json"],
        )?;
    }
    let asked = std::fs::read_to_string(folder.join("asked"))?;
    ensure!(
        asked == "get 127.0.0.1:5000\nget 127.0.0.1:5000\n",
        "{asked}"
    );
    Ok(())
}

/// Runs this case again, with helpers on its PATH. They read the question as real ones do: one that
/// ends before it is written has not started, for who asks.
fn with_helpers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let here = folder.path().display().to_string();
    for (name, script) in [
        (
            "right",
            format!(
                r#"echo "$1 $(cat)" >> {here}/asked; echo '{{"Username":"warden","Secret":"secret"}}'"#
            ),
        ),
        (
            "wrong",
            r#"cat >/dev/null; echo '{"Username":"warden","Secret":"wrong"}'"#.to_owned(),
        ),
        (
            "locked",
            "cat >/dev/null; echo the keychain is locked >&2; exit 1".to_owned(),
        ),
        (
            "none",
            "cat >/dev/null; echo credentials not found in native keychain; exit 1".to_owned(),
        ),
    ] {
        let path = folder.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    let path = std::env::var("PATH")?;
    command::one_test(
        Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env(HELPERS, folder.path())
            .env("PATH", format!("{here}:{path}")),
    )
    .map(drop)
}

/// No registry, and one that does not speak TLS where it should.
fn what_cannot_be_pushed_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    sandbox::assign(["192.0.2.1".parse()?])?;
    let ran = package(folder, &["--push", IMAGE])?;
    ensure!(
        ran.exit == warden::Exit::Failed && ran.stderr.contains("127.0.0.1:5000"),
        "{}",
        ran.stderr
    );
    let _registry = Registry::start_at(folder, SocketAddrV4::new(ELSEWHERE, PORT), None)?;
    let elsewhere = "192.0.2.1:5000/egress-warden:1";
    refused(
        folder,
        &["--push", elsewhere],
        "192.0.2.1:5000 does not speak TLS",
        "--plain-http",
    )?;
    made(folder, &["--push", elsewhere, "--plain-http"])?;
    Ok(())
}

/// An address that is not this machine's, as far as anybody knows: there TLS is spoken.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A push that fails, for a reason and with a hint.
fn refused(folder: &Path, arguments: &[&str], reason: &str, hint: &str) -> Result<()> {
    let ran = package(folder, arguments)?;
    let mut lines = ran.stderr.lines();
    let said = [("error: ", reason), ("help: ", hint)]
        .iter()
        .all(|(word, wanted)| {
            let line = lines.find(|line| line.trim_start().starts_with(word));
            line.is_some_and(|line| line.contains(wanted))
        });
    ensure!(
        ran.exit == warden::Exit::Failed && said,
        "{arguments:?}: not `{reason}` with `{hint}`, but {}",
        ran.stderr
    );
    Ok(())
}

/// A registry with a certificate of an authority that nobody else knows.
fn a_registry_of_a_private_authority() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    sandbox::assign([ELSEWHERE])?;
    let (own, other) = (Authority::new("own")?, Authority::new("other")?);
    std::fs::write(folder.join("own.pem"), own.certificate())?;
    std::fs::write(folder.join("other.pem"), other.certificate())?;
    std::fs::write(folder.join("none.pem"), "nothing\n")?;
    let server = own.server_at(ELSEWHERE.into())?;
    let address = SocketAddrV4::new(ELSEWHERE, PORT);
    let _registry = Registry::start_at(folder, address, Some(&server))?;
    // The same authority, for somebody else.
    let server = own.server_at("192.0.2.7".parse()?)?;
    let address = SocketAddrV4::new(ELSEWHERE, PORT + 1);
    let _misnamed = Registry::start_at(folder, address, Some(&server))?;

    let image = "192.0.2.1:5000/team/egress-warden:0.1.0";
    let said = made(folder, &["--push", image, "--ca", "own.pem"])?;
    let certificates = folder.join("certificates");
    std::fs::create_dir_all(&certificates)?;
    std::fs::copy(folder.join("own.pem"), certificates.join("ca.crt"))?;
    let copy = skopeo(
        folder,
        &[
            "inspect",
            "--cert-dir",
            "certificates",
            &format!("docker://{image}"),
        ],
    )?;
    let copy: Value = serde_json::from_str(&copy)?;
    ensure!(text(&copy, "/Digest")? == format!("sha256:{}", text(&said, "/sha256")?));

    let misnamed = "192.0.2.1:5001/egress-warden:1";
    let unknown = "192.0.2.1:5000 is not trusted: no trusted authority has signed its certificate";
    for (arguments, reason, hint) in [
        (&["--push", image][..], unknown, "`--ca FILE`"),
        (
            &["--push", image, "--ca", "other.pem"],
            unknown,
            "`--ca FILE`",
        ),
        (
            &["--push", misnamed, "--ca", "own.pem"],
            "192.0.2.1:5001 is not trusted: certificate not valid for name \"192.0.2.1\"",
            "push to a name that the registry's certificate has",
        ),
        (
            &["--push", image, "--ca", "none.pem"],
            "none.pem: no certificates: the file holds none",
            "PEM",
        ),
    ] {
        refused(folder, arguments, reason, hint)?;
    }
    for (arguments, reason) in [
        (
            ["--push", image, "--ca", "gone.pem"].as_slice(),
            "gone.pem: No such file",
        ),
        (
            &["--push", image, "--plain-http"],
            "Client sent an HTTP request to an HTTPS server",
        ),
    ] {
        let ran = package(folder, arguments)?;
        ensure!(
            ran.exit == warden::Exit::Failed && ran.stderr.contains(reason),
            "{arguments:?}: {}",
            ran.stderr
        );
    }
    Ok(())
}
