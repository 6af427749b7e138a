//! A hundred thousand rules: `check` and `diff` end within bounds, and say how long they took.

use std::fmt::Write as _;
use std::time::Instant;

use super::support::Folder;

const RULES: usize = 100_000;

fn policy(changed: impl Fn(usize) -> bool) -> String {
    let mut text = "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {name: big}\nspec:\n  identity: {trustDomains: [cluster.local]}\n  tiers:\n  - name: apps\n    rules:\n".to_owned();
    for i in 0..RULES {
        let ports = if changed(i) { "443, 8443" } else { "443" };
        let place = match i % 8 {
            0 => format!(
                "networks: [{}.{}.{}.0/24]",
                11 + i % 80,
                i / 256 % 256,
                i % 256
            ),
            1 => format!("domainNames: [\"*.tenant{i}.example.org\"]"),
            _ => format!("domainNames: [host{i}.svc{}.example.com]", i % 977),
        };
        writeln!(
            text,
            "    - {{name: r{i}, from: [{{namespaces: [team-{}], matchLabels: {{app: a{}}}}}], to: [{{{place}, ports: [{ports}]}}], action: Accept}}",
            i / 20,
            i % 20
        )
        .unwrap();
    }
    text
}

#[test]
fn a_hundred_thousand_rules() {
    let folder = Folder::with(&[("old.yaml", &policy(|_| false))]);
    folder.write("new.yaml", &policy(|i| i % 5_000 == 0));
    for (line, must) in [
        ("check old.yaml", "12500 networks: 0 errors"),
        (
            "explain old.yaml --from team-0/a,label=app=a1 --to https://x.svc1.example.com",
            "Deny by big",
        ),
        ("diff old.yaml old.yaml --limit 600", "no change in meaning"),
        (
            "diff old.yaml new.yaml --limit 600",
            "these are all the differences",
        ),
    ] {
        let start = Instant::now();
        let ran = folder.warden(line);
        let took = start.elapsed();
        println!("{line}: {:.1} s", took.as_secs_f64());
        println!("{}", ran.stderr.lines().last().unwrap_or_default());
        // Whatever takes longer than a second says how it goes.
        let silent = took.as_secs_f64() < 1.5;
        assert!(
            silent || ran.stderr.contains("files read ("),
            "{line}: {}",
            ran.stderr
        );
        let exit = if must.starts_with("Deny") { 2 } else { 0 };
        assert_eq!(ran.exit, exit, "{line}: {}", ran.stderr);
        assert!(ran.stdout.contains(must), "{line}: {}", ran.stdout);
    }
}

/// A line of a list, by its number.
type Line<'l> = &'l dyn Fn(usize) -> String;

/// One line of a long list is changed: what is compared grows with the list, not with its square,
/// which would not end within the limit.
#[test]
fn one_line_of_a_long_list() {
    const LINES: usize = 100_000;
    let policy = |field: &str, line: Line<'_>| {
        let mut text = format!(
            "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {{name: big}}\nspec:\n  identity: {{trustDomains: [cluster.local]}}\n  tiers:\n  - name: apps\n    rules:\n    - name: partners\n      action: Accept\n      from: [{{namespaces: [shop]}}]\n      to:\n      - ports: [443]\n        {field}:\n"
        );
        for i in 0..LINES {
            writeln!(text, "        - \"{}\"", line(i)).unwrap();
        }
        text
    };
    let name = |i: usize| format!("host{i}.svc{}.example.com", i % 977);
    let wildcard = |i: usize| format!("*.tenant{i}.example.org");
    let network = |i: usize| format!("{}.{}.{}.0/24", 11 + i / 65_536, i / 256 % 256, i % 256);
    let rows: [(&str, Line<'_>, &str); 3] = [
        ("domainNames", &name, "x.example.net"),
        ("domainNames", &wildcard, "*.x.example.net"),
        ("networks", &network, "198.51.100.0/24"),
    ];
    for (field, line, changed) in rows {
        let new = |i: usize| {
            if i == LINES / 2 {
                changed.to_owned()
            } else {
                line(i)
            }
        };
        let folder = Folder::with(&[
            ("old.yaml", &policy(field, line)),
            ("new.yaml", &policy(field, &new)),
        ]);
        let start = Instant::now();
        let ran = folder.warden("diff old.yaml new.yaml --limit 60");
        println!("{LINES} {field}: {:.1} s", start.elapsed().as_secs_f64());
        assert_eq!(ran.exit, 0, "{}", ran.stderr);
        for text in [changed, &line(LINES / 2)] {
            assert!(
                ran.stdout.contains(&format!("{text}; port 443")),
                "{text}: {}",
                ran.stdout
            );
        }
        assert!(
            ran.stdout.contains("these are all the differences"),
            "{}",
            ran.stdout
        );
    }
}
