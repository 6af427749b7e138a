//! Rules that an earlier one hides: which is reported, for every pair of actions, and that without
//! the hidden rule the policy means the same.

use super::support::Folder;

const ACTIONS: [&str; 4] = ["Accept", "Deny", "Pass", "Inspect, inspection: dlp"];

fn policy(plaintext: bool, tiers: &str) -> String {
    format!(
        "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {{name: p}}\nspec:\n  identity: {{trustDomains: [cluster.local], allowPlaintext: {plaintext}}}\n  tiers:\n{tiers}"
    )
}

/// The first tier's rules, and a second one where what is passed on may still be accepted.
fn rules(first: &str, second: &str, later: &str) -> String {
    policy(
        false,
        &format!(
            "  - name: t\n    rules:\n    - {{name: first, {first}}}\n{second}  - name: u\n    rules:\n{later}    - {{name: rest, from: [{{namespaces: [shop]}}], to: [{{ports: ['1-65535']}}], action: Accept}}\n"
        ),
    )
}

/// Messages of `unreachable_rule`.
fn reported(policy: &str) -> Vec<String> {
    let folder = Folder::with(&[("p.yaml", policy)]);
    let seen = folder.warden("check p.yaml --output json");
    assert_eq!(seen.exit, 0, "{seen:?}\n{policy}");
    let seen = seen.json();
    let all = seen["diagnostics"].as_array().unwrap().iter();
    all.filter(|one| one["code"] == "unreachable_rule")
        .map(|one| one["message"].as_str().unwrap().to_owned())
        .collect()
}

/// Whether two policies mean the same.
fn same(old: &str, new: &str) -> bool {
    let folder = Folder::with(&[("old.yaml", old), ("new.yaml", new)]);
    let seen = folder.warden("diff old.yaml new.yaml --output json").json();
    assert_eq!(seen["complete"], true, "{seen:#}\n{old}");
    seen["result"] == "same"
}

fn element(from: &str, to: &str, action: &str) -> String {
    format!("from: [{from}], to: [{to}], action: {action}")
}

/// A narrow rule behind a wide one, in its own tier.
fn behind(wide: (&str, &str, &str), narrow: (&str, &str, &str)) -> [String; 2] {
    let first = element(wide.0, wide.1, wide.2);
    let second = element(narrow.0, narrow.1, narrow.2);
    let second = format!("    - {{name: second, {second}}}\n");
    [rules(&first, &second, ""), rules(&first, "", "")]
}

#[test]
fn every_pair_of_actions() {
    for first in ACTIONS {
        for second in ACTIONS {
            let wide = (
                "{namespaces: [shop]}",
                "{domainNames: ['*.shop.example']}",
                first,
            );
            let narrow = (
                "{namespaces: [shop], matchLabels: {app: a}}",
                "{domainNames: [api.shop.example], ports: [443]}",
                second,
            );
            let [with, without] = behind(wide, narrow);
            // A Deny covers CONNECT and upgrades, which nothing that opens does.
            let rest = second == "Deny" && first != "Deny";
            let but = if rest {
                ", but for CONNECT and upgrades"
            } else {
                ""
            };
            assert_eq!(
                reported(&with),
                [format!("`first` hides `second`{but}")],
                "{first}, {second}"
            );
            // They are denied by default, too, so even then the rule changes only the reason.
            assert!(rest || same(&with, &without), "{first}, {second}");
            // The other way round nothing is hidden.
            let [with, _] = behind(narrow, wide);
            assert_eq!(reported(&with), [""; 0], "{second}, {first}");
        }
    }
}

#[test]
fn a_pass_hides_in_its_own_tier_alone() {
    let narrow = "    - {name: later, from: [{namespaces: [shop]}], to: [{domainNames: [api.shop.example]}], action: ACTION}\n";
    let wide =
        "from: [{namespaces: [shop]}], to: [{domainNames: ['*.shop.example']}], action: FIRST";
    for (first, hides) in [("Accept", true), ("Deny", true), ("Pass", false)] {
        for action in ACTIONS {
            let first = wide.replace("FIRST", first);
            let text = rules(&first, "", &narrow.replace("ACTION", action));
            let found = reported(&text);
            assert_eq!(!found.is_empty(), hides, "{first}, {action}: {found:?}");
            let whole = found.iter().any(|one| one.ends_with("`later`"));
            assert!(!whole || same(&text, &rules(&first, "", "")), "{text}");
        }
    }
}

/// Wide, narrow, and what is said of it.
#[test]
fn what_covers_what() {
    const SHOP: &str = "{namespaces: [shop]}";
    let whole = "`first` hides `second`";
    let but = "`first` hides `second`, but for CONNECT and upgrades";
    for (wide, narrow, says) in [
        (
            ("{domainNames: ['*.a.example']}", "Accept"),
            ("{domainNames: [x.a.example], protocols: [TLS]}", "Deny"),
            whole,
        ),
        (
            (
                "{domainNames: ['*.a.example'], allowPrivate: true}",
                "Accept",
            ),
            ("{domainNames: [x.a.example]}", "Deny"),
            but,
        ),
        (
            ("{domainNames: ['*.a.example']}", "Accept"),
            ("{domainNames: [x.a.example], allowPrivate: true}", "Accept"),
            whole,
        ),
        (
            ("{domainNames: ['*.a.example']}", "Accept"),
            (
                "{domainNames: ['api-*.a.example', +.b.a.example]}",
                "Accept",
            ),
            whole,
        ),
        (
            ("{domainNames: ['api-*.a.example']}", "Accept"),
            ("{domainNames: [api-1.a.example]}", "Accept"),
            whole,
        ),
        (
            ("{domainNames: ['+.a.example']}", "Accept"),
            ("{domainNames: ['api-*.a.example']}", "Accept"),
            whole,
        ),
        (
            ("{domainNames: ['+.a.example']}", "Accept"),
            ("{domainNames: ['*.a.example']}", "Accept"),
            "",
        ),
        (
            ("{domainNames: ['*.a.example']}", "Accept"),
            ("{domainNames: [a.example]}", "Deny"),
            "",
        ),
        (
            ("{ports: [443]}", "Accept"),
            ("{networks: [192.0.2.0/24], ports: [443]}", "Deny"),
            but,
        ),
        // `networks` means more in a Deny rule: the addresses behind names.
        (
            ("{networks: [192.0.2.0/24]}", "Accept"),
            ("{networks: [192.0.2.7/32]}", "Deny"),
            "",
        ),
        (
            ("{networks: [192.0.2.0/24]}", "Deny"),
            ("{networks: [192.0.2.7/32]}", "Accept"),
            whole,
        ),
        (
            ("{domainNames: [a.example], methods: [GET, POST]}", "Accept"),
            (
                "{domainNames: [a.example], methods: [GET], paths: [/x]}",
                "Accept",
            ),
            whole,
        ),
        (
            ("{domainNames: [a.example], methods: [GET, POST]}", "Accept"),
            (
                "{domainNames: [a.example], methods: [GET], protocols: [HTTP]}",
                "Deny",
            ),
            but,
        ),
        (
            ("{domainNames: [a.example], methods: [GET]}", "Accept"),
            ("{domainNames: [a.example], methods: [GET, POST]}", "Accept"),
            "",
        ),
        (
            ("{domainNames: [a.example], methods: [GET]}", "Accept"),
            ("{domainNames: [a.example]}", "Deny"),
            "",
        ),
        (
            ("{domainNames: [a.example]}", "Accept"),
            (
                "{domainNames: [a.example], upgrades: [websocket]}",
                "Accept",
            ),
            "",
        ),
        (
            ("{domainNames: [a.example]}", "Accept"),
            ("{domainNames: [a.example], methods: [CONNECT]}", "Accept"),
            "",
        ),
        (
            ("{domainNames: [a.example]}", "Deny"),
            (
                "{domainNames: [a.example], upgrades: [websocket]}",
                "Accept",
            ),
            whole,
        ),
    ] {
        let [with, without] = behind((SHOP, wide.0, wide.1), (SHOP, narrow.0, narrow.1));
        let expected: Vec<&str> = Some(says)
            .filter(|says| !says.is_empty())
            .into_iter()
            .collect();
        assert_eq!(reported(&with), expected, "{wide:?} {narrow:?}");
        assert!(
            says != whole || same(&with, &without),
            "{wide:?} {narrow:?}"
        );
    }
}

#[test]
fn several_rules_and_whole_tiers_hide_too() {
    let both = "  - name: t\n    rules:\n    - {name: a, from: [{namespaces: [shop]}], to: [{domainNames: [a.example]}], action: Accept}\n    - {name: b, from: [{namespaces: [shop]}], to: [{domainNames: [b.example]}], action: Deny}\n    - {name: c, from: [{namespaces: [shop]}], to: [{domainNames: [a.example]}, {domainNames: [b.example]}], action: Accept}\n";
    assert_eq!(reported(&policy(false, both)), ["`a` and `b` hide `c`"]);
    let last = "  - name: u\n    rules:\n    - {name: c, from: [{namespaces: [shop]}], to: [{domainNames: [a.example]}], action: Accept}\n";
    for (tier, expected) in [
        (
            "  - {name: t, default: Deny}\n",
            &["tier `t` hides `c`: it denies what its own rules leave"][..],
        ),
        ("  - {name: t, default: Deny, mode: Shadow}\n", &[]),
        (
            "  - {name: t, default: Deny, rules: [{name: p, from: [{namespaces: [shop]}], action: Pass}]}\n",
            &[],
        ),
    ] {
        assert_eq!(
            reported(&policy(false, &format!("{tier}{last}"))),
            expected,
            "{tier}"
        );
    }
    // Who comes without a certificate gets past a rule for everybody with one.
    let anyone = "  - name: t\n    rules:\n    - {name: a, to: [{domainNames: ['*.a.example']}], action: Accept}\n    - {name: b, to: [{domainNames: [x.a.example]}], action: Deny}\n";
    let but = "`a` hides `b`, but for CONNECT and upgrades, and callers without an identity";
    assert_eq!(reported(&policy(false, anyone)), [but]);
    assert_eq!(reported(&policy(true, anyone)), [but]);
    let open = "  - name: t\n    rules:\n    - {name: a, to: [{domainNames: ['*.a.example']}], action: Accept}\n    - {name: b, from: [{anyone: true}], to: [{domainNames: [x.a.example]}], action: Accept}\n";
    assert_eq!(reported(&policy(false, open)), [""; 0]);
    // Where labels are missing, each of the two may be the one that matches.
    let labels = "  - name: t\n    rules:\n    - {name: a, from: [{namespaces: [shop], matchLabels: {app: a}}], to: [{domainNames: ['*.a.example'], protocols: [TLS]}], action: Accept}\n    - {name: b, from: [{namespaces: [shop], matchLabels: {app: a}}], to: [{domainNames: [x.a.example], protocols: [TLS]}], action: ACTION}\n";
    for (action, says) in [
        ("Accept", "`a` hides `b`"),
        (
            "Deny",
            "`a` hides `b`, but for callers whose labels are missing",
        ),
    ] {
        let tiers = labels.replace("ACTION", action);
        assert_eq!(reported(&policy(false, &tiers)), [says]);
    }
    // So too where both open: one that compares paths denies what servers read differently.
    let paths = "  - name: t\n    rules:\n    - {name: a, from: [{namespaces: [shop], matchLabels: {app: a}}], to: [{domainNames: ['*.a.example'], protocols: [HTTP]FIRST}], action: Accept}\n    - {name: b, from: [{namespaces: [shop], matchLabels: {app: a}}], to: [{domainNames: [x.a.example], protocols: [HTTP], paths: [/a/**]}], action: Accept}\n";
    for (first, says) in [
        (
            "",
            "`a` hides `b`, but for callers whose labels are missing",
        ),
        (", paths: [/a/**]", "`a` hides `b`"),
    ] {
        let tiers = paths.replace("FIRST", first);
        assert_eq!(reported(&policy(false, &tiers)), [says], "{first}");
    }
    // What a Pass took before a Deny got to see it is left to the tiers behind.
    let exception = "  - name: t\n    rules:\n    - {name: a, from: [{namespaces: [shop]}], to: [{domainNames: [PASSED]}], action: Pass}\n    - {name: b, from: [{namespaces: [shop]}], to: [{domainNames: ['*.a.example']}], action: Deny}\n  - name: u\n    rules:\n    - {name: c, from: [{namespaces: [shop]}], to: [{domainNames: [x.a.example]}], action: Accept}\n";
    for (passed, says) in [
        ("x.a.example", &[][..]),
        ("x.b.example", &["`b` hides `c`"]),
    ] {
        let tiers = exception.replace("PASSED", passed);
        assert_eq!(reported(&policy(false, &tiers)), says, "{passed}");
    }
}
