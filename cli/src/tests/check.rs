//! `warden check`: messages, hints and underlines, as they are drawn.

use insta::assert_snapshot;

use super::support::{Folder, INSTALL, REFERENCE, rule_path};

/// The reference policy with one text replaced.
fn check(from: &str, to: &str) -> String {
    assert!(REFERENCE.contains(from), "{from}");
    let policy = REFERENCE.replacen(from, to, 1);
    let ran = Folder::with(&[("policy.yaml", &policy)]).warden("check policy.yaml");
    // Warnings of the reference policy itself are shown elsewhere.
    let blocks = ran
        .stdout
        .split("\n\n")
        .filter(|block| !block.contains("labels_on_server_first"));
    blocks
        .filter(|block| {
            block.starts_with("error") || block.starts_with("warning") || block.starts_with("note")
        })
        .collect::<Vec<_>>()
        .join("\n\n")
}

#[test]
fn an_unquoted_star() {
    assert_snapshot!(check(r#"["*.github.com"]"#, "[*.github.com, *.githubusercontent.com]"), @r#"
    error[syntax]: an unquoted `*` starts an alias in YAML
     --> policy.yaml:9:28
      |
    9 |     github: {domainNames: [*.github.com, *.githubusercontent.com], ports: [80, 443]}
      |                            ^^^^^^^^^^^^
      |
      = help: quote it: "*.github.com"

    error[syntax]: an unquoted `*` starts an alias in YAML
     --> policy.yaml:9:42
      |
    9 |     github: {domainNames: [*.github.com, *.githubusercontent.com], ports: [80, 443]}
      |                                          ^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: quote it: "*.githubusercontent.com"
    "#);
}

#[test]
fn a_unicode_name_is_mapped_and_a_bad_one_is_not() {
    assert_snapshot!(check(r#"["*.github.com"]"#, r#"["*.münchen.example"]"#), @"");
    assert_snapshot!(check(r#"["*.github.com"]"#, "[\"a\u{200d}b.example\"]"), @r#"
    error[bad_value]: `ab.example`: a name in a compiled policy is ASCII
     --> policy.yaml:9:28
      |
    9 |     github: {domainNames: ["ab.example"], ports: [80, 443]}
      |                            ^^^^^^^^^^^^
      |
      = help: U+200D in it is invisible: type it anew
    "#);
}

#[test]
fn an_unknown_field() {
    assert_snapshot!(check("to: [{destination: github}]", "too: [{destination: github}]"), @"
    error[unknown_field]: unknown field `too`
      --> policy.yaml:19:7
       |
    19 |       too: [{destination: github}]
       |       ^^^
       |
       = help: did you mean `to`?
    ");
}

#[test]
fn a_field_twice() {
    assert_snapshot!(check("default: Deny", "default: Deny\n  default: Accept"), @"
    error[duplicate_field]: `default` is given twice
      --> policy.yaml:34:3
       |
    34 |   default: Accept
       |   ^^^^^^^
    ");
}

#[test]
fn a_word_in_the_wrong_case() {
    assert_snapshot!(check("action: Accept", "action: accept"), @"
    error[bad_value]: unknown value `accept`
      --> policy.yaml:20:15
       |
    20 |       action: accept
       |               ^^^^^^
       |
       = help: did you mean `Accept`?
    ");
}

#[test]
fn an_unknown_destination() {
    assert_snapshot!(check("destination: github}", "destination: githb}"), @"
    error[unknown_reference]: no destination is named `githb`
      --> policy.yaml:19:26
       |
    19 |       to: [{destination: githb}]
       |                          ^^^^^
       |
       = help: did you mean `github`?
    ");
}

#[test]
fn a_missing_field() {
    assert_snapshot!(check("      action: Accept\n    - name: app1-partner-ssh", "    - name: app1-partner-ssh"), @"
    error[missing_field]: `action` is missing
      --> policy.yaml:17:7
       |
    17 |     - name: app1-github
       |       ^^^^^^^^^^^^^^^^^
       |
       = help: add `action: Accept`, `Deny`, `Pass` or `Inspect`
    ");
}

#[test]
fn an_empty_list() {
    assert_snapshot!(check("namespaces: [app1-ns]", "namespaces: []"), @"
    error[empty]: this list is empty
      --> policy.yaml:18:27
       |
    18 |       from: [{namespaces: [], matchLabels: {egress-ruleset: app1}}]
       |                           ^^
       |
       = help: an empty list would be read as everything by one reader and as nothing by another; leave the field out or fill it in
    ");
}

#[test]
fn a_network_with_host_bits() {
    assert_snapshot!(check("203.0.113.7/32", "203.0.113.7/24"), @"
    error[bad_value]: `203.0.113.7/24`: bits are set behind the prefix length
      --> policy.yaml:23:24
       |
    23 |       to: [{networks: [203.0.113.7/24], ports: [22], protocols: [TCP]}]
       |                        ^^^^^^^^^^^^^^
       |
       = help: write `203.0.113.0/24`
    ");
}

#[test]
fn a_port_out_of_range() {
    assert_snapshot!(check("ports: [80, 443]", "ports: [80, 70000]"), @r#"
    error[bad_value]: `70000`: a port is at most 65535
     --> policy.yaml:9:57
      |
    9 |     github: {domainNames: ["*.github.com"], ports: [80, 70000]}
      |                                                         ^^^^^
      |
      = help: 443 or "8000-8999"
    "#);
}

#[test]
fn names_and_networks_in_one_element() {
    assert_snapshot!(check("{networks: [8.8.8.8/32],", "{networks: [8.8.8.8/32], domainNames: [a.example],"), @"
    error[conflict]: an element names its destination by `domainNames` or by `networks`
      --> policy.yaml:31:12
       |
    31 |       to: [{networks: [8.8.8.8/32], domainNames: [a.example], ports: [25], protocols: [TCP]}]
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: write two elements: elements are alternatives
    ");
}

#[test]
fn a_star_too_far_right() {
    assert_snapshot!(check("[api.weather.gov]", "[\"api.*.gov\"]"), @r#"
    error[bad_value]: `api.*.gov`: a `*` in the last two labels opens a whole domain
      --> policy.yaml:10:29
       |
    10 |     weather: {domainNames: ["api.*.gov"], ports: [80, 443]}
       |                             ^^^^^^^^^^^
       |
       = help: keep the last two labels literal: `*.example.com`
    "#);
}

#[test]
fn a_boolean_as_label() {
    assert_snapshot!(check("egress-ruleset: app1", "egress-ruleset: true"), @"
    error[wrong_type]: expected a text, found a boolean
      --> policy.yaml:18:68
       |
    18 |       from: [{namespaces: [app1-ns], matchLabels: {egress-ruleset: true}}]
       |                                                                    ^^^^
       |
       = help: label values are texts: quote it
    ");
}

#[test]
fn a_rule_that_is_hidden() {
    assert_snapshot!(check(
        "    - name: app1-partner-ssh",
        "    - {name: again, from: [{namespaces: [app1-ns], matchLabels: {egress-ruleset: app1}}], to: [{domainNames: [api.github.com], ports: [443]}], action: Accept}\n    - name: app1-partner-ssh"
    ), @"
    warning[unreachable_rule]: `app1-github` hides `again`
      --> policy.yaml:21:14
       |
    21 |     - {name: again, from: [{namespaces: [app1-ns], matchLabels: {egress-ruleset: app1}}], to: [{domainNames: [api.github.com], ports...
       |              ^^^^^
       |
      ::: policy.yaml:17:13
       |
    17 |     - name: app1-github
       |             ----------- this rule matches all of it first
       |
       = help: move it up, narrow the earlier rule, or delete it
    ");
}

#[test]
fn a_public_suffix() {
    assert_snapshot!(check("[api.weather.gov]", "[\"*.co.uk\"]"), @r#"
    warning[wide_name]: `*.co.uk`: `co.uk` is a public suffix
      --> policy.yaml:10:29
       |
    10 |     weather: {domainNames: ["*.co.uk"], ports: [80, 443]}
       |                             ^^^^^^^^^
       |
      ::: policy.yaml:27:12
       |
    27 |       to: [{destination: weather}]
       |            ---------------------- for this rule
       |
       = help: name the domains below it that are really needed
    "#);
}

#[test]
fn a_name_over_opaque_tcp() {
    assert_snapshot!(check("networks: [203.0.113.7/32], ports: [22]", "domainNames: [git.partner.example], ports: [22]"), @"
    warning[named_tcp]: `git.partner.example` over opaque TCP (port 22): sidecars send that by address, so nothing will ever match unless the install settings give the name an address (`tunnel.names`)
      --> policy.yaml:23:27
       |
    23 |       to: [{domainNames: [git.partner.example], ports: [22], protocols: [TCP]}]
       |                           ^^^^^^^^^^^^^^^^^^^
       |
       = help: name `networks` instead, or say `protocols: [TLS]` or `[HTTP]` where the client speaks that at this port; whole names at stated ports can be had by `tunnel.names` in the install settings (docs/explanation/names-and-dns.md)
    ");
    // `render` says the same of the same file, and `explain` what it takes for granted.
    let policy = REFERENCE.replace(
        "networks: [203.0.113.7/32]",
        "domainNames: [git.partner.example]",
    );
    let folder = Folder::with(&[
        ("policy.yaml", &policy),
        (
            "install.yaml",
            include_str!("../../../istio/reference/install.yaml"),
        ),
    ]);
    let rendered = folder.warden("render --install install.yaml policy.yaml");
    assert_eq!(rendered.exit, 0);
    assert_snapshot!(rendered.stderr.split("\n\n").next().unwrap(), @"
    warning[render]: `git.partner.example` over opaque TCP (port 22): sidecars send that by address, so nothing will ever match unless the install settings give the name an address (`tunnel.names`)
      --> policy.yaml:21:7
       |
    21 |     - name: app1-partner-ssh
       |       ^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: name `networks` instead, or say `protocols: [TLS]` or `[HTTP]` where the client speaks that at this port; whole names at stated ports can be had by `tunnel.names` in the install settings (docs/explanation/names-and-dns.md)
    ");
    let json = folder
        .warden("render --install install.yaml policy.yaml --output json")
        .json();
    assert_eq!(json["warnings"][0]["place"], "seed/apps/app1-partner-ssh");
    let ran = folder.warden("explain policy.yaml --from app1-ns/a,label=egress-ruleset=app1 --to tcp://git.partner.example:22");
    assert_eq!(ran.exit, 0);
    assert!(
        ran.stdout
            .contains("assumed: the install settings give the name an address (`tunnel.names`)"),
        "{ran:?}"
    );
    let ran = folder.warden(
        "explain policy.yaml --from app1-ns/a,label=egress-ruleset=app1 --to tcp://203.0.113.7:22",
    );
    assert_eq!(ran.exit, 2);
}

#[test]
fn labels_alone() {
    assert_snapshot!(check("from: [{namespaces: [app1-ns], matchLabels", "from: [{matchLabels"), @"
    warning[labels_alone]: `app1-github` selects by labels alone
      --> policy.yaml:18:13
       |
    18 |       from: [{matchLabels: {egress-ruleset: app1}}]
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: add `namespaces` or `serviceAccounts`, which the certificate proves
    ");
}

#[test]
fn an_exception_that_has_ended_and_has_no_owner() {
    assert_snapshot!(check("      action: Accept", "      action: Accept\n      expires: \"2026-01-01T00:00:00Z\""), @r#"
    note[no_owner]: the exception `app1-github` has no owner
      --> policy.yaml:17:13
       |
    17 |     - name: app1-github
       |             ^^^^^^^^^^^
       |
       = help: say who answers for it: `owner: team-name`

    warning[expired]: `app1-github` expired at 2026-01-01T00:00:00Z and accepts nothing
      --> policy.yaml:21:16
       |
    21 |       expires: "2026-01-01T00:00:00Z"
       |                ^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: delete it, or renew it with a new date and a ticket
    "#);
}

#[test]
fn a_private_network() {
    assert_snapshot!(check("203.0.113.7/32", "10.1.0.0/16"), @"
    warning[inside_network]: `10.1.0.0/16` holds private addresses
      --> policy.yaml:23:24
       |
    23 |       to: [{networks: [10.1.0.0/16], ports: [22], protocols: [TCP]}]
       |                        ^^^^^^^^^^^
       |
       = help: leave out the cluster's own networks, which never reach the gateway, and name the private ones beyond them
    ");
}

#[test]
fn a_denial_by_name() {
    assert_snapshot!(check("to: [{networks: [169.254.0.0/16]}]", "to: [{domainNames: [pastebin.com]}]"), @"
    note[deny_by_name]: `no-metadata-service` denies by name
      --> policy.yaml:14:39
       |
    14 |     - {name: no-metadata-service, to: [{domainNames: [pastebin.com]}], action: Deny}
       |                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: deny by not accepting: accept the names that are needed, and let the default deny
    ");
}

#[test]
fn json_has_places_too() {
    let ran = Folder::with(&[]).warden_with("check -", "{\"apiVersion\": \"egress-warden.io/v1alpha1\",\n \"kind\": 3, \"metadata\": {\"name\": \"x\"}, \"spec\": {\"tires\": []}}");
    assert_snapshot!(ran.stdout, @r#"
    error[wrong_type]: expected a text, found a number
     --> <stdin>:2:10
      |
    2 |  "kind": 3, "metadata": {"name": "x"}, "spec": {"tires": []}}
      |          ^

    error[missing_field]: `identity` is missing
     --> <stdin>:2:48
      |
    2 |  "kind": 3, "metadata": {"name": "x"}, "spec": {"tires": []}}
      |                                                ^^^^^^^^^^^^^
      |
      = help: add `identity: {trustDomains: [cluster.local]}`, with the mesh's trust domain

    error[missing_field]: `tiers` is missing
     --> <stdin>:2:48
      |
    2 |  "kind": 3, "metadata": {"name": "x"}, "spec": {"tires": []}}
      |                                                ^^^^^^^^^^^^^
      |
      = help: add `tiers: [{name: main, rules: [...]}]`

    error[unknown_field]: unknown field `tires`
     --> <stdin>:2:49
      |
    2 |  "kind": 3, "metadata": {"name": "x"}, "spec": {"tires": []}}
      |                                                 ^^^^^^^
      |
      = help: did you mean `tiers`?

    1 file, 1 policy, 0 rules: 4 errors, 0 warnings
    "#);
}

#[test]
fn a_manifest_is_read_in_place() {
    let config = "{context: http, labels: none, addressCheck: classes, addressClasses: [], ports: [{port: 80, protocol: HTTP}], policies: [{kind: ClusterEgressPolicy}]}";
    let manifest = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nspec:\n  failStrategy: FAIL_RELOAD\n  pluginConfig: {config}\n"
    );
    let ran = Folder::with(&[]).warden_with("check -", &manifest);
    assert_snapshot!(ran.stdout, @"
    error[missing_field]: `apiVersion` is missing
     --> <stdin>:5:138
      |
    5 | ...], ports: [{port: 80, protocol: HTTP}], policies: [{kind: ClusterEgressPolicy}]}
      |                                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: add `apiVersion: egress-warden.io/v1alpha1`

    error[missing_field]: `metadata` is missing
     --> <stdin>:5:138
      |
    5 | ...], ports: [{port: 80, protocol: HTTP}], policies: [{kind: ClusterEgressPolicy}]}
      |                                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: add `metadata: {name: NAME}`

    error[missing_field]: `spec` is missing
     --> <stdin>:5:138
      |
    5 | ...], ports: [{port: 80, protocol: HTTP}], policies: [{kind: ClusterEgressPolicy}]}
      |                                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: add `spec:` with `identity` and `tiers`

    1 file, 0 policies, 0 rules: 3 errors, 0 warnings
    ");
}

const TEAM: &str = "apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: team}
spec:
  identity: {trustDomains: [cluster.local]}
  appliesTo: {namespaces: [app1-ns, other]}
  tiers: [{name: t, default: Deny}]
";

#[test]
fn a_policy_keeps_to_what_is_granted() {
    let folder = Folder::with(&[
        ("a/team.yaml", TEAM),
        ("seed.yaml", REFERENCE),
        ("install.yaml", INSTALL),
    ]);
    let ran = folder.warden("check install.yaml a seed.yaml");
    assert_eq!(ran.exit, 3);
    assert_snapshot!(ran.stdout.split("\n\n").next().unwrap(), @"
    error[install]: `other` is not granted to `team`
      --> a/team.yaml:6:14
       |
     6 |   appliesTo: {namespaces: [app1-ns, other]}
       |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
      ::: install.yaml:11:5
       |
    11 |   - {name: team, namespaces: [app1-ns]}
       |     ----------------------------------- what is granted
       |
       = help: a policy speaks only for namespaces that the install settings grant to it
    ");
    folder.write("a/team.yaml", &TEAM.replace(", other", ""));
    assert_eq!(folder.warden("check install.yaml a seed.yaml").exit, 0);
    let line = "explain install.yaml a seed.yaml --output json --from app1-ns/x,label=egress-ruleset=app1 --to https://api.github.com";
    let by = rule_path(&folder.warden(line).json());
    assert_eq!(by, "team/t");
}

#[test]
fn the_exit_code_and_the_other_outputs() {
    let folder = Folder::with(&[("good.yaml", REFERENCE), ("bad.yaml", "kind: 3")]);
    assert_eq!(folder.warden("check good.yaml").exit, 0);
    assert_eq!(folder.warden("check good.yaml --strict").exit, 3);
    assert_eq!(folder.warden("check bad.yaml").exit, 3);
    assert_eq!(folder.warden("check").exit, 1);
    let json = folder.warden("check bad.yaml --output json").json();
    assert_eq!(json["diagnostics"][0]["place"]["line"], 1);
    let github = folder.warden("check bad.yaml --output github").stdout;
    assert!(
        github.starts_with("::error file=bad.yaml,line=1,"),
        "{github}"
    );
}

/// Two policies of which one has an error in one rule: everything else is looked at all the same, and
/// each rule is where it stands.
#[test]
fn an_error_hides_no_lint() {
    let rule = |name: &str, to: &str| {
        format!("    - {{name: {name}, from: [{{namespaces: [a]}}], to: [{to}], action: Accept}}\n")
    };
    let policy = |spec: &str, rules: &[String]| {
        format!(
            "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {{name: p}}\nspec:\n{spec}  tiers:\n  - name: t\n    rules:\n{}",
            rules.concat()
        )
    };
    let identity = "  identity: {trustDomains: [cluster.local]}\n";
    let wide = rule("wide", "{domainNames: ['*.amazonaws.com'], ports: [443]}");
    let broken = rule("broken", "{hosts: [a.example]}");
    let said = |text: &str| {
        let folder = Folder::with(&[("p.yaml", text)]);
        let json = folder.warden("check p.yaml --output json").json();
        let found = json["diagnostics"].as_array().unwrap().iter();
        let words = found.map(|one| {
            let code = one["code"].as_str().unwrap();
            let path = one["path"].as_str().unwrap();
            format!(
                "{}:{} {code} {path}",
                one["place"]["line"], one["place"]["column"]
            )
        });
        words.collect::<Vec<_>>()
    };
    for (text, expected) in [
        (
            policy(identity, &[broken.clone(), wide.clone()]),
            vec![
                "9:55 unknown_field spec.tiers[0].rules[0].to[0].hosts",
                "10:67 shared_hosting spec.tiers[0].rules[1].to",
            ],
        ),
        (
            policy("", std::slice::from_ref(&wide)),
            vec![
                "5:3 missing_field spec",
                "8:67 shared_hosting spec.tiers[0].rules[0].to",
            ],
        ),
        // A destination with a defect is told once, whoever uses it, and so is a doubtful one.
        (
            policy(
                &format!(
                    "{identity}  destinations:\n    bad: {{domainNames: [a.example], ports: [443], methods: [GET]}}\n    aws: {{domainNames: ['*.amazonaws.com'], ports: [443]}}\n"
                ),
                &["bad", "aws", "bad", "aws"]
                    .iter()
                    .enumerate()
                    .map(|(i, name)| rule(&format!("r{i}"), &format!("{{destination: {name}}}")))
                    .collect::<Vec<_>>(),
            ),
            vec![
                "7:44 conflict spec.destinations.bad.ports",
                "8:25 shared_hosting spec.tiers[0].rules[1].to",
                "15:14 unreachable_rule spec.tiers[0].rules[3].name",
            ],
        ),
        // The element with the port, and not the first with the name.
        (
            policy(
                identity,
                &[rule(
                    "r",
                    "{domainNames: [db.example], ports: [443]}, {domainNames: [db.example], ports: [5432], protocols: [TCP]}",
                )],
            ),
            vec!["9:107 named_tcp spec.tiers[0].rules[0].to"],
        ),
    ] {
        assert_eq!(said(&text), expected, "{text}");
    }
}

/// A folder as repositories have them.
#[test]
fn a_folder_is_read_by_what_its_documents_are() {
    let folder = Folder::with(&[
        ("policy.yaml", REFERENCE),
        ("cases.yaml", "policies: [policy.yaml]\ncases: []\n"),
        ("values.yaml", "image: {tag: 1}\n"),
        (
            "templates/all.yaml",
            "{{- if .Values.on }}\nkind: [\n{{ end }}\n",
        ),
        (
            "deploy.yaml",
            "apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\nkind: Service\n",
        ),
        ("package.json", "{\"name\": \"x\"}"),
    ]);
    let ran = folder.warden("check .");
    let last: Vec<&str> = ran.stdout.lines().rev().take(2).collect();
    assert!(last.contains(&"passed over, for there is no policy, settings or case: ./deploy.yaml (Deployment, Service), ./package.json, ./templates/all.yaml, ./values.yaml"), "{ran:?}");
    // What is meant to be ours is not passed over.
    for text in [
        "kind: ClusterEgressPolcy\n",
        "apiVersion: egress-warden.io/v1\nkind: Policy\n",
        "spec: {tiers: []}\n",
        "kind: EgressPolicy\nspec: {\n",
        "cases: 1\n",
    ] {
        folder.write("more.yaml", text);
        assert_eq!(folder.warden("check .").exit, 3, "{text}");
    }
    // A list is its items.
    let item = REFERENCE.replace('\n', "\n  ");
    folder.write(
        "more.yaml",
        &format!("apiVersion: v1\nkind: List\nitems:\n- {item}"),
    );
    let ran = folder.warden("check more.yaml --output json");
    assert_eq!(
        (ran.json()["policies"].clone(), ran.exit),
        (1.into(), 0),
        "{ran:?}"
    );
}
