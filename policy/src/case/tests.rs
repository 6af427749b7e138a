use super::*;
use crate::tree::Tree;

fn read(cases: &str) -> Result<CaseFile, Vec<String>> {
    let text = format!("policies: []\ncases:\n{cases}");
    let tree: Tree =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    CaseFile::read(&&tree).map_err(|defects| defects.iter().map(ToString::to_string).collect())
}

#[test]
fn a_case_must_say_what_it_means() {
    let http = "to: {protocol: HTTP, authority: a.example, port: 80}";
    let deny = "expect: {verdict: Deny, reason: no_policy}";
    for (case, expected) in [
        (
            format!("- {{name: x, {http}, {deny}}}"),
            "cases[0]: `from` is missing",
        ),
        (
            format!("- {{name: x, from: {{workload: a}}, {http}, {deny}}}"),
            "cases[0].from.workload: `a` is not a workload",
        ),
        (
            format!("- {{name: x, from: {{workload: a/b, caller: plaintext}}, {http}, {deny}}}"),
            "cases[0].from: `workload`, `uriSans` and `caller` exclude each other",
        ),
        (
            format!(
                "- {{name: x, from: {{workload: a/b}}, to: {{protocol: TCP, authority: a.example}}, {deny}}}"
            ),
            "cases[0].to: a field here does not belong to TCP",
        ),
        (
            format!(
                "- {{name: x, from: {{workload: a/b}}, to: {{protocol: HTTP, authority: a.example}}, {deny}}}"
            ),
            "cases[0].to: HTTP needs `authority`, and `port` or `cluster`",
        ),
        (
            format!("- {{name: x, from: {{workload: a/b}}, {http}, only: engine, {deny}}}"),
            "cases[0]: `only` needs `why`",
        ),
        (
            format!("- {{name: x, from: {{workload: a/b}}, {http}, expect: {{verdict: Deny}}}}"),
            "cases[0].expect: `reason` is missing",
        ),
        (
            format!(
                "- {{name: x, from: {{workload: a/b}}, {http}, expect: {{verdict: Deny, reason: nope}}}}"
            ),
            "cases[0].expect.reason: unknown value `nope`",
        ),
        (
            format!(
                "- {{name: x, from: {{workload: a/b}}, {http}, expect: {{verdict: Undecided, reason: rule}}}}"
            ),
            "cases[0].expect: Undecided has no reason",
        ),
        (
            format!(
                "- {{name: x, from: {{workload: a/b}}, {http}, expect: {{verdict: Accept, rule: seed/apps/r, reason: rule}}}}"
            ),
            "cases[0].expect: a `rule` is named with its `tier`",
        ),
        (
            format!("- {{name: x, from: {{workload: a/b}}, {http}, {deny}, bogus: 1}}"),
            "cases[0].bogus: unknown field",
        ),
    ] {
        let found = read(&case).map(|_| ()).expect_err(&case);
        assert!(
            found.iter().any(|defect| defect.starts_with(expected)),
            "{case}\n{found:#?}"
        );
    }
}

/// What is wrong in a line, where, and what to write instead.
#[test]
fn a_line_says_where_it_is_wrong() {
    for (case, expected) in [
        (
            "{from: a, to: \"http://a.example\", expect: Deny}",
            "cases[0].from: `a` is no caller (NAMESPACE/SERVICE-ACCOUNT",
        ),
        (
            "{from: \"a/b,label=x\", to: \"http://a.example\", expect: Deny}",
            "cases[0].from: `label=x` is not label=KEY=VALUE (NAMESPACE/SERVICE-ACCOUNT",
        ),
        (
            "{from: \"a/b,app=x\", to: \"http://a.example\", expect: Deny}",
            "cases[0].from: `app=x` says nothing about a caller (NAMESPACE/SERVICE-ACCOUNT",
        ),
        (
            "{from: a/b, to: a.example, expect: Deny}",
            "cases[0].to: `a.example` has no scheme (http://HOST[:PORT]/PATH",
        ),
        (
            "{from: a/b, to: \"ftp://a.example\", expect: Deny}",
            "cases[0].to: unknown scheme `ftp` (http://HOST[:PORT]/PATH",
        ),
        (
            "{from: a/b, to: \"tcp://a.example\", expect: Deny}",
            "cases[0].to: `tcp://a.example` names no port (http://HOST[:PORT]/PATH",
        ),
        (
            "{from: a/b, to: \"udp://192.0.2.1:53\", expect: Deny}",
            "cases[0].to: UDP does not go through the gateway (`warden explain",
        ),
        (
            "{from: a/b, to: \"http://a.example\", expect: Allow}",
            "cases[0].expect: unknown value `Allow`",
        ),
        (
            "{from: {workload: a/b}, to: \"http://a.example\", expect: Deny}",
            "cases[0]: `name` is missing",
        ),
    ] {
        let found = read(&format!("- {case}")).map(|_| ()).expect_err(case);
        assert_eq!(found.len(), 1, "{case}\n{found:#?}");
        assert!(found[0].starts_with(expected), "{case}\n{found:#?}");
    }
}

#[test]
fn two_equal_lines_are_one_case() {
    let line = "- {from: a/b, to: \"http://a.example\", expect: Deny}\n";
    let found = read(&line.repeat(2)).map(|_| ()).expect_err("twice");
    assert_eq!(
        found,
        ["cases[1].name: another case is named `a/b to http://a.example`"]
    );
}

#[test]
fn a_wrong_answer_is_a_mismatch_of_its_step() {
    let file = read(
        "- name: x
  from: {workload: a/b}
  to: {protocol: HTTP, authority: a.example, port: 80}
  expect: {verdict: Deny, reason: no_policy}
  then:
  - {expect: {verdict: Undecided}}
",
    )
    .expect("a case file");
    let found = file.cases[0].check(&file.gateway, |_| {
        Evaluation::<crate::classes::ClassKey>::Final(crate::verdict::Verdict::refusal(
            ReasonCode::NoPolicy,
        ))
    });
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "step 2: expected Undecided; got Deny by no rule (no_policy)"
    );
}

#[test]
fn a_later_step_replaces_only_what_it_says() {
    let file = read(
        "- name: x
  from: {workload: a/b, labels: pending}
  to: {protocol: TCP, dialled: \"192.0.2.1:22\"}
  expect: {verdict: Undecided}
  then:
  - {from: {labels: {k: v}}, expect: {verdict: Undecided}}
",
    )
    .expect("a case file");
    let [first, second] = file.cases[0].steps.as_slice() else {
        panic!("two steps")
    };
    assert_eq!(first.input.from.labels, Fact::Pending);
    assert_eq!(second.input.from.peer, first.input.from.peer);
    assert_eq!(second.input.to.dialled, first.input.to.dialled);
    assert!(matches!(second.input.from.labels, Fact::Known(_)));
}
