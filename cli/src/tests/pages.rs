//! `warden fmt`, `docs`, `diff` and `completions`: what they write.

use super::support::{Folder, REFERENCE};

#[test]
fn names_take_their_normal_form_and_comments_stay() {
    let policy = REFERENCE
        .replace("\"*.github.com\"", "\"*.GitHub.com.\", '*.münchen.example'")
        .replace("  default: Deny", "  default: Deny   # the end");
    let folder = Folder::with(&[("policy.yaml", &policy)]);
    assert_eq!(folder.warden("fmt --check policy.yaml").exit, 3);
    assert_eq!(folder.read("policy.yaml"), policy);
    assert_eq!(folder.warden("fmt policy.yaml").exit, 0);
    let formatted = folder.read("policy.yaml");
    assert!(
        formatted.contains("[\"*.github.com\", '*.xn--mnchen-3ya.example']"),
        "{formatted}"
    );
    assert!(
        formatted.contains("default: Deny   # the end\n"),
        "{formatted}"
    );
    assert_eq!(folder.warden("fmt --check policy.yaml").exit, 0);
}

#[test]
fn a_folder_is_formatted_and_what_is_no_policy_stays() {
    let untidy = REFERENCE.replace("default: Deny", "default: Deny   ");
    let other = "kind: ConfigMap\ndata: {a: b}   \n";
    let folder = Folder::with(&[
        ("all/policy.yaml", &untidy),
        ("all/teams/b.yaml", REFERENCE),
        ("all/other.yaml", other),
    ]);
    let seen = folder.warden("fmt --check all --output json");
    assert_eq!(seen.exit, 3);
    let files = seen.json()["files"].clone();
    assert_eq!(
        files,
        serde_json::json!([
            {"file": "all/policy.yaml", "changed": true},
            {"file": "all/teams/b.yaml", "changed": false},
        ])
    );
    assert_eq!(
        folder.warden("fmt all").stdout,
        "all/policy.yaml formatted\n"
    );
    assert_ne!(folder.read("all/policy.yaml"), untidy);
    assert_eq!(folder.read("all/other.yaml"), other);
    assert_eq!(folder.warden("fmt --check all").exit, 0);
    folder.write("all/broken.yaml", "a: [\n");
    // What is no YAML and mentions none of our kinds is no policy that somebody broke.
    assert_eq!(folder.warden("fmt all").exit, 0);
    folder.write("all/broken.yaml", "kind: ClusterEgressPolicy\na: [\n");
    assert_eq!(folder.warden("fmt all").exit, 3);
}

#[test]
fn a_page_shows_what_authors_wrote_as_text() {
    let policy = REFERENCE.replacen(
        "      action: Accept",
        "      action: Accept\n      reason: \"<script>|`x`\"",
        1,
    );
    let folder = Folder::with(&[("policy.yaml", &policy)]);
    let html = folder.warden("docs policy.yaml --format html").stdout;
    assert!(html.contains("&lt;script&gt;"), "{html}");
    assert!(!html.contains("<script>"), "{html}");
    let markdown = folder.warden("docs policy.yaml").stdout;
    assert!(markdown.contains("&lt;script>\\|\\`x\\`"), "{markdown}");
    assert!(
        markdown.contains("| app1-github | namespace app1-ns, labels egress-ruleset=app1 |"),
        "{markdown}"
    );
}

/// A platform's policy and a team's, and lines of their page: what holds, not what is written.
#[test]
fn a_page_shows_what_policies_come_to_together() {
    let policy = |name: &str, rest: &str| {
        format!(
            "apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {{name: {name}}}
spec:
  identity: {{trustDomains: [cluster.local]}}
{rest}"
        )
    };
    let platform = r#"  shadowWorkloads: [{namespaces: [c], expires: "2027-01-31T00:00:00Z"}]
  tiers:
  - name: t
    rules:
    - {name: no-paste, to: [{domainNames: [paste.corp.example]}], action: Deny}
    - {name: web, from: [{namespaces: [a, b]}], to: [{domainNames: ["*.corp.example"], ports: [443]}], action: Accept}
    - {name: hidden, from: [{namespaces: [a]}], to: [{domainNames: [api.corp.example], ports: [443]}], action: Accept}
    - {name: db, from: [{namespaces: [a]}], to: [{domainNames: ["*.db.example"], ports: [5432], protocols: [TCP]}], action: Accept}
"#;
    let team = r"  appliesTo: {namespaces: [a]}
  tiers:
  - name: t
    rules:
    - {name: own, to: [{domainNames: [shop.corp.example, shop.test], ports: [443]}], action: Accept}
    - {name: other, to: [{domainNames: [other.test], ports: [443]}], action: Accept}
";
    let folder = Folder::with(&[
        ("platform.yaml", &policy("platform", platform)),
        ("team.yaml", &policy("team", team)),
    ]);
    let page = folder.warden("docs platform.yaml team.yaml").stdout;
    for line in [
        // The strictest answer, and of one element what differs.
        "| namespace a | \\*.corp.example; port 443 | Deny | team (default) |  |",
        "| namespace b | \\*.corp.example; port 443 | Accept | platform/t/web |  |",
        "| namespace a | shop.corp.example; port 443 (TLS) | Accept | platform/t/web |  |",
        "| namespace a | shop.test; port 443 (TLS) | Deny | platform (default) |  |",
        // Everything is open to workloads in shadow.
        "| namespace c | every other address (HTTP), every other address (TCP), every other name (HTTP), every other name (TLS) | Accept | platform (default) | without shadow Deny by platform (default) |",
        "| platform | namespace c | 2027-01-31T00:00:00Z | open |  |",
        // What never decides, or opens nothing.
        "| Accept | \\`web\\` hides \\`hidden\\`; lets nothing through: denied by team (default) |",
        "| namespace a | \\*.db.example; port 5432; TCP | never asked |  | sidecars send opaque TCP by address, so no rule matches the name |",
        "| other | every workload with an identity | other.test; port 443 | Accept | lets nothing through: denied by platform (default) |",
        "What no rule matches goes on to the next tier. Only for namespace a (`appliesTo`).",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    // Whom a policy is not for is not told of its rules.
    assert!(!page.contains("| namespace b | other.test"), "{page}");
}

#[test]
fn a_difference_is_told_in_every_form() {
    let narrow = REFERENCE.replace("203.0.113.7/32", "203.0.113.6/31");
    let folder = Folder::with(&[("old.yaml", REFERENCE), ("new.yaml", &narrow)]);
    let json = folder.warden("diff old.yaml new.yaml --output json").json();
    assert_eq!(json["result"], "different");
    assert_eq!(json["complete"], true);
    assert_eq!(json["differences"][0]["change"], "gains");
    assert_eq!(json["differences"][0]["witness"]["address"], "203.0.113.6");
    assert_eq!(folder.warden("diff --no-gains old.yaml new.yaml").exit, 2);
    assert_eq!(folder.warden("diff --no-gains new.yaml old.yaml").exit, 0);
    let markdown = folder
        .warden("diff old.yaml new.yaml --output markdown")
        .stdout;
    assert!(markdown.contains("| **gains** |"), "{markdown}");
    let renamed = REFERENCE
        .replace("app1-partner-ssh", "partner")
        .replace("github", "code-host");
    let renamed = renamed.replace("*.code-host.com", "*.github.com");
    folder.write("renamed.yaml", &renamed);
    let same = folder.warden("diff old.yaml renamed.yaml").stdout;
    assert!(same.contains("no change in meaning"), "{same}");
}

/// One team's HTTP at a port changes what the port carries for another team.
#[test]
fn a_port_that_carries_something_else_is_told() {
    let policy = |more: &str| {
        format!(
            "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {{name: p}}\nspec:\n  identity: {{trustDomains: [cluster.local]}}\n  tiers:\n  - name: t\n    rules:\n    - {{name: a, from: [{{namespaces: [a]}}], to: [{{domainNames: [a.example.com], ports: [9080]}}], action: Accept}}\n{more}"
        )
    };
    let http = "    - {name: b, from: [{namespaces: [b]}], to: [{domainNames: [b.example.com], ports: [9080], protocols: [HTTP]}], action: ACTION}\n";
    let folder = Folder::with(&[
        ("old.yaml", &policy("")),
        ("new.yaml", &policy(&http.replace("ACTION", "Accept"))),
        // Even a rule that opens nothing turns the port.
        ("deny.yaml", &policy(&http.replace("ACTION", "Deny"))),
    ]);
    for new in ["new.yaml", "deny.yaml"] {
        let ran = folder.warden(&format!("diff --no-gains old.yaml {new}"));
        assert_eq!(ran.exit, 2, "{ran:?}");
        for line in [
            "    from a; to a.example.com; protocol HTTP; port 9080",
            "~ port 9080: TCP -> HTTP, for every workload",
        ] {
            assert!(ran.stdout.lines().any(|seen| seen == line), "{ran:?}");
        }
        let json = folder
            .warden(&format!("diff old.yaml {new} --output json"))
            .json();
        let ports = serde_json::json!([{"ports": "9080", "old": "TCP", "new": "HTTP"}]);
        assert_eq!(json["ports"], ports);
        let markdown = folder.warden(&format!("diff old.yaml {new} --output markdown"));
        assert!(
            markdown.stdout.contains("**Port protocol:** port 9080"),
            "{markdown:?}"
        );
    }
}

#[test]
fn completions_name_every_subcommand() {
    let script = Folder::with(&[]).warden("completions bash").stdout;
    for name in ["check", "explain", "test", "diff", "fmt", "docs", "schema"] {
        assert!(script.contains(name), "{name}");
    }
}
