//! What people ask, and the answer in words.

use crate::access::{Access, Inquiry, what, who};
use crate::bundle::{PolicyBundle, Reader, single_bundle};
use crate::document::Source;
use crate::tests::{NOW, NoFiles};

/// A platform's policy: two teams, one partner, TLS by the gateway, and a Deny for everyone.
pub(super) const TEAM: &str = r#"
apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: seed}
spec:
  identity: {trustDomains: [cluster.local]}
  tiers:
  - name: platform
    rules:
    - {name: no-metadata-service, to: [{networks: [169.254.0.0/16]}], action: Deny}
  - name: apps
    rules:
    - name: everyone-time
      to: [{domainNames: [time.example], ports: [443]}]
      action: Accept
    - name: app1-github
      from: [{namespaces: [app1-ns], matchLabels: {egress-ruleset: app1}}]
      to: [{domainNames: ["*.github.com"], ports: [80, 443]}]
      action: Accept
      expires: 2027-02-01T00:00:00Z
    - name: app2-partner
      from: [{serviceAccounts: [app2-ns/app2]}]
      to: [{networks: [203.0.113.0/29], ports: [22], protocols: [TCP]}]
      action: Accept
    - name: app2-payments
      from: [{namespaces: [app2-ns]}]
      to:
      - domainNames: ["*.payments.example"]
        ports: [443]
        paths: ["/v1/**"]
        tls: {originate: true}
      action: Accept
  default: Deny
"#;

/// A tenant's policy, for one namespace.
const TENANT: &str = r"
apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: tenant}
spec:
  identity: {trustDomains: [cluster.local]}
  appliesTo: {namespaces: [app2-ns]}
  tiers:
  - name: t
    rules:
    - {name: partner, to: [{networks: [203.0.113.4/30], ports: [22], protocols: [TCP]}], action: Accept}
  default: Deny
";

pub(super) fn bundle(texts: &[&str]) -> PolicyBundle {
    let mut reader = Reader::new(&NoFiles);
    for (i, text) in texts.iter().enumerate() {
        let source = Source::new(format!("p{i}.yaml"), (*text).to_owned());
        reader.read(source).unwrap();
    }
    let loaded = reader.finish();
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    single_bundle(loaded.bundles).unwrap()
}

/// Every part of the answer, one a line.
fn told(texts: &[&str], asked: impl Fn(&Inquiry<'_>) -> Access) -> Vec<String> {
    let bundle = bundle(texts);
    let set = bundle.compile().unwrap();
    let inquiry = Inquiry {
        bundle: &bundle,
        set: &set,
        now: NOW,
        stop: &|| false,
        all: false,
    };
    let access = asked(&inquiry);
    assert_eq!(access.not_decided, [""; 0], "{access:?}");
    let mut lines = Vec::new();
    for answer in &access.answers {
        let by = answer.decision.decided_by.words();
        for part in &answer.parts {
            let words = [&part.who, &part.to];
            let words = words.into_iter().filter(|text| !text.is_empty());
            let mut words: Vec<&str> = words.map(String::as_str).collect();
            words.extend(part.when.as_deref());
            let claimed = if part.claimed { " (claimed)" } else { "" };
            let by = by.clone().unwrap_or_default();
            lines.push(format!(
                "{} by {by}: {}{claimed}",
                answer.decision.words(),
                words.join("; ")
            ));
        }
        if let Some(would_be) = &answer.would_be {
            lines.push(format!("  without shadow {}", would_be.words()));
        }
    }
    if access.denied {
        lines.push("the rest is denied".to_owned());
    }
    lines.extend(access.assumptions);
    lines.extend(access.not_decided);
    lines
}

fn asked_who(texts: &[&str], to: &str) -> Vec<String> {
    told(texts, |inquiry| who(inquiry, to, None).unwrap())
}

fn asked_what(texts: &[&str], from: &str) -> Vec<String> {
    told(texts, |inquiry| what(inquiry, from).unwrap())
}

#[test]
fn who_may_reach_it() {
    for (to, expected) in [
        (
            "https://time.example",
            &[
                "Accept by seed/apps/everyone-time: every workload",
                "the rest is denied",
            ][..],
        ),
        (
            "https://api.github.com/x",
            &[
                "Accept by seed/apps/app1-github: app1-ns; label egress-ruleset app1; time until 2027-02-01T00:00:00Z (claimed)",
                "the rest is denied",
                "the application speaks TLS to the outside, and the gateway sees neither method nor path; where the gateway originates TLS, ask for http://",
            ],
        ),
        (
            "203.0.113.7:22",
            &[
                "Accept by seed/apps/app2-partner: app2-ns/app2",
                "the rest is denied",
            ],
        ),
        ("203.0.113.8:22", &["the rest is denied"]),
        (
            "203.0.113.0/28",
            &[
                "Accept by seed/apps/app2-partner: app2-ns/app2; to networks 203.0.113.0/29; port 22",
                "the rest is denied",
            ],
        ),
        (
            "*.github.com",
            &[
                "Accept by seed/apps/app1-github: app1-ns; label egress-ruleset app1; port 80; time until 2027-02-01T00:00:00Z (claimed)",
                "Accept by seed/apps/app1-github: app1-ns; label egress-ruleset app1; protocol TLS; port 443; time until 2027-02-01T00:00:00Z (claimed)",
                "the rest is denied",
            ],
        ),
        (
            "http://api.payments.example",
            &[
                "Accept by seed/apps/app2-payments: app2-ns; path /v1/**",
                "the rest is denied",
                "the gateway speaks TLS to `api.payments.example` itself, at port 443, which is the port that is judged",
            ],
        ),
        (
            "http://api.payments.example/v2/x",
            &[
                "the rest is denied",
                "the gateway speaks TLS to `api.payments.example` itself, at port 443, which is the port that is judged",
            ],
        ),
    ] {
        let seen = asked_who(&[TEAM], to);
        assert_eq!(seen, expected, "{to}");
    }
}

#[test]
fn what_a_workload_may_reach() {
    let time = "Accept by seed/apps/everyone-time: to time.example; protocol TLS; port 443";
    let unknown = "labels are not known, so they are told with what rests on them; state them with `,label=KEY=VALUE` or `,claims=none`";
    for (from, expected) in [
        (
            "app1-ns/default,claims=none",
            &[time, "the rest is denied"][..],
        ),
        (
            "app1-ns/default,label=egress-ruleset=app1",
            &[
                "Accept by seed/apps/app1-github: to *.github.com; port 80; time until 2027-02-01T00:00:00Z",
                "Accept by seed/apps/app1-github: to *.github.com; protocol TLS; port 443; time until 2027-02-01T00:00:00Z",
                time,
                "the rest is denied",
            ],
        ),
        (
            "app2-ns",
            &[
                "Accept by seed/apps/app2-partner: app2-ns/app2; to networks 203.0.113.0/29; port 22",
                "Accept by seed/apps/app2-payments: to *.payments.example; protocol HTTP; port 443; path /v1/**",
                time,
                "the rest is denied",
                unknown,
                "the gateway speaks TLS to *.payments.example itself at port 443: the application speaks HTTP at port 80",
            ],
        ),
        ("plaintext", &["the rest is denied"]),
    ] {
        let mut seen = asked_what(&[TEAM], from);
        let mut expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{from}");
    }
}

/// Both policies must accept, and a policy for others says nothing.
#[test]
fn layers_are_composed() {
    assert_eq!(
        asked_who(&[TEAM, TENANT], "203.0.113.0/28"),
        [
            "Accept by seed/apps/app2-partner: app2-ns/app2; to networks 203.0.113.4/30; port 22",
            "the rest is denied",
        ]
    );
    assert_eq!(
        asked_what(&[TEAM, TENANT], "app2-ns/other"),
        [
            "the rest is denied",
            "labels are not known, so they are told with what rests on them; state them with `,label=KEY=VALUE` or `,claims=none`",
        ]
    );
}

/// What no rule names comes first, and in words.
#[test]
fn the_broadest_comes_first() {
    let open = TEAM.replace("default: Deny", "default: Accept");
    let seen = asked_who(&[&open], "https://other.example");
    assert_eq!(seen[0], "Accept by seed (default): every workload");
    let seen = asked_what(&[&open], "app1-ns/a,claims=none");
    assert!(seen[0].contains("any address"), "{seen:#?}");
    let others = |line: &String| line.contains("to every other name");
    assert!(seen.iter().any(others), "{seen:#?}");
    let shadowed = TEAM.replace(
        "  default: Deny",
        "  shadowWorkloads: [{namespaces: [app3-ns], expires: 2027-03-01T00:00:00Z}]\n  default: Deny",
    );
    assert_eq!(
        asked_who(&[&shadowed], "https://other.example"),
        [
            "Accept by seed (default): app3-ns; time until 2027-03-01T00:00:00Z",
            "  without shadow Deny",
            "the rest is denied",
        ]
    );
}

/// Of a workload in shadow a Deny by labels only reports, also where nothing is known of them.
const SHADOWED: &str = r#"apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: p}
spec:
  identity: {trustDomains: [cluster.local]}
  shadowWorkloads: [{namespaces: [a], expires: 2027-01-31T00:00:00Z}]
  tiers:
  - name: t0
    rules:
    - {name: r0, to: [{domainNames: ["*.test.example"], protocols: [HTTP], upgrades: [websocket], ports: [8080]}], action: Pass}
  - name: t1
    rules:
    - {name: r1, from: [{matchLabels: {k: v}}], action: Deny}
  default: Deny
"#;

#[test]
fn a_workload_in_shadow_whose_labels_are_missing_is_let_through() {
    assert_eq!(
        asked_who(&[SHADOWED], "http://xy.test.example:8080"),
        [
            "Accept by p (default): a; label k any other, absent; time until 2027-01-31T00:00:00Z (claimed)",
            "Accept by p (default): a; metadata missing; time until 2027-01-31T00:00:00Z",
            "  without shadow Deny",
            "Accept by p/t1/r1 (default): a; label k v; time until 2027-01-31T00:00:00Z (claimed)",
            "  without shadow Deny",
            "the rest is denied",
        ]
    );
}

#[test]
fn what_is_no_question() {
    let bundle = bundle(&[TEAM]);
    let set = bundle.compile().unwrap();
    let inquiry = Inquiry {
        bundle: &bundle,
        set: &set,
        now: NOW,
        stop: &|| false,
        all: false,
    };
    for (to, message) in [
        ("ftp://a.example", "unknown scheme `ftp`"),
        ("tcp://a.example", "`tcp://a.example` names no port"),
        ("a b", "`a b`: "),
    ] {
        let failure = who(&inquiry, to, None).unwrap_err();
        assert!(failure.to_string().starts_with(message), "{failure}");
        assert!(failure.hint().is_some(), "{to}");
    }
    for (from, message) in [
        ("a/b/c", "`a/b/c` is no caller"),
        ("unknown", "`unknown` is about no caller"),
        ("a/b,app=x", "`app=x` says nothing about a caller"),
        (
            "a/b,claimed-namespace=c",
            "what a workload claims of another namespace",
        ),
    ] {
        let failure = what(&inquiry, from).unwrap_err();
        assert!(failure.to_string().starts_with(message), "{failure}");
    }
    assert!(who(&inquiry, "https://a.example", Some("GET")).is_err());
}
