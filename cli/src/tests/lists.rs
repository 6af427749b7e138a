//! Named destinations from files: every command sees the same list, and none sees another one.

use sha2::{Digest, Sha256};

use super::support::Folder;

const LIST: &str = "# Partners.\n*.partner.example\nm\u{fc}nchen.example\n203.0.113.0/24\n";

fn policy(digest: &str) -> String {
    format!(
        "apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {{name: shop}}
spec:
  identity: {{trustDomains: [cluster.local]}}
  destinations:
    partners: {{file: lists/partners.txt, sha256: {digest}, date: 2026-11-20, ports: [443]}}
  tiers:
  - name: apps
    rules:
    - name: partners
      from: [{{namespaces: [shop]}}]
      to: [{{destination: partners}}]
      action: Accept
"
    )
}

fn digest(list: &str) -> String {
    format!("{:x}", Sha256::digest(list))
}

/// The policy with its list, and the same written out.
fn folder() -> Folder {
    let written_out = policy("-").replace(
        "{file: lists/partners.txt, sha256: -, date: 2026-11-20, ports: [443]}",
        "[{domainNames: [\"*.partner.example\", xn--mnchen-3ya.example], ports: [443]}, {networks: [203.0.113.0/24], ports: [443]}]",
    );
    Folder::with(&[
        ("policies/policy.yaml", &policy(&digest(LIST))),
        ("policies/lists/partners.txt", LIST),
        ("written-out.yaml", &written_out),
    ])
}

#[test]
fn every_command_sees_the_list() {
    let folder = folder();
    let ran = folder
        .warden("check policies/policy.yaml --output json")
        .json();
    assert_eq!(ran["errors"], 0);
    assert_eq!(ran["lists"][0]["file"], "policies/lists/partners.txt");
    assert_eq!(ran["lists"][0]["entries"], 3);
    assert_eq!(ran["lists"][0]["sha256"], digest(LIST).as_str());

    let same = folder.warden("diff policies/policy.yaml written-out.yaml");
    assert!(same.stdout.contains("no change in meaning"), "{same:?}");

    for (to, exit) in [
        ("https://a.partner.example", 0),
        ("https://m\u{fc}nchen.example", 0),
        // Port 443 carries TLS.
        ("tcp://203.0.113.9:443", 2),
        ("https://partner.example", 2),
        ("tcp://203.0.113.9:22", 2),
    ] {
        let line = format!("explain policies/policy.yaml --from shop/web --to {to} --output json");
        let ran = folder.warden(&line);
        assert_eq!(ran.exit, exit, "{to}: {ran:?}");
        let lists = ran.json()["lists"].as_array().unwrap().len();
        assert_eq!(lists, usize::from(exit == 0), "{to}");
    }
    let install = include_str!("../../../istio/reference/install.yaml");
    folder.write("install.yaml", install);
    let rendered = folder.warden("render --install install.yaml policies/policy.yaml");
    assert_eq!(rendered.exit, 0, "{rendered:?}");
    assert!(rendered.stdout.contains("xn--mnchen-3ya.example"));
    assert!(!rendered.stdout.contains("partners.txt"));
    let page = folder.warden("docs policies/policy.yaml").stdout;
    assert!(page.contains("\\*.partner.example"), "{page}");
    assert!(
        page.contains(&format!("| 2026-11-20 | 3 | {} |", digest(LIST))),
        "{page}"
    );
    let policy = folder.read("policies/policy.yaml");
    folder.write("policies/policy.yaml", &format!("{policy}    \n"));
    assert_eq!(folder.warden("fmt policies/policy.yaml").exit, 0);
    assert_eq!(folder.read("policies/policy.yaml"), policy);
}

#[test]
fn a_policy_with_a_list_can_be_revoked_from() {
    let folder = folder();
    let line = "revoke shop/web --owner soc --reason stolen policies/policy.yaml --write";
    let ran = folder.warden(line);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let line = "explain policies/policy.yaml --from shop/web --to https://a.partner.example";
    assert_eq!(folder.warden(line).exit, 2);
    assert!(
        folder
            .read("policies/policy.yaml")
            .contains("{file: lists/partners.txt,")
    );
}

#[test]
fn a_case_file_sees_the_list_of_its_policy_and_of_one_in_it() {
    let folder = folder();
    let cases = "cases:
- name: a partner
  from: {workload: shop/web}
  to: {authority: a.partner.example, port: 443}
  expect: {verdict: Accept, policy: shop, tier: apps, rule: partners, reason: rule}
";
    folder.write(
        "cases.yaml",
        &format!("policies: [policies/policy.yaml]\n{cases}"),
    );
    assert_eq!(folder.warden("test cases.yaml").exit, 0);
    let inline = policy(&digest(LIST)).replace('\n', "\n  ");
    folder.write(
        "policies/cases.yaml",
        &format!("policies:\n- {}\n{cases}", inline.trim_end()),
    );
    let ran = folder.warden("test policies/cases.yaml");
    assert_eq!(ran.exit, 0, "{ran:?}");
}

#[test]
fn another_list_than_the_reviewed_one_stops_every_command() {
    let folder = folder();
    folder.write("policies/lists/partners.txt", "*.evil.example\n");
    folder.write(
        "cases.yaml",
        "policies: [policies/policy.yaml]\ncases: [{name: a, from: {workload: a/b}, to: {authority: a.example, port: 443}, expect: {verdict: Deny, policy: shop, reason: default}}]\n",
    );
    let install = include_str!("../../../istio/reference/install.yaml");
    folder.write("install.yaml", install);
    for line in [
        "check policies/policy.yaml",
        "check --each policies/policy.yaml",
        "explain policies/policy.yaml --from shop/web --to https://a.evil.example",
        "test cases.yaml",
        "diff policies/policy.yaml written-out.yaml",
        "diff written-out.yaml policies/policy.yaml",
        "docs policies/policy.yaml",
        "render --install install.yaml policies/policy.yaml",
        "doctor --install install.yaml policies/policy.yaml",
    ] {
        let ran = folder.warden(line);
        assert_eq!(ran.exit, 3, "{line}: {ran:?}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("list_changed"), "{line}: {said}");
        assert!(!ran.stdout.contains("evil.example: "), "{line}: {said}");
    }
}

#[test]
fn the_digest_is_of_the_bytes_as_they_are() {
    for list in [
        "a.example\n",
        "a.example\r\n",
        "\u{feff}a.example",
        "a.example#",
    ] {
        let folder = Folder::with(&[
            ("policy.yaml", &policy(&digest(list))),
            ("lists/partners.txt", list),
        ]);
        let expected = if list.ends_with('#') { 3 } else { 0 };
        assert_eq!(
            folder.warden("check policy.yaml").exit,
            expected,
            "{list:?}"
        );
    }
}

#[test]
fn a_list_that_is_no_text_is_refused() {
    let folder = Folder::with(&[("policy.yaml", &policy("none"))]);
    folder.write_bytes("lists/partners.txt", b"a.example\n\xff\n");
    let ran = folder.warden("check policy.yaml");
    assert_eq!(ran.exit, 3);
    assert!(ran.stdout.contains("is not UTF-8 (byte 10)"), "{ran:?}");
}
