use super::*;

fn denial(basis: RuleRef<'_>, code: ReasonCode) -> String {
    let subject = Subject {
        workload: "spiffe://cluster.local/ns/app1-ns/sa/app1",
        destination: "github.com:443",
    };
    let decision = Decision {
        action: egress_policy::verdict::Action::Deny,
        reason: code,
        rule: basis,
    };
    response(subject, &decision, false).body
}

#[test]
fn the_text_names_everything_that_a_request_for_access_needs() {
    let body = denial(RuleRef::Policy { policy: "seed" }, ReasonCode::Default);
    for line in [
        "egress denied: no rule of the policy allows this destination",
        "workload: spiffe://cluster.local/ns/app1-ns/sa/app1",
        "destination: github.com:443",
        "rule: default",
        "code: default",
    ] {
        assert!(body.lines().any(|found| found == line), "{line}\n{body}");
    }
    assert!(
        body.contains("ask: propose a rule") && body.contains("`seed`"),
        "{body}"
    );
}

#[test]
fn a_rule_is_named_and_what_no_rule_can_change_is_said() {
    let rule = RuleRef::Rule {
        policy: "seed",
        tier: "platform",
        rule: "no-metadata-service",
    };
    assert!(denial(rule, ReasonCode::Rule).contains("rule: seed/platform/no-metadata-service\n"));
    assert!(denial(RuleRef::None, ReasonCode::NameMalformed).contains("whatever the policy says"));
    let tier = RuleRef::Tier {
        policy: "seed",
        tier: "apps",
    };
    assert!(denial(tier, ReasonCode::FactsMissing).contains("owners of egress policy `seed`"));
}

#[test]
fn bytes_of_a_client_are_made_printable_and_short() {
    assert_eq!(printable(b"a\r\n\xff\"<"), r#"a\r\n\xff\"<"#);
    assert_eq!(printable(&[b'a'; 10_000]).len(), 256);
}
