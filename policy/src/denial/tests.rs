use super::*;
use crate::verdict::{Action, RuleRef};

fn denial(rule: RuleRef<'static>, reason: ReasonCode) -> Denial<'static> {
    let decision = Decision {
        action: Action::Deny,
        reason,
        rule,
    };
    let workload = "spiffe://cluster.local/ns/app1-ns/sa/app1";
    Denial::new(workload, "github.com:443", &decision)
}

#[test]
fn the_text_names_everything_that_a_request_for_access_needs() {
    let default = RuleRef::Policy { policy: "seed" };
    let body = denial(default, ReasonCode::Default).text();
    let lines: Vec<_> = body.lines().collect();
    assert_eq!(
        lines,
        [
            "egress denied: no rule of the policy allows this destination",
            "workload: spiffe://cluster.local/ns/app1-ns/sa/app1",
            "destination: github.com:443",
            "rule: seed (default)",
            "code: default",
            "ask: propose a rule for this workload and destination in egress policy `seed`, and send \
             this text with it",
        ]
    );
}

#[test]
fn a_rule_is_named_and_what_no_rule_can_change_is_said() {
    let (policy, tier, rule) = ("seed", "apps", "no-mail");
    let refused = "this is refused whatever the policy says";
    let owners = "send this text to the owners of egress policy `seed`";
    for (rule, reason, named, ask) in [
        (
            RuleRef::Rule { policy, tier, rule },
            ReasonCode::Rule,
            "rule: seed/apps/no-mail",
            "propose a rule",
        ),
        (
            RuleRef::Tier { policy, tier },
            ReasonCode::FactsMissing,
            "rule: seed/apps (facts_missing)",
            owners,
        ),
        (
            RuleRef::None,
            ReasonCode::NameMalformed,
            "rule: no rule (name_malformed)",
            refused,
        ),
    ] {
        let denial = denial(rule, reason);
        assert!(
            denial.text().lines().any(|line| line == named),
            "{denial:?}"
        );
        assert!(denial.ask.starts_with(ask), "{denial:?}");
    }
}

#[test]
fn machines_read_the_same_parts_as_everywhere() {
    let default = RuleRef::Policy { policy: "seed" };
    let body = serde_json::to_value(denial(default, ReasonCode::Default)).unwrap();
    let expected = serde_json::json!({
        "workload": "spiffe://cluster.local/ns/app1-ns/sa/app1",
        "destination": "github.com:443",
        "policy": "seed",
        "tier": null,
        "rule": null,
        "reason": "default",
        "explanation": "no rule of the policy allows this destination",
        "ask": "propose a rule for this workload and destination in egress policy `seed`, and send \
                this text with it",
    });
    assert_eq!(body, expected);
}
