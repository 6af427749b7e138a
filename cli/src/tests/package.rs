//! `warden package` without a registry, and what the other commands say of policies in an image.

use std::fmt::Write as _;

use super::support::{Folder, MODULE, REFERENCE, Ran};

const INSTALL: &str = "
apiVersion: egress-warden.io/v1alpha1
kind: EgressGateway
spec:
  istio: {version: '1.31'}
  gateway:
    namespace: istio-egress
    service: egress-gateway
    serviceAccount: egress-gateway
    selector: {istio: egressgateway}
  module: {url: oci://registry.example/egress-warden:1, MODULE}
  workloads: {namespaces: [app1-ns]}
  cluster: {networks: {pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}}
";

const DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn folder() -> Folder {
    let folder = Folder::with(&[
        ("install.yaml", &install("")),
        ("policy.yaml", REFERENCE),
        ("text.wasm", "no module"),
    ]);
    folder.write_bytes("module.wasm", MODULE);
    folder
}

/// Install settings with a digest, and what else they say of the module.
fn install(more: &str) -> String {
    INSTALL.replace("MODULE", &format!("sha256: '{DIGEST}'{more}"))
}

fn ok(ran: &Ran) {
    assert_eq!(ran.exit, 0, "{ran:?}");
}

#[test]
fn the_same_input_gives_the_same_lines() {
    let folder = folder();
    let line = "package --module module.wasm --layout image --install install.yaml policy.yaml";
    let first = folder.warden(line);
    ok(&first);
    assert!(
        first.stdout.starts_with("module:\n  sha256: \""),
        "{first:?}"
    );
    assert!(first.stdout.contains("\n  policy: \""), "{first:?}");
    assert!(
        first.stderr.contains("install.yaml states another image"),
        "{first:?}"
    );
    assert_eq!(first.stdout, folder.warden(line).stdout);
    let plain = folder.warden("package --module module.wasm --layout other.tar");
    ok(&plain);
    assert!(!plain.stdout.contains("policy"), "{plain:?}");
}

#[test]
fn render_and_package_agree_on_the_policies() {
    let folder = folder();
    let made = folder.warden(
        "package --module module.wasm --layout image --install install.yaml policy.yaml --output json",
    );
    ok(&made);
    let hash = made.json()["policy"].as_str().unwrap().to_owned();
    folder.write("carried.yaml", &install(&format!(", policy: '{hash}'")));
    let rendered = folder.warden("render --install carried.yaml policy.yaml");
    ok(&rendered);
    assert!(
        rendered
            .stderr
            .contains(&format!("policy {hash}, in the module's image")),
        "{}",
        rendered.stderr
    );
    assert!(
        rendered.stdout.contains(&format!("embedded: {hash}"))
            || rendered.stdout.contains(&format!("embedded: \"{hash}\"")),
        "{}",
        rendered.stdout
    );
    assert!(!rendered.stdout.contains("github.com"));
    // The hash is the one that these policies have in objects.
    let plain = folder.warden("render --install install.yaml policy.yaml");
    assert!(
        plain.stderr.contains(&format!("policy {hash}\n")),
        "{}",
        plain.stderr
    );
    // Other policies are not what the image carries.
    folder.write(
        "policy.yaml",
        &REFERENCE.replace("api.weather.gov", "other.weather.gov"),
    );
    let other = folder.warden("render --install carried.yaml policy.yaml");
    assert_eq!(other.exit, 3);
    assert!(
        other.stderr.contains("the image carries the policies"),
        "{other:?}"
    );
    // What only names policies says so.
    folder.write("rendered.yaml", &rendered.stdout);
    for line in [
        "check rendered.yaml",
        "explain rendered.yaml --from app1-ns/app1 --to https://api.github.com",
    ] {
        let ran = folder.warden(line);
        assert_ne!(ran.exit, 0, "{ran:?}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            said.contains("the policies are in the module's image"),
            "{said}"
        );
    }
}

#[test]
fn what_cannot_be_packaged_is_said() {
    let folder = folder();
    folder.write("broken.yaml", &REFERENCE.replace("Accept", "Allow"));
    for (line, exit, expected) in [
        (
            "package --module missing.wasm --layout x",
            1,
            "missing.wasm: No such file",
        ),
        (
            "package --module text.wasm --layout x",
            1,
            "text.wasm: no WebAssembly module",
        ),
        ("package --module module.wasm", 1, "--push"),
        (
            "package --module module.wasm --layout .",
            1,
            "the folder holds something else",
        ),
        (
            "package --module module.wasm --push egress-warden:1",
            1,
            "expected REGISTRY/NAME:TAG",
        ),
        (
            "package --module module.wasm --layout x policy.yaml",
            1,
            "--install",
        ),
        (
            "package --module module.wasm --layout x --install install.yaml",
            1,
            "FILE",
        ),
        (
            "package --module module.wasm --layout x --plain-http",
            1,
            "--push",
        ),
        (
            "package --module module.wasm --layout x --install install.yaml broken.yaml",
            3,
            "Allow",
        ),
    ] {
        let ran = folder.warden(line);
        assert_eq!(ran.exit, exit, "{line}: {ran:?}");
        assert!(ran.stderr.contains(expected), "{line}: {}", ran.stderr);
    }
}

/// A policy of so many rules.
fn large(rules: usize) -> String {
    let mut text = "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {name: big}\nspec:\n  identity: {trustDomains: [cluster.local]}\n  tiers:\n  - name: apps\n    rules:\n".to_owned();
    for i in 0..rules {
        writeln!(
            text,
            "    - {{name: rule-{i}, from: [{{namespaces: [team-{}]}}], to: [{{domainNames: [host{i}.svc{}.example.com], ports: [443]}}], action: Accept}}",
            i / 20,
            i % 977
        )
        .unwrap();
    }
    text
}

/// Above 512 KiB somebody decides where the policies go; objects end below 1.5 MiB in any case.
#[test]
fn large_policies_are_told_where_to_go() {
    let folder = folder();
    folder.write("inline.yaml", &install(", policy: inline"));
    for (rules, plain, inline) in [(3_000, 0, 0), (6_000, 3, 0), (12_000, 3, 3)] {
        folder.write("large.yaml", &large(rules));
        let ran = folder.warden("render --install install.yaml large.yaml");
        assert_eq!(ran.exit, plain, "{rules}: {}", ran.stderr);
        if plain != 0 {
            assert!(
                ran.stderr.contains("warden package --install"),
                "{}",
                ran.stderr
            );
        }
        let ran = folder.warden("render --install inline.yaml large.yaml");
        assert_eq!(ran.exit, inline, "{rules}: {}", ran.stderr);
        if inline == 0 {
            assert!(
                ran.stderr
                    .contains("KiB  istio-egress.wasmplugin.egress-warden-http.yaml"),
                "{}",
                ran.stderr
            );
            assert!(
                ran.stderr.contains("in a push to each gateway pod"),
                "{}",
                ran.stderr
            );
        } else {
            assert!(
                ran.stderr.contains("an object takes 1400 KiB"),
                "{}",
                ran.stderr
            );
        }
    }
    let made = folder.warden("package --module module.wasm --layout image --install install.yaml large.yaml --output json");
    ok(&made);
    let hash = made.json()["policy"].as_str().unwrap().to_owned();
    folder.write("carried.yaml", &install(&format!(", policy: '{hash}'")));
    let ran = folder.warden("render --install carried.yaml large.yaml");
    ok(&ran);
    assert!(ran.stdout.len() < 200_000, "{} bytes", ran.stdout.len());
}
