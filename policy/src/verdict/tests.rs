use super::*;

/// What decided, as people and as machines read it.
#[test]
fn a_decision_has_one_form_for_people_and_one_for_machines() {
    let policy = "seed";
    let tier = "apps";
    let rule = "app1-github";
    let cases = [
        (
            RuleRef::Rule { policy, tier, rule },
            ReasonCode::Rule,
            "seed/apps/app1-github",
            r#"{"policy":"seed","tier":"apps","rule":"app1-github","reason":"rule"}"#,
        ),
        (
            RuleRef::Rule { policy, tier, rule },
            ReasonCode::FactsMissing,
            "seed/apps/app1-github (facts_missing)",
            r#"{"policy":"seed","tier":"apps","rule":"app1-github","reason":"facts_missing"}"#,
        ),
        (
            RuleRef::Tier { policy, tier },
            ReasonCode::Default,
            "seed/apps (default)",
            r#"{"policy":"seed","tier":"apps","rule":null,"reason":"default"}"#,
        ),
        (
            RuleRef::Policy { policy },
            ReasonCode::Default,
            "seed (default)",
            r#"{"policy":"seed","tier":null,"rule":null,"reason":"default"}"#,
        ),
        (
            RuleRef::Policy { policy },
            ReasonCode::ConnectNotAllowed,
            "seed (connect_not_allowed)",
            r#"{"policy":"seed","tier":null,"rule":null,"reason":"connect_not_allowed"}"#,
        ),
        (
            RuleRef::None,
            ReasonCode::NameMalformed,
            "no rule (name_malformed)",
            r#"{"policy":null,"tier":null,"rule":null,"reason":"name_malformed"}"#,
        ),
    ];
    for (rule, reason, people, machines) in cases {
        let decision = Decision {
            action: Action::Deny,
            reason,
            rule,
        };
        let by = decision.decided_by();
        assert_eq!(by.to_string(), people);
        assert_eq!(serde_json::to_string(&by).unwrap(), machines);
        assert_eq!(by.into_owned().to_string(), people);
    }
}
