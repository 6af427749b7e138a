//! Questions and their answers, natively and compiled for wasm32-unknown-unknown as in a web page:
//! no clock, no file system. Run by `cargo xtask test --only wasm` too.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use egress_analysis::bundle::{PolicyBundle, Reader};
use egress_analysis::decision::verdict_word;
use egress_analysis::diff::{Difference, Direction, Options, Side, compare};
use egress_analysis::document::{Node, Source};
use egress_analysis::explain::{Assumptions, explain};
use egress_analysis::files::Files;
use egress_analysis::lint::{LintContext, lint};
use egress_analysis::owned_facts::{parse_caller, parse_time, parse_to};
use egress_analysis::settings::InstallSettings;
use egress_analysis::{Diagnostic, Severity};
use egress_policy::facts::Fact;
use egress_policy::verdict::Evaluation;

const REFERENCE: &str = include_str!("../../cases/policies/reference.yaml");
const NOW: &str = "2026-12-01T00:00:00Z";

/// A page has the texts that its user gave it.
struct Page;

impl Files for Page {
    fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "partners.txt" => Ok(b"sftp.partner.example\n".to_vec()),
            _ => Err("is not here".to_owned()),
        }
    }

    fn settings(&self, _: Node<'_>) -> Result<InstallSettings, Vec<Diagnostic>> {
        Err(Vec::new())
    }
}

fn read(text: &str) -> (Option<PolicyBundle>, Vec<Diagnostic>) {
    let mut reader = Reader::new(&Page);
    reader.read(Source::new("policy.yaml", text)).unwrap();
    let mut loaded = reader.finish();
    (loaded.bundles.pop(), loaded.diagnostics)
}

fn bundle(text: &str) -> PolicyBundle {
    let (bundle, found) = read(text);
    bundle.unwrap_or_else(|| panic!("{found:?}"))
}

/// From, to, decision, rule.
const QUESTIONS: &[(&str, &str, &str, &str)] = &[
    (
        "app1-ns/app1,label=egress-ruleset=app1",
        "https://api.github.com/",
        "Accept",
        "seed/apps/app1-github",
    ),
    (
        "app1-ns/app1,label=egress-ruleset=app1",
        "https://api.weather.gov/",
        "Deny",
        "seed",
    ),
    (
        "app2-ns/app2,label=egress-ruleset=app2",
        "https://api.weather.gov/",
        "Accept",
        "seed/apps/app2-weather",
    ),
    (
        "app2-ns/app2,label=egress-ruleset=app2",
        "https://api.github.com/",
        "Deny",
        "seed",
    ),
    ("plaintext", "https://api.github.com/", "Deny", "seed"),
];

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_policy_answers() {
    let bundle = bundle(REFERENCE);
    let set = bundle.compile().unwrap();
    for (from, to, decision, rule) in QUESTIONS {
        let mut facts = parse_to(to, None).unwrap();
        (facts.caller, facts.claims) = parse_caller(from, "cluster.local").unwrap();
        facts.now = parse_time(NOW).unwrap();
        let answer = explain(&bundle, &set, facts, Assumptions::default());
        let by = match &answer.evaluation {
            Evaluation::Final(verdict) => verdict.enforced.rule.to_string(),
            Evaluation::Undecided => String::new(),
        };
        let found = (verdict_word(&answer.evaluation).as_str(), by.as_str());
        assert_eq!(found, (*decision, *rule), "{from} {to}");
    }
}

const POLICY: &str = "apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: p}
spec:
  identity: {trustDomains: [cluster.local]}
  tiers:
  - name: t
    rules:
    - {name: r, action: Accept, from: [{namespaces: [a]}], to: [{domainNames: [www.example.com], ports: [443]}]}
";

/// A change of the policy; the code of what is then said of it, and where.
const MISTAKES: &[(&str, &str, &str, (usize, usize))] = &[
    ("action: Accept", "action: Allow", "bad_value", (9, 25)),
    ("ports: [443]", "port: [443]", "unknown_field", (9, 98)),
    (
        "name: r,",
        "name: r, expires: \"2026-11-01T00:00:00Z\",",
        "expired",
        (9, 26),
    ),
];

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn mistakes_are_told_where_they_stand() {
    for (from, to, code, at) in MISTAKES {
        assert!(POLICY.contains(from), "{from}");
        let (bundle, mut found) = read(&POLICY.replace(from, to));
        let context = LintContext {
            now: parse_time(NOW).ok().and_then(Fact::known),
            ..LintContext::default()
        };
        found.extend(bundle.iter().flat_map(|one| lint(one, &context)));
        let places: Vec<_> = found
            .iter()
            .filter_map(|one| Some((one.code, one.location.as_ref()?.line_column())))
            .collect();
        assert!(places.contains(&(*code, *at)), "{to}: {places:?}");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_wider_rule_is_a_gain() {
    let wider = POLICY.replace("[www.example.com]", "[\"*.example.com\"]");
    let (old, new) = (bundle(POLICY), bundle(&wider));
    let (old_set, new_set) = (old.compile().unwrap(), new.compile().unwrap());
    let side = |layers, set| Side { layers, set };
    let options = Options {
        elapsed: &|| Duration::ZERO,
        limit: Duration::from_secs(1),
        progress: &|_| {},
        all: false,
    };
    let found = compare(&side(&old, &old_set), &side(&new, &new_set), 0, &options);
    let directions: Vec<_> = found
        .differences
        .iter()
        .map(Difference::direction)
        .collect();
    assert_eq!(directions, [Direction::Gains]);
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn lists_come_from_whoever_asks() {
    let policy = POLICY.replace(
        "  tiers:",
        "  destinations: {partners: [{file: partners.txt, ports: [22]}]}\n  tiers:",
    );
    let (_, found) = read(&policy);
    let hints: Vec<_> = found.iter().filter_map(|one| one.hint.as_deref()).collect();
    let digest = hints.iter().any(|hint| hint.contains("write `sha256: "));
    assert!(digest, "{hints:?}");
    assert!(found.iter().all(|one| one.severity == Severity::Error));
}
