//! `warden explain`: verdicts, exit codes, reasons.

use super::support::{Folder, REFERENCE, rule_path};

/// Who asks, where to, and the exit code, verdict, reason and rule that must follow.
const VERDICTS: &str = "
app1                     | https://api.github.com                       | 0 Accept rule seed/apps/app1-github
app1                     | http://api.github.com/repos                  | 0 Accept rule seed/apps/app1-github
app1                     | http://API.GitHub.com.:8080/                 | 2 Deny default seed
app1                     | http://api.github.com:443/                   | 2 Deny hello_malformed -
app1                     | https://api.github.com:80                    | 2 Deny route_mismatch -
app1                     | tcp://203.0.113.7:80                         | 2 Deny route_mismatch -
app1                     | tcp://203.0.113.7:443                        | 2 Deny hello_malformed -
app1                     | https://github.com                           | 2 Deny default seed
app1                     | https://evilgithub.com                       | 2 Deny default seed
app1                     | https://api.github.com.evil.example          | 2 Deny default seed
app1                     | https://api.github.com:22                    | 2 Deny default seed
app1                     | tcp://203.0.113.7:22                         | 0 Accept rule seed/apps/app1-partner-ssh
app1                     | tcp://[::ffff:203.0.113.7]:22                | 0 Accept rule seed/apps/app1-partner-ssh
app1                     | tcp://203.0.113.7:23                         | 2 Deny default seed
app1                     | https://api.weather.gov                      | 2 Deny default seed
app1                     | http://169.254.169.254/latest                | 2 Deny rule seed/platform/no-metadata-service
app1                     | https://api.github.com --address 10.1.2.3    | 2 Deny private_address seed/apps/app1-github
app1                     | https://api.github.com --address missing     | 0 Accept rule seed/apps/app1-github
app1                     | https://api.github.com --address unknown     | 0 Accept rule seed/apps/app1-github
app1                     | https://api.github.com --address-check unstated | 2 Deny address_unchecked seed/apps/app1-github
app1                     | https://api.github.com --sni evil.example    | 2 Deny sni_mismatch -
app1                     | https://203.0.113.7                          | 2 Deny sni_missing -
app1                     | tls://203.0.113.7:443 --sni api.github.com   | 0 Accept rule seed/apps/app1-github
app1                     | tls://203.0.113.7:443 --sni 203.0.113.7      | 2 Deny address_form -
app1                     | http://api.github.com,evil.example/          | 2 Deny name_malformed -
app1                     | http://user@api.github.com/                  | 2 Deny name_malformed -
app1                     | http://127.1/                                | 2 Deny address_form -
app1                     | http://api.github.com/ --method CONNECT      | 2 Deny connect_not_allowed seed
app1                     | ws://api.github.com/                         | 2 Deny connect_not_allowed seed
app1-ns/a,claims=missing | https://api.github.com                       | 2 Deny facts_missing seed/apps/app1-github
app1-ns/a,claims=none    | https://api.github.com                       | 2 Deny default seed
app1-ns/a,label=egress-ruleset=app1,claimed-namespace=x | https://api.github.com | 2 Deny facts_missing seed/apps/app1-github
app1-ns/a,trust-domain=x | https://api.github.com                       | 2 Deny trust_domain seed
app2-ns/a,label=egress-ruleset=app1 | https://api.github.com            | 2 Deny default seed
plaintext                | https://api.github.com                       | 2 Deny no_identity seed
no-certificate           | https://api.github.com                       | 2 Deny default seed
spiffe://x/y             | https://api.github.com                       | 2 Deny identity_malformed seed
unknown                  | https://api.github.com                       | 5 Undecided - -
";

#[test]
fn verdicts_of_the_reference_case() {
    let folder = Folder::with(&[("policy.yaml", REFERENCE)]);
    for line in VERDICTS.lines().filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let from = match cells[0] {
            "app1" => "app1-ns/app1,label=egress-ruleset=app1",
            from => from,
        };
        let to = cells[1];
        let ran = folder.warden(&format!(
            "explain policy.yaml --output json --from {from} --to {to}"
        ));
        let json = ran.json();
        let text = |field: &str| json[field].as_str().unwrap_or("-").to_owned();
        let seen = [
            ran.exit.to_string(),
            text("verdict"),
            text("reason"),
            rule_path(&json),
        ];
        assert_eq!(seen.join(" "), cells[2], "{line}");
    }
}

/// Networks denied to everybody, to one namespace, and in shadow.
const CLASSES: &str = "\
apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: p}
spec:
  identity: {trustDomains: [cluster.local]}
  tiers:
  - name: t
    rules:
    - {name: all, to: [{networks: [198.51.100.0/24]}], action: Deny}
    - {name: one, from: [{namespaces: [a]}], to: [{networks: [203.0.113.0/28]}], action: Deny}
    - {name: watched, mode: Shadow, to: [{networks: [192.0.2.0/24]}], action: Deny}
    - {name: web, to: [{domainNames: [web.example]}], action: Accept}
    - {name: vault, to: [{domainNames: [vault.example], allowPrivate: true}], action: Accept}
    - {name: dialled, to: [{networks: [203.0.113.0/24], ports: [22]}], action: Accept}
";

/// `protocols` of the only rule, what is asked for, and the exit code: a port carries what one rule of
/// the first policy says, and nothing that two protocols are named for.
#[test]
fn a_port_carries_what_the_mesh_is_told() {
    for (protocols, to, exit) in [
        ("[HTTP]", "http://api.example.com:9080/", 0),
        ("[HTTP]", "https://api.example.com:9080/", 2),
        ("[HTTP]", "tcp://api.example.com:9080", 2),
        ("[TLS]", "tcp://203.0.113.7:9080", 2),
        ("[TLS]", "https://api.example.com:9080/", 0),
        ("[TLS]", "http://api.example.com:9080/", 2),
        ("[HTTP, TLS]", "http://api.example.com:9080/", 2),
        ("[HTTP, TLS]", "https://api.example.com:9080/", 2),
    ] {
        let policy = format!(
            "apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {{name: p}}
spec:
  identity: {{trustDomains: [cluster.local]}}
  tiers: [{{name: t, rules: [{{name: r, from: [{{namespaces: [a]}}], to: [{{domainNames: [api.example.com], ports: [9080], protocols: {protocols}}}], action: Accept}}]}}]
"
        );
        let folder = Folder::with(&[("policy.yaml", &policy)]);
        let ran = folder.warden(&format!("explain policy.yaml --from a/b --to {to}"));
        assert_eq!(ran.exit, exit, "{protocols} {to}: {ran:?}");
        let opaque = ran
            .stdout
            .contains("port 9080 carries opaque TCP in this mesh");
        assert_eq!(opaque, protocols.contains(','), "{protocols} {to}: {ran:?}");
    }
}

/// A policy of one tier with these rules.
fn policy_of(rules: &[&str]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .map(|rule| format!("    - {{{rule}}}\n"))
        .collect();
    let rules = rules.concat();
    format!(
        "apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {{name: p}}
spec:
  identity: {{trustDomains: [cluster.local]}}
  tiers:
  - name: t
    rules:
{rules}"
    )
}

/// Networks that hold every public address, where a name leads or an address stands for it: some
/// address is judged, and those that the rules judge otherwise are named.
#[test]
fn an_address_is_found_where_networks_hold_all_of_them() {
    const WWW: &str = "name: www, to: [{domainNames: [www.example.com]}], action: Accept";
    const ALL: &str = "name: all, to: [{networks: [0.0.0.0/0]}], action: Deny";
    const BUT: &str =
        "name: but, to: [{networks: [0.0.0.0/0], except: [198.51.100.0/24]}], action: Deny";
    const OTHERS: &str =
        "name: others, from: [{namespaces: [b]}], to: [{networks: [0.0.0.0/0]}], action: Deny";
    const DIALLED: &str =
        "name: dialled, to: [{networks: [198.51.100.0/24], ports: [8443]}], action: Accept";
    let leads = "assumed: the name leads to an ordinary public address, such as ";
    for (rules, asked, exit, lines) in [
        // The port is opaque, so sidecars send it by address, and no name is left to accept.
        (
            vec![WWW, ALL],
            "https://www.example.com:8443",
            2,
            vec![
                "Deny by p/t/all".to_owned(),
                format!("{leads}198.51.100.1\n"),
                "  address = 2001:db8::1: Deny by p (default)\n".to_owned(),
            ],
        ),
        (
            vec![OTHERS, WWW, DIALLED],
            "https://www.example.com:8443",
            2,
            vec![
                "Deny by p (default)".to_owned(),
                format!("{leads}192.0.2.1\n"),
                "  address = 198.51.100.1: Accept by p/t/dialled\n".to_owned(),
            ],
        ),
        (
            vec![BUT, WWW],
            "https://www.example.com --address-check none",
            2,
            vec![
                "Deny by p/t/but".to_owned(),
                format!("{leads}192.0.2.1\n"),
                "  address = 198.51.100.1: Accept by p/t/www\n".to_owned(),
            ],
        ),
        (
            vec![OTHERS, WWW],
            "https://www.example.com --address-check none",
            0,
            vec!["Accept by p/t/www".to_owned()],
        ),
        (
            vec![WWW, ALL],
            "https://www.example.com --address-check none",
            0,
            vec!["Accept by p/t/www".to_owned()],
        ),
        // What is stated stands for nothing else.
        (
            vec![WWW, DIALLED],
            "https://www.example.com:8443 --address 198.51.100.7",
            0,
            vec!["Accept by p/t/dialled".to_owned()],
        ),
    ] {
        let folder = Folder::with(&[("policy.yaml", &policy_of(&rules))]);
        let line = format!("explain policy.yaml --from a/x,claims=none --to {asked}");
        let ran = folder.warden(&line);
        assert_eq!(ran.exit, exit, "{rules:?} {asked}: {ran:?}");
        for text in lines {
            assert!(
                ran.stdout.contains(&text),
                "{text} {rules:?} {asked}: {ran:?}"
            );
        }
    }
}

/// The application speaks HTTP to a name for which the gateway speaks TLS. The rule names the port of
/// the server.
#[test]
fn what_the_gateway_sends_in_tls_of_its_own_is_asked_for_over_http() {
    const ASK: &str = "the gateway speaks TLS to `api.payments.example` itself where the \
                       application speaks HTTP: ask for http://api.payments.example";
    for (port, to, exit, said) in [
        (443, "http://api.payments.example", 0, "at port 443"),
        (443, "http://api.payments.example/v1?x=y", 0, "at port 443"),
        (443, "http://other.example", 2, ""),
        (443, "https://api.payments.example", 2, ASK),
        (8443, "http://api.payments.example:8443", 0, "at port 8443"),
        (8443, "http://api.payments.example", 2, ""),
        (
            8443,
            "http://api.payments.example:443",
            2,
            "the client speaks plain HTTP there",
        ),
    ] {
        let rule = format!(
            "name: pay, to: [{{domainNames: [api.payments.example], ports: [{port}], tls: {{originate: \
             true}}}}], action: Accept"
        );
        let folder = Folder::with(&[("policy.yaml", &policy_of(&[&rule]))]);
        let line = format!("explain policy.yaml --from a/x,claims=none --to {to}");
        let ran = folder.warden(&line);
        assert_eq!(ran.exit, exit, "{port} {to}: {ran:?}");
        assert!(ran.stdout.contains(said), "{port} {to}: {ran:?}");
    }
}

#[test]
fn where_a_name_may_lead_is_its_class() {
    let folder = Folder::with(&[("policy.yaml", CLASSES)]);
    let class = |allow_private: bool, refused: &[&str]| serde_json::json!({"allowPrivate": allow_private, "refused": refused});
    for (arguments, expected) in [
        (
            "--from a/x --to http://web.example",
            class(false, &["198.51.100.0/24", "203.0.113.0/28"]),
        ),
        (
            "--from b/x --to https://web.example",
            class(false, &["198.51.100.0/24"]),
        ),
        (
            "--from b/x --to http://vault.example",
            class(true, &["198.51.100.0/24"]),
        ),
        (
            "--from b/x --to http://web.example --address 203.0.113.1",
            serde_json::Value::Null,
        ),
        (
            "--from b/x --to tcp://203.0.113.99:22",
            serde_json::Value::Null,
        ),
        (
            "--from b/x --to http://other.example",
            serde_json::Value::Null,
        ),
        (
            "--from b/x --to http://web.example --address-check none --address 203.0.113.1",
            serde_json::Value::Null,
        ),
    ] {
        let ran = folder.warden(&format!("explain policy.yaml --output json {arguments}"));
        assert_eq!(ran.json()["addressClass"], expected, "{arguments}");
    }
    let ran = folder.warden("explain policy.yaml --from a/x --to http://web.example");
    for line in [
        "where the name may lead: no private addresses, without 198.51.100.0/24 203.0.113.0/28\n",
        "  p/t/one (Deny): its networks are left out of the name's addresses\n",
        "  p/t/watched (Deny, shadow): its networks cannot be counted where a name leads\n",
    ] {
        assert!(ran.stdout.contains(line), "{line}{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("public address"), "{}", ran.stdout);
}

#[test]
fn what_is_unknown_is_undecided_and_says_what_would_decide() {
    let folder = Folder::with(&[("policy.yaml", REFERENCE)]);
    let ran = folder.warden("explain policy.yaml --from app1-ns/app1 --to https://api.github.com");
    assert_eq!(ran.exit, 5);
    assert!(
        ran.stdout
            .contains("claims = egress-ruleset=app1: Accept by seed/apps/app1-github")
    );
}

#[test]
fn wrong_usage_says_what_is_right() {
    let folder = Folder::with(&[("policy.yaml", REFERENCE)]);
    let table = [
        (
            "--from app1 --to https://x.example",
            "error: `app1` is no caller",
        ),
        (
            "--from a/b,c=d --to https://x.example",
            "error: `c=d` says nothing about a caller",
        ),
        (
            "--from a/b --to x.example",
            "error: `x.example` has no scheme",
        ),
        (
            "--from a/b --to gopher://x.example",
            "error: unknown scheme `gopher`",
        ),
        (
            "--from a/b --to tcp://x.example",
            "error: `tcp://x.example` names no port",
        ),
        (
            "--from a/b --to tcp://x.example:1 --address x",
            "error: `x` is no address",
        ),
        (
            "--from a/b --to tcp://x.example:1 --time now",
            "error: `now` is no time",
        ),
    ];
    for (arguments, message) in table {
        let ran = folder.warden(&format!("explain policy.yaml {arguments}"));
        assert_eq!(ran.exit, 1, "{arguments}");
        assert!(
            ran.stderr.starts_with(message),
            "{arguments}: {}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains("\n  help: "),
            "{arguments}: {}",
            ran.stderr
        );
    }
    assert_eq!(
        folder
            .warden("explain absent.yaml --from a/b --to http://x.example")
            .exit,
        1
    );
    assert_eq!(folder.warden("nonsense").exit, 1);
    assert_eq!(folder.warden("--help").exit, 0);
}
